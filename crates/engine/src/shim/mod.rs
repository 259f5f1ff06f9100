//! The shim: the small process that owns one sandbox's containers.
//!
//! One thread, one `poll` loop ([`server`]), no runtime. Whatever takes memory or changes the process (libcontainer,
//! exec) happens in short-lived forks ([`create`], [`exec`]) that make the container's process the shim's own child, so
//! that the shim stays as small as it began.

mod create;
mod exec;
mod filter;
mod fork;
pub(crate) mod log;
mod mapping;
mod namespaces;
mod pause;
mod propagation;
pub(crate) mod protocol;
mod server;
mod stdio;
mod trace;
mod user_namespace;
mod working_directory;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

use crate::cgroup::Cgroups;
use crate::directory::{Directory, load, save};
use protocol::{Message, Setup};
pub(crate) use stdio::set_size;

/// Runs a shim; `args` are what the engine put after [`crate::ShimCommand::args`]. Call it first thing in `main`,
/// before any thread exists.
///
/// The one argument is the sandbox's directory; stdin is a socket connected to the engine. SIGTERM and its like are
/// ignored: a shim ends when its engine says so.
pub fn main(args: Vec<OsString>) -> ! {
    let Some(directory) = args.into_iter().next().map(PathBuf::from) else {
        eprintln!("usage: shim SANDBOX_DIRECTORY (started by the engine)");
        std::process::exit(2);
    };
    // SAFETY: descriptor 0 was given to this process by its parent; nothing else in this process uses it.
    let first = unsafe { OwnedFd::from_raw_fd(0) };
    let code = match run(Directory(directory), first) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("shim: {error}");
            1
        }
    };
    std::process::exit(code);
}

fn run(directory: Directory, first: OwnedFd) -> Result<(), String> {
    let socket = take_over(first).map_err(|error| format!("stdin is no socket: {error}"))?;
    let cgroups = Cgroups::detect();
    match prepare(&directory, &cgroups) {
        Ok((setup, host, pause)) => {
            let server = server::Server::new(directory, setup, cgroups, host, pause, socket)
                .map_err(|error| format!("cannot serve: {error}"))?;
            server.run()
        }
        Err(reason) => {
            let frame = protocol::frame(&Message::Ready { result: Err(reason.clone()) });
            let _ = protocol::send(socket.as_fd(), &frame, &[]);
            Err(reason)
        }
    }
}

/// Moves the first connection away from stdin, which becomes `/dev/null`, as does stdout.
fn take_over(first: OwnedFd) -> nix::Result<OwnedFd> {
    let moved = fcntl(&first, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl has just made this descriptor; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(moved) };
    let null = File::options().read(true).write(true).open("/dev/null").map_err(|_| nix::Error::ENODEV)?;
    // Dropping `first` would leave descriptor 0 free for the next file opened: replace it instead.
    std::mem::forget(first);
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(socket)
}

/// Makes the sandbox; answers its record, the mount namespace of the host, and process 1 of a shared PID namespace.
fn prepare(directory: &Directory, cgroups: &Cgroups) -> Result<(Setup, File, Option<i32>), String> {
    let because = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut setup: Setup = load(&directory.setup()).map_err(because("read the sandbox's record"))?;
    isolate().map_err(|error| format!("detach from the engine: {error}"))?;
    if let Err(error) = cgroups.leave_for(setup.shim_cgroup.as_ref()) {
        eprintln!("shim: stays in the engine's cgroup: {error}");
    }
    if !setup.spec.single {
        cgroups.group(&setup.cgroup).create(&setup.spec.resources).map_err(because("make the sandbox's cgroup"))?;
    }
    let host = File::open("/proc/self/ns/mnt").map_err(because("open the mount namespace"))?;
    namespaces::enter(directory, &setup.spec)?;
    let pause = match setup.spec.pid {
        crate::PidMode::Shared => {
            let users = setup.spec.user_ids.map(|_| directory.users());
            Some(pause::start(&directory.0.join("pause"), users.as_deref())?)
        }
        _ => None,
    };
    setup.pid = Some(nix::unistd::getpid().as_raw());
    save(&directory.setup(), &setup).map_err(because("write the sandbox's record"))?;
    Ok((setup, host, pause))
}

/// Own session, parent of every orphan below it, deaf to signals meant for the engine.
fn isolate() -> nix::Result<()> {
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true)?;
    let _ = nix::sys::prctl::set_name(c"hythe-shim");
    nix::unistd::setgroups(&[])?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    std::env::set_current_dir("/").map_err(|_| nix::Error::ENOENT)?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGPIPE, Signal::SIGUSR1] {
        // SAFETY: an ignored signal runs no code of this program.
        unsafe { sigaction(signal, &ignore) }?;
    }
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&children), None)?;
    // SAFETY: closing descriptors that this process has not opened and does not know of.
    unsafe { libc::close_range(4, libc::c_uint::MAX, 0) };
    Ok(())
}
