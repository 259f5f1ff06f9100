//! `/healthz`, `/livez`, `/readyz`: all checks, one of them, or all with `?verbose`.

use http::Response;

use crate::{body::Body, query::Query, respond::with_type, server::ApiServer};

/// What can be wrong.
const CHECKS: [&str; 3] = ["ping", "store", "watch-cache"];

/// The answer for one of the three endpoints; `None` if the path names no check.
pub(crate) async fn answer(server: &ApiServer, path: &str, query: &Query<'_>) -> Option<Response<Body>> {
    let mut steps = path.trim_matches('/').split('/');
    let endpoint = steps.next()?;
    let only = steps.next();
    if steps.next().is_some() || only.is_some_and(|check| !CHECKS.contains(&check)) {
        return None;
    }
    let mut lines = String::new();
    let mut failed = false;
    let excluded: Vec<&str> = query.all("exclude").collect();
    let (excluded, verbose) = (CHECKS.map(|check| excluded.contains(&check)), query.first("verbose").is_some());
    for (check, excluded) in CHECKS.into_iter().zip(excluded) {
        if only.is_some_and(|only| only != check) {
            continue;
        }
        if excluded {
            lines.push_str(&format!("[+]{check} excluded: ok\n"));
            continue;
        }
        match run(server, check).await {
            Ok(()) => lines.push_str(&format!("[+]{check} ok\n")),
            Err(_) => {
                failed = true;
                lines.push_str(&format!("[-]{check} failed: reason withheld\n"));
            }
        }
    }
    let text = match (failed, verbose) {
        (true, _) => format!("{lines}{endpoint} check failed\n"),
        (false, true) => format!("{lines}{endpoint} check passed\n"),
        (false, false) => "ok".to_owned(),
    };
    Some(with_type(if failed { 500 } else { 200 }, "text/plain; charset=utf-8", Body::from(text)))
}

async fn run(server: &ApiServer, check: &str) -> Result<(), String> {
    match check {
        "store" => server.store.get("/registry/health", None).await.map(drop).map_err(|e| e.to_string()),
        "watch-cache" => server.cache.reach(server.store.revision()).await.map_err(|e| format!("{e:?}")),
        _ => Ok(()),
    }
}
