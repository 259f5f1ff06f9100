//! The messages of `k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1`.

use std::collections::BTreeMap;

use grpc::{Fields, Message};
use serde::{Deserialize, Serialize};

/// `RegisterRequest`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// `v1beta1`
    pub version: String,
    /// The name of the plugin's socket beside the kubelet's.
    pub endpoint: String,
    /// For instance `example.com/gpu`.
    pub resource: String,
    /// What it wants to be asked.
    pub options: Options,
}

/// `DevicePluginOptions`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Before each start of a container.
    pub pre_start: bool,
    /// Which of its free devices go well together, before some are set aside.
    pub preferred: bool,
}

impl Registration {
    /// Reads one.
    pub fn decode(message: &[u8]) -> Self {
        let fields = Fields::read(message);
        Self {
            version: fields.text(1),
            endpoint: fields.text(2),
            resource: fields.text(3),
            options: fields.message(4).map_or_else(Options::default, |options| Options::of(&options)),
        }
    }
}

impl Options {
    /// Reads them where they are a message of their own.
    pub fn decode(message: &[u8]) -> Self {
        Self::of(&Fields::read(message))
    }

    fn of(fields: &Fields<'_>) -> Self {
        Self { pre_start: fields.number(1) != 0, preferred: fields.number(2) != 0 }
    }
}

/// `Device`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// It may be given to a container.
    pub healthy: bool,
    /// The NUMA nodes that it is near to.
    pub nodes: Vec<u64>,
}

/// `ListAndWatchResponse`: the devices by id.
pub fn devices(message: &[u8]) -> BTreeMap<String, Device> {
    let devices = Fields::read(message).all(1).map(Fields::read).collect::<Vec<_>>();
    let node = |node: &[u8]| Fields::read(node).number(1);
    let one = |device: &Fields<'_>| Device {
        healthy: device.text(2) == "Healthy",
        nodes: device.message(3).map(|topology| topology.all(1).map(node).collect()).unwrap_or_default(),
    };
    devices.iter().map(|device| (device.text(1), one(device))).collect()
}

/// `AllocateRequest` for one container.
pub fn allocate(ids: &[String]) -> Message {
    Message::default().message(1, &pre_start(ids))
}

/// `PreStartContainerRequest`, and the part of an `AllocateRequest` that is about one container.
pub fn pre_start(ids: &[String]) -> Message {
    Message::default().texts(1, ids.iter().map(String::as_str))
}

/// `PreferredAllocationRequest` for one container that gets `size` devices: those that it has already, and others of
/// those that are free.
pub fn preferred(free: &[String], has: &[String], size: usize) -> Message {
    let available = has.iter().chain(free).map(String::as_str);
    let one = Message::default().texts(1, available).texts(2, has.iter().map(String::as_str));
    Message::default().message(1, &one.number(3, u64::try_from(size).unwrap_or(u64::MAX)))
}

/// The first container's part of a `PreferredAllocationResponse`.
pub fn preferred_devices(message: &[u8]) -> Vec<String> {
    Fields::read(message).message(1).map(|container| container.texts(1)).unwrap_or_default()
}

/// What a container needs to use its devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allocation {
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Mounts: (path in the container, path on the host, read-only).
    pub mounts: Vec<(String, String, bool)>,
    /// Device nodes: (path in the container, path on the host, cgroup permissions).
    pub devices: Vec<(String, String, String)>,
    /// For the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Devices of the Container Device Interface, by their full names (`vendor.com/class=name`).
    pub cdi: Vec<String>,
    /// Supplementary groups of the container's processes.
    pub groups: Vec<u32>,
}

/// Annotations by which plugins name devices of the Container Device Interface, several behind commas.
const CDI_ANNOTATION: &str = "cdi.k8s.io/";

impl Allocation {
    /// Reads the first container's part of an `AllocateResponse`.
    pub fn decode(message: &[u8]) -> Self {
        let answer = Fields::read(message);
        let Some(container) = answer.message(1) else { return Self::default() };
        let parts = |field| container.all(field).map(Fields::read).collect::<Vec<_>>();
        let annotations = container.map(4);
        let annotated = annotations.iter().filter(|(key, _)| key.starts_with(CDI_ANNOTATION));
        let annotated = annotated.flat_map(|(_, names)| names.split(',').map(str::to_owned));
        Self {
            cdi: parts(5).iter().map(|d| d.text(1)).chain(annotated).collect(),
            groups: Vec::new(),
            env: container.map(1),
            mounts: parts(2).iter().map(|m| (m.text(1), m.text(2), m.number(3) != 0)).collect(),
            devices: parts(3).iter().map(|d| (d.text(1), d.text(2), d.text(3))).collect(),
            annotations,
        }
    }

    /// Adds another resource's.
    pub fn extend(&mut self, other: Self) {
        self.env.extend(other.env);
        self.mounts.extend(other.mounts);
        self.devices.extend(other.devices);
        self.annotations.extend(other.annotations);
        self.cdi.extend(other.cdi);
        self.groups.extend(other.groups);
    }
}
