//! The messages of `k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wire::{Writer, fields};

/// `RegisterRequest`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// `v1beta1`
    pub version: String,
    /// The name of the plugin's socket beside the kubelet's.
    pub endpoint: String,
    /// For instance `example.com/gpu`.
    pub resource: String,
    /// It wants to be asked before each start of a container.
    pub pre_start: bool,
}

impl Registration {
    /// Reads one.
    pub fn decode(message: &[u8]) -> Self {
        let mut out = Self::default();
        for (field, value) in fields(message) {
            match field {
                1 => out.version = value.text(),
                2 => out.endpoint = value.text(),
                3 => out.resource = value.text(),
                4 => out.pre_start = fields(value.raw()).iter().any(|(f, v)| *f == 1 && v.truth()),
                _ => {}
            }
        }
        out
    }
}

/// `ListAndWatchResponse`: whether each device is healthy.
pub fn devices(message: &[u8]) -> BTreeMap<String, bool> {
    let devices = fields(message).into_iter().filter(|(field, _)| *field == 1);
    devices
        .map(|(_, device)| {
            let parts = fields(device.raw());
            let text = |n| parts.iter().find(|(f, _)| *f == n).map(|(_, v)| v.text()).unwrap_or_default();
            (text(1), text(2) == "Healthy")
        })
        .collect()
}

/// `AllocateRequest` for one container.
pub fn allocate(ids: &[String]) -> Bytes {
    Writer::default().bytes(1, &pre_start(ids)).done()
}

/// `PreStartContainerRequest`, and the part of an `AllocateRequest` that is about one container.
pub fn pre_start(ids: &[String]) -> Bytes {
    ids.iter().fold(Writer::default(), |message, id| message.bytes(1, id.as_bytes())).done()
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
        let mut out = Self::default();
        let all = fields(message);
        let Some((_, container)) = all.iter().find(|(field, _)| *field == 1) else { return out };
        for (field, value) in fields(container.raw()) {
            let parts = fields(value.raw());
            let text = |n| parts.iter().find(|(f, _)| *f == n).map(|(_, v)| v.text()).unwrap_or_default();
            match field {
                1 => drop(out.env.insert(text(1), text(2))),
                2 => out.mounts.push((text(1), text(2), parts.iter().any(|(f, v)| *f == 3 && v.truth()))),
                3 => out.devices.push((text(1), text(2), text(3))),
                4 => drop(out.annotations.insert(text(1), text(2))),
                _ => {}
            }
        }
        out
    }

    /// Adds another resource's.
    pub fn extend(&mut self, other: Self) {
        self.env.extend(other.env);
        self.mounts.extend(other.mounts);
        self.devices.extend(other.devices);
        self.annotations.extend(other.annotations);
    }
}
