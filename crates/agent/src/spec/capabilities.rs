//! The capabilities a container gets.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Capabilities;

/// What a container has unless it says otherwise (the set that containerd and Docker give).
pub const DEFAULT: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// All that the kernel knows (capabilities(7)).
pub const ALL: &[&str] = &[
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// The bounding set: the defaults plus `add` minus `drop` (`ALL` is understood in both; what is both
/// dropped by `ALL` and added stays added). Privileged containers get everything.
pub fn bounding(asked: Option<&Capabilities>, privileged: bool) -> Vec<String> {
    if privileged {
        return ALL.iter().map(|s| (*s).to_owned()).collect();
    }
    let add: Vec<String> = names(asked.and_then(|c| c.add.as_ref()));
    let drop: Vec<String> = names(asked.and_then(|c| c.drop.as_ref()));
    let mut set: BTreeSet<String> = DEFAULT.iter().map(|s| (*s).to_owned()).collect();
    let adds_all = add.iter().any(|c| c == "CAP_ALL");
    let drops_all = drop.iter().any(|c| c == "CAP_ALL");
    if adds_all {
        set = ALL.iter().map(|s| (*s).to_owned()).collect();
    }
    if drops_all {
        set.clear();
    }
    for capability in add.iter().filter(|c| *c != "CAP_ALL") {
        set.insert(capability.clone());
    }
    for capability in drop.iter().filter(|c| *c != "CAP_ALL") {
        set.remove(capability);
    }
    set.into_iter().collect()
}

fn names(list: Option<&Vec<String>>) -> Vec<String> {
    list.into_iter()
        .flatten()
        .map(|name| {
            let upper = name.to_ascii_uppercase();
            if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> Vec<String> {
        let list = |l: &[&str]| Some(l.iter().map(|s| (*s).to_owned()).collect());
        bounding(Some(&Capabilities { add: list(add), drop: list(drop) }), false)
    }

    #[test]
    fn additions_and_drops_change_the_default_set() {
        assert_eq!(bounding(None, false), DEFAULT);
        assert_eq!(bounding(None, true), ALL);
        assert!(of(&["NET_ADMIN"], &[]).contains(&"CAP_NET_ADMIN".to_owned()));
        assert!(!of(&[], &["CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
        assert_eq!(of(&[], &["ALL"]), Vec::<String>::new());
        assert_eq!(of(&["NET_BIND_SERVICE"], &["ALL"]), ["CAP_NET_BIND_SERVICE"]);
        assert_eq!(of(&["ALL"], &["SYS_ADMIN"]).len(), ALL.len() - 1);
    }
}
