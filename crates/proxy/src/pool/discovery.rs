//! Endpoints that something else knows: names, bindings, the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio_util::sync::CancellationToken;

use super::{Member, Pool};
use crate::config::{Binding, Discovery, Endpoint};

/// Names are not looked up more often than this, whatever their time to live.
const SOONEST: Duration = Duration::from_secs(1);
/// Nor less often, so that endpoints that left are not kept for a day.
const LATEST: Duration = Duration::from_secs(60);
/// Files and variables that are not there yet are looked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// Follows what a pool's names stand for, until it ends. Where all are addresses, there is nothing to do.
pub(super) fn start(pool: &Arc<Pool>, ended: CancellationToken, fixed: Vec<Member>) {
    let names: Vec<Endpoint> = pool
        .config
        .endpoints
        .iter()
        .filter(|e| {
            crate::address::host_port(&e.address).is_some_and(|(host, _)| host.parse::<std::net::IpAddr>().is_err())
        })
        .cloned()
        .collect();
    let discovery = pool.config.discovery.clone();
    if names.is_empty() && discovery.is_none() {
        return;
    }
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        let follow = async {
            let mut resolver = None;
            let mut known: Vec<Option<Vec<Member>>> = vec![None; names.len() + 1];
            loop {
                let mut next = LATEST;
                for (i, endpoint) in names.iter().enumerate() {
                    let (found, valid) =
                        by_name(&mut resolver, &endpoint.address, endpoint.weight, endpoint.drain).await;
                    next = next.min(valid);
                    known[i] = found.or(known[i].take());
                }
                if let Some(discovery) = &discovery {
                    let (found, valid) = discover(&mut resolver, discovery).await;
                    next = next.min(valid);
                    let last = names.len();
                    known[last] = found.or(known[last].take());
                }
                let Some(pool) = pool.upgrade() else { return };
                let members: Vec<Member> = fixed.iter().chain(known.iter().flatten().flatten()).cloned().collect();
                pool.set_members(&members);
                drop(pool);
                tokio::time::sleep(next.max(SOONEST)).await;
            }
        };
        tokio::select! {
            () = ended.cancelled() => {}
            () = follow => {}
        }
    });
}

/// What a discovery finds now, and for how long that holds. `None`: it failed, and what was known stays.
pub async fn discover(resolver: &mut Option<TokioResolver>, discovery: &Discovery) -> (Option<Vec<Member>>, Duration) {
    match discovery {
        Discovery::Dns(name) => by_name(resolver, name, 1, false).await,
        Discovery::Srv(name) => by_service(resolver, name).await,
        Discovery::Binding(binding) => match bound(binding) {
            Some(address) => by_name(resolver, &address, 1, false).await,
            None => (None, AGAIN),
        },
        Discovery::Environment(prefix) => match from_environment(prefix, |name| std::env::var(name).ok()) {
            Some(address) => by_name(resolver, &address, 1, false).await,
            None => (None, AGAIN),
        },
    }
}

fn resolver(kept: &mut Option<TokioResolver>) -> Option<&TokioResolver> {
    if kept.is_none() {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            // The answers' time to live is kept here; a second memory would only make changes late.
            builder.options_mut().cache_size = 0;
            builder.build()
        });
        match built {
            Ok(built) => *kept = Some(built),
            Err(error) => tracing::warn!(%error, "names cannot be looked up"),
        }
    }
    kept.as_ref()
}

async fn by_name(
    kept: &mut Option<TokioResolver>,
    name: &str,
    weight: u32,
    drain: bool,
) -> (Option<Vec<Member>>, Duration) {
    let Some((host, port)) = crate::address::host_port(name) else { return (None, LATEST) };
    let member = |address| Member { address: SocketAddr::new(address, port), host: host.to_owned(), weight, drain };
    if let Ok(address) = host.parse() {
        return (Some(vec![member(address)]), LATEST);
    }
    let Some(resolver) = resolver(kept) else { return (None, AGAIN) };
    match resolver.lookup_ip(host).await {
        Ok(found) => {
            let mut members: Vec<Member> = found.iter().map(member).collect();
            members.sort_by_key(|m| m.address);
            (Some(members), found.valid_until().saturating_duration_since(Instant::now()).min(LATEST))
        }
        Err(error) => {
            tracing::warn!(name, %error, "look-up failed, what was known stays");
            (None, AGAIN)
        }
    }
}

async fn by_service(kept: &mut Option<TokioResolver>, name: &str) -> (Option<Vec<Member>>, Duration) {
    let Some(resolver) = resolver(kept) else { return (None, AGAIN) };
    let found = match resolver.lookup(name, RecordType::SRV).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(name, %error, "look-up failed, what was known stays");
            return (None, AGAIN);
        }
    };
    let valid = found.valid_until().saturating_duration_since(Instant::now()).min(LATEST);
    let mut targets: Vec<(u16, u16, u16, String)> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => {
                Some((srv.priority, srv.weight, srv.port, srv.target.to_utf8().trim_end_matches('.').to_owned()))
            }
            _ => None,
        })
        .collect();
    // The lowest priority serves; the others stand by for it (RFC 2782).
    targets.sort();
    let mut members = Vec::new();
    let mut served = None;
    for (priority, weight, port, target) in targets {
        if served.is_some_and(|p| p != priority) {
            break;
        }
        let (found, _) = Box::pin(by_name(kept, &format!("{target}:{port}"), u32::from(weight).max(1), false)).await;
        if let Some(found) = found.filter(|f| !f.is_empty()) {
            served = Some(priority);
            members.extend(found);
        }
    }
    (Some(members), valid)
}

/// The address in a Service binding's directory: `host` and `port`, else `uri`, `url` or `jdbc-url`.
pub fn bound(binding: &Binding) -> Option<String> {
    let root = binding.root.clone().or_else(|| std::env::var_os("SERVICE_BINDING_ROOT").map(PathBuf::from))?;
    let read = |directory: &std::path::Path, name: &str| {
        std::fs::read_to_string(directory.join(name)).ok().map(|text| text.trim().to_owned())
    };
    let fits = |directory: &std::path::Path| {
        binding.kind.is_empty() || read(directory, "type").as_deref() == Some(&binding.kind)
    };
    let directory = if binding.name.is_empty() {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(root).ok()?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
        entries.sort();
        entries.into_iter().find(|directory| {
            !directory.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b".")) && fits(directory)
        })?
    } else {
        Some(root.join(&binding.name)).filter(|directory| fits(directory))?
    };
    if let Some(host) = read(&directory, "host") {
        let port = read(&directory, "port").or(binding.port.map(|p| p.to_string()))?;
        return Some(format!("{host}:{port}"));
    }
    ["uri", "url", "jdbc-url"].into_iter().find_map(|name| of_url(&read(&directory, name)?, binding.port))
}

/// The address that environment variables with a prefix name.
pub fn from_environment(prefix: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let pair = |host: &str, port: &str| {
        Some(format!("{}:{}", variable(&format!("{prefix}{host}"))?, variable(&format!("{prefix}{port}"))?))
    };
    pair("_HOST", "_PORT")
        .filter(|address| crate::address::host_port(address).is_some())
        .or_else(|| pair("_SERVICE_HOST", "_SERVICE_PORT"))
        .or_else(|| ["_URL", "_URI"].into_iter().find_map(|name| of_url(&variable(&format!("{prefix}{name}"))?, None)))
}

/// `host:port` of `scheme://user:password@host:port/path`.
fn of_url(url: &str, port: Option<u16>) -> Option<String> {
    let url = url.strip_prefix("jdbc:").unwrap_or(url);
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if crate::address::host_port(authority).is_some() {
        return Some(authority.to_owned());
    }
    let port = port.or(match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        "mysql" | "mariadb" => Some(3306),
        "postgres" | "postgresql" => Some(5432),
        "redis" | "rediss" => Some(6379),
        "mongodb" => Some(27017),
        "amqp" => Some(5672),
        _ => None,
    })?;
    Some(format!("{authority}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_service_in_several_ways() {
        let environment = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        let find = |pairs| from_environment("DB", environment(pairs));
        assert_eq!(find(&[("DB_HOST", "db.example"), ("DB_PORT", "3306")]).as_deref(), Some("db.example:3306"));
        assert_eq!(
            find(&[("DB_SERVICE_HOST", "10.0.0.1"), ("DB_SERVICE_PORT", "5432"), ("DB_PORT", "tcp://10.0.0.1:5432")])
                .as_deref(),
            Some("10.0.0.1:5432")
        );
        assert_eq!(find(&[("DB_URL", "postgres://u:p%40@db.example/app")]).as_deref(), Some("db.example:5432"));
        assert_eq!(find(&[]), None);
    }
}
