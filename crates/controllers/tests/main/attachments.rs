//! CSI volumes are attached for pods, and detached only when their node has let go of them.

use k8s_openapi::api::{
    core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{StorageClass, VolumeAttachment},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::{OUTCOME, World, until_in};

/// A volume and a claim that is bound to it.
async fn disk(world: &World, name: &str, class: &str) {
    let volume = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "capacity": {"storage": "1Gi"}, "csi": {"driver": "disks.example.com", "volumeHandle": format!("id-of-{name}")}}});
    let volume: PersistentVolume = serde_json::from_value(volume).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &volume).await.unwrap();
    let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeName": name,
        "resources": {"requests": {"storage": "1Gi"}}});
    world.create::<PersistentVolumeClaim>(json!({"metadata": {"name": name}, "spec": spec})).await;
    let bound = |c: &PersistentVolumeClaim| c.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Bound"));
    world.until_one(name, "a bound claim", bound).await;
}

async fn user(world: &World, name: &str, outcome: &str) {
    let spec = json!({"nodeName": "node-a", "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]});
    world.create::<Pod>(json!({"metadata": {"name": name, "annotations": {OUTCOME: outcome}}, "spec": spec})).await;
}

fn attachments(world: &World) -> Api<VolumeAttachment> {
    Api::all(world.client.clone())
}

fn volume_of(attachment: &VolumeAttachment) -> &str {
    attachment.spec.source.persistent_volume_name.as_deref().unwrap_or_default()
}

async fn patch_node(world: &World, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    Api::<Node>::all(world.client.clone()).patch_status("node-a", &PatchParams::default(), &patch).await.unwrap();
}

async fn until_attached(world: &World, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|n| format!("kubernetes.io/csi/disks.example.com^id-of-{n}")).collect();
    let is_so = |all: &[Node]| {
        let attached = all[0].status.iter().flat_map(|s| s.volumes_attached.iter().flatten());
        attached.map(|volume| &volume.name).eq(&names)
    };
    until_in(Api::<Node>::all(world.client.clone()), "the node to be told", is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_uses_stays_attached_and_what_its_pods_have_left_does_not() {
    let world = World::new().await;
    for name in ["kept", "left"] {
        disk(&world, name, "").await;
        user(&world, name, "ready").await;
    }
    let both = until_in(attachments(&world), "two attachments", |all: &[VolumeAttachment]| all.len() == 2).await;
    for attachment in &both {
        let status = Patch::Merge(json!({"status": {"attached": true}}));
        attachments(&world).patch_status(&attachment.name_any(), &PatchParams::default(), &status).await.unwrap();
    }
    until_attached(&world, &["kept", "left"]).await;

    // The node says that it uses one of them; then both pods end, though their objects stay.
    patch_node(&world, json!({"volumesInUse": ["kubernetes.io/csi/disks.example.com^id-of-kept"]})).await;
    for name in ["kept", "left"] {
        world.merge_status::<Pod>(name, json!({"phase": "Succeeded"})).await;
    }
    until_attached(&world, &["kept"]).await;
    let one = |all: &[VolumeAttachment]| all.len() == 1;
    let left = until_in(attachments(&world), "one attachment", one).await;
    assert_eq!(volume_of(&left[0]), "kept");
    patch_node(&world, json!({"volumesInUse": null})).await;
    until_attached(&world, &[]).await;
    until_in(attachments(&world), "no attachment", |all: &[VolumeAttachment]| all.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_to_grow_says_that_it_waits_for_others() {
    let world = World::new().await;
    let class =
        json!({"metadata": {"name": "disks"}, "provisioner": "disks.example.com", "allowVolumeExpansion": true});
    let class: StorageClass = serde_json::from_value(class).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &class).await.unwrap();
    disk(&world, "more", "disks").await;
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    world.merge::<PersistentVolumeClaim>("more", more).await;
    let told = |e: &Event| {
        e.reason.as_deref() == Some("ExternalExpanding")
            && e.message.as_deref() == Some("waiting for an external controller to expand this PVC")
    };
    world.until("the event", |all: &[Event]| all.iter().any(told)).await;
}
