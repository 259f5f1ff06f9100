//! The configuration file.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use serving::{ConfigError, Span};

/// The configuration of a root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where the root listens. Taken at the start; a reload does not move it.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// The shards, in the order in which their answers are merged.
    pub leaves: Vec<Leaf>,
    /// How requests are spread and merged, by the longest path prefix. Without any, all below `/api/v1/` is united.
    #[serde(default = "routes")]
    pub routes: Vec<Route>,
    /// The most that a request may take, merging included. A client asks for less by `X-Request-Timeout-Ms`.
    #[serde(default = "deadline")]
    pub deadline: Span,
    /// The most that one leaf may take; the request's remaining time if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_deadline: Option<Span>,
    /// When a slow leaf is asked a second time.
    #[serde(default)]
    pub hedge: Hedge,
    /// How many leaves must have answered, or the request fails. 0 stands for all.
    #[serde(default = "one")]
    pub minimum_leaves: usize,
    /// What is too much.
    #[serde(default)]
    pub limits: Limits,
}

/// One shard: a replicated service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Leaf {
    /// Its name in partial results, logs and metrics.
    pub name: String,
    /// `host:port` of each replica; a name with several addresses stands for several replicas, and is followed.
    pub replicas: Vec<String>,
    /// Its replicas are asked over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<LeafTls>,
}

/// How a leaf is asked over TLS. The files are followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeafTls {
    /// A PEM file of authorities that vouch for the leaf; the system's unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// The name that the leaf's certificate is for; the host of its first replica unless it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The root's own certificate, a PEM file, for leaves that ask who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

impl LeafTls {
    /// The files that it names, each with its field.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [("authorities", &self.authorities), ("certificate", &self.certificate), ("key", &self.key)];
        all.into_iter().filter_map(|(field, file)| Some((field, file.as_ref()?)))
    }
}

/// How one kind of request is spread and merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Paths with this prefix, below `/api/v1/`.
    pub path: String,
    /// What the prefix becomes at the leaves, whose own interface may be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_path: Option<String>,
    /// Who is asked what.
    #[serde(default)]
    pub spread: Spread,
    /// How many answers become one.
    #[serde(default)]
    pub merge: Merge,
}

/// Who is asked what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum Spread {
    /// Each leaf holds a part of the data: the whole query goes to every one.
    #[default]
    All,
    /// Each leaf holds all data: the words of one query parameter are dealt out, one to a call, to the leaves in turn.
    #[serde(rename_all = "camelCase")]
    Terms {
        /// The query parameter that is taken apart.
        parameter: String,
        /// What stands between its parts.
        #[serde(default = "space")]
        separator: String,
    },
}

/// How many answers become one. `items` and `by` are JSON pointers (RFC 6901).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "kind")]
pub enum Merge {
    /// All items of all leaves, each once.
    #[serde(rename_all = "camelCase")]
    Union {
        /// Where an answer has its list.
        #[serde(default = "items")]
        items: String,
        /// What makes two items the same; the whole item unless it is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// The items that every leaf has.
    #[serde(rename_all = "camelCase")]
    Intersection {
        /// Where an answer has its list.
        #[serde(default = "items")]
        items: String,
        /// What makes two items the same; the whole item unless it is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// The first `k` of all items, by a field of theirs.
    #[serde(rename_all = "camelCase")]
    TopK {
        /// Where an answer has its list.
        #[serde(default = "items")]
        items: String,
        /// How many.
        k: usize,
        /// A query parameter by which a client asks for fewer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        k_parameter: Option<String>,
        /// The field that orders: numbers, or else texts.
        by: String,
        /// The smallest first.
        #[serde(default)]
        ascending: bool,
        /// What makes two items the same, of which the better stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Numbers are added, objects key by key.
    #[serde(rename_all = "camelCase")]
    Sum {
        /// Where an answer has its numbers; its `value`, or else the whole, unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// A user's function gets all answers in a POST and answers the result.
    #[serde(rename_all = "camelCase")]
    Function {
        /// Its address.
        url: String,
        /// What is kept for it of the request's time.
        #[serde(default = "function_timeout")]
        timeout: Span,
    },
}

impl Default for Merge {
    fn default() -> Self {
        Self::Union { items: items(), key: None }
    }
}

/// When a slow leaf is asked a second time: after its measured percentile, within a budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hedge {
    /// Whether to.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The percentile of the leaf's latency after which it is asked again.
    #[serde(default = "percentile")]
    pub percentile: f64,
    /// Second requests as a share of first ones, in percent: never more.
    #[serde(default = "budget")]
    pub budget_percent: f64,
    /// Never earlier than this.
    #[serde(default = "least_wait")]
    pub least_wait: Span,
    /// For methods beside GET and HEAD, such as POST where it only asks.
    #[serde(default)]
    pub methods: Vec<String>,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            enabled: true,
            percentile: percentile(),
            budget_percent: budget(),
            least_wait: least_wait(),
            methods: Vec::new(),
        }
    }
}

/// What is too much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Requests at once; more get 503 with `Retry-After`.
    #[serde(default = "requests")]
    pub requests: usize,
    /// Calls at once to one leaf; what would be more is missing from the result.
    #[serde(default = "per_leaf")]
    pub per_leaf: usize,
    /// Bytes of a request's body.
    #[serde(default = "request_bytes")]
    pub request_bytes: usize,
    /// Bytes of a leaf's answer.
    #[serde(default = "answer_bytes")]
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: requests(),
            per_leaf: per_leaf(),
            request_bytes: request_bytes(),
            answer_bytes: answer_bytes(),
        }
    }
}

impl Config {
    /// Reads a configuration and judges it.
    ///
    /// # Errors
    /// With the field that cannot be used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serving::from_yaml(text)?;
        config.check()?;
        Ok(config)
    }

    /// Judges what the types alone do not.
    ///
    /// # Errors
    /// With the field that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: String, reason: &str| Err(ConfigError::field(field, reason));
        if self.leaves.is_empty() {
            return wrong("leaves".into(), "a root needs a leaf");
        }
        let mut names = BTreeSet::new();
        for (at, leaf) in self.leaves.iter().enumerate() {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if leaf.name.is_empty() || !leaf.name.chars().all(legal) {
                return wrong(format!("leaves[{at}].name"), "must be letters, digits, dash, dot and underscore");
            }
            if !names.insert(&leaf.name) {
                return wrong(format!("leaves[{at}].name"), "two leaves have this name");
            }
            if leaf.replicas.is_empty() {
                return wrong(format!("leaves[{at}].replicas"), "a leaf needs a replica");
            }
            for (number, replica) in leaf.replicas.iter().enumerate() {
                if split(replica).is_none() {
                    return wrong(format!("leaves[{at}].replicas[{number}]"), "must be HOST:PORT");
                }
            }
            if let Some(tls) = &leaf.tls {
                if tls.certificate.is_some() != tls.key.is_some() {
                    return wrong(format!("leaves[{at}].tls"), "has one of certificate and key without the other");
                }
                if leaf.server_name().is_none() {
                    return wrong(format!("leaves[{at}].tls.serverName"), "is neither a host name nor an address");
                }
            }
        }
        for (at, route) in self.routes.iter().enumerate() {
            route.check(&format!("routes[{at}]"))?;
        }
        if self.deadline.0.is_zero() {
            return wrong("deadline".into(), "must be longer than nothing");
        }
        if !(50.0..100.0).contains(&self.hedge.percentile) {
            return wrong("hedge.percentile".into(), "must be from 50 to under 100");
        }
        if !(0.0..=100.0).contains(&self.hedge.budget_percent) {
            return wrong("hedge.budgetPercent".into(), "must be from 0 to 100");
        }
        if self.minimum_leaves > self.leaves.len() {
            return wrong("minimumLeaves".into(), "is more than there are leaves");
        }
        for (field, limit) in [("requests", self.limits.requests), ("perLeaf", self.limits.per_leaf)] {
            if limit == 0 {
                return wrong(format!("limits.{field}"), "must be at least 1");
            }
        }
        Ok(())
    }

    /// The route with the longest prefix of a path.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<&Route> {
        let fits = |route: &&Route| path.starts_with(&route.path);
        self.routes.iter().filter(fits).max_by_key(|route| route.path.len())
    }
}

impl Leaf {
    /// The name that its certificate must be for.
    #[must_use]
    pub fn server_name(&self) -> Option<http_ends::ServerName<'static>> {
        let host = self.replicas.first().and_then(|replica| split(replica)).map(|(host, _)| host);
        let name = self.tls.as_ref().and_then(|tls| tls.server_name.as_deref()).or(host)?;
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        http_ends::ServerName::try_from(bare.to_owned()).ok()
    }
}

impl Route {
    fn check(&self, at: &str) -> Result<(), ConfigError> {
        let wrong = |field: &str, reason: &str| Err(ConfigError::field(format!("{at}.{field}"), reason));
        if !self.path.starts_with("/api/v1/") {
            return wrong("path", "must begin with /api/v1/");
        }
        if self.leaf_path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return wrong("leafPath", "must begin with /");
        }
        if let Spread::Terms { parameter, separator } = &self.spread
            && (parameter.is_empty() || separator.is_empty())
        {
            return wrong("spread", "parameter and separator must not be empty");
        }
        let pointers: Vec<(&str, &str)> = match &self.merge {
            Merge::Union { items, key } | Merge::Intersection { items, key } => {
                [("items", items.as_str())].into_iter().chain(key.iter().map(|key| ("key", key.as_str()))).collect()
            }
            Merge::TopK { items, k, by, key, .. } => {
                if *k == 0 {
                    return wrong("merge.k", "must be at least 1");
                }
                let given = [("items", items.as_str()), ("by", by.as_str())];
                given.into_iter().chain(key.iter().map(|key| ("key", key.as_str()))).collect()
            }
            Merge::Sum { value } => value.iter().map(|value| ("value", value.as_str())).collect(),
            Merge::Function { url, .. } => {
                let scheme = url.parse::<http::Uri>().ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
                if !scheme.is_some_and(|scheme| scheme == "http" || scheme == "https") {
                    return wrong("merge.url", "must be an http or https address");
                }
                Vec::new()
            }
        };
        for (field, pointer) in pointers {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return wrong(&format!("merge.{field}"), "must be a JSON pointer such as /items");
            }
        }
        Ok(())
    }
}

/// `host:port` taken apart.
pub(crate) fn split(replica: &str) -> Option<(&str, u16)> {
    let (host, port) = replica.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let legal = !host.is_empty() && !host.contains(['/', ' ', '@', '?', '#']);
    // An address of IP version 6 stands in brackets.
    (legal && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))).then_some((host, port))
}

fn listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8080))
}

fn routes() -> Vec<Route> {
    vec![Route { path: "/api/v1/".into(), leaf_path: None, spread: Spread::All, merge: Merge::default() }]
}

fn deadline() -> Span {
    Span::seconds(1)
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn space() -> String {
    " ".into()
}

fn items() -> String {
    "/items".into()
}

fn function_timeout() -> Span {
    Span::millis(100)
}

fn percentile() -> f64 {
    95.0
}

fn budget() -> f64 {
    5.0
}

fn least_wait() -> Span {
    Span::millis(1)
}

fn requests() -> usize {
    1024
}

fn per_leaf() -> usize {
    256
}

fn request_bytes() -> usize {
    1 << 20
}

fn answer_bytes() -> usize {
    8 << 20
}
