//! Both versions against directories that look like theirs.

use std::fs;
use std::path::Path;

use super::*;

/// A file that exists in cgroupfs from the start.
fn file(directory: &Path, name: &str, text: &str) {
    fs::create_dir_all(directory).expect("makes");
    fs::write(directory.join(name), text).expect("writes");
}

fn text(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).expect("reads")
}

fn hybrid(root: &Path) -> Cgroups {
    let mut mounts = format!("cgroup2 {}/unified cgroup2 rw 0 0\n", root.display());
    for name in ["cpu,cpuacct", "memory", "pids", "devices", "freezer", "cpuset"] {
        mounts.push_str(&format!("cgroup {0}/{name} cgroup rw,relatime,{name} 0 0\n", root.display()));
    }
    mounts.push_str(&format!("cgroup {}/systemd cgroup rw,name=systemd 0 0\n", root.display()));
    Cgroups::parse(&mounts)
}

fn pure(root: &Path) -> Cgroups {
    Cgroups::parse(&format!("cgroup2 {} cgroup2 rw,nsdelegate 0 0\nproc /proc proc rw 0 0\n", root.display()))
}

fn limits() -> Resources {
    Resources {
        cpu_shares: Some(1024),
        cpu_quota: Some(50_000),
        memory_limit: Some(1 << 20),
        memory_swap: Some(3 << 20),
        memory_reservation: Some(1 << 19),
        pids_limit: Some(-1),
        ..Resources::default()
    }
}

#[test]
fn a_machine_with_controllers_on_v1_is_v1_even_if_v2_is_mounted() {
    assert!(!hybrid(Path::new("/c")).is_v2());
    assert!(pure(Path::new("/c")).is_v2());
    assert!(!Cgroups::parse("").is_v2());
}

#[test]
fn v1_limits_go_to_each_controllers_files() {
    let root = tempfile::tempdir().expect("tempdir");
    let group = root.path().join("memory/pod/c");
    file(&group, "memory.memsw.limit_in_bytes", "9223372036854771712");
    hybrid(root.path()).group("pod/c").create(&limits()).expect("creates");
    let cpu = root.path().join("cpu,cpuacct/pod/c");
    assert_eq!(text(&cpu, "cpu.shares"), "1024");
    assert_eq!((text(&cpu, "cpu.cfs_quota_us"), text(&cpu, "cpu.cfs_period_us")), ("50000".into(), "100000".into()));
    assert_eq!(text(&group, "memory.limit_in_bytes"), "1048576");
    assert_eq!(text(&group, "memory.memsw.limit_in_bytes"), "3145728");
    assert_eq!(text(&group, "memory.soft_limit_in_bytes"), "524288");
    assert_eq!(text(&root.path().join("pids/pod/c"), "pids.max"), "max");
    assert!(!root.path().join("cpuset/pod/c").exists(), "a cpuset is made only for a limit");
}

#[test]
fn v2_limits_are_translated() {
    let root = tempfile::tempdir().expect("tempdir");
    file(root.path(), "cgroup.controllers", "cpu memory pids");
    let group = root.path().join("pod/c");
    file(&group, "memory.swap.max", "max");
    let mut wanted = limits();
    wanted.unified.insert("memory.high".into(), "1000000".into());
    pure(root.path()).group("pod/c").create(&wanted).expect("creates");
    assert_eq!(text(&group, "cpu.weight"), "100");
    assert_eq!(text(&group, "cpu.max"), "50000 100000");
    assert_eq!((text(&group, "memory.max"), text(&group, "memory.swap.max")), ("1048576".into(), "2097152".into()));
    assert_eq!((text(&group, "memory.low"), text(&group, "memory.high")), ("524288".into(), "1000000".into()));
    assert_eq!(text(&group, "pids.max"), "max");
    // A plain file keeps only the last write: pids is the last of those offered.
    assert_eq!(text(root.path(), "cgroup.subtree_control"), "+pids");
    wanted.unified.insert("../x".into(), "1".into());
    assert!(pure(root.path()).group("pod/c").set(&wanted).is_err());
}

#[test]
fn v2_weights_follow_the_curve_through_both_defaults() {
    let root = tempfile::tempdir().expect("tempdir");
    let group = pure(root.path()).group("c");
    // The pairs that runc 1.3.2 gives.
    for (shares, weight) in [(2, "1"), (102, "17"), (1024, "100"), (2000, "170"), (2048, "174"), (262_144, "10000")] {
        group.create(&Resources { cpu_shares: Some(shares), ..Resources::default() }).expect("creates");
        assert_eq!(text(&root.path().join("c"), "cpu.weight"), weight, "{shares}");
    }
}

#[test]
fn v2_keeps_the_half_of_a_limit_that_is_not_named() {
    let root = tempfile::tempdir().expect("tempdir");
    let directory = root.path().join("c");
    file(&directory, "cpu.max", "50000 100000\n");
    file(&directory, "memory.max", "1048576\n");
    file(&directory, "memory.swap.max", "max\n");
    let group = pure(root.path()).group("c");
    group.set(&Resources { cpu_period: Some(20_000), ..Resources::default() }).expect("sets");
    assert_eq!(text(&directory, "cpu.max"), "50000 20000");
    group.set(&Resources { memory_swap: Some(3 << 20), ..Resources::default() }).expect("sets");
    assert_eq!(text(&directory, "memory.swap.max"), "2097152", "swap is what exceeds the memory limit in force");
}

#[test]
fn missing_controllers_are_named() {
    let root = tempfile::tempdir().expect("tempdir");
    file(&root.path().join("hythe"), "cgroup.controllers", "cpuset cpu pids\n");
    assert_eq!(pure(root.path()).missing_controllers(Path::new("hythe")), ["memory"]);
    assert_eq!(hybrid(root.path()).missing_controllers(Path::new("hythe")), [""; 0]);
    assert_eq!(Cgroups::parse("").missing_controllers(Path::new("hythe")), ["cpu", "memory", "pids"]);
}

#[test]
fn a_process_joins_beside_the_others_where_groups_were_made_below() {
    let root = tempfile::tempdir().expect("tempdir");
    let directory = root.path().join("c");
    file(&directory.join("inner"), "cgroup.procs", "11\n");
    assert_eq!(super::v2::inhabited(&directory), Some(directory.join("inner")));
    assert_eq!(super::v2::inhabited(&directory.join("none")), None);
}

#[test]
fn processes_leave_the_root_of_a_namespace_and_keep_to_the_true_root() {
    let root = tempfile::tempdir().expect("tempdir");
    file(root.path(), "cgroup.controllers", "cpu memory");
    file(root.path(), "cgroup.procs", "7\n");
    pure(root.path()).group("c").create(&Resources::default()).expect("creates");
    let home = root.path().join("hythe.init");
    assert!(!home.exists(), "only the true root has no type");
    let below = root.path().join("below");
    file(&below, "cgroup.type", "domain\n");
    file(&below, "cgroup.controllers", "cpu memory");
    file(&below, "cgroup.procs", "0\n7\n");
    pure(&below).group("c").create(&Resources::default()).expect("creates");
    assert_eq!(text(&below.join("hythe.init"), "cgroup.procs"), "7", "one of another PID namespace stays");
}

#[test]
fn usage_reads_the_same_on_both_versions() {
    let root = tempfile::tempdir().expect("tempdir");
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    let cpu = one.join("cpu,cpuacct/p");
    file(&cpu, "cpuacct.usage", "5000\n");
    file(&cpu, "cpuacct.usage_user", "3000\n");
    file(&cpu, "cpuacct.usage_sys", "2000\n");
    file(&cpu, "cpu.stat", "nr_periods 4\nnr_throttled 1\nthrottled_time 7000\n");
    let memory = one.join("memory/p");
    file(&memory, "memory.usage_in_bytes", "1000\n");
    file(&memory, "memory.limit_in_bytes", "9223372036854771712\n");
    let stat = "inactive_file 1\ntotal_inactive_file 300\ntotal_rss 400\ntotal_pgfault 8\ntotal_pgmajfault 2\ntotal_cache 500\n\
        total_mapped_file 50\ntotal_swap 60\n";
    file(&memory, "memory.max_usage_in_bytes", "2000\n");
    file(&memory, "memory.failcnt", "9\n");
    file(&memory, "memory.stat", stat);
    file(&memory, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    file(&one.join("pids/p"), "pids.current", "6\n");
    file(&one.join("pids/p"), "pids.max", "max\n");
    let group = two.join("p");
    let stat = "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 4\nnr_throttled 1\nthrottled_usec 7\n";
    file(&group, "cpu.stat", stat);
    file(&group, "memory.current", "1000\n");
    file(&group, "memory.max", "max\n");
    let stat = "anon 400\nfile 500\nfile_mapped 50\ninactive_file 300\npgfault 8\npgmajfault 2\n";
    file(&group, "memory.stat", stat);
    file(&group, "memory.swap.current", "60\n");
    file(&group, "memory.peak", "2000\n");
    file(&group, "memory.events", "low 0\nhigh 0\nmax 9\noom 3\noom_kill 3\noom_group_kill 0\n");
    file(&group, "pids.current", "6\n");
    file(&group, "pids.max", "max\n");
    let first = hybrid(&one).group("p").stats().expect("reads");
    let second = pure(&two).group("p").stats().expect("reads");
    assert_eq!((first.cpu, first.memory), (second.cpu, second.memory));
    assert_eq!((first.pids, first.pids_limit), (second.pids, second.pids_limit));
    assert_eq!((first.cpu.usage, first.cpu.throttled), (5000, 7000));
    assert_eq!((first.memory.working_set, first.memory.rss, first.memory.limit), (700, 400, None));
    assert_eq!((first.memory.oom_kills, first.pids, first.pids_limit), (3, 6, None));
    assert_eq!((first.memory.cache, first.memory.mapped_file, first.memory.swap), (500, 50, 60));
    assert_eq!((first.memory.peak, first.memory.limit_hits), (2000, 9));
}

#[test]
fn processes_of_groups_below_belong_to_a_group() {
    let root = tempfile::tempdir().expect("tempdir");
    file(&root.path().join("p"), "cgroup.procs", "");
    file(&root.path().join("p/a"), "cgroup.procs", "11\n12\n");
    file(&root.path().join("p/b/x"), "cgroup.procs", "13\n");
    let mut found = pure(root.path()).group("p").processes();
    found.sort_unstable();
    assert_eq!(found, [11, 12, 13]);
}

#[test]
fn freezing_waits_for_the_kernels_word() {
    let root = tempfile::tempdir().expect("tempdir");
    file(&root.path().join("p"), "cgroup.events", "populated 1\nfrozen 1\n");
    let group = pure(root.path()).group("p");
    group.freeze(true).expect("freezes");
    assert!(group.frozen());
    assert_eq!(text(&root.path().join("p"), "cgroup.freeze"), "1");
    file(&root.path().join("freezer/p"), "freezer.state", "THAWED\n");
    let group = hybrid(root.path()).group("p");
    group.freeze(true).expect("freezes");
    assert!(group.frozen());
}

#[test]
fn disks_are_shared_and_limited_on_both_versions() {
    let io = crate::spec::BlockIo {
        weight: Some(505),
        weight_device: vec![("8:0".into(), 10)],
        read_bps: vec![("8:0".into(), 1 << 20)],
        write_iops: vec![("8:16".into(), 0)],
        ..Default::default()
    };
    let resources = Resources { block_io: io, ..Resources::default() };
    let root = tempfile::tempdir().expect("tempdir");
    let group = root.path().join("pod/c");
    for name in ["io.weight", "io.max"] {
        file(&group, name, "");
    }
    pure(root.path()).group("pod/c").set(&resources).expect("sets");
    // The last write of each file: real ones take a line at a time.
    assert_eq!((text(&group, "io.weight"), text(&group, "io.max")), ("8:0 1".into(), "8:16 wiops=max".into()));

    let root = tempfile::tempdir().expect("tempdir");
    let mounts = format!("cgroup {0}/blkio cgroup rw,blkio 0 0\n", root.path().display());
    let group = root.path().join("blkio/pod/c");
    for name in ["blkio.weight", "blkio.throttle.read_bps_device", "blkio.throttle.write_iops_device"] {
        file(&group, name, "");
    }
    Cgroups::parse(&mounts).group("pod/c").set(&resources).expect("sets");
    assert_eq!(text(&group, "blkio.weight"), "505");
    assert_eq!(text(&group, "blkio.throttle.read_bps_device"), "8:0 1048576");
    assert_eq!(text(&group, "blkio.throttle.write_iops_device"), "8:16 0");
}
