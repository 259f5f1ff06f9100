//! The Container Device Interface (CDI 1.0): files of this machine say what a container needs to use a device of theirs.
//! Hooks and what else needs a program of the vendor's at the container's start is refused, not left out.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::Allocation;

/// One file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    /// `vendor.com/class`
    kind: String,
    devices: Vec<Device>,
    /// For whichever of the devices.
    container_edits: Edits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Device {
    name: String,
    container_edits: Edits,
}

/// `containerEdits`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    #[serde(rename = "additionalGids", alias = "additionalGIDs")]
    additional_gids: Vec<u32>,
    hooks: Vec<Value>,
    net_devices: Vec<Value>,
    intel_rdt: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: String,
    host_path: String,
    permissions: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mount {
    host_path: String,
    container_path: String,
    #[serde(rename = "type")]
    kind: String,
    options: Vec<String>,
}

/// Puts what the named devices need into `needs`. Files are looked for in `dirs`, of which a later one goes before an
/// earlier one.
///
/// # Errors
/// A device that no file knows, or one that needs what can't be given.
pub fn inject(needs: &mut Allocation, dirs: &[PathBuf]) -> Result<(), String> {
    if needs.cdi.is_empty() {
        return Ok(());
    }
    let names = std::mem::take(&mut needs.cdi);
    let known = devices(dirs);
    let unknown: Vec<&str> = names.iter().filter(|name| !known.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("CDI device injection failed: unresolvable CDI devices {}", unknown.join(", ")));
    }
    let mut edited: Vec<&Path> = Vec::new();
    for (file, spec, device) in names.iter().filter_map(|name| known.get(name)) {
        if !edited.contains(&file.as_path()) {
            edited.push(file);
            apply(needs, &spec.container_edits, &spec.kind)?;
        }
        apply(needs, &device.container_edits, &format!("{}={}", spec.kind, device.name))?;
    }
    Ok(())
}

/// All devices of all files by their full names, with the file of each.
fn devices(dirs: &[PathBuf]) -> BTreeMap<String, (PathBuf, Spec, Device)> {
    let mut all = BTreeMap::new();
    for dir in dirs {
        let mut files: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "json" || e == "yaml"));
        files.sort();
        for file in files {
            let read = fs::read_to_string(&file).map_err(|e| e.to_string());
            let spec: Spec = match read.and_then(|text| serde_yaml_ng::from_str(&text).map_err(|e| e.to_string())) {
                Ok(spec) => spec,
                Err(error) => {
                    tracing::warn!(error, file = %file.display(), "CDI: devices of this file are not known");
                    continue;
                }
            };
            for device in &spec.devices {
                let name = format!("{}={}", spec.kind, device.name);
                all.insert(name, (file.clone(), spec.clone(), device.clone()));
            }
        }
    }
    all
}

fn apply(needs: &mut Allocation, edits: &Edits, whose: &str) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("CDI device injection failed: {whose}: {what} not supported"));
    if !edits.hooks.is_empty() {
        return refuse("hooks are");
    }
    if !edits.net_devices.is_empty() {
        return refuse("netDevices are");
    }
    if edits.intel_rdt.is_some() {
        return refuse("intelRdt is");
    }
    for variable in &edits.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        needs.env.insert(name.to_owned(), value.to_owned());
    }
    for node in &edits.device_nodes {
        let host = if node.host_path.is_empty() { &node.path } else { &node.host_path };
        let permissions = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        needs.devices.push((node.path.clone(), host.clone(), permissions.to_owned()));
    }
    for mount in &edits.mounts {
        if !matches!(mount.kind.as_str(), "" | "bind") {
            return refuse(&format!("mounts of type {} are", mount.kind));
        }
        let read_only = mount.options.iter().any(|option| option == "ro");
        needs.mounts.push((mount.container_path.clone(), mount.host_path.clone(), read_only));
    }
    needs.groups.extend(&edits.additional_gids);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
        "containerEdits": {"env": ["DRIVER=1"], "mounts": [{"hostPath": "/opt/lib", "containerPath": "/lib/gpu", "options": ["ro", "nosuid"]}]},
        "devices": [
            {"name": "0", "containerEdits": {"env": ["GPU0=yes"], "additionalGids": [44], "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}]}},
            {"name": "1", "containerEdits": {"deviceNodes": [{"path": "/dev/zero"}]}},
            {"name": "hooked", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]}}]}"#;

    fn needs(names: &[&str]) -> Allocation {
        Allocation { cdi: names.iter().map(|n| (*n).to_owned()).collect(), ..Allocation::default() }
    }

    #[test]
    fn what_named_devices_need_is_put_in_once_for_each_file() {
        let (etc, run) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        fs::write(etc.path().join("gpu.json"), SPEC).expect("written");
        fs::write(etc.path().join("broken.json"), "{").expect("written");
        let dirs = [etc.path().to_path_buf(), run.path().to_path_buf(), "/no/such/place".into()];
        let mut two = needs(&["vendor.com/gpu=0", "vendor.com/gpu=1"]);
        inject(&mut two, &dirs).expect("known");
        assert_eq!(
            two.env.into_iter().collect::<Vec<_>>(),
            [("DRIVER".into(), "1".into()), ("GPU0".into(), "yes".into())]
        );
        assert_eq!(two.mounts, [("/lib/gpu".to_owned(), "/opt/lib".to_owned(), true)]);
        let node = |path: &str, host: &str, may: &str| (path.to_owned(), host.to_owned(), may.to_owned());
        assert_eq!(two.devices, [node("/dev/gpu0", "/dev/null", "rw"), node("/dev/zero", "/dev/zero", "rwm")]);
        assert_eq!(two.groups, [44]);
        // What is made at run time goes before what was installed.
        let later =
            "cdiVersion: 0.6.0\nkind: vendor.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits: {env: [LATER=1]}\n";
        fs::write(run.path().join("gpu.yaml"), later).expect("written");
        let mut one = needs(&["vendor.com/gpu=0"]);
        inject(&mut one, &dirs).expect("known");
        assert_eq!(one.env.keys().collect::<Vec<_>>(), ["LATER"]);
    }

    #[test]
    fn a_device_that_is_unknown_or_wants_too_much_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("gpu.json"), SPEC).expect("written");
        let refused = |name: &str| inject(&mut needs(&[name]), &[dir.path().to_path_buf()]).expect_err("refused");
        let unknown = "CDI device injection failed: unresolvable CDI devices vendor.com/gpu=7";
        assert_eq!(refused("vendor.com/gpu=7"), unknown);
        let hooks = "CDI device injection failed: vendor.com/gpu=hooked: hooks are not supported";
        assert_eq!(refused("vendor.com/gpu=hooked"), hooks);
        inject(&mut needs(&[]), &[]).expect("nothing to do");
    }
}
