//! Names that stay: which pod of a StatefulSet has which ordinal, name, host name, labels and claims. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource, ResourceExt};

use crate::{ownership::controller_reference, pod_control};

/// Label: the pod's name.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Label: its ordinal.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// Label: the name of the revision that it was made from.
pub const REVISION: &str = "controller-revision-hash";

/// The number behind the set's name, if the pod is named after the set.
pub fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    let name = pod.metadata.name.as_deref()?;
    let digits = name.strip_prefix(set)?.strip_prefix('-')?;
    let number: i32 = digits.parse().ok().filter(|n| *n >= 0)?;
    (number.to_string() == digits).then_some(number)
}

/// The first ordinal.
pub fn start(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.ordinals.as_ref()?.start).unwrap_or(0)
}

/// `spec.replicas`.
pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Whether the ordinal is one that the set is to have.
pub fn is_wanted(set: &StatefulSet, ordinal: i32) -> bool {
    (start(set)..start(set) + replicas(set)).contains(&ordinal)
}

/// The revision that a pod was made from.
pub fn revision(pod: &Pod) -> &str {
    pod.labels().get(REVISION).map_or("", String::as_str)
}

/// The pod with this ordinal, from a revision's template.
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pod_control::from_template(set, template);
    let name = format!("{}-{ordinal}", set.name_any());
    pod.metadata.name = Some(name.clone());
    pod.labels_mut().extend(labels(&name, ordinal));
    pod.labels_mut().insert(REVISION.into(), revision.into());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    let volumes = spec.volumes.get_or_insert_default();
    for claim in claim_templates(set) {
        let template = claim.name_any();
        volumes.retain(|v| v.name != template);
        volumes.push(Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(&template, set, ordinal),
                read_only: Some(false),
            }),
            name: template,
            ..Volume::default()
        });
    }
    if volumes.is_empty() {
        spec.volumes = None;
    }
    pod
}

/// The labels by which a pod can be selected alone.
pub fn labels(name: &str, ordinal: i32) -> BTreeMap<String, String> {
    BTreeMap::from([(POD_NAME.to_owned(), name.to_owned()), (POD_INDEX.to_owned(), ordinal.to_string())])
}

fn claim_templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|s| s.volume_claim_templates.as_deref()).unwrap_or_default()
}

fn claim_name(template: &str, set: &StatefulSet, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set.name_any())
}

/// The claims of the pod with this ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selected = set.spec.as_ref().and_then(|s| s.selector.match_labels.clone()).unwrap_or_default();
    claim_templates(set)
        .iter()
        .map(|template| {
            let mut claim = template.clone();
            claim.metadata.name = Some(claim_name(&template.name_any(), set, ordinal));
            claim.metadata.namespace = set.namespace();
            claim.labels_mut().extend(selected.clone());
            claim.status = None;
            claim
        })
        .collect()
}

/// The owners that the retention policy gives to a claim; `pod` is the claim's pod if it lives. Owners that are
/// neither the set nor the pod are left alone.
pub fn claim_owners(
    set: &StatefulSet,
    pod: Option<&Pod>,
    ordinal: i32,
    before: &[OwnerReference],
) -> Vec<OwnerReference> {
    let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.clone()).unwrap_or_default();
    let deletes = |when: &Option<String>| when.as_deref() == Some("Delete");
    let (kind, api) = (StatefulSet::kind(&()), StatefulSet::api_version(&()));
    let ours = |r: &OwnerReference| {
        (r.kind == kind && r.api_version == api && r.name == set.name_any())
            || (r.kind == "Pod" && r.api_version == "v1" && r.name == format!("{}-{ordinal}", set.name_any()))
    };
    let condemned = !is_wanted(set, ordinal);
    let wanted = match (deletes(&policy.when_deleted), deletes(&policy.when_scaled)) {
        (_, true) if condemned => pod.map(controller_reference),
        (true, _) => Some(controller_reference(set)),
        _ => None,
    };
    // A claim that still goes with a pod that is gone is not to be held back.
    if wanted.is_none() && condemned && deletes(&policy.when_scaled) {
        return before.to_vec();
    }
    before.iter().filter(|r| !ours(r)).cloned().chain(wanted).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(extra: Value) -> StatefulSet {
        let mut spec = json!({"replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": {},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "n", "uid": "set"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn ordinals_are_read_from_names() {
        let named = |name: &str| -> Pod { serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() };
        for (name, number) in
            [("db-0", Some(0)), ("db-12", Some(12)), ("db-01", None), ("db-x", None), ("other-0", None), ("db", None)]
        {
            assert_eq!(ordinal("db", &named(name)), number, "{name}");
        }
    }

    #[test]
    fn a_pod_bears_its_name_its_labels_and_its_claims() {
        let template = serde_json::from_value(
            json!({"spec": {"containers": [], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp"}]}}),
        );
        let pod = pod(&set(json!({})), &template.unwrap(), "db-abc", 1);
        assert_eq!((pod.name_any().as_str(), pod.metadata.generate_name.as_deref()), ("db-1", Some("db-")));
        assert_eq!(
            (pod.labels()[POD_NAME].as_str(), pod.labels()[POD_INDEX].as_str(), revision(&pod)),
            ("db-1", "1", "db-abc")
        );
        let spec = pod.spec.clone().unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("db")));
        let volumes = spec.volumes.unwrap();
        assert_eq!(volumes.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["tmp", "data"]);
        assert_eq!(volumes[1].persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-1");
        let claims = claims(&set(json!({})), 1);
        assert_eq!((claims[0].name_any().as_str(), claims[0].labels()["app"].as_str()), ("data-db-1", "db"));
    }

    #[test]
    fn the_retention_policy_says_with_whom_a_claim_goes() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "db-5", "uid": "pod"}})).unwrap();
        for (deleted, scaled, ordinal, owner) in [
            ("Retain", "Retain", 1, None),
            ("Retain", "Retain", 5, None),
            ("Delete", "Retain", 1, Some("set")),
            ("Delete", "Retain", 5, Some("set")),
            ("Retain", "Delete", 1, None),
            ("Retain", "Delete", 5, Some("pod")),
            ("Delete", "Delete", 1, Some("set")),
            ("Delete", "Delete", 5, Some("pod")),
        ] {
            let set =
                set(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}));
            let owners = claim_owners(&set, Some(&pod), ordinal, &[]);
            assert_eq!(owners.first().map(|o| o.uid.as_str()), owner, "{deleted} {scaled} {ordinal}");
            let retain = super::tests::set(json!({}));
            if is_wanted(&retain, ordinal) {
                assert!(
                    claim_owners(&retain, Some(&pod), ordinal, &owners).is_empty(),
                    "a changed policy takes owners away"
                );
            }
        }
    }
}
