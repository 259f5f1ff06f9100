//! The core group.

use super::entry::{Entry, PART, cluster, namespaced};
use crate::schema::types::*;

const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];

pub fn entries() -> Vec<Entry> {
    vec![
        namespaced("", "v1", "Binding", "bindings", &core_v1_Binding).verbs(&["create"]),
        cluster("", "v1", "ComponentStatus", "componentstatuses", &core_v1_ComponentStatus)
            .short(&["cs"])
            .verbs(&["get", "list"])
            .deprecated("v1 ComponentStatus is deprecated in v1.19+"),
        namespaced("", "v1", "ConfigMap", "configmaps", &core_v1_ConfigMap).short(&["cm"]),
        namespaced("", "v1", "Endpoints", "endpoints", &core_v1_Endpoints)
            .short(&["ep"])
            .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        namespaced("", "v1", "Event", "events", &core_v1_Event).short(&["ev"]).selectable(&[
            ("involvedObject.kind", "/involvedObject/kind"),
            ("involvedObject.namespace", "/involvedObject/namespace"),
            ("involvedObject.name", "/involvedObject/name"),
            ("involvedObject.uid", "/involvedObject/uid"),
            ("involvedObject.apiVersion", "/involvedObject/apiVersion"),
            ("involvedObject.resourceVersion", "/involvedObject/resourceVersion"),
            ("involvedObject.fieldPath", "/involvedObject/fieldPath"),
            ("reason", "/reason"),
            ("reportingComponent", "/reportingComponent"),
            ("source", "/source/component"),
            ("source", "/reportingComponent"),
            ("type", "/type"),
        ]),
        namespaced("", "v1", "LimitRange", "limitranges", &core_v1_LimitRange).short(&["limits"]),
        cluster("", "v1", "Namespace", "namespaces", &core_v1_Namespace)
            .short(&["ns"])
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
            .sub("finalize", "Namespace", &["update"])
            .status()
            .selectable(&[("status.phase", "/status/phase")]),
        cluster("", "v1", "Node", "nodes", &core_v1_Node)
            .short(&["no"])
            .sub("proxy", "NodeProxyOptions", PROXY)
            .status()
            .selectable(&[("spec.unschedulable", "/spec/unschedulable")]),
        namespaced("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", &core_v1_PersistentVolumeClaim)
            .short(&["pvc"])
            .status(),
        cluster("", "v1", "PersistentVolume", "persistentvolumes", &core_v1_PersistentVolume).short(&["pv"]).status(),
        pod(),
        namespaced("", "v1", "PodTemplate", "podtemplates", &core_v1_PodTemplate),
        namespaced("", "v1", "ReplicationController", "replicationcontrollers", &core_v1_ReplicationController)
            .short(&["rc"])
            .category(&["all"])
            .scale()
            .status()
            .selectable(&[("status.replicas", "/status/replicas")]),
        namespaced("", "v1", "ResourceQuota", "resourcequotas", &core_v1_ResourceQuota).short(&["quota"]).status(),
        namespaced("", "v1", "Secret", "secrets", &core_v1_Secret).selectable(&[("type", "/type")]),
        namespaced("", "v1", "ServiceAccount", "serviceaccounts", &core_v1_ServiceAccount).short(&["sa"]).foreign(
            "token",
            ("authentication.k8s.io", "v1"),
            "TokenRequest",
            &["create"],
        ),
        namespaced("", "v1", "Service", "services", &core_v1_Service)
            .short(&["svc"])
            .category(&["all"])
            .sub("proxy", "ServiceProxyOptions", PROXY)
            .status()
            .selectable(&[("spec.clusterIP", "/spec/clusterIP"), ("spec.type", "/spec/type")]),
    ]
}

fn pod() -> Entry {
    namespaced("", "v1", "Pod", "pods", &core_v1_Pod)
        .short(&["po"])
        .category(&["all"])
        .sub("attach", "PodAttachOptions", CONNECT)
        .sub("binding", "Binding", &["create"])
        .sub("ephemeralcontainers", "Pod", PART)
        .foreign("eviction", ("policy", "v1"), "Eviction", &["create"])
        .sub("exec", "PodExecOptions", CONNECT)
        .sub("log", "Pod", &["get"])
        .sub("portforward", "PodPortForwardOptions", CONNECT)
        .sub("proxy", "PodProxyOptions", PROXY)
        .sub("resize", "Pod", PART)
        .status()
        .selectable(&[
            ("spec.nodeName", "/spec/nodeName"),
            ("spec.restartPolicy", "/spec/restartPolicy"),
            ("spec.schedulerName", "/spec/schedulerName"),
            ("spec.serviceAccountName", "/spec/serviceAccountName"),
            ("spec.hostNetwork", "/spec/hostNetwork"),
            ("status.phase", "/status/phase"),
            ("status.podIP", "/status/podIP"),
            ("status.nominatedNodeName", "/status/nominatedNodeName"),
        ])
}
