//! Every kind that Hythe serves, by type: the roots from which all definitions are reached.

use k8s_openapi::{
    api::{
        admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates, coordination,
        core, discovery, events, flowcontrol, networking, node, policy, rbac, resource, scheduling, storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions,
    apimachinery::pkg::{apis::meta, version},
    kube_aggregator::pkg::apis::apiregistration,
    schemars::SchemaGenerator,
};
use serde_json::{Map, Value};

/// The JSON schemas of all types reachable from a served kind, by upstream's definition names.
pub fn definitions() -> Map<String, Value> {
    let mut generator = SchemaGenerator::default();
    macro_rules! visit {
        ($($module:path: $($kind:ident)*;)*) => {
            $({
                use $module as module;
                $(let _ = generator.subschema_for::<module::$kind>();)*
            })*
        };
    }
    visit! {
        core::v1: Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
            PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
        apps::v1: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        batch::v1: CronJob Job;
        autoscaling::v1: HorizontalPodAutoscaler Scale;
        autoscaling::v2: HorizontalPodAutoscaler;
        policy::v1: Eviction PodDisruptionBudget;
        rbac::v1: ClusterRole ClusterRoleBinding Role RoleBinding;
        networking::v1: IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
        discovery::v1: EndpointSlice;
        storage::v1: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass;
        scheduling::v1: PriorityClass;
        coordination::v1: Lease;
        node::v1: RuntimeClass;
        events::v1: Event;
        admissionregistration::v1: MutatingAdmissionPolicy MutatingAdmissionPolicyBinding
            MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
            ValidatingWebhookConfiguration;
        certificates::v1: CertificateSigningRequest;
        apiextensions::v1: CustomResourceDefinition;
        apiregistration::v1: APIService;
        resource::v1: DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
        flowcontrol::v1: FlowSchema PriorityLevelConfiguration;
        authentication::v1: SelfSubjectReview TokenRequest TokenReview;
        authorization::v1: LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview
            SubjectAccessReview;
        meta::v1: APIGroup APIGroupList APIResourceList APIVersions DeleteOptions ListMeta Patch Status;
        version: Info;
    }
    let mut definitions = generator.take_definitions(false);
    definitions.extend(crate::metrics::definitions());
    definitions.extend(crate::declared::definitions());
    for schema in definitions.values_mut() {
        metadata_is_optional(schema);
    }
    definitions
}

/// The Rust types can't leave out `metadata`; the API can.
fn metadata_is_optional(schema: &mut Value) {
    let Some(required) = schema["required"].as_array_mut() else { return };
    required.retain(|field| field != "metadata");
    if required.is_empty() {
        schema.as_object_mut().expect("a schema with required fields is an object").remove("required");
    }
}
