//! Endpoints that something else knows: names, bindings, the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use names::{NameError, Names};
use parking_lot::Mutex;
use serving::FileWatch;
use tokio_util::sync::CancellationToken;

use super::Member;
use crate::config::{Binding, Discovery, Endpoint};

/// Names are not looked up more often than this, whatever their time to live.
const SOONEST: Duration = Duration::from_secs(1);
/// Nor less often, so that endpoints that left are not kept for a day.
const LATEST: Duration = Duration::from_secs(60);
/// Look-ups that failed, files and variables that are not there yet, are tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Something that names endpoints, with those that it named last.
#[derive(Clone, Debug)]
pub struct Source {
    what: What,
    known: Vec<Member>,
}

#[derive(Clone, Debug)]
enum What {
    Name(Endpoint),
    Discovery(Discovery),
}

impl Source {
    /// What has to be looked up among these, and in `discovery`. `known`: members of before, which go on until the first
    /// look-up has brought others.
    pub fn all(endpoints: &[Endpoint], discovery: Option<&Discovery>, known: &[Member]) -> Vec<Self> {
        let parts = |endpoint: &Endpoint| {
            let (host, port) = crate::address::host_port(&endpoint.address)?;
            host.parse::<std::net::IpAddr>().is_err().then(|| (host.to_owned(), port))
        };
        let named: Vec<_> = endpoints.iter().filter_map(|e| Some((e, parts(e)?))).collect();
        let is_of =
            |member: &Member, (host, port): &(String, u16)| member.host == *host && member.address.port() == *port;
        let mut all: Vec<Self> = named
            .iter()
            .map(|(endpoint, name)| Self {
                what: What::Name((*endpoint).clone()),
                known: known.iter().filter(|m| is_of(m, name)).cloned().collect(),
            })
            .collect();
        if let Some(discovery) = discovery {
            let others = known.iter().filter(|m| {
                let fixed = m.host == m.address.ip().to_string()
                    && endpoints.iter().any(|e| e.address == m.address.to_string());
                !fixed && !named.iter().any(|(_, name)| is_of(m, name))
            });
            all.push(Self { what: What::Discovery(discovery.clone()), known: others.cloned().collect() });
        }
        all
    }

    /// Those that it named last.
    pub fn known(&self) -> &[Member] {
        &self.known
    }

    fn name(&self) -> String {
        match &self.what {
            What::Name(endpoint) => endpoint.address.clone(),
            What::Discovery(Discovery::Dns(name) | Discovery::Srv(name)) => name.clone(),
            What::Discovery(Discovery::Binding(binding)) => described(binding),
            What::Discovery(Discovery::Environment(prefix)) => format!("{prefix}_HOST"),
        }
    }

    /// Tells of changes of the files that it depends on, where there are some and their directories are there already.
    fn watch(&self) -> Option<FileWatch> {
        let What::Discovery(Discovery::Binding(binding)) = &self.what else { return None };
        let root = root_of(binding)?;
        let mut watch = FileWatch::new([root.join("host")]).ok()?;
        // Listed under watch: a directory made after this is told of.
        let below = std::fs::read_dir(&root).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        // One that has gone since is told of as well.
        let _ = watch.also(below.map(|directory| directory.join("host")));
        Some(watch)
    }

    /// What it names now, and until when that holds.
    async fn look(&self, names: &Names) -> Result<(Vec<Member>, Instant), NameError> {
        let missing = |reason: &str| NameError { name: self.name(), reason: reason.to_owned() };
        match &self.what {
            What::Name(endpoint) => by_name(names, &endpoint.address, endpoint.weight, endpoint.drain).await,
            What::Discovery(Discovery::Dns(name)) => by_name(names, name, 1, false).await,
            What::Discovery(Discovery::Srv(name)) => by_service(names, name, &self.known).await,
            What::Discovery(Discovery::Binding(binding)) => {
                let address = bound(binding).ok_or_else(|| match root_of(binding) {
                    Some(root) => {
                        missing(&format!("there is no such binding with an address below {}", root.display()))
                    }
                    None => missing("SERVICE_BINDING_ROOT is not set"),
                })?;
                by_name(names, &address, 1, false).await
            }
            What::Discovery(Discovery::Environment(prefix)) => {
                let address = from_environment(prefix, |name| std::env::var(name).ok());
                by_name(names, &address.ok_or_else(|| missing("no such variables are set"))?, 1, false).await
            }
        }
    }
}

/// Follows sources until `ended`, each in its own time, and tells `apply` of all members, `fixed` before those that were
/// looked up. A look-up that fails changes nothing: what was known stays.
pub fn follow(
    names: &Names,
    fixed: Vec<Member>,
    sources: Vec<Source>,
    ended: &CancellationToken,
    apply: impl Fn(&[Member]) + Send + Sync + 'static,
) {
    let all: Vec<Vec<Member>> = sources.iter().map(|source| source.known.clone()).collect();
    let shared = Arc::new((Mutex::new(all), fixed, apply));
    for (i, mut source) in sources.into_iter().enumerate() {
        let (names, shared, ended) = (names.clone(), Arc::clone(&shared), ended.clone());
        let one = async move {
            let (mut first, mut failing) = (true, false);
            loop {
                // Begun before the look, so that no change is missed.
                let watch = source.watch();
                let wait = match source.look(&names).await {
                    Ok((members, until)) => {
                        if failing {
                            tracing::info!(name = source.name(), "is found again");
                        }
                        failing = false;
                        if first || members != source.known {
                            let (all, fixed, apply) = &*shared;
                            let mut all = all.lock();
                            all[i].clone_from(&members);
                            apply(&fixed.iter().chain(all.iter().flatten()).cloned().collect::<Vec<_>>());
                            source.known = members;
                        }
                        first = false;
                        until.saturating_duration_since(Instant::now()).clamp(SOONEST, LATEST)
                    }
                    Err(error) => {
                        if !failing {
                            tracing::warn!(%error, "look-up failed, what was known stays");
                        }
                        failing = true;
                        if watch.is_some() { LATEST } else { AGAIN }
                    }
                };
                let changed = async {
                    match watch {
                        Some(mut watch) => drop(watch.changed().await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = changed => {}
                }
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = one => {}
            }
        });
    }
}

async fn by_name(names: &Names, name: &str, weight: u32, drain: bool) -> Result<(Vec<Member>, Instant), NameError> {
    let bad = || NameError { name: name.to_owned(), reason: "is no name with a port".to_owned() };
    let (host, port) = crate::address::host_port(name).ok_or_else(bad)?;
    let found = names.addresses(host).await?;
    let member = |address| Member { address: SocketAddr::new(address, port), host: host.to_owned(), weight, drain };
    Ok((found.records.into_iter().map(member).collect(), found.until))
}

/// The targets of SRV records: of the lowest priority that has any, the others stand by for it (RFC 2782).
async fn by_service(names: &Names, name: &str, known: &[Member]) -> Result<(Vec<Member>, Instant), NameError> {
    let found = names.services(name).await?;
    let (mut members, mut until, mut served, mut failure) = (Vec::new(), found.until, None, None);
    for service in found.records {
        if served.is_some_and(|priority| priority != service.priority) {
            break;
        }
        let (target, weight) = (format!("{}:{}", service.target, service.port), u32::from(service.weight).max(1));
        let of_target = match by_name(names, &target, weight, false).await {
            Ok((of_target, valid)) => {
                until = until.min(valid);
                of_target
            }
            // A target that cannot be looked up for now is still where it was.
            Err(error) => {
                until = until.min(Instant::now() + AGAIN);
                failure = Some(error);
                let same = |m: &&Member| m.host == service.target && m.address.port() == service.port;
                known.iter().filter(same).cloned().collect()
            }
        };
        if !of_target.is_empty() {
            served = Some(service.priority);
            members.extend(of_target);
        }
    }
    match failure {
        Some(error) if members.is_empty() => Err(error),
        _ => Ok((members, until)),
    }
}

/// The directory of bindings.
fn root_of(binding: &Binding) -> Option<PathBuf> {
    binding.root.clone().or_else(|| std::env::var_os("SERVICE_BINDING_ROOT").map(PathBuf::from))
}

/// The address in a Service binding's directory: `host` and `port`, else `uri`, `url` or `jdbc-url`.
pub fn bound(binding: &Binding) -> Option<String> {
    let root = root_of(binding)?;
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

/// A binding as logs name it.
fn described(binding: &Binding) -> String {
    match (binding.name.as_str(), binding.kind.as_str()) {
        (name, "") => format!("binding {name}"),
        ("", kind) => format!("binding of type {kind}"),
        (name, kind) => format!("binding {name} of type {kind}"),
    }
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

    #[test]
    fn a_binding_that_is_not_there_is_named_with_the_place_where_it_was_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let root = Some(directory.path().to_owned());
        for (name, kind, words) in [
            ("db", "", "binding db"),
            ("", "mysql", "binding of type mysql"),
            ("db", "mysql", "binding db of type mysql"),
        ] {
            let binding = Binding { name: name.into(), kind: kind.into(), root: root.clone(), port: None };
            assert_eq!(described(&binding), words);
            assert_eq!(bound(&binding), None);
        }
    }
}
