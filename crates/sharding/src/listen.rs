//! Sockets that pools listen on. Bound once and shared by all event loops: whichever is free accepts.

use std::collections::HashMap;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{Address, Listen};
use crate::plan::Plan;
use crate::worker::ListeningSocket;

/// The sockets in use, by pool.
#[derive(Debug, Default)]
pub struct Sockets {
    open: HashMap<Arc<str>, (Listen, OwnedFd)>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("pool {pool} cannot listen on {listen}: {error}")]
pub struct CannotListen {
    pool: Arc<str>,
    listen: Listen,
    error: io::Error,
}

impl Sockets {
    /// Opens what a plan needs and has not open yet, and closes the rest. When something cannot be opened, all stays as it was.
    ///
    /// # Errors
    /// Names the pool and the address.
    pub fn follow(&mut self, plan: &Plan) -> Result<Vec<Arc<str>>, CannotListen> {
        let mut opened = Vec::new();
        for pool in &plan.pools {
            let listen = &pool.pool.listen;
            if self.open.get(&pool.name).is_none_or(|(old, _)| old != listen) {
                // A pool by another name may have listened there until now: the socket stays, and who waits in it.
                let left = self.open.iter().find(|(name, (old, _))| old == listen && !keeps(plan, name, old));
                let socket = match left {
                    Some((_, (_, socket))) => socket.try_clone(),
                    None => bind(listen, pool.pool.backlog),
                };
                let cannot = |error| CannotListen { pool: pool.name.clone(), listen: listen.clone(), error };
                opened.push((pool.name.clone(), (listen.clone(), socket.map_err(cannot)?)));
            }
        }
        let before: Vec<Listen> = self.open.values().map(|(listen, _)| listen.clone()).collect();
        self.open.retain(|name, _| plan.pools.iter().any(|pool| pool.name == *name));
        let names = opened.iter().map(|(name, _)| name.clone()).collect();
        self.open.extend(opened);
        let unused = |old: &&Listen| self.open.values().all(|(listen, _)| listen.address != old.address);
        before.iter().filter(unused).for_each(remove);
        Ok(names)
    }

    /// A pool's socket, for one loop more.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn share(&self, pool: &str) -> io::Result<Option<ListeningSocket>> {
        let Some((listen, socket)) = self.open.get(pool) else { return Ok(None) };
        let unix = matches!(listen.address, Address::Unix(_));
        Ok(Some(ListeningSocket { descriptor: socket.try_clone()?, unix }))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.open.values().for_each(|(listen, _)| remove(listen));
    }
}

/// Whether a pool goes on listening where it does.
fn keeps(plan: &Plan, name: &str, listen: &Listen) -> bool {
    plan.pools.iter().any(|pool| *pool.name == *name && pool.pool.listen == *listen)
}

/// Takes the socket of a listener that is no more out of the file system.
fn remove(listen: &Listen) {
    if let Address::Unix(path) = &listen.address {
        let _ = std::fs::remove_file(path);
    }
}

fn bind(listen: &Listen, backlog: u32) -> io::Result<OwnedFd> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let socket = match &listen.address {
        Address::Unix(path) => {
            // As twemproxy does: a socket that a dead process has left behind is in the way.
            let _ = std::fs::remove_file(path);
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&SockAddr::unix(path)?)?;
            if let Some(permissions) = listen.permissions {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions))?;
            }
            socket
        }
        Address::Tcp(host, port) => {
            let host = if host == "*" { "0.0.0.0" } else { host };
            let address =
                (host, *port).to_socket_addrs()?.next().ok_or(io::Error::other("the name has no addresses"))?;
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket
        }
    };
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
