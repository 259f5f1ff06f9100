//! A container's way into its networks, and out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Namespace;
use network::{Addresses, Network, NetworkError, PodAttach};

use super::configuration::check_enterable;
use super::dns::Person;
use super::etc_files::resolv_conf;
use super::ports::{self, HeldPorts};
use super::record::{Driver, NetworkRecord};
use super::{legacy, link};
use crate::containers::options::{Endpoint, PortBinding};
use crate::containers::{Container, Record, random_id};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};

/// A container's network, ready to be entered.
pub(crate) struct Attached {
    pub namespace: Namespace,
    pub networks: BTreeMap<String, Endpoint>,
    pub ports: BTreeMap<String, Vec<PortBinding>>,
    pub held: HeldPorts,
    /// For `/etc/hosts`: its own addresses, and (address, names) of the containers it is linked to.
    pub addresses: Vec<String>,
    pub links: Vec<(String, String)>,
    /// Variables that tell of the containers it is linked to.
    pub environment: Vec<String>,
    /// Whom to ask for names, where it is not the host's servers.
    pub resolver: Option<Ipv4Addr>,
}

impl Attached {
    fn with(namespace: Namespace, networks: BTreeMap<String, Endpoint>) -> Self {
        Self {
            namespace,
            networks,
            ports: BTreeMap::new(),
            held: HeldPorts::default(),
            addresses: Vec::new(),
            links: Vec::new(),
            environment: Vec::new(),
            resolver: None,
        }
    }
}

/// Connects a container that is about to start. On an error nothing remains.
pub(crate) fn attach(daemon: &Daemon, record: &Record) -> Result<Attached> {
    match record.host.network_mode.as_str() {
        "host" => Ok(Attached::with(Namespace::Host, named(daemon, record, "host"))),
        "none" => Ok(Attached::with(Namespace::New, named(daemon, record, "none"))),
        mode => match mode.strip_prefix("container:") {
            Some(other) => {
                let joined = daemon.containers.find(other).map_err(|error| {
                    ApiError::internal(format!("joining network namespace of container: {}", error.message))
                })?;
                if joined.id == record.id {
                    return Err(ApiError::bad("cannot join own network"));
                }
                let other = running(daemon, other)?;
                let sandbox = daemon.config.engine.sandbox(&other.id);
                let pid = sandbox.and_then(|sandbox| sandbox.pid()).ok_or_else(|| not_running(&other))?;
                Ok(Attached::with(Namespace::Path(format!("/proc/{pid}/ns/net").into()), BTreeMap::new()))
            }
            None => bridged(daemon, record).inspect_err(|_| drop(detach(daemon, record))),
        },
    }
}

fn named(daemon: &Daemon, record: &Record, name: &str) -> BTreeMap<String, Endpoint> {
    let mut endpoint = record.networks.get(name).cloned().unwrap_or_default();
    endpoint.network_id = daemon.networks.by_name(name).map(|network| network.id).unwrap_or_default();
    endpoint.endpoint_id = random_id();
    BTreeMap::from([(name.to_owned(), endpoint)])
}

/// A container whose namespaces another wants to share.
pub(crate) fn running(daemon: &Daemon, name: &str) -> Result<Arc<Container>> {
    let other = daemon.containers.find(name)?;
    if other.status().is_live() { Ok(other) } else { Err(not_running(&other)) }
}

fn not_running(other: &Container) -> ApiError {
    ApiError::conflict(format!("cannot join network of a non running container: {}", other.id))
}

fn bridged(daemon: &Daemon, record: &Record) -> Result<Attached> {
    let mut published = ports::publish(record)?;
    let mut order: Vec<NetworkRecord> = Vec::new();
    for name in record.networks.keys() {
        let found = daemon.networks.find(name);
        order.push(found.map_err(|error| {
            ApiError::new(error.status, format!("failed to set up container networking: {}", error.message))
        })?);
    }
    for network in &order {
        check_enterable(network).map_err(|error| {
            ApiError::new(error.status, format!("failed to set up container networking: {}", error.message))
        })?;
    }
    // The network with the highest `gw-priority`, or else that of `--network`, is the first, has `eth0`, the default route
    // and the published ports; an internal one leads nowhere and publishes nothing, so that another, if there is one,
    // takes its place.
    let is_asked =
        |network: &NetworkRecord| network.name == record.host.network_mode || network.id == record.host.network_mode;
    order.sort_by_key(|network| {
        (network.internal, network.without_ipv4, Reverse(gw_priority(record, network)), !is_asked(network))
    });
    if order.first().is_some_and(|network| network.without_ipv4) {
        published.keep_ipv6();
    }
    if order.first().is_some_and(|network| network.internal) {
        published.withdraw();
    }
    let users = crate::containers::users::ids(daemon, record)
        .map(|ids| network::UserIds { first: ids.first, count: ids.count });
    let mut attached = Attached::with(Namespace::New, BTreeMap::new());
    let mut path = PathBuf::new();
    for (index, network) in order.iter().enumerate() {
        if network.driver != Driver::Bridge {
            return Err(ApiError::bad(format!(
                "container cannot be connected to network {} beside others",
                network.name
            )));
        }
        let endpoint = record
            .networks
            .get(&network.name)
            .or_else(|| record.networks.get(&network.id))
            .cloned()
            .unwrap_or_default();
        let host = daemon.networks.opened(network)?;
        let fixed = fixed_address(network, &endpoint)?;
        let mac = record.macs.get(&network.name).map(|text| parse_mac(text)).transpose()?;
        let with = |ip| Addresses { ip, mac };
        let first = index == 0;
        let interface = link::name(&endpoint)?.map_or_else(|| format!("eth{index}"), str::to_owned);
        let settings = link::settings(&endpoint, &interface)?;
        let ip = match index {
            0 => {
                let pod = PodAttach { id: record.id.clone(), host_ports: published.host_ports.clone() };
                let attach = |address| host.attach_at(&pod, with(address), Some(&interface), users);
                let pod = within(network, fixed, attach)?;
                path = pod.netns;
                attached.namespace = Namespace::Path(path.clone());
                pod.ip
            }
            _ => within(network, fixed, |address| host.join(&record.id, with(address), &path, &interface, false))?,
        };
        // Everything of IPv6 goes by the first network that has it.
        let leads_six = first || !order[..index].iter().any(|before| before.ipv6().is_some() && !before.internal);
        let ipv6 = join_ipv6(daemon, network, &host, record, &endpoint, ip, (&path, leads_six))?;
        Network::tune(&path, settings)?;
        let endpoint = describe(network, endpoint, record, (ip, ipv6, mac), random_id());
        introduce(daemon, network, record, &endpoint, ip);
        if first {
            match ipv6.filter(|_| network.without_ipv4) {
                Some(ipv6) => published.held.lead_to(ipv6.into()),
                None => published.held.lead_to(ip.into()),
            }
        }
        if !network.without_ipv4 {
            attached.addresses.push(ip.to_string());
        }
        attached.addresses.extend(ipv6.map(|ipv6| ipv6.to_string()));
        attached.networks.insert(network.name.clone(), endpoint);
    }
    for link in legacy::links(daemon, record)? {
        attached.links.push((link.address.clone(), link.names()));
        attached.environment.extend(link.environment(&record.name));
    }
    attached.resolver = resolver(daemon, record, &path);
    attached.ports = published.shown;
    attached.held = published.held;
    Ok(attached)
}

/// The address by which a container in this namespace asks for the names of its networks: 127.0.0.11, or a gateway where
/// nothing can lead there. `None` if it is in no network with names.
pub(super) fn resolver(daemon: &Daemon, record: &Record, namespace: &Path) -> Option<Ipv4Addr> {
    let named = named_network(daemon, record)?;
    let led = daemon.networks.opened(&named).and_then(|host| Ok(host.lead_resolver(&record.id, namespace)?));
    let led = led.and_then(|sockets| daemon.networks.answer_inside(&record.id, sockets));
    match led {
        Ok(()) => Some(network::RESOLVER),
        Err(error) => {
            tracing::warn!(container = record.id, %error, "names are asked for at the gateway, not at 127.0.0.11");
            named.gateway().filter(|_| !named.without_ipv4)
        }
    }
}

/// The network whose name server a container asks: one with a gateway, which does so for all its members.
fn named_network(daemon: &Daemon, record: &Record) -> Option<NetworkRecord> {
    let networks = record.networks.keys().filter_map(|name| daemon.networks.by_name(name));
    networks.filter(NetworkRecord::has_names).min_by_key(NetworkRecord::is_alone)
}

/// Tells a running container whom to ask for names, now that it is in other networks than before; a file that its user
/// has changed stays.
pub(super) fn redirect(daemon: &Daemon, container: &Container, before: &Record, namespace: &Path) {
    let now = container.snapshot();
    let path = container.directory.join("resolv.conf");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let gateway = named_network(daemon, before).and_then(|network| network.gateway());
    let own = gateway.map_or(vec![None], |gateway| vec![Some(network::RESOLVER), Some(gateway)]);
    if !own.into_iter().any(|resolver| resolv_conf(before, resolver) == text) {
        return;
    }
    let new = resolv_conf(&now, resolver(daemon, &now, namespace));
    // The very file is what the container sees: it is written over, not replaced.
    if new != text
        && let Err(error) = std::fs::write(&path, new)
    {
        tracing::warn!(container = container.id, %error, "a container does not learn whom to ask for names");
    }
}

fn gw_priority(record: &Record, network: &NetworkRecord) -> i64 {
    let endpoint = record.networks.get(&network.name).or_else(|| record.networks.get(&network.id));
    endpoint.map_or(0, |endpoint| endpoint.gw_priority)
}

/// Of a container's networks that lead out, the one that does for it: one with IPv4, with the highest priority, that of `--network`, or
/// the first by name. `but` is left out.
fn way_out(daemon: &Daemon, record: &Record, but: Option<&NetworkRecord>) -> Option<NetworkRecord> {
    let networks = record.networks.keys().filter_map(|name| daemon.networks.find(name).ok());
    let networks = networks.filter(|network| !network.internal && but.is_none_or(|but| but.id != network.id));
    networks.min_by_key(|network| {
        let asked = record.host.network_mode == network.name;
        (network.without_ipv4, Reverse(gw_priority(record, network)), !asked, network.name.clone())
    })
}

/// Six bytes in hexadecimal, as `--mac-address` has them.
pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6]> {
    let invalid = || ApiError::bad(format!("invalid MAC address: {text}"));
    let separator = if text.contains('-') { '-' } else { ':' };
    let two = |part: &str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
    let bytes = text.split(separator).map(two).collect::<Option<Vec<u8>>>();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)
}

fn fixed_address(network: &NetworkRecord, endpoint: &Endpoint) -> Result<Option<Ipv4Addr>> {
    match endpoint.ipam_config.as_ref().map_or("", |config| config.ipv4_address.as_str()) {
        "" => Ok(None),
        text if network.without_ipv4 => Err(ApiError::bad(format!("no configured subnet contains IP address {text}"))),
        text => text.parse().map(Some).map_err(|_| ApiError::bad(format!("invalid IPv4 address: {text}"))),
    }
}

/// Takes the fixed address, or any; in a network with a range for containers the first one of it that is free.
fn within<T>(
    network: &NetworkRecord,
    fixed: Option<Ipv4Addr>,
    take: impl Fn(Option<Ipv4Addr>) -> std::result::Result<T, NetworkError>,
) -> Result<T> {
    let Some(range) = network.address_range.filter(|_| fixed.is_none()) else { return Ok(take(fixed)?) };
    for address in (0..).map_while(|index| range.nth4(index)) {
        match take(Some(address)) {
            Err(NetworkError::AddressTaken(_)) => {}
            result => return Ok(result?),
        }
    }
    Err(NetworkError::AddressesExhausted(range).into())
}

/// Gives a container that has an address of IPv4 one of IPv6, in networks that have those, and answers it.
fn join_ipv6(
    daemon: &Daemon,
    network: &NetworkRecord,
    host: &Network,
    record: &Record,
    endpoint: &Endpoint,
    ip: Ipv4Addr,
    (namespace, leads_out): (&Path, bool),
) -> Result<Option<Ipv6Addr>> {
    let Some(ipv6) = network.ipv6() else { return Ok(None) };
    let taken: Vec<Ipv6Addr> = daemon
        .containers
        .all()
        .iter()
        .filter(|other| other.id != record.id)
        .filter_map(|other| other.record().networks.get(&network.name)?.global_ipv6_address.parse().ok())
        .chain(ipv6.gateway)
        .collect();
    let fixed = endpoint.ipam_config.as_ref().map_or("", |config| config.ipv6_address.as_str());
    let address = match fixed {
        // The same place in the range as that of IPv4 is in its own: nobody else's, but for those who chose theirs.
        "" => {
            let own = network.range.and_then(|range| range.nth4(0)).map_or(0, |first| u32::from(ip) - u32::from(first));
            let others = (2..).map_while(|index| ipv6.range.nth6(index));
            // The first address of a range of IPv6 is nobody's own (RFC 4291, 2.6.1).
            let mut addresses = ipv6.range.nth6(own.into()).filter(|_| own > 0).into_iter().chain(others);
            addresses
                .find(|address| !taken.contains(address))
                .ok_or_else(|| ApiError::internal("no available IPv6 addresses on this network's address pools"))?
        }
        text => {
            let address: Ipv6Addr = text.parse().map_err(|_| ApiError::bad(format!("invalid IPv6 address: {text}")))?;
            if !ipv6.range.contains(address.into()) {
                return Err(ApiError::bad(format!("no configured subnet contains IP address {address}")));
            }
            if taken.contains(&address) {
                return Err(ApiError::forbidden("Address already in use"));
            }
            address
        }
    };
    host.join_ipv6(&record.id, address, ipv6, namespace, leads_out)?;
    if network.without_ipv4 {
        host.hide_ipv4(&record.id, namespace)?;
    }
    Ok(Some(address))
}

fn describe(
    network: &NetworkRecord,
    endpoint: Endpoint,
    record: &Record,
    (ip, own6, mac): (Ipv4Addr, Option<Ipv6Addr>, Option<[u8; 6]>),
    id: String,
) -> Endpoint {
    let ipv6 = network.ipv6().filter(|_| own6.is_some());
    let names = network.has_names().then(|| dns_names(&endpoint, record));
    let [a, b, c, d] = ip.octets();
    let mac = mac.unwrap_or([0x0a, 0x58, a, b, c, d]).map(|byte| format!("{byte:02x}"));
    Endpoint {
        network_id: network.id.clone(),
        endpoint_id: id,
        gateway: match network.internal || network.without_ipv4 {
            true => String::new(),
            false => network.gateway().map(|gateway| gateway.to_string()).unwrap_or_default(),
        },
        ip_address: if network.without_ipv4 { String::new() } else { ip.to_string() },
        ip_prefix_len: network.range.filter(|_| !network.without_ipv4).map_or(0, |range| range.prefix()),
        global_ipv6_address: own6.map(|ip| ip.to_string()).unwrap_or_default(),
        global_ipv6_prefix_len: ipv6.map_or(0, |ipv6| ipv6.range.prefix()),
        ipv6_gateway: ipv6
            .filter(|_| !network.internal)
            .and_then(|ipv6| ipv6.gateway)
            .map(|gateway| gateway.to_string())
            .unwrap_or_default(),
        mac_address: mac.join(":"),
        dns_names: names,
        ..endpoint
    }
}

/// The names others in the network find it by: its own, its aliases, its short ID and its host name.
fn dns_names(endpoint: &Endpoint, record: &Record) -> Vec<String> {
    let mut names = vec![record.name.clone()];
    names.extend(endpoint.aliases.iter().flatten().cloned());
    names.push(record.short_id().to_owned());
    names.push(super::etc_files::hostname(record));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn introduce(daemon: &Daemon, network: &NetworkRecord, record: &Record, endpoint: &Endpoint, ip: Ipv4Addr) {
    if !network.has_names() {
        return;
    }
    let links = endpoint.links.iter().flatten().map(|link| {
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        let target = daemon.containers.find(target).map_or_else(|_| target.to_owned(), |container| container.name());
        (alias.to_ascii_lowercase(), target.to_ascii_lowercase())
    });
    daemon.networks.names.set(Person {
        container: record.id.clone(),
        network: network.id.clone(),
        network_name: network.name.clone(),
        ip,
        shows_ip: !network.without_ipv4,
        ipv6: endpoint.global_ipv6_address.parse().ok(),
        names: endpoint.dns_names.iter().flatten().map(|name| name.to_ascii_lowercase()).collect(),
        links: links.collect(),
        servers: record.host.dns.iter().filter_map(|server| server.parse().ok()).collect(),
        internal: network.internal,
    });
}

/// Takes a container out of all its networks. Failures are logged: what remains is removed with the network.
pub(crate) fn detach(daemon: &Daemon, record: &Record) -> Result<()> {
    if record.host.network_mode.starts_with("container:") {
        return Ok(());
    }
    daemon.networks.answer_inside(&record.id, None)?;
    for name in record.networks.keys() {
        let Ok(network) = daemon.networks.find(name) else { continue };
        if network.driver != Driver::Bridge {
            continue;
        }
        daemon.networks.names.forget(&record.id, &network.id);
        // Joined links go with the namespace, but the kernel takes its time: an address must not be given away before.
        let left = daemon.networks.opened(&network).and_then(|host| host.leave(&record.id).map_err(ApiError::from));
        if let Err(error) = left {
            tracing::warn!(container = record.id, network = name, %error, "a container was not detached");
        }
    }
    Ok(())
}

/// Connects a container that runs already to one more network.
pub(crate) fn connect_running(
    daemon: &Daemon,
    record: &Record,
    network: &NetworkRecord,
    endpoint: Endpoint,
    shim: i32,
) -> Result<Endpoint> {
    let host = daemon.networks.opened(network)?;
    let path = PathBuf::from(format!("/proc/{shim}/ns/net"));
    let interface = match link::name(&endpoint)? {
        Some(name) => name.to_owned(),
        None => free_interface(&path, record.networks.len()),
    };
    let settings = link::settings(&endpoint, &interface)?;
    // The first way out of a container that had none leads out, as does one before all others.
    let way = way_out(daemon, record, None);
    let first = !network.internal && way.is_none();
    let instead = !network.internal && way.is_some_and(|way| endpoint.gw_priority > gw_priority(record, &way));
    let fixed = fixed_address(network, &endpoint)?;
    let mac = Some(endpoint.mac_address.as_str()).filter(|text| !text.is_empty()).map(parse_mac).transpose()?;
    let with = |ip| Addresses { ip, mac };
    let ip = within(network, fixed, |address| host.join(&record.id, with(address), &path, &interface, first))?;
    let ipv6 = join_ipv6(daemon, network, &host, record, &endpoint, ip, (&path, first || instead))?;
    if instead && !network.without_ipv4 {
        host.lead_out(&record.id, &path)?;
    }
    Network::tune(&path, settings).inspect_err(|_| drop(host.leave(&record.id)))?;
    let endpoint = describe(network, endpoint, record, (ip, ipv6, mac), random_id());
    introduce(daemon, network, record, &endpoint, ip);
    Ok(endpoint)
}

/// The first free `ethN` from what the number of networks suggests.
fn free_interface(namespace: &Path, networks: usize) -> String {
    let listing = namespace.parent().and_then(Path::parent).map(|process| process.join("net/dev"));
    let text = listing.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let taken = |name: &str| text.lines().any(|line| line.trim_start().starts_with(&format!("{name}:")));
    (networks..).map(|index| format!("eth{index}")).find(|name| !taken(name)).expect("some number is free")
}

/// Takes a running container out of a network. If that was its way out, another of its networks becomes it.
pub(crate) fn disconnect_running(daemon: &Daemon, record: &Record, network: &NetworkRecord, shim: i32) -> Result<()> {
    daemon.networks.names.forget(&record.id, &network.id);
    daemon.networks.opened(network)?.leave(&record.id)?;
    let led = way_out(daemon, record, None).is_some_and(|way| way.id == network.id);
    if let (true, Some(next)) = (led, way_out(daemon, record, Some(network))) {
        let (host, namespace) = (daemon.networks.opened(&next)?, PathBuf::from(format!("/proc/{shim}/ns/net")));
        if !next.without_ipv4 {
            host.lead_out(&record.id, &namespace)?;
        }
        if let Some(ipv6) = next.ipv6() {
            host.lead_out_ipv6(&record.id, ipv6, &namespace)?;
        }
    }
    Ok(())
}

/// Takes up the networks of a container that went on running without a daemon; answers its ports, kept again.
pub(crate) fn resume(daemon: &Daemon, record: &Record) -> Result<HeldPorts> {
    for (name, endpoint) in &record.networks {
        let network = daemon.networks.find(name)?;
        if network.driver != Driver::Bridge {
            continue;
        }
        if let Some(ip) = daemon.networks.opened(&network)?.address(&record.id) {
            introduce(daemon, &network, record, endpoint, ip);
        }
    }
    if named_network(daemon, record).is_some_and(|network| network.is_alone())
        && let Some(namespace) = daemon.networks.namespace(record)
    {
        resolver(daemon, record, &namespace);
    }
    let mut held = ports::hold_again(&record.ports);
    // As it was attached.
    let way = way_out(daemon, record, None);
    let own = way.and_then(|way| record.networks.get(&way.name));
    let address = own.and_then(|own| own.ip_address.parse().or_else(|_| own.global_ipv6_address.parse()).ok());
    if let Some(address) = address {
        held.lead_to(address);
    }
    Ok(held)
}
