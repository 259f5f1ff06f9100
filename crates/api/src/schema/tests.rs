use std::collections::BTreeMap;

use super::*;
use crate::catalogue;

fn visit(of: &'static Type, seen: &mut BTreeMap<&'static str, &'static Type>) {
    if seen.insert(of.name, of).is_none() {
        of.fields.iter().for_each(|field| visit_shape(&field.shape, seen));
    }
}

fn visit_shape(shape: &'static Shape, seen: &mut BTreeMap<&'static str, &'static Type>) {
    match shape {
        Shape::Object { of, .. } => visit(of, seen),
        Shape::List { of, .. } | Shape::Map { of, .. } => visit_shape(of, seen),
        _ => {}
    }
}

#[test]
fn every_type_reachable_from_a_kind_is_found_by_its_name() {
    let mut seen = BTreeMap::new();
    catalogue::all().iter().for_each(|resource| visit(resource.schema, &mut seen));
    assert!(seen.len() > 450, "{}", seen.len());
    for (name, of) in seen {
        let found = type_named(name).expect("it is in the table");
        assert!(std::ptr::eq(found, of), "{name}");
    }
    assert!(type_named("io.k8s.api.core.v1.Nonsense").is_none());
}

#[test]
fn the_table_is_sorted_and_every_field_is_found() {
    assert!(all_types().is_sorted_by_key(|of| of.name));
    for of in all_types() {
        assert!(of.fields.is_sorted_by_key(|field| field.name), "{}", of.name);
        for field in of.fields {
            assert!(of.field(field.name).is_some_and(|found| std::ptr::eq(found, field)));
        }
        assert!(of.field("nonsense").is_none());
    }
}

const OPTIONAL: [&str; 4] = [
    "io.k8s.api.core.v1.ServiceAccount.secrets.name",
    "io.k8s.api.flowcontrol.v1.FlowSchemaStatus.conditions.type",
    "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus.conditions.type",
    "io.k8s.api.resource.v1.ResourceClaimStatus.devices.shareID",
];

/// The build refuses facts on types or fields that do not exist; this looks at what they say.
#[test]
fn keys_of_lists_are_fields_of_their_items_and_always_have_a_value() {
    let mut optional = Vec::new();
    let mut lists = 0;
    for of in all_types() {
        for field in of.fields {
            let Shape::List { of: item, topology, merge_key, retain_keys } = &field.shape else { continue };
            let name = format!("{}.{}", of.name, field.name);
            let keys: &[&str] = if let ListTopology::Map(keys) = topology { keys } else { &[] };
            match item {
                Shape::Object { of: item, .. } => {
                    for key in keys.iter().chain(merge_key) {
                        assert!(item.field(key).is_some(), "{name}: {} has no {key}", item.name);
                    }
                    for key in keys {
                        let key_field = item.field(key).expect("just looked up");
                        let always = key_field.required || key_field.default.is_some();
                        if !always {
                            optional.push(format!("{name}.{key}"));
                        }
                    }
                    assert_ne!(*topology, ListTopology::Set, "{name}");
                    assert_ne!(*merge_key, Some(""), "{name}");
                }
                _ => {
                    assert!(keys.is_empty(), "{name}");
                    assert!(merge_key.is_none_or(str::is_empty), "{name}");
                }
            }
            assert!(!retain_keys || merge_key.is_some(), "{name}");
            lists += usize::from(!keys.is_empty());
        }
    }
    assert!(lists > 50, "{lists}");
    // Upstream's own exceptions.
    assert_eq!(optional, OPTIONAL);
}

#[test]
fn an_atomic_type_is_atomic_wherever_it_stands() {
    for of in all_types() {
        for field in of.fields {
            if let Shape::Object { of: inner, atomic, .. } = &field.shape {
                assert!(*atomic || !inner.atomic, "{}.{}", of.name, field.name);
            }
        }
    }
    assert!(types::meta_v1_LabelSelector.atomic);
    assert!(types::core_v1_SecretKeySelector.atomic);
    assert!(!types::core_v1_PodSpec.atomic);
}

#[test]
fn well_known_fields_merge_as_upstream_merges_them() {
    let shape = |of: &'static Type, name: &str| &of.field(name).expect("the field exists").shape;
    assert!(matches!(
        shape(&types::core_v1_Container, "ports"),
        Shape::List {
            topology: ListTopology::Map(["containerPort", "protocol"]),
            merge_key: Some("containerPort"),
            ..
        }
    ));
    assert!(matches!(
        shape(&types::core_v1_ServiceSpec, "ports"),
        Shape::List { topology: ListTopology::Map(["port", "protocol"]), merge_key: Some("port"), .. }
    ));
    assert!(matches!(
        shape(&types::core_v1_PodSpec, "tolerations"),
        Shape::List { topology: ListTopology::Atomic, merge_key: None, .. }
    ));
    assert!(matches!(
        shape(&types::core_v1_PodSpec, "topologySpreadConstraints"),
        Shape::List {
            topology: ListTopology::Map(["topologyKey", "whenUnsatisfiable"]),
            merge_key: Some("topologyKey"),
            ..
        }
    ));
    assert!(matches!(
        shape(&types::core_v1_PodSpec, "volumes"),
        Shape::List { merge_key: Some("name"), retain_keys: true, .. }
    ));
    assert!(matches!(
        shape(&types::meta_v1_ObjectMeta, "finalizers"),
        Shape::List { topology: ListTopology::Set, merge_key: Some(""), .. }
    ));
    assert!(matches!(
        shape(&types::meta_v1_ObjectMeta, "ownerReferences"),
        Shape::List { topology: ListTopology::Map(["uid"]), merge_key: Some("uid"), .. }
    ));
    assert!(matches!(shape(&types::apps_v1_DeploymentSpec, "strategy"), Shape::Object { retain_keys: true, .. }));
    assert!(matches!(
        shape(&types::policy_v1_PodDisruptionBudgetSpec, "selector"),
        Shape::Object { replace: true, atomic: true, .. }
    ));
    assert!(matches!(shape(&types::core_v1_PodSpec, "nodeSelector"), Shape::Map { atomic: true, .. }));
    assert!(matches!(shape(&types::meta_v1_ObjectMeta, "labels"), Shape::Map { atomic: false, .. }));
    assert!(matches!(shape(&types::coordination_v1_LeaseSpec, "renewTime"), Shape::MicroTime));
    assert!(matches!(shape(&types::meta_v1_ObjectMeta, "creationTimestamp"), Shape::Time));
    assert!(matches!(shape(&types::core_v1_Secret, "data"), Shape::Map { of: Shape::Bytes, .. }));
    assert!(matches!(shape(&types::core_v1_ServicePort, "targetPort"), Shape::IntOrString));
    assert!(matches!(shape(&types::core_v1_ResourceRequirements, "limits"), Shape::Map { of: Shape::Quantity, .. }));
    assert!(matches!(shape(&types::meta_v1_ManagedFieldsEntry, "fieldsV1"), Shape::Any));
}
