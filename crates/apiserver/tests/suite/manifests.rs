//! The smallest valid object of every kind that can be created.

use serde_json::{Value, json};

/// The body without `apiVersion`, `kind` and `metadata`; `None` for kinds that nobody has written down yet.
pub fn body(group: &str, kind: &str) -> Option<Value> {
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod});
    let selector = json!({"matchLabels": {"a": "b"}});
    let job = json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"});
    let webhook = json!([{
        "name": "a.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://example.com/a"},
    }]);
    let rules = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]});
    Some(match (group, kind) {
        ("", "Pod") => json!({"spec": pod}),
        ("", "PodTemplate") => json!({"template": template}),
        ("", "ReplicationController") => json!({"spec": {"selector": {"a": "b"}, "template": template}}),
        ("", "PersistentVolumeClaim") => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        ("", "PersistentVolume") => {
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}})
        }
        ("", "Service") => json!({"spec": {"ports": [{"port": 80}]}}),
        ("", "LimitRange") => json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
        ("", "ResourceQuota") => json!({"spec": {"hard": {"pods": "1"}}}),
        ("", "Event") => json!({"involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "R"}),
        ("", "ConfigMap" | "Secret" | "ServiceAccount" | "Namespace" | "Node" | "Endpoints") => json!({}),
        ("events.k8s.io", "Event") => json!({
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
            "action": "A", "reason": "R", "type": "Normal", "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
        }),
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => {
            json!({"spec": {"selector": selector, "template": template}})
        }
        ("apps", "StatefulSet") => json!({"spec": {"selector": selector, "template": template, "serviceName": "s"}}),
        ("apps", "ControllerRevision") => json!({"revision": 1, "data": {"a": 1}}),
        ("batch", "Job") => json!({"spec": job}),
        ("batch", "CronJob") => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}}),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}})
        }
        ("policy", "PodDisruptionBudget") => json!({"spec": {"minAvailable": 1, "selector": selector}}),
        ("coordination.k8s.io", "Lease") => json!({"spec": {"holderIdentity": "h"}}),
        ("discovery.k8s.io", "EndpointSlice") => {
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]})
        }
        ("networking.k8s.io", "Ingress") => {
            json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}})
        }
        ("networking.k8s.io", "IngressClass") => json!({"spec": {"controller": "example.com/c"}}),
        ("networking.k8s.io", "NetworkPolicy") => json!({"spec": {"podSelector": {}}}),
        ("networking.k8s.io", "IPAddress") => json!({"spec": {"parentRef": {"resource": "services", "name": "s"}}}),
        ("networking.k8s.io", "ServiceCIDR") => json!({"spec": {"cidrs": ["10.9.0.0/24"]}}),
        ("node.k8s.io", "RuntimeClass") => json!({"handler": "h"}),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => {
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => json!({
            "roleRef": role, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}],
        }),
        ("scheduling.k8s.io", "PriorityClass") => json!({"value": 7}),
        ("storage.k8s.io", "StorageClass") => json!({"provisioner": "example.com/p"}),
        ("storage.k8s.io", "CSIDriver") => json!({"spec": {}}),
        ("storage.k8s.io", "CSINode") => json!({"spec": {"drivers": [{"name": "a.example.com", "nodeID": "n"}]}}),
        ("storage.k8s.io", "CSIStorageCapacity") => json!({"storageClassName": "c"}),
        ("storage.k8s.io", "VolumeAttachment") => {
            json!({"spec": {"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        ("storage.k8s.io", "VolumeAttributesClass") => json!({"driverName": "a.example.com", "parameters": {"a": "b"}}),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            json!({"webhooks": webhook})
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            json!({"spec": {"matchConstraints": rules, "validations": [{"expression": "true"}]}})
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => json!({"spec": {
            "matchConstraints": rules, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
        }}),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}})
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding") => json!({"spec": {"policyName": "p"}}),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => json!({"spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"kind": "Walk", "plural": "walks", "singular": "walk", "listKind": "WalkList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }}),
        ("apiregistration.k8s.io", "APIService") => json!({"spec": {
            "group": "example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
        }}),
        ("certificates.k8s.io", "CertificateSigningRequest") => json!({"spec": {
            "request": REQUEST, "signerName": "example.com/signer", "usages": ["client auth"],
        }}),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1000}})
        }
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => json!({"spec": {
            "type": "Limited", "limited": {"nominalConcurrencyShares": 10, "limitResponse": {"type": "Reject"}},
        }}),
        ("resource.k8s.io", "DeviceClass") => json!({"spec": {}}),
        ("resource.k8s.io", "ResourceClaim") => json!({"spec": {}}),
        ("resource.k8s.io", "ResourceClaimTemplate") => json!({"spec": {"spec": {}}}),
        ("resource.k8s.io", "ResourceSlice") => json!({"spec": {
            "driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        }}),
        ("gateway.networking.k8s.io", "GatewayClass") => json!({"spec": {"controllerName": "example.com/gateway"}}),
        ("gateway.networking.k8s.io", "Gateway") => json!({"spec": {
            "gatewayClassName": "c", "listeners": [{"name": "l", "port": 80, "protocol": "HTTP"}],
        }}),
        ("gateway.networking.k8s.io", "HTTPRoute") => {
            json!({"spec": {"rules": [{"backendRefs": [{"name": "s", "port": 80}]}]}})
        }
        ("gateway.networking.k8s.io", "ReferenceGrant") => json!({"spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "n"}],
            "to": [{"group": "", "kind": "Service"}],
        }}),
        ("patterns.hythe.dev", "ShardedService") => json!({"spec": {"shards": {"statefulSet": {"name": "s"}}}}),
        ("patterns.hythe.dev", "RequestSplit") => json!({"spec": {"backends": [{"name": "s"}]}}),
        ("patterns.hythe.dev", "CacheTier") => json!({"spec": {"service": {"name": "s"}}}),
        ("patterns.hythe.dev", "RateLimit") => json!({"spec": {"service": {"name": "s"}, "limit": {"requests": 1}}}),
        ("patterns.hythe.dev", "ScatterGather") => json!({"spec": {"leaves": [{"name": "s"}]}}),
        ("patterns.hythe.dev", "Sidecar") => {
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "containers": [{"name": "c", "image": "i"}]}})
        }
        _ => return None,
    })
}

/// The name that an object of this kind must bear, where it is not free.
pub fn name(group: &str, kind: &str) -> &'static str {
    match (group, kind) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => "walks.example.com",
        ("apiregistration.k8s.io", "APIService") => "v1.example.com",
        ("networking.k8s.io", "IPAddress") => "10.43.0.99",
        ("", "Service") => "walk",
        _ => "walk",
    }
}

/// A PEM certificate request for `CN=walk`, base64.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIUE1IWUNBUUF3RURFT01Bd0dBMVVFQXd3RmQyRnNhekF3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQgpCd05DQUFSVzJLTGlPb0xoR2hCTEJaRGRBS3RvCi0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";
