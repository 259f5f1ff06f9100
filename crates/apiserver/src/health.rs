//! `/healthz`, `/livez`, `/readyz`: all checks, one of them, or all with `?verbose`. The names are those of upstream's
//! server, which monitors ask for one by one; behind each is what does the same work here.

use http::Response;

use crate::{body::Body, query::Query, respond::with_type, server::ApiServer};

/// What can be wrong.
#[derive(Clone, Copy)]
enum Check {
    /// Nothing, as long as there is an answer.
    Answer,
    /// The store can't be read.
    Store,
    /// The cache, of which watches and all readers live, does not follow the store.
    Cache,
    /// An object that every cluster has from the start is not there: storage, namespace, name.
    Object(&'static str, &'static str, &'static str),
    /// The server is ending.
    Shutdown,
}

/// Where a check is asked for.
const EVERYWHERE: &[&str] = &["healthz", "livez", "readyz"];
const READINESS: &[&str] = &["readyz"];

const CHECKS: &[(&str, &[&str], Check)] = &[
    ("ping", EVERYWHERE, Check::Answer),
    // Nothing of the log is held back that could fail to be written.
    ("log", EVERYWHERE, Check::Answer),
    ("etcd", EVERYWHERE, Check::Store),
    ("etcd-readiness", READINESS, Check::Store),
    ("informer-sync", READINESS, Check::Cache),
    ("poststarthook/start-apiserver-admission-initializer", EVERYWHERE, Check::Cache),
    ("poststarthook/generic-apiserver-start-informers", EVERYWHERE, Check::Cache),
    ("poststarthook/priority-and-fairness-config-consumer", EVERYWHERE, Check::Cache),
    ("poststarthook/priority-and-fairness-filter", EVERYWHERE, Check::Cache),
    ("poststarthook/storage-object-count-tracker-hook", EVERYWHERE, Check::Cache),
    ("poststarthook/start-apiextensions-informers", EVERYWHERE, Check::Cache),
    ("poststarthook/start-apiextensions-controllers", EVERYWHERE, Check::Cache),
    ("poststarthook/crd-informer-synced", EVERYWHERE, Check::Cache),
    ("poststarthook/start-system-namespaces-controller", EVERYWHERE, Check::Object("namespaces", "", "kube-system")),
    ("poststarthook/start-cluster-authentication-info-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/start-kube-apiserver-identity-lease-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/start-kube-apiserver-identity-lease-garbage-collector", EVERYWHERE, Check::Cache),
    ("poststarthook/start-legacy-token-tracking-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/start-service-ip-repair-controllers", EVERYWHERE, Check::Cache),
    ("poststarthook/rbac/bootstrap-roles", EVERYWHERE, Check::Cache),
    (
        "poststarthook/scheduling/bootstrap-system-priority-classes",
        EVERYWHERE,
        Check::Object("priorityclasses.scheduling.k8s.io", "", "system-cluster-critical"),
    ),
    ("poststarthook/priority-and-fairness-config-producer", EVERYWHERE, Check::Cache),
    ("poststarthook/bootstrap-controller", EVERYWHERE, Check::Object("services", "default", "kubernetes")),
    ("poststarthook/start-kubernetes-service-cidr-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/aggregator-reload-proxy-client-cert", EVERYWHERE, Check::Cache),
    ("poststarthook/start-kube-aggregator-informers", EVERYWHERE, Check::Cache),
    ("poststarthook/apiservice-status-local-available-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/apiservice-status-remote-available-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/apiservice-registration-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/apiservice-discovery-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/kube-apiserver-autoregistration", EVERYWHERE, Check::Cache),
    ("autoregister-completion", EVERYWHERE, Check::Cache),
    ("poststarthook/apiservice-openapi-controller", EVERYWHERE, Check::Cache),
    ("poststarthook/apiservice-openapiv3-controller", EVERYWHERE, Check::Cache),
    ("shutdown", READINESS, Check::Shutdown),
];

/// What is asked once a request, however many checks share it.
struct Findings {
    store: Result<(), String>,
    cache: Result<(), String>,
}

/// The answer for one of the three endpoints; `None` if the path names no check.
pub(crate) async fn answer(server: &ApiServer, path: &str, query: &Query<'_>) -> Option<Response<Body>> {
    let path = path.trim_matches('/');
    let (endpoint, only) = path.split_once('/').unwrap_or((path, ""));
    let endpoint = *EVERYWHERE.iter().find(|known| **known == endpoint)?;
    let mut checks = CHECKS.iter().filter(|(_, endpoints, _)| endpoints.contains(&endpoint));
    // `Query` is not shared between threads: what it says is taken before anything is waited for.
    let (mut excluded, verbose): (Vec<String>, bool) =
        (query.all("exclude").map(str::to_owned).collect(), query.first("verbose").is_some());
    if !only.is_empty() {
        let (name, _, check) = checks.find(|(name, ..)| *name == only)?;
        let outcome = run(server, &findings(server).await, *check);
        server.metrics.checked(name, endpoint, outcome.is_ok());
        return Some(match outcome {
            Ok(()) => plain(200, "ok".to_owned()),
            Err(why) => plain(500, format!("internal server error: {why}\n")),
        });
    }
    let findings = findings(server).await;
    let (mut lines, mut failed) = (String::new(), false);
    for (name, _, check) in checks {
        if let Some(at) = excluded.iter().position(|excluded| excluded == name) {
            excluded.remove(at);
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        let outcome = run(server, &findings, *check);
        server.metrics.checked(name, endpoint, outcome.is_ok());
        match outcome {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                failed = true;
                tracing::warn!(check = name, why, "a health check failed");
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if !excluded.is_empty() {
        excluded.sort();
        let quoted: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = quoted.join(",");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    Some(match (failed, verbose) {
        (true, _) => plain(500, format!("{lines}{endpoint} check failed\n")),
        (false, true) => plain(200, format!("{lines}{endpoint} check passed\n")),
        (false, false) => plain(200, "ok".to_owned()),
    })
}

/// Makes every check of every endpoint once, to be counted.
pub(crate) async fn round(server: &ApiServer) {
    let findings = findings(server).await;
    for (name, endpoints, check) in CHECKS {
        let passed = run(server, &findings, *check).is_ok();
        for endpoint in *endpoints {
            server.metrics.checked(name, endpoint, passed);
        }
    }
}

fn plain(code: u16, text: String) -> Response<Body> {
    with_type(code, "text/plain; charset=utf-8", Body::from(text))
}

async fn findings(server: &ApiServer) -> Findings {
    let reached = server.cache.reach(server.store.revision()).await;
    Findings { store: store(server).await, cache: reached.map(drop).map_err(|e| format!("{e:?}")) }
}

/// Whether the store can be read.
pub(crate) async fn store(server: &ApiServer) -> Result<(), String> {
    server.store.get("/registry/health", None).await.map(drop).map_err(|e| e.to_string())
}

fn run(server: &ApiServer, found: &Findings, check: Check) -> Result<(), String> {
    match check {
        Check::Answer => Ok(()),
        Check::Store => found.store.clone(),
        Check::Cache => found.cache.clone(),
        Check::Object(storage, namespace, name) => match server.cache.kind(storage).named(namespace, name) {
            Some(_) => Ok(()),
            None => Err(format!("{storage} {name} does not exist")),
        },
        // A store that is closed is the first thing that an ending server has.
        Check::Shutdown => found.store.clone().map_err(|_| "process is shutting down".to_owned()),
    }
}
