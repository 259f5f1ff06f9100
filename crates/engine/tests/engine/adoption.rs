//! Daemons and shims die; containers and what is known of them do not.

use std::time::Duration;

use engine::{ContainerState, Error, EventKind, SandboxState};

use crate::world::{World, finish};

#[tokio::test]
async fn a_new_daemon_adopts_what_runs_and_learns_what_ended_meanwhile() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    let gate = world.path("gate");
    std::fs::create_dir_all(&gate).expect("makes");
    let mut short = world.shell("short", "while [ ! -e /gate/open ]; do sleep 0.02; done; echo late; exit 9");
    short.mounts = vec![engine::Mount::bind(gate.to_str().expect("a path"), "/gate", false)];
    for spec in [short, world.shell("long", "trap 'exit 4' TERM; while true; do sleep 0.05; done")] {
        let id = spec.id.clone();
        sandbox.create_container(spec).await.expect("creates");
        sandbox.start(&id).await.expect("starts");
    }
    let (pid, long_pid) = (sandbox.pid(), sandbox.container("long").expect("known").pid);
    // The first engine goes without a word: nothing of it acts any more.
    drop(sandbox);
    let adopted = world.restart().await;
    let [sandbox] = &adopted[..] else { panic!("{adopted:?}") };
    assert_eq!((sandbox.pid(), sandbox.status().state), (pid, SandboxState::Ready));
    assert_eq!(sandbox.container("long").expect("known").pid, long_pid);
    std::fs::write(gate.join("open"), "").expect("writes");
    let exit = finish(sandbox.wait("short")).await.expect("exits");
    assert_eq!((exit.exit_code, exit.known), (9, true));
    assert_eq!(world.log("short"), ["stdout late"]);
    // And once more: now the end lies in the past.
    let adopted = world.restart().await;
    let sandbox = &adopted[0];
    assert_eq!(sandbox.container("short").expect("known").exit, Some(exit));
    assert_eq!(sandbox.container("long").expect("known").state, ContainerState::Running);
    let output = sandbox.exec_sync("long", vec!["true".into()], Duration::from_secs(10)).await.expect("runs");
    assert_eq!(output.exit_code, 0);
    sandbox.signal("long", libc::SIGTERM).await.expect("signals");
    assert_eq!(finish(sandbox.wait("long")).await.expect("exits").exit_code, 4);
    world.end().await;
}

#[tokio::test]
async fn what_a_killed_shim_leaves_behind_is_killed_and_reported() {
    let world = World::new().await;
    let mut events = world.engine.events();
    let sandbox = world.sandbox().await;
    let (exit, _) = world.run(&sandbox, world.shell("done", "exit 3")).await;
    sandbox.create_container(world.shell("c", "exec sleep 1000")).await.expect("creates");
    sandbox.start("c").await.expect("starts");
    let pid = sandbox.container("c").expect("known").pid.expect("runs");
    let shim = nix::unistd::Pid::from_raw(sandbox.pid().expect("lives"));
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).expect("kills");
    finish(async { while events.next().await.expect("an event").kind != EventKind::SandboxDied {} }).await;
    let status = sandbox.status();
    assert_eq!(status.state, SandboxState::Dead);
    let lost = sandbox.container("c").expect("known").exit.expect("ended");
    assert_eq!((lost.exit_code, lost.known), (255, false));
    assert_eq!(sandbox.container("done").expect("known").exit, Some(exit), "what was recorded stays");
    let alive = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("sleep"));
    assert!(!alive, "nothing runs on");
    assert!(matches!(sandbox.create_container(world.shell("d", "true")).await, Err(Error::ShimGone(_))));
    world.end().await;
}

#[tokio::test]
async fn a_new_daemon_cleans_up_after_shims_that_died_with_the_old_one() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    sandbox.create_container(world.shell("c", "exec sleep 1000")).await.expect("creates");
    sandbox.start("c").await.expect("starts");
    let shim = nix::unistd::Pid::from_raw(sandbox.pid().expect("lives"));
    // The record of an earlier boot: a socket that nobody listens on.
    let run = world.path("run");
    let copy = world.path("copy");
    copy_tree(&run, &copy);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).expect("kills");
    finish(sandbox.destroy()).await.expect("destroys");
    std::fs::remove_dir_all(&run).expect("removes");
    std::fs::rename(&copy, &run).expect("renames");
    let adopted = world.restart().await;
    let [sandbox] = &adopted[..] else { panic!("{adopted:?}") };
    assert_eq!(sandbox.status().state, SandboxState::Dead);
    let exit = sandbox.container("c").expect("known").exit.expect("ended");
    assert!(!exit.known && exit.exit_code == 255);
    world.end().await;
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("reads").flatten() {
        let kind = entry.file_type().expect("a type");
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}
