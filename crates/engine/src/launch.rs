//! The last step of every process of a container: find its program and become it.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

use crate::shim::protocol::Failure;

/// Finds the program as `execvp` does, with runc's words when there is none.
pub(crate) fn find(program: &str, env: &[String]) -> Result<PathBuf, Failure> {
    let quoted = format!("exec: {program:?}");
    if program.contains('/') {
        return match usable(Path::new(program)) {
            Ok(()) => Ok(program.into()),
            Err(Errno::EISDIR) => Err(failure(format!("{quoted}: is a directory"), 126)),
            Err(Errno::ENOENT) => Err(failure(format!("{quoted}: stat {program}: no such file or directory"), 127)),
            Err(Errno::ENOTDIR) => Err(failure(format!("{quoted}: stat {program}: not a directory"), 127)),
            Err(_) => Err(failure(format!("{quoted}: permission denied"), 126)),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for directory in path.split(':') {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(program);
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(failure(format!("{quoted}: permission denied"), 126));
    }
    Err(failure(format!("{quoted}: executable file not found in $PATH"), 127))
}

fn usable(path: &Path) -> Result<(), Errno> {
    let metadata = std::fs::metadata(path).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    if metadata.is_dir() {
        return Err(Errno::EISDIR);
    }
    if metadata.mode() & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK)
}

fn failure(message: String, exit_code: i32) -> Failure {
    Failure::Start { message, exit_code }
}

/// Becomes the program. Returns only if that fails.
pub(crate) fn execute(program: &Path, args: &[String], env: &[String]) -> Result<Infallible, Failure> {
    reset_signals();
    let text = |text: &str| CString::new(text).map_err(|_| failure(format!("{text:?} holds a NUL byte"), 128));
    let list = |list: &[String]| list.iter().map(|entry| text(entry)).collect::<Result<Vec<_>, _>>();
    let (path, args, env) = (text(&program.to_string_lossy())?, list(args)?, list(env)?);
    let Err(errno) = nix::unistd::execve(&path, &args, &env);
    let code = match errno {
        Errno::ENOENT => 127,
        Errno::EACCES => 126,
        _ => 128,
    };
    // Go's words for an errno, which is what users of runc know, are libc's in lower case.
    Err(failure(format!("exec {}: {}", program.display(), errno.desc().to_lowercase()), code))
}

/// Ignored and blocked signals would be inherited by the program.
fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action runs no code of this program.
            let _ = unsafe { sigaction(signal, &default) };
        }
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}
