//! The decision, filter by filter.

use std::{collections::BTreeMap, sync::Arc};

use scheduler::{PodInfo, Snapshot, preempt, schedule};
use serde_json::{Value, json};

#[derive(Default)]
struct Cluster {
    snapshot: Snapshot,
}

impl Cluster {
    /// Nodes of 4 CPUs, 8 GiB and 10 pods; `extra` is merged into each.
    fn node(mut self, name: &str, labels: Value, extra: Value) -> Self {
        let mut node = json!({"metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "10Gi", "pods": "10"}}});
        merge(&mut node, extra);
        node["metadata"]["labels"]["kubernetes.io/hostname"] = name.into();
        self.snapshot.set_node(&serde_json::from_value(node).expect("a node"));
        self
    }

    fn plain(self, names: &[&str]) -> Self {
        names.iter().fold(self, |cluster, name| cluster.node(name, json!({}), json!({})))
    }

    fn pod(mut self, name: &str, node: &str, labels: Value, spec: Value) -> Self {
        let mut pod = pod(name, labels, spec);
        pod["spec"]["nodeName"] = node.into();
        self.snapshot.set_pod(Arc::new(info(pod)));
        self
    }

    /// The nodes that can be chosen, each with how often it was.
    fn chosen(&self, pod: &Value) -> BTreeMap<String, usize> {
        let mut chosen = BTreeMap::new();
        for turn in 0..60 {
            let placement = schedule(&info(pod.clone()), &self.snapshot, turn).expect("there is a node");
            *chosen.entry(placement.node.to_string()).or_default() += 1;
        }
        chosen
    }

    fn only(&self, pod: &Value) -> Vec<String> {
        self.chosen(pod).into_keys().collect()
    }

    fn why(&self, pod: &Value) -> String {
        let mut refused = schedule(&info(pod.clone()), &self.snapshot, 1).expect_err("no node will do");
        let mut snapshot = self.snapshot.clone();
        refused.preemption = preempt(&info(pod.clone()), &refused, &mut snapshot, &[], 1).expect_err("no way");
        refused.to_string()
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn pod(name: &str, labels: Value, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels},
        "spec": {"containers": [{"name": "c"}]}});
    merge(&mut pod["spec"], spec);
    pod
}

fn info(pod: Value) -> PodInfo {
    PodInfo::new(&serde_json::from_value(pod).expect("a pod"))
}

fn asks(resources: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": resources}}]})
}

fn incoming(spec: Value) -> Value {
    pod("incoming", json!({"app": "web"}), spec)
}

const HOST: &str = "kubernetes.io/hostname";

#[test]
fn each_nodes_reason_is_counted_and_sorted_as_text() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
    let cluster = Cluster::default()
        .node("a", json!({"disk": "ssd"}), json!({}))
        .node("b", json!({"disk": "ssd"}), tainted.clone())
        .node("c", json!({"disk": "ssd"}), tainted)
        .node("d", json!({}), json!({}))
        .node("e", json!({"disk": "ssd"}), json!({"spec": {"unschedulable": true}}));
    let mut spec = asks(json!({"cpu": "5", "memory": "9Gi", "example.com/gpu": "1"}));
    spec["nodeSelector"] = json!({"disk": "ssd"});
    assert_eq!(
        cluster.why(&incoming(spec)),
        "0/5 nodes are available: 1 Insufficient cpu, 1 Insufficient example.com/gpu, 1 Insufficient memory, \
         1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were unschedulable, \
         2 node(s) had untolerated taint(s). no new claims to deallocate, \
         preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling."
    );
}

#[test]
fn preemption_is_said_to_be_hopeless_only_where_it_is() {
    let cluster = Cluster::default()
        .plain(&["full", "small"])
        .pod("p", "full", json!({}), asks(json!({"cpu": "3"})))
        .pod("q", "small", json!({}), asks(json!({"cpu": "3"})));
    let fits_if_empty = incoming(asks(json!({"cpu": "2"})));
    assert!(cluster.why(&fits_if_empty).ends_with("2 No preemption victims found for incoming pod."));
    let mut never = fits_if_empty;
    never["spec"]["preemptionPolicy"] = "Never".into();
    assert!(cluster.why(&never).ends_with("preemption: not eligible due to preemptionPolicy=Never."));
}

#[test]
fn resources_fit_exactly_or_not_at_all() {
    let cluster =
        Cluster::default().plain(&["n"]).pod("p", "n", json!({}), asks(json!({"cpu": "1500m", "memory": "1Gi"})));
    assert_eq!(
        cluster.only(&incoming(asks(json!({"cpu": "2500m", "memory": "7Gi", "ephemeral-storage": "10Gi"})))),
        ["n"]
    );
    for (asks_for, why) in [
        (json!({"cpu": "2501m"}), "1 Insufficient cpu."),
        (json!({"memory": "7169Mi"}), "1 Insufficient memory."),
        (json!({"ephemeral-storage": "11Gi"}), "1 Insufficient ephemeral-storage."),
        (json!({"hugepages-2Mi": "2Mi"}), "1 Insufficient hugepages-2Mi."),
    ] {
        let message = cluster.why(&incoming(asks(asks_for)));
        assert!(message.starts_with(&format!("0/1 nodes are available: {why}")), "{message}");
    }
}

#[test]
fn a_node_takes_no_more_pods_than_it_allows() {
    let full =
        (0..10).fold(Cluster::default().plain(&["n"]), |c, n| c.pod(&format!("p{n}"), "n", json!({}), json!({})));
    assert!(full.why(&incoming(json!({}))).starts_with("0/1 nodes are available: 1 Too many pods."));
}

#[test]
fn a_finished_pod_takes_no_room() {
    let mut cluster = Cluster::default().plain(&["n"]).pod("p", "n", json!({}), asks(json!({"cpu": "4"})));
    let mut done = pod("p", json!({}), asks(json!({"cpu": "4"})));
    done["spec"]["nodeName"] = "n".into();
    done["status"] = json!({"phase": "Succeeded"});
    cluster.snapshot.set_pod(Arc::new(info(done)));
    assert_eq!(cluster.only(&incoming(asks(json!({"cpu": "4"})))), ["n"]);
}

#[test]
fn taints_keep_away_who_does_not_tolerate_them() {
    let taint = |effect| json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": effect}]}});
    let cluster = Cluster::default()
        .node("no-schedule", json!({}), taint("NoSchedule"))
        .node("no-execute", json!({}), taint("NoExecute"))
        .node(
            "cordoned",
            json!({}),
            json!({"spec": {"unschedulable": true, "taints": [
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}}),
        );
    let tolerate = |t: Value| incoming(json!({"tolerations": [t]}));
    assert_eq!(cluster.only(&tolerate(json!({"operator": "Exists"}))).len(), 3);
    assert_eq!(cluster.only(&tolerate(json!({"key": "k", "value": "v", "effect": "NoSchedule"}))), ["no-schedule"]);
    assert_eq!(cluster.only(&tolerate(json!({"key": "k", "operator": "Exists"}))), ["no-execute", "no-schedule"]);
    let cordoned = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"});
    assert_eq!(cluster.only(&tolerate(cordoned)), ["cordoned"]);
    // A preference is not a wall, but it decides between equals.
    let cluster = Cluster::default().node("soft", json!({}), taint("PreferNoSchedule")).plain(&["free"]);
    assert_eq!(cluster.only(&incoming(json!({}))), ["free"]);
    assert_eq!(
        Cluster::default().node("soft", json!({}), taint("PreferNoSchedule")).only(&incoming(json!({}))),
        ["soft"]
    );
}

#[test]
fn selectors_and_affinity_choose_by_label_and_by_name() {
    let cluster = Cluster::default()
        .node("a", json!({"disk": "ssd", "cores": "8"}), json!({}))
        .node("b", json!({"disk": "hdd", "cores": "16"}), json!({}))
        .node("c", json!({"cores": "4"}), json!({}));
    let required = |terms: Value| {
        incoming(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}))
    };
    let expression =
        |key: &str, operator: &str, values: Value| json!({"key": key, "operator": operator, "values": values});
    assert_eq!(cluster.only(&incoming(json!({"nodeSelector": {"disk": "ssd"}}))), ["a"]);
    let cases = [
        (json!([{"matchExpressions": [expression("cores", "Gt", json!(["7"]))]}]), vec!["a", "b"]),
        (
            json!([{"matchExpressions": [expression("disk", "Exists", json!([])), expression("cores", "Lt", json!(["9"]))]}]),
            vec!["a"],
        ),
        (
            json!([{"matchExpressions": [expression("disk", "In", json!(["hdd"]))]}, {"matchExpressions": [expression("disk", "DoesNotExist", json!([]))]}]),
            vec!["b", "c"],
        ),
        (json!([{"matchFields": [expression("metadata.name", "In", json!(["c"]))]}]), vec!["c"]),
        (json!([{"matchFields": [expression("metadata.name", "NotIn", json!(["c"]))]}]), vec!["a", "b"]),
    ];
    for (terms, want) in cases {
        assert_eq!(cluster.only(&required(terms.clone())), want, "{terms}");
    }
    let nowhere = cluster.why(&required(json!([{"matchFields": [expression("metadata.name", "In", json!(["x"]))]}])));
    assert!(
        nowhere.starts_with("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
        "{nowhere}"
    );
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "preference": {"matchExpressions": [expression("disk", "Exists", json!([]))]}},
        {"weight": 5, "preference": {"matchExpressions": [expression("disk", "In", json!(["hdd"]))]}}]}}});
    assert_eq!(cluster.only(&incoming(preferred)), ["b"]);
}

#[test]
fn host_ports_conflict_by_port_protocol_and_address() {
    let port = |ip: &str, protocol: &str, port: u16| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": ip, "protocol": protocol}]}]});
    let cluster = Cluster::default().plain(&["n"]).pod("p", "n", json!({}), port("10.0.0.1", "TCP", 80));
    for (ip, protocol, number, fits) in [
        ("", "TCP", 80, false),
        ("10.0.0.1", "TCP", 80, false),
        ("10.0.0.2", "TCP", 80, true),
        ("", "UDP", 80, true),
        ("", "TCP", 81, true),
    ] {
        let pod = incoming(port(ip, protocol, number));
        if fits {
            assert_eq!(cluster.only(&pod), ["n"], "{ip} {protocol} {number}");
        } else {
            let why = cluster.why(&pod);
            assert!(why.contains("1 node(s) didn't have free ports for the requested pod ports."), "{why}");
        }
    }
}

#[test]
fn a_disk_is_not_had_by_two_pods_of_a_node_that_exclude_each_other() {
    let holds = |volume: Value| json!({"volumes": [{"name": "v"}, volume]});
    let gce = |name: &str, read_only: bool| json!({"name": "d", "gcePersistentDisk": {"pdName": name, "readOnly": read_only}});
    let ebs = |id: &str, read_only: bool| json!({"name": "d", "awsElasticBlockStore": {"volumeID": id, "readOnly": read_only}});
    let iscsi = |iqn: &str, read_only: bool| json!({"name": "d", "iscsi": {"iqn": iqn, "lun": 0, "targetPortal": "p", "readOnly": read_only}});
    let rbd = |monitors: &[&str], image: &str, read_only: bool| json!({"name": "d", "rbd": {"monitors": monitors, "image": image, "readOnly": read_only}});
    for (there, wanted, fits) in [
        (gce("a", false), gce("a", true), false),
        (gce("a", true), gce("a", true), true),
        (gce("a", false), gce("b", false), true),
        (gce("a", false), ebs("a", false), true),
        (ebs("a", true), ebs("a", true), false),
        (iscsi("i", false), iscsi("i", false), false),
        (iscsi("i", true), iscsi("i", true), true),
        (rbd(&["m", "n"], "x", false), rbd(&["n", "o"], "x", true), false),
        (rbd(&["m"], "x", false), rbd(&["o"], "x", false), true),
        (rbd(&["m"], "x", false), rbd(&["m"], "y", false), true),
    ] {
        let cluster = Cluster::default().plain(&["n"]).pod("p", "n", json!({}), holds(there.clone()));
        let pod = incoming(holds(wanted.clone()));
        if fits {
            assert_eq!(cluster.only(&pod), ["n"], "{there} {wanted}");
        } else {
            let why = cluster.why(&pod);
            assert!(why.contains("1 node(s) had no available disk."), "{why}");
        }
    }
}

#[test]
fn spread_constraints_bound_the_skew() {
    let zone = |z: &str| json!({"zone": z});
    let web = json!({"app": "web"});
    let cluster = Cluster::default()
        .node("a1", zone("a"), json!({}))
        .node("a2", zone("a"), json!({}))
        .node("b1", zone("b"), json!({}))
        .node("nowhere", json!({}), json!({}))
        .pod("p", "a1", web.clone(), json!({}))
        .pod("q", "nowhere", web.clone(), json!({}));
    let constraint = |skew: u32| {
        json!({"topologySpreadConstraints": [{"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    assert_eq!(cluster.only(&incoming(constraint(1))), ["b1"]);
    assert!(cluster.only(&incoming(constraint(2))).len() >= 2);
    let mut only_a = constraint(1);
    only_a["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Ignore".into();
    only_a["nodeSelector"] = zone("a");
    let why = cluster.why(&incoming(only_a.clone()));
    assert!(why.contains("2 node(s) didn't match pod topology spread constraints"), "{why}");
    // Counting only where the pod may go, zone b is no domain.
    only_a["topologySpreadConstraints"][0]["nodeAffinityPolicy"] = "Honor".into();
    assert!(cluster.only(&incoming(only_a)).iter().all(|n| n.starts_with('a')));
    let mut domains = constraint(1);
    domains["topologySpreadConstraints"][0]["minDomains"] = 3.into();
    assert_eq!(cluster.only(&incoming(domains)), ["b1"], "with too few domains the least counts as none");
    let lonely = Cluster::default().node("nowhere", json!({}), json!({}));
    let why = lonely.why(&incoming(constraint(1)));
    assert!(why.contains("1 node(s) didn't match pod topology spread constraints (missing required label)."), "{why}");
}

#[test]
fn affinity_joins_and_anti_affinity_parts_pods() {
    let near = |kind: &str, app: &str, key: &str| {
        json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]}}})
    };
    let cluster = Cluster::default().plain(&["a", "b"]).pod("db", "a", json!({"app": "db"}), json!({})).pod(
        "shy",
        "b",
        json!({"app": "shy"}),
        near("podAntiAffinity", "loud", HOST),
    );
    assert_eq!(cluster.only(&incoming(near("podAffinity", "db", HOST))), ["a"]);
    assert_eq!(cluster.only(&incoming(near("podAntiAffinity", "db", HOST))), ["b"]);
    assert_eq!(cluster.only(&pod("loud", json!({"app": "loud"}), json!({}))), ["a"]);
    let why = cluster.why(&incoming(near("podAffinity", "absent", HOST)));
    assert!(why.contains("2 node(s) didn't match pod affinity rules."), "{why}");
    // The first of a group that wants its own company may start anywhere.
    assert_eq!(cluster.only(&incoming(near("podAffinity", "web", HOST))).len(), 2);
    let mut elsewhere = incoming(near("podAffinity", "db", HOST));
    elsewhere["metadata"]["namespace"] = "other".into();
    assert!(cluster.why(&elsewhere).contains("2 node(s) didn't match pod affinity rules."));
    elsewhere["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["namespaceSelector"] =
        json!({});
    assert_eq!(cluster.only(&elsewhere), ["a"]);
    let one = Cluster::default().plain(&["a"]).pod("shy", "a", json!({}), near("podAntiAffinity", "web", HOST));
    let why = one.why(&incoming(json!({})));
    assert!(why.contains("1 node(s) didn't satisfy existing pods anti-affinity rules."), "{why}");
    let one = Cluster::default().plain(&["a"]).pod("x", "a", json!({"app": "x"}), json!({}));
    let why = one.why(&incoming(near("podAntiAffinity", "x", HOST)));
    assert!(why.contains("1 node(s) didn't match pod anti-affinity rules."), "{why}");
}

#[test]
fn the_emptier_node_is_chosen_and_pods_of_one_controller_keep_apart() {
    let cluster = Cluster::default().plain(&["busy", "idle"]).pod(
        "p",
        "busy",
        json!({}),
        asks(json!({"cpu": "2", "memory": "4Gi"})),
    );
    assert_eq!(cluster.only(&incoming(asks(json!({"cpu": "1", "memory": "2Gi"})))), ["idle"]);
    let owner = json!([{"apiVersion": "v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]);
    let mut sibling = pod("s", json!({}), json!({}));
    sibling["metadata"]["ownerReferences"] = owner.clone();
    sibling["spec"]["nodeName"] = "a".into();
    let mut cluster = Cluster::default().plain(&["a", "b"]).pod("stranger", "b", json!({}), json!({}));
    cluster.snapshot.set_pod(Arc::new(info(sibling)));
    let mut next = incoming(json!({}));
    next["metadata"]["ownerReferences"] = owner;
    assert_eq!(cluster.only(&next), ["b"]);
}

#[test]
fn of_nodes_equally_full_the_one_that_the_pod_makes_more_even_is_chosen() {
    // With the pod both are as uneven, but one was even before.
    let cluster = Cluster::default()
        .plain(&["even", "uneven"])
        .pod("a", "even", json!({}), asks(json!({"cpu": "1", "memory": "2Gi"})))
        .pod("b", "uneven", json!({}), asks(json!({"cpu": "0", "memory": "4Gi"})));
    assert_eq!(cluster.only(&incoming(asks(json!({"cpu": "1"})))), ["uneven"]);
}

#[test]
fn equals_are_chosen_alike_often_and_the_same_turn_chooses_the_same() {
    let cluster = Cluster::default().plain(&["a", "b", "c"]);
    let pod = incoming(json!({}));
    let chosen = cluster.chosen(&pod);
    assert!(chosen.len() == 3 && chosen.values().all(|n| *n > 8), "{chosen:?}");
    for turn in 0..20 {
        assert_eq!(
            schedule(&info(pod.clone()), &cluster.snapshot, turn),
            schedule(&info(pod.clone()), &cluster.snapshot, turn)
        );
    }
}

#[test]
fn in_a_large_cluster_a_sample_is_enough_but_a_rare_node_is_found() {
    let mut cluster = Cluster::default();
    for n in 0..1000 {
        let labels = if n == 777 { json!({"rare": "yes"}) } else { json!({}) };
        cluster = cluster.node(&format!("n{n}"), labels, json!({}));
    }
    let placement = schedule(&info(incoming(json!({}))), &cluster.snapshot, 3).expect("there is room");
    assert_eq!(placement.feasible, 420);
    let rare =
        schedule(&info(incoming(json!({"nodeSelector": {"rare": "yes"}}))), &cluster.snapshot, 3).expect("it is there");
    assert_eq!((&*rare.node, rare.evaluated), ("n777", 1));
}
