//! What the types alone cannot say: names that exist, addresses that are some, numbers that make sense.

use std::collections::HashSet;
use std::fmt;

use super::{
    Balance, Config, Discovery, HeaderEdit, HttpVersion, LimitBy, Listener, PathMatch, PathRewrite, Pool, Protocol,
    RateLimit, Redirect, Rewrite, Route,
};

/// What is wrong, and where: `listeners[0].routes[2].to[0].pool: there is no pool "ap"`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The field.
    pub field: String,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

type Checked = Result<(), Problem>;

fn refuse(field: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(Problem { field: field.into(), reason: reason.into() })
}

/// Checks everything that can be checked without looking outside of the file. The first problem is told.
pub fn check(config: &Config) -> Checked {
    if config.listeners.is_empty() {
        return refuse("listeners", "there is none, so nothing would be served");
    }
    let names = Names {
        pools: unique("pools", config.pools.iter().map(|p| &p.name))?,
        caches: unique("caches", config.caches.iter().map(|c| &c.name))?,
        limits: unique("rate_limits", config.rate_limits.iter().map(|l| &l.name))?,
    };
    let mut addresses = HashSet::new();
    for (i, listener) in config.listeners.iter().enumerate() {
        let at = format!("listeners[{i}]");
        check_listener(&at, listener, &names)?;
        let fields = std::iter::once(format!("{at}.address")).chain((0..).map(|j| format!("{at}.also[{j}]")));
        for (address, field) in listener.addresses().zip(fields) {
            if !addresses.insert((address, listener.protocol == Protocol::Udp)) && !address.ends_with(":0") {
                return refuse(field, format!("{address} is another listener's already"));
            }
        }
    }
    for (i, pool) in config.pools.iter().enumerate() {
        check_pool(&format!("pools[{i}]"), pool)?;
    }
    for (i, cache) in config.caches.iter().enumerate() {
        for (j, network) in cache.purge_from.iter().enumerate() {
            check_network(format!("caches[{i}].purge_from[{j}]"), network)?;
        }
        for (j, peer) in cache.purge_peers.iter().enumerate() {
            check_target(format!("caches[{i}].purge_peers[{j}]"), peer)?;
        }
        if cache.memory.0 < cache.max_response.0 {
            return refuse(format!("caches[{i}].max_response"), "is more than the cache's memory");
        }
        if let Some(disk) = &cache.disk {
            if disk.path.as_os_str().is_empty() {
                return refuse(format!("caches[{i}].disk.path"), "is missing");
            }
            let others = config.caches[..i].iter().filter_map(|c| c.disk.as_ref());
            if others.into_iter().any(|other| other.path == disk.path) {
                return refuse(format!("caches[{i}].disk.path"), "is another cache's already");
            }
        }
    }
    for (i, limit) in config.rate_limits.iter().enumerate() {
        check_limit(&format!("rate_limits[{i}]"), limit)?;
        if limit.shared && config.peers.is_none() {
            return refuse(format!("rate_limits[{i}].shared"), "needs `peers`, the replicas it is shared among");
        }
    }
    if let Some(peers) = &config.peers {
        check_bind("peers.address", &peers.address)?;
        for (i, member) in peers.members.iter().enumerate() {
            check_target(format!("peers.members[{i}]"), member)?;
        }
    }
    Ok(())
}

struct Names<'a> {
    pools: HashSet<&'a str>,
    caches: HashSet<&'a str>,
    limits: HashSet<&'a str>,
}

impl Names<'_> {
    fn pool(&self, field: String, name: &str) -> Checked {
        if self.pools.contains(name) { Ok(()) } else { refuse(field, format!("there is no pool {name:?}")) }
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<HashSet<&'a str>, Problem> {
    let mut seen = HashSet::new();
    for (i, name) in names.enumerate() {
        if name.is_empty() {
            return Err(Problem { field: format!("{what}[{i}].name"), reason: "is missing".into() });
        }
        if !seen.insert(name.as_str()) {
            return Err(Problem { field: format!("{what}[{i}].name"), reason: format!("{name:?} is there twice") });
        }
    }
    Ok(seen)
}

fn check_listener(at: &str, listener: &Listener, names: &Names<'_>) -> Checked {
    check_bind(&format!("{at}.address"), &listener.address)?;
    for (i, address) in listener.also.iter().enumerate() {
        check_bind(&format!("{at}.also[{i}]"), address)?;
    }
    if listener.public_port == Some(0) {
        return refuse(format!("{at}.public_port"), "must be between 1 and 65535");
    }
    for (i, network) in listener.trusted_proxies.iter().enumerate() {
        check_network(format!("{at}.trusted_proxies[{i}]"), network)?;
    }
    if let Some(tls) = &listener.tls {
        if tls.certificates.is_empty() {
            return refuse(format!("{at}.tls.certificates"), "there is none");
        }
        if tls.min_version != "1.2" && tls.min_version != "1.3" {
            return refuse(
                format!("{at}.tls.min_version"),
                format!("{:?} is neither \"1.2\" nor \"1.3\"", tls.min_version),
            );
        }
        if listener.protocol == Protocol::Udp {
            return refuse(format!("{at}.tls"), "cannot be ended on a listener of datagrams");
        }
    }
    if listener.limits.header_bytes.0 < 256 || listener.limits.header_bytes.0 > 1 << 20 {
        return refuse(format!("{at}.limits.header_bytes"), "must be between 256 and 1MiB");
    }
    match (listener.protocol, &listener.pool) {
        (Protocol::Http, Some(_)) => refuse(format!("{at}.pool"), "is for TCP and UDP; HTTP has `routes`")?,
        (Protocol::Http, None) if listener.routes.is_empty() => refuse(format!("{at}.routes"), "there is none")?,
        (Protocol::Tcp | Protocol::Udp, None) => refuse(format!("{at}.pool"), "is missing")?,
        (Protocol::Tcp | Protocol::Udp, Some(_)) if !listener.routes.is_empty() => {
            refuse(format!("{at}.routes"), "are for HTTP; TCP and UDP have a `pool`")?;
        }
        (_, Some(pool)) => names.pool(format!("{at}.pool"), pool)?,
        (Protocol::Http, None) => {}
    }
    for (i, route) in listener.routes.iter().enumerate() {
        check_route(&format!("{at}.routes[{i}]"), route, names)?;
    }
    Ok(())
}

fn check_route(at: &str, route: &Route, names: &Names<'_>) -> Checked {
    for (i, host) in route.hosts.iter().enumerate() {
        let bare = host.strip_prefix("*.").unwrap_or(host);
        if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)) {
            return refuse(format!("{at}.hosts[{i}]"), format!("{host:?} is not a host name (or `*.` and one)"));
        }
    }
    for (i, matching) in route.matches.iter().enumerate() {
        let at = format!("{at}.matches[{i}]");
        match &matching.path {
            Some(PathMatch::Exact(path) | PathMatch::Prefix(path)) if !path.starts_with('/') => {
                refuse(format!("{at}.path"), format!("{path:?} does not begin with /"))?;
            }
            Some(PathMatch::Regex(pattern)) => check_regex(format!("{at}.path.regex"), pattern)?,
            _ => {}
        }
        for (i, method) in matching.methods.iter().enumerate() {
            check_token(format!("{at}.methods[{i}]"), method)?;
        }
        for (kind, list) in [("headers", &matching.headers), ("query", &matching.query)] {
            for (i, one) in list.iter().enumerate() {
                if kind == "headers" {
                    check_token(format!("{at}.{kind}[{i}].name"), &one.name)?;
                }
                if one.exact.is_some() && one.regex.is_some() {
                    return refuse(format!("{at}.{kind}[{i}]"), "has both `exact` and `regex`");
                }
                if let Some(pattern) = &one.regex {
                    check_regex(format!("{at}.{kind}[{i}].regex"), pattern)?;
                }
            }
        }
    }
    for (i, target) in route.to.iter().enumerate() {
        match target.status {
            Some(status) if !(200..=599).contains(&status) => {
                refuse(format!("{at}.to[{i}].status"), "must be between 200 and 599")?;
            }
            Some(_) if !target.pool.is_empty() => refuse(format!("{at}.to[{i}]"), "has both `pool` and `status`")?,
            Some(_) => {}
            None => names.pool(format!("{at}.to[{i}].pool"), &target.pool)?,
        }
        check_ways(&format!("{at}.to[{i}]"), target.redirect.as_ref(), target.rewrite.as_ref())?;
        check_edit(&format!("{at}.to[{i}].request_headers"), &target.request_headers)?;
        check_edit(&format!("{at}.to[{i}].response_headers"), &target.response_headers)?;
    }
    let filters = &route.filters;
    check_edit(&format!("{at}.filters.request_headers"), &filters.request_headers)?;
    check_edit(&format!("{at}.filters.response_headers"), &filters.response_headers)?;
    for (i, mirror) in filters.mirrors.iter().enumerate() {
        names.pool(format!("{at}.filters.mirrors[{i}].pool"), &mirror.pool)?;
        if !(0.0..=100.0).contains(&mirror.percent) {
            return refuse(format!("{at}.filters.mirrors[{i}].percent"), "must be between 0 and 100");
        }
    }
    if let Some(cors) = &filters.cors {
        if let Some(odd) = cors.origins.iter().find(|o| *o != "*" && !o.contains("://")) {
            return refuse(format!("{at}.filters.cors.origins"), format!("{odd:?} is neither SCHEME://HOST nor `*`"));
        }
        for (kind, list) in [("methods", &cors.methods), ("headers", &cors.headers), ("expose", &cors.expose)] {
            for (i, name) in list.iter().enumerate() {
                check_token(format!("{at}.filters.cors.{kind}[{i}]"), name)?;
            }
        }
    }
    check_ways(&format!("{at}.filters"), filters.redirect.as_ref(), filters.rewrite.as_ref())?;
    if let Some(respond) = &filters.respond
        && !(200..=599).contains(&respond.status)
    {
        return refuse(format!("{at}.filters.respond.status"), "must be between 200 and 599");
    }
    if let Some(cache) = &route.cache
        && !names.caches.contains(cache.as_str())
    {
        return refuse(format!("{at}.cache"), format!("there is no cache {cache:?}"));
    }
    for (i, limit) in route.rate_limits.iter().enumerate() {
        if !names.limits.contains(limit.as_str()) {
            return refuse(format!("{at}.rate_limits[{i}]"), format!("there is no rate limit {limit:?}"));
        }
    }
    Ok(())
}

fn check_ways(at: &str, redirect: Option<&Redirect>, rewrite: Option<&Rewrite>) -> Checked {
    if let Some(redirect) = redirect {
        if !matches!(redirect.status, None | Some(301 | 302 | 303 | 307 | 308)) {
            return refuse(format!("{at}.redirect.status"), "must be 301, 302, 303, 307 or 308");
        }
        if !matches!(redirect.scheme.as_deref(), None | Some("http" | "https")) {
            return refuse(format!("{at}.redirect.scheme"), "must be http or https");
        }
    }
    let paths = [redirect.and_then(|r| r.path.as_ref()), rewrite.and_then(|r| r.path.as_ref())];
    for PathRewrite::Full(path) | PathRewrite::Prefix(path) in paths.into_iter().flatten() {
        if path.bytes().any(|b| b <= b' ' || b >= 0x7f) {
            return refuse(at, format!("{path:?} is not a path"));
        }
    }
    Ok(())
}

fn check_pool(at: &str, pool: &Pool) -> Checked {
    for (i, endpoint) in pool.endpoints.iter().enumerate() {
        check_target(format!("{at}.endpoints[{i}].address"), &endpoint.address)?;
    }
    if let Some(Discovery::Dns(name)) = &pool.discovery {
        check_target(format!("{at}.discovery.dns"), name)?;
    }
    if pool.hash.is_some() && pool.balance != Balance::Hash {
        return refuse(format!("{at}.hash"), "is for `balance: hash`");
    }
    if let Some(tls) = &pool.tls
        && tls.certificate.is_some() != tls.key.is_some()
    {
        return refuse(format!("{at}.tls"), "has one of `certificate` and `key` without the other");
    }
    if pool.send_proxy_protocol.is_some() && pool.http == HttpVersion::Http2 {
        return refuse(
            format!("{at}.send_proxy_protocol"),
            "cannot be told per client on HTTP/2, which shares a connection",
        );
    }
    if let Some(sticky) = &pool.sticky {
        check_token(format!("{at}.sticky.cookie"), &sticky.cookie)?;
    }
    if let Some(health) = &pool.health {
        if health.interval.0.is_zero() || health.timeout.0.is_zero() {
            return refuse(format!("{at}.health"), "interval and timeout must be more than nothing");
        }
        if health.path.as_ref().is_some_and(|p| !p.starts_with('/') || p.bytes().any(|b| b <= b' ' || b >= 0x7f)) {
            return refuse(format!("{at}.health.path"), "is not a path");
        }
    }
    Ok(())
}

fn check_limit(at: &str, limit: &RateLimit) -> Checked {
    if limit.per.0.is_zero() {
        return refuse(format!("{at}.per"), "must be more than nothing");
    }
    for by in &limit.by {
        if let LimitBy::Header(name) = by {
            check_token(format!("{at}.by"), name)?;
        }
    }
    Ok(())
}

fn check_edit(at: &str, edit: &HeaderEdit) -> Checked {
    for header in edit.set.iter().chain(&edit.add) {
        check_token(format!("{at}.name"), &header.name)?;
        if header.value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
            return refuse(format!("{at}.value"), format!("the value of {} has control characters", header.name));
        }
    }
    for name in edit.set.iter().map(|h| &h.name).chain(edit.add.iter().map(|h| &h.name)).chain(&edit.remove) {
        check_token(format!("{at}.remove"), name)?;
        if ["content-length", "transfer-encoding", "connection"].iter().any(|n| name.eq_ignore_ascii_case(n)) {
            return refuse(at, format!("{name} is the proxy's own to write"));
        }
    }
    Ok(())
}

fn check_token(field: String, text: &str) -> Checked {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)) {
        return refuse(field, format!("{text:?} is not a name that HTTP allows"));
    }
    Ok(())
}

fn check_regex(field: String, pattern: &str) -> Checked {
    match regex::Regex::new(pattern) {
        Ok(_) => Ok(()),
        Err(error) => refuse(field, error.to_string().lines().last().unwrap_or_default()),
    }
}

fn check_bind(field: &str, address: &str) -> Checked {
    if crate::address::bind(address).is_none() {
        return refuse(field, format!("{address:?} is not ADDRESS:PORT"));
    }
    Ok(())
}

fn check_target(field: String, address: &str) -> Checked {
    if crate::address::host_port(address).is_none() {
        return refuse(field, format!("{address:?} is not ADDRESS:PORT or NAME:PORT"));
    }
    Ok(())
}

fn check_network(field: String, network: &str) -> Checked {
    if crate::address::Network::parse(network).is_none() {
        return refuse(field, format!("{network:?} is not an address or a network"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(yaml: &str) -> String {
        let config: Config = serde_yaml_ng::from_str(yaml).unwrap();
        check(&config).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let with = |route: &str| {
            format!(
                "listeners: [{{address: ':80', routes: [{route}]}}]\npools: [{{name: a, endpoints: [{{address: '127.0.0.1:1'}}]}}]"
            )
        };
        for (route, expected) in [
            ("{to: [{pool: b}]}", "listeners[0].routes[0].to[0].pool: there is no pool \"b\""),
            ("{matches: [{path: {exact: x}}]}", "listeners[0].routes[0].matches[0].path: \"x\" does not begin with /"),
            ("{cache: c}", "listeners[0].routes[0].cache: there is no cache \"c\""),
            ("{rate_limits: [l]}", "listeners[0].routes[0].rate_limits[0]: there is no rate limit \"l\""),
            (
                "{filters: {redirect: {status: 200}}}",
                "listeners[0].routes[0].filters.redirect.status: must be 301, 302, 303, 307 or 308",
            ),
            (
                "{filters: {request_headers: {set: [{name: Transfer-Encoding, value: x}]}}}",
                "listeners[0].routes[0].filters.request_headers: Transfer-Encoding is the proxy's own to write",
            ),
        ] {
            assert_eq!(problem(&with(route)), expected);
        }
        assert_eq!(problem("listeners: []"), "listeners: there is none, so nothing would be served");
        assert_eq!(
            problem("listeners: [{address: nowhere, routes: [{}]}]"),
            "listeners[0].address: \"nowhere\" is not ADDRESS:PORT"
        );
        assert_eq!(problem("listeners: [{address: ':53', protocol: udp}]"), "listeners[0].pool: is missing");
        assert_eq!(
            problem(
                "listeners: [{address: ':80', routes: [{}]}, {address: ':81', also: [':82', ':80'], routes: [{}]}]"
            ),
            "listeners[1].also[1]: :80 is another listener's already"
        );
    }

    #[test]
    fn unknown_fields_are_refused_and_defaults_are_not_written() {
        assert!(serde_yaml_ng::from_str::<Config>("listners: []").is_err());
        let config: Config =
            serde_yaml_ng::from_str("listeners: [{address: ':80', routes: [{to: [{pool: a}]}]}]").unwrap();
        let text = serde_yaml_ng::to_string(&config).unwrap();
        assert!(!text.contains("limits") && !text.contains("filters"), "{text}");
        assert_eq!(serde_yaml_ng::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn every_kind_of_choice_is_written_as_a_map_of_one() {
        let yaml = "
listeners:
- address: ':80'
  routes:
  - matches: [{path: {prefix: /api}}, {path: {regex: '/x[0-9]+'}}]
    stick: {cookie: user}
    filters: {rewrite: {path: {prefix: /}}}
    to: [{pool: a}]
    rate_limits: [l]
pools:
- name: a
  discovery: {dns: 'app.default.svc:80'}
  balance: hash
  hash: address
- {name: b, discovery: {binding: {type: mysql}}}
rate_limits:
- {name: l, by: [address, {header: x-api-key}]}
";
        let config: Config = serde_yaml_ng::from_str(yaml).unwrap();
        check(&config).unwrap();
        let text = serde_yaml_ng::to_string(&config).unwrap();
        assert!(!text.contains('!'), "{text}");
        assert_eq!(serde_yaml_ng::from_str::<Config>(&text).unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
}
