//! Who has to go so that a more important pod finds its place.

use std::sync::Arc;

use scheduler::{Budget, PodInfo, Preemption, Snapshot, Victims, preempt, schedule};
use serde_json::{Value, json};

/// Nodes of 4 CPUs.
fn cluster(nodes: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for name in nodes {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
        snapshot.set_node(&serde_json::from_value(node).expect("a node"));
    }
    snapshot
}

fn pod(name: &str, priority: i32, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"startTime": "2026-01-01T00:00:00Z"}})
}

fn info(pod: &Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::new(&serde_json::from_value(pod.clone()).expect("a pod")))
}

fn place(snapshot: &mut Snapshot, node: &str, mut pod: Value) {
    pod["spec"]["nodeName"] = node.into();
    snapshot.set_pod(info(&pod));
}

fn budget(app: &str, allowed: i32) -> Budget {
    let budget = json!({"metadata": {"name": app, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}});
    Budget::new(&serde_json::from_value(budget).expect("a budget")).expect("it selects")
}

fn names(victims: &Victims) -> Vec<&str> {
    victims.pods.iter().map(|pod| &*pod.name).collect()
}

fn found(snapshot: &mut Snapshot, pod: &Value, budgets: &[Budget]) -> Victims {
    sought(&info(pod), snapshot, budgets, 1).expect("there are victims")
}

fn sought(pod: &PodInfo, snapshot: &mut Snapshot, budgets: &[Budget], turn: u64) -> Result<Victims, Preemption> {
    let refused = schedule(pod, snapshot, 1).expect_err("there is no room otherwise");
    preempt(pod, &refused, snapshot, budgets, turn)
}

#[test]
fn only_as_many_go_as_must_and_the_more_important_stay() {
    let mut snapshot = cluster(&["n"]);
    place(&mut snapshot, "n", pod("low", 1, "1"));
    place(&mut snapshot, "n", pod("lower", 0, "1"));
    place(&mut snapshot, "n", pod("equal", 10, "1"));
    let victims = found(&mut snapshot, &pod("new", 10, "2"), &[]);
    assert_eq!((&*victims.node, names(&victims)), ("n", vec!["lower"]));
    // Trying things out has changed nothing.
    assert_eq!(snapshot.node_of("low"), Some("n"));
    assert!(schedule(&info(&pod("fits", 0, "1")), &snapshot, 1).is_ok());
    let victims = found(&mut snapshot, &pod("new", 10, "3"), &[]);
    assert_eq!(names(&victims), ["low", "lower"]);
}

#[test]
fn the_node_with_the_least_harm_is_cleared() {
    let mut snapshot = cluster(&["dear", "crowd", "cheap"]);
    place(&mut snapshot, "dear", pod("important", 5, "4"));
    place(&mut snapshot, "crowd", pod("one", 1, "2"));
    place(&mut snapshot, "crowd", pod("two", 1, "2"));
    place(&mut snapshot, "cheap", pod("single", 1, "4"));
    let victims = found(&mut snapshot, &pod("new", 10, "4"), &[]);
    assert_eq!((&*victims.node, names(&victims)), ("cheap", vec!["single"]));
}

#[test]
fn of_equals_the_youngest_go() {
    let mut snapshot = cluster(&["old", "young"]);
    place(&mut snapshot, "old", pod("a", 1, "4"));
    let mut young = pod("b", 1, "4");
    young["status"]["startTime"] = "2026-06-01T00:00:00Z".into();
    place(&mut snapshot, "young", young);
    for turn in 0..4 {
        let victims = sought(&info(&pod("new", 10, "1")), &mut snapshot, &[], turn).expect("there are victims");
        assert_eq!(&*victims.node, "young");
    }
}

#[test]
fn budgets_are_kept_if_there_is_another_way() {
    let mut snapshot = cluster(&["kept", "free"]);
    place(&mut snapshot, "kept", pod("guarded", 1, "4"));
    place(&mut snapshot, "free", pod("loose", 5, "4"));
    let budgets = [budget("guarded", 0), budget("loose", 1)];
    assert_eq!(names(&found(&mut snapshot, &pod("new", 10, "4"), &budgets)), ["loose"]);
    snapshot.remove_node("free");
    // A budget is a wish: without another way it is broken.
    assert_eq!(names(&found(&mut snapshot, &pod("new", 10, "4"), &budgets)), ["guarded"]);
}

#[test]
fn where_it_would_not_help_nobody_goes() {
    let mut snapshot = cluster(&["n"]);
    place(&mut snapshot, "n", pod("low", 1, "1"));
    place(&mut snapshot, "n", pod("high", 20, "3"));
    let refused = sought(&info(&pod("new", 10, "2")), &mut snapshot, &[], 1).expect_err("the other stays");
    let Preemption::Unhelpful(reasons) = refused else { panic!("{refused:?}") };
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), [("Insufficient cpu".into(), 1)]);
    let mut polite = pod("new", 10, "1");
    polite["spec"]["preemptionPolicy"] = "Never".into();
    assert!(matches!(sought(&info(&polite), &mut snapshot, &[], 1), Err(Preemption::NotEligible(_))));
}

#[test]
fn anti_affinity_and_host_ports_are_cleared_too() {
    let mut snapshot = cluster(&["n"]);
    let mut low = pod("low", 1, "1");
    low["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    place(&mut snapshot, "n", low);
    let mut new = pod("new", 10, "1");
    new["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    assert_eq!(names(&found(&mut snapshot, &new, &[])), ["low"]);
    let mut apart = pod("new", 10, "1");
    apart["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "low"}}}]}});
    assert_eq!(names(&found(&mut snapshot, &apart, &[])), ["low"]);
}

#[test]
fn room_that_is_being_made_is_kept_from_the_less_important() {
    let mut snapshot = cluster(&["n"]);
    snapshot.nominate(info(&pod("awaited", 10, "3")), "n");
    let refused = schedule(&info(&pod("low", 1, "2")), &snapshot, 1).expect_err("the room is kept");
    assert!(refused.to_string().starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{refused}");
    assert!(schedule(&info(&pod("higher", 11, "2")), &snapshot, 1).is_ok());
    assert_eq!(&*schedule(&info(&pod("awaited", 10, "3")), &snapshot, 1).expect("its room").node, "n");
    snapshot.forget_nomination("awaited");
    assert!(schedule(&info(&pod("low", 1, "2")), &snapshot, 1).is_ok());
}

#[test]
fn while_its_victims_end_a_pod_pushes_out_nobody_else() {
    let mut snapshot = cluster(&["n"]);
    let mut going = pod("going", 1, "4");
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    going["status"]["conditions"] =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    place(&mut snapshot, "n", going);
    let new = info(&pod("new", 10, "4"));
    snapshot.nominate(new.clone(), "n");
    let refused = sought(&new, &mut snapshot, &[], 1).expect_err("it waits");
    assert_eq!(refused, Preemption::NotEligible("terminating pod on the nominated node"));
}
