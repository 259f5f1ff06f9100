//! A place in a network for something that is no container: a build.

use std::collections::BTreeMap;

use engine::Namespace;
use network::{PodAttach, UserIds};

use super::dns::Person;
use super::endpoint::{resolver, running};
use super::etc_files::resolv_conf;
use super::record::Driver;
use crate::containers::{Record, random_id};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};

/// How the names of builds begin among a network's owners of addresses.
const PREFIX: &str = "build-";

/// The place.
#[derive(Default)]
pub(crate) struct Lent {
    pub namespace: Namespace,
    pub resolv_conf: Option<String>,
    /// The network's name and the address's owner, if there is one to give back.
    taken: Option<(String, String)>,
}

/// Makes a place by the mode of `--network`.
pub(crate) fn lend(daemon: &Daemon, mode: &str) -> Result<Lent> {
    let without = |namespace| Ok(Lent { namespace, resolv_conf: None, taken: None });
    let name = match mode {
        "host" => return without(Namespace::Host),
        "none" => return without(Namespace::New),
        "" | "default" => "bridge",
        name => name,
    };
    if let Some(other) = name.strip_prefix("container:") {
        let pid = running(daemon, other)?.record().state.pid;
        return without(Namespace::Path(format!("/proc/{pid}/ns/net").into()));
    }
    let network = daemon.networks.find(name)?;
    if network.driver != Driver::Bridge {
        return Err(ApiError::bad(format!("a build cannot be in network {name}")));
    }
    let id = format!("{PREFIX}{}", &random_id()[..32]);
    let users = daemon.config.user_ids.map(|ids| UserIds { first: ids.first, count: ids.count });
    let pod = PodAttach { id: id.clone(), host_ports: Vec::new() };
    let place = daemon.networks.opened(&network)?.attach_for(&pod, users)?;
    if network.has_names() {
        // It finds the containers of the network, and nobody finds it.
        daemon.networks.names.set(Person {
            container: id.clone(),
            network: network.id.clone(),
            network_name: network.name.clone(),
            ip: place.ip,
            shows_ip: false,
            ipv6: None,
            names: Vec::new(),
            links: BTreeMap::new(),
            servers: Vec::new(),
            internal: network.internal,
        });
    }
    let networks = BTreeMap::from([(network.name.clone(), Default::default())]);
    let record = Record { id: id.clone(), networks, ..Record::default() };
    let resolver = resolver(daemon, &record, &place.netns);
    Ok(Lent {
        namespace: Namespace::Path(place.netns),
        resolv_conf: Some(resolv_conf(&record, resolver)),
        taken: Some((network.name, id)),
    })
}

/// Takes away the places that an earlier process was killed with; no build of its goes on.
pub(crate) fn take_back(daemon: &Daemon) {
    for network in daemon.networks.all().iter().filter(|network| network.driver == Driver::Bridge) {
        for id in daemon.networks.owners(network, PREFIX) {
            let detached = daemon.networks.opened(network).and_then(|opened| Ok(opened.detach(&id)?));
            if let Err(error) = detached {
                tracing::warn!(%error, network = network.name, id, "a killed build's place in a network stays");
            }
        }
    }
}

/// Takes the place away again.
pub(crate) fn give_back(daemon: &Daemon, lent: &Lent) -> Result<()> {
    if let Some((network, id)) = &lent.taken {
        daemon.networks.answer_inside(id, None)?;
        let network = daemon.networks.find(network)?;
        daemon.networks.names.forget(id, &network.id);
        daemon.networks.opened(&network)?.detach(id)?;
    }
    Ok(())
}
