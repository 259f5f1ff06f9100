//! The Services' rules, kept in step with the kernel.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::NetworkError;
use crate::conntrack::{Cut, Cutter};
use crate::nft::{Batch, Session};
use crate::pod::HostPort;
use crate::service::layout::Layout;
use crate::service::plan::{Plan, plan_host_ports, plan_service};
use crate::service::state::{Owner, State};
use crate::service::{ServiceId, ServiceRules};

/// The Services' rules of one node. Cheap to clone; all clones are one. Methods block for well under a millisecond
/// each (`replace_all`: about 50 µs a Service that changed); one change is one kernel transaction.
#[derive(Clone)]
pub struct ServiceTable {
    inner: Arc<Inner>,
}

struct Inner {
    kernel: Mutex<Kernel>,
    /// `None` where the kernel has no conntrack netlink.
    cutter: Option<Cutter>,
}

/// The model and the connection that carries it to the kernel.
struct Kernel {
    state: State,
    /// `None` where the kernel has no nftables: everything is accepted and nothing happens.
    session: Option<Session>,
    /// The kernel is not as the model says; the next change sends everything.
    diverged: bool,
}

impl ServiceTable {
    /// Opens the table in the caller's network namespace: adopts one made for the same layout, or makes it anew.
    /// Without nftables this warns once and goes on without Services.
    pub(crate) fn open(layout: Layout) -> ServiceTable {
        let cutter = Cutter::start().map_err(|error| {
            tracing::warn!(%error, "no conntrack netlink: connections to deleted endpoints can't be cut");
        });
        let mut state = State::new(layout);
        let session = match prepare(&mut state) {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!(%error, "nftables can't be used: Services, node ports, host ports and the pods' way out \
                    of the node don't work; pods reach each other by address only");
                None
            }
        };
        let kernel = Mutex::new(Kernel { state, session, diverged: false });
        ServiceTable { inner: Arc::new(Inner { kernel, cutter: cutter.ok() }) }
    }

    /// Puts `rules` in force for `id`, or with `None` removes them. Only what differs is sent to the kernel.
    ///
    /// An address and port that another Service already has stays with that one, with a warning, until it is free.
    /// On an error the kernel keeps what it had; the next change sends everything anew.
    pub fn apply(&self, id: &ServiceId, rules: Option<ServiceRules>) -> Result<(), NetworkError> {
        self.put(Owner::Service(id.clone()), rules.as_ref().map(plan_service))
    }

    /// Replaces all rules by these in one transaction. For the start, once all Services and EndpointSlices are known:
    /// rules an earlier process left for Services that are gone end here. Established connections go on.
    pub fn replace_all(&self, all: impl IntoIterator<Item = (ServiceId, ServiceRules)>) -> Result<(), NetworkError> {
        let plans = all.into_iter().map(|(id, rules)| (Owner::Service(id), plan_service(&rules))).collect();
        self.change(|state, batch, cuts| state.replace_services(batch, cuts, plans))
    }

    /// Waits until the connections of all endpoints deleted so far are cut (a background thread does it).
    pub fn settle(&self) {
        if let Some(cutter) = &self.inner.cutter {
            cutter.settle();
        }
    }

    /// Opens a pod's host ports, in place of those it had.
    pub(crate) fn set_host_ports(
        &self,
        pod: &str,
        ports: &[HostPort],
        ip: std::net::Ipv4Addr,
    ) -> Result<(), NetworkError> {
        let owner = Owner::Pod(pod.to_owned());
        let plan = plan_host_ports(ports, ip);
        if let Some((frontend, holder)) = self.inner.kernel.lock().state.conflict(&owner, &plan) {
            return Err(NetworkError::PortTaken {
                claimant: owner.to_string(),
                holder: holder.to_string(),
                protocol: frontend.protocol.name(),
                port: frontend.port,
            });
        }
        self.put(owner, Some(plan))
    }

    /// Closes a pod's host ports and cuts its connections.
    pub(crate) fn forget_pod(&self, pod: &str, ip: std::net::Ipv4Addr) -> Result<(), NetworkError> {
        let outcome = self.put(Owner::Pod(pod.to_owned()), None);
        if let Some(cutter) = &self.inner.cutter {
            cutter.cut(vec![Cut::Address(ip)]);
        }
        outcome
    }

    fn put(&self, owner: Owner, plan: Option<Plan>) -> Result<(), NetworkError> {
        self.change(|state, batch, cuts| state.put(batch, cuts, &owner, plan))
    }

    fn change(&self, edit: impl FnOnce(&mut State, &mut Batch, &mut Vec<Cut>)) -> Result<(), NetworkError> {
        let mut kernel = self.inner.kernel.lock();
        let Kernel { state, session, diverged } = &mut *kernel;
        let (mut batch, mut cuts) = (state.batch(), Vec::new());
        state.tidy(&mut batch);
        edit(state, &mut batch, &mut cuts);
        let Some(session) = session else { return Ok(()) };
        let outcome = if *diverged { Err(None) } else { session.commit(batch).map_err(Some) };
        if let Err(error) = outcome {
            if let Some(error) = error {
                tracing::warn!(%error, "the nftables table was changed by someone else; loading it anew");
            }
            *diverged = true;
            let mut batch = state.batch();
            state.load(&mut batch);
            session
                .commit(batch)
                .map_err(|error| NetworkError::Netlink { step: "load the Services' rules", source: error.source })?;
            *diverged = false;
        }
        // Only now do new connections avoid what is cut.
        if let Some(cutter) = &self.inner.cutter {
            cutter.cut(cuts);
        }
        Ok(())
    }
}

/// Removes the table; fine if there is none.
pub(crate) fn remove(table: &str) -> std::io::Result<()> {
    let mut session = Session::open()?;
    if !session.has_table(table)? {
        return Ok(());
    }
    let mut batch = Batch::new(table);
    batch.delete_table();
    session.commit(batch).map_err(|error| error.source)
}

fn prepare(state: &mut State) -> Result<Session, NetworkError> {
    let mut session = Session::open().map_err(NetworkError::netlink("open nftables"))?;
    warn_of_dropping_chains(&mut session);
    let layout = state.layout().clone();
    let read = NetworkError::netlink("read the nftables table");
    if session.has_chain(&layout.table, &layout.fingerprint()).map_err(read)? {
        match state.adopt(&mut session) {
            Ok(()) => return Ok(session),
            Err(error) => tracing::warn!(%error, "the nftables table can't be read back; making it anew"),
        }
    }
    let mut batch = state.batch();
    state.load(&mut batch);
    session.commit(batch).map_err(|error| {
        tracing::debug!(%error, "nftables table refused");
        NetworkError::Netlink { step: "create the nftables table", source: error.source }
    })?;
    Ok(session)
}

fn warn_of_dropping_chains(session: &mut Session) {
    for (table, chain) in session.dropping_forward_chains().unwrap_or_default() {
        tracing::warn!(
            table,
            chain,
            "a firewall of this host drops forwarded packets unless it is told otherwise: \
            pods may reach neither each other nor the world until it accepts the bridge"
        );
    }
}
