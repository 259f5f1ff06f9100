//! `metrics.k8s.io`, fed by an agent that counts.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use apiserver::{Config, NodeConnector, NodeStream};
use async_trait::async_trait;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::client::Api;

/// An agent whose clock goes on by two seconds each time it is asked, in which a container spends one second of CPU.
struct Agent {
    uid: Arc<parking_lot::Mutex<String>>,
    asked: Arc<AtomicU64>,
}

#[async_trait]
impl NodeConnector for Agent {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn NodeStream>> {
        if node != "n" {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such node"));
        }
        let (near, far) = tokio::io::duplex(4096);
        let (uid, asked) = (self.uid.lock().clone(), self.asked.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                assert_eq!(request.uri().path(), "/stats/summary");
                let times = asked.fetch_add(1, Ordering::SeqCst);
                let at = Timestamp::now() + SignedDuration::from_secs(2 * times as i64);
                let summary = json!({
                    "node": {"cpu": {"usageCoreNanoSeconds": times * 3_000_000_000},
                        "memory": {"time": at.to_string(), "workingSetBytes": 1 << 30}},
                    "pods": [{"podRef": {"uid": uid}, "containers": [
                        {"name": "c", "cpu": {"usageCoreNanoSeconds": times * 1_000_000_000}, "memory": {"workingSetBytes": 1 << 20}},
                    ]}],
                });
                async move {
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(bytes::Bytes::from(summary.to_string()))))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
        });
        Ok(Box::new(near))
    }
}

/// Thousandths of a core, to the nearest ten: the agent's clock runs on beside its steps.
fn cores(usage: &Value) -> i64 {
    let cpu: api::quantity::Quantity = usage["cpu"].as_str().and_then(|text| text.parse().ok()).expect("an amount");
    (cpu.milli_value() + 5) / 10 * 10
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_of_nodes_and_pods_is_measured_when_asked_for() {
    let (uid, asked) = (Arc::<parking_lot::Mutex<String>>::default(), Arc::<AtomicU64>::default());
    let nodes = Arc::new(Agent { uid: uid.clone(), asked: asked.clone() });
    let api = Api::with(Config { nodes, ..Config::default() }).await;
    api.made("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    for node in ["n", "gone"] {
        api.made("/api/v1/nodes", &json!({"metadata": {"name": node, "labels": {"zone": node}}})).await;
    }
    let pods = "/api/v1/namespaces/default/pods";
    for (name, node) in [("p", "n"), ("lost", "gone")] {
        let pod = json!({"metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}});
        let made = api.made(pods, &pod).await;
        if name == "p" {
            *uid.lock() = made["metadata"]["uid"].as_str().unwrap_or("").to_owned();
        }
        api.patch("merge", &format!("{pods}/{name}/status"), &json!({"status": {"phase": "Running"}})).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nobody is asked before someone wants to know");
    let (code, list) = api.get("/apis/metrics.k8s.io/v1beta1/nodes").await;
    assert_eq!((code, &list["kind"]), (200, &json!("NodeMetricsList")), "{list}");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "a node that does not answer is left out: {list}");
    let node = &list["items"][0];
    assert_eq!((&node["metadata"]["name"], &node["usage"]["memory"]), (&json!("n"), &json!("1Gi")));
    assert!((900..=1500).contains(&cores(&node["usage"])), "{node}");
    let base = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
    let (code, list) = api.get(&format!("{base}?labelSelector=app%3Dp")).await;
    assert_eq!(code, 200, "{list}");
    let pod = &list["items"][0];
    assert_eq!((&pod["metadata"]["name"], &pod["containers"][0]["name"]), (&json!("p"), &json!("c")));
    assert_eq!(pod["containers"][0]["usage"]["memory"], "1Mi");
    assert!((300..=500).contains(&cores(&pod["containers"][0]["usage"])), "{pod}");
    assert!(pod["window"].as_str().is_some_and(|window| window.ends_with('s')));
    assert_eq!(api.get(&format!("{base}?labelSelector=app%3Dother")).await.1["items"], json!([]));
    let (code, one) = api.get(&format!("{base}/p")).await;
    assert_eq!((code, &one["kind"]), (200, &json!("PodMetrics")));
    let (code, status) = api.get(&format!("{base}/lost")).await;
    assert_eq!((code, &status["message"]), (404, &json!("podmetrics.metrics.k8s.io \"default/lost\" not found")));
    assert_eq!(api.post(base, &json!({})).await.0, 405);
    let (_, groups) = api.get("/apis").await;
    let has = |group: &Value| group["name"] == "metrics.k8s.io" && group["preferredVersion"]["version"] == "v1beta1";
    assert!(groups["groups"].as_array().is_some_and(|all| all.iter().any(has)));
}
