//! What the admin port answers beside what all containers answer.

use std::sync::Arc;

use http::{Method, Request, StatusCode, header};
use parking_lot::RwLock;
use serde_json::{Value, json};
use serving::{Admin, Answer, text};

use crate::plan::Plan;
use crate::stats::Stats;

/// Adds `/v1/shards`, `/v1/hot-keys` and `/v1/where`.
pub fn add_routes(admin: &Admin, stats: &Arc<Stats>, plan: &Arc<RwLock<Plan>>) {
    let (counts, known) = (stats.clone(), plan.clone());
    admin.route(Method::GET, "/v1/shards", move |_| {
        let answer = json_answer(StatusCode::OK, &shards(&known.read(), &counts));
        async { answer }
    });
    let counts = stats.clone();
    admin.route(Method::GET, "/v1/hot-keys", move |_| {
        let answer = json_answer(StatusCode::OK, &hot_keys(&counts));
        async { answer }
    });
    let known = plan.clone();
    admin.route(Method::GET, "/v1/where", move |request: Request<_>| {
        let answer = whereabouts(&known.read(), request.uri().query().unwrap_or_default());
        async { answer }
    });
}

fn shards(plan: &Plan, stats: &Stats) -> Value {
    let counts = stats.of_shards(&[
        |stats| &stats.requests,
        |stats| &stats.responses,
        |stats| &stats.errors,
        |stats| &stats.connections,
        |stats| &stats.waiting,
    ]);
    let pools = plan.pools.iter().map(|pool| {
        let shards: Vec<Value> = pool
            .shards
            .iter()
            .map(|shard| {
                let count = counts.iter().find(|(name, of, _)| *name == pool.name && **of == *shard.name);
                let number = |at: usize| count.map_or(0, |count| count.2[at]);
                json!({
                    "name": shard.name,
                    "address": shard.primary.to_string(),
                    "replicas": shard.replicas.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "requests": number(0),
                    "responses": number(1),
                    "errors": number(2),
                    "connections": number(3),
                    "waiting": number(4),
                })
            })
            .collect();
        json!({
            "name": &*pool.name,
            "listen": pool.pool.listen.to_string(),
            "hash": pool.pool.hash.name(),
            "distribution": pool.pool.distribution.name(),
            "shards": shards,
        })
    });
    json!({ "pools": pools.collect::<Vec<_>>() })
}

fn hot_keys(stats: &Stats) -> Value {
    let pools = stats.hot_keys().into_iter().map(|(pool, sketch)| {
        let keys: Vec<Value> = sketch
            .top(32)
            .into_iter()
            .map(|(key, count)| json!({ "key": String::from_utf8_lossy(key), "requests": count.count, "error": count.error }))
            .collect();
        json!({ "name": &*pool, "keys": keys })
    });
    json!({ "pools": pools.collect::<Vec<_>>() })
}

fn whereabouts(plan: &Plan, query: &str) -> Answer {
    let parameter = |name: &str| {
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let Some(key) = parameter("key") else {
        return text(StatusCode::BAD_REQUEST, "say ?key=… and, where there are several pools, &pool=…\n");
    };
    let name = parameter("pool");
    let pool = match (&name, &plan.pools[..]) {
        (None, [pool]) => Some(pool),
        (None, _) => None,
        (Some(name), pools) => pools.iter().find(|pool| *pool.name == **name),
    };
    let Some(pool) = pool else { return text(StatusCode::NOT_FOUND, "there is no such pool\n") };
    match pool.owner(key.as_bytes()) {
        Some(shard) => json_answer(
            StatusCode::OK,
            &json!({ "pool": &*pool.name, "key": key, "shard": shard.name, "address": shard.primary.to_string() }),
        ),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "the pool has no shard for it now\n"),
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = text(status, format!("{value}\n"));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}
