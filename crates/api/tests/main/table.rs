//! Server-side tables.

use api::{
    catalogue,
    resource::Resource,
    table::{Header, IncludeObject, columns, human_duration, render},
};
use jiff::Timestamp;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-10T12:00:00Z".parse().unwrap()
}

fn resource(group: &str, kind: &str) -> &'static Resource {
    let mut found = catalogue::all().iter().filter(|r| r.group == group && r.kind == kind);
    found.next().unwrap_or_else(|| panic!("no {group}/{kind}"))
}

fn cells(group: &str, kind: &str, object: &Value) -> Vec<Value> {
    columns(group, kind).iter().map(|c| (c.cell)(object, now())).collect()
}

fn names(group: &str, kind: &str) -> Vec<&'static str> {
    columns(group, kind).iter().map(|c| c.name).collect()
}

fn narrow(group: &str, kind: &str) -> Vec<&'static str> {
    columns(group, kind).iter().filter(|c| c.priority == 0).map(|c| c.name).collect()
}

#[test]
fn durations_are_shortened_as_upstream_does() {
    const M: i64 = 60;
    const H: i64 = 60 * M;
    const D: i64 = 24 * H;
    const Y: i64 = 365 * D;
    for (seconds, text) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (1, "1s"),
        (70, "70s"),
        (119, "119s"),
        (2 * M, "2m"),
        (2 * M + 30, "2m30s"),
        (9 * M + 59, "9m59s"),
        (10 * M + 30, "10m"),
        (179 * M, "179m"),
        (3 * H, "3h"),
        (3 * H + 10 * M, "3h10m"),
        (8 * H + 30 * M, "8h"),
        (47 * H, "47h"),
        (2 * D, "2d"),
        (2 * D + 3 * H, "2d3h"),
        (5 * D + 23 * H, "5d23h"),
        (7 * D + 23 * H, "7d23h"),
        (8 * D + 5 * H, "8d"),
        (2 * Y - 1, "729d"),
        (2 * Y, "2y"),
        (2 * Y + 10 * D, "2y10d"),
        (8 * Y + 10 * D, "8y"),
    ] {
        assert_eq!(human_duration(seconds), text, "{seconds}");
    }
}

fn pod(spec: Value, status: Value) -> Value {
    json!({
        "metadata": {"name": "p", "creationTimestamp": "2026-01-10T11:55:00Z"},
        "spec": spec,
        "status": status,
    })
}

/// Ready, Status and Restarts.
fn summary(pod: &Value) -> [String; 3] {
    let cells = cells("", "Pod", pod);
    [1, 2, 3].map(|i| cells[i].as_str().unwrap().to_owned())
}

#[test]
fn a_pods_state_is_summed_up_in_a_word() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let with_init = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let running = json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let waiting = |reason: &str| json!({"name": "a", "restartCount": 0, "state": {"waiting": {"reason": reason}}});
    let cases = [
        (two.clone(), json!({"phase": "Pending"}), ["0/2", "Pending", "0"]),
        (two.clone(), json!({"phase": "Running", "containerStatuses": [running, running]}), ["2/2", "Running", "0"]),
        (
            two.clone(),
            json!({"phase": "Running", "containerStatuses": [running, waiting("CrashLoopBackOff")]}),
            ["1/2", "CrashLoopBackOff", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "Pending", "containerStatuses": [waiting("ErrImagePull"), waiting("ContainerCreating")]}),
            ["0/2", "ErrImagePull", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "Succeeded", "containerStatuses": [
                {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            ]}),
            ["0/2", "Completed", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
            ["0/2", "ExitCode:3", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            ["0/2", "Signal:9", "0"],
        ),
        (
            two.clone(),
            json!({"phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}, running]}),
            ["1/2", "NotReady", "0"],
        ),
        (two.clone(), json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted", "0"]),
        (
            two.clone(),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated", "status": "False"}]}),
            ["0/2", "SchedulingGated", "0"],
        ),
        (
            with_init.clone(),
            json!({"phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"running": {}}}, {"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}}],
                "containerStatuses": [waiting("PodInitializing")]}),
            ["0/1", "Init:0/2", "0"],
        ),
        (
            with_init.clone(),
            json!({"phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}],
                "containerStatuses": [waiting("PodInitializing")]}),
            ["0/1", "Init:1/2", "0"],
        ),
        (
            with_init.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            ["0/1", "Init:CrashLoopBackOff", "4"],
        ),
        (
            with_init.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 2, "reason": "Error"}}}]}),
            ["0/1", "Init:Error", "0"],
        ),
        (
            with_init,
            json!({"phase": "Pending",
                "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "j", "state": {"terminated": {"exitCode": 0}}}],
                "containerStatuses": [waiting("PodInitializing")]}),
            ["0/1", "PodInitializing", "0"],
        ),
        (
            json!({"initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}]}),
            json!({"phase": "Running",
                "initContainerStatuses": [{"name": "side", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
                "containerStatuses": [running]}),
            ["2/2", "Running", "1"],
        ),
    ];
    for (spec, status, wanted) in cases {
        assert_eq!(summary(&pod(spec, status.clone())), wanted, "{status}");
    }
}

#[test]
fn restarts_tell_when_the_last_one_was() {
    let status = json!({"phase": "Running", "containerStatuses": [
        {"ready": true, "restartCount": 2, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2026-01-10T11:58:00Z"}}},
        {"ready": true, "restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2026-01-10T11:50:00Z"}}},
    ]});
    assert_eq!(summary(&pod(json!({"containers": [{}, {}]}), status))[2], "3 (2m ago)");
}

#[test]
fn a_pod_on_its_way_out_is_terminating_unless_it_is_over() {
    let mut object = pod(json!({"containers": [{}]}), json!({"phase": "Running"}));
    object["metadata"]["deletionTimestamp"] = json!("2026-01-10T12:00:00Z");
    assert_eq!(summary(&object)[1], "Terminating");
    object["status"]["phase"] = json!("Succeeded");
    assert_eq!(summary(&object)[1], "Succeeded");
    object["status"] = json!({"phase": "Running", "reason": "NodeLost"});
    assert_eq!(summary(&object)[1], "Unknown");
}

#[test]
fn wide_columns_of_pods_are_none_when_absent() {
    let bare = cells("", "Pod", &pod(json!({"containers": []}), json!({})));
    assert_eq!(bare[4..], [json!("5m"), json!("<none>"), json!("<none>"), json!("<none>"), json!("<none>")]);
    let full = pod(
        json!({"containers": [], "nodeName": "n1", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]}),
        json!({"podIP": "10.42.0.2", "podIPs": [{"ip": "10.42.0.2"}], "conditions": [{"type": "x", "status": "True"}]}),
    );
    assert_eq!(cells("", "Pod", &full)[5..], [json!("10.42.0.2"), json!("n1"), json!("<none>"), json!("1/2")]);
}

#[test]
fn columns_are_upstreams() {
    for (group, kind, wanted) in [
        ("", "Pod", &["Name", "Ready", "Status", "Restarts", "Age"][..]),
        ("apps", "Deployment", &["Name", "Ready", "Up-to-date", "Available", "Age"]),
        ("apps", "ReplicaSet", &["Name", "Desired", "Current", "Ready", "Age"]),
        ("apps", "StatefulSet", &["Name", "Ready", "Age"]),
        (
            "apps",
            "DaemonSet",
            &["Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"],
        ),
        ("batch", "Job", &["Name", "Status", "Completions", "Duration", "Age"]),
        ("batch", "CronJob", &["Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"]),
        ("", "Service", &["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"]),
        ("", "Endpoints", &["Name", "Endpoints", "Age"]),
        ("discovery.k8s.io", "EndpointSlice", &["Name", "AddressType", "Ports", "Endpoints", "Age"]),
        ("networking.k8s.io", "Ingress", &["Name", "Class", "Hosts", "Address", "Ports", "Age"]),
        ("", "Node", &["Name", "Status", "Roles", "Age", "Version"]),
        ("", "Namespace", &["Name", "Status", "Age"]),
        ("", "Secret", &["Name", "Type", "Data", "Age"]),
        ("", "ConfigMap", &["Name", "Data", "Age"]),
        ("", "ServiceAccount", &["Name", "Secrets", "Age"]),
        ("", "Event", &["Last Seen", "Type", "Reason", "Object", "Message"]),
        (
            "",
            "PersistentVolume",
            &[
                "Name",
                "Capacity",
                "Access Modes",
                "Reclaim Policy",
                "Status",
                "Claim",
                "StorageClass",
                "VolumeAttributesClass",
                "Reason",
                "Age",
            ],
        ),
        (
            "",
            "PersistentVolumeClaim",
            &["Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "Age"],
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            &["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"],
        ),
        ("policy", "PodDisruptionBudget", &["Name", "Min Available", "Max Unavailable", "Allowed Disruptions", "Age"]),
        ("coordination.k8s.io", "Lease", &["Name", "Holder", "Age"]),
        ("rbac.authorization.k8s.io", "Role", &["Name", "Created At"]),
        ("rbac.authorization.k8s.io", "RoleBinding", &["Name", "Role", "Age"]),
        ("", "LimitRange", &["Name", "Created At"]),
        ("apiextensions.k8s.io", "CustomResourceDefinition", &["Name", "Created At"]),
        ("apiregistration.k8s.io", "APIService", &["Name", "Service", "Available", "Age"]),
        ("example.com", "Anything", &["Name", "Created At"]),
    ] {
        assert_eq!(narrow(group, kind), wanted, "{group} {kind}");
    }
    assert_eq!(
        names("", "Node")[5..],
        ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Arch", "Container-Runtime"]
    );
    assert_eq!(names("", "Pod")[5..], ["IP", "Node", "Nominated Node", "Readiness Gates"]);
    assert_eq!(names("apps", "Deployment")[5..], ["Containers", "Images", "Selector"]);
}

#[test]
fn every_kind_of_the_catalogue_has_columns_that_bear_an_empty_object() {
    for resource in catalogue::all() {
        assert!(!resource.columns.is_empty(), "{} has no columns", resource.kind);
        assert!(resource.columns.iter().any(|c| c.name == "Name"), "{} has no name", resource.kind);
        for object in [json!({}), json!(null), json!({"metadata": null, "spec": [], "status": "x"})] {
            for column in resource.columns {
                (column.cell)(&object, now());
            }
        }
    }
}

#[test]
fn workloads_show_their_numbers() {
    let object = json!({
        "metadata": {"name": "web", "creationTimestamp": "2026-01-08T12:00:00Z"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]}},
        },
        "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2},
    });
    assert_eq!(
        cells("apps", "Deployment", &object),
        [json!("web"), json!("2/3"), json!(1), json!(2), json!("2d"), json!("a,b"), json!("x:1,y:2"), json!("app=web")]
    );
    assert_eq!(cells("apps", "ReplicaSet", &object)[..5], [json!("web"), json!(3), json!(3), json!(2), json!("2d")]);
    assert_eq!(cells("apps", "StatefulSet", &object)[1], "2/3");
    let revision = json!({"revision": 4, "metadata": {"ownerReferences": [
        {"controller": true, "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d"}]}});
    assert_eq!(
        cells("apps", "ControllerRevision", &revision)[1..],
        [json!("daemonset.apps/d"), json!(4), json!("<unknown>")]
    );
}

#[test]
fn jobs_show_their_progress() {
    let job =
        |spec: Value, status: Value| cells("batch", "Job", &json!({"spec": spec, "status": status}))[1..4].to_vec();
    assert_eq!(
        job(json!({"completions": 3}), json!({"succeeded": 1, "startTime": "2026-01-10T11:59:30Z"})),
        [json!("Running"), json!("1/3"), json!("30s")]
    );
    assert_eq!(
        job(
            json!({"parallelism": 2}),
            json!({"startTime": "2026-01-10T11:00:00Z", "completionTime": "2026-01-10T11:02:05Z",
                "conditions": [{"type": "Complete", "status": "True"}]})
        ),
        [json!("Complete"), json!("0/1 of 2"), json!("2m5s")]
    );
    assert_eq!(job(json!({}), json!({}))[1..], [json!("0/1"), json!("")]);
    let cron = json!({"spec": {"schedule": "* * * * *", "suspend": false}, "status": {"active": [{}]}});
    assert_eq!(
        cells("batch", "CronJob", &cron)[1..6],
        [json!("* * * * *"), json!("<none>"), json!("False"), json!(1), json!("<none>")]
    );
}

#[test]
fn services_show_addresses_and_ports() {
    let service =
        |spec: Value, status: Value| cells("", "Service", &json!({"spec": spec, "status": status}))[1..5].to_vec();
    assert_eq!(
        service(
            json!({"type": "NodePort", "clusterIPs": ["10.43.0.9"], "ports": [
                {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            json!({})
        ),
        [json!("NodePort"), json!("10.43.0.9"), json!("<none>"), json!("80:30080/TCP,53/UDP")]
    );
    assert_eq!(service(json!({"type": "LoadBalancer"}), json!({}))[2], "<pending>");
    assert_eq!(
        service(
            json!({"type": "LoadBalancer", "externalIPs": ["1.2.3.4"]}),
            json!({"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "x"}]}})
        )[2],
        "5.6.7.8,x,1.2.3.4"
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "a.example"}), json!({})),
        [json!("ExternalName"), json!("<none>"), json!("a.example"), json!("<none>")]
    );
    let headless = json!({"type": "ClusterIP", "clusterIPs": ["None"], "externalIPs": ["1.1.1.1"]});
    assert_eq!(service(headless, json!({}))[1..3], [json!("None"), json!("1.1.1.1")]);
}

#[test]
fn endpoints_show_the_first_three() {
    let endpoints = |subsets: Value| cells("", "Endpoints", &json!({"subsets": subsets}))[1].clone();
    assert_eq!(endpoints(json!([])), "<none>");
    assert_eq!(
        endpoints(
            json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 443}]}])
        ),
        "10.0.0.1:80,[fd00::1]:80,10.0.0.1:443 + 1 more..."
    );
    assert_eq!(endpoints(json!([{"addresses": [{"ip": "10.0.0.1"}]}])), "10.0.0.1");
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "x"}, {}],
        "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3"]}, {"addresses": ["4"]}]});
    assert_eq!(
        cells("discovery.k8s.io", "EndpointSlice", &slice)[1..4],
        [json!("IPv4"), json!("80,x,*"), json!("1,2,3 + 1 more...")]
    );
    assert_eq!(cells("discovery.k8s.io", "EndpointSlice", &json!({}))[2..4], [json!("<unset>"), json!("<unset>")]);
}

#[test]
fn nodes_show_state_and_roles() {
    let node = json!({
        "metadata": {"name": "n", "labels": {
            "node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "true", "kubernetes.io/role": "etcd"}},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.5"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "architecture": "arm64"},
        },
    });
    assert_eq!(
        cells("", "Node", &node),
        [
            json!("n"),
            json!("Ready,SchedulingDisabled"),
            json!("control-plane,etcd,worker"),
            json!("<unknown>"),
            json!("v1.36.0"),
            json!("10.0.0.5"),
            json!("<none>"),
            json!("Debian"),
            json!("<unknown>"),
            json!("arm64"),
            json!("<unknown>"),
        ]
    );
    assert_eq!(cells("", "Node", &json!({}))[1..3], [json!("Unknown"), json!("<none>")]);
}

#[test]
fn configuration_shows_how_much_there_is() {
    assert_eq!(cells("", "ConfigMap", &json!({"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}))[1], 3);
    assert_eq!(cells("", "Secret", &json!({"type": "Opaque"}))[1..3], [json!("Opaque"), json!(0)]);
    let quota = json!({"status": {
        "hard": {"pods": "10", "limits.cpu": "2", "cpu": "1000m"}, "used": {"pods": "3", "limits.cpu": "500m"}}});
    assert_eq!(cells("", "ResourceQuota", &quota)[1..3], [json!("cpu: 0/1, pods: 3/10"), json!("limits.cpu: 500m/2")]);
}

#[test]
fn events_of_both_groups_show_alike() {
    let core = json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff", "message": " m\n", "count": 4,
        "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2026-01-10T11:00:00Z", "lastTimestamp": "2026-01-10T11:59:00Z",
    });
    let wanted = [
        json!("60s"),
        json!("Warning"),
        json!("BackOff"),
        json!("pod/web"),
        json!("spec.containers{a}"),
        json!("kubelet, n1"),
        json!("m"),
        json!("60m"),
        json!(4),
        json!("e"),
    ];
    assert_eq!(cells("", "Event", &core), wanted);
    let newer = json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff", "note": " m\n",
        "regarding": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
        "reportingController": "kubelet", "reportingInstance": "n1",
        "eventTime": "2026-01-10T11:00:00.000000Z",
        "series": {"count": 4, "lastObservedTime": "2026-01-10T11:59:00.000000Z"},
    });
    assert_eq!(cells("events.k8s.io", "Event", &newer), wanted);
    let single = json!({"eventTime": "2026-01-10T11:59:50.000000Z", "involvedObject": {"kind": "Node"}});
    let shown = cells("", "Event", &single);
    assert_eq!((&shown[0], &shown[3], &shown[8]), (&json!("10s"), &json!("node"), &json!(1)));
}

#[test]
fn volumes_and_claims_show_their_bond() {
    let volume = json!({
        "metadata": {"name": "v"},
        "spec": {"capacity": {"storage": "1024Mi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "d", "name": "c"},
            "storageClassName": "fast"},
        "status": {"phase": "Bound"},
    });
    assert_eq!(
        cells("", "PersistentVolume", &volume)[1..9],
        [
            json!("1Gi"),
            json!("RWO,RWX"),
            json!("Retain"),
            json!("Bound"),
            json!("d/c"),
            json!("fast"),
            json!("<unset>"),
            json!("")
        ]
    );
    let claim = json!({"spec": {"volumeName": "v", "storageClassName": "fast"},
        "status": {"phase": "Bound", "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"]}});
    assert_eq!(
        cells("", "PersistentVolumeClaim", &claim)[1..7],
        [json!("Bound"), json!("v"), json!("5Gi"), json!("RWO"), json!("fast"), json!("<unset>")]
    );
    let pending = json!({"status": {"phase": "Pending"}});
    assert_eq!(cells("", "PersistentVolumeClaim", &pending)[2..5], [json!(""), json!(""), json!("")]);
    let class =
        json!({"metadata": {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    assert_eq!(cells("storage.k8s.io", "StorageClass", &class)[0], "s (default)");
}

#[test]
fn autoscalers_show_two_metrics() {
    let scaler = json!({
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 5, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
            {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"averageValue": "100"}}},
            {"type": "Spin"},
        ]},
        "status": {"currentReplicas": 3, "currentMetrics": [
            {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40}}}]},
    });
    assert_eq!(
        cells("autoscaling", "HorizontalPodAutoscaler", &scaler)[1..6],
        [json!("Deployment/web"), json!("cpu: 40%/80%, <unknown>/100 + 1 more..."), json!("2"), json!(5), json!(3)]
    );
    let old = json!({"spec": {"targetCPUUtilizationPercentage": 70}});
    assert_eq!(
        cells("autoscaling", "HorizontalPodAutoscaler", &old)[2..4],
        [json!("cpu: <unknown>/70%"), json!("<unset>")]
    );
    let budget = json!({"spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 1}});
    assert_eq!(cells("policy", "PodDisruptionBudget", &budget)[1..4], [json!("N/A"), json!("25%"), json!(1)]);
}

#[test]
fn a_table_has_upstreams_form() {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "d", "creationTimestamp": "2026-01-10T11:59:58Z"},
        "data": {"a": "b"},
    });
    let header = Header { resource_version: "42", continue_token: "t", remaining: Some(7), ..Header::default() };
    let table = render(resource("", "ConfigMap"), [&object], IncludeObject::Metadata, &header, now());
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(table["metadata"], json!({"resourceVersion": "42", "continue": "t", "remainingItemCount": 7}));
    let first = &table["columnDefinitions"][0];
    assert_eq!(
        (&first["name"], &first["type"], &first["format"], &first["priority"]),
        (&json!("Name"), &json!("string"), &json!("name"), &json!(0))
    );
    assert_eq!(
        table["rows"],
        json!([{
            "cells": ["c", 1, "2s"],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]},
        }])
    );
    let header = Header { without_columns: true, ..Header::default() };
    let table = render(resource("", "ConfigMap"), [&object], IncludeObject::Object, &header, now());
    assert_eq!(table["columnDefinitions"], Value::Null);
    assert_eq!(table["metadata"], json!({}));
    assert_eq!(table["rows"][0]["object"], object);
    let table = render(resource("", "ConfigMap"), [&object], IncludeObject::None, &header, now());
    assert_eq!(table["rows"][0]["object"], Value::Null);
}

#[test]
fn rows_of_finished_pods_say_so() {
    let object = pod(json!({"containers": []}), json!({"phase": "Succeeded"}));
    let table = render(resource("", "Pod"), [&object], IncludeObject::None, &Header::default(), now());
    assert_eq!(
        table["rows"][0]["conditions"],
        json!([{"type": "Completed", "status": "True", "reason": "Succeeded", "message": "The pod has completed successfully."}])
    );
}

#[test]
fn include_object_is_read_as_upstream_does() {
    assert_eq!(IncludeObject::parse(""), Some(IncludeObject::Metadata));
    assert_eq!(IncludeObject::parse("None"), Some(IncludeObject::None));
    assert_eq!(IncludeObject::parse("Object"), Some(IncludeObject::Object));
    assert_eq!(IncludeObject::parse("All"), None);
}
