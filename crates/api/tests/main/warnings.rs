//! What is taken, and warned of.

use api::warnings::of;
use serde_json::{Value, json};

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

fn container(fields: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    pod(json!({"containers": [container]}))
}

fn annotated(key: &str, mut pod: Value) -> Value {
    pod["metadata"]["annotations"][key] = json!("x");
    pod
}

fn volume(volume: Value) -> Value {
    pod(json!({"volumes": [volume]}))
}

#[test]
fn odd_pods_are_told_of_in_upstreams_words() {
    let term = json!({"topologyKey": "k"});
    for (pod, expected) in [
        (pod(json!({})), &[][..]),
        (
            pod(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux", "kubernetes.io/os": "linux"}})),
            &[r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#][..],
        ),
        (
            pod(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [{"key": "beta.kubernetes.io/arch"}]}]}}}})),
            &[
                r#"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use "kubernetes.io/arch" instead"#,
            ],
        ),
        (
            pod(json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
                    [{"weight": 1, "podAffinityTerm": term}]}}})),
            &[
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            pod(json!({"topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}]})),
            &[
                r#"spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        ),
        (
            annotated("scheduler.alpha.kubernetes.io/critical-pod", pod(json!({}))),
            &[
                r#"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead"#,
            ],
        ),
        (
            annotated("seccomp.security.alpha.kubernetes.io/pod", pod(json!({}))),
            &[
                r#"metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
            ],
        ),
        (
            annotated("container.seccomp.security.alpha.kubernetes.io/c", container(json!({}))),
            &[
                r#"metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
            ],
        ),
        // Pods hear of that from admission; templates are below.
        (annotated("container.apparmor.security.beta.kubernetes.io/c", container(json!({}))), &[]),
        (volume(json!({"name": "v", "gitRepo": {}})), &["spec.volumes[0].gitRepo: deprecated in v1.11"]),
        (
            volume(json!({"name": "v", "storageos": {}})),
            &["spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+"],
        ),
        (
            volume(json!({"name": "v", "configMap": {"name": "m",
                "items": [{"path": "a/b"}, {"path": "a/"}, {"path": "ab"}]}})),
            &[r#"volume "v" (ConfigMap "m"): overlapping paths: "a" with "a/b""#],
        ),
        (
            volume(
                json!({"name": "v", "projected": {"sources": [{}, {"secret": {"name": "s", "items": [{"path": "token"}]}},
                {"serviceAccountToken": {"path": "token"}}]}}),
            ),
            &[
                r#"volume "v" (Projected) has no sources provided"#,
                r#"volume "v" (Projected ServiceAccountToken): overlapping paths: "token" with "token""#,
            ],
        ),
        (
            pod(
                json!({"hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}], "imagePullSecrets": [{"name": "a"}, {}, {"name": "a"}]}),
            ),
            &[
                r#"spec.hostAliases[1].ip: duplicate ip "1.1.1.1""#,
                r#"spec.imagePullSecrets[2].name: duplicate name "a""#,
                r#"spec.imagePullSecrets[1].name: invalid empty name """#,
            ],
        ),
        (
            container(
                json!({"resources": {"limits": {"memory": "1500m", "cpu": "1500m"}, "requests": {"memory": "1Gi"}}}),
            ),
            &[
                r#"spec.containers[0].resources.limits[memory]: fractional byte value "1500m" is invalid, must be an integer"#,
            ],
        ),
        (
            container(
                json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}),
            ),
            &[r#"spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply"#],
        ),
        (
            container(
                json!({"ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "hostPort": 80, "protocol": "TCP"},
                {"containerPort": 80, "protocol": "UDP"}]}),
            ),
            &["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]"],
        ),
        (
            container(json!({"ports": [{"containerPort": 80, "protocol": "TCP", "hostIP": "127.0.0.1"}]})),
            &[
                "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:127.0.0.1}",
            ],
        ),
        (
            pod(json!({"terminationGracePeriodSeconds": -1})),
            &["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"],
        ),
    ] {
        assert_eq!(of("", "Pod", &pod, None), expected, "{pod}");
        assert!(of("", "Pod", &pod, Some(&json!({}))).is_empty(), "only who makes a pod hears of it");
    }
}

#[test]
fn templates_are_told_of_with_their_path_whenever_the_spec_changes() {
    let template = annotated("container.apparmor.security.beta.kubernetes.io/c", container(json!({})));
    let words = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;
    for (group, kind, path) in [
        ("apps", "Deployment", "spec.template"),
        ("batch", "CronJob", "spec.jobTemplate.spec.template"),
        ("", "PodTemplate", "template"),
    ] {
        let mut object = json!({"metadata": {"name": "w", "generation": 2}});
        let mut place = &mut object;
        for field in path.split('.') {
            place = &mut place[field];
        }
        *place = template.clone();
        let expected =
            vec![format!("{path}.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: {words}")];
        assert_eq!(of(group, kind, &object, None), expected);
        let generation = |number: i64| json!({"metadata": {"generation": number}});
        assert_eq!(of(group, kind, &object, Some(&generation(1))), expected);
        assert!(of(group, kind, &object, Some(&generation(2))).is_empty(), "{kind}");
    }
}

#[test]
fn names_large_jobs_services_and_volumes_are_told_of() {
    let named = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]";
    assert_eq!(of("apps", "Deployment", &json!({"metadata": {"name": "a.b"}}), None), [named]);
    let large = json!({"metadata": {"name": "j"}, "spec": {"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001}});
    let told = of("batch", "Job", &large, None);
    assert!(told[0].starts_with("spec: In Indexed Jobs with a number of completions higher than 10^5 and"), "{told:?}");
    let service = |spec: Value| of("", "Service", &json!({"metadata": {"name": "s"}, "spec": spec}), None);
    assert!(service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "sessionAffinity": "None"})).is_empty());
    assert_eq!(
        service(
            json!({"type": "ClusterIP", "clusterIP": "None", "externalIPs": ["192.0.2.1"], "sessionAffinity": "ClientIP"})
        ),
        ["spec.externalIPs is ignored for headless services", "spec.SessionAffinity is ignored for headless services"]
    );
    assert_eq!(
        service(json!({"type": "ClusterIP", "externalName": "x", "trafficDistribution": "PreferClose"})),
        [
            r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
            r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#
        ]
    );
    let recycle = json!({"metadata": {"name": "v"}, "spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {}}});
    assert_eq!(
        of("", "PersistentVolume", &recycle, None),
        [
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+"
        ]
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "1500m"}}}});
    assert_eq!(
        of("", "PersistentVolumeClaim", &claim, None),
        [r#"spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer"#]
    );
}
