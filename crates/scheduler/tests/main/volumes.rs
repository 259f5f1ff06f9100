//! Pods with claims go where their volumes can be had, and are bound once they are.

use scheduler::{Config, run};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fake_api::FakeApi;

struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn start(api: &FakeApi) -> Running {
    let client = api.client();
    Running(tokio::spawn(async move {
        run(client, Config::default()).await;
    }))
}

fn node(name: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1",
        "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}})
}

fn pod(name: &str, claim: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"kind": "StorageClass", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": name},
        "provisioner": provisioner, "volumeBindingMode": mode})
}

fn claim(name: &str, class: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "annotations": {}},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"}})
}

fn volume(name: &str, class: &str, node: &str) -> Value {
    json!({"kind": "PersistentVolume", "apiVersion": "v1", "metadata": {"name": name, "uid": name, "annotations": {}},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"},
            "local": {"path": "/x"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}},
        "status": {"phase": "Available"}})
}

fn bind(api: &FakeApi, name: &str, volume: &str) {
    let mut claim = api.get("PersistentVolumeClaim", name);
    claim["spec"]["volumeName"] = volume.into();
    claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = "yes".into();
    claim["status"]["phase"] = "Bound".into();
    api.put(claim);
}

async fn refusal(api: &FakeApi, pod: &str) -> String {
    let message = |api: &FakeApi| api.pod(pod)["status"]["conditions"][0]["message"].clone();
    api.until("a condition", |api| message(api).is_string()).await;
    message(api).as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_claim_that_waits_for_its_consumer_is_told_the_node_and_the_pod_is_bound_when_the_claim_is() {
    let api = FakeApi::default();
    api.put(node("n1"));
    api.put(class("local", "hythe.dev/local", "WaitForFirstConsumer"));
    api.put(claim("data", "local"));
    let _running = start(&api);
    api.put(pod("web", "data"));
    let selected = "volume.kubernetes.io/selected-node";
    let told = |api: &FakeApi| api.get("PersistentVolumeClaim", "data")["metadata"]["annotations"][selected] == "n1";
    api.until("the node's name on the claim", told).await;
    assert_eq!(api.bindings(), 0, "the volume is not there yet");
    api.put(volume("pv", "local", "n1"));
    bind(&api, "data", "pv");
    assert_eq!(api.until_bound("web").await, "n1");
}

#[tokio::test]
async fn a_provisioner_that_gives_the_node_back_has_the_pod_placed_anew() {
    let api = FakeApi::default();
    api.put(node("n1"));
    api.put(class("local", "hythe.dev/local", "WaitForFirstConsumer"));
    api.put(claim("data", "local"));
    let _running = start(&api);
    api.put(pod("web", "data"));
    let selected = "volume.kubernetes.io/selected-node";
    let told = |api: &FakeApi| api.get("PersistentVolumeClaim", "data")["metadata"]["annotations"][selected] == "n1";
    api.until("the node's name on the claim", told).await;
    let mut given_back = api.get("PersistentVolumeClaim", "data");
    given_back["metadata"]["annotations"] = json!({});
    api.put(given_back);
    let message = refusal(&api, "web").await;
    assert_eq!(
        message,
        "running PreBind plugin \"VolumeBinding\": binding volumes: provisioning failed for PVC \"data\""
    );
    api.until("another try", told).await;
}

#[tokio::test]
async fn a_free_volume_decides_the_node_and_goes_to_one_claim_only() {
    let api = FakeApi::default();
    api.put(node("n1"));
    api.put(node("n2"));
    api.put(class("by-hand", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"));
    api.put(claim("data", "by-hand"));
    api.put(claim("more", "by-hand"));
    api.put(volume("pv", "by-hand", "n2"));
    let _running = start(&api);
    api.put(pod("web", "data"));
    let named = |api: &FakeApi| api.get("PersistentVolume", "pv")["spec"]["claimRef"]["name"] == "data";
    api.until("the claim's name on the volume", named).await;
    api.put(pod("late", "more"));
    let message = refusal(&api, "late").await;
    assert!(
        message.starts_with("0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."),
        "{message}"
    );
    bind(&api, "data", "pv");
    assert_eq!(api.until_bound("web").await, "n2");
}

#[tokio::test]
async fn what_keeps_a_pod_from_all_nodes_is_said_in_upstreams_words() {
    let api = FakeApi::default();
    api.put(node("n1"));
    api.put(class("now", "example.com/x", "Immediate"));
    api.put(claim("slow", "now"));
    api.put(claim("far", "now"));
    api.put(volume("elsewhere", "now", "n9"));
    bind(&api, "far", "elsewhere");
    let _running = start(&api);
    for (name, claim, why) in [
        ("a", "none", "persistentvolumeclaim \"none\" not found"),
        ("b", "slow", "pod has unbound immediate PersistentVolumeClaims"),
        ("c", "far", "1 node(s) didn't match PersistentVolume's node affinity"),
    ] {
        api.put(pod(name, claim));
        let message = refusal(&api, name).await;
        let expected = format!(
            "0/1 nodes are available: {why}. no new claims to deallocate, preemption: 0/1 nodes are available: \
             1 Preemption is not helpful for scheduling."
        );
        assert_eq!(message, expected);
    }
    api.put(volume("here", "now", "n1"));
    bind(&api, "slow", "here");
    assert_eq!(api.until_bound("b").await, "n1");
}

#[tokio::test]
async fn a_volume_whose_labels_name_zones_is_had_there() {
    let api = FakeApi::default();
    let in_zone = |zone: &str| {
        let mut node = node("n1");
        node["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!(zone);
        node
    };
    api.put(in_zone("a"));
    api.put(claim("data", ""));
    let mut volume = volume("pv", "", "n1");
    volume["metadata"]["labels"] = json!({"failure-domain.beta.kubernetes.io/zone": "b__c"});
    api.put(volume);
    bind(&api, "data", "pv");
    let _running = start(&api);
    api.put(pod("web", "data"));
    let message = refusal(&api, "web").await;
    assert!(message.starts_with("0/1 nodes are available: 1 node(s) had no available volume zone."), "{message}");
    api.put(in_zone("c"));
    assert_eq!(api.until_bound("web").await, "n1");
}

#[tokio::test]
async fn a_claim_for_one_pod_is_not_given_to_a_second() {
    let api = FakeApi::default();
    api.put(node("n1"));
    let mut one = claim("one", "");
    one["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    api.put(one);
    api.put(volume("pv", "", "n1"));
    bind(&api, "one", "pv");
    let _running = start(&api);
    api.put(pod("first", "one"));
    api.until_bound("first").await;
    api.put(pod("second", "one"));
    let message = refusal(&api, "second").await;
    assert!(message.contains("ReadWriteOncePod access mode already in-use by another pod"), "{message}");
    api.delete("Pod", "first");
    assert_eq!(api.until_bound("second").await, "n1");
}

#[tokio::test]
async fn a_node_has_no_more_volumes_of_a_driver_than_that_can_have_there() {
    let api = FakeApi::default();
    api.put(node("n1"));
    api.put(json!({"kind": "CSINode", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": "n1"},
        "spec": {"drivers": [{"name": "disks.example.com", "nodeID": "n1", "allocatable": {"count": 1}}]}}));
    for name in ["one", "two"] {
        let mut volume = volume(name, "", "n1");
        volume["spec"]["local"] = Value::Null;
        volume["spec"]["csi"] = json!({"driver": "disks.example.com", "volumeHandle": name});
        api.put(volume);
        api.put(claim(name, ""));
        bind(&api, name, name);
    }
    let _running = start(&api);
    api.put(pod("first", "one"));
    api.until_bound("first").await;
    // The same volume again is no more.
    api.put(pod("beside", "one"));
    api.until_bound("beside").await;
    api.put(pod("second", "two"));
    let message = refusal(&api, "second").await;
    assert!(message.starts_with("0/1 nodes are available: 1 node(s) exceed max volume count."), "{message}");
    api.delete("Pod", "first");
    api.delete("Pod", "beside");
    assert_eq!(api.until_bound("second").await, "n1");
}

#[tokio::test]
async fn a_volume_is_made_only_where_its_driver_told_of_enough_room() {
    let api = FakeApi::default();
    ["n1", "n2"].into_iter().for_each(|name| api.put(node(name)));
    api.put(class("disks", "disks.example.com", "WaitForFirstConsumer"));
    api.put(claim("data", "disks"));
    api.put(json!({"kind": "CSIDriver", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": "disks.example.com"},
        "spec": {"storageCapacity": true}}));
    let capacity = |name: &str, node: &str, room: Value| {
        let mut told = json!({"kind": "CSIStorageCapacity", "apiVersion": "storage.k8s.io/v1",
            "metadata": {"name": name, "namespace": "default"}, "storageClassName": "disks",
            "nodeTopology": {"matchLabels": {"kubernetes.io/hostname": node}}});
        told.as_object_mut().expect("an object").extend(room.as_object().expect("an object").clone());
        told
    };
    api.put(capacity("one", "n1", json!({"capacity": "512Mi"})));
    api.put(capacity("two", "n2", json!({"capacity": "10Gi", "maximumVolumeSize": "100Mi"})));
    let _running = start(&api);
    api.put(pod("web", "data"));
    let message = refusal(&api, "web").await;
    assert!(message.starts_with("0/2 nodes are available: 2 node(s) did not have enough free storage."), "{message}");
    api.put(capacity("two", "n2", json!({"capacity": "10Gi"})));
    let selected = "volume.kubernetes.io/selected-node";
    api.until("a node to be chosen", |api| {
        api.get("PersistentVolumeClaim", "data")["metadata"]["annotations"][selected] == "n2"
    })
    .await;
}
