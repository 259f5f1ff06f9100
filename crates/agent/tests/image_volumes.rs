//! Volumes that show what is in an image.

use serde_json::json;

use crate::cluster::{Node, container};

#[tokio::test]
async fn a_container_reads_what_is_in_an_image() {
    let node = Node::start();
    node.fake.add_image("data:1");
    let uid = node.declare("web", |pod| {
        pod["spec"]["volumes"] = json!([
            {"name": "d", "image": {"reference": "data:1", "pullPolicy": "IfNotPresent"}},
            {"name": "unused", "image": {"reference": "gone:1", "pullPolicy": "IfNotPresent"}},
        ]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "d", "mountPath": "/data"}]);
    });
    node.ready("web").await;
    let spec = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container");
    let mount = spec.mounts.iter().find(|m| m.destination == "/data").expect("a mount");
    assert!(mount.source.ends_with("volumes/kubernetes.io~image/d"), "{mount:?}");
    assert_eq!(mount.options, ["rbind", "rprivate", "ro"]);
    let journal = node.fake.journal();
    assert!(journal.contains(&format!("show /roots/{uid}.d.volume at d of {uid}.0")), "{journal:?}");
    assert!(!journal.iter().any(|line| line.contains("gone:1")), "nobody mounts it: {journal:?}");
}

#[tokio::test]
async fn a_container_waits_for_the_image_that_it_reads() {
    let node = Node::start();
    node.declare("web", |pod| {
        pod["spec"]["volumes"] = json!([{"name": "d", "image": {"reference": "gone:1", "pullPolicy": "IfNotPresent"}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "d", "mountPath": "/data"}]);
    });
    let waiting = node
        .pod("web", |p| {
            let waiting = container(p)["state"]["waiting"].clone();
            (waiting["reason"] == "ImagePullBackOff").then_some(waiting)
        })
        .await;
    let message = waiting["message"].as_str().expect("a message").to_owned();
    assert!(message.starts_with("Back-off pulling image \"gone:1\""), "{message}");
    assert_eq!(node.event("Pulling").await, "Pulling image \"gone:1\"");
}
