//! Watches that end, versions that are forgotten, writes that lose, objects that others take away.

use patterns::{Settings, lease::Candidate};
use serde_json::{Value, json};

use crate::api::Api;

const SPLITS: &str = "/apis/patterns.hythe.dev/v1/requestsplits";
const SPLIT: &str = "/apis/patterns.hythe.dev/v1/namespaces/default/requestsplits/web";
const CONFIG: &str = "/api/v1/namespaces/default/configmaps/web-config";
const SERVICE: &str = "/api/v1/namespaces/default/services/web";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/home/leases/operator";

fn service(name: &str) -> (String, Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
    });
    (format!("/api/v1/namespaces/default/services/{name}"), object)
}

fn split(to: &str, generation: i64) -> Value {
    json!({
        "apiVersion": "patterns.hythe.dev/v1", "kind": "RequestSplit",
        "metadata": {"name": "web", "namespace": "default", "generation": generation},
        "spec": {"backends": [{"name": to}]},
    })
}

fn leads_to(api: &Api, backend: &str) -> bool {
    let text = api.get(CONFIG).and_then(|object| Some(object["data"]["config.yaml"].as_str()?.to_owned()));
    text.is_some_and(|text| text.contains(&format!("{backend}.default.svc.cluster.local:80")))
}

fn ready(api: &Api) -> String {
    let object = api.get(SPLIT).unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
    ready["reason"].as_str().unwrap_or_default().to_owned()
}

/// The controllers at work on a RequestSplit whose backend is `stable`.
async fn working() -> (Api, tokio::task::JoinHandle<()>) {
    let api = Api::new();
    for name in ["stable", "canary"] {
        let (path, object) = service(name);
        api.put(&path, object, true);
    }
    api.put(SPLIT, split("stable", 1), true);
    let work = tokio::spawn(patterns::run(api.client(), Settings::new("patterns:1")));
    api.until("the split's configuration", |api| leads_to(api, "stable") && ready(api) == "NoPodReady").await;
    (api, work)
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_has_missed_is_found_by_a_new_list_however_it_is_told_that_its_version_is_forgotten() {
    let (api, work) = working().await;
    // Within the watch, as upstream's API server says it.
    api.put(SPLIT, split("canary", 2), false);
    let before = api.lists(SPLITS);
    api.end_watches(SPLITS, true);
    api.until("the change that no watch told of", |api| leads_to(api, "canary")).await;
    assert_eq!(api.lists(SPLITS), before + 1, "one list is enough");
    // As the status of the answer, as a server may say it that looks before it answers.
    api.put(SPLIT, split("stable", 3), false);
    api.refuse_watch(SPLITS);
    api.end_watches(SPLITS, false);
    api.until("the second change", |api| leads_to(api, "stable")).await;
    // What is gone without a word is gone for those too who depend on it.
    api.remove("/api/v1/namespaces/default/services/stable", false);
    api.end_watches("/api/v1/services", true);
    api.until("the missing Service", |api| ready(api) == "BackendNotFound").await;
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_only_ends_goes_on_where_it_was() {
    let (api, work) = working().await;
    let before = api.lists(SPLITS);
    api.end_watches(SPLITS, false);
    // Once the new watch stands, what changes is told of as before.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    api.put(SPLIT, split("canary", 2), true);
    api.until("the change", |api| leads_to(api, "canary")).await;
    assert_eq!(api.lists(SPLITS), before, "nothing had to be listed anew");
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn writes_that_lose_against_others_are_tried_again_and_nobody_is_told_of_a_failure() {
    let (api, work) = working().await;
    for part in [CONFIG.to_owned(), DEPLOYMENT.to_owned(), format!("{SPLIT}/status")] {
        api.conflict(&part, 2);
    }
    let mut wanted = split("canary", 2);
    wanted["spec"]["tier"] = json!({"replicas": 3});
    api.put(SPLIT, wanted, true);
    api.until("everything is written", |api| {
        let replicas = api.get(DEPLOYMENT).map(|object| object["spec"]["replicas"].clone());
        let told = api.get(SPLIT).map(|object| object["status"]["observedGeneration"].clone());
        leads_to(api, "canary") && replicas == Some(json!(3)) && told == Some(json!(2))
    })
    .await;
    assert_eq!(api.conflicted(), 6);
    assert_eq!(ready(&api), "NoPodReady");
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn what_others_take_away_or_change_is_as_it_was() {
    let (api, work) = working().await;
    for path in [CONFIG, SERVICE, DEPLOYMENT] {
        let before = api.get(path).expect("it was made");
        api.remove(path, true);
        api.until(path, |api| api.get(path).is_some_and(|now| now.get("spec") == before.get("spec"))).await;
        let mut changed = api.get(path).expect("it is there again");
        match path {
            CONFIG => changed["data"]["config.yaml"] = "listeners: []".into(),
            SERVICE => changed["spec"]["ports"][0]["targetPort"] = 1.into(),
            _ => changed["spec"]["replicas"] = 0.into(),
        }
        api.put(path, changed, true);
        let same = |now: &Value| now.get("spec") == before.get("spec") && now.get("data") == before.get("data");
        api.until(path, |api| api.get(path).as_ref().is_some_and(same)).await;
    }
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_lease_to_another_waits() {
    let api = Api::new();
    let held = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "operator", "namespace": "home"},
        "spec": {"holderIdentity": "", "leaseDurationSeconds": 15},
    });
    api.put(LEASE, held, true);
    // It is free, but somebody else is faster.
    api.conflict(LEASE, 1);
    let candidate = Candidate::new(api.client(), "home", "operator", "one");
    let began = tokio::time::Instant::now();
    let leading = tokio::time::timeout(std::time::Duration::from_secs(60), candidate.lead()).await;
    assert!(leading.is_ok() && began.elapsed() >= std::time::Duration::from_secs(2), "it has tried again");
    assert_eq!(api.get(LEASE).unwrap()["spec"]["holderIdentity"], "one");
}

#[tokio::test(start_paused = true)]
async fn what_stands_before_a_tier_is_believed_where_it_is_named() {
    let (api, work) = working().await;
    let mut wanted = split("stable", 2);
    wanted["spec"]["trustedProxies"] = json!(["10.42.0.0/16"]);
    api.put(SPLIT, wanted.clone(), true);
    let text = |api: &Api| api.get(CONFIG).map(|object| object["data"]["config.yaml"].to_string()).unwrap_or_default();
    api.until("the networks", |api| text(api).contains(r"trusted_proxies:\n  - 10.42.0.0/16")).await;
    wanted["spec"]["trustedProxies"] = json!(["everywhere"]);
    wanted["metadata"]["generation"] = 3.into();
    api.put(SPLIT, wanted, true);
    api.until("the refusal", |api| ready(api) == "Invalid").await;
    assert!(text(&api).contains("10.42.0.0/16"), "what was in force goes on");
    work.abort();
}
