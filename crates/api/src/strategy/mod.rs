//! What upstream calls the strategy of a kind: defaults, preparation and validation, a kind family per file.
//!
//! The order on a create is `default`, [`metadata::prepare_create`], `prepare_create`, [`after_identity`],
//! [`metadata::validate_create`] and `validate`; on an update `default`, [`metadata::prepare_update`],
//! `prepare_update`, [`metadata::validate_update`] and `validate_update`.

pub(crate) mod access;
mod access_control;
pub mod addresses;
mod amount;
pub(crate) mod check;
mod class;
mod cluster;
mod config;
mod csi;
mod declared;
mod endpoints;
mod event;
mod extension;
pub mod field;
pub mod metadata;
pub mod names;
mod network_policy;
mod networking;
pub mod pod;
mod prepare;
mod quota;
mod resources;
mod scaling;
pub mod service;
mod volume;
mod webhook;
mod workload;

use serde_json::Value;

use crate::resource::Strategy;

/// The strategy of a built-in kind; a plain one (subdomain names, a status removed and kept) for kinds not known.
pub const fn for_kind(group: &str, kind: &str) -> Strategy {
    let mut i = 0;
    while i < TABLE.len() {
        let (its_group, its_kind, strategy) = &TABLE[i];
        if same(its_group, group) && same(its_kind, kind) {
            return copy(strategy);
        }
        i += 1;
    }
    copy(&prepare::UNKNOWN)
}

/// To be called on a create once `metadata.uid` and `metadata.name` are set, after `prepare_create`: fills in what
/// depends on them (labels and selector of a Job).
pub fn after_identity(group: &str, kind: &str, object: &mut Value) {
    if group == "batch" && kind == "Job" {
        workload::job::after_identity(object);
    }
}

type Row = (&'static str, &'static str, Strategy);

const TABLE: &[Row] = &[
    ("", "Pod", pod::POD),
    ("", "ConfigMap", config::CONFIG_MAP),
    ("", "Secret", config::SECRET),
    ("", "Service", service::SERVICE),
    ("", "Endpoints", endpoints::ENDPOINTS),
    ("", "Event", cluster::CORE_EVENT),
    ("", "Namespace", cluster::NAMESPACE),
    ("", "Node", cluster::NODE),
    ("", "ServiceAccount", cluster::SERVICE_ACCOUNT),
    ("", "ResourceQuota", quota::RESOURCE_QUOTA),
    ("", "LimitRange", quota::LIMIT_RANGE),
    ("", "PodTemplate", pod::POD_TEMPLATE),
    ("", "ReplicationController", workload::replica_set::REPLICATION_CONTROLLER),
    ("", "PersistentVolume", volume::PERSISTENT_VOLUME),
    ("", "PersistentVolumeClaim", volume::PERSISTENT_VOLUME_CLAIM),
    ("apps", "Deployment", workload::deployment::DEPLOYMENT),
    ("apps", "ReplicaSet", workload::replica_set::REPLICA_SET),
    ("apps", "StatefulSet", workload::stateful_set::STATEFUL_SET),
    ("apps", "DaemonSet", workload::daemon_set::DAEMON_SET),
    ("apps", "ControllerRevision", workload::stateful_set::CONTROLLER_REVISION),
    ("batch", "Job", workload::job::JOB),
    ("batch", "CronJob", workload::cron_job::CRON_JOB),
    ("autoscaling", "HorizontalPodAutoscaler", scaling::HORIZONTAL_POD_AUTOSCALER),
    ("policy", "PodDisruptionBudget", scaling::POD_DISRUPTION_BUDGET),
    ("coordination.k8s.io", "Lease", cluster::LEASE),
    ("events.k8s.io", "Event", cluster::EVENT),
    ("discovery.k8s.io", "EndpointSlice", endpoints::ENDPOINT_SLICE),
    ("networking.k8s.io", "Ingress", networking::INGRESS),
    ("networking.k8s.io", "IngressClass", networking::INGRESS_CLASS),
    ("networking.k8s.io", "NetworkPolicy", network_policy::NETWORK_POLICY),
    ("networking.k8s.io", "ServiceCIDR", networking::SERVICE_CIDR),
    ("networking.k8s.io", "IPAddress", networking::IP_ADDRESS),
    ("rbac.authorization.k8s.io", "Role", access_control::ROLE),
    ("rbac.authorization.k8s.io", "ClusterRole", access_control::ROLE),
    ("rbac.authorization.k8s.io", "RoleBinding", access_control::ROLE_BINDING),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", access_control::ROLE_BINDING),
    ("certificates.k8s.io", "CertificateSigningRequest", access_control::CERTIFICATE_SIGNING_REQUEST),
    ("storage.k8s.io", "StorageClass", volume::STORAGE_CLASS),
    ("storage.k8s.io", "CSIDriver", csi::CSI_DRIVER),
    ("storage.k8s.io", "CSINode", csi::CSI_NODE),
    ("storage.k8s.io", "CSIStorageCapacity", csi::CSI_STORAGE_CAPACITY),
    ("storage.k8s.io", "VolumeAttributesClass", volume::VOLUME_ATTRIBUTES_CLASS),
    ("storage.k8s.io", "VolumeAttachment", csi::VOLUME_ATTACHMENT),
    ("scheduling.k8s.io", "PriorityClass", class::PRIORITY_CLASS),
    ("node.k8s.io", "RuntimeClass", class::RUNTIME_CLASS),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", extension::MUTATING_WEBHOOKS),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", extension::VALIDATING_WEBHOOKS),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", extension::ADMISSION_POLICY),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", extension::ADMISSION_POLICY_BINDING),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", extension::ADMISSION_POLICY),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", extension::ADMISSION_POLICY_BINDING),
    ("apiextensions.k8s.io", "CustomResourceDefinition", extension::CUSTOM_RESOURCE_DEFINITION),
    ("apiregistration.k8s.io", "APIService", extension::API_SERVICE),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", extension::FLOW_SCHEMA),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", extension::PRIORITY_LEVEL),
    ("resource.k8s.io", "ResourceClaim", extension::RESOURCE_CLAIM),
    ("resource.k8s.io", "ResourceClaimTemplate", extension::RESOURCE_CLAIM_TEMPLATE),
    ("resource.k8s.io", "ResourceSlice", extension::RESOURCE_SLICE),
    ("resource.k8s.io", "DeviceClass", prepare::PLAIN),
    ("patterns.hythe.dev", "ShardedService", declared::PATTERN),
    ("patterns.hythe.dev", "RequestSplit", declared::PATTERN),
    ("patterns.hythe.dev", "CacheTier", declared::PATTERN),
    ("patterns.hythe.dev", "RateLimit", declared::PATTERN),
    ("patterns.hythe.dev", "ScatterGather", declared::PATTERN),
    ("patterns.hythe.dev", "Sidecar", declared::DECLARED),
    ("gateway.networking.k8s.io", "GatewayClass", declared::GATEWAY_CLASS),
    ("gateway.networking.k8s.io", "Gateway", declared::DECLARED),
    ("gateway.networking.k8s.io", "HTTPRoute", declared::DECLARED),
    ("gateway.networking.k8s.io", "ReferenceGrant", declared::GRANT),
];

const fn copy(strategy: &Strategy) -> Strategy {
    Strategy {
        default: strategy.default,
        prepare_create: strategy.prepare_create,
        prepare_update: strategy.prepare_update,
        prepare_status_update: strategy.prepare_status_update,
        validate: strategy.validate,
        validate_update: strategy.validate_update,
        validate_status_update: strategy.validate_status_update,
        name: strategy.name,
        create_on_update: strategy.create_on_update,
        unconditional_update: strategy.unconditional_update,
        grace: strategy.grace,
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
