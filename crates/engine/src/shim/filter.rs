//! System call filters as the kernel takes them.
//!
//! libseccomp needs some ten milliseconds to make a program of Docker's list, and the list is nearly always the same:
//! each program is made once and kept in the engine's run directory, under the digest of the profile it was made of.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use libcontainer::oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::directory::Directory;

/// More programs than this are not kept; who uses that many profiles waits for each.
const MOST_KEPT: usize = 256;
/// Changes when what is made of a profile does.
const FORMAT: &[u8] = b"1";
/// Instructions are found by halving rather than one after the other.
const BINARY_TREE: u32 = 2;

/// A filter, ready to be loaded.
pub(super) struct Filter {
    program: Vec<libc::sock_filter>,
    flags: libc::c_ulong,
}

impl Filter {
    /// The filter of an OCI `linux.seccomp` object.
    ///
    /// # Errors
    /// What is wrong with the profile, for a person to read.
    pub fn of(directory: &Directory, profile: &Value) -> Result<Self, String> {
        let text = serde_json::to_vec(profile).map_err(|error| error.to_string())?;
        let digest = Sha256::new_with_prefix(FORMAT).chain_update(&text).finalize();
        let kept = directory.filters().join(hex::encode(digest));
        let parsed: LinuxSeccomp = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let flags = flags(&parsed);
        if let Some(program) = fs::read(&kept).ok().and_then(|bytes| instructions(&bytes)) {
            return Ok(Self { program, flags });
        }
        let bytes = compile(&parsed)?;
        let program = instructions(&bytes).ok_or("libseccomp made no program of it")?;
        if let Err(error) = keep(&kept, &bytes) {
            eprintln!("shim: a system call filter is not kept: {error}");
        }
        Ok(Self { program, flags })
    }

    /// Puts this process and what it becomes under the filter. Takes `no_new_privs` or `CAP_SYS_ADMIN`.
    pub fn load(&self) -> nix::Result<()> {
        let program = libc::sock_fprog {
            // As many as the kernel takes: `instructions` looks after that.
            len: self.program.len() as libc::c_ushort,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: `program` describes a slice that outlives the call, which reads it only.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, std::ptr::from_ref(&program))
        };
        Errno::result(result).map(drop)
    }
}

/// A kept program's instructions, unless it is damaged.
fn instructions(bytes: &[u8]) -> Option<Vec<libc::sock_filter>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let fits = rest.is_empty() && !chunks.is_empty() && chunks.len() <= usize::from(libc::c_ushort::MAX);
    fits.then(|| {
        let one = |chunk: &[u8; 8]| libc::sock_filter {
            code: u16::from_ne_bytes([chunk[0], chunk[1]]),
            jt: chunk[2],
            jf: chunk[3],
            k: u32::from_ne_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
        };
        chunks.iter().map(one).collect()
    })
}

fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if fs::read_dir(directory)?.count() >= MOST_KEPT {
        return Err(io::Error::other("there are too many"));
    }
    // Two workers may make the same at once.
    let draft = path.with_extension(std::process::id().to_string());
    fs::write(&draft, bytes)?;
    fs::rename(&draft, path)
}

fn flags(profile: &LinuxSeccomp) -> libc::c_ulong {
    let flag = |flag: &Flag| match flag {
        Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        Flag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // Means nothing without a listener, and those are refused.
        Flag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    profile.flags().iter().flatten().map(flag).fold(0, |all, one| all | one)
}

fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, String> {
    let because = |what: &'static str| move |error: SeccompError| format!("{what}: {error}");
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).map_err(because("make a filter"))?;
    // An old libseccomp does without.
    let _ = context.set_ctl_optimize(BINARY_TREE);
    for name in profile.architectures().iter().flatten() {
        context.add_arch(architecture(*name)).map_err(because("add an architecture"))?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let wanted = action(rule.action(), rule.errno_ret())?;
        if wanted == default {
            continue;
        }
        for name in rule.names() {
            // One that this libseccomp does not know, the kernel does not have.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            let conditions: Vec<_> = rule.args().iter().flatten().map(condition).collect();
            let mut seen = HashSet::new();
            let repeated = rule.args().iter().flatten().any(|arg| !seen.insert(arg.index()));
            let added = if repeated {
                // Several conditions on one argument are alternatives, as runc has them.
                conditions.chunks(1).try_for_each(|one| context.add_rule_conditional(wanted, call, one).map(drop))
            } else {
                context.add_rule_conditional(wanted, call, &conditions).map(drop)
            };
            added.map_err(|error| format!("rule for {name}: {error}"))?;
        }
    }
    let because = |error: io::Error| format!("export the filter: {error}");
    let memory = nix::sys::memfd::memfd_create(c"filter", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let memory = File::from(memory.map_err(|errno| because(errno.into()))?);
    context.export_bpf(&memory).map_err(|error| format!("export the filter: {error}"))?;
    let mut bytes = vec![0; memory.metadata().map_err(because)?.len() as usize];
    memory.read_exact_at(&mut bytes, 0).map_err(because)?;
    Ok(bytes)
}

fn action(action: Action, errno: Option<u32>) -> Result<ScmpAction, String> {
    let errno = errno.map_or(libc::EPERM, |errno| errno as i32);
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno => ScmpAction::Errno(errno),
        Action::ScmpActTrace => {
            ScmpAction::Trace(errno.try_into().map_err(|_| format!("no number for a tracer: {errno}"))?)
        }
        Action::ScmpActAllow => ScmpAction::Allow,
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActNotify => return Err("SCMP_ACT_NOTIFY needs a listener, and there is none".to_owned()),
    })
}

fn condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let operator = match arg.op() {
        Operator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        Operator::ScmpCmpLt => ScmpCompareOp::Less,
        Operator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        Operator::ScmpCmpEq => ScmpCompareOp::Equal,
        Operator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        Operator::ScmpCmpGt => ScmpCompareOp::Greater,
        // The first value is the mask, as in the OCI specification's order.
        Operator::ScmpCmpMaskedEq => {
            return ScmpArgCompare::new(
                arg.index() as u32,
                ScmpCompareOp::MaskedEqual(arg.value()),
                arg.value_two().unwrap_or(0),
            );
        }
    };
    ScmpArgCompare::new(arg.index() as u32, operator, arg.value())
}

fn architecture(name: Arch) -> ScmpArch {
    match name {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp;
    use crate::spec::Seccomp;

    fn directory(root: &Path) -> Directory {
        Directory(root.join("sandboxes/one"))
    }

    fn default_profile() -> Value {
        seccomp::resolve(&Seccomp::RuntimeDefault, &[], std::env::consts::ARCH).expect("there is a default")
    }

    /// Runs `work` under a filter in a process of its own; true if it said so. Needs root.
    fn under(filter: &Filter, work: fn() -> bool) -> bool {
        // SAFETY: the child makes system calls and ends, nothing else.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let well = filter.load().is_ok() && work();
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(!well)) };
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        status == 0
    }

    fn clone(flags: libc::c_int) -> Result<(), Errno> {
        // SAFETY: like fork; the child ends at once.
        match unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) } {
            // SAFETY: the child of the line above.
            0 => unsafe { libc::_exit(0) },
            result => Errno::result(result).map(drop),
        }
    }

    #[test]
    fn the_default_filter_permits_new_processes_but_no_new_namespaces() {
        let root = tempfile::tempdir().expect("a directory");
        let filter = Filter::of(&directory(root.path()), &default_profile()).expect("a filter");
        assert!(under(&filter, || clone(0) == Ok(())), "a plain process");
        assert!(under(&filter, || clone(libc::CLONE_NEWUTS) == Err(Errno::EPERM)), "a namespace");
        assert!(under(&filter, || nix::unistd::sethostname("x") == Err(Errno::EPERM)), "what is not on the list");
    }

    #[test]
    fn a_program_is_made_once_and_made_anew_when_the_kept_one_is_damaged() {
        let root = tempfile::tempdir().expect("a directory");
        let directory = directory(root.path());
        let load = || Filter::of(&directory, &default_profile()).expect("a filter").program.len();
        let length = load();
        let kept: Vec<_> = fs::read_dir(directory.filters()).expect("kept").flatten().collect();
        assert_eq!(kept.len(), 1, "one profile, one program");
        assert_eq!(fs::metadata(kept[0].path()).expect("kept").len(), length as u64 * 8);
        let returning = [6u16.to_ne_bytes().as_slice(), &[0, 0], &0x7fff_0000u32.to_ne_bytes()].concat();
        fs::write(kept[0].path(), &returning).expect("replaced");
        assert_eq!(load(), 1, "what is kept is what is used");
        fs::write(kept[0].path(), b"damaged").expect("damaged");
        assert_eq!(load(), length);
    }

    #[test]
    fn a_profile_that_wants_a_listener_is_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
        let refused = Filter::of(&directory(root.path()), &profile).map(|filter| filter.program.len());
        assert!(refused.is_err_and(|why| why.contains("SCMP_ACT_NOTIFY")));
    }
}
