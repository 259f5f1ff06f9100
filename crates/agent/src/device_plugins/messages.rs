//! The messages of `k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1`.

use std::collections::BTreeMap;

use grpc::{Fields, Message};

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
            options: fields.message(4).map_or_else(Options::default, |options| Options {
                pre_start: options.number(1) != 0,
                preferred: options.number(2) != 0,
            }),
        }
    }
}

/// `ListAndWatchResponse`: whether each device is healthy.
pub fn devices(message: &[u8]) -> BTreeMap<String, bool> {
    let devices = Fields::read(message).all(1).map(Fields::read).collect::<Vec<_>>();
    devices.iter().map(|device| (device.text(1), device.text(2) == "Healthy")).collect()
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Mounts: (path in the container, path on the host, read-only).
    pub mounts: Vec<(String, String, bool)>,
    /// Device nodes: (path in the container, path on the host, cgroup permissions).
    pub devices: Vec<(String, String, String)>,
    /// For the runtime.
    pub annotations: BTreeMap<String, String>,
}

impl Allocation {
    /// Reads the first container's part of an `AllocateResponse`.
    pub fn decode(message: &[u8]) -> Self {
        let answer = Fields::read(message);
        let Some(container) = answer.message(1) else { return Self::default() };
        let parts = |field| container.all(field).map(Fields::read).collect::<Vec<_>>();
        Self {
            env: container.map(1),
            mounts: parts(2).iter().map(|m| (m.text(1), m.text(2), m.number(3) != 0)).collect(),
            devices: parts(3).iter().map(|d| (d.text(1), d.text(2), d.text(3))).collect(),
            annotations: container.map(4),
        }
    }

    /// Adds another resource's.
    pub fn extend(&mut self, other: Self) {
        self.env.extend(other.env);
        self.mounts.extend(other.mounts);
        self.devices.extend(other.devices);
        self.annotations.extend(other.annotations);
    }
}
