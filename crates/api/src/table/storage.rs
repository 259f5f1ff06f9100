//! Volumes, claims and their classes.

use serde_json::Value;

use super::{
    cell::{at, count_at, is_deleting, list_at, quantity, quantity_at, text_at, text_or, truth_at},
    column::{AGE, NAME, boolean, integer, name_of_class, text, wide},
};
use crate::resource::Column;

pub(super) const VOLUMES: &[Column] = &[
    NAME,
    text("Capacity", "How much it holds.", |o, _| quantity_at(o, "/spec/capacity/storage").into()),
    text("Access Modes", "How it may be mounted.", |o, _| modes(o, "/spec/accessModes").into()),
    text("Reclaim Policy", "What becomes of it when released.", |o, _| {
        text_at(o, "/spec/persistentVolumeReclaimPolicy").into()
    }),
    text("Status", "Its phase.", |o, _| phase(o).into()),
    text("Claim", "The claim it is bound to.", |o, _| match at(o, "/spec/claimRef") {
        Some(claim) => format!("{}/{}", text_at(claim, "/namespace"), text_at(claim, "/name")).into(),
        None => "".into(),
    }),
    text("StorageClass", "Its storage class.", |o, _| class(o).into()),
    text("VolumeAttributesClass", "Its attributes class.", |o, _| attributes_class(o).into()),
    text("Reason", "Why it is in its phase.", |o, _| text_at(o, "/status/reason").into()),
    AGE,
    wide("VolumeMode", "File system or block device.", |o, _| unset(o, "/spec/volumeMode").into()),
];

pub(super) const CLAIMS: &[Column] = &[
    NAME,
    text("Status", "Its phase.", |o, _| phase(o).into()),
    text("Volume", "The volume it is bound to.", |o, _| text_at(o, "/spec/volumeName").into()),
    text("Capacity", "How much the volume holds.", |o, _| match text_at(o, "/spec/volumeName") {
        "" => "".into(),
        _ => quantity_at(o, "/status/capacity/storage").into(),
    }),
    text("Access Modes", "How it may be mounted.", |o, _| match text_at(o, "/spec/volumeName") {
        "" => "".into(),
        _ => modes(o, "/status/accessModes").into(),
    }),
    text("StorageClass", "Its storage class.", |o, _| class(o).into()),
    text("VolumeAttributesClass", "Its attributes class.", |o, _| attributes_class(o).into()),
    AGE,
    wide("VolumeMode", "File system or block device.", |o, _| unset(o, "/spec/volumeMode").into()),
];

pub(super) const CLASSES: &[Column] = &[
    Column {
        cell: |o, _| {
            const BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
            name_of_class(o, &["storageclass.kubernetes.io/is-default-class", BETA])
        },
        ..NAME
    },
    text("Provisioner", "What makes its volumes.", |o, _| text_at(o, "/provisioner").into()),
    text("ReclaimPolicy", "What becomes of its volumes when released.", |o, _| {
        text_or(o, "/reclaimPolicy", "Delete").into()
    }),
    text("VolumeBindingMode", "When its volumes are made.", |o, _| {
        text_or(o, "/volumeBindingMode", "Immediate").into()
    }),
    text("AllowVolumeExpansion", "Whether its volumes may grow.", |o, _| {
        truth_at(o, "/allowVolumeExpansion", false).into()
    }),
    AGE,
];

pub(super) const ATTACHMENTS: &[Column] = &[
    NAME,
    Column { format: "name", ..text("Attacher", "What attaches it.", |o, _| text_at(o, "/spec/attacher").into()) },
    text("PV", "The volume.", |o, _| text_at(o, "/spec/source/persistentVolumeName").into()),
    text("Node", "The node.", |o, _| text_at(o, "/spec/nodeName").into()),
    boolean("Attached", "Whether it is attached.", |o, _| truth_at(o, "/status/attached", false).into()),
    AGE,
];

pub(super) const ATTRIBUTES_CLASSES: &[Column] =
    &[NAME, text("DriverName", "The CSI driver it is for.", |o, _| text_at(o, "/driverName").into()), AGE];

pub(super) const CSI_NODES: &[Column] =
    &[NAME, integer("Drivers", "How many CSI drivers the node has.", |o, _| count_at(o, "/spec/drivers").into()), AGE];

pub(super) const CSI_DRIVERS: &[Column] = &[
    NAME,
    boolean("AttachRequired", "Whether volumes must be attached.", |o, _| {
        truth_at(o, "/spec/attachRequired", true).into()
    }),
    boolean("PodInfoOnMount", "Whether it is told of the pod.", |o, _| {
        truth_at(o, "/spec/podInfoOnMount", false).into()
    }),
    boolean("StorageCapacity", "Whether scheduling looks at its capacity.", |o, _| {
        truth_at(o, "/spec/storageCapacity", false).into()
    }),
    text("TokenRequests", "Audiences of the tokens that it gets.", |o, _| {
        match at(o, "/spec/tokenRequests").and_then(Value::as_array) {
            Some(requests) => {
                let audiences: Vec<_> = requests.iter().map(|r| text_at(r, "/audience")).collect();
                audiences.join(",").into()
            }
            None => "<unset>".into(),
        }
    }),
    boolean("RequiresRepublish", "Whether it is called again and again.", |o, _| {
        truth_at(o, "/spec/requiresRepublish", false).into()
    }),
    text("Modes", "Which kinds of volumes it supports.", |o, _| {
        let modes: Vec<_> = list_at(o, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
        if modes.is_empty() { "<none>".into() } else { modes.join(",").into() }
    }),
    AGE,
];

pub(super) const CSI_CAPACITIES: &[Column] = &[
    NAME,
    text("StorageClassName", "The storage class.", |o, _| text_at(o, "/storageClassName").into()),
    text("Capacity", "How much is left.", |o, _| match quantity(at(o, "/capacity")) {
        Some(capacity) => capacity.into(),
        None => "<unset>".into(),
    }),
];

fn phase(object: &Value) -> &str {
    if is_deleting(object) { "Terminating" } else { text_at(object, "/status/phase") }
}

fn unset<'a>(object: &'a Value, pointer: &str) -> &'a str {
    at(object, pointer).and_then(Value::as_str).unwrap_or("<unset>")
}

fn attributes_class(object: &Value) -> &str {
    unset(object, "/spec/volumeAttributesClassName")
}

/// The class by the old annotation, else by the field.
fn class(object: &Value) -> &str {
    let annotation = at(object, "/metadata/annotations").map(|a| &a["volume.beta.kubernetes.io/storage-class"]);
    annotation.and_then(Value::as_str).unwrap_or_else(|| text_at(object, "/spec/storageClassName"))
}

/// `RWO,ROX,RWX,RWOP`, in that order.
fn modes(object: &Value, pointer: &str) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| list_at(object, pointer).iter().any(|m| m.as_str() == Some(mode));
    SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}
