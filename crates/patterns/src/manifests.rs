//! What a cluster needs to run `hythe operator` in it.

use serde_json::{Value, json};

use crate::webhook;

/// The port of the webhook in the operator's pods.
const WEBHOOK: i32 = 9443;

/// How the operator runs in a cluster.
#[derive(Clone, Debug)]
pub struct InCluster {
    /// Its namespace.
    pub namespace: String,
    /// The image of the operator.
    pub image: String,
    /// Its arguments beyond `operator`.
    pub arguments: Vec<String>,
    /// How many of it; one works, the others wait.
    pub replicas: i32,
}

/// All objects in the order in which they are applied.
pub fn manifests(wanted: &InCluster) -> Vec<Value> {
    let (name, namespace) = (webhook::NAME, wanted.namespace.as_str());
    let labels = json!({"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "hythe"});
    let named = json!({"name": name, "labels": labels});
    let within = json!({"name": name, "namespace": namespace, "labels": labels});
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
    let role = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let rules = |rules: &[Rule]| rules.iter().map(Rule::json).collect::<Vec<_>>();
    let rbac = "rbac.authorization.k8s.io/v1";
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": within}),
        json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": named, "rules": rules(EVERYWHERE)}),
        json!({
            "apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": named,
            "roleRef": role("ClusterRole"), "subjects": subjects,
        }),
        json!({"apiVersion": rbac, "kind": "Role", "metadata": within, "rules": rules(AT_HOME)}),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": within,
            "roleRef": role("Role"), "subjects": subjects,
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": within,
            "spec": {
                "selector": {"app.kubernetes.io/name": name},
                "ports": [{"name": "webhook", "protocol": "TCP", "port": 443, "targetPort": "webhook"}],
            },
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": within,
            "spec": {
                "replicas": wanted.replicas,
                "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
                "template": {"metadata": {"labels": labels}, "spec": pod(wanted)},
            },
        }),
    ]
}

fn pod(wanted: &InCluster) -> Value {
    let mut arguments = vec!["operator".to_owned()];
    arguments.extend(wanted.arguments.iter().cloned());
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "webhook", "scheme": "HTTPS"}});
    json!({
        "serviceAccountName": webhook::NAME,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 65_532, "runAsGroup": 65_532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{
            "name": "operator",
            "image": wanted.image,
            "imagePullPolicy": "IfNotPresent",
            "args": arguments,
            "ports": [{"name": "webhook", "containerPort": WEBHOOK, "protocol": "TCP"}],
            "startupProbe": {"httpGet": probe("/healthz")["httpGet"], "periodSeconds": 2, "failureThreshold": 60},
            "readinessProbe": probe("/readyz"),
            "livenessProbe": probe("/healthz"),
            "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            },
        }],
    })
}

/// What may be done with which resources of a group.
struct Rule(&'static str, &'static [&'static str], &'static [&'static str]);

impl Rule {
    fn json(&self) -> Value {
        json!({"apiGroups": [self.0], "resources": self.1, "verbs": self.2})
    }
}

const READ: &[&str] = &["get", "list", "watch"];
/// Server-side apply is a patch, and a creation where there is nothing yet.
const WRITE: &[&str] = &["get", "list", "watch", "create", "patch"];
const OWN: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

const PATTERNS: &[&str] =
    &["cachetiers", "ratelimits", "requestsplits", "scattergathers", "shardedservices", "sidecars"];
const PATTERNS_STATUS: &[&str] = &[
    "cachetiers/status",
    "ratelimits/status",
    "requestsplits/status",
    "scattergathers/status",
    "shardedservices/status",
    "sidecars/status",
];
/// What is made belongs to an object and may hold its deletion up, which some clusters let only those do who may set
/// its finalizers.
const PATTERNS_FINALIZERS: &[&str] = &[
    "cachetiers/finalizers",
    "ratelimits/finalizers",
    "requestsplits/finalizers",
    "scattergathers/finalizers",
    "shardedservices/finalizers",
];

const EVERYWHERE: &[Rule] = &[
    Rule("apiextensions.k8s.io", &["customresourcedefinitions"], WRITE),
    Rule("admissionregistration.k8s.io", &["mutatingwebhookconfigurations"], &["get", "create", "patch"]),
    Rule("patterns.hythe.dev", PATTERNS, READ),
    Rule("patterns.hythe.dev", PATTERNS_STATUS, &["patch"]),
    Rule("patterns.hythe.dev", PATTERNS_FINALIZERS, &["update"]),
    Rule("gateway.networking.k8s.io", &["gateways", "httproutes", "referencegrants"], READ),
    Rule("gateway.networking.k8s.io", &["gatewayclasses"], WRITE),
    Rule("gateway.networking.k8s.io", &["gatewayclasses/status", "gateways/status", "httproutes/status"], &["patch"]),
    Rule("networking.k8s.io", &["ingresses"], READ),
    Rule("networking.k8s.io", &["ingresses/status"], &["patch"]),
    Rule("networking.k8s.io", &["ingressclasses"], WRITE),
    Rule("apps", &["deployments"], OWN),
    Rule("apps", &["statefulsets"], WRITE),
    Rule("", &["configmaps"], WRITE),
    Rule("", &["services", "secrets"], OWN),
    Rule("", &["namespaces"], &["get", "list", "watch", "create", "patch"]),
    Rule("", &["nodes", "pods"], &["list"]),
    Rule("", &["events"], &["create", "patch"]),
];

const AT_HOME: &[Rule] = &[Rule("coordination.k8s.io", &["leases"], &["get", "create", "update"])];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_fit_together_and_grant_nothing_by_wildcard() {
        let wanted = InCluster {
            namespace: "away".to_owned(),
            image: "registry.example/operator:1".to_owned(),
            arguments: vec!["--image=registry.example/patterns:1".to_owned()],
            replicas: 2,
        };
        let all = manifests(&wanted);
        let of = |kind: &str| all.iter().find(|o| o["kind"] == kind).unwrap_or_else(|| panic!("there is a {kind}"));
        for kind in ["ServiceAccount", "Role", "RoleBinding", "Service", "Deployment"] {
            assert_eq!(of(kind)["metadata"]["namespace"], "away", "{kind}");
        }
        assert_eq!(of("ClusterRoleBinding")["subjects"][0]["namespace"], "away");
        assert_eq!(of("ClusterRoleBinding")["roleRef"]["name"], of("ClusterRole")["metadata"]["name"]);
        // The webhook's configuration asks for a Service of that name on port 443.
        assert_eq!(of("Service")["metadata"]["name"], webhook::NAME);
        let pod = &of("Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["args"], json!(["operator", "--image=registry.example/patterns:1"]));
        assert_eq!(of("Service")["spec"]["selector"], of("Deployment")["spec"]["selector"]["matchLabels"]);
        for rule in of("ClusterRole")["rules"].as_array().into_iter().flatten() {
            for part in ["apiGroups", "resources", "verbs"] {
                let texts = rule[part].as_array().into_iter().flatten();
                assert!(texts.clone().count() > 0 && texts.clone().all(|text| text != "*"), "{rule}");
            }
        }
    }
}
