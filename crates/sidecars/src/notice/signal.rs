//! A signal to a process of a shared PID namespace.

use std::{fs, io, path::PathBuf, str::FromStr};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every process of this name (its command's file name, as `pkill -x` takes it), but this one.
    Name(String),
    /// The one whose number a file holds.
    PidFile(PathBuf),
    /// The pod's main process: the oldest that is neither this program, here or in another sidecar, nor the pod's own pause
    /// process.
    Main,
}

/// A signal that was not sent. A retry helps once the process is there.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// No process has this name.
    #[error("no process is named {0:?}")]
    Nobody(String),
    /// The file does not hold a process's number.
    #[error("{0}: {1}")]
    PidFile(PathBuf, String),
    /// `/proc` cannot be read.
    #[error("/proc cannot be read: {0}")]
    Proc(#[from] io::Error),
    /// The kernel refuses.
    #[error("process {0}: {1}")]
    Refused(i32, Errno),
    /// There is no other process: the pod does not share its PID namespace.
    #[error("there is no other process here: does the pod have shareProcessNamespace?")]
    Alone,
}

/// Sends a signal. Returns the processes that got it.
///
/// # Errors
/// If there is no such process, or the kernel refuses.
pub fn send(target: &Target, signal: Signal) -> Result<Vec<i32>, SignalError> {
    let processes = match target {
        Target::PidFile(file) => {
            let told = |reason: String| SignalError::PidFile(file.clone(), reason);
            let text = fs::read_to_string(file).map_err(|error| told(error.to_string()))?;
            let pid: i32 = text.trim().parse().map_err(|_| told("no process's number".into()))?;
            // 0 and negative numbers stand for groups of processes.
            if pid <= 0 {
                return Err(told("no process's number".into()));
            }
            vec![pid]
        }
        Target::Name(name) => {
            let own = std::process::id().cast_signed();
            let named: Vec<i32> = others(own)?.into_iter().filter(|pid| is_named(*pid, name)).collect();
            if named.is_empty() {
                return Err(SignalError::Nobody(name.clone()));
            }
            named
        }
        Target::Main => vec![main_process()?],
    };
    for pid in &processes {
        kill(Pid::from_raw(*pid), signal).map_err(|error| SignalError::Refused(*pid, error))?;
    }
    Ok(processes)
}

/// The pod's main process.
///
/// # Errors
/// If there is no other process.
pub fn main_process() -> Result<i32, SignalError> {
    let own = std::process::id().cast_signed();
    let mut candidates: Vec<(u64, i32)> = others(own)?
        .into_iter()
        .filter(|pid| !is_this_program(*pid) && (*pid != 1 || !is_pause(*pid)))
        .filter_map(|pid| Some((started(pid)?, pid)))
        .collect();
    candidates.sort_unstable();
    candidates.first().map(|(_, pid)| *pid).ok_or(SignalError::Alone)
}

/// A signal by name, with or without `SIG`, or by number.
///
/// # Errors
/// If there is none.
pub fn parse_signal(text: &str) -> Result<Signal, String> {
    let wrong = || format!("{text:?} is no signal");
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| wrong());
    }
    let name = text.to_ascii_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    Signal::from_str(&name).map_err(|_| wrong())
}

fn others(own: i32) -> Result<Vec<i32>, SignalError> {
    let numbers = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.filter(|pid| *pid != own).collect())
}

/// Kernel threads have no command line and are nobody's.
fn is_named(pid: i32, name: &str) -> bool {
    let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    // Some rewrite their command line: `nginx: master process /usr/sbin/nginx`.
    let titled = first.split([':', ' ']).next().unwrap_or_default();
    let file = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    if command.is_empty() {
        return false;
    }
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    file(&first) == name || file(titled) == name || (comm.trim_end() == name && !first.is_empty())
}

/// Sidecars beside this one are this program too.
fn is_this_program(pid: i32) -> bool {
    let comm = |of: &str| fs::read_to_string(format!("/proc/{of}/comm")).ok();
    comm(&pid.to_string()).is_some_and(|theirs| Some(theirs) == comm("self"))
}

fn is_pause(pid: i32) -> bool {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    matches!(comm.trim_end(), "pause" | "hythe" | "catatonit" | "docker-init" | "tini")
}

/// When a process began, in ticks since the machine did; nothing for a zombie or a kernel thread.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    if state == "Z" || command.is_empty() {
        return None;
    }
    // Field 22 of proc(5); the state is field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_as_people_name_them() {
        assert_eq!(parse_signal("HUP"), Ok(Signal::SIGHUP));
        assert_eq!(parse_signal("sigusr1"), Ok(Signal::SIGUSR1));
        assert_eq!(parse_signal("15"), Ok(Signal::SIGTERM));
        assert!(parse_signal("0").is_err() && parse_signal("NOPE").is_err());
    }

    #[test]
    fn a_pid_file_that_would_hit_a_group_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["-1", "0", "x", ""] {
            fs::write(file.path(), text).unwrap();
            let sent = send(&Target::PidFile(file.path().to_owned()), Signal::SIGWINCH);
            assert!(matches!(sent, Err(SignalError::PidFile(..))), "{text}");
        }
    }
}
