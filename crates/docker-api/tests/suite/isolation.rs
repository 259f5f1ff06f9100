//! What keeps containers apart from the host: ids, devices, kernel parameters, limits.

use std::os::unix::fs::MetadataExt;

use super::world::World;

#[test]
fn remapped_containers_are_root_inside_and_nobody_outside() {
    let mut world = World::remapped();
    let info = world.docker(&["info", "-f", "{{.SecurityOptions}}"]).ok();
    assert!(info.contains("name=userns"), "{info}");
    let bound = world.path("bound");
    std::fs::create_dir(&bound).unwrap();
    std::fs::write(bound.join("private"), "the host's\n").unwrap();
    std::fs::set_permissions(bound.join("private"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let bind = format!("{}:/bound", bound.display());
    let script = "id -u; echo kept > /data/f; ls -ln /data/f; cat /bound/private; echo again > /dev/stdout; \
                  trap 'exit 3' TERM; touch /up; while true; do sleep 0.1; done";
    let run =
        ["run", "-d", "--name", "work", "-v", "data:/data", "-v", &bind, "-p", "80", "busybox", "sh", "-c", script];
    world.docker(&run).ok();
    world.until(&["exec", "work", "ls", "/up"], "/up");
    let logs = world.docker(&["logs", "work"]);
    assert!(logs.stdout.starts_with("0\n-rw-r--r--    1 0        0 "), "{logs:?}");
    assert!(logs.stdout.ends_with("again\n") && logs.stderr.contains("Permission denied"), "{logs:?}");
    let pid = world.docker(&["inspect", "-f", "{{.State.Pid}}", "work"]).ok();
    let outside = |pid: &str| std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    let first = outside(&pid);
    assert!(first >= 65_536 && first % 65_536 == 0, "{first}");
    // On disk, files are as without a mapping: they can be copied, compared and committed.
    let mountpoint = world.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]).ok();
    assert_eq!(std::fs::metadata(format!("{mountpoint}/f")).unwrap().uid(), 0);
    world.docker(&["exec", "work", "touch", "/made"]).ok();
    assert!(world.docker(&["diff", "work"]).ok().contains("A /made"));
    world.docker(&["commit", "work", "made"]).ok();
    assert_eq!(world.docker(&["run", "--rm", "made", "ls", "-n", "/made"]).ok().split_whitespace().nth(2), Some("0"));
    // A container that asks for the host's ids has them.
    world.docker(&["run", "-d", "--name", "host", "--userns", "host", "busybox", "sleep", "1000"]).ok();
    let pid = world.docker(&["inspect", "-f", "{{.State.Pid}}", "host"]).ok();
    assert_eq!(outside(&pid), 0);
    // And all of it survives the daemon.
    world.crash_and_restart();
    assert_eq!(world.docker(&["exec", "work", "id", "-u"]).ok(), "0");
    assert_eq!(
        world.docker(&["run", "--rm", "busybox", "cat", "/proc/self/uid_map"]).ok().split_whitespace().nth(1),
        Some(&*first.to_string())
    );
    world.docker(&["stop", "work"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.ExitCode}}", "work"]).ok(), "3");
}

#[test]
fn what_a_build_runs_is_root_inside_and_nobody_outside_too() {
    let world = World::remapped();
    let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/kept cat /proc/self/uid_map > /map; id -u > /who; \
                      touch /kept/mine; ls -n /kept/mine | grep -q ' 0 *0 ' && echo own > /own\nUSER me\nRUN id -u > /tmp/me\n";
    world.docker_with(&["build", "-t", "made", "-"], dockerfile.as_bytes()).ok();
    let shown = world.docker(&[
        "run",
        "--rm",
        "--userns",
        "host",
        "made",
        "sh",
        "-c",
        "cat /map /who /own /tmp/me; ls -n /map",
    ]);
    let shown = shown.ok();
    let words: Vec<&str> = shown.split_whitespace().collect();
    let first: u32 = words[1].parse().expect("an id of the host");
    assert!(first >= 65_536 && first.is_multiple_of(65_536), "{shown}");
    assert_eq!(words[3..6], ["0", "own", "1000"], "{shown}");
    // In the layer, it is root's.
    assert_eq!(words[8..10], ["0", "0"], "{shown}");
}

#[test]
fn what_remapped_ids_rule_out_is_refused_in_dockerds_words() {
    let world = World::remapped();
    for (flags, text) in [
        (["--privileged", "-t"], "privileged mode is incompatible with user namespaces"),
        (["--network", "host"], "cannot share the host's network namespace when user namespaces are enabled"),
        (["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
    ] {
        let said = world.docker(&["run", "--rm", flags[0], flags[1], "busybox", "true"]).fails(125);
        assert!(said.contains(text), "{said}");
    }
    world.docker(&["run", "--rm", "--userns", "host", "--network", "host", "busybox", "true"]).ok();
}

#[test]
fn userns_host_is_always_valid_and_nothing_else_is() {
    let world = World::new();
    world.docker(&["run", "--rm", "--userns", "host", "busybox", "true"]).ok();
    let said = world.docker(&["run", "--rm", "--userns", "private", "busybox", "true"]).fails(125);
    assert!(said.contains("invalid USER mode"), "{said}");
}

#[test]
fn devices_are_given_by_node_and_by_rule() {
    let world = World::new();
    let read = |flags: &[&str], path: &str| {
        let make = format!("[ -e {path} ] || mknod {path} c 10 200; head -c 0 {path}");
        let args = [&["run", "--rm"], flags, &["busybox", "sh", "-c", make.as_str()]].concat();
        world.docker(&args)
    };
    assert_eq!(read(&["--device", "/dev/zero:/dev/mine:r"], "/dev/mine").code, 0);
    let refused = read(&[], "/dev/tunnel");
    assert!(refused.code != 0 && refused.stderr.contains("Operation not permitted"), "{refused:?}");
    let ruled = read(&["--device-cgroup-rule", "c 10:200 rwm"], "/dev/tunnel");
    assert!(!ruled.stderr.contains("Operation not permitted"), "{ruled:?}");
    let said = world.docker(&["run", "--rm", "--device", "/dev/nowhere", "busybox", "true"]).fails(127);
    let text =
        "error gathering device information while adding custom device \"/dev/nowhere\": no such file or directory";
    assert!(said.contains(text), "{said}");
}

#[test]
fn kernel_parameters_and_limits_are_the_containers_own() {
    let world = World::new();
    let script = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax; ulimit -n; ulimit -Hn";
    let flags = ["--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.msgmax=9000", "--ulimit", "nofile=64:128"];
    let args = [&["run", "--rm"][..], &flags, &["busybox", "sh", "-c", script]].concat();
    assert_eq!(world.docker(&args).ok(), "77\n9000\n64\n128");
    let said = world.docker(&["run", "--rm", "--sysctl", "kernel.panic=1", "busybox", "true"]).fails(125);
    assert!(said.contains("sysctl 'kernel.panic=1' is not allowed"), "{said}");
    let outside = ["run", "--rm", "--network", "host", "--sysctl", "net.core.somaxconn=77", "busybox", "true"];
    let said = world.docker(&outside).fails(125);
    assert!(said.contains("namespace"), "{said}");
    // A machine without a scheduler that knows weights leaves them out aloud, before it looks at them.
    let outcome = world.docker(&["run", "--rm", "--blkio-weight", "7", "busybox", "true"]);
    let refused = outcome.code == 125 && outcome.stderr.contains("Range of blkio weight is from 10 to 1000");
    let discarded = outcome.code == 0 && outcome.stderr.contains("Block I/O weight or the cgroup is not mounted");
    assert!(refused || discarded, "{outcome:?}");
    let said = world.docker(&["run", "--rm", "--device-read-bps", "/dev/nowhere:1mb", "busybox", "true"]).fails(127);
    assert!(said.contains("/dev/nowhere") && said.contains("no such file or directory"), "{said}");
}

#[test]
fn a_last_line_without_an_end_is_shown_without_one() {
    let world = World::new();
    world.docker(&["run", "--name", "work", "busybox", "sh", "-c", "echo first; printf last"]).ok();
    assert_eq!(world.docker(&["logs", "work"]).stdout, "first\nlast");
    assert_eq!(world.docker(&["logs", "--tail", "1", "work"]).stdout, "last");
}

#[test]
fn shared_memory_is_shared_with_those_who_may_and_the_hosts_with_nobody() {
    let mut world = World::new();
    for mode in ["shareable", "private"] {
        world.docker(&["run", "-d", "--name", mode, "--ipc", mode, "busybox", "sleep", "1000"]).ok();
        world.docker(&["exec", mode, "sh", "-c", "echo mine > /dev/shm/own"]).ok();
    }
    let look = |mode: &str| world.docker(&["run", "--rm", "--ipc", mode, "busybox", "sh", "-c", "ls /dev/shm; mount"]);
    let (shared, _) =
        look("container:shareable").ok().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(shared, "own");
    assert!(look("container:private").fails(125).contains("non-shareable IPC"));
    assert!(!look("none").ok().contains("/dev/shm"));
    let limited = look("shareable").ok();
    assert!(limited.lines().any(|line| line.contains("on /dev/shm type tmpfs") && line.contains("size=65536k")));
    assert!(look("container:nobody").fails(125).contains("No such container: nobody"));
    world.docker(&["create", "--name", "idle", "busybox", "true"]).ok();
    let id = world.docker(&["inspect", "-f", "{{.Id}}", "idle"]).ok();
    world.docker(&["create", "--name", "joins", "--pid", "container:idle", "busybox", "true"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", "{{.HostConfig.PidMode}}", "joins"]).ok(), format!("container:{id}"));
    let refused = world.docker(&["start", "joins"]).fails(1);
    assert!(refused.contains(&format!("failed to join PID namespace: container {id} is not running")), "{refused}");
    world.crash_and_restart();
    let look = ["run", "--rm", "--ipc", "container:shareable", "busybox", "cat", "/dev/shm/own"];
    assert_eq!(world.docker(&look).ok(), "mine");
    let on_host = || std::fs::read_to_string("/proc/self/mounts").unwrap().matches("/shm ").count();
    let before = on_host();
    world.docker(&["rm", "-f", "shareable"]).ok();
    assert!(on_host() < before);
}

#[test]
fn what_is_mounted_at_dev_is_all_that_is_there_and_stays_as_it_is() {
    let world = World::new();
    let on_host = |path: &str| std::fs::symlink_metadata(path).map(|entry| (entry.dev(), entry.file_type())).ok();
    let before = ["/dev", "/dev/ptmx", "/dev/fd", "/dev/kcore"].map(on_host);
    let script = "stat -c %d /dev; touch /dev/of-hythe 2>&1";
    let read_only = world.docker(&["run", "--rm", "-v", "/dev:/dev:ro", "busybox", "sh", "-c", script]);
    assert!(read_only.stdout.starts_with(&format!("{}\n", before[0].unwrap().0)), "{}", read_only.stdout);
    assert!(read_only.stdout.contains("Read-only file system"), "{}", read_only.stdout);
    // With a terminal of its own, and privileged as those mostly are who ask for this.
    let command =
        ["run", "--rm", "-t", "--privileged", "-v", "/dev:/dev", "busybox", "sh", "-c", "tty && stat -c %d /dev"];
    let terminal = world.docker(&command).ok();
    assert_eq!(terminal.lines().map(str::trim).collect::<Vec<_>>(), ["/dev/pts/0", &before[0].unwrap().0.to_string()]);
    // A volume begins with what the image has there; nodes and links are not for it.
    for _ in 0..2 {
        assert_eq!(
            world.docker(&["run", "--rm", "-v", "kept:/dev", "busybox", "ls", "/dev"]).ok(),
            "console\nmqueue\npts\nshm"
        );
    }
    assert_eq!(["/dev", "/dev/ptmx", "/dev/fd", "/dev/kcore"].map(on_host), before);
}

#[test]
fn a_container_may_be_given_its_own_cgroup_to_write_to() {
    let world = World::new();
    let script = "if test -e /sys/fs/cgroup/cgroup.controllers; then mkdir /sys/fs/cgroup/own; \
                  else mkdir /sys/fs/cgroup/pids/own && rmdir /sys/fs/cgroup/pids/own; fi";
    let run = |options: &[&str]| world.docker(&[&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat());
    assert!(run(&[]).fails(1).contains("Read-only file system"));
    run(&["--security-opt", "writable-cgroups=true"]).ok();
    assert!(run(&["--security-opt", "writable-cgroups=false"]).fails(1).contains("Read-only file system"));
    assert!(
        run(&["--security-opt", "writable-cgroups=potato"])
            .fails(125)
            .contains("invalid --security-opt 2: \"writable-cgroups=potato\"")
    );
}
