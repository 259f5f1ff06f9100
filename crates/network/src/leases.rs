//! Which pod has which address: one small JSON file a pod, so that a restart finds them all.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::pod::HostPort;
use crate::{Cidr, NetworkError};

/// What is kept about a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub ip: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
    /// The hardware address, where it is not made of the IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
}

/// The leases of one node.
///
/// Addresses are handed out in ascending order, starting over at the end of the range, so that a freed address rests
/// for as long as possible: late packets and stale DNS answers for an old pod find nobody.
pub(crate) struct Leases {
    directory: PathBuf,
    range: Cidr,
    leases: BTreeMap<String, Lease>,
    taken: HashSet<Ipv4Addr>,
    /// Never handed out: the network's own, the gateway's, the broadcast address and what was asked for.
    reserved: HashSet<Ipv4Addr>,
    /// The position in the range from which the search for a free address starts.
    next: u32,
}

/// Beside the leases: the position of the last address handed out.
const CURSOR: &str = ".next";

impl Leases {
    /// Reads all leases. Files that can't be read or lie outside the range are removed, with a warning. `reserved` is
    /// for nobody; who has one of them already keeps it.
    pub(crate) fn open(
        directory: PathBuf,
        range: Cidr,
        reserved: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Result<Leases, NetworkError> {
        fs::create_dir_all(&directory).map_err(NetworkError::file("create", &directory))?;
        let hosts = range.hosts4();
        let ends = [0, (range.size4() - 1) as u32].into_iter().filter(|end| !hosts.contains(end));
        let reserved = reserved.into_iter().chain(ends.filter_map(|end| range.nth4(end))).collect();
        let mut leases = Leases { range, leases: BTreeMap::new(), taken: HashSet::new(), reserved, next: 0, directory };
        let entries = fs::read_dir(&leases.directory).map_err(NetworkError::file("read", &leases.directory))?;
        for entry in entries {
            let path = entry.map_err(NetworkError::file("read", &leases.directory))?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if id == CURSOR {
                continue;
            }
            match read(&path).filter(|lease| range.contains(lease.ip.into()) && !leases.taken.contains(&lease.ip)) {
                Some(lease) if check_id(id).is_ok() => {
                    leases.taken.insert(lease.ip);
                    leases.leases.insert(id.to_owned(), lease);
                }
                _ => {
                    tracing::warn!(file = %path.display(), "not a usable lease; removing it");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        let cursor = fs::read_to_string(leases.directory.join(CURSOR)).ok();
        leases.next = cursor.and_then(|text| text.trim().parse().ok()).unwrap_or(hosts.start);
        Ok(leases)
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Lease> {
        self.leases.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Lease)> {
        self.leases.iter().map(|(id, lease)| (id.as_str(), lease))
    }

    /// The pod's lease with these host ports; a new address unless it has one.
    pub(crate) fn lease(&mut self, id: &str, host_ports: &[HostPort]) -> Result<Ipv4Addr, NetworkError> {
        check_id(id)?;
        let known = self.leases.get(id);
        if let Some(lease) = known.filter(|lease| lease.host_ports == host_ports) {
            return Ok(lease.ip);
        }
        let (ip, mac) = match known {
            Some(lease) => (lease.ip, lease.mac),
            None => (self.free()?, None),
        };
        let lease = Lease { ip, host_ports: host_ports.to_vec(), mac };
        self.write(id, &serde_json::to_vec(&lease).expect("a lease is plain data"))?;
        if self.taken.insert(ip) {
            // Only an optimization is lost with the cursor.
            let _ = fs::write(self.directory.join(CURSOR), self.next.to_string());
        }
        self.leases.insert(id.to_owned(), lease);
        Ok(ip)
    }

    /// Leases this address to the pod, which may have it already.
    pub(crate) fn lease_at(&mut self, id: &str, ip: Ipv4Addr) -> Result<Ipv4Addr, NetworkError> {
        check_id(id)?;
        if self.leases.get(id).is_some_and(|lease| lease.ip == ip) {
            return Ok(ip);
        }
        let usable = self.range.contains(ip.into()) && !self.reserved.contains(&ip) && !self.taken.contains(&ip);
        if !usable || self.leases.contains_key(id) {
            return Err(NetworkError::AddressTaken(ip));
        }
        let lease = Lease { ip, host_ports: Vec::new(), mac: None };
        self.write(id, &serde_json::to_vec(&lease).expect("a lease is plain data"))?;
        self.taken.insert(ip);
        self.leases.insert(id.to_owned(), lease);
        Ok(ip)
    }

    /// Notes the hardware address that a pod with a lease is to have.
    pub(crate) fn set_mac(&mut self, id: &str, mac: [u8; 6]) -> Result<(), NetworkError> {
        let Some(lease) = self.leases.get(id).filter(|lease| lease.mac != Some(mac)) else { return Ok(()) };
        let lease = Lease { mac: Some(mac), ..lease.clone() };
        self.write(id, &serde_json::to_vec(&lease).expect("a lease is plain data"))?;
        self.leases.insert(id.to_owned(), lease);
        Ok(())
    }

    /// The hardware address of the pod that has, or is about to have, this address.
    pub(crate) fn mac(&self, id: &str, ip: Ipv4Addr) -> [u8; 6] {
        self.leases.get(id).and_then(|lease| lease.mac).unwrap_or_else(|| crate::host::mac_of(ip))
    }

    /// Frees the pod's address; fine if it has none.
    pub(crate) fn release(&mut self, id: &str) -> Result<(), NetworkError> {
        let Some(lease) = self.leases.get(id) else { return Ok(()) };
        let path = self.directory.join(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(NetworkError::file("remove", path)(error));
            }
            _ => {}
        }
        self.taken.remove(&lease.ip);
        self.leases.remove(id);
        Ok(())
    }

    /// The next free address after the last one handed out.
    fn free(&mut self) -> Result<Ipv4Addr, NetworkError> {
        let exhausted = NetworkError::AddressesExhausted(self.range);
        let hosts = self.range.hosts4();
        let span = hosts.end - hosts.start;
        let start = self.next.clamp(hosts.start, hosts.end) - hosts.start;
        for step in 0..span {
            let index = hosts.start + (start + step) % span;
            let Some(ip) = self.range.nth4(index) else { continue };
            if !self.taken.contains(&ip) && !self.reserved.contains(&ip) {
                self.next = index + 1;
                return Ok(ip);
            }
        }
        Err(exhausted)
    }

    /// Whole or not at all, even if the process dies halfway.
    fn write(&self, id: &str, bytes: &[u8]) -> Result<(), NetworkError> {
        let path = self.directory.join(id);
        // No id starts with a dot, so a leftover is no lease; `open` removes it.
        let draft = self.directory.join(format!(".{id}"));
        fs::write(&draft, bytes).map_err(NetworkError::file("write", &draft))?;
        fs::rename(&draft, &path).map_err(NetworkError::file("write", path))
    }
}

/// Ids become file names.
fn check_id(id: &str) -> Result<(), NetworkError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty() || id.len() > 200 || id.starts_with('.') || !id.chars().all(legal) {
        return Err(NetworkError::PodId(id.to_owned()));
    }
    Ok(())
}

fn read(path: &Path) -> Option<Lease> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path, range: &str) -> Leases {
        let range: Cidr = range.parse().unwrap();
        Leases::open(directory.to_owned(), range, range.nth4(1)).unwrap()
    }

    #[test]
    fn reserved_addresses_are_for_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let [first, third, last] = [1, 3, 6].map(|host| Ipv4Addr::new(10, 0, 0, host));
        let mut leases =
            Leases::open(directory.path().to_owned(), "10.0.0.0/29".parse().unwrap(), [last, third]).unwrap();
        assert_eq!(leases.lease("a", &[]).unwrap(), first);
        assert!(matches!(leases.lease_at("b", third), Err(NetworkError::AddressTaken(_))));
        for (id, host) in [("b", 2), ("c", 4), ("d", 5)] {
            assert_eq!(leases.lease(id, &[]).unwrap(), Ipv4Addr::new(10, 0, 0, host), "{id}");
        }
        assert!(matches!(leases.lease("e", &[]), Err(NetworkError::AddressesExhausted(_))));
    }

    #[test]
    fn a_freed_address_rests_until_the_range_has_gone_round() {
        let directory = tempfile::tempdir().unwrap();
        let mut leases = open(directory.path(), "10.0.0.0/29");
        assert_eq!(leases.lease("a", &[]).unwrap(), Ipv4Addr::new(10, 0, 0, 2));
        leases.release("a").unwrap();
        for (id, last) in [("b", 3), ("c", 4), ("d", 5), ("e", 6), ("f", 2)] {
            assert_eq!(leases.lease(id, &[]).unwrap(), Ipv4Addr::new(10, 0, 0, last), "{id}");
        }
        assert!(matches!(leases.lease("g", &[]), Err(NetworkError::AddressesExhausted(_))));
        leases.release("d").unwrap();
        assert_eq!(leases.lease("g", &[]).unwrap(), Ipv4Addr::new(10, 0, 0, 5));
    }

    #[test]
    fn a_range_of_two_has_one_address_beside_the_gateways() {
        let directory = tempfile::tempdir().unwrap();
        let range: Cidr = "10.0.0.4/31".parse().unwrap();
        let mut leases = Leases::open(directory.path().to_owned(), range, range.first_host4()).unwrap();
        assert_eq!(leases.lease("a", &[]).unwrap(), Ipv4Addr::new(10, 0, 0, 5));
        assert!(matches!(leases.lease("b", &[]), Err(NetworkError::AddressesExhausted(_))));
        leases.release("a").unwrap();
        assert_eq!(leases.lease("b", &[]).unwrap(), Ipv4Addr::new(10, 0, 0, 5));
    }

    #[test]
    fn leases_and_the_order_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let port =
            HostPort { protocol: crate::service::Protocol::Udp, host_ip: None, host_port: 53, container_port: 5353 };
        let mut leases = open(directory.path(), "10.0.0.0/24");
        let a = leases.lease("a", std::slice::from_ref(&port)).unwrap();
        leases.lease("b", &[]).unwrap();
        leases.release("b").unwrap();
        drop(leases);
        let mut leases = open(directory.path(), "10.0.0.0/24");
        assert_eq!(leases.find("a"), Some(&Lease { ip: a, host_ports: vec![port], mac: None }));
        assert_eq!(leases.find("b"), None);
        assert_eq!(leases.lease("c", &[]).unwrap(), Ipv4Addr::new(10, 0, 0, 4));
    }

    #[test]
    fn a_pod_keeps_its_address_when_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut leases = open(directory.path(), "10.0.0.0/24");
        let first = leases.lease("a", &[]).unwrap();
        assert_eq!(leases.lease("a", &[]).unwrap(), first);
    }

    #[test]
    fn broken_files_and_foreign_addresses_are_no_leases() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("cut"), "{\"ip\":\"10.0").unwrap();
        fs::write(directory.path().join("foreign"), "{\"ip\":\"192.168.0.7\"}").unwrap();
        fs::write(directory.path().join(".draft"), "{\"ip\":\"10.0.0.9\"}").unwrap();
        fs::write(directory.path().join("good"), "{\"ip\":\"10.0.0.8\"}").unwrap();
        let leases = open(directory.path(), "10.0.0.0/24");
        assert_eq!(leases.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["good"]);
        assert!(!directory.path().join("cut").exists());
        assert!(!directory.path().join(".draft").exists());
    }

    #[test]
    fn ids_that_could_leave_the_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut leases = open(directory.path(), "10.0.0.0/24");
        for id in ["", ".", "..", "../x", "a/b", ".hidden", "a b", &"x".repeat(201)] {
            assert!(matches!(leases.lease(id, &[]), Err(NetworkError::PodId(_))), "{id}");
        }
    }
}
