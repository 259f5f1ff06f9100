//! Law 5: containers outlive the agent.

use serde_json::json;

use crate::cluster::{Node, PODS, container};

#[tokio::test]
async fn what_runs_goes_on_untouched_under_the_next_agent() {
    let node = Node::start();
    node.declare("web", |_| {});
    let before = node.ready("web").await;
    let starts = node.fake.journal();
    let node = node.restart(|_, _| {}).await;
    node.declare("other", |_| {});
    node.ready("other").await;
    let after = node.ready("web").await;
    assert_eq!(container(&before), container(&after));
    assert_eq!(before["status"]["podIP"], after["status"]["podIP"]);
    let again: Vec<_> = node
        .fake
        .journal()
        .into_iter()
        .skip(starts.len())
        .filter(|l| l.contains("web") || l.starts_with("destroy"))
        .collect();
    assert_eq!(again, [] as [String; 0]);
}

#[tokio::test]
async fn files_follow_the_api_under_the_next_agent_too() {
    let node = Node::start();
    let maps = "/api/v1/namespaces/default/configmaps";
    node.api.put(maps, json!({"metadata": {"name": "settings"}, "data": {"key": "old"}}));
    let uid = node.declare("web", |pod| {
        pod["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "settings"}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    });
    node.ready("web").await;
    let node = node
        .restart(|api, _| drop(api.put(maps, json!({"metadata": {"name": "settings"}, "data": {"key": "new"}}))))
        .await;
    let spec = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container");
    let file =
        spec.mounts.iter().find(|m| m.destination == "/v").map(|m| format!("{}/key", m.source)).expect("a mount");
    let wait = async {
        while std::fs::read_to_string(&file).unwrap_or_default() != "new" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("the file follows");
}

#[tokio::test]
async fn an_exit_while_no_agent_ran_is_noted_and_answered() {
    let node = Node::start();
    let uid = node.declare("web", |_| {});
    node.ready("web").await;
    let node = node.restart(|_, fake| fake.exit(&format!("{uid}.0"), "c.0", 7)).await;
    let pod = node
        .pod("web", |p| (container(p)["restartCount"] == 1 && container(p)["ready"] == true).then(|| p.clone()))
        .await;
    assert_eq!(container(&pod)["lastState"]["terminated"]["exitCode"], 7);
}

#[tokio::test]
async fn a_pod_deleted_while_no_agent_ran_is_torn_down() {
    let node = Node::start();
    node.declare("web", |_| {});
    node.ready("web").await;
    let node = node.restart(|api, _| assert!(api.remove(&format!("{PODS}/web")))).await;
    node.fake.until("its sandbox and network go", |f| f.sandbox_count() == 0 && f.attached() == 0).await;
}

#[tokio::test]
async fn after_a_power_loss_everything_declared_runs_again() {
    let node = Node::start();
    node.declare("web", |_| {});
    node.declare("job", |pod| pod["spec"]["restartPolicy"] = json!("Never"));
    node.ready("web").await;
    node.ready("job").await;
    let node = node.restart(|_, fake| fake.lose_everything()).await;
    let web = node
        .pod("web", |p| (container(p)["restartCount"] == 1 && container(p)["ready"] == true).then(|| p.clone()))
        .await;
    let last = &container(&web)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(255), &json!("Unknown")));
    node.pod("job", |p| (p["status"]["phase"] == "Failed").then_some(())).await;
}
