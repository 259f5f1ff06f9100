//! The namespaces that a sandbox's containers share are the shim's own: no file, mount or process has to hold them.

use std::fs::File;
use std::path::{Component, Path};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::user_namespace;
use crate::directory::Directory;
use crate::spec::{Ipc, Namespace, SandboxSpec};

/// Moves this process into the sandbox's namespaces and sets them up.
pub(super) fn enter(directory: &Directory, spec: &SandboxSpec) -> Result<(), String> {
    let because = |what: &str| {
        let what = what.to_owned();
        move |errno: nix::Error| format!("{what}: {}", errno.desc())
    };
    let mut flags = CloneFlags::CLONE_NEWNS;
    match &spec.ipc_path {
        Some(path) => {
            let file = File::open(path).map_err(|error| format!("open IPC namespace {}: {error}", path.display()))?;
            setns(&file, CloneFlags::CLONE_NEWIPC)
                .map_err(because(&format!("join IPC namespace {}", path.display())))?;
        }
        None if spec.ipc == Ipc::New => flags |= CloneFlags::CLONE_NEWIPC,
        None => {}
    }
    if spec.hostname.is_some() || spec.network != Namespace::Host {
        flags |= CloneFlags::CLONE_NEWUTS;
    }
    match &spec.network {
        Namespace::Host => {}
        Namespace::New => flags |= CloneFlags::CLONE_NEWNET,
        Namespace::Path(path) => {
            let file =
                File::open(path).map_err(|error| format!("open network namespace {}: {error}", path.display()))?;
            setns(&file, CloneFlags::CLONE_NEWNET)
                .map_err(because(&format!("join network namespace {}", path.display())))?;
        }
    }
    let owned = flags & !CloneFlags::CLONE_NEWNS;
    unshare(if spec.user_ids.is_some() { CloneFlags::CLONE_NEWNS } else { flags })
        .map_err(because("make namespaces"))?;
    // What is mounted here stays here; what the host mounts below a shared mount still arrives.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .map_err(because("make mounts private"))?;
    if let Some(ids) = spec.user_ids {
        let network = match &spec.network {
            Namespace::Path(path) => Some(path.as_path()),
            _ => None,
        };
        user_namespace::enter(ids, network, owned, &directory.users())?;
    }
    if spec.network == Namespace::New {
        loopback_up().map_err(|error| format!("bring the loopback link up: {error}"))?;
    }
    if let Some(hostname) = &spec.hostname {
        nix::unistd::sethostname(hostname).map_err(because("set the host name"))?;
        if let Some(domain) = &spec.domainname {
            set_domain_name(domain).map_err(|error| format!("set the domain name: {error}"))?;
        }
    }
    for (name, value) in &spec.sysctls {
        write_sysctl(spec, name, value)?;
    }
    for tmpfs in &spec.tmpfs {
        let mut options = format!("mode={:o}", tmpfs.mode);
        if let Some(size) = tmpfs.size {
            options.push_str(&format!(",size={size}"));
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &tmpfs.path, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(because(&format!("mount a tmpfs at {}", tmpfs.path.display())))?;
    }
    Ok(())
}

/// Writes a parameter, if it belongs to a namespace of the sandbox's own.
fn write_sysctl(spec: &SandboxSpec, name: &str, value: &str) -> Result<(), String> {
    let key = name.replace('/', ".");
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| key.starts_with(prefix));
    let ipc = ipc || key == "kernel.sem";
    let network = key.starts_with("net.");
    let own = (network && spec.network != Namespace::Host) || (ipc && spec.ipc == Ipc::New && spec.ipc_path.is_none());
    if !own {
        let kind = if network { "network" } else { "ipc" };
        return Err(match network || ipc {
            true => format!("sysctl {name:?} not allowed in host {kind} namespace"),
            false => format!("sysctl {name:?} is not in a separate kernel namespace"),
        });
    }
    // A slash in the name stands for itself (`net/ipv4/conf/eth0.5/…`), else dots separate.
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let relative = Path::new(&relative);
    if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
        return Err(format!("sysctl {name:?} is no name of a kernel parameter"));
    }
    let path = Path::new("/proc/sys").join(relative);
    std::fs::write(&path, value).map_err(|error| format!("write sysctl {name}={value}: {error}"))
}

fn set_domain_name(name: &str) -> std::io::Result<()> {
    // SAFETY: pointer and length describe `name`, which outlives the call.
    let result = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn loopback_up() -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is initialised and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
