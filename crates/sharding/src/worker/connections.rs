//! Connections to servers: made when they are needed, given up when they fail, moved when the pools change.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::{TcpStream, UnixStream};

use super::client::Client;
use super::io::Stream;
use super::server::{Failure, For, Pending, Place, Server, Stage};
use super::{Core, Name, Question, Source};
use crate::config::Address;
use crate::protocol::memcached::Ends;
use crate::protocol::redis::Access;

/// When a name is asked for again that could not be resolved.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn shard_of(&mut self, pool: usize, key: &[u8]) -> Option<usize> {
        let state = &mut self.pools[pool];
        if state.plan.pool.discover.is_some() && state.plan.shared.due.swap(false, Ordering::AcqRel) {
            state.plan.shared.asked.notify_one();
        }
        state.shard_of(key, self.clock)
    }

    /// Queues a request for a shard, and its copies for replicas that get them.
    #[expect(clippy::too_many_arguments, reason = "a request and where it goes")]
    pub(super) fn submit(
        &mut self,
        id: usize,
        client: &mut Client,
        shard: usize,
        access: Access,
        to: For,
        ends: Ends,
        parts: &[&[u8]],
    ) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if matches!(to, For::Client(_)) {
            client.waiting_bytes += bytes;
        }
        let pool = client.pool;
        let endpoint = self.pools[pool].endpoint_for(shard, access, self.clock);
        let lanes = self.pools[pool].plan.pool.server_connections as usize;
        let place = Place { pool, endpoint, version: client.version, lane: id % lanes };
        let pending = Pending { to, since: self.now, bytes, ends };
        self.queue(place, pending, parts);
        if access == Access::Write {
            for at in 0..self.pools[pool].copies_to(shard).len() {
                let endpoint = self.pools[pool].copies_to(shard)[at];
                self.queue(Place { endpoint, ..place }, Pending { to: For::Nobody, ..pending }, parts);
            }
        }
    }

    fn queue(&mut self, place: Place, pending: Pending, parts: &[&[u8]]) {
        let id = self.connection(place);
        let Some(Some(server)) = self.servers.get_mut(id) else { return };
        parts.iter().for_each(|part| server.out.bytes.extend_from_slice(part));
        server.pending.push_back(pending);
        server.stats.requests.add(1);
        server.stats.request_bytes.add(pending.bytes as u64);
        server.stats.waiting.add(1);
        if !server.dirty {
            server.dirty = true;
            self.dirty_servers.push(id);
        }
        if let Some((_, expires)) = server.resolved
            && expires <= self.now
            && let Address::Tcp(host, _) = server.address.clone()
        {
            self.ask(&host);
        }
    }

    /// The connection at a place; begun if there is none.
    pub(super) fn connection(&mut self, place: Place) -> usize {
        // The one that is about to be made, if there is none. It has its place before it is begun: should it fail at once,
        // it leaves that again.
        let id = self.servers.vacant_key();
        let endpoint = &mut self.pools[place.pool].endpoints[place.endpoint];
        match &mut endpoint.connections[usize::from(place.version == 3)][place.lane] {
            Some(id) => return *id,
            none => *none = Some(id),
        }
        self.open(place)
    }

    /// Begins a connection as for a place.
    pub(super) fn open(&mut self, place: Place) -> usize {
        let state = &self.pools[place.pool];
        let endpoint = &state.endpoints[place.endpoint];
        let stats = state.shards[endpoint.shard].stats.clone();
        let pool = state.plan.pool.clone();
        let mut server = Box::new(Server::new(endpoint.address.clone(), place, &pool, stats));
        server.introduce(&pool, self.now);
        server.stats.waiting.add(server.pending.len() as u64);
        let id = self.servers.insert(Some(server));
        self.begin(id);
        id
    }

    /// Resolves a server's name, if it has one, and connects.
    fn begin(&mut self, id: usize) {
        let Some(Some(server)) = self.servers.get_mut(id) else { return };
        match server.address.clone() {
            Address::Unix(path) => {
                let connected = UnixStream::connect(path).map(Stream::Unix);
                self.connecting(id, connected);
            }
            Address::Tcp(host, port) => match host.parse::<IpAddr>() {
                Ok(ip) => self.connect(id, ip, port),
                Err(_) => match self.names.get_mut(&*host) {
                    Some(name) if !name.addresses.is_empty() && name.expires > self.now => {
                        name.turn = name.turn.wrapping_add(1);
                        let ip = name.addresses[name.turn % name.addresses.len()];
                        server.resolved = Some((ip, name.expires));
                        self.connect(id, ip, port);
                    }
                    _ => self.ask(&host),
                },
            },
        }
    }

    fn connect(&mut self, id: usize, ip: IpAddr, port: u16) {
        let connected = TcpStream::connect(SocketAddr::new(ip, port)).map(|stream| {
            // Without it requests are late, not lost.
            let _ = stream.set_nodelay(true);
            Stream::Tcp(stream)
        });
        self.connecting(id, connected);
    }

    fn connecting(&mut self, id: usize, connected: std::io::Result<Stream>) {
        let token = Source::Server(id).token();
        let registered = connected.and_then(|mut stream| {
            stream.register(self.poll.registry(), token)?;
            Ok(stream)
        });
        match (registered, self.servers.get_mut(id)) {
            (Ok(stream), Some(Some(server))) => {
                server.stream = Some(stream);
                server.stage = Stage::Connecting;
            }
            (Err(error), _) => self.fail(id, Failure::of_io(&error)),
            (Ok(_), _) => {}
        }
    }

    /// Asks what a name stands for, once at a time.
    fn ask(&mut self, host: &str) {
        let host: Arc<str> = host.into();
        let name = self.names.entry(host.clone()).or_insert_with(|| Name {
            addresses: Vec::new(),
            expires: self.now,
            asked: false,
            turn: self.number,
        });
        if !name.asked {
            name.asked = true;
            // Nobody left to ask: the process is ending.
            let _ = self.questions.send(Question { worker: self.number, host });
        }
    }

    /// Takes an answer about a name: connects what has waited for it, and leaves addresses that it stands for no more.
    pub(super) fn resolved(&mut self, host: &Arc<str>, answer: Result<(Vec<IpAddr>, Instant), String>) {
        let Some(name) = self.names.get_mut(host) else { return };
        name.asked = false;
        let reason = match answer {
            Ok((addresses, expires)) => {
                (name.addresses, name.expires) = (addresses, expires);
                None
            }
            Err(reason) => {
                name.expires = self.now + ASK_AGAIN;
                Some(reason)
            }
        };
        let addresses = name.addresses.clone();
        let expires = name.expires;
        let of_host = |server: &Server| matches!(&server.address, Address::Tcp(name, _) if **name == **host);
        let ids: Vec<usize> = self
            .servers
            .iter()
            .filter(|(_, server)| server.as_deref().is_some_and(of_host))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            let Some(Some(server)) = self.servers.get_mut(id) else { continue };
            match (server.stage, &reason, server.resolved) {
                (Stage::Resolving, None, _) => self.begin(id),
                (Stage::Resolving, Some(reason), _) => {
                    let failure = Failure::of_protocol(&format!("{host} cannot be resolved: {reason}"));
                    self.fail(id, failure);
                }
                (_, None, Some((ip, _))) if !addresses.contains(&ip) => self.retire(id),
                (_, _, Some((ip, _))) => server.resolved = Some((ip, expires)),
                _ => {}
            }
        }
    }

    /// Hands an answer to the client it is for.
    pub(super) fn deliver(&mut self, pending: &Pending, reply: &[u8]) {
        match pending.to {
            For::Client(asker) => {
                if let Some(Some(client)) = self.clients.get_mut(asker.client)
                    && client.generation == asker.generation
                {
                    client.waiting_bytes = client.waiting_bytes.saturating_sub(pending.bytes);
                    client.deliver(asker.sequence, asker.part, reply);
                    if !client.dirty {
                        client.dirty = true;
                        self.dirty_clients.push(asker.client);
                    }
                }
            }
            For::Introduction if reply.first() == Some(&b'-') => {
                tracing::warn!(reply = %String::from_utf8_lossy(reply).trim_end(), "a shard refuses AUTH, HELLO or SELECT");
            }
            For::Introduction | For::Nobody => {}
        }
    }

    /// Tells a shard's health of what it has just said.
    pub(super) fn judge(&mut self, server: &mut Server) {
        let Some(place) = server.place.or(server.uploads_to) else { return };
        let state = &self.pools[place.pool];
        let endpoint = &state.endpoints[place.endpoint];
        if endpoint.replica {
            return;
        }
        let health = &state.plan.shards[endpoint.shard].health;
        if !std::mem::take(&mut server.sick) {
            health.answered();
        } else if state.plan.failed(health, self.clock) {
            server.stats.ejections.add(1);
            tracing::warn!(pool = %state.plan.name, shard = state.plan.shards[endpoint.shard].name, "ejected: it says it cannot serve");
        }
    }

    /// Remembers that a connection is to be given up at the end of the turn.
    pub(super) fn fail(&mut self, id: usize, failure: Failure) {
        if let Some(Some(server)) = self.servers.get_mut(id)
            && server.failure.is_none()
        {
            server.failure = Some(failure);
            self.failed_servers.push(id);
        }
    }

    /// Gives a failed connection up: who waits for answers is told why.
    pub(super) fn give_up(&mut self, id: usize) {
        let Some(Some(server)) = self.servers.get(id) else { return };
        let failure = server.failure.clone().unwrap_or_else(Failure::timeout);
        // A server that closes a connection nobody waits on has only tidied up.
        let blamed = !server.pending.is_empty() || server.stage != Stage::Up;
        if let (Some(place), true) = (server.place.or(server.uploads_to), blamed) {
            let state = &mut self.pools[place.pool];
            server.stats.errors.add(1);
            if failure.timed_out {
                server.stats.timeouts.add(1);
            }
            let endpoint = &mut state.endpoints[place.endpoint];
            let shard = &state.plan.shards[endpoint.shard];
            tracing::warn!(pool = %state.plan.name, shard = shard.name, address = %server.address, reason = failure.reason, waiting = server.pending.len(), "a connection to a shard failed");
            if endpoint.replica {
                let rest = u64::try_from(state.plan.replica_rest().as_millis()).unwrap_or(u64::MAX);
                endpoint.rests_until = self.clock.saturating_add(rest);
            } else if state.plan.failed(&shard.health, self.clock) {
                server.stats.ejections.add(1);
                tracing::warn!(pool = %state.plan.name, shard = shard.name, "ejected");
            }
        }
        self.close_server(id);
    }

    /// Closes a connection to a server. Whoever still waits for answers gets its failure.
    pub(super) fn close_server(&mut self, id: usize) {
        let Some(Some(mut server)) = self.servers.try_remove(id) else { return };
        if let Some(place) = server.place {
            self.detach(id, place);
        }
        if let Some(stream) = &mut server.stream {
            stream.deregister(self.poll.registry());
        }
        if server.stage == Stage::Up {
            server.stats.connections.subtract(1);
        }
        server.stats.waiting.subtract(server.pending.len() as u64);
        if let Some(client) = server.fed_by {
            self.lose_upload(client);
        }
        if server.passing.is_some()
            && let Some(pending) = server.pending.pop_front()
            && let Some((id, _, client)) = self.asker(&pending)
        {
            // It has a part of its answer: nothing that could follow would be understood.
            client.broken = true;
            self.touch_client(id);
        }
        let failure = server.failure.take().unwrap_or_else(|| Failure::of_protocol("Connection closed"));
        let reply = failure.reply(server.protocol);
        for pending in server.pending.drain(..) {
            self.deliver(&pending, &reply);
        }
    }

    pub(super) fn detach(&mut self, id: usize, place: Place) {
        let endpoint = self.pools.get_mut(place.pool).and_then(|state| state.endpoints.get_mut(place.endpoint));
        let at =
            endpoint.and_then(|endpoint| endpoint.connections[usize::from(place.version == 3)].get_mut(place.lane));
        if let Some(at) = at
            && *at == Some(id)
        {
            *at = None;
        }
    }

    /// Sends nothing more over a connection, and closes it after the last answer.
    pub(super) fn retire(&mut self, id: usize) {
        let Some(Some(server)) = self.servers.get_mut(id) else { return };
        let place = server.place.take();
        let over = server.pending.is_empty();
        if let Some(place) = place {
            self.detach(id, place);
        }
        if over {
            self.close_server(id);
        }
    }
}
