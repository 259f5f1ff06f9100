//! Volumes that are file systems of their own: `docker volume create --opt type=… --opt device=… --opt o=…`.
//!
//! As dockerd does, such a volume is mounted on the host, over its directory, while containers that run have it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::table::Volumes;
use crate::error::{ApiError, Result};

/// Refuses what dockerd's local driver refuses.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(option) = options.keys().find(|option| !matches!(option.as_str(), "type" | "o" | "device" | "size")) {
        return Err(ApiError::bad(format!("invalid option: {option:?}")));
    }
    if options.contains_key("size") {
        return Err(ApiError::bad("quota size requested but no quota support"));
    }
    for (option, needed) in [("device", "type"), ("o", "device"), ("o", "type"), ("type", "device")] {
        if options.contains_key(option) && !options.contains_key(needed) {
            return Err(ApiError::bad(format!("missing required option: {needed:?}")));
        }
    }
    Ok(())
}

impl Volumes {
    /// Mounts a container's volumes that need it, until [`Volumes::let_go`].
    pub fn hold(&self, name: &str, container: &str) -> Result<()> {
        let options = self.find(name)?.options;
        if options.is_empty() {
            return Ok(());
        }
        let mut holders = self.holders.lock();
        let path = self.data(name);
        if !is_mounted(&path) {
            mount_at(&path, &options)?;
        }
        holders.entry(name.to_owned()).or_default().insert(container.to_owned());
        Ok(())
    }

    /// A container has ended: what nobody else holds is unmounted.
    pub fn let_go(&self, container: &str) {
        let mut holders = self.holders.lock();
        holders.retain(|name, containers| {
            if containers.remove(container) && containers.is_empty() {
                self.unmount(name);
            }
            !containers.is_empty()
        });
    }

    /// Unmounts a volume, however often it is mounted.
    pub(super) fn unmount(&self, name: &str) {
        let path = self.data(name);
        while is_mounted(&path) {
            if let Err(errno) = umount2(&path, MntFlags::MNT_DETACH) {
                tracing::warn!(volume = name, error = errno.desc(), "a volume was not unmounted");
                return;
            }
        }
    }

    /// Unmounts what containers that ended without a daemon have left mounted.
    pub fn unmount_unheld(&self) {
        let holders = self.holders.lock();
        for volume in self.all().iter().filter(|volume| !volume.options.is_empty()) {
            if !holders.contains_key(&volume.name) {
                self.unmount(&volume.name);
            }
        }
    }

    /// Unmounts all.
    pub fn unmount_all(&self) {
        for volume in self.all().iter().filter(|volume| !volume.options.is_empty()) {
            self.unmount(&volume.name);
        }
    }
}

fn mount_at(path: &Path, options: &BTreeMap<String, String>) -> Result<()> {
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    let (device, kind) = (option("device"), option("type"));
    let (flags, data) = parse(option("o"));
    let said = Some(data.as_str()).filter(|data| !data.is_empty());
    let first = flags & !(MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC);
    let is_bind = flags.contains(MsFlags::MS_BIND);
    let mounted = mount(Some(device), path, Some(kind), if is_bind { first } else { flags }, said);
    // A bind takes its flags in a second step.
    let mounted = mounted.and_then(|()| match is_bind && flags != first {
        true => mount(None::<&str>, path, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>),
        false => Ok(()),
    });
    mounted.map_err(|errno| {
        let _ = umount2(path, MntFlags::MNT_DETACH);
        let path = path.display();
        let data = if data.is_empty() { String::new() } else { format!(", data: {data}") };
        ApiError::internal(format!(
            "error while mounting volume '{path}': failed to mount local volume: mount {device}:{path}, flags: {:#x}{data}: \
             {}",
            flags.bits(),
            errno.desc().to_lowercase()
        ))
    })
}

/// The words of `mount -o`: flags, and what is the file system's own.
fn parse(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (set, flag) = match option {
            "defaults" | "rw" => (false, MsFlags::MS_RDONLY),
            "ro" => (true, MsFlags::MS_RDONLY),
            "bind" => (true, MsFlags::MS_BIND),
            "rbind" => (true, MsFlags::MS_BIND | MsFlags::MS_REC),
            "nosuid" => (true, MsFlags::MS_NOSUID),
            "suid" => (false, MsFlags::MS_NOSUID),
            "nodev" => (true, MsFlags::MS_NODEV),
            "dev" => (false, MsFlags::MS_NODEV),
            "noexec" => (true, MsFlags::MS_NOEXEC),
            "exec" => (false, MsFlags::MS_NOEXEC),
            "sync" => (true, MsFlags::MS_SYNCHRONOUS),
            "async" => (false, MsFlags::MS_SYNCHRONOUS),
            "dirsync" => (true, MsFlags::MS_DIRSYNC),
            "noatime" => (true, MsFlags::MS_NOATIME),
            "atime" => (false, MsFlags::MS_NOATIME),
            "nodiratime" => (true, MsFlags::MS_NODIRATIME),
            "diratime" => (false, MsFlags::MS_NODIRATIME),
            "relatime" => (true, MsFlags::MS_RELATIME),
            "norelatime" => (false, MsFlags::MS_RELATIME),
            "strictatime" => (true, MsFlags::MS_STRICTATIME),
            other => {
                data.push(other);
                continue;
            }
        };
        flags.set(flag, set);
    }
    (flags, data.join(","))
}

/// Whether something is mounted there.
fn is_mounted(path: &Path) -> bool {
    // The kernel writes spaces and their like as octal numbers; no volume's name has any, but its root may.
    let escaped = path.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_refused_in_dockerds_words() {
        let said = |pairs: &[(&str, &str)]| check(&options(pairs)).unwrap_err().message;
        assert_eq!(said(&[("colour", "red")]), "invalid option: \"colour\"");
        assert_eq!(said(&[("type", "tmpfs")]), "missing required option: \"device\"");
        assert_eq!(said(&[("o", "bind")]), "missing required option: \"device\"");
        assert!(check(&options(&[("type", "none"), ("device", "/srv"), ("o", "bind")])).is_ok());
        assert!(check(&options(&[])).is_ok());
    }

    #[test]
    fn words_of_mount_become_flags_and_the_rest_is_the_file_systems() {
        assert_eq!(parse("size=10m,nosuid,uid=7"), (MsFlags::MS_NOSUID, "size=10m,uid=7".into()));
        assert_eq!(parse("rbind,ro,rw"), (MsFlags::MS_BIND | MsFlags::MS_REC, String::new()));
        assert_eq!(parse(""), (MsFlags::empty(), String::new()));
    }
}
