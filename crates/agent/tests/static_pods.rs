//! Pods that files declare.

use serde_json::{Value, json};

use crate::cluster::{Node, PODS, condition};

fn manifest(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 5\n  containers: [{{name: c, image: '{image}'}}]\n"
    )
}

fn start() -> Node {
    Node::start_as(|config| config.manifests = Some(config.data_dir.join("manifests")))
}

fn write(node: &Node, text: &str) {
    let dir = node.directory.path().join("manifests");
    std::fs::create_dir_all(&dir).expect("made");
    std::fs::write(dir.join("web.yaml"), text).expect("written");
}

fn hash(mirror: &Value) -> &str {
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_file_is_a_pod_that_the_api_mirrors() {
    let node = start();
    node.api.until("/api/v1/nodes/node", |n| n.map(|_| ())).await;
    write(&node, &manifest("app:1"));
    let mirror = node.ready("web-node").await;
    assert_eq!(mirror["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert_eq!(mirror["spec"]["nodeName"], "node");
    let first = hash(&mirror).to_owned();
    assert!(node.fake.spec(&format!("{first}.0"), "c.0").is_some());
    // Another text is another pod.
    node.fake.add_image("app:2");
    write(&node, &manifest("app:2"));
    let changed =
        node.pod("web-node", |p| (hash(p) != first && condition(p, "Ready") == "True").then(|| p.clone())).await;
    assert_eq!(changed["spec"]["containers"][0]["image"], "app:2");
    let journal = node.fake.journal();
    let at = |what: String| journal.iter().position(|l| *l == what);
    assert!(at(format!("destroy {first}.0")) < at(format!("sandbox {}.0", hash(&changed))), "{journal:?}");
    assert!(at(format!("destroy {first}.0")).is_some() && journal.contains(&"signal c.0 15".to_owned()));
    std::fs::remove_file(node.directory.path().join("manifests/web.yaml")).expect("removed");
    node.gone("web-node").await;
    node.fake.until("its sandbox goes", |f| f.sandbox_count() == 0).await;
}

#[tokio::test]
async fn a_mirror_is_only_a_mirror() {
    let node = start();
    write(&node, &manifest("app:1"));
    let mirror = node.ready("web-node").await;
    assert!(node.api.remove(&format!("{PODS}/web-node")));
    let again = node.ready("web-node").await;
    assert_ne!(again["metadata"]["uid"], mirror["metadata"]["uid"]);
    node.delete("web-node", 30);
    node.pod("web-node", |p| {
        (p["metadata"]["uid"] != again["metadata"]["uid"] && condition(p, "Ready") == "True").then_some(())
    })
    .await;
    let starts = node.fake.journal().iter().filter(|l| l.starts_with("start ")).count();
    assert_eq!(starts, 1, "what runs does not care");
}

#[tokio::test]
async fn a_static_pod_runs_on_under_the_next_agent_and_goes_with_its_file_meanwhile() {
    let node = start();
    write(&node, &manifest("app:1"));
    node.ready("web-node").await;
    let node = node.restart(|_, _| {}).await;
    node.declare("other", |_| {});
    node.ready("other").await;
    node.ready("web-node").await;
    assert_eq!(node.fake.journal().iter().filter(|l| *l == "start c.0").count(), 2, "web once, other once");
    let file = node.directory.path().join("manifests/web.yaml");
    let node = node.restart(move |_, _| std::fs::remove_file(file).expect("removed")).await;
    node.gone("web-node").await;
    node.fake.until("its sandbox goes", |f| f.sandbox_count() == 1).await;
}

#[tokio::test]
async fn a_shutdown_ends_critical_pods_last_and_says_why() {
    let node = start();
    write(&node, &manifest("app:1"));
    let uid = node.declare("web", |_| {});
    let critical = node.declare("critical", |pod| pod["spec"]["priority"] = json!(2_000_000_000));
    for pod in ["web", "critical", "web-node"] {
        node.ready(pod).await;
    }
    node.agent.shut_down().await;
    // The API knows already.
    let ended = node.api.get(&format!("{}/web", crate::cluster::PODS)).expect("the pod");
    assert_eq!(ended["status"]["phase"], "Failed");
    assert_eq!(node.event("Shutdown").await, "Shutdown manager detected shutdown event");
    assert!(node.directory.path().join("graceful_node_shutdown_state").exists());
    assert_eq!(ended["status"]["reason"], "Terminated");
    assert_eq!(ended["status"]["message"], "Pod was terminated in response to imminent node shutdown.");
    assert_eq!(condition(&ended, "DisruptionTarget"), "True");
    let journal = node.fake.journal();
    let at = |uid: &str| journal.iter().position(|l| *l == format!("destroy {uid}.0")).expect("it has ended");
    assert!(at(&uid) < at(&critical));
    node.declare("late", |_| {});
    let late = node.pod("late", |p| (p["status"]["phase"] == "Failed").then(|| p.clone())).await;
    assert_eq!(late["status"]["reason"], "NodeShutdown");
    let not_ready = |n: Option<&Value>| n.filter(|n| condition(n, "Ready") == "False").map(|_| ());
    node.api.until("/api/v1/nodes/node", not_ready).await;
    // The next start brings the static pod back.
    let node = node.restart(|_, _| {}).await;
    node.ready("web-node").await;
}
