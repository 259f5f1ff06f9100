//! Headless services into shards.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use names::{NameError, Names};

use crate::config::{Address, Discovery, Server};

/// What discovery has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The shards, sorted by name.
    pub servers: Vec<Server>,
    /// When they are to be looked for again.
    pub until: Instant,
}

/// The shards of a headless service.
///
/// # Errors
/// Why none can be told of.
pub async fn discover(names: &Names, discovery: &Discovery) -> Result<Found, NameError> {
    let (mut servers, until) = match (&discovery.srv, &discovery.host, discovery.port) {
        (Some(name), _, _) => services(names, name).await?,
        (None, Some(host), Some(port)) => {
            let found = names.addresses(host).await?;
            let server = |ip: &IpAddr| Server { address: Address::Tcp(ip.to_string(), port), weight: 1, name: None };
            (found.records.iter().map(server).collect(), found.until)
        }
        // Validation lets no other through.
        _ => return Err(NameError { name: String::new(), reason: "neither srv nor host and port".to_owned() }),
    };
    servers.sort_by_key(Server::ring_name);
    let least = Instant::now() + Duration::from_secs(discovery.least_interval.max(1));
    Ok(Found { servers, until: until.max(least) })
}

/// The targets of a name's SRV records: pods of a StatefulSet, known by the first label of their names.
async fn services(names: &Names, name: &str) -> Result<(Vec<Server>, Instant), NameError> {
    let found = names.services(name).await?;
    let label = |target: &str| target.split('.').next().unwrap_or(target).to_owned();
    let server = |service: &names::Service| {
        // The first label tells the pods of one StatefulSet apart; where it does not, the whole name must.
        let first = label(&service.target);
        let alone = found.records.iter().filter(|other| label(&other.target) == first).count() == 1;
        let name = Some(if alone { first } else { format!("{}:{}", service.target, service.port) });
        Server { address: Address::Tcp(service.target.clone(), service.port), weight: 1, name }
    };
    Ok((found.records.iter().map(server).collect(), found.until))
}
