//! A pod's network namespace, kept alive by a bind mount.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

mod mapped;

use crate::netlink::Links;
use crate::{NetworkError, UserIds};

/// A namespace just made.
pub(crate) struct Namespace {
    file: File,
    /// Acts inside the namespace.
    pub links: Links,
}

/// Written inside every pod's namespace.
const SYSCTLS: [(&str, &str); 3] = [
    // As containerd and Docker have it: a pod's ports are its own, so none is privileged, and anyone may ping.
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    // For links made from here on; loopback keeps ::1. Links that get addresses of IPv6 are let have them then.
    ("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Does something in a namespace made elsewhere, by its file: a thread of its own enters it and ends, the caller stays
/// where it is. `step` says in errors what was to be done.
pub(crate) fn inside<T: Send + 'static>(
    path: &Path,
    step: &'static str,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NetworkError> {
    let file = File::open(path).map_err(NetworkError::file("open", path))?;
    std::thread::Builder::new()
        .name("pod-netns".to_owned())
        .spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            act()
        })
        .map_err(NetworkError::namespace("start a thread"))?
        .join()
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        .map_err(NetworkError::namespace(step))
}

impl Namespace {
    /// Makes a namespace and mounts it at `path`. A thread of its own enters it and ends: the caller stays where it is.
    ///
    /// With `users`, it belongs to a user namespace of its own with that mapping, which nothing else holds: whoever is
    /// to live there finds it by the network namespace (`NS_GET_USERNS` of ioctl_ns(2)).
    pub(crate) fn create(path: &Path, users: Option<UserIds>) -> Result<Namespace, NetworkError> {
        File::create(path).map_err(NetworkError::file("create", path))?;
        let target = path.to_owned();
        let made = std::thread::Builder::new()
            .name("pod-netns".to_owned())
            .spawn(move || enter_and_mount(&target, users))
            .map_err(NetworkError::namespace("start a thread"))?
            .join()
            .unwrap_or_else(|_| Err(NetworkError::namespace("enter a namespace")(io::ErrorKind::Other.into())));
        if made.is_err() {
            let _ = remove(path);
        }
        made
    }

    /// Opens a namespace made elsewhere, by its file. As [`Namespace::create`], the caller stays where it is.
    pub(crate) fn enter(path: &Path) -> Result<Namespace, NetworkError> {
        let links = inside(path, "enter a namespace", Links::open)?;
        let file = File::open(path).map_err(NetworkError::file("open", path))?;
        Ok(Namespace { file, links })
    }

    /// Writes settings (names below `/proc/sys/net`) inside a namespace made elsewhere.
    pub(crate) fn set(path: &Path, settings: Vec<(String, String)>) -> Result<(), NetworkError> {
        inside(path, "change settings in a namespace", move || {
            settings.iter().try_for_each(|(name, value)| fs::write(Path::new("/proc/sys/net").join(name), value))
        })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn enter_and_mount(path: &Path, users: Option<UserIds>) -> Result<Namespace, NetworkError> {
    let own = Path::new("/proc/thread-self/ns/net");
    let entered = match users {
        None => unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from),
        Some(users) => mapped::enter(users),
    };
    entered.map_err(NetworkError::namespace("make a namespace"))?;
    for (sysctl, value) in SYSCTLS {
        // Absent where the kernel lacks the feature; the pod works without.
        if let Err(error) = fs::write(sysctl, value) {
            tracing::debug!(sysctl, %error, "not set");
        }
    }
    mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(io::Error::from)
        .map_err(NetworkError::file("mount a namespace on", path))?;
    let file = File::open(path).map_err(NetworkError::file("open", path))?;
    let links = Links::open().map_err(NetworkError::netlink("open a netlink socket in a pod"))?;
    Ok(Namespace { file, links })
}

/// Whether a namespace is mounted there (the file alone may outlive a reboot).
pub(crate) fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|info| info.filesystem_type() == NSFS_MAGIC)
}

/// Unmounts and removes; fine if there is nothing. The kernel takes the links down behind it.
pub(crate) fn remove(path: &Path) -> Result<(), NetworkError> {
    while is_mounted(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(io::Error::from).map_err(NetworkError::file("unmount", path))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NetworkError::file("remove", path)(error)),
        _ => Ok(()),
    }
}
