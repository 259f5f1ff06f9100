//! `--device`, `--device-cgroup-rule`, `--blkio-weight` and the limits of disks.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use engine::{BlockIo, Device};
use serde_json::Value;

use super::options::{DeviceMapping, HostOptions};
use crate::error::{ApiError, Result};

/// Refuses what dockerd refuses when a container is made.
pub(super) fn check(host: &HostOptions) -> Result<()> {
    if let Some(rule) = host.device_cgroup_rules.iter().flatten().find(|rule| !is_rule(rule)) {
        return Err(ApiError::bad(format!("invalid device cgroup rule format: '{rule}'")));
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return Err(ApiError::bad("Range of blkio weight is from 10 to 1000"));
    }
    Ok(())
}

/// `c 1:3 rwm`.
fn is_rule(rule: &str) -> bool {
    let fields: Vec<&str> = rule.split(' ').collect();
    let [kind, numbers, access] = fields[..] else { return false };
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    matches!(kind, "a" | "b" | "c")
        && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&access.len())
        && access.bytes().all(|byte| b"rwm".contains(&byte))
}

/// The devices asked for; a directory stands for all below it.
pub(super) fn devices(host: &HostOptions) -> Result<Vec<Device>> {
    let mut found = Vec::new();
    for mapping in &host.devices {
        let outside = PathBuf::from(&mapping.path_on_host);
        let inside = match mapping.path_in_container.as_str() {
            "" => outside.clone(),
            path => path.into(),
        };
        let failed = |reason: &str| {
            let path = outside.display();
            ApiError::internal(format!(
                "error gathering device information while adding custom device \"{path}\": {reason}"
            ))
        };
        let metadata = fs::metadata(&outside).map_err(|error| failed(&reason(&error)))?;
        if is_device(&metadata) {
            found.push(device(mapping, outside, inside));
        } else if metadata.is_dir() {
            let before = found.len();
            below(&outside, &mut |path| {
                let relative = path.strip_prefix(&outside).unwrap_or(path);
                found.push(device(mapping, path.to_owned(), inside.join(relative)));
            });
            if found.len() == before {
                return Err(failed("not a device node"));
            }
        } else {
            return Err(failed("not a device node"));
        }
    }
    Ok(found)
}

fn device(mapping: &DeviceMapping, host_path: PathBuf, container_path: PathBuf) -> Device {
    let permissions = match mapping.cgroup_permissions.as_str() {
        "" => "rwm".to_owned(),
        permissions => permissions.to_owned(),
    };
    Device { host_path, container_path, permissions }
}

fn is_device(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

fn below(directory: &Path, found: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => below(&path, found),
            Ok(metadata) if is_device(&metadata) => found(&path),
            _ => {}
        }
    }
}

/// Weights and limits of disks.
pub(super) fn block_io(host: &HostOptions) -> Result<BlockIo> {
    let list = |entries: &[Value], field: &str| -> Result<Vec<(String, u64)>> {
        entries
            .iter()
            .map(|entry| {
                let path = entry["Path"].as_str().unwrap_or_default();
                Ok((numbers(path)?, entry[field].as_u64().unwrap_or(0)))
            })
            .collect()
    };
    let weights = list(&host.blkio_weight_device, "Weight")?;
    Ok(BlockIo {
        weight: (host.blkio_weight > 0).then_some(host.blkio_weight),
        weight_device: weights.into_iter().map(|(device, weight)| (device, weight.min(1000) as u16)).collect(),
        read_bps: list(&host.blkio_device_read_bps, "Rate")?,
        write_bps: list(&host.blkio_device_write_bps, "Rate")?,
        read_iops: list(&host.blkio_device_read_iops, "Rate")?,
        write_iops: list(&host.blkio_device_write_iops, "Rate")?,
    })
}

/// `major:minor` of a device's node.
fn numbers(path: &str) -> Result<String> {
    let metadata =
        fs::metadata(path).map_err(|error| ApiError::internal(format!("stat {path}: {}", reason(&error))))?;
    let device = metadata.rdev();
    Ok(format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)))
}

/// What dockerd says of a weight that nothing here would keep to.
pub(super) fn weight_warning(host: &HostOptions) -> Option<String> {
    let kept = ["blkio/blkio.weight", "blkio/blkio.bfq.weight", "cgroup.controllers"];
    let kept = kept.iter().any(|file| Path::new("/sys/fs/cgroup").join(file).exists());
    let wanted = host.blkio_weight > 0 || !host.blkio_weight_device.is_empty();
    (wanted && !kept).then(|| {
        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".to_owned()
    })
}

/// An error in Go's words.
fn reason(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| nix::Error::from_raw(number).desc().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_dockers_form() {
        for rule in ["c 1:3 rwm", "b *:* m", "a 10:* r"] {
            assert!(is_rule(rule), "{rule}");
        }
        for rule in ["", "c 1:3", "d 1:3 r", "c 1 r", "c 1:x r", "c 1:3 rwmr", "c 1:3 x", "c  1:3 r"] {
            assert!(!is_rule(rule), "{rule}");
        }
    }

    #[test]
    fn devices_are_looked_up_and_missing_ones_are_named() {
        let of = |path: &str| {
            let mapping = DeviceMapping { path_on_host: path.into(), ..DeviceMapping::default() };
            devices(&HostOptions { devices: vec![mapping], ..HostOptions::default() })
        };
        assert_eq!(of("/dev/null").unwrap()[0].permissions, "rwm");
        let said = "error gathering device information while adding custom device";
        let missing = of("/dev/nowhere").unwrap_err().message;
        assert_eq!(missing, format!("{said} \"/dev/nowhere\": no such file or directory"));
        assert_eq!(of("/etc/passwd").unwrap_err().message, format!("{said} \"/etc/passwd\": not a device node"));
    }
}
