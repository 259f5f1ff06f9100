use api::strategy;
use serde_json::{Value, json};

use super::{change, create, manifest, strategy_of};

/// The object with its defaults, which do not change when given twice.
fn defaulted(mut object: Value) -> Value {
    let (_, _, strategy) = strategy_of(&object);
    (strategy.default)(&mut object);
    let once = object.clone();
    (strategy.default)(&mut object);
    assert_eq!(object, once, "defaults are idempotent");
    object
}

#[test]
fn a_pod_gets_upstreams_defaults() {
    let mut pod = manifest("pod");
    pod["spec"]["volumes"] = json!([
        {"name": "e"},
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "h", "hostPath": {"path": "/x"}},
        {"name": "d", "downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]);
    let container = &mut pod["spec"]["containers"][0];
    container["ports"] = json!([{"containerPort": 80}]);
    container["livenessProbe"] = json!({"httpGet": {"port": 80}});
    container["readinessProbe"] = json!({"grpc": {"port": 80}});
    container["env"] = json!([{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    container["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
    assert_eq!(
        defaulted(pod)["spec"],
        json!({
            "containers": [{
                "name": "app", "image": "registry.example/app:1.2", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "livenessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "readinessProbe": {
                    "grpc": {"port": 80, "service": ""},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [
                {"name": "e", "emptyDir": {}},
                {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "h", "hostPath": {"path": "/x", "type": ""}},
                {"name": "d", "downwardAPI": {
                    "items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}],
                    "defaultMode": 420,
                }},
                {"name": "p", "projected": {
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}], "defaultMode": 420,
                }},
            ],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
        })
    );
}

#[test]
fn fields_of_features_that_are_off_are_dropped() {
    let sources = json!([
        {"clusterTrustBundle": {"name": "a", "path": "ca.pem"}},
        {"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519"}},
        {"configMap": {"name": "c"}},
    ]);
    let pod = defaulted(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
    "schedulingGroup": {"podGroupName": "g"},
    "volumes": [{"name": "v", "projected": {"sources": sources}}],
    "containers": [
        {"name": "a", "image": "i:1", "lifecycle": {"stopSignal": "SIGUSR1"}},
        {"name": "b", "image": "i:1", "lifecycle": {"stopSignal": "SIGUSR1", "preStop": {"sleep": {"seconds": 1}}}},
    ]}}));
    assert_eq!(pod["spec"]["volumes"][0]["projected"]["sources"], json!([{}, {}, {"configMap": {"name": "c"}}]));
    assert_eq!(
        (&pod["spec"]["schedulingGroup"], &pod["spec"]["containers"][0]["lifecycle"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(pod["spec"]["containers"][1]["lifecycle"], json!({"preStop": {"sleep": {"seconds": 1}}}));
}

#[test]
fn an_image_is_pulled_always_only_if_its_tag_is_latest() {
    let table = [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0000000000000000000000000000000000000000000000000000000000000000", "IfNotPresent"),
        ("nginx:latest@sha256:0000000000000000000000000000000000000000000000000000000000000000", "Always"),
        ("Not An Image", "IfNotPresent"),
    ];
    for (image, policy) in table {
        let mut pod = manifest("pod");
        pod["spec"]["containers"][0]["image"] = json!(image);
        assert_eq!(defaulted(pod)["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn a_pod_on_the_hosts_network_has_the_hosts_ports() {
    let mut pod = manifest("pod");
    change(&mut pod, &[("/spec/hostNetwork", "true"), ("/spec/containers/0/ports", r#"[{"containerPort":80}]"#)]);
    assert_eq!(defaulted(pod)["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
    let mut deployment = manifest("deployment");
    change(
        &mut deployment,
        &[
            ("/spec/template/spec/hostNetwork", "true"),
            ("/spec/template/spec/containers/0/ports", r#"[{"containerPort":80}]"#),
        ],
    );
    let port = &defaulted(deployment)["spec"]["template"]["spec"]["containers"][0]["ports"][0];
    assert_eq!(port.get("hostPort"), None, "templates get theirs when they become pods");
}

#[test]
fn a_pods_class_follows_from_its_resources() {
    let table = [
        (json!({}), "BestEffort"),
        (json!({"requests": {"cpu": "1"}}), "Burstable"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}), "Guaranteed"),
        (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable"),
        (json!({"requests": {"cpu": "0"}}), "BestEffort"),
    ];
    for (resources, class) in table {
        let mut object = manifest("pod");
        object["spec"]["containers"][0]["resources"] = resources.clone();
        assert_eq!(create(object).0["status"]["qosClass"], class, "{resources}");
    }
}

#[test]
fn workloads_get_upstreams_defaults() {
    let spec = |name: &str, field: &str| defaulted(manifest(name))["spec"][field].clone();
    assert_eq!(
        spec("deployment", "strategy"),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(spec("deployment", "replicas"), 1);
    assert_eq!(spec("deployment", "revisionHistoryLimit"), 10);
    assert_eq!(spec("deployment", "progressDeadlineSeconds"), 600);
    assert_eq!(
        spec("statefulset", "updateStrategy"),
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}})
    );
    assert_eq!(spec("statefulset", "podManagementPolicy"), "OrderedReady");
    assert_eq!(
        spec("statefulset", "persistentVolumeClaimRetentionPolicy"),
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(
        spec("daemonset", "updateStrategy"),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    for (field, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
    ] {
        assert_eq!(spec("job", field), value, "{field}");
    }
    for (field, value) in [
        ("concurrencyPolicy", json!("Allow")),
        ("suspend", json!(false)),
        ("successfulJobsHistoryLimit", json!(3)),
        ("failedJobsHistoryLimit", json!(1)),
    ] {
        assert_eq!(spec("cronjob", field), value, "{field}");
    }
    let template = spec("cronjob", "jobTemplate");
    assert_eq!(template["spec"].get("backoffLimit"), None, "the Job gets it when it is made");
    assert!(template["metadata"].is_object() && template["spec"]["template"]["metadata"].is_object(), "{template}");
}

#[test]
fn a_service_gets_upstreams_defaults() {
    assert_eq!(
        defaulted(manifest("service"))["spec"],
        json!({
            "selector": {"app": "web"}, "clusterIP": "10.43.0.9",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
        })
    );
    let mut service = manifest("service");
    change(&mut service, &[("/spec/type", r#""LoadBalancer""#), ("/spec/sessionAffinity", r#""ClientIP""#)]);
    let spec = &defaulted(service)["spec"];
    assert_eq!(spec["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    assert_eq!(spec["externalTrafficPolicy"], "Cluster");
    assert_eq!(spec["allocateLoadBalancerNodePorts"], true);
}

#[test]
fn plain_text_of_a_secret_becomes_data() {
    let mut secret = manifest("secret");
    secret["data"] = json!({"key": "b2xk", "other": "eA=="});
    let secret = defaulted(secret);
    assert_eq!(secret["data"], json!({"key": "dmFsdWU=", "other": "eA=="}));
    assert_eq!(secret["type"], "Opaque");
    assert_eq!(secret.get("stringData"), None);
}

#[test]
fn other_kinds_get_upstreams_defaults() {
    assert_eq!(defaulted(manifest("class"))["reclaimPolicy"], "Delete");
    assert_eq!(defaulted(manifest("class"))["volumeBindingMode"], "Immediate");
    assert_eq!(defaulted(manifest("claim"))["spec"]["volumeMode"], "Filesystem");
    assert_eq!(defaulted(manifest("volume"))["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(defaulted(manifest("policy"))["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(defaulted(manifest("binding"))["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(defaulted(manifest("slice"))["ports"], json!([{"port": 80, "name": "", "protocol": "TCP"}]));
    let mut bare = manifest("slice");
    bare.as_object_mut().expect("an object").retain(|field, _| field != "ports" && field != "endpoints");
    let bare = defaulted(bare);
    assert_eq!((bare.get("ports"), bare.get("endpoints")), (Some(&Value::Null), Some(&Value::Null)), "as Go writes it");
    assert_eq!(
        defaulted(manifest("autoscaler"))["spec"]["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    );
    assert_eq!(
        defaulted(manifest("limits"))["spec"]["limits"][0],
        json!({
            "type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m"},
            "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2"},
        })
    );
}

#[test]
fn a_kind_that_nobody_knows_has_a_plain_strategy() {
    let plain = strategy::for_kind("example.com", "Thing");
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"a": 1}});
    (plain.default)(&mut object);
    assert_eq!(object, json!({"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"a": 1}}));
    assert!((plain.validate)(&object).is_empty());
    assert!(!plain.create_on_update);
    (plain.prepare_create)(&mut object);
    assert_eq!(object.get("status"), None, "a kind may have no status at all");
}
