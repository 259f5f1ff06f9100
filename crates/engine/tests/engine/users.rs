//! Containers whose ids are others on the host.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use engine::{IdRange, Mount, PidMode, Sandbox, Tmpfs, UserSpec};

use crate::world::{World, finish};

const IDS: IdRange = IdRange { first: 196_608, count: 65_536 };

/// A world whose directory mapped users may pass through.
async fn passable() -> World {
    let world = World::new().await;
    std::fs::set_permissions(world.directory.path(), std::fs::Permissions::from_mode(0o711)).expect("sets");
    world
}

async fn mapped(world: &World, pid: PidMode) -> Sandbox {
    let mut spec = world.sandbox_spec("pod");
    spec.user_ids = Some(IDS);
    spec.pid = pid;
    world.engine.create_sandbox(spec).await.expect("a sandbox")
}

/// The user a process has on the host.
fn host_user(pid: i32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}")).expect("it runs").uid()
}

#[tokio::test]
async fn root_inside_is_nobody_outside_and_owns_the_images_files() {
    let world = passable().await;
    let sandbox = mapped(&world, PidMode::PerContainer).await;
    let script = "id -u; busybox stat -c %u:%g /bin/busybox; echo x > /new; busybox stat -c %u /new; cat /proc/self/uid_map; \
        echo reopened > /dev/stdout; hostname; hostname other && hostname; busybox ip link set lo down && echo owns the network; \
        busybox ls /sys/class/net; echo null > /dev/null && echo devices";
    let mut spec = world.shell("c", script);
    let rights = engine::default_capabilities().bounding;
    let more = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"].map(String::from);
    spec.capabilities = Some(engine::Capabilities::uniform(rights.into_iter().chain(more)));
    let (exit, log) = world.run(&sandbox, spec).await;
    assert_eq!(exit.exit_code, 0, "{log:?}");
    let log: Vec<String> = log.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "stdout 0",
        "stdout 0:0",
        "stdout 0",
        "stdout 0 196608 65536",
        "stdout reopened",
        "stdout harbour",
        "stdout other",
        "stdout owns the network",
        "stdout lo",
        "stdout devices",
    ];
    assert_eq!(log, expected);
    // On disk it is as if there were no mapping: the snapshot can be copied and committed as any other.
    assert_eq!(std::fs::metadata(world.path("layers/c/upper/new")).expect("written").uid(), 0);
    assert_eq!(std::fs::metadata(world.path("image/bin/busybox")).expect("there").uid(), 0);
    world.end().await;
}

#[tokio::test]
async fn mapped_volumes_are_the_containers_and_others_the_hosts() {
    let world = passable().await;
    let mut spec = world.sandbox_spec("pod");
    spec.user_ids = Some(IDS);
    let memory = world.path("memory");
    std::fs::create_dir_all(&memory).expect("makes");
    spec.tmpfs = vec![Tmpfs { path: memory.clone(), size: Some(1 << 20), mode: 0o700 }];
    let sandbox = world.engine.create_sandbox(spec).await.expect("a sandbox");
    let volume = world.path("private/volume");
    std::fs::create_dir_all(&volume).expect("makes");
    std::fs::write(volume.join("secret"), "hidden\n").expect("writes");
    std::fs::set_permissions(volume.join("secret"), std::fs::Permissions::from_mode(0o600)).expect("sets");
    std::fs::set_permissions(world.path("private"), std::fs::Permissions::from_mode(0o700)).expect("sets");
    let bind = |source: &std::path::Path, destination: &str, idmap: bool| {
        let mut mount = Mount::bind(source.to_str().expect("a path"), destination, false);
        mount.options.extend(idmap.then(|| "idmap".to_owned()));
        mount
    };
    let mut container = world.shell(
        "c",
        "cat /mapped/secret; cat /file; cat /plain/secret || echo refused; echo y > /mapped/new; echo z > /memory/z; \
            busybox stat -c %u /mapped/new /memory/z; touch /ro/x || echo read-only",
    );
    let read_only =
        Mount { options: ["rbind", "ro", "idmap"].map(String::from).to_vec(), ..bind(&volume, "/ro", true) };
    container.mounts = vec![
        bind(&volume, "/mapped", true),
        bind(&volume.join("secret"), "/file", true),
        bind(&volume, "/plain", false),
        bind(&memory, "/memory", true),
        read_only,
    ];
    let (_, log) = world.run(&sandbox, container).await;
    let said: Vec<_> = log.iter().filter_map(|line| line.strip_prefix("stdout ")).collect();
    assert_eq!(said, ["hidden", "hidden", "refused", "0", "0", "read-only"], "{log:?}");
    assert_eq!(std::fs::metadata(volume.join("new")).expect("written").uid(), 0);
    world.end().await;
}

#[tokio::test]
async fn mapped_containers_take_execs_and_outlive_the_daemon() {
    for pid in [PidMode::PerContainer, PidMode::Shared] {
        // One each: the first engine of a world, which in truth would be gone with its process, sees the shim end and
        // clears away what it takes for its own.
        let mut world = passable().await;
        let sandbox = mapped(&world, pid).await;
        let mut spec = world.shell("c", "trap 'exit 4' TERM; while true; do sleep 0.05; done");
        spec.user = UserSpec { user: "web".into(), ..UserSpec::default() };
        sandbox.create_container(spec).await.expect("creates");
        sandbox.start("c").await.expect("starts");
        let process = sandbox.container("c").expect("known").pid.expect("runs");
        assert_eq!(host_user(process), IDS.first + 33);
        assert_eq!(host_user(sandbox.pid().expect("a shim")), 0);
        drop(sandbox);
        let adopted = world.restart().await;
        let [sandbox] = &adopted[..] else { panic!("{adopted:?}") };
        let ask = |args: &'static [&'static str]| {
            let args = args.iter().map(|arg| (*arg).to_owned()).collect();
            sandbox.exec_sync("c", args, Duration::from_secs(10))
        };
        let output = ask(&["sh", "-c", "id -u; ps | grep -c trap"]).await.expect("runs");
        assert_eq!(output.exit_code, 0, "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("33\n"), "{output:?}");
        sandbox.signal("c", libc::SIGTERM).await.expect("signals");
        assert_eq!(finish(sandbox.wait("c")).await.expect("exits").exit_code, 4);
        finish(sandbox.destroy()).await.expect("destroys");
        assert_eq!(std::fs::read_dir(world.path("run/mapped")).expect("reads").count(), 0);
        world.end().await;
    }
}

#[tokio::test]
async fn ids_of_the_hosts_own_and_places_out_of_reach_are_refused() {
    let world = World::new().await;
    let mut spec = world.sandbox_spec("pod");
    spec.user_ids = Some(IdRange { first: 0, count: 65_536 });
    let error = world.engine.create_sandbox(spec.clone()).await.unwrap_err().to_string();
    assert!(error.contains("beside the host's own"), "{error}");
    spec.user_ids = Some(IDS);
    std::fs::set_permissions(world.directory.path(), std::fs::Permissions::from_mode(0o700)).expect("sets");
    let error = world.engine.create_sandbox(spec).await.unwrap_err().to_string();
    assert!(error.contains("passable"), "{error}");
    world.end().await;
}
