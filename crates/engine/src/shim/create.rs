//! Making a container, in a worker: mounts, cgroup, and libcontainer's create.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use super::filter::Filter;
use super::mapping::{IDMAP, Mapped};
use super::propagation::{Propagation, held_back};
use super::protocol::{self, Failure, Setup};
use super::trace::Trace;
use super::working_directory;
use crate::cgroup::Cgroups;
use crate::directory::{ContainerDirectory, Directory, load};
use crate::launch;
use crate::oci::{self, Surroundings};
use crate::overlay::Layers;
use crate::spec::{ContainerSpec, Rlimit, Rootfs};
use crate::user;

/// The name under which libcontainer knows the one container of its directory.
pub(super) const RUNTIME_ID: &str = "c";

/// What a worker is given.
pub(super) struct Order<'a> {
    pub directory: &'a Directory,
    pub cgroups: &'a Cgroups,
    /// The host's mount namespace.
    pub host: &'a fs::File,
    pub container: &'a str,
    /// As in [`Surroundings::pid_namespace`].
    pub pid_namespace: Option<String>,
    /// stdin, stdout, stderr; unused with a terminal.
    pub stdio: [OwnedFd; 3],
    /// Where a failure to start is told; closed by the program's start.
    pub error: OwnedFd,
}

/// Makes the container; returns its process and, with a terminal, the terminal's master.
pub(super) fn create(order: &Order<'_>) -> Result<(i32, Option<OwnedFd>), Failure> {
    let home = order.directory.container(order.container);
    let setup: Setup = load(&order.directory.setup()).map_err(|error| create_failure("read sandbox.json", error))?;
    let mut spec: ContainerSpec = load(&home.spec()).map_err(|error| create_failure("read container.json", error))?;
    let cgroup = setup.cgroup_of(order.container);
    let mapped = setup.spec.user_ids.map(|ids| Mapped::new(order, ids));
    let result = build(order, &home, &mut spec, &cgroup, mapped.as_ref());
    if result.is_err() {
        let group = order.cgroups.group(&cgroup);
        group.kill();
        let _ = order.cgroups.purge(cgroup.as_ref(), std::time::Duration::from_secs(1));
        unmount_rootfs(order.directory, order.container);
    }
    result
}

fn create_failure(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Create(format!("{what}: {error}"))
}

fn build(
    order: &Order<'_>,
    home: &ContainerDirectory,
    spec: &mut ContainerSpec,
    cgroup: &str,
    mapped: Option<&Mapped>,
) -> Result<(i32, Option<OwnedFd>), Failure> {
    let rootfs = match mapped {
        Some(mapped) => mapped.rootfs(&spec.rootfs),
        None => mount_rootfs(home, &spec.rootfs),
    };
    let rootfs = rootfs.map_err(|error| create_failure("mount the root file system", error))?;
    let mounts = spec.mounts.clone();
    match mapped {
        Some(mapped) => mapped.binds(&mut spec.mounts).map_err(Failure::Create)?,
        None => spec.mounts.iter_mut().for_each(|mount| mount.options.retain(|option| option != IDMAP)),
    }
    let (passwd, group) = user::databases(&rootfs);
    let ids = user::resolve(&spec.user, &passwd, &group).map_err(Failure::Create)?;
    working_directory::make(&rootfs, spec, mapped.map_or(0, |mapped| mapped.ids.first));
    let cgroup_group = order.cgroups.group(cgroup);
    cgroup_group.create(&spec.resources).map_err(|error| create_failure("cgroup", error))?;
    if let Some(rules) = oci::device_rules(spec) {
        cgroup_group.allow_devices(&rules).map_err(|error| create_failure("device cgroup", error))?;
    }
    adjust_oom_score(spec.oom_score_adj.unwrap_or(0));
    spec.rlimits = permitted_rlimits(&spec.rlimits, mapped.is_some());
    spec.env = oci::environment(&spec.env, ids.home.as_deref());
    let mut pid_namespace = order.pid_namespace.clone();
    if let (Some(mapped), Some(path)) = (mapped, pid_namespace.as_mut().filter(|path| !path.is_empty())) {
        *path = mapped.pid_namespace(path).map_err(|error| create_failure("hold the PID namespace", error))?;
    }
    let joins_pid = pid_namespace.as_ref().is_some_and(|path| !path.is_empty());
    if mapped.is_none() && (joins_pid || spec.host_cgroup_namespace) {
        let groups = oci::own_groups(spec, order.cgroups.directories(Path::new(cgroup)));
        spec.mounts.splice(0..0, groups);
    }
    let surroundings = Surroundings {
        rootfs: &rootfs,
        ids: &ids,
        pid_namespace,
        user_namespace: mapped.map(|mapped| mapped.users.as_path()),
        cgroup: &format!("/{cgroup}"),
    };
    let filter = oci::filter(spec, false).map(|profile| Filter::of(order.directory, &profile)).transpose();
    let filter = filter.map_err(|error| create_failure("system call filter", error))?;
    spec.mounts.retain(|mount| !held_back(mount));
    let config = oci::config(spec, &surroundings);
    let text = serde_json::to_vec(&config).map_err(|error| create_failure("config.json", error))?;
    fs::write(home.0.join("config.json"), text).map_err(|error| create_failure("write config.json", error))?;
    let runtime = home.runtime();
    fs::create_dir_all(&runtime).map_err(|error| create_failure("make the runtime directory", error))?;
    let console =
        if spec.tty { Some(Console::listen(&home.0).map_err(|e| create_failure("terminal", e))?) } else { None };
    let error = duplicate(&order.error).map_err(|error| create_failure("duplicate", error))?;
    let launcher = Launcher {
        error: Rc::new(error),
        spec: Rc::new(spec.clone()),
        filter: Rc::new(filter),
        lent: oci::lent_capability(spec).is_some(),
        program: Rc::default(),
    };
    let [stdin, stdout, stderr] = &order.stdio;
    own_pipes([stdin, stdout, stderr], mapped.map_or(0, |mapped| mapped.ids.first) + ids.uid);
    let duplicated = |fd: &OwnedFd| duplicate(fd).map_err(|error| create_failure("duplicate", error));
    let mut builder = ContainerBuilder::new(RUNTIME_ID.to_owned(), SyscallType::default())
        .with_root_path(&runtime)
        .map_err(|error| Failure::Create(describe(&error)))?
        .with_console_socket(console.as_ref().map(|console| console.path.clone()))
        .with_executor(launcher);
    if !spec.tty {
        builder =
            builder.with_stdin(duplicated(stdin)?).with_stdout(duplicated(stdout)?).with_stderr(duplicated(stderr)?);
    }
    let trace = Trace::start().map_err(|error| create_failure("record errors", error))?;
    let built = builder.as_init(&home.0).with_systemd(false).with_detach(true).as_sibling(true).build();
    let container = built.map_err(|error| match trace.cause() {
        Some(cause) => Failure::Create(cause),
        None => Failure::Create(describe(&error)),
    })?;
    let pid = container.pid().ok_or_else(|| Failure::Create("the container has no process".to_owned()))?;
    Propagation::of(&mounts, spec.tty).apply(order.host, pid.as_raw()).map_err(Failure::Create)?;
    let master = console.map(Console::receive).transpose().map_err(|error| create_failure("terminal", error))?;
    Ok((pid.as_raw(), master))
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn duplicate(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

fn mount_rootfs(home: &ContainerDirectory, rootfs: &Rootfs) -> io::Result<PathBuf> {
    match rootfs {
        Rootfs::Path(path) => Ok(path.clone()),
        Rootfs::Overlay { lower, upper, work, volatile } => {
            let target = home.rootfs();
            for directory in [upper, work, &target] {
                fs::create_dir_all(directory)?;
            }
            Layers { lower, upper, work, volatile: *volatile }.mount(&target)?;
            Ok(target)
        }
    }
}

/// Unmounts what was mounted for a container.
pub(super) fn unmount_rootfs(directory: &Directory, container: &str) {
    let detach = nix::mount::MntFlags::MNT_DETACH;
    let _ = nix::mount::umount2(&directory.container(container).rootfs(), detach);
    let mapped = directory.mapped().join(container);
    if mapped.exists() {
        let mounts = fs::read_dir(mapped.join("mounts")).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in mounts.chain([mapped.join("rootfs"), mapped.join("pid")]) {
            let _ = nix::mount::umount2(&path, detach);
        }
        let _ = fs::remove_dir_all(&mapped);
    }
}

/// A program that opens `/dev/stdout` anew needs the right to, as Docker gives it.
fn own_pipes(pipes: [&OwnedFd; 3], uid: u32) {
    for pipe in pipes {
        let is_pipe = nix::sys::stat::fstat(pipe).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO);
        if is_pipe {
            let _ = nix::unistd::fchown(pipe, Some(nix::unistd::Uid::from_raw(uid)), None);
        }
    }
}

/// Sets this process's score, which its children inherit. Lowering it takes CAP_SYS_RESOURCE: without, it becomes the
/// lowest permitted.
pub(super) fn adjust_oom_score(wanted: i32) {
    let path = "/proc/self/oom_score_adj";
    if fs::write(path, wanted.to_string()).is_err() {
        let current = fs::read_to_string(path).unwrap_or_default();
        eprintln!("shim: oom_score_adj {wanted} is not permitted, {} stays", current.trim());
    }
}

/// Limits as far as this process may set them: a hard limit can be raised only with CAP_SYS_RESOURCE.
/// In a user namespace nobody holds that.
pub(super) fn permitted_rlimits(wanted: &[Rlimit], mapped: bool) -> Vec<Rlimit> {
    let may_raise = !mapped && oci::holds("CAP_SYS_RESOURCE");
    let limit = |rlimit: &Rlimit| {
        let current = rlimit_resource(&rlimit.kind).and_then(|resource| nix::sys::resource::getrlimit(resource).ok());
        let mut limit = rlimit.clone();
        if let (false, Some((_, hard))) = (may_raise, current)
            && limit.hard > hard
        {
            eprintln!("shim: {} {} is not permitted, {hard} is the most", limit.kind, limit.hard);
            limit.hard = hard;
            limit.soft = limit.soft.min(hard);
        }
        limit
    };
    wanted.iter().map(limit).collect()
}

pub(super) fn rlimit_resource(kind: &str) -> Option<nix::sys::resource::Resource> {
    use nix::sys::resource::Resource;
    Some(match kind.strip_prefix("RLIMIT_")? {
        "AS" => Resource::RLIMIT_AS,
        "CORE" => Resource::RLIMIT_CORE,
        "CPU" => Resource::RLIMIT_CPU,
        "DATA" => Resource::RLIMIT_DATA,
        "FSIZE" => Resource::RLIMIT_FSIZE,
        "LOCKS" => Resource::RLIMIT_LOCKS,
        "MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "NICE" => Resource::RLIMIT_NICE,
        "NOFILE" => Resource::RLIMIT_NOFILE,
        "NPROC" => Resource::RLIMIT_NPROC,
        "RSS" => Resource::RLIMIT_RSS,
        "RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RTTIME" => Resource::RLIMIT_RTTIME,
        "SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "STACK" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// The socket on which libcontainer hands over a terminal's master.
struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    fn listen(directory: &Path) -> io::Result<Self> {
        // A socket's address holds 107 bytes; a relative one is always short enough.
        let before = std::env::current_dir()?;
        std::env::set_current_dir(directory)?;
        let listener = UnixListener::bind("console.sock");
        std::env::set_current_dir(before)?;
        Ok(Self { listener: listener?, path: directory.join("console.sock") })
    }

    fn receive(self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        let mut fds = std::collections::VecDeque::new();
        protocol::receive(stream.as_fd(), &mut [0; 64], &mut fds)?;
        let _ = fs::remove_file(&self.path);
        fds.pop_front().ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no terminal was handed over"))
    }
}

/// Tells the shim why a program did not start.
pub(super) fn tell(error: BorrowedFd<'_>, failure: &Failure) {
    if let (Ok(fd), Ok(text)) = (duplicate(&error), serde_json::to_vec(failure)) {
        let _ = fs::File::from(fd).write_all(&text);
    }
}

/// libcontainer's hook for becoming the container's program.
#[derive(Clone)]
struct Launcher {
    error: Rc<OwnedFd>,
    spec: Rc<ContainerSpec>,
    filter: Rc<Option<Filter>>,
    /// Whether the process holds [`oci::lent_capability`].
    lent: bool,
    program: Rc<RefCell<PathBuf>>,
}

impl Executor for Launcher {
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let program = self.spec.args.first().map_or("", String::as_str);
        match launch::find(program, &self.spec.env) {
            Ok(found) => {
                *self.program.borrow_mut() = found;
                Ok(())
            }
            Err(failure) => {
                tell((*self.error).as_fd(), &failure);
                Err(ExecutorValidationError::ArgValidationError(format!("{failure:?}")))
            }
        }
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let Err(failure) =
            self.restrict().and_then(|()| launch::execute(&self.program.borrow(), &self.spec.args, &self.spec.env));
        tell((*self.error).as_fd(), &failure);
        Err(ExecutorError::Other(format!("{failure:?}")))
    }
}

impl Launcher {
    /// The last restrictions: the filter, and then the capability that loading it took. The filter permits that, or else
    /// it would not let a program start either.
    fn restrict(&self) -> Result<(), Failure> {
        let because = |what: &'static str| {
            move |errno: nix::errno::Errno| Failure::Create(format!("{what}: {}", errno.desc().to_lowercase()))
        };
        if let Some(filter) = &*self.filter {
            filter.load().map_err(because("load the system call filter"))?;
        }
        if self.lent { give_back().map_err(because("drop a capability")) } else { Ok(()) }
    }
}

/// Drops CAP_SYS_ADMIN from the sets that it was added to.
fn give_back() -> nix::Result<()> {
    /// `struct __user_cap_header_struct`, capset(2).
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    /// `struct __user_cap_data_struct`: the low and the high half of the sets.
    #[repr(C)]
    #[derive(Default, Clone, Copy)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 1 << 21;
    let (mut header, mut sets) = (Header { version: VERSION_3, pid: 0 }, [Sets::default(); 2]);
    // SAFETY: version 3 fills two of `Sets`; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    nix::errno::Errno::result(result)?;
    sets[0].effective &= !SYS_ADMIN;
    sets[0].permitted &= !SYS_ADMIN;
    // SAFETY: as above, and only read.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) };
    nix::errno::Errno::result(result).map(drop)
}

impl Order<'_> {
    /// The descriptors a worker needs.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut fds: Vec<RawFd> = self.stdio.iter().map(AsRawFd::as_raw_fd).collect();
        fds.extend([self.error.as_raw_fd(), self.host.as_raw_fd()]);
        fds
    }
}
