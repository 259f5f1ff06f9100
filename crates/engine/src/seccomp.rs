//! System call filters.
//!
//! [`Seccomp::RuntimeDefault`] is the list that Docker and containerd share: a call that is not on it fails with
//! `EPERM`, `clone3` with `ENOSYS` (so that programs fall back to `clone`, whose flags can be inspected). Some calls are
//! allowed only to a container that holds the capability they need anyway.

use serde_json::{Value, json};

use crate::spec::Seccomp;

/// The filter as an OCI `linux.seccomp` object. `capabilities` is the container's bounding set; `arch` is
/// [`std::env::consts::ARCH`].
pub fn resolve(wanted: &Seccomp, capabilities: &[String], arch: &str) -> Option<Value> {
    match wanted {
        Seccomp::Unconfined => None,
        Seccomp::RuntimeDefault => Some(runtime_default(capabilities, arch)),
        Seccomp::Profile(profile) => Some(from_profile(profile, capabilities, arch)),
    }
}

/// Names of this machine's architecture and those it also runs: in OCI's terms, and as Docker's profiles write it.
fn architectures(arch: &str) -> (&'static [&'static str], &'static str) {
    match arch {
        "x86_64" => (&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "amd64"),
        "aarch64" => (&["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], "arm64"),
        "s390x" => (&["SCMP_ARCH_S390X", "SCMP_ARCH_S390"], "s390x"),
        "riscv64" => (&["SCMP_ARCH_RISCV64"], "riscv64"),
        "powerpc64" => (&["SCMP_ARCH_PPC64LE"], "ppc64le"),
        _ => (&[], ""),
    }
}

fn allow(names: &[&str]) -> Value {
    json!({"names": names, "action": "SCMP_ACT_ALLOW"})
}

fn allow_if(name: &str, index: u32, value: u64, op: &str) -> Value {
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": index, "value": value, "op": op}]})
}

fn runtime_default(capabilities: &[String], arch: &str) -> Value {
    let has = |name: &str| capabilities.iter().any(|held| held == name);
    let mut rules = vec![allow(ALLOWED)];
    // Any socket family but AF_VSOCK, through which a guest would talk to its hypervisor.
    rules.push(allow_if("socket", 0, 40, "SCMP_CMP_NE"));
    // Linux, Linux32 and the "unlimited stack" and address compatibility bits of personality(2); the query.
    for persona in [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
        rules.push(allow_if("personality", 0, persona, "SCMP_CMP_EQ"));
    }
    match arch {
        "x86_64" => rules.push(allow(&["arch_prctl", "modify_ldt"])),
        "aarch64" => rules.push(allow(&["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint"])),
        "s390x" => rules.push(allow(&["s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"])),
        "riscv64" => rules.push(allow(&["riscv_flush_icache"])),
        _ => {}
    }
    for (capability, names) in BY_CAPABILITY {
        if has(capability) {
            rules.push(allow(names));
        }
    }
    if !has("CAP_SYS_ADMIN") {
        // Every CLONE_NEW… flag; s390 swaps the arguments.
        let index = u32::from(arch == "s390x");
        rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": index, "value": 0x7e02_0000_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}));
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(arch).0,
        "syscalls": rules,
    })
}

/// Takes an OCI object as it is, and resolves the conditions of Docker's profile format.
fn from_profile(profile: &Value, capabilities: &[String], arch: &str) -> Value {
    let (oci, short) = architectures(arch);
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(String::from)).collect()
    };
    let applies = |rule: &Value| {
        let includes = &rule["includes"];
        let excludes = &rule["excludes"];
        let held = |names: Vec<String>| names.iter().any(|name| capabilities.contains(name));
        let all_held = words(&includes["caps"]).iter().all(|name| capabilities.contains(name));
        let arches = words(&includes["arches"]);
        all_held
            && (arches.is_empty() || arches.iter().any(|name| name == short))
            && !held(words(&excludes["caps"]))
            && !words(&excludes["arches"]).iter().any(|name| name == short)
    };
    let mut resolved = profile.clone();
    if let Some(object) = resolved.as_object_mut() {
        if object.remove("archMap").is_some() {
            object.insert("architectures".into(), json!(oci));
        }
        if let Some(rules) = object.get_mut("syscalls").and_then(Value::as_array_mut) {
            rules.retain(applies);
            for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
                for key in ["includes", "excludes", "comment"] {
                    rule.remove(key);
                }
                if let Some(name) = rule.remove("name") {
                    rule.insert("names".into(), json!([name]));
                }
            }
        }
    }
    resolved
}

/// Calls that need a capability, allowed to those who hold it.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
];

/// Calls any container may make.
const ALLOWED: &[&str] = &[
    "accept",
    "accept4",
    "access",
    "adjtimex",
    "alarm",
    "bind",
    "brk",
    "cachestat",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "chown32",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_getres",
    "clock_getres_time64",
    "clock_gettime",
    "clock_gettime64",
    "clock_nanosleep",
    "clock_nanosleep_time64",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fadvise64_64",
    "fallocate",
    "fanotify_mark",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchown32",
    "fchownat",
    "fcntl",
    "fcntl64",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstat64",
    "fstatat64",
    "fstatfs",
    "fstatfs64",
    "fsync",
    "ftruncate",
    "ftruncate64",
    "futex",
    "futex_requeue",
    "futex_time64",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "futimesat",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getcwd",
    "getdents",
    "getdents64",
    "getegid",
    "getegid32",
    "geteuid",
    "geteuid32",
    "getgid",
    "getgid32",
    "getgroups",
    "getgroups32",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresgid32",
    "getresuid",
    "getresuid32",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getuid32",
    "getxattr",
    "getxattrat",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_pgetevents_time64",
    "io_setup",
    "io_submit",
    "ioctl",
    "ioprio_get",
    "ioprio_set",
    "ipc",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lchown",
    "lchown32",
    "lgetxattr",
    "link",
    "linkat",
    "listen",
    "listmount",
    "listxattr",
    "listxattrat",
    "llistxattr",
    "_llseek",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "lstat64",
    "madvise",
    "map_shadow_stack",
    "membarrier",
    "memfd_create",
    "memfd_secret",
    "mincore",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mmap2",
    "mprotect",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedreceive_time64",
    "mq_timedsend",
    "mq_timedsend_time64",
    "mq_unlink",
    "mremap",
    "mseal",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "name_to_handle_at",
    "nanosleep",
    "newfstatat",
    "_newselect",
    "open",
    "openat",
    "openat2",
    "pause",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe",
    "pipe2",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "poll",
    "ppoll",
    "ppoll_time64",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "process_mrelease",
    "pselect6",
    "pselect6_time64",
    "ptrace",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "recv",
    "recvfrom",
    "recvmmsg",
    "recvmmsg_time64",
    "recvmsg",
    "remap_file_pages",
    "removexattr",
    "removexattrat",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_sigtimedwait_time64",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_rr_get_interval_time64",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "select",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    "send",
    "sendfile",
    "sendfile64",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "setuid32",
    "setxattr",
    "setxattrat",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "sigprocmask",
    "sigreturn",
    "socketcall",
    "socketpair",
    "splice",
    "stat",
    "stat64",
    "statfs",
    "statfs64",
    "statmount",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "sysinfo",
    "tee",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime64",
    "timer_settime",
    "timer_settime64",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_gettime64",
    "timerfd_settime",
    "timerfd_settime64",
    "times",
    "tkill",
    "truncate",
    "truncate64",
    "ugetrlimit",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "uretprobe",
    "utime",
    "utimensat",
    "utimensat_time64",
    "utimes",
    "vfork",
    "vmsplice",
    "wait4",
    "waitid",
    "waitpid",
    "write",
    "writev",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(filter: &Value, call: &str) -> bool {
        filter["syscalls"].as_array().expect("rules").iter().any(|rule| {
            rule["action"] == "SCMP_ACT_ALLOW"
                && rule["args"].is_null()
                && rule["names"].as_array().expect("names").iter().any(|name| name == call)
        })
    }

    #[test]
    fn a_call_that_needs_a_capability_is_allowed_only_with_it() {
        let plain = resolve(&Seccomp::RuntimeDefault, &[], "x86_64").expect("a filter");
        let admin = resolve(&Seccomp::RuntimeDefault, &["CAP_SYS_ADMIN".into()], "x86_64").expect("a filter");
        assert!(!allowed(&plain, "mount") && allowed(&admin, "mount"));
        assert!(!allowed(&plain, "unshare") && allowed(&admin, "unshare"));
        assert!(allowed(&plain, "openat") && !allowed(&plain, "io_uring_setup") && !allowed(&plain, "keyctl"));
    }

    #[test]
    fn conditions_of_a_docker_profile_are_resolved() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "x"},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            ]
        });
        let filter = resolve(&Seccomp::Profile(profile), &[], "x86_64").expect("a filter");
        let names: Vec<&Value> = filter["syscalls"].as_array().expect("rules").iter().map(|r| &r["names"][0]).collect();
        assert_eq!(names, ["read", "clone"]);
        assert_eq!(filter["architectures"][0], "SCMP_ARCH_X86_64");
        serde_json::from_value::<oci_spec::runtime::LinuxSeccomp>(filter).expect("an OCI object");
    }

    #[test]
    fn the_default_is_an_oci_object() {
        let filter = resolve(&Seccomp::RuntimeDefault, &["CAP_SYS_ADMIN".into()], "x86_64").expect("a filter");
        serde_json::from_value::<oci_spec::runtime::LinuxSeccomp>(filter).expect("an OCI object");
    }
}
