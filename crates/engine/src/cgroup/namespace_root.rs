//! The root of a cgroup namespace: where the whole platform runs in a container, what looks like the root of the
//! hierarchy is an ordinary group with processes in it, and the kernel lets no such group hand controllers down
//! (cgroup-v2, "No Internal Process Constraint"). The processes then have to live in a group below.

use std::fs;
use std::path::Path;

use super::{children, read, write};

/// Where they live.
const HOME: &str = "hythe.init";

/// Moves every process of the root to a group below it, unless it is the true root, which may keep them. To be done
/// before any controller is handed down: some can be all the same, and bind the groups below to threads of the root.
pub(super) fn clear(mount: &Path) {
    let true_root = !mount.join("cgroup.type").exists();
    let own = |text: String| text.lines().any(|pid| pid != "0");
    if true_root || !read(mount, "cgroup.procs").is_ok_and(own) {
        return;
    }
    let home = mount.join(HOME);
    if fs::create_dir_all(&home).is_ok() {
        move_all(mount, &home);
    }
}

/// Moves them back, once there is no group beside theirs.
pub(super) fn restore(mount: &Path) {
    let home = mount.join(HOME);
    if !home.exists() || children(mount).len() > 1 {
        return;
    }
    let enabled = read(mount, "cgroup.subtree_control").unwrap_or_default();
    for name in enabled.split_whitespace() {
        let _ = write(mount, "cgroup.subtree_control", &format!("-{name}"));
    }
    move_all(&home, mount);
    let _ = fs::remove_dir(&home);
}

fn move_all(from: &Path, to: &Path) {
    // One that forks while it is moved leaves its child behind: look again until there is none.
    for _ in 0..100 {
        let processes = read(from, "cgroup.procs").unwrap_or_default();
        // 0 stands for a process outside this PID namespace, which nobody in here can move.
        let mut moved = false;
        for pid in processes.lines().filter(|pid| *pid != "0") {
            moved |= write(to, "cgroup.procs", pid).is_ok();
        }
        if !moved {
            return;
        }
    }
}
