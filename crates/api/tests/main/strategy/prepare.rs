use api::strategy::pod;
use serde_json::{Value, json};

use super::{create, manifest, strategy_of, update};

#[test]
fn a_create_clears_the_status_and_starts_the_generation() {
    let table = [
        ("pod", json!({"phase": "Pending", "qosClass": "BestEffort"}), json!(1)),
        ("deployment", json!({}), json!(1)),
        ("replicaset", json!({"replicas": 0}), json!(1)),
        ("statefulset", json!({"replicas": 0, "availableReplicas": 0}), json!(1)),
        ("job", json!({}), json!(1)),
        ("service", json!({"loadBalancer": {}}), Value::Null),
        ("namespace", json!({"phase": "Active"}), Value::Null),
        ("claim", json!({"phase": "Pending"}), Value::Null),
        ("configmap", Value::Null, Value::Null),
    ];
    for (name, status, generation) in table {
        let mut object = manifest(name);
        if !status.is_null() {
            object["status"] = json!({"bogus": true, "phase": "Running", "replicas": 7});
        }
        object["metadata"]["generation"] = json!(9);
        let (object, _) = create(object);
        assert_eq!(object.get("status").unwrap_or(&Value::Null), &status, "{name}");
        assert_eq!(object["metadata"].get("generation").unwrap_or(&Value::Null), &generation, "{name}");
    }
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    for name in
        ["pod", "deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob", "ingress", "policy", "budget"]
    {
        let (old, _) = create(manifest(name));
        let (same, _) = update(old.clone(), &old);
        assert_eq!(same["metadata"]["generation"], 1, "{name}: nothing changed");
        let mut new = old.clone();
        new["metadata"]["labels"] = json!({"a": "b"});
        if name != "policy" {
            new["status"] = json!({"replicas": 3});
        }
        let (new, _) = update(new, &old);
        assert_eq!(new["metadata"]["generation"], 1, "{name}: a label is not the spec");
        assert_eq!(new["status"], old["status"], "{name}: the status stays");
        let mut new = old.clone();
        new["spec"]["changed"] = json!(1);
        let (new, _) = update(new, &old);
        assert_eq!(new["metadata"]["generation"], 2, "{name}: the spec changed");
    }
}

#[test]
fn an_update_of_the_status_keeps_the_spec() {
    let (old, _) = create(manifest("deployment"));
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(9);
    new["status"] = json!({"replicas": 1});
    new["metadata"]["labels"] = json!({"a": "b"});
    let (_, _, strategy) = strategy_of(&old);
    (strategy.prepare_status_update)(&mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["status"]["replicas"], 1);
    assert_eq!(new["metadata"].get("labels"), None, "a Deployment's labels stay");
}

#[test]
fn the_server_fills_in_what_only_it_knows() {
    let mut object = manifest("configmap");
    object["metadata"]["deletionTimestamp"] = json!("1999-01-01T00:00:00Z");
    object["metadata"]["uid"] = json!("mine");
    let (object, _) = create(object);
    assert_eq!(object["metadata"]["uid"], "0b9e1a52-0000-4000-8000-000000000001");
    assert_eq!(object["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
    assert_eq!(object["metadata"].get("deletionTimestamp"), None);
}

#[test]
fn a_job_gets_its_selector_and_labels_from_its_uid() {
    let (job, _) = create(manifest("job"));
    let uid = "0b9e1a52-0000-4000-8000-000000000001";
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({
            "job-name": "pi", "batch.kubernetes.io/job-name": "pi",
            "controller-uid": uid, "batch.kubernetes.io/controller-uid": uid,
        })
    );
    let mut manual = manifest("job");
    manual["spec"]["manualSelector"] = json!(true);
    let (manual, faults) = create(manual);
    assert_eq!(manual["spec"].get("selector"), None);
    assert_eq!(faults[0].field, "spec.selector");
}

#[test]
fn a_namespace_is_held_by_its_finalizer_and_labelled_with_its_name() {
    let (namespace, _) = create(manifest("namespace"));
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "team");
    let mut new = namespace.clone();
    new["spec"]["finalizers"] = json!([]);
    let (new, _) = update(new, &namespace);
    assert_eq!(new["spec"]["finalizers"], json!(["kubernetes"]));
}

#[test]
fn a_service_keeps_what_the_server_gave_out() {
    let mut service = manifest("service");
    service["spec"]["type"] = json!("NodePort");
    service["spec"]["ports"] = json!([{"port": 80, "nodePort": 30080}]);
    let (old, faults) = create(service);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(old["spec"]["clusterIPs"], json!(["10.43.0.9"]));
    assert_eq!(old["spec"]["ipFamilies"], json!(["IPv4"]));
    let mut new = manifest("service");
    new["metadata"] = old["metadata"].clone();
    new["spec"] = json!({"type": "NodePort", "ports": [{"port": 80}], "selector": {"app": "web"}});
    let (new, faults) = update(new, &old);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(new["spec"]["clusterIP"], "10.43.0.9");
    assert_eq!(new["spec"]["clusterIPs"], json!(["10.43.0.9"]));
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
    let mut back = old.clone();
    back["spec"]["type"] = json!("ClusterIP");
    let (back, faults) = update(back, &old);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(back["spec"]["ports"][0].get("nodePort"), None);
    assert_eq!(back["spec"].get("externalTrafficPolicy"), None);
    let mut external = old.clone();
    external["spec"]["type"] = json!("ExternalName");
    external["spec"]["externalName"] = json!("db.example");
    let (external, faults) = update(external, &old);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(external["spec"].get("clusterIP"), None);
}

#[test]
fn a_pod_is_deleted_with_the_grace_it_asks_for() {
    let pod = |spec: Value, status: Value| json!({"spec": spec, "status": status});
    let running = json!({"phase": "Running"});
    let table = [
        (pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 45}), running.clone()), None, 45),
        (pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 45}), running.clone()), Some(5), 5),
        (pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 45}), running.clone()), Some(0), 0),
        (pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 45}), running.clone()), Some(-1), 1),
        (pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": -3}), running.clone()), None, 1),
        (pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 0}), running.clone()), None, 0),
        (pod(json!({"terminationGracePeriodSeconds": 45}), json!({"phase": "Pending"})), None, 0),
        (pod(json!({"nodeName": "n", "terminationGracePeriodSeconds": 45}), json!({"phase": "Failed"})), Some(9), 0),
    ];
    for (pod, wish, seconds) in table {
        assert_eq!(pod::deletion_grace(&pod, wish), seconds, "{pod} with {wish:?}");
    }
}

#[test]
fn a_wished_node_port_must_be_in_the_range() {
    let mut service = manifest("service");
    service["spec"]["ports"] = json!([{"port": 80, "nodePort": 30080}, {"port": 81}, {"port": 82, "nodePort": 8080}]);
    let faults = api::strategy::service::node_port_faults(&service);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].field, "spec.ports[2].nodePort");
    assert_eq!(
        faults[0].message,
        "Invalid value: 8080: provided port is not in the valid range. The range of valid ports is 30000-32767"
    );
}
