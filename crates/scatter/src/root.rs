//! The root: a request goes out to the leaves, and what comes back by the deadline becomes one answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, uri::PathAndQuery};
use http_ends::{Client, Names};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    budget::Budget,
    config::{Config, Merge, Route},
    leaf::{Ask, Course, Failure, Leaf, Rules, Slot},
    merge::{Merged, merge, part},
    metrics::Metrics,
    plan::{PlanError, Question, questions},
    secure::Secured,
};

/// How much time a request has, in milliseconds; each level hands on what is left.
pub const TIMEOUT_HEADER: &str = "x-request-timeout-ms";
/// `true` on an answer from which leaves are missing.
pub const PARTIAL_HEADER: &str = "x-partial-result";
/// The names of the leaves that are missing.
pub const MISSING_HEADER: &str = "x-missing-leaves";

/// What each level keeps for itself of a request's time: a twentieth, 20 ms at most.
const RESERVE_MOST: Duration = Duration::from_millis(20);
/// The largest answer of a user's function, in bytes.
const FUNCTION_BYTES: usize = 64 << 20;

/// A request as the root takes it.
pub struct Incoming {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
    /// The trace in which the leaves' calls stand.
    pub trace: Option<HeaderValue>,
}

/// What the root says.
#[derive(Debug)]
pub struct Outgoing {
    /// 200, or why not.
    pub status: StatusCode,
    /// The result or the error.
    pub body: Value,
    /// The leaves that are missing.
    pub missing: Vec<String>,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
}

/// A root with its configuration. A new configuration makes a new root that takes over what is known of the leaves.
pub struct Root {
    config: Config,
    leaves: Vec<Arc<Leaf>>,
    rules: Rules,
    client: Client,
    secured: Secured,
    names: Names,
    metrics: Metrics,
    in_hand: Arc<AtomicUsize>,
    turn: AtomicUsize,
}

impl Root {
    /// A root by a configuration; leaves that `before` had with the same replicas are taken over.
    #[must_use]
    pub fn new(config: Config, before: Option<&Self>, client: Client, names: Names, metrics: Metrics) -> Self {
        let leaves = config
            .leaves
            .iter()
            .map(|leaf| {
                let same = |there: &&Arc<Leaf>| there.name == leaf.name && there.configured == leaf.replicas;
                let known = before.and_then(|before| before.leaves.iter().find(same));
                known.cloned().unwrap_or_else(|| Arc::new(Leaf::new(leaf)))
            })
            .collect();
        let rules = Rules {
            hedge: config.hedge.clone(),
            budget: Mutex::new(Budget::percent(config.hedge.budget_percent)),
            per_leaf: config.limits.per_leaf,
        };
        let in_hand = before.map_or_else(Arc::default, |before| before.in_hand.clone());
        let (secured, turn) = (Secured::default(), AtomicUsize::new(0));
        Self { config, leaves, rules, client, secured, names, metrics, in_hand, turn }
    }

    /// With clients for the leaves that are asked over TLS.
    #[must_use]
    pub fn with(self, secured: Secured) -> Self {
        Self { secured, ..self }
    }

    /// The clients for the leaves that are asked over TLS.
    #[must_use]
    pub fn secured(&self) -> &Secured {
        &self.secured
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Answers a request.
    pub async fn answer(&self, incoming: Incoming) -> Outgoing {
        let Some(_slot) = Slot::take(&self.in_hand, self.config.limits.requests) else {
            let mut refused = error(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", "too many requests are under way");
            refused.retry_after = Some(1);
            return refused;
        };
        let Some(route) = self.config.route(incoming.uri.path()) else {
            return error(StatusCode::NOT_FOUND, "NotFound", "no route has this path");
        };
        let time = match time_of(&incoming.headers, self.config.deadline.0) {
            Ok(time) => time,
            Err(reason) => return error(StatusCode::BAD_REQUEST, "BadRequest", reason),
        };
        let deadline = Instant::now() + time;
        let k = match k_of(&route.merge, &incoming.uri) {
            Ok(k) => k,
            Err(reason) => return error(StatusCode::BAD_REQUEST, "BadRequest", reason),
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let asked = match questions(route, &incoming.uri, self.leaves.len(), turn) {
            Ok(asked) => asked,
            Err(reason @ (PlanError::NoParameter(_) | PlanError::TooManyTerms(_) | PlanError::Path)) => {
                return error(StatusCode::BAD_REQUEST, "BadRequest", &reason.to_string());
            }
        };
        let gathered = self.gather(route, &incoming, &asked, deadline).await;
        self.conclude(route, k, gathered, deadline).await
    }

    /// How the leaves do, for people and programs.
    #[must_use]
    pub fn describe(&self) -> Value {
        let millis = |time: Option<Duration>| time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3);
        let leaves: Vec<Value> = self
            .leaves
            .iter()
            .map(|leaf| {
                json!({
                    "name": leaf.name,
                    "replicas": leaf.addresses(),
                    "inFlight": leaf.in_hand(),
                    "p50Ms": millis(leaf.percentile(50.0)),
                    "p95Ms": millis(leaf.percentile(95.0)),
                    "p99Ms": millis(leaf.percentile(99.0)),
                })
            })
            .collect();
        json!({"kind": "LeafList", "apiVersion": "v1", "items": leaves})
    }

    async fn gather(&self, route: &Route, incoming: &Incoming, asked: &[Question], deadline: Instant) -> Gathered {
        let function = if let Merge::Function { timeout, .. } = &route.merge { timeout.0 } else { Duration::ZERO };
        let now = Instant::now();
        let time = deadline.saturating_duration_since(now);
        let kept = (time / 20).min(RESERVE_MOST) + function;
        let mut leaf_time = time.saturating_sub(kept);
        if let Some(most) = self.config.leaf_deadline {
            leaf_time = leaf_time.min(most.0);
        }
        let leaf_deadline = now + leaf_time;
        let safe = [Method::GET, Method::HEAD].contains(&incoming.method)
            || self.config.hedge.methods.iter().any(|method| method.eq_ignore_ascii_case(incoming.method.as_str()));
        let headers = handed_on(&incoming.headers, incoming.trace.as_ref());
        let calls = asked.iter().enumerate().map(|(at, question)| {
            let headers = &headers;
            async move {
                let leaf = &self.leaves[question.leaf];
                let secured = self.secured.client(&leaf.name);
                let scheme = if secured.is_some() { "https" } else { "http" };
                let client = secured.unwrap_or(&self.client);
                let http = Http { client, scheme, most: self.config.limits.answer_bytes };
                if tokio::time::timeout_at(leaf_deadline, leaf.refresh(&self.names)).await.is_err() {
                    return (at, Err(Failure::Deadline(leaf_time)), Course::default(), None);
                }
                let call = Call {
                    method: incoming.method.clone(),
                    path: question.path.clone(),
                    authority: leaf.configured.first().cloned().unwrap_or_default(),
                    headers: headers.clone(),
                    body: incoming.body.clone(),
                };
                let (answer, course) = leaf.ask(&http, &call, safe, leaf_deadline, &self.rules).await;
                let missing_below = answer.as_ref().ok().and_then(|answer| missing_in(&leaf.name, answer));
                let answer = answer
                    .and_then(|answer| part(&route.merge, answer).map_err(|error| Failure::Broken(error.to_string())));
                (at, answer, course, missing_below)
            }
        });
        let mut calls: FuturesUnordered<_> = calls.collect();
        let mut answers: Vec<Option<_>> = asked.iter().map(|_| None).collect();
        while let Some((at, answer, course, below)) = calls.next().await {
            self.metrics.call(&self.leaves[asked[at].leaf].name, answer.as_ref().err(), course);
            answers[at] = Some((answer, below));
        }
        let mut gathered = Gathered { asked: asked.len(), ..Gathered::default() };
        for (question, answer) in asked.iter().zip(answers) {
            // Each call puts its answer in its place before the loop above ends.
            let Some((answer, below)) = answer else { continue };
            let name = &self.leaves[question.leaf].name;
            gathered.missing.extend(below.into_iter().flatten());
            match answer {
                Ok(part) => {
                    gathered.names.push(name.clone());
                    gathered.parts.push(part);
                }
                Err(failure) => {
                    let mut missing = json!({"name": name, "reason": failure.reason(), "message": failure.to_string()});
                    if let Some(term) = &question.term {
                        missing["term"] = json!(term);
                    }
                    gathered.missing.push(missing);
                    gathered.failures.push(failure);
                }
            }
        }
        gathered
    }

    async fn conclude(&self, route: &Route, k: Option<usize>, gathered: Gathered, deadline: Instant) -> Outgoing {
        let Gathered { asked, names, parts, missing, failures } = gathered;
        let needed = if self.config.minimum_leaves == 0 { asked } else { self.config.minimum_leaves.min(asked) };
        let answered = parts.len();
        let leaves = json!({"asked": asked, "answered": answered, "missing": missing});
        let missing_names: Vec<String> =
            missing.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        if answered < needed {
            let mut failed = failed(answered, needed, &failures);
            failed.body["leaves"] = leaves;
            failed.missing = missing_names;
            return failed;
        }
        let mut body = json!({"kind": "GatherResult", "apiVersion": "v1"});
        match merge(&route.merge, k, parts) {
            Merged::Items(items) => body["items"] = Value::Array(items),
            Merged::Sum(value) => body["value"] = value,
            Merged::Unmerged(answers) => {
                let answers: Vec<Value> =
                    names.iter().zip(answers).map(|(name, body)| json!({"name": name, "body": body})).collect();
                match self.function(&route.merge, &answers, &missing, deadline).await {
                    Ok(result) => body["result"] = result,
                    Err(message) => return error(StatusCode::BAD_GATEWAY, "FunctionFailed", &message),
                }
            }
        }
        body["partial"] = json!(!missing.is_empty());
        body["leaves"] = leaves;
        Outgoing { status: StatusCode::OK, body, missing: missing_names, retry_after: None }
    }

    async fn function(
        &self,
        merge: &Merge,
        answers: &[Value],
        missing: &[Value],
        deadline: Instant,
    ) -> Result<Value, String> {
        let Merge::Function { url, .. } = merge else { return Ok(Value::Null) };
        let question = json!({"kind": "MergeRequest", "apiVersion": "v1", "leaves": answers, "missing": missing});
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from(question.to_string()))
            .map_err(|error| error.to_string())?;
        let time = deadline.saturating_duration_since(Instant::now());
        let answer = self.client.send(request, FUNCTION_BYTES, time).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{url}: status {}", answer.status().as_u16()));
        }
        serde_json::from_slice(answer.body()).map_err(|error| format!("{url}: the answer is not JSON: {error}"))
    }
}

/// What came by the deadline.
#[derive(Default)]
struct Gathered {
    asked: usize,
    names: Vec<String>,
    parts: Vec<crate::merge::Part>,
    missing: Vec<Value>,
    failures: Vec<Failure>,
}

/// Asks by HTTP.
struct Http<'a> {
    client: &'a Client,
    scheme: &'static str,
    most: usize,
}

/// A call to any replica of one leaf.
struct Call {
    method: Method,
    path: PathAndQuery,
    authority: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask for Http<'_> {
    type Call = Call;

    async fn ask(&self, replica: SocketAddr, call: &Call, time: Duration) -> Result<Value, Failure> {
        let uri = Uri::builder()
            .scheme(self.scheme)
            .authority(replica.to_string())
            .path_and_query(call.path.clone())
            .build()
            .map_err(|error| Failure::Broken(error.to_string()))?;
        let mut request = Request::new(call.body.clone());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = call.headers.clone();
        if let Ok(host) = HeaderValue::from_str(&call.authority) {
            request.headers_mut().insert(header::HOST, host);
        }
        request.headers_mut().insert(TIMEOUT_HEADER, HeaderValue::from(millis(time)));
        let answer = self.client.send(request, self.most, time).await.map_err(|error| match error {
            http_ends::Error::Deadline(_, after) => Failure::Deadline(after),
            error if error.nothing_sent() => Failure::Connect(error.to_string()),
            error => Failure::Broken(error.to_string()),
        })?;
        let body = serde_json::from_slice(answer.body());
        if !answer.status().is_success() {
            return Err(Failure::Status(answer.status().as_u16(), body.unwrap_or_default()));
        }
        body.map_err(|error| Failure::Broken(format!("the answer is not JSON: {error}")))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a client asked for, at most what is configured.
fn time_of(headers: &HeaderMap, most: Duration) -> Result<Duration, &'static str> {
    let Some(asked) = headers.get(TIMEOUT_HEADER) else { return Ok(most) };
    let asked = asked.to_str().ok().and_then(|asked| asked.trim().parse().ok()).map(Duration::from_millis);
    asked.map(|asked| asked.min(most)).ok_or("X-Request-Timeout-Ms must be a number of milliseconds")
}

fn k_of(merge: &Merge, uri: &Uri) -> Result<Option<usize>, &'static str> {
    let Merge::TopK { k_parameter: Some(parameter), .. } = merge else { return Ok(None) };
    let query = uri.query().unwrap_or_default();
    let given = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == parameter);
    given.map(|(_, value)| value.parse().map_err(|_| "how many items are wanted must be a number")).transpose()
}

/// Headers for the leaves: all but those that belong to one connection or one message.
fn handed_on(headers: &HeaderMap, trace: Option<&HeaderValue>) -> HeaderMap {
    let mut on = headers.clone();
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let own = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "accept-encoding",
        "expect",
        // Each leaf's answer is needed whole: what a client has of the merged one is not what it has of a leaf's.
        "if-none-match",
        "if-modified-since",
        "range",
        TIMEOUT_HEADER,
    ];
    for name in own.into_iter().map(str::to_owned).chain(named) {
        on.remove(name.as_str());
    }
    if let Some(trace) = trace {
        on.insert("traceparent", trace.clone());
    }
    on
}

/// What is missing from the result of a leaf that is a root itself.
fn missing_in(leaf: &str, answer: &Value) -> Option<Vec<Value>> {
    if answer["kind"] != "GatherResult" {
        return None;
    }
    let below = answer.pointer("/leaves/missing")?.as_array()?;
    let named = below.iter().map(|missing| {
        let mut missing = missing.clone();
        let name = missing["name"].as_str().unwrap_or_default();
        missing["name"] = json!(format!("{leaf}/{name}"));
        missing
    });
    Some(named.collect())
}

fn failed(answered: usize, needed: usize, failures: &[Failure]) -> Outgoing {
    // Where all leaves agree that the request is wrong, so it is.
    if let Some(Failure::Status(status @ 400..=499, said)) = failures.first()
        && answered == 0
        && failures.iter().all(|failure| matches!(failure, Failure::Status(other, _) if other == status))
    {
        let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut refused = error(status, "Refused", "every leaf refused the request");
        refused.body["answer"] = said.clone();
        return refused;
    }
    let all = |wanted: fn(&Failure) -> bool| failures.iter().all(wanted);
    let (status, reason) = if all(|failure| matches!(failure, Failure::Deadline(_))) {
        (StatusCode::GATEWAY_TIMEOUT, "Deadline")
    } else if all(|failure| matches!(failure, Failure::Limit(_))) {
        (StatusCode::SERVICE_UNAVAILABLE, "Limit")
    } else {
        (StatusCode::BAD_GATEWAY, "TooFewLeaves")
    };
    let mut failed = error(status, reason, &format!("{answered} leaves answered, {needed} are needed"));
    failed.retry_after = (reason == "Limit").then_some(1);
    failed
}

fn error(status: StatusCode, reason: &str, message: &str) -> Outgoing {
    let body = json!({"kind": "Error", "apiVersion": "v1", "reason": reason, "message": message});
    Outgoing { status, body, missing: Vec::new(), retry_after: None }
}

/// A request that is refused before it goes anywhere.
#[must_use]
pub fn refused(status: StatusCode, message: &str) -> Outgoing {
    error(status, "BadRequest", message)
}
