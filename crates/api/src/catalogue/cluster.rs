//! What a cluster is made of besides its work: networks, storage, access, nodes, devices.

use super::entry::{Entry, PART, cluster, namespaced};
use crate::schema::types::*;

pub fn certificates() -> Vec<Entry> {
    vec![
        cluster(
            "certificates.k8s.io",
            "v1",
            "CertificateSigningRequest",
            "certificatesigningrequests",
            &certificates_v1_CertificateSigningRequest,
        )
        .short(&["csr"])
        .sub("approval", "CertificateSigningRequest", PART)
        .status()
        .selectable(&[("spec.signerName", "/spec/signerName")]),
    ]
}

pub fn networking() -> Vec<Entry> {
    const GROUP: &str = "networking.k8s.io";
    vec![
        cluster(GROUP, "v1", "IngressClass", "ingressclasses", &networking_v1_IngressClass),
        namespaced(GROUP, "v1", "Ingress", "ingresses", &networking_v1_Ingress).short(&["ing"]).status(),
        cluster(GROUP, "v1", "IPAddress", "ipaddresses", &networking_v1_IPAddress).short(&["ip"]),
        namespaced(GROUP, "v1", "NetworkPolicy", "networkpolicies", &networking_v1_NetworkPolicy).short(&["netpol"]),
        cluster(GROUP, "v1", "ServiceCIDR", "servicecidrs", &networking_v1_ServiceCIDR).status(),
    ]
}

pub fn rbac() -> Vec<Entry> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    vec![
        cluster(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings", &rbac_v1_ClusterRoleBinding),
        cluster(GROUP, "v1", "ClusterRole", "clusterroles", &rbac_v1_ClusterRole),
        namespaced(GROUP, "v1", "RoleBinding", "rolebindings", &rbac_v1_RoleBinding),
        namespaced(GROUP, "v1", "Role", "roles", &rbac_v1_Role),
    ]
}

pub fn storage() -> Vec<Entry> {
    const GROUP: &str = "storage.k8s.io";
    vec![
        cluster(GROUP, "v1", "CSIDriver", "csidrivers", &storage_v1_CSIDriver),
        cluster(GROUP, "v1", "CSINode", "csinodes", &storage_v1_CSINode),
        namespaced(GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities", &storage_v1_CSIStorageCapacity),
        cluster(GROUP, "v1", "StorageClass", "storageclasses", &storage_v1_StorageClass).short(&["sc"]),
        cluster(GROUP, "v1", "VolumeAttachment", "volumeattachments", &storage_v1_VolumeAttachment).status(),
        cluster(GROUP, "v1", "VolumeAttributesClass", "volumeattributesclasses", &storage_v1_VolumeAttributesClass)
            .short(&["vac"]),
    ]
}

pub fn coordination() -> Vec<Entry> {
    vec![namespaced("coordination.k8s.io", "v1", "Lease", "leases", &coordination_v1_Lease)]
}

pub fn node() -> Vec<Entry> {
    vec![cluster("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", &node_v1_RuntimeClass)]
}

pub fn discovery() -> Vec<Entry> {
    vec![namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", &discovery_v1_EndpointSlice)]
}

pub fn resource() -> Vec<Entry> {
    const GROUP: &str = "resource.k8s.io";
    vec![
        cluster(GROUP, "v1", "DeviceClass", "deviceclasses", &resource_v1_DeviceClass),
        namespaced(GROUP, "v1", "ResourceClaim", "resourceclaims", &resource_v1_ResourceClaim).status(),
        namespaced(GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates", &resource_v1_ResourceClaimTemplate),
        cluster(GROUP, "v1", "ResourceSlice", "resourceslices", &resource_v1_ResourceSlice)
            .selectable(&[("spec.nodeName", "/spec/nodeName"), ("spec.driver", "/spec/driver")]),
    ]
}

pub fn flow_control() -> Vec<Entry> {
    const GROUP: &str = "flowcontrol.apiserver.k8s.io";
    vec![
        cluster(GROUP, "v1", "FlowSchema", "flowschemas", &flowcontrol_v1_FlowSchema).status(),
        cluster(
            GROUP,
            "v1",
            "PriorityLevelConfiguration",
            "prioritylevelconfigurations",
            &flowcontrol_v1_PriorityLevelConfiguration,
        )
        .status(),
    ]
}
