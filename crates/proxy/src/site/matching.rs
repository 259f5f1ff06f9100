//! Which route a request takes.

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

use super::Route;
use crate::cache::Cache;
use crate::config::{self, HeaderMatch, PathMatch};
use crate::http1::Request;
use crate::pool::Pool;

/// Routes in the order in which they are looked at: the first that fits is the best.
#[derive(Default)]
pub struct Table {
    rules: Vec<Rule>,
    routes: Vec<Arc<Route>>,
}

/// The route, and the prefix of the path that led to it (empty if none did).
pub struct Found<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    /// The prefix.
    pub prefix: &'a str,
}

/// One host of a route with one of its matches.
struct Rule {
    host: Host,
    path: Path,
    methods: Vec<String>,
    headers: Vec<(String, Value)>,
    query: Vec<(String, Value)>,
    route: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Exact(String),
    /// What stands behind the star, with its dot; whether the star is one label.
    Under(String, bool),
    Any,
}

enum Path {
    Exact(String),
    Prefix(String),
    Regex(Regex),
}

enum Value {
    There,
    Exact(String),
    Regex(Regex),
}

impl Table {
    pub(super) fn new(
        configs: &[config::Route],
        pools: &HashMap<String, Arc<Pool>>,
        caches: &HashMap<String, Arc<Cache>>,
        former: Option<&Self>,
    ) -> Self {
        let mut table = Self::default();
        for (i, config) in configs.iter().enumerate() {
            let name = if config.name.is_empty() { i.to_string() } else { config.name.clone() };
            let known = former.and_then(|f| f.routes.iter().find(|r| r.name == name));
            table.routes.push(Route::new(config, name, pools, caches, known));
            let any = [String::new()];
            let hosts = if config.hosts.is_empty() { &any[..] } else { &config.hosts[..] };
            let everything = [config::Match::default()];
            let matches = if config.matches.is_empty() { &everything[..] } else { &config.matches[..] };
            for host in hosts {
                table.rules.extend(matches.iter().map(|matching| Rule::new((host, config.one_label), matching, i)));
            }
        }
        // A stable sort: equals keep the order of the file.
        table.rules.sort_by(|a, b| a.rank().partial_cmp(&b.rank()).unwrap_or(std::cmp::Ordering::Equal));
        table
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    pub(super) fn find(&self, request: &Request) -> Option<Found<'_>> {
        let host = request.hostname();
        let rule = self.rules.iter().find(|rule| rule.fits(request, host))?;
        let prefix = match &rule.path {
            Path::Prefix(prefix) => prefix.as_str(),
            _ => "",
        };
        Some(Found { route: &self.routes[rule.route], prefix })
    }
}

impl Rule {
    fn new((host, one_label): (&str, bool), matching: &config::Match, route: usize) -> Self {
        let host = host.to_ascii_lowercase();
        let value = |m: &HeaderMatch| match (&m.exact, &m.regex) {
            (Some(exact), _) => Value::Exact(exact.clone()),
            (None, Some(pattern)) => whole(pattern).map_or(Value::There, Value::Regex),
            (None, None) => Value::There,
        };
        Self {
            host: match host.strip_prefix('*') {
                _ if host.is_empty() => Host::Any,
                Some(rest) => Host::Under(rest.to_owned(), one_label),
                // Ports are not part of a host's name here.
                None => Host::Exact(if host.starts_with('[') {
                    host
                } else {
                    host.split(':').next().unwrap_or_default().to_owned()
                }),
            },
            path: match &matching.path {
                None => Path::Prefix("/".into()),
                Some(PathMatch::Exact(path)) => Path::Exact(path.clone()),
                Some(PathMatch::Prefix(path)) => Path::Prefix(path.clone()),
                Some(PathMatch::Regex(pattern)) => {
                    whole(pattern).map_or_else(|| Path::Exact(String::new()), Path::Regex)
                }
            },
            methods: matching.methods.clone(),
            headers: matching.headers.iter().map(|m| (m.name.to_ascii_lowercase(), value(m))).collect(),
            query: matching.query.iter().map(|m| (m.name.clone(), value(m))).collect(),
            route,
        }
    }

    /// Less is better.
    fn rank(&self) -> impl PartialOrd + use<> {
        let host = match &self.host {
            Host::Exact(_) => (0, 0),
            Host::Under(rest, _) => (1, -(rest.len() as i64)),
            Host::Any => (2, 0),
        };
        let path = match &self.path {
            Path::Exact(_) => (0, 0),
            Path::Prefix(prefix) if prefix != "/" => (1, -(prefix.len() as i64)),
            Path::Regex(pattern) => (2, -(pattern.as_str().len() as i64)),
            Path::Prefix(_) => (3, 0),
        };
        (host, path, self.methods.is_empty(), -(self.headers.len() as i64), -(self.query.len() as i64))
    }

    fn fits(&self, request: &Request, host: &[u8]) -> bool {
        let host_fits = match &self.host {
            Host::Any => true,
            Host::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Host::Under(rest, one_label) => host.len().checked_sub(rest.len()).is_some_and(|at| {
                let (star, end) = host.split_at(at);
                !star.is_empty() && end.eq_ignore_ascii_case(rest.as_bytes()) && !(*one_label && star.contains(&b'.'))
            }),
        };
        host_fits
            && self.path.fits(request.path())
            && (self.methods.is_empty() || self.methods.iter().any(|m| m.as_bytes() == request.method()))
            && self.headers.iter().all(|(name, value)| request.header(name).is_some_and(|found| value.fits(found)))
            && self.query.iter().all(|(name, value)| {
                request.query().and_then(|query| parameter(query, name)).is_some_and(|found| value.fits(found))
            })
    }
}

impl Path {
    fn fits(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/').as_bytes();
                path.starts_with(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
            }
            Self::Regex(pattern) => std::str::from_utf8(path).is_ok_and(|path| pattern.is_match(path)),
        }
    }
}

impl Value {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::There => true,
            Self::Exact(exact) => value == exact.as_bytes(),
            Self::Regex(pattern) => std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value)),
        }
    }
}

/// A pattern over the whole of what it is compared with.
fn whole(pattern: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).ok()
}

/// The value of a query parameter, as it was written.
pub(super) fn parameter<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    query.split(|b| *b == b'&').find_map(|pair| {
        let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let key = percent_encoding::percent_decode(&pair[..equals]);
        key.eq(name.bytes()).then(|| pair.get(equals + 1..).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::parse_request;

    fn route_of(routes: &str, request: &str) -> String {
        let configs: Vec<config::Route> = serde_yaml_ng::from_str(routes).unwrap();
        let table = Table::new(&configs, &HashMap::new(), &HashMap::new(), None);
        let mut parsed = Request::default();
        parsed.text.extend_from_slice(request.as_bytes());
        parse_request(&mut parsed, 4096, 100).unwrap().unwrap();
        table.find(&parsed).map_or("none".into(), |found| found.route.name.clone())
    }

    #[test]
    fn the_best_match_wins_however_routes_are_ordered() {
        let routes = "
- {name: all}
- {name: prefix, matches: [{path: {prefix: /api}}]}
- {name: longer, matches: [{path: {prefix: /api/v1/}}]}
- {name: exact, matches: [{path: {exact: /api}}]}
- {name: regex, matches: [{path: {regex: '/r[0-9]+'}}]}
- {name: method, matches: [{path: {prefix: /api}, methods: [DELETE]}]}
- {name: header, matches: [{path: {prefix: /api}, headers: [{name: X-Beta, exact: 'yes'}]}]}
- {name: query, matches: [{path: {prefix: /api}, query: [{name: debug}]}]}
- {name: host, hosts: [a.example.com]}
- {name: wild, hosts: ['*.example.com']}
- {name: label, hosts: ['*.example.org'], one_label: true}
";
        for (line, expected) in [
            ("GET / HTTP/1.1\r\nhost: x", "all"),
            ("GET /apis HTTP/1.1\r\nhost: x", "all"),
            ("GET /api/x HTTP/1.1\r\nhost: x", "prefix"),
            ("GET /api/v1/x HTTP/1.1\r\nhost: x", "longer"),
            ("GET /api/v1 HTTP/1.1\r\nhost: x", "longer"),
            ("GET /api HTTP/1.1\r\nhost: x", "exact"),
            ("GET /r12 HTTP/1.1\r\nhost: x", "regex"),
            ("GET /r12/x HTTP/1.1\r\nhost: x", "all"),
            ("DELETE /api/x HTTP/1.1\r\nhost: x", "method"),
            ("GET /api/x HTTP/1.1\r\nhost: x\r\nx-beta: yes", "header"),
            ("GET /api/x?a=b&debug HTTP/1.1\r\nhost: x", "query"),
            ("GET /api HTTP/1.1\r\nhost: A.example.com:8080", "host"),
            ("GET /api HTTP/1.1\r\nhost: b.c.example.com", "wild"),
            ("GET /api HTTP/1.1\r\nhost: example.com", "exact"),
            ("GET /x HTTP/1.1\r\nhost: b.Example.org", "label"),
            ("GET /x HTTP/1.1\r\nhost: b.c.example.org", "all"),
            ("GET /x HTTP/1.1\r\nhost: example.org", "all"),
        ] {
            assert_eq!(route_of(routes, &format!("{line}\r\n\r\n")), expected, "{line}");
        }
        assert_eq!(route_of("[{hosts: [a]}]", "GET / HTTP/1.1\r\nhost: b\r\n\r\n"), "none");
    }
}
