//! Containers run, end and are removed.

use engine::{ContainerState, Error, EventKind, Mount, PidMode, Resources, Rlimit, Seccomp, Tmpfs, UserSpec};

use crate::world::{World, finish};

#[tokio::test]
async fn a_container_runs_and_its_output_and_exit_code_are_kept() {
    let world = World::new().await;
    let mut events = world.engine.events();
    let sandbox = world.sandbox().await;
    let (exit, log) = world.run(&sandbox, world.shell("c", "echo out; echo err >&2; hostname; exit 7")).await;
    assert_eq!((exit.exit_code, exit.signal, exit.oom_killed, exit.known), (7, None, false, true));
    assert!(exit.started_at <= exit.finished_at);
    assert!(log.contains(&"stdout out".into()) && log.contains(&"stderr err".into()), "{log:?}");
    assert!(log.contains(&"stdout harbour".into()), "{log:?}");
    let first = finish(events.next()).await.expect("an event");
    assert!(matches!(first.kind, EventKind::Started { .. }), "{first:?}");
    let second = finish(events.next()).await.expect("an event");
    assert_eq!((second.container.as_str(), second.kind), ("c", EventKind::Exited(exit)));
    sandbox.remove_container("c").await.expect("removes");
    assert!(sandbox.container("c").is_none());
    world.end().await;
}

#[tokio::test]
async fn a_signal_reaches_the_first_process_and_kill_ends_all() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let script = "trap 'echo got; exit 3' TERM; echo ready; while true; do sleep 0.05; done";
    for (id, signal, code) in [("term", libc::SIGTERM, 3), ("kill", libc::SIGKILL, 137)] {
        sandbox.create_container(world.shell(id, script)).await.expect("creates");
        sandbox.start(id).await.expect("starts");
        finish(async {
            while !world.log(id).contains(&"stdout ready".to_string()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        sandbox.signal(id, signal).await.expect("signals");
        assert_eq!(finish(sandbox.wait(id)).await.expect("exits").exit_code, code);
        sandbox.signal(id, signal).await.expect("a signal to what has ended is nothing");
    }
    assert_eq!(world.log("term"), ["stdout ready", "stdout got"]);
    world.end().await;
}

#[tokio::test]
async fn user_directory_environment_and_limits_are_as_asked() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut spec = world.shell(
        "c",
        "id; pwd; echo $HOME $A; ulimit -n; grep -c . /proc/self/status >/dev/null; cat /proc/self/oom_score_adj",
    );
    spec.user = UserSpec { user: "web".into(), additional_gids: vec![7], image_groups: true };
    spec.cwd = "/tmp".into();
    spec.env.push("A=b c".into());
    spec.oom_score_adj = Some(500);
    spec.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 100, hard: 200 }];
    let (exit, log) = world.run(&sandbox, spec).await;
    assert_eq!(exit.exit_code, 0, "{log:?}");
    assert_eq!(
        log,
        [
            "stdout uid=33(web) gid=34 groups=7,34,50(logs)",
            "stdout /tmp",
            "stdout /tmp b c",
            "stdout 100",
            "stdout 500"
        ]
    );
    world.end().await;
}

#[tokio::test]
async fn mounts_and_read_only_roots_and_shared_tmpfs_work() {
    let world = World::new().await;
    let mut spec = world.sandbox_spec("pod");
    let volume = world.path("volume");
    std::fs::create_dir_all(&volume).expect("makes");
    spec.tmpfs = vec![Tmpfs { path: volume.clone(), size: Some(1 << 20), mode: 0o777 }];
    let sandbox = world.engine.create_sandbox(spec).await.expect("a sandbox");
    std::fs::write(sandbox.path(&volume).join("greeting"), "hello\n").expect("writes");
    let mut container = world.shell("c", "cat /data/greeting; echo x > /data/back; touch /etc/x || echo refused");
    container.read_only_rootfs = true;
    container.mounts = vec![Mount::bind(volume.to_str().expect("a path"), "/data", false)];
    let (_, log) = world.run(&sandbox, container).await;
    assert!(log.contains(&"stdout hello".into()) && log.contains(&"stdout refused".into()), "{log:?}");
    assert_eq!(std::fs::read_to_string(sandbox.path(&volume).join("back")).expect("reads"), "x\n");
    assert!(!volume.join("back").exists(), "the tmpfs is the sandbox's own");
    world.end().await;
}

#[tokio::test]
async fn commands_that_cannot_start_are_told_apart() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let cases = [
        ("nonsense", "exec: \"nonsense\": executable file not found in $PATH", 127),
        ("/bin/nonsense", "exec: \"/bin/nonsense\": stat /bin/nonsense: no such file or directory", 127),
        ("/bin", "exec: \"/bin\": is a directory", 126),
        ("/bin/text", "exec: \"/bin/text\": permission denied", 126),
    ];
    for (program, text, code) in cases {
        let mut spec = world.shell("c", "");
        spec.args = vec![program.into()];
        match sandbox.create_container(spec).await {
            Err(Error::Start { message, exit_code }) => assert_eq!((message.as_str(), exit_code), (text, code)),
            other => panic!("{program}: {other:?}"),
        }
        assert!(sandbox.container("c").is_none());
    }
    let mut spec = world.shell("c", "");
    spec.args = vec!["broken".into()];
    sandbox.create_container(spec).await.expect("creates");
    match sandbox.start("c").await {
        Err(Error::Start { message, exit_code }) => {
            assert_eq!((message.as_str(), exit_code), ("exec /bin/broken: exec format error", 128));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(finish(sandbox.wait("c")).await.expect("exits").exit_code, 128);
    world.end().await;
}

#[tokio::test]
async fn a_container_beyond_its_memory_is_reported_as_killed_for_it() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut spec = world.shell("c", "x=x; while true; do x=$x$x; done");
    spec.resources = Resources { memory_limit: Some(24 << 20), memory_swap: Some(24 << 20), ..Resources::default() };
    let (exit, log) = world.run(&sandbox, spec).await;
    assert!(exit.oom_killed, "{exit:?} {log:?}");
    assert_ne!(exit.exit_code, 0);
    world.end().await;
}

#[tokio::test]
async fn the_number_of_processes_is_limited() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut spec = world.shell("c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all");
    spec.resources.pids_limit = Some(5);
    let (exit, log) = world.run(&sandbox, spec).await;
    assert!(exit.exit_code != 0 && log.iter().any(|line| line.contains("fork")), "{exit:?} {log:?}");
    world.end().await;
}

#[tokio::test]
async fn the_default_filter_refuses_what_an_unconfined_container_may() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    // Without the capability for it, making a user namespace needs no right at all: only the filter forbids it.
    let script = "unshare -U true && echo made || echo refused; grep Seccomp: /proc/self/status";
    let mut spec = world.shell("filtered", &script.replace("grep", "busybox grep"));
    spec.seccomp = Seccomp::RuntimeDefault;
    let (_, filtered) = world.run(&sandbox, spec.clone()).await;
    assert!(
        filtered.contains(&"stdout refused".into()) && filtered.contains(&"stdout Seccomp:\t2".into()),
        "{filtered:?}"
    );
    spec = world.shell("free", &script.replace("grep", "busybox grep"));
    let (_, free) = world.run(&sandbox, spec).await;
    assert!(free.contains(&"stdout made".into()) && free.contains(&"stdout Seccomp:\t0".into()), "{free:?}");
    world.end().await;
}

#[tokio::test]
async fn containers_of_a_shared_process_namespace_see_each_other_but_not_the_host() {
    let world = World::new().await;
    let mut spec = world.sandbox_spec("pod");
    spec.pid = PidMode::Shared;
    let sandbox = world.engine.create_sandbox(spec).await.expect("a sandbox");
    sandbox.create_container(world.shell("a", "exec sleep 1000")).await.expect("creates");
    sandbox.start("a").await.expect("starts");
    let script = "busybox ps -o pid,args; ls /proc/1/root/ 2>&1; (sleep 1000 &) ; exit 4";
    let (exit, log) = world.run(&sandbox, world.shell("b", script)).await;
    assert_eq!(exit.exit_code, 4);
    assert!(log.iter().any(|line| line.contains("sleep 1000")), "{log:?}");
    assert!(log.iter().any(|line| line.contains("stdout     1 ")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("home") || line.contains("usr")), "{log:?}");
    let status = sandbox.container("a").expect("known");
    assert_eq!(status.state, ContainerState::Running, "b's end ends only b's processes");
    world.end().await;
}

#[tokio::test]
async fn a_shared_process_namespace_may_use_ids_that_the_host_does_not() {
    let world = World::new().await;
    let mut spec = world.sandbox_spec("pod");
    spec.pid = PidMode::Shared;
    let sandbox = world.engine.create_sandbox(spec).await.expect("a sandbox");
    // The next processes of the namespace get ids far from any that the host has now.
    let taken = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let free = (1000..32000).step_by(100).find(|first| !(*first..*first + 90).any(|pid| taken(&pid)));
    let free = free.expect("ninety ids in a row that nobody has");
    let mut spec = world.shell("first", &format!("echo {free} > /proc/sys/kernel/ns_last_pid && ls /sys/fs/cgroup"));
    spec.privileged = true;
    let (exit, log) = world.run(&sandbox, spec).await;
    assert_eq!(exit.exit_code, 0, "{log:?}");
    for name in ["a", "b", "c"] {
        let (exit, log) = world.run(&sandbox, world.shell(name, "cat /sys/fs/cgroup/*/cgroup.procs; echo $$")).await;
        assert_eq!(exit.exit_code, 0, "{log:?}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_container_may_join_anothers_process_namespace() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    sandbox.create_container(world.shell("a", "exec sleep 1000")).await.expect("creates");
    sandbox.start("a").await.expect("starts");
    let mut spec = world.shell("b", "cat /proc/1/cmdline");
    spec.pid_of = Some("a".into());
    let (_, log) = world.run(&sandbox, spec).await;
    assert!(log.iter().any(|line| line.contains("sleep")), "{log:?}");
    world.end().await;
}

#[tokio::test]
async fn pausing_updating_and_measuring_work_on_a_running_container() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut spec = world.shell("c", "while true; do true; done");
    spec.resources = Resources { memory_limit: Some(64 << 20), cpu_shares: Some(512), ..Resources::default() };
    sandbox.create_container(spec).await.expect("creates");
    sandbox.start("c").await.expect("starts");
    let used = finish(async {
        loop {
            let stats = sandbox.stats("c").await.expect("measures");
            if stats.cpu.usage > 10_000_000 {
                break stats;
            }
        }
    })
    .await;
    assert_eq!((used.memory.limit, used.pids), (Some(64 << 20), 1));
    assert!(used.memory.working_set > 0 && used.memory.rss > 0);
    sandbox.pause("c").await.expect("pauses");
    assert_eq!(sandbox.container("c").expect("known").state, ContainerState::Paused);
    let before = sandbox.stats("c").await.expect("measures").cpu.usage;
    let after = sandbox.stats("c").await.expect("measures").cpu.usage;
    assert_eq!(before, after);
    sandbox.resume("c").await.expect("resumes");
    let more = Resources { memory_limit: Some(96 << 20), pids_limit: Some(9), ..Resources::default() };
    sandbox.update("c", &more).await.expect("updates");
    let stats = sandbox.stats("c").await.expect("measures");
    assert_eq!((stats.memory.limit, stats.pids_limit), (Some(96 << 20), Some(9)));
    sandbox.pause("c").await.expect("pauses");
    finish(sandbox.remove_container("c")).await.expect("a frozen container can be removed");
    world.end().await;
}

#[tokio::test]
async fn bad_specifications_are_refused_and_leave_nothing() {
    let world = World::new().await;
    for id in ["", "../x", "a/b", "_x", &"x".repeat(129)] {
        let result = world.engine.create_sandbox(world.sandbox_spec(id)).await;
        assert!(matches!(result, Err(Error::Invalid { field: "id", .. })), "{id}: {result:?}");
    }
    let mut spec = world.sandbox_spec("pod");
    spec.sysctls.insert("kernel.hostname".into(), "x".into());
    let result = world.engine.create_sandbox(spec.clone()).await;
    assert!(
        matches!(&result, Err(Error::ShimStart { reason, .. }) if reason.contains("kernel.hostname")),
        "{result:?}"
    );
    spec.sysctls.clear();
    spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    let sandbox = world.engine.create_sandbox(spec.clone()).await.expect("a sandbox");
    assert!(matches!(world.engine.create_sandbox(spec).await, Err(Error::AlreadyExists { .. })));
    let (_, log) = world.run(&sandbox, world.shell("c", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")).await;
    assert_eq!(log, ["stdout 0"]);
    let mut spec = world.shell("d", "true");
    spec.user.user = "nobody-here".into();
    let result = sandbox.create_container(spec).await;
    assert!(matches!(&result, Err(Error::Create(text)) if text.contains("nobody-here")), "{result:?}");
    assert!(matches!(sandbox.start("none").await, Err(Error::NotFound { .. })));
    assert!(matches!(sandbox.start("c").await, Err(Error::State { .. })));
    world.end().await;
}

#[tokio::test]
async fn a_privileged_container_has_all_that_the_engine_has_and_others_do_not() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let script = "busybox grep CapEff /proc/self/status; touch /proc/sys/kernel/hostname 2>/dev/null && echo writable; ls -d /dev/loop-control /dev/kmsg 2>/dev/null; echo end";
    let mut spec = world.shell("big", script);
    spec.privileged = true;
    spec.seccomp = Seccomp::RuntimeDefault;
    let (_, big) = world.run(&sandbox, spec).await;
    let (_, small) = world.run(&sandbox, world.shell("small", script)).await;
    let own = std::fs::read_to_string("/proc/self/status").expect("reads");
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("capabilities");
    assert!(big.contains(&format!("stdout CapEff:\t{own}")) && big.contains(&"stdout writable".into()), "{big:?}");
    assert_eq!(small, ["stdout CapEff:\t00000000a80425fb", "stdout end"]);
    world.end().await;
}

#[tokio::test]
async fn no_container_can_write_to_the_shims_program() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let program = format!("/proc/{}/exe", sandbox.pid().expect("lives"));
    let flags = nix::sys::statvfs::statvfs(program.as_str()).expect("a file system").flags();
    assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{flags:?}");
    world.end().await;
}

#[tokio::test]
async fn writes_beyond_a_containers_own_devices_are_refused() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    // Making the node is allowed, opening it is not: the kernel's log, which root could read.
    let script =
        "busybox mknod /tmp/kmsg c 1 11 && dd if=/tmp/kmsg of=/dev/null count=1 2>&1; echo x > /dev/null && echo fine";
    let (_, log) = world.run(&sandbox, world.shell("c", script)).await;
    assert!(
        log.iter().any(|line| line.contains("Operation not permitted")) && log.contains(&"stdout fine".into()),
        "{log:?}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_ends_whatever_is_being_made_in_it() {
    let world = World::new().await;
    for step in 0..40 {
        let sandbox = world.engine.create_sandbox(world.sandbox_spec(&format!("s{step}"))).await.expect("makes");
        let making = async {
            sandbox.create_container(world.shell(&format!("c{step}"), "sleep 1000")).await.expect("creates");
            sandbox.start(&format!("c{step}")).await.expect("starts");
        };
        // Given up a little later each time, in whichever moment of it that is.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(step), making).await;
        let pid = sandbox.pid().expect("a shim");
        finish(sandbox.destroy()).await.expect("ends");
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the shim stays at step {step}");
    }
    assert!(world.engine.sandboxes().is_empty());
    world.end().await;
}
