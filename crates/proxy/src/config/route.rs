//! Routes: which requests, what is done to them, and where they go.

use serde::{Deserialize, Serialize};

use super::{Duration, is_default};

/// Requests that match go to one of the targets, through the filters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// For metrics and logs; its place in the list if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Host names: `example.com`, `*.example.com` (any number of labels in place of the star). Empty: every host. The most specific host
    /// is chosen before anything else is looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// A star stands for exactly one label, as Ingress has it.
    #[serde(skip_serializing_if = "is_default")]
    pub one_label: bool,
    /// Any of these must hold. Empty: every request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// Pools by weight. Empty: filters answer, or 503.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Target>,
    /// What keeps a client with the same target: without it each request is drawn anew.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive", skip_serializing_if = "Option::is_none")]
    pub stick: Option<Key>,
    /// Edits, redirects, rewrites, mirrors, fixed answers.
    #[serde(skip_serializing_if = "is_default")]
    pub filters: Filters,
    /// Name of the cache before the targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Names of the rate limits a request must pass, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<String>,
    /// From the request's headers to the response's, all attempts together; beyond it 504. Where the request's body comes in pieces, from
    /// its end: an upload may take as long as it goes on. Long polls need a long one. `0s`: none.
    pub timeout: Duration,
    /// Trying again.
    #[serde(skip_serializing_if = "is_default")]
    pub retry: Retry,
    /// The client's `Host` goes on unchanged (default), or the endpoint's own address does.
    pub preserve_host: bool,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: String::new(),
            hosts: Vec::new(),
            one_label: false,
            matches: Vec::new(),
            to: Vec::new(),
            stick: None,
            filters: Filters::default(),
            cache: None,
            rate_limits: Vec::new(),
            timeout: Duration::seconds(60),
            retry: Retry::default(),
            preserve_host: true,
        }
    }
}

/// All of these must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// The path, without its query. None: every path.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive", skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// One of these methods. Empty: every method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Header fields, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, all of them; names are case-sensitive, the first of equal names counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<HeaderMatch>,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole elements of the path: `/api` is a prefix of `/api` and `/api/x`, not of `/apis` (Ingress and Gateway API).
    Prefix(String),
    /// A regular expression over the whole path (`^…$` is understood).
    Regex(String),
}

/// How a header field or query parameter is compared: `name` with one of `exact`, `regex`, or neither for "is there".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderMatch {
    /// The name; of headers in any case.
    pub name: String,
    /// The whole value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// A regular expression over the whole value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// One of a route's pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The pool's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Its share among the route's targets; 0: none.
    pub weight: u32,
    /// Its requests are answered with this status instead of going to a pool: a backend that is not there keeps its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Edits of requests that go here, after the route's own.
    #[serde(skip_serializing_if = "is_default")]
    pub request_headers: HeaderEdit,
    /// Edits of responses from here, after the route's own.
    #[serde(skip_serializing_if = "is_default")]
    pub response_headers: HeaderEdit,
    /// Its requests are answered with a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Host or path of its requests, instead of what the route makes of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
}

impl Default for Target {
    fn default() -> Self {
        Self {
            pool: String::new(),
            weight: 1,
            status: None,
            request_headers: HeaderEdit::default(),
            response_headers: HeaderEdit::default(),
            redirect: None,
            rewrite: None,
        }
    }
}

/// What of a request decides: for stickiness, consistent hashing and rate limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// The client's address (behind trusted proxies).
    Address,
    /// This header field.
    Header(String),
    /// This cookie.
    Cookie(String),
    /// Path and query.
    Uri,
    /// The path alone.
    Path,
    /// This query parameter.
    Query(String),
}

/// What is done to requests and responses of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// Edits of the request.
    #[serde(skip_serializing_if = "is_default")]
    pub request_headers: HeaderEdit,
    /// Edits of the response.
    #[serde(skip_serializing_if = "is_default")]
    pub response_headers: HeaderEdit,
    /// Answered with a redirect; nothing is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Host or path are changed before forwarding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Copies of requests go to these pools; their answers are thrown away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Answered here; nothing is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Which pages of other origins may read the answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// Cross-origin resource sharing (the Fetch standard, 3.2). Preflight requests are answered here; what endpoints say about it is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// `https://app.example.com`, `https://*.example.com:8443` (any number of labels in place of the star), or `*`: every origin.
    pub origins: Vec<String>,
    /// Requests may carry cookies, certificates and `Authorization`.
    pub credentials: bool,
    /// Methods beside GET, HEAD and POST; `*`: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Header fields that requests may carry; `*`: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Header fields of answers that pages may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// How long browsers keep the answer to a preflight request.
    pub max_age: Duration,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            credentials: false,
            methods: Vec::new(),
            headers: Vec::new(),
            expose: Vec::new(),
            max_age: Duration::seconds(5),
        }
    }
}

/// Edits of header fields, in this order: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderEdit {
    /// Replaced, or added where missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValue>,
    /// Added beside what is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderValue>,
    /// Taken out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A header field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderValue {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where a redirect leads; what is not said stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port; without it the scheme's own if the scheme is given, else the listener's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive", skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// 301, 302 (if not said), 303, 307 or 308.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// What is forwarded instead of what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path.
    #[serde(with = "serde_yaml_ng::with::singleton_map_recursive", skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

/// A new path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathRewrite {
    /// This one; the query stays.
    Full(String),
    /// The prefix that the route matched becomes this.
    Prefix(String),
}

/// A copy of requests for another pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mirror {
    /// The pool's name.
    pub pool: String,
    /// How many of a hundred requests are copied, drawn at random.
    pub percent: f64,
    /// Keep statuses and latencies of both sides for the report at `/v1/comparison` of the admin port.
    pub compare: bool,
}

impl Default for Mirror {
    fn default() -> Self {
        Self { pool: String::new(), percent: 100.0, compare: false }
    }
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Respond {
    /// The status.
    pub status: u16,
    /// The body.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Header fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderValue>,
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 200, body: String::new(), headers: Vec::new() }
    }
}

/// Trying again, at another endpoint where there is one. Only where it is safe: the method is idempotent or no byte of
/// the request was sent, the body is still in hand, and nothing of a response has gone to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often, after the first attempt; 0: never.
    pub attempts: u32,
    /// How many other endpoints are tried where no connection could be made, if that is more: nobody's work is done twice
    /// by that. As HAProxy does it.
    pub connects: u32,
    /// Statuses that count as failure of an attempt, such as `[502, 503]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// How long one attempt's response may take to begin; only then is a slow one tried elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, connects: 3, statuses: Vec::new(), attempt_timeout: None }
    }
}
