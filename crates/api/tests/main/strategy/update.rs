use serde_json::{Value, json};

use super::{check_updates, create, manifest, row, strategy_of, update};

#[test]
fn of_a_pods_spec_only_few_fields_change() {
    check_updates(&[
        row("pod", &[("/spec/containers/0/image", r#""registry.example/app:1.3""#)], &[]),
        row("pod", &[("/spec/containers/0/image", r#""""#)], &["Required spec.containers[0].image: Required value"]),
        row("pod", &[("/spec/activeDeadlineSeconds", "60")], &[]),
        row("pod", &[("/spec/tolerations", r#"[{"key":"k","operator":"Exists"}]"#)], &[]),
        row(
            "pod",
            &[("/spec/containers/1", r#"{"name":"b","image":"b"}"#)],
            &["Forbidden spec.containers: Forbidden: pod updates may not add or remove containers"],
        ),
        row(
            "pod",
            &[("/spec/restartPolicy", r#""Never""#)],
            &[concat!(
                "Forbidden spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,",
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing ",
                "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n",
                "  core.PodSpec{\n  \t... // 2 identical fields\n- \tRestartPolicy: \"Always\",\n+ \tRestartPolicy: \"Never\",\n",
                "  \t... // 4 identical fields\n  }\n",
            )],
        ),
        row(
            "pod",
            &[("/spec/schedulingGates", r#"[{"name":"g"}]"#)],
            &[
                "Forbidden spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
            ],
        ),
    ]);
}

#[test]
fn a_pods_deadline_only_shrinks_and_tolerations_only_grow() {
    let mut pod = manifest("pod");
    pod["spec"]["activeDeadlineSeconds"] = json!(60);
    pod["spec"]["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
    let (old, _) = create(pod);
    let faults = |pointer: &str, value: &str| {
        let mut new = old.clone();
        super::change(&mut new, &[(pointer, value)]);
        update(new, &old).1.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
    };
    assert_eq!(faults("/spec/activeDeadlineSeconds", "30"), Vec::<String>::new());
    assert_eq!(
        faults("/spec/activeDeadlineSeconds", "90"),
        ["spec.activeDeadlineSeconds: Invalid value: 90: must be less than or equal to previous value"]
    );
    assert_eq!(
        faults("/spec/tolerations", "[]"),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

#[test]
fn selectors_and_what_else_is_immutable_stay() {
    check_updates(&[
        row(
            "deployment",
            &[("/spec/selector/matchLabels/tier", r#""a""#), ("/spec/template/metadata/labels/tier", r#""a""#)],
            &[r#"Invalid spec.selector: Invalid value: {"matchLabels":{"app":"web","tier":"a"}}: field is immutable"#],
        ),
        row("deployment", &[("/spec/replicas", "3"), ("/spec/template/spec/nodeName", r#""n""#)], &[]),
        row(
            "statefulset",
            &[("/spec/serviceName", r#""other""#)],
            &[
                "Forbidden spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ],
        ),
        row("statefulset", &[("/spec/replicas", "3")], &[]),
        row("job", &[("/spec/completions", "3")], &["Invalid spec.completions: Invalid value: 3: field is immutable"]),
        row("job", &[("/spec/parallelism", "3")], &[]),
        row(
            "service",
            &[("/spec/clusterIP", r#""10.43.0.10""#)],
            &[r#"Invalid spec.clusterIPs[0]: Invalid value: ["10.43.0.10"]: may not change once set"#],
        ),
        row("service", &[("/spec/clusterIP", "-"), ("/spec/clusterIPs", "-")], &[]),
        row(
            "secret",
            &[("/type", r#""example.com/x""#)],
            &[r#"Invalid type: Invalid value: "example.com/x": field is immutable"#],
        ),
        row(
            "slice",
            &[("/addressType", r#""FQDN""#), ("/endpoints/0/addresses/0", r#""a.example""#)],
            &[r#"Invalid addressType: Invalid value: "FQDN": field is immutable"#],
        ),
        row(
            "binding",
            &[("/roleRef/name", r#""writer""#)],
            &[
                r#"Invalid roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"writer"}: cannot change roleRef"#,
            ],
        ),
        row(
            "class",
            &[("/provisioner", r#""example.com/slow""#)],
            &["Forbidden provisioner: Forbidden: updates to provisioner are forbidden."],
        ),
        row(
            "event1",
            &[("/reason", r#""Stopped""#)],
            &[r#"Invalid reason: Invalid value: "Stopped": field is immutable"#],
        ),
        row("priority", &[("/value", "7")], &["Forbidden value: Forbidden: may not be changed in an update."]),
        row(
            "runtime",
            &[("/handler", r#""slow""#)],
            &[r#"Invalid handler: Invalid value: "slow": field is immutable"#],
        ),
        row(
            "quota",
            &[("/spec/scopes", r#"["NotTerminating"]"#)],
            &[r#"Invalid spec.scopes: Invalid value: ["NotTerminating"]: field is immutable"#],
        ),
    ]);
}

#[test]
fn an_immutable_configuration_never_changes_again() {
    let mut object = manifest("configmap");
    object["immutable"] = json!(true);
    let (old, _) = create(object);
    let mut new = old.clone();
    new["data"]["key"] = json!("other");
    new["immutable"] = json!(false);
    let (_, faults) = update(new, &old);
    let fields: Vec<_> = faults.iter().map(|cause| (cause.field.as_str(), cause.message.as_str())).collect();
    let message = "Forbidden: field is immutable when `immutable` is set";
    assert_eq!(fields, [("immutable", message), ("data", message)]);
}

#[test]
fn a_node_keeps_its_range_and_its_provider() {
    let mut node = manifest("node");
    node["spec"] = json!({"podCIDR": "10.42.0.0/24", "providerID": "hythe://n1"});
    let (old, _) = create(node);
    let mut new = old.clone();
    new["spec"] = json!({"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24"], "providerID": "hythe://n2"});
    let (_, faults) = update(new, &old);
    let found: Vec<_> = faults.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(found, ["spec.podCIDRs", "spec.providerID"]);
    assert_eq!(faults[0].message, r#"Forbidden: node updates may not change podCIDR except from "" to valid"#);
}

#[test]
fn a_container_that_ended_for_good_stays_ended() {
    let mut pod = manifest("pod");
    pod["spec"]["restartPolicy"] = json!("Never");
    let (mut old, _) = create(pod);
    old["status"]["containerStatuses"] = json!([{"name": "app", "state": {"terminated": {"exitCode": 0}}}]);
    let mut new = old.clone();
    new["status"]["containerStatuses"][0]["state"] = json!({"running": {}});
    new["status"]["qosClass"] = json!("Guaranteed");
    let (_, _, strategy) = strategy_of(&old);
    let faults = (strategy.validate_status_update)(&new, &old);
    let found: Vec<_> = faults.iter().map(|cause| (cause.field.as_str(), cause.message.as_str())).collect();
    assert_eq!(
        found,
        [
            ("status.qosClass", "Invalid value: \"Guaranteed\": field is immutable"),
            ("status.containerStatuses[0].state", "Forbidden: may not be transitioned to non-terminated state"),
        ]
    );
}

#[test]
fn a_debug_container_may_be_added_and_then_stays() {
    use api::strategy::pod::part;
    let (old, _) = create(manifest("pod"));
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox", "targetContainerName": "app"}]);
    new["spec"]["restartPolicy"] = json!("Never");
    part::prepare_ephemeral(&mut new, &old);
    assert_eq!(new["spec"]["restartPolicy"], "Always", "only the ephemeral containers are taken over");
    assert_eq!(new["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(part::validate_ephemeral(&new, &old), []);
    let mut changed = new.clone();
    changed["spec"]["ephemeralContainers"][0]["image"] = json!("alpine");
    let faults = part::validate_ephemeral(&changed, &new);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].message.starts_with("Forbidden: existing ephemeral containers \"debug\" may not be changed\n"));
    let mut stray = old.clone();
    stray["spec"]["ephemeralContainers"] = json!([{"name": "app", "image": "b", "ports": [{"containerPort": 1}],
        "resources": {}, "lifecycle": {}}]);
    part::prepare_ephemeral(&mut stray, &old);
    let faults = part::validate_ephemeral(&stray, &old);
    let found: Vec<_> = faults.iter().map(|cause| (cause.field.as_str(), cause.message.as_str())).collect();
    assert_eq!(
        found,
        [
            ("spec.ephemeralContainers[0].name", "Duplicate value: \"app\""),
            ("spec.ephemeralContainers[0].ports", "Forbidden: cannot be set for an Ephemeral Container"),
            ("spec.ephemeralContainers[0].lifecycle", "Forbidden: cannot be set for an Ephemeral Container"),
        ]
    );
}

#[test]
fn a_resize_changes_cpu_and_memory_and_nothing_else() {
    use api::strategy::pod::part;
    let mut pod = manifest("pod");
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}});
    let (old, _) = create(pod);
    let resized = |resources| {
        let mut new = old.clone();
        new["spec"]["containers"][0]["resources"] = resources;
        new["spec"]["containers"][0]["image"] = json!("other");
        part::prepare_resize(&mut new, &old);
        assert_eq!(new["spec"]["containers"][0]["image"], old["spec"]["containers"][0]["image"]);
        part::validate_resize(&new, &old).into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect::<Vec<_>>()
    };
    assert_eq!(
        resized(json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "3Gi"}})),
        Vec::<String>::new()
    );
    assert_eq!(
        resized(json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "1Gi"}})),
        Vec::<String>::new()
    );
    assert_eq!(
        resized(json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}})),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    assert_eq!(
        resized(json!({
            "requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "limits": {"memory": "2Gi"},
        })),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
}

#[test]
fn a_resize_changes_what_a_pod_has_as_a_whole() {
    use api::strategy::pod::part;
    let mut pod = manifest("pod");
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    pod["spec"]["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let (old, _) = create(pod);
    // What the containers request together, or else the limit.
    assert_eq!(old["spec"]["resources"]["requests"], json!({"cpu": "100m", "memory": "1Gi"}));
    let resized = |resources| {
        let mut new = old.clone();
        new["spec"]["resources"] = resources;
        part::prepare_resize(&mut new, &old);
        part::validate_resize(&new, &old).into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect::<Vec<_>>()
    };
    let whole =
        |cpu: &str, memory: &str, limit: Value| json!({"requests": {"cpu": cpu, "memory": memory}, "limits": limit});
    let more = json!({"cpu": "2", "memory": "2Gi"});
    assert_eq!(resized(whole("200m", "512Mi", more.clone())), Vec::<String>::new());
    assert_eq!(resized(Value::Null), ["spec.resources: Forbidden: pod-level resources cannot be removed"]);
    assert_eq!(
        resized(whole("200m", "512Mi", json!({"cpu": "2"}))),
        ["spec.resources.limits: Forbidden: pod-level resource limits cannot be removed"]
    );
    let mut other = whole("200m", "512Mi", more);
    other["limits"]["hugepages-2Mi"] = json!("2Mi");
    other["requests"]["hugepages-2Mi"] = json!("2Mi");
    assert_eq!(resized(other), ["spec: Forbidden: only cpu and memory resources are mutable at pod-level"]);
}

#[test]
fn a_resize_keeps_the_containers_and_may_change_those_that_come_first() {
    use api::strategy::pod::part;
    let mut pod = manifest("pod");
    pod["spec"]["initContainers"] = json!([
        {"name": "first", "image": "i", "resources": {"requests": {"cpu": "1"}}},
        {"name": "second", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
    ]);
    let (old, _) = create(pod);
    let resized = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new["spec"]);
        part::prepare_resize(&mut new, &old);
        part::validate_resize(&new, &old).into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect::<Vec<_>>()
    };
    let cpu = |i: usize| move |spec: &mut Value| spec["initContainers"][i]["resources"]["requests"]["cpu"] = json!("2");
    assert_eq!(resized(&cpu(0)), Vec::<String>::new());
    assert_eq!(resized(&cpu(1)), Vec::<String>::new());
    assert_eq!(
        resized(&|spec| spec["initContainers"][0]["resources"]["requests"]["ephemeral-storage"] = json!("1Gi")),
        ["spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"]
    );
    assert_eq!(
        resized(&|spec| spec["initContainers"][0]["name"] = json!("other")),
        ["spec.initContainers[0].name: Forbidden: initContainers may not be renamed or reordered on resize"]
    );
    assert_eq!(
        resized(&|spec| drop(spec["initContainers"].as_array_mut().expect("a list").pop())),
        ["spec.initContainers: Forbidden: initContainers may not be added or removed on resize"]
    );
}

#[test]
fn a_suspended_job_may_ask_for_other_resources_and_nodes_once_it_is_at_rest() {
    let mut job = manifest("job");
    job["spec"]["suspend"] = json!(true);
    let (fresh, _) = create(job);
    let faults = |old: &Value, changes: &[(&str, &str)]| {
        let mut new = old.clone();
        super::change(&mut new, changes);
        update(new, old).1.into_iter().map(|cause| cause.field).collect::<Vec<_>>()
    };
    let resources = ("/spec/template/spec/containers/0/resources", r#"{"requests":{"cpu":"2"}}"#);
    let image = ("/spec/template/spec/containers/0/image", r#""other""#);
    let placing = ("/spec/template/spec/nodeSelector", r#"{"a":"b"}"#);
    let none: [&str; 0] = [];
    assert_eq!(faults(&fresh, &[resources, placing]), none);
    assert_eq!(faults(&fresh, &[resources, image]), ["spec.template"]);
    let with = |status: Value, suspend: bool| {
        let mut job = fresh.clone();
        job["status"] = status;
        job["spec"]["suspend"] = suspend.into();
        job
    };
    let started = "2026-01-01T00:00:00Z";
    let conditions = json!([{"type": "Suspended", "status": "True"}]);
    let at_rest = with(json!({"startTime": started, "conditions": conditions}), true);
    assert_eq!(faults(&at_rest, &[resources, placing]), none);
    assert_eq!(faults(&at_rest, &[image]), ["spec.template"]);
    let ending = with(json!({"startTime": started, "active": 1, "conditions": conditions}), true);
    assert_eq!(faults(&ending, &[resources]), ["spec.template"]);
    assert_eq!(faults(&ending, &[placing]), ["spec.template"]);
    assert_eq!(faults(&with(json!({"startTime": started}), true), &[resources]), ["spec.template"]);
    assert_eq!(faults(&with(json!({"startTime": started}), false), &[resources]), ["spec.template"]);
}

#[test]
fn a_jobs_status_may_move_on_and_stay_wrong_where_it_is() {
    let ended = json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]);
    let (start, end) = ("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z");
    let cases = [
        (json!({}), json!({}), json!({"startTime": start, "completionTime": end, "conditions": ended, "succeeded": 1})),
        (json!({"suspend": true}), json!({"startTime": start}), json!({})),
        (
            json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}),
            json!({"succeeded": 3, "completedIndexes": "0-2"}),
            json!({"succeeded": 2, "completedIndexes": "0,1"}),
        ),
        (json!({"suspend": true, "completions": 0}), json!({}), json!({"completionTime": end, "conditions": ended})),
        // What was wrong before the write is no reason to refuse it.
        (
            json!({}),
            json!({"conditions": [{"type": "Failed", "status": "True"}], "active": 1, "completionTime": end}),
            json!({"conditions": [{"type": "Failed", "status": "True"}], "active": 1, "completionTime": end, "failed": 1}),
        ),
    ];
    for (spec, was, is) in cases {
        let mut job = manifest("job");
        job["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let (mut old, faults) = create(job);
        assert_eq!(faults, []);
        old["status"] = was;
        let mut new = old.clone();
        new["status"] = is;
        let (_, _, strategy) = strategy_of(&old);
        assert_eq!((strategy.validate_status_update)(&new, &old), [], "{}", new["status"]);
    }
}

#[test]
fn an_address_of_a_balancer_is_the_nodes_own_unless_the_status_says_otherwise() {
    let mut service = manifest("service");
    service["spec"]["type"] = "LoadBalancer".into();
    let (old, faults) = create(service);
    assert_eq!(faults, []);
    let (_, _, strategy) = strategy_of(&old);
    let mut new = old.clone();
    new["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "a.example"}]}});
    (strategy.prepare_status_update)(&mut new, &old);
    let modes = json!([{"ip": "203.0.113.1", "ipMode": "VIP"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "a.example"}]);
    assert_eq!(new["status"]["loadBalancer"]["ingress"], modes);
    assert_eq!((strategy.validate_status_update)(&new, &old), []);
}
