//! Running a further process in a container.
//!
//! libcontainer's own way into a running container leaves the system call filter out, so this one is ours: join the
//! cgroup and the namespaces, then become the program under the same restrictions as the container's first process.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use libcontainer::oci_spec::runtime::LinuxCapabilities;
use libcontainer::syscall::syscall::create_syscall;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde_json::json;

use super::create::{adjust_oom_score, permitted_rlimits, rlimit_resource, tell};
use super::filter::Filter;
use super::protocol::{self, Failure, Setup};
use crate::cgroup::Cgroups;
use crate::directory::{Directory, load};
use crate::spec::{ContainerSpec, ExecSpec};
use crate::user::Ids;
use crate::{launch, oci, user};

/// What a worker is given.
pub(super) struct Order<'a> {
    pub directory: &'a Directory,
    pub cgroups: &'a Cgroups,
    pub spec: &'a ExecSpec,
    /// The container's first process.
    pub init: i32,
    /// Connected streams; the others are `/dev/null`.
    pub stdio: [Option<OwnedFd>; 3],
}

/// Everything the new process needs to know.
struct Plan {
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    ids: Ids,
    tty: bool,
    size: Option<crate::TerminalSize>,
    no_new_privileges: bool,
    capabilities: LinuxCapabilities,
    filter: Option<Filter>,
    rlimits: Vec<crate::Rlimit>,
    mount: File,
    user: Option<File>,
    stdio: [Option<OwnedFd>; 3],
}

fn other(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Other(format!("exec: {what}: {error}"))
}

/// Starts the process; returns it and, with a terminal, the terminal's master.
pub(super) fn exec(order: Order<'_>) -> Result<(i32, Option<OwnedFd>), Failure> {
    let container = order.spec.container.as_str();
    let setup: Setup = load(&order.directory.setup()).map_err(|error| other("read sandbox.json", error))?;
    let spec: ContainerSpec =
        load(&order.directory.container(container).spec()).map_err(|error| other("read container.json", error))?;
    let namespace = |name: &str| File::open(format!("/proc/{}/ns/{name}", order.init));
    let (cgroup_ns, pid_ns) = (namespace("cgroup"), namespace("pid"));
    let plan = plan(&order, &spec, setup.spec.user_ids.is_some())?;
    let Order { cgroups, .. } = order;
    adjust_oom_score(spec.oom_score_adj.unwrap_or(0));
    let _ = nix::sys::prctl::set_dumpable(false);
    let group = cgroups.group(setup.cgroup_of(container));
    group.join(nix::unistd::getpid().as_raw()).map_err(|error| other("join the cgroup", error))?;
    for (kind, flag) in [(cgroup_ns, CloneFlags::CLONE_NEWCGROUP), (pid_ns, CloneFlags::CLONE_NEWPID)] {
        let file = kind.map_err(|error| other("open a namespace", error))?;
        setns(file, flag).map_err(|errno| other("join a namespace", errno.desc()))?;
    }
    spawn(plan)
}

fn plan(order: &Order<'_>, spec: &ContainerSpec, mapped: bool) -> Result<Plan, Failure> {
    let wanted = order.spec;
    let (passwd, group) = user::databases(format!("/proc/{}/root", order.init).as_ref());
    let user = wanted.user.as_ref().unwrap_or(&spec.user);
    let ids = user::resolve(user, &passwd, &group).map_err(|message| Failure::Start { message, exit_code: 126 })?;
    let env = wanted.env.as_ref().unwrap_or(&spec.env);
    let env = oci::environment(env, ids.home.as_deref());
    let set = oci::capabilities(spec, wanted.privileged);
    let capabilities = json!({
        "bounding": set.bounding,
        "effective": set.effective,
        "permitted": set.permitted,
        "inheritable": set.inheritable,
        "ambient": set.ambient,
    });
    let filter = oci::filter(spec, wanted.privileged).map(|profile| Filter::of(order.directory, &profile)).transpose();
    let namespace = |name: &str| {
        File::open(format!("/proc/{}/ns/{name}", order.init)).map_err(|error| other("open a namespace", error))
    };
    let duplicate = |fd: &Option<OwnedFd>| fd.as_ref().and_then(|fd| fd.try_clone().ok());
    let [stdin, stdout, stderr] = &order.stdio;
    Ok(Plan {
        args: wanted.args.clone(),
        env,
        cwd: wanted.cwd.clone().unwrap_or_else(|| spec.cwd.clone()),
        ids,
        tty: wanted.tty,
        size: wanted.size,
        no_new_privileges: spec.no_new_privileges && !wanted.privileged,
        capabilities: serde_json::from_value(capabilities).map_err(|error| other("capabilities", error))?,
        filter: filter.map_err(|error| other("system call filter", error))?,
        rlimits: permitted_rlimits(&spec.rlimits, mapped),
        mount: namespace("mnt")?,
        user: if mapped { Some(namespace("user")?) } else { None },
        stdio: [duplicate(stdin), duplicate(stdout), duplicate(stderr)],
    })
}

/// Makes the process as a sibling (a child of the shim) and waits until it became its program or said why not.
fn spawn(plan: Plan) -> Result<(i32, Option<OwnedFd>), Failure> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| other("pipe", errno.desc()))?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| other("socket", errno.desc()))?;
    // SAFETY: like fork; this worker has one thread, so the child may run any code. With CLONE_PARENT the child's
    // parent is the shim, which reaps it.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, (libc::CLONE_PARENT | libc::SIGCHLD) as libc::c_ulong, 0, 0, 0, 0) };
    if pid < 0 {
        return Err(other("make a process", std::io::Error::last_os_error()));
    }
    if pid == 0 {
        drop((reader, ours));
        let Err(failure) = become_program(plan, &theirs);
        tell(writer.as_fd(), &failure);
        // SAFETY: ends this process without running the parent's exit handlers.
        unsafe { libc::_exit(128) }
    }
    drop((writer, theirs));
    let mut told = Vec::new();
    File::from(reader).read_to_end(&mut told).map_err(|error| other("wait", error))?;
    if !told.is_empty() {
        return Err(serde_json::from_slice(&told).unwrap_or_else(|error| other("wait", error)));
    }
    let mut master = std::collections::VecDeque::new();
    if plan.tty {
        protocol::receive(ours.as_fd(), &mut [0; 8], &mut master).map_err(|error| other("terminal", error))?;
    }
    Ok((pid as i32, master.pop_front()))
}

fn become_program(plan: Plan, console: &OwnedFd) -> Result<std::convert::Infallible, Failure> {
    let because = |what: &'static str| move |errno: Errno| other(what, errno.desc().to_lowercase());
    nix::unistd::setsid().map_err(because("setsid"))?;
    if let Some(user) = &plan.user {
        setns(user, CloneFlags::CLONE_NEWUSER).map_err(because("join the user namespace"))?;
    }
    setns(&plan.mount, CloneFlags::CLONE_NEWNS).map_err(because("join the mount namespace"))?;
    if plan.tty {
        terminal(&plan, console)?;
    } else {
        let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR, nix::sys::stat::Mode::empty());
        let null = null.map_err(because("open /dev/null"))?;
        let stream = |at: usize| plan.stdio[at].as_ref().unwrap_or(&null);
        nix::unistd::dup2_stdin(stream(0)).map_err(because("stdin"))?;
        nix::unistd::dup2_stdout(stream(1)).map_err(because("stdout"))?;
        nix::unistd::dup2_stderr(stream(2)).map_err(because("stderr"))?;
    }
    for limit in &plan.rlimits {
        if let Some(resource) = rlimit_resource(&limit.kind) {
            nix::sys::resource::setrlimit(resource, limit.soft, limit.hard).map_err(because("setrlimit"))?;
        }
    }
    let cwd = if plan.cwd.is_empty() { "/" } else { plan.cwd.as_str() };
    let enter = || {
        nix::unistd::chdir(cwd).map_err(|errno| Failure::Start {
            message: format!("chdir to cwd ({cwd:?}) set in config.json failed: {}", errno.desc().to_lowercase()),
            exit_code: 126,
        })
    };
    // As root first, because the user may lack the right to pass; else as the user, where root may lack it (NFS).
    let entered = enter();
    restrict(&plan)?;
    entered.or_else(|_| enter())?;
    let program = launch::find(plan.args.first().map_or("", String::as_str), &plan.env)?;
    if let (true, Some(filter)) = (plan.no_new_privileges, &plan.filter) {
        filter.load().map_err(because("load the system call filter"))?;
    }
    // SAFETY: marks all further descriptors to be closed when the program starts.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    launch::execute(&program, &plan.args, &plan.env)
}

/// User, groups, capabilities and filter, in the one order the kernel permits.
fn restrict(plan: &Plan) -> Result<(), Failure> {
    let because = |what: &'static str| move |errno: Errno| other(what, errno.desc().to_lowercase());
    let groups: Vec<_> = plan.ids.additional_gids.iter().map(|gid| nix::unistd::Gid::from_raw(*gid)).collect();
    nix::unistd::setgroups(&groups).map_err(because("setgroups"))?;
    if plan.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().map_err(because("no_new_privs"))?;
    } else if let Some(filter) = &plan.filter {
        // Without no_new_privs, loading a filter takes a capability that is about to be dropped. The filter permits
        // what is left to do, or else it would not let a program start either.
        filter.load().map_err(because("load the system call filter"))?;
    }
    let (uid, gid) = (nix::unistd::Uid::from_raw(plan.ids.uid), nix::unistd::Gid::from_raw(plan.ids.gid));
    nix::sys::prctl::set_keepcaps(true).map_err(because("keep capabilities"))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(because("setgid"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(because("setuid"))?;
    let syscall = create_syscall();
    let capabilities = |error: libcontainer::syscall::SyscallError| other("capabilities", error);
    libcontainer::capabilities::reset_effective(syscall.as_ref()).map_err(capabilities)?;
    libcontainer::capabilities::drop_privileges(&plan.capabilities, syscall.as_ref()).map_err(capabilities)?;
    nix::sys::prctl::set_keepcaps(false).map_err(because("keep capabilities"))
}

/// A terminal of the container's own devpts, so that its name means something inside.
fn terminal(plan: &Plan, console: &OwnedFd) -> Result<(), Failure> {
    let because = |what: &'static str| move |errno: Errno| other(what, errno.desc().to_lowercase());
    let size =
        plan.size.map(|size| nix::pty::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 });
    let pair = nix::pty::openpty(size.as_ref(), None).map_err(because("make a terminal"))?;
    // The container provides /dev/ptmx: make sure that it is one (devpts), before the host reads from it.
    let kind = nix::sys::statfs::fstatfs(&pair.master).map_err(because("inspect the terminal"))?.filesystem_type();
    const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
    if kind.0 != DEVPTS_SUPER_MAGIC {
        return Err(Failure::Other("exec: /dev/ptmx of the container is no terminal".to_owned()));
    }
    let _ = nix::unistd::fchown(&pair.slave, Some(nix::unistd::Uid::from_raw(plan.ids.uid)), None);
    let fds: [RawFd; 1] = [pair.master.as_raw_fd()];
    protocol::send(console.as_fd(), b"t", &fds).map_err(|error| other("hand the terminal over", error))?;
    // SAFETY: the slave is open and this process leads a session without a terminal.
    if unsafe { libc::ioctl(pair.slave.as_raw_fd(), libc::TIOCSCTTY, 0) } < 0 {
        return Err(other("take the terminal", std::io::Error::last_os_error()));
    }
    nix::unistd::dup2_stdin(&pair.slave).map_err(because("stdin"))?;
    nix::unistd::dup2_stdout(&pair.slave).map_err(because("stdout"))?;
    nix::unistd::dup2_stderr(&pair.slave).map_err(because("stderr"))
}
