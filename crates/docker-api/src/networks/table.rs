//! All networks, and the host's side of those that are in use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use network::{Cidr, Isolation, Network, NetworkConfig};
use parking_lot::Mutex;

use super::dns::{Names, Resolver};
use super::record::{BRIDGE_NAME, Driver, MTU, NetworkRecord};
use crate::containers::Record;
use crate::daemon::{load, save};
use crate::error::{ApiError, Result};
use crate::{Config, NetworkSettings, containers, time};

/// The table.
pub(crate) struct Networks {
    directory: PathBuf,
    run_dir: PathBuf,
    settings: NetworkSettings,
    table: Mutex<BTreeMap<String, NetworkRecord>>,
    /// Networks that exist on the host: made when the first container needs them.
    open: Mutex<BTreeMap<String, Opened>>,
    /// Who is called what in user-defined networks.
    pub names: Arc<Names>,
    /// What answers names inside the namespaces of containers, by their ids, where no gateway does.
    inside: Mutex<BTreeMap<String, Resolver>>,
}

struct Opened {
    network: Network,
    /// Answers names while it lives.
    _resolver: Option<Resolver>,
}

impl Networks {
    /// Reads the records; adds the predefined ones.
    pub fn open(config: &Config) -> Result<Self> {
        let directory = config.data_dir.join("networks");
        let mut table = BTreeMap::new();
        for entry in fs::read_dir(&directory)?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match load::<NetworkRecord>(&path) {
                Ok(record) => drop(table.insert(record.id.clone(), record)),
                Err(error) => tracing::warn!(path = %path.display(), %error, "not a network's record"),
            }
        }
        let networks = Self {
            directory,
            run_dir: config.run_dir.join("networks"),
            settings: config.network.clone(),
            table: Mutex::new(table),
            open: Mutex::default(),
            names: Arc::default(),
            inside: Mutex::default(),
        };
        for (name, driver) in [("bridge", Driver::Bridge), ("host", Driver::Host), ("none", Driver::Null)] {
            if networks.by_name(name).is_none() {
                // As dockerd: where somebody else has the range already, another is taken.
                let usual = config.network.bridge;
                let free = !network::routes().iter().any(|route| route.range.overlaps(&usual));
                let range = (driver == Driver::Bridge && free).then_some(usual);
                let options = match driver {
                    Driver::Bridge => BTreeMap::from([
                        ("com.docker.network.bridge.default_bridge".into(), "true".into()),
                        ("com.docker.network.bridge.enable_icc".into(), "true".into()),
                        ("com.docker.network.bridge.enable_ip_masquerade".into(), "true".into()),
                        ("com.docker.network.bridge.host_binding_ipv4".into(), "0.0.0.0".into()),
                        ("com.docker.network.driver.mtu".into(), "1500".into()),
                    ]),
                    _ => BTreeMap::new(),
                };
                networks.add(NetworkRecord {
                    name: name.into(),
                    driver,
                    range,
                    options,
                    ..NetworkRecord::default()
                })?;
            }
        }
        Ok(networks)
    }

    /// Adds a network, durably, with an ID and, for a bridge without one, a range.
    pub fn add(&self, mut record: NetworkRecord) -> Result<NetworkRecord> {
        let mut table = self.table.lock();
        if table.values().any(|other| other.name == record.name) {
            return Err(ApiError::conflict(format!("network with name {} already exists", record.name)));
        }
        let overlaps =
            || ApiError::forbidden("invalid pool request: Pool overlaps with other one on this address space");
        if let Some(range) = record.range6
            && table.values().filter_map(|other| other.range6).any(|other| other.overlaps(&range))
        {
            return Err(overlaps());
        }
        if record.driver == Driver::Bridge {
            let taken: Vec<Cidr> = table.values().filter_map(|other| other.range).collect();
            match record.range {
                Some(range) if taken.iter().any(|other| other.overlaps(&range)) => {
                    return Err(overlaps());
                }
                Some(_) => {}
                None => record.range = Some(self.free_range(&taken)?),
            }
        }
        record.id = containers::random_id();
        record.created = time::now();
        save(&self.directory.join(format!("{}.json", record.id)), &record)?;
        table.insert(record.id.clone(), record.clone());
        Ok(record)
    }

    fn free_range(&self, taken: &[Cidr]) -> Result<Cidr> {
        let routed: Vec<Cidr> = network::routes().into_iter().map(|route| route.range).collect();
        let free = |range: &Cidr| {
            !taken.iter().chain([&self.settings.bridge]).chain(&routed).any(|other| other.overlaps(range))
        };
        let cut = |(pool, prefix): &(Cidr, u8)| {
            let size = 1u32 << (32 - prefix);
            let (pool, prefix) = (*pool, *prefix);
            (0..(pool.size4() / u64::from(size)) as u32)
                .filter_map(move |index| Cidr::new(pool.nth4(index * size)?.into(), prefix))
        };
        self.settings
            .pools
            .iter()
            .flat_map(cut)
            .find(free)
            .ok_or_else(|| ApiError::bad("all predefined address pools have been fully subnetted"))
    }

    /// All, by name.
    pub fn all(&self) -> Vec<NetworkRecord> {
        let mut all: Vec<_> = self.table.lock().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The one of that name.
    pub fn by_name(&self, name: &str) -> Option<NetworkRecord> {
        self.table.lock().values().find(|record| record.name == name).cloned()
    }

    /// By ID, name, or a prefix of the ID that only one has.
    pub fn find(&self, wanted: &str) -> Result<NetworkRecord> {
        let table = self.table.lock();
        if let Some(record) = table.get(wanted).or_else(|| table.values().find(|record| record.name == wanted)) {
            return Ok(record.clone());
        }
        let mut matching = table.values().filter(|record| !wanted.is_empty() && record.id.starts_with(wanted));
        match (matching.next(), matching.next()) {
            (Some(record), None) => Ok(record.clone()),
            (Some(_), Some(_)) => {
                Err(ApiError::bad(format!("network {wanted} is ambiguous (2 matches found based on ID prefix)")))
            }
            _ => Err(ApiError::not_found(format!("network {wanted} not found"))),
        }
    }

    /// The host's side of a bridge, made if need be.
    pub fn opened(&self, record: &NetworkRecord) -> Result<Network> {
        let mut open = self.open.lock();
        if let Some(opened) = open.get(&record.id) {
            return Ok(opened.network.clone());
        }
        let config = self.host_config(record)?;
        let isolation = config.isolation.clone();
        let network = Network::open(config)?;
        if let Some(ipv6) = record.ipv6() {
            network.open_ipv6(ipv6, isolation.as_ref())?;
        }
        let resolver = match record.has_names() && !record.is_alone() {
            true => Some(Resolver::start(network.gateway(), self.names.clone())?),
            false => None,
        };
        open.insert(record.id.clone(), Opened { network: network.clone(), _resolver: resolver });
        Ok(network)
    }

    /// Answers names inside a container's namespace from now on, or no more.
    pub fn answer_inside(&self, container: &str, sockets: Option<(UdpSocket, TcpListener)>) -> Result<()> {
        match sockets {
            None => drop(self.inside.lock().remove(container)),
            Some((udp, tcp)) => {
                let resolver = Resolver::on(udp, tcp, self.names.clone())?;
                self.inside.lock().insert(container.to_owned(), resolver);
            }
        }
        Ok(())
    }

    /// The owners of addresses in a network whose names begin so, by what is on disk.
    pub fn owners(&self, record: &NetworkRecord, prefix: &str) -> BTreeSet<String> {
        let places = [self.directory.join(&record.id).join("leases"), self.run_dir.join(&record.id).join("netns")];
        let entries = places.iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// Where a container's network namespace is mounted, while it runs in networks of its own.
    pub fn namespace(&self, record: &Record) -> Option<PathBuf> {
        let networks = record.networks.values().map(|endpoint| &endpoint.network_id).filter(|id| !id.is_empty());
        let mut paths = networks.map(|id| self.run_dir.join(id).join("netns").join(&record.id));
        paths.find(|path| record.state.status.is_live() && path.exists())
    }

    fn host_config(&self, record: &NetworkRecord) -> Result<NetworkConfig> {
        let range = record.range.ok_or_else(|| ApiError::internal(format!("network {} has no range", record.name)))?;
        let none = Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 32).expect("32 bits fit");
        Ok(NetworkConfig {
            bridge_name: record.options.get(BRIDGE_NAME).filter(|_| !record.is_predefined()).cloned(),
            mtu: record.options.get(MTU).filter(|_| !record.is_predefined()).and_then(|mtu| mtu.parse().ok()),
            name: format!("{}-{}", self.settings.name, &record.id[..12]),
            data_dir: self.directory.join(&record.id),
            run_dir: self.run_dir.join(&record.id),
            pod_cidr: range,
            gateway: record.own_gateway,
            alone: record.is_alone(),
            reserved: record.reserved.values().copied().collect(),
            service_cidr: none,
            node_ip: Ipv4Addr::LOCALHOST,
            cluster_dns: None,
            isolation: Some(Isolation {
                group: format!("{}-isolation", self.settings.name),
                internal: record.internal,
                protected: record.is_protected(),
                apart: record.is_apart(),
                unmasked: record.is_unmasked(),
            }),
        })
    }

    /// The name of its bridge on the host, once it is there.
    pub fn bridge_name(&self, id: &str) -> Option<String> {
        self.open.lock().get(id).map(|opened| opened.network.bridge().to_owned())
    }

    /// Removes a network from the host and from the table.
    pub fn forget(&self, record: &NetworkRecord) -> Result<()> {
        self.close(record)?;
        let _ = fs::remove_file(self.directory.join(format!("{}.json", record.id)));
        self.table.lock().remove(&record.id);
        Ok(())
    }

    fn close(&self, record: &NetworkRecord) -> Result<()> {
        self.open.lock().remove(&record.id);
        if record.driver == Driver::Bridge {
            Network::purge(&self.host_config(record)?)?;
        }
        Ok(())
    }

    /// Takes all bridges off the host; the records stay.
    pub fn purge(&self) -> Result<()> {
        for record in self.all() {
            self.close(&record)?;
        }
        let _ = fs::remove_dir_all(&self.run_dir);
        Ok(())
    }
}
