//! Containers that come while a pod runs.

use serde_json::{Value, json};

use crate::cluster::{Node, PODS};

fn debugger(pod: &Value) -> &Value {
    &pod["status"]["ephemeralContainerStatuses"][0]
}

fn add(node: &Node, container: Value) {
    node.api.edit(&format!("{PODS}/web"), |pod| pod["spec"]["ephemeralContainers"] = json!([container]));
}

#[tokio::test]
async fn an_ephemeral_container_joins_the_processes_of_its_target_and_is_never_started_again() {
    let node = Node::start();
    let uid = node.declare("web", |_| {});
    node.ready("web").await;
    add(&node, json!({"name": "debugger", "image": "app:1", "targetContainerName": "c", "stdin": true, "tty": true}));
    let pod = node.pod("web", |p| (!debugger(p)["state"]["running"].is_null()).then(|| p.clone())).await;
    let status = debugger(&pod);
    assert_eq!(
        (&status["name"], &status["ready"], &status["restartCount"]),
        (&json!("debugger"), &json!(false), &json!(0))
    );
    assert_eq!(pod["status"]["containerStatuses"].as_array().map(Vec::len), Some(1));
    let spec = node.fake.spec(&format!("{uid}.0"), "debugger.0").expect("a container");
    assert_eq!((spec.pid_of.as_deref(), spec.stdin, spec.tty), (Some("c.0"), true, true));
    assert_eq!(node.event("Started").await, "Container started");
    node.fake.exit(&format!("{uid}.0"), "debugger.0", 3);
    let pod = node.pod("web", |p| (!debugger(p)["state"]["terminated"].is_null()).then(|| p.clone())).await;
    assert_eq!(
        (&debugger(&pod)["state"]["terminated"]["exitCode"], &pod["status"]["phase"]),
        (&json!(3), &json!("Running"))
    );
    let node = node.restart(|_, _| {}).await;
    node.declare("other", |_| {});
    node.ready("other").await;
    let starts = node.fake.journal().iter().filter(|l| l.starts_with("start debugger")).count();
    assert_eq!((starts, debugger(&node.ready("web").await)["restartCount"].clone()), (1, json!(0)));
}

#[tokio::test]
async fn an_ephemeral_container_whose_target_does_not_run_waits_and_says_why() {
    let node = Node::start();
    node.declare("web", |_| {});
    node.ready("web").await;
    add(&node, json!({"name": "debugger", "image": "app:1", "targetContainerName": "none"}));
    let waiting = |p: &Value| {
        let waiting = &debugger(p)["state"]["waiting"];
        (waiting["reason"] == "CreateContainerConfigError").then(|| waiting["message"].clone())
    };
    assert_eq!(node.pod("web", waiting).await, "unable to find target container none");
}

#[tokio::test]
async fn a_pod_that_is_deleted_takes_its_ephemeral_containers_along() {
    let node = Node::start();
    node.declare("web", |_| {});
    node.ready("web").await;
    add(&node, json!({"name": "debugger", "image": "app:1"}));
    node.pod("web", |p| (!debugger(p)["state"]["running"].is_null()).then_some(())).await;
    node.delete("web", 5);
    node.gone("web").await;
    node.fake.until("its sandbox goes", |f| f.sandbox_count() == 0).await;
    assert!(node.fake.journal().contains(&"signal debugger.0 15".to_owned()));
}
