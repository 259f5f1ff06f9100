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
        ["spec.externalIPs is ignored for headless services"]
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

#[test]
fn addresses_in_forms_of_the_past_are_told_of() {
    let service = |spec: Value| of("", "Service", &json!({"metadata": {"name": "s"}, "spec": spec}), None);
    let range = |range: &str| service(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [range]}));
    let address = |address: &str| service(json!({"type": "LoadBalancer", "loadBalancerIP": address}));
    for sound in ["192.0.2.1", "2001:db8::1"] {
        assert!(address(sound).is_empty(), "{sound}");
    }
    let invalid = "will be considered invalid in a future Kubernetes release";
    for (bad, words) in [
        ("192.012.2.2", format!(r#"non-standard IP address "192.012.2.2" {invalid}: use "192.12.2.2""#)),
        ("::ffff:192.0.2.2", format!(r#"non-standard IP address "::ffff:192.0.2.2" {invalid}: use "192.0.2.2""#)),
        (
            "2001:db8:0:0::2",
            r#"IPv6 address "2001:db8:0:0::2" should be in RFC 5952 canonical format ("2001:db8::2")"#.to_owned(),
        ),
    ] {
        assert_eq!(address(bad), [format!("spec.loadBalancerIP: {words}")]);
    }
    for sound in ["192.0.2.0/24", "2001:db8::/64", "0.0.0.0/0", "::/0", "192.0.2.1/32"] {
        assert!(range(sound).is_empty(), "{sound}");
    }
    let at = "spec.loadBalancerSourceRanges[0]";
    for (bad, words) in [
        ("192.012.2.0/24", format!(r#"non-standard CIDR value "192.012.2.0/24" {invalid}: use "192.12.2.0/24""#)),
        (
            "::ffff:192.0.2.0/120",
            format!(r#"non-standard CIDR value "::ffff:192.0.2.0/120" {invalid}: use "192.0.2.0/24""#),
        ),
        (
            "192.0.2.8/24",
            r#"CIDR value "192.0.2.8/24" is ambiguous in this context (should be "192.0.2.0/24" or "192.0.2.8/32"?)"#
                .to_owned(),
        ),
        (
            "2001:db8:0:0::/64",
            r#"IPv6 CIDR value "2001:db8:0:0::/64" should be in RFC 5952 canonical format ("2001:db8::/64")"#
                .to_owned(),
        ),
    ] {
        assert_eq!(range(bad), [format!("{at}: {words}")]);
    }
    let old = pod(json!({"dnsConfig": {"nameservers": ["010.0.0.1"]}, "hostAliases": [{"ip": "10.0.0.02"}]}));
    let told = of("", "Pod", &old, None);
    assert!(told[0].starts_with("spec.dnsConfig.nameservers[0]: non-standard IP address"), "{told:?}");
    assert!(told[1].starts_with("spec.hostAliases[0].ip: non-standard IP address"), "{told:?}");
    let peer = json!({"ipBlock": {"cidr": "10.0.0.0/08", "except": ["10.1.0.1/16"]}});
    let policy = json!({"spec": {"ingress": [{"from": [peer]}], "egress": [{"to": [{}, peer]}]}});
    let told = of("networking.k8s.io", "NetworkPolicy", &policy, None);
    let places = ["ingress[0].from[0].ipBlock.cidr", "ingress[0].from[0].ipBlock.except[0]"];
    let places = places.iter().chain(&["egress[0].to[1].ipBlock.cidr", "egress[0].to[1].ipBlock.except[0]"]);
    for (told, place) in told.iter().zip(places) {
        assert!(told.starts_with(&format!("spec.{place}: ")), "{told}");
    }
    assert_eq!(told.len(), 4);
    let mut endpoints = json!({"metadata": {}, "subsets": [{"addresses": [{"ip": "10.0.0.01"}]}]});
    assert_eq!(of("", "Endpoints", &endpoints, None).len(), 1);
    endpoints["metadata"]["labels"] = json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller"});
    assert!(of("", "Endpoints", &endpoints, None).is_empty());
    let slice = json!({"metadata": {}, "addressType": "FQDN", "endpoints": [{"addresses": ["a.example"]}]});
    let told = of("discovery.k8s.io", "EndpointSlice", &slice, None);
    assert_eq!(told, ["spec.addressType: FQDN endpoints are deprecated"]);
    assert!(of("discovery.k8s.io", "EndpointSlice", &slice, Some(&slice)).is_empty());
}

#[test]
fn labels_of_nodes_that_have_other_names_are_told_of_wherever_nodes_are_chosen() {
    let zone = "failure-domain.beta.kubernetes.io/zone";
    let words = r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#;
    let class = json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": zone, "values": ["a"]}]}]});
    assert_eq!(
        of("storage.k8s.io", "StorageClass", &class, None),
        [format!("allowedTopologies[0].matchLabelExpressions[0].key: {words}")]
    );
    let room = json!({"nodeTopology": {"matchLabels": {zone: "a"}, "matchExpressions": [{"key": zone}]}});
    assert_eq!(
        of("storage.k8s.io", "CSIStorageCapacity", &room, None),
        [
            format!("nodeTopology.matchExpressions[0].key: {zone} is {words}"),
            format!("nodeTopology.matchLabels.{zone}: {words}")
        ]
    );
    let runtime = json!({"scheduling": {"nodeSelector": {zone: "a"}}});
    assert_eq!(of("node.k8s.io", "RuntimeClass", &runtime, None), [format!("scheduling.nodeSelector: {words}")]);
    let term = json!({"matchExpressions": [{"key": zone, "operator": "In", "values": ["-"]}]});
    let volume = json!({"metadata": {}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}});
    let told = of("", "PersistentVolume", &volume, None);
    let at = "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0]";
    assert_eq!(told[0], format!("{at}.key: {zone} is {words}"));
    assert!(told[1].starts_with(&format!("{at}.values[0]: - is invalid, ")), "{told:?}");
}

#[test]
fn nodes_and_ingresses_are_told_of() {
    let node = json!({"spec": {"externalID": "x", "podCIDRs": ["10.0.0.1/24"]}});
    let told = of("", "Node", &node, None);
    assert_eq!(told[0], "spec.externalID: this field is deprecated, and is unused by Kubernetes");
    assert!(told[1].starts_with("spec.podCIDRs[0]: CIDR value"), "{told:?}");
    let mut ingress = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}, "spec": {}});
    let words = r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#;
    assert_eq!(of("networking.k8s.io", "Ingress", &ingress, None), [words]);
    assert!(of("networking.k8s.io", "Ingress", &ingress, Some(&ingress)).is_empty());
    ingress["spec"]["ingressClassName"] = json!("x");
    assert!(of("networking.k8s.io", "Ingress", &ingress, None).is_empty());
}
