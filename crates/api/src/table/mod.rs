//! Server-side tables (`meta.k8s.io/v1 Table`): the columns that each kind shows, and their rendering.
//!
//! Names, order, priorities and cell texts are upstream's: kubectl and scripts read them.

mod admission;
mod age;
mod cell;
mod cluster;
mod column;
mod config;
mod events;
mod identity;
mod network;
mod node;
mod patterns;
mod pod;
mod render;
mod scaling;
mod storage;
mod usage;
mod workload;

pub use age::{human_duration, since};
pub use render::{Header, IncludeObject, definitions, render, row};

use crate::resource::{Column, Resource};

/// The names of all fields that the columns of a kind look at, sorted, where that is worth knowing: a list of many is
/// then made without reading the rest of its objects.
pub fn fields_read(resource: &Resource) -> Option<&'static [&'static str]> {
    (resource.group.is_empty() && resource.kind == "Pod").then_some(pod::FIELDS)
}

/// The columns of a kind; name and creation time for kinds that upstream gives no columns.
pub fn columns(group: &str, kind: &str) -> &'static [Column] {
    match (group, kind) {
        ("", "Pod") => pod::PODS,
        ("", "PodTemplate") => workload::POD_TEMPLATES,
        ("", "ReplicationController") => workload::REPLICATION_CONTROLLERS,
        ("apps", "ReplicaSet") => workload::REPLICA_SETS,
        ("apps", "Deployment") => workload::DEPLOYMENTS,
        ("apps", "StatefulSet") => workload::STATEFUL_SETS,
        ("apps", "DaemonSet") => workload::DAEMON_SETS,
        ("apps", "ControllerRevision") => workload::CONTROLLER_REVISIONS,
        ("batch", "Job") => workload::JOBS,
        ("batch", "CronJob") => workload::CRON_JOBS,
        ("autoscaling", "HorizontalPodAutoscaler") => scaling::AUTOSCALERS,
        ("autoscaling", "Scale") => scaling::SCALES,
        ("metrics.k8s.io", "NodeMetrics") => usage::NODES,
        ("metrics.k8s.io", "PodMetrics") => usage::PODS,
        ("policy", "PodDisruptionBudget") => scaling::DISRUPTION_BUDGETS,
        ("", "Service") => network::SERVICES,
        ("", "Endpoints") => network::ENDPOINTS,
        ("discovery.k8s.io", "EndpointSlice") => network::ENDPOINT_SLICES,
        ("networking.k8s.io", "Ingress") => network::INGRESSES,
        ("networking.k8s.io", "IngressClass") => network::INGRESS_CLASSES,
        ("networking.k8s.io", "NetworkPolicy") => network::NETWORK_POLICIES,
        ("networking.k8s.io", "ServiceCIDR") => network::SERVICE_CIDRS,
        ("networking.k8s.io", "IPAddress") => network::IP_ADDRESSES,
        ("", "Node") => node::NODES,
        ("", "Namespace") => config::NAMESPACES,
        ("", "Secret") => config::SECRETS,
        ("", "ConfigMap") => config::CONFIG_MAPS,
        ("", "ServiceAccount") => config::SERVICE_ACCOUNTS,
        ("", "ResourceQuota") => config::RESOURCE_QUOTAS,
        ("" | "events.k8s.io", "Event") => events::EVENTS,
        ("", "PersistentVolume") => storage::VOLUMES,
        ("", "PersistentVolumeClaim") => storage::CLAIMS,
        ("storage.k8s.io", "StorageClass") => storage::CLASSES,
        ("storage.k8s.io", "VolumeAttachment") => storage::ATTACHMENTS,
        ("storage.k8s.io", "VolumeAttributesClass") => storage::ATTRIBUTES_CLASSES,
        ("storage.k8s.io", "CSINode") => storage::CSI_NODES,
        ("storage.k8s.io", "CSIDriver") => storage::CSI_DRIVERS,
        ("storage.k8s.io", "CSIStorageCapacity") => storage::CSI_CAPACITIES,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => identity::ROLE_BINDINGS,
        ("certificates.k8s.io", "CertificateSigningRequest") => identity::SIGNING_REQUESTS,
        ("certificates.k8s.io", "ClusterTrustBundle") => identity::TRUST_BUNDLES,
        ("coordination.k8s.io", "Lease") => cluster::LEASES,
        ("coordination.k8s.io", "LeaseCandidate") => cluster::LEASE_CANDIDATES,
        ("scheduling.k8s.io", "PriorityClass") => cluster::PRIORITY_CLASSES,
        ("node.k8s.io", "RuntimeClass") => cluster::RUNTIME_CLASSES,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => cluster::FLOW_SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => cluster::PRIORITY_LEVELS,
        ("internal.apiserver.k8s.io", "StorageVersion") => cluster::STORAGE_VERSIONS,
        ("storagemigration.k8s.io", "StorageVersionMigration") => cluster::MIGRATIONS,
        ("apiregistration.k8s.io", "APIService") => cluster::API_SERVICES,
        ("", "ComponentStatus") => cluster::COMPONENTS,
        ("resource.k8s.io", "ResourceClaim") => cluster::RESOURCE_CLAIMS,
        ("resource.k8s.io", "ResourceSlice") => cluster::RESOURCE_SLICES,
        ("resource.k8s.io", "DeviceClass" | "ResourceClaimTemplate") => cluster::NAME_AND_AGE,
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            admission::WEBHOOKS
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => admission::VALIDATING_POLICIES,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => admission::MUTATING_POLICIES,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding") => {
            admission::BINDINGS
        }
        ("patterns.hythe.dev", "ShardedService") => patterns::SHARDED_SERVICES,
        ("patterns.hythe.dev", "RequestSplit") => patterns::REQUEST_SPLITS,
        ("patterns.hythe.dev", "CacheTier") => patterns::CACHE_TIERS,
        ("patterns.hythe.dev", "RateLimit") => patterns::RATE_LIMITS,
        ("patterns.hythe.dev", "ScatterGather") => patterns::SCATTER_GATHERS,
        ("patterns.hythe.dev", "Sidecar") => patterns::SIDECARS,
        ("gateway.networking.k8s.io", "GatewayClass") => patterns::GATEWAY_CLASSES,
        ("gateway.networking.k8s.io", "Gateway") => patterns::GATEWAYS,
        ("gateway.networking.k8s.io", "HTTPRoute") => patterns::HTTP_ROUTES,
        ("gateway.networking.k8s.io", "ReferenceGrant") => patterns::REFERENCE_GRANTS,
        _ => column::PLAIN,
    }
}
