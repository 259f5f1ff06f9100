//! `RestartAllContainers`: one end, and all start anew.

use serde_json::{Value, json};

use crate::cluster::{Node, condition, container};

fn with_rules(pod: &mut Value) {
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["initContainers"] = json!([{"name": "i", "image": "app:1"}]);
    pod["spec"]["containers"] = json!([
        {"name": "c", "image": "app:1", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}]},
        {"name": "d", "image": "app:1", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}]},
    ]);
}

#[tokio::test]
async fn the_end_of_one_container_starts_all_anew_in_the_same_sandbox_once() {
    let node = Node::start();
    let uid = node.declare("web", with_rules);
    let sandbox = format!("{uid}.0");
    let init = |p: &Value| p["status"]["initContainerStatuses"][0].clone();
    node.pod("web", |p| init(p)["state"].get("running").map(|_| ())).await;
    node.fake.exit(&sandbox, "i.0", 0);
    node.ready("web").await;
    node.fake.exit(&sandbox, "c.0", 42);
    let again = node
        .pod("web", |p| (init(p)["restartCount"] == 1 && init(p)["state"].get("running").is_some()).then(|| p.clone()))
        .await;
    assert_eq!(again["status"]["phase"], "Running");
    let states: Vec<Value> = (0..2).map(|i| again["status"]["containerStatuses"][i].clone()).collect();
    for state in &states {
        assert_eq!(state["state"]["waiting"]["reason"], "RestartingAllContainers", "{state}");
    }
    assert_eq!(container(&again)["lastState"]["terminated"]["exitCode"], 42);
    assert_eq!(states[1]["lastState"]["terminated"]["reason"], "RestartingAllContainers");
    assert_eq!(condition(&again, "AllContainersRestarting"), "False");
    node.fake.exit(&sandbox, "i.1", 0);
    let ready = node.ready("web").await;
    let counts: Vec<&Value> =
        ready["status"]["containerStatuses"].as_array().expect("a list").iter().map(|c| &c["restartCount"]).collect();
    assert_eq!(counts, [&json!(1), &json!(1)], "what was ended for it does not cause it again");
    assert!(!node.fake.journal().iter().any(|line| line == &format!("destroy {sandbox}")));
}
