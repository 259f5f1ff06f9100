//! Claims and volumes find each other, and neither goes while it is used.

use k8s_openapi::api::{
    core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{StorageClass, VolumeAttributesClass},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{World, until_in};

fn claim(name: &str, extra: Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "",
        "resources": {"requests": {"storage": "5Gi"}}});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn volume(world: &World, name: &str, extra: Value) -> PersistentVolume {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "5Gi"},
        "hostPath": {"path": "/x"}});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
    volumes(world).create(&PostParams::default(), &object).await.unwrap()
}

fn volumes(world: &World) -> Api<PersistentVolume> {
    Api::all(world.client.clone())
}

async fn class(world: &World, name: &str, provisioner: &str, mode: &str, default: bool) {
    let object: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default.to_string()}},
        "provisioner": provisioner, "volumeBindingMode": mode,
    }))
    .unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &object).await.unwrap();
}

async fn until_phase(world: &World, name: &str, phase: &str) -> PersistentVolume {
    let is_so = |v: &PersistentVolume| v.name_any() == name && claims::volume_phase(v) == phase;
    let what = format!("{name} to be {phase}");
    let all = until_in(volumes(world), &what, |all: &[PersistentVolume]| all.iter().any(is_so)).await;
    all.into_iter().find(is_so).unwrap()
}

async fn until_bound(world: &World, name: &str) -> PersistentVolumeClaim {
    let bound = |c: &PersistentVolumeClaim| c.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Bound"));
    world.until_one(name, "a bound claim", bound).await
}

async fn until_event(world: &World, reason: &str, message: &str) {
    let is_so = |e: &Event| e.reason.as_deref() == Some(reason) && e.message.as_deref() == Some(message);
    world.until(&format!("{reason}: {message}"), |all: &[Event]| all.iter().any(is_so)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_claims_gets_a_volume_of_its_own() {
    let world = World::new().await;
    for n in 0..8 {
        world.create::<PersistentVolumeClaim>(claim(&format!("c{n}"), json!({}))).await;
    }
    for n in 0..8 {
        volume(&world, &format!("v{n}"), json!({})).await;
    }
    let mut names = Vec::new();
    for n in 0..8 {
        let claim = until_bound(&world, &format!("c{n}")).await;
        assert_eq!(claim.annotations()["pv.kubernetes.io/bind-completed"], "yes");
        assert_eq!(claim.annotations()["pv.kubernetes.io/bound-by-controller"], "yes");
        assert_eq!(claim.status.as_ref().unwrap().capacity.as_ref().unwrap()["storage"].0, "5Gi");
        let volume = until_phase(&world, claims::volume_name(&claim), "Bound").await;
        assert_eq!(claims::claim_ref(&volume).unwrap().uid, claim.metadata.uid);
        names.push(volume.name_any());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_kept_for_a_claim_waits_for_it_and_one_asked_for_by_name_is_checked() {
    let world = World::new().await;
    volume(
        &world,
        "kept",
        json!({"claimRef": {"namespace": "default", "name": "mine"}, "capacity": {"storage": "9Gi"}}),
    )
    .await;
    until_phase(&world, "kept", "Available").await;
    volume(&world, "small", json!({"capacity": {"storage": "1Gi"}})).await;
    world.create::<PersistentVolumeClaim>(claim("mine", json!({}))).await;
    let mine = until_bound(&world, "mine").await;
    assert_eq!(claims::volume_name(&mine), "kept");
    world.create::<PersistentVolumeClaim>(claim("picky", json!({"volumeName": "small"}))).await;
    until_event(&world, "VolumeMismatch", "Cannot bind to requested volume \"small\": requested PV is too small").await;
    world.create::<PersistentVolumeClaim>(claim("late", json!({"volumeName": "kept"}))).await;
    until_event(&world, "FailedBinding", "volume \"kept\" already bound to a different claim.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_say_what_they_wait_for_and_are_handed_to_their_provisioner() {
    let world = World::new().await;
    world.create::<PersistentVolumeClaim>(claim("none", json!({}))).await;
    let note = "no persistent volumes available for this claim and no storage class is set";
    until_event(&world, "FailedBinding", note).await;
    world.create::<PersistentVolumeClaim>(claim("unknown", json!({"storageClassName": "nope"}))).await;
    until_event(&world, "ProvisioningFailed", "storageclass.storage.k8s.io \"nope\" not found").await;
    class(&world, "slow", "example.com/x", "WaitForFirstConsumer", false).await;
    world.create::<PersistentVolumeClaim>(claim("waits", json!({"storageClassName": "slow"}))).await;
    until_event(&world, "WaitForFirstConsumer", "waiting for first consumer to be created before binding").await;
    let node = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node-a"}}});
    world.merge::<PersistentVolumeClaim>("waits", node).await;
    let handed = |c: &PersistentVolumeClaim| {
        claims::annotation(c, "volume.kubernetes.io/storage-provisioner") == Some("example.com/x")
    };
    world.until_one("waits", "the provisioner's name", handed).await;
    // A claim without a class gets the one that becomes the default.
    let mut open = claim("open", json!({}));
    open["spec"].as_object_mut().unwrap().remove("storageClassName");
    world.create::<PersistentVolumeClaim>(open).await;
    class(&world, "usual", "example.com/y", "WaitForFirstConsumer", true).await;
    world.until_one("open", "the default class", |c: &PersistentVolumeClaim| claims::class_of(c) == "usual").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn released_volumes_are_kept_or_fail_and_a_lost_volume_is_said_to_be_lost() {
    let world = World::new().await;
    for (name, policy) in [("keep", "Retain"), ("drop", "Delete"), ("wash", "Recycle")] {
        volume(&world, name, json!({"persistentVolumeReclaimPolicy": policy})).await;
        world.create::<PersistentVolumeClaim>(claim(name, json!({"volumeName": name}))).await;
        until_bound(&world, name).await;
        world.delete::<PersistentVolumeClaim>(name, DeleteParams::default()).await;
    }
    until_phase(&world, "keep", "Released").await;
    let failed = until_phase(&world, "drop", "Failed").await;
    let message = failed.status.unwrap().message.unwrap();
    assert!(message.ends_with("no deletable volume plugin matched"), "{message}");
    until_phase(&world, "wash", "Failed").await;

    volume(&world, "gone", json!({})).await;
    world.create::<PersistentVolumeClaim>(claim("c", json!({"volumeName": "gone"}))).await;
    until_bound(&world, "c").await;
    volumes(&world).delete("gone", &DeleteParams::default()).await.unwrap();
    let is_going = |all: &[PersistentVolume]| all.iter().any(|v| v.metadata.deletion_timestamp.is_some());
    until_in(volumes(&world), "a volume that is held", is_going).await;
    let patch = kube::api::Patch::Merge(json!({"metadata": {"finalizers": []}}));
    volumes(&world).patch("gone", &Default::default(), &patch).await.unwrap();
    let lost = |c: &PersistentVolumeClaim| c.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Lost"));
    world.until_one("c", "its loss", lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_use_stays_until_its_last_pod_has_gone() {
    let world = World::new().await;
    volume(&world, "v", json!({})).await;
    world.create::<PersistentVolumeClaim>(claim("c", json!({}))).await;
    until_bound(&world, "c").await;
    let has = |c: &PersistentVolumeClaim| c.finalizers().contains(&"kubernetes.io/pvc-protection".to_owned());
    world.until_one("c", "its protection", has).await;
    let pod = json!({"metadata": {"name": "p", "finalizers": ["test/held"]}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
    world.create::<Pod>(pod).await;
    world.until_one("p", "a node", |p: &Pod| p.spec.as_ref().unwrap().node_name.is_some()).await;
    world.delete::<PersistentVolumeClaim>("c", DeleteParams::default()).await;
    let going = |c: &PersistentVolumeClaim| c.metadata.deletion_timestamp.is_some();
    world.until_one("c", "its end to begin", going).await;
    world.delete::<Pod>("p", DeleteParams::default()).await;
    world.until_one("p", "the pod's end to begin", |p: &Pod| p.metadata.deletion_timestamp.is_some()).await;
    assert!(going(&world.get("c").await), "its pod is still there");
    world.merge::<Pod>("p", json!({"metadata": {"finalizers": []}})).await;
    world.until("the claim's end", |all: &[PersistentVolumeClaim]| all.is_empty()).await;
    until_phase(&world, "v", "Released").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_of_attributes_is_matched_shown_changed_and_held_while_someone_names_it() {
    let world = World::new().await;
    let classes: Api<VolumeAttributesClass> = Api::all(world.client.clone());
    for name in ["silver", "gold"] {
        let class =
            json!({"metadata": {"name": name}, "driverName": "disks.example.com", "parameters": {"tier": name}});
        let class = serde_json::from_value(class).unwrap();
        let made = classes.create(&Default::default(), &class).await.unwrap();
        assert_eq!(made.finalizers(), ["kubernetes.io/vac-protection"]);
    }
    volume(&world, "plain", json!({})).await;
    volume(&world, "v", json!({"volumeAttributesClassName": "silver"})).await;
    world.create::<PersistentVolumeClaim>(claim("c", json!({"volumeAttributesClassName": "silver"}))).await;
    let bound = until_bound(&world, "c").await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("v"), "not one of other attributes");
    let now =
        |c: &PersistentVolumeClaim| c.status.as_ref().and_then(|s| s.current_volume_attributes_class_name.clone());
    let shown = world.until_one("c", "its attributes", |c| now(c).is_some()).await;
    assert_eq!(now(&shown).as_deref(), Some("silver"));
    for name in ["silver", "gold"] {
        classes.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until_in(classes.clone(), "the end of the one that nobody names", |all: &[VolumeAttributesClass]| all.len() == 1)
        .await;
    let class = serde_json::from_value(
        json!({"metadata": {"name": "gold"}, "driverName": "disks.example.com", "parameters": {"tier": "gold"}}),
    );
    classes.create(&Default::default(), &class.unwrap()).await.unwrap();
    // What upstream's external-resizer writes as it has a driver change the volume.
    world.merge::<PersistentVolumeClaim>("c", json!({"spec": {"volumeAttributesClassName": "gold"}})).await;
    let target = json!({"targetVolumeAttributesClassName": "gold", "status": "InProgress"});
    let conditions = json!([{"type": "ModifyingVolume", "status": "True"}]);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), "default");
    let write = async |status: serde_json::Value| {
        let patch = kube::api::Patch::Merge(json!({"status": status}));
        claims.patch_status("c", &Default::default(), &patch).await.unwrap()
    };
    let under_way = write(json!({"modifyVolumeStatus": target, "conditions": conditions})).await;
    let status = under_way.status.unwrap();
    assert_eq!(json!(status.modify_volume_status), target);
    assert_eq!(status.current_volume_attributes_class_name.as_deref(), Some("silver"));
    let changed = kube::api::Patch::Merge(json!({"spec": {"volumeAttributesClassName": "gold"}}));
    volumes(&world).patch("v", &Default::default(), &changed).await.unwrap();
    write(json!({"modifyVolumeStatus": null, "conditions": null, "currentVolumeAttributesClassName": "gold"})).await;
    let gone = |all: &[VolumeAttributesClass]| all.iter().all(|class| class.name_any() == "gold");
    until_in(classes.clone(), "the end of the former one", gone).await;
    let refused = kube::api::Patch::Merge(json!({"spec": {"volumeAttributesClassName": null}}));
    let error = claims.patch("c", &Default::default(), &refused).await.unwrap_err().to_string();
    assert!(
        error.contains("update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ephemeral_volumes_get_claims_of_their_pods_and_nobody_elses() {
    let world = World::new().await;
    world.create::<PersistentVolumeClaim>(claim("q-v", json!({}))).await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": claim("", json!({}))["spec"]});
    let pod = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]}})
    };
    let owner = world.create::<Pod>(pod("p")).await;
    let made = world.until_one("p-v", "the claim", |_: &PersistentVolumeClaim| true).await;
    assert_eq!((made.labels()["a"].as_str(), &made.owner_references()[0].uid), ("b", &owner.uid().unwrap()));
    world.create::<Pod>(pod("q")).await;
    let note = "ephemeral volume v: PVC default/q-v was not created for pod default/q (pod is not owner)";
    until_event(&world, "FailedBinding", note).await;
    world.delete::<Pod>("p", DeleteParams::default()).await;
    world.until("the claim's end", |all: &[PersistentVolumeClaim]| all.iter().all(|c| c.name_any() != "p-v")).await;
}
