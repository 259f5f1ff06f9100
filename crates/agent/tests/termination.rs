//! In which order the containers of a pod end.

use serde_json::json;

use crate::cluster::Node;

/// Two sidecars and a container, each with a preStop hook.
async fn three(node: &Node) -> String {
    let hook = |name: &str| json!({"preStop": {"exec": {"command": ["bye", name]}}});
    let sidecar =
        |name: &str| json!({"name": name, "image": "app:1", "restartPolicy": "Always", "lifecycle": hook(name)});
    let uid = node.declare("web", |pod| {
        pod["spec"]["containers"][0]["lifecycle"] = hook("c");
        pod["spec"]["initContainers"] = json!([sidecar("first"), sidecar("second")]);
    });
    node.ready("web").await;
    node.fake.ignore_term();
    format!("{uid}.0")
}

#[tokio::test]
async fn hooks_run_at_once_and_sidecars_are_stopped_in_turn_the_last_one_first() {
    let node = Node::start();
    let sandbox = three(&node).await;
    node.delete("web", 30);
    let did = |what: &'static str| move |f: &crate::fake_runtime::Fake| f.journal().iter().any(|line| line == what);
    for hook in ["exec c.0 bye c", "exec first.0 bye first", "exec second.0 bye second"] {
        node.fake.until(hook, did(hook)).await;
    }
    for (container, next) in [("c.0", "second.0"), ("second.0", "first.0")] {
        node.fake.until("the stop signal", |f| f.journal().contains(&format!("signal {container} 15"))).await;
        assert!(!node.fake.journal().contains(&format!("signal {next} 15")), "{next} waits for {container}");
        node.fake.exit(&sandbox, container, 0);
    }
    node.fake.until("the first sidecar's stop signal", did("signal first.0 15")).await;
    node.fake.exit(&sandbox, "first.0", 0);
    node.gone("web").await;
    assert!(!node.fake.journal().iter().any(|line| line.starts_with("signal") && line.ends_with(" 9")));
}

#[tokio::test]
async fn one_grace_period_is_for_the_whole_pod() {
    let node = Node::start();
    three(&node).await;
    node.delete("web", 1);
    node.gone("web").await;
    let journal = node.fake.journal();
    let at =
        |what: &str| journal.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what}: {journal:#?}"));
    let asked = at("signal first.0 15").max(at("signal second.0 15"));
    assert!(asked < at("signal c.0 9"), "sidecars are asked when the grace is over, not when all others are dead");
}
