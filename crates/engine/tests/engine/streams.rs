//! Exec, attach and terminals.

use std::time::Duration;

use engine::{Error, ExecSpec, Output, Sandbox, Seccomp, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, finish};

async fn running(world: &World, edit: impl FnOnce(&mut engine::ContainerSpec)) -> Sandbox {
    let sandbox = world.sandbox().await;
    let mut spec = world.shell("c", "exec sleep 1000");
    edit(&mut spec);
    sandbox.create_container(spec).await.expect("creates");
    sandbox.start("c").await.expect("starts");
    sandbox
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).into()).collect()
}

async fn read_until(stream: &mut Output, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    finish(async {
        while !text.ends_with(end.as_bytes()) && stream.read(&mut byte).await.expect("reads") > 0 {
            text.push(byte[0]);
        }
    })
    .await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn exec_gives_output_and_exit_code() {
    let world = World::new().await;
    let sandbox = running(&world, |_| {}).await;
    let run = |args: &[&str]| sandbox.exec_sync("c", words(args), Duration::from_secs(10));
    let output = run(&["sh", "-c", "echo out; echo err >&2; exit 5"]).await.expect("runs");
    assert_eq!((output.exit_code, &*output.stdout, &*output.stderr), (5, &b"out\n"[..], &b"err\n"[..]));
    let output = run(&["sh", "-c", "kill -9 $$"]).await.expect("runs");
    assert_eq!(output.exit_code, 137);
    match run(&["nonsense"]).await {
        Err(Error::Start { message, exit_code }) => {
            assert_eq!((message.as_str(), exit_code), ("exec: \"nonsense\": executable file not found in $PATH", 127));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(run(&["broken"]).await, Err(Error::Start { exit_code: 128, .. })));
    sandbox.signal("c", libc::SIGKILL).await.expect("kills");
    finish(sandbox.wait("c")).await.expect("exits");
    assert!(matches!(run(&["true"]).await, Err(Error::State { .. })));
    world.end().await;
}

#[tokio::test]
async fn exec_that_takes_too_long_is_killed() {
    let world = World::new().await;
    let sandbox = running(&world, |_| {}).await;
    let result = sandbox.exec_sync("c", words(&["sleep", "999"]), Duration::from_millis(50)).await;
    assert!(matches!(result, Err(Error::Timeout(_))), "{result:?}");
    let list = || sandbox.exec_sync("c", words(&["busybox", "ps"]), Duration::from_secs(10));
    finish(async {
        while String::from_utf8_lossy(&list().await.expect("lists").stdout).contains("sleep 999") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn exec_reaches_a_container_that_has_made_groups_of_its_own() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    // As an engine in a container does. On v2 the container's own group may then hold no process any more.
    let script = "d=/sys/fs/cgroup; [ -e $d/cgroup.controllers ] || d=$d/memory; mkdir $d/inner || exit 1; \
                  echo $$ > $d/inner/cgroup.procs; [ -e $d/memory.limit_in_bytes ] || echo +pids > $d/cgroup.subtree_control; \
                  echo ready; exec sleep 1000";
    let mut spec = world.shell("c", script);
    spec.privileged = true;
    sandbox.create_container(spec).await.expect("creates");
    sandbox.start("c").await.expect("starts");
    finish(async {
        while !world.log("c").contains(&"stdout ready".to_string()) {
            assert!(sandbox.container("c").expect("known").exit.is_none(), "{:?}", world.log("c"));
            tokio::task::yield_now().await;
        }
    })
    .await;
    let output = sandbox.exec_sync("c", words(&["echo", "here"]), Duration::from_secs(10)).await.expect("runs");
    assert_eq!(output.stdout, b"here\n");
    finish(sandbox.remove_container("c")).await.expect("removes its groups too");
    world.end().await;
}

#[tokio::test]
async fn exec_passes_stdin_through_to_its_end() {
    let world = World::new().await;
    let sandbox = running(&world, |_| {}).await;
    let spec = ExecSpec {
        container: "c".into(),
        args: words(&["wc", "-c"]),
        stdin: true,
        stdout: true,
        ..ExecSpec::default()
    };
    let mut exec = sandbox.exec(spec).await.expect("starts");
    let mut stdin = exec.streams.stdin.take().expect("stdin");
    let payload = vec![b'x'; 300_000];
    finish(stdin.write_all(&payload)).await.expect("writes");
    drop(stdin);
    let mut text = String::new();
    finish(exec.streams.stdout.take().expect("stdout").read_to_string(&mut text)).await.expect("reads");
    assert_eq!(text.trim(), "300000");
    assert_eq!(finish(exec.wait()).await.expect("ends").exit_code, 0);
    world.end().await;
}

#[tokio::test]
async fn exec_with_a_terminal_has_a_size_and_can_be_resized() {
    let world = World::new().await;
    let sandbox = running(&world, |_| {}).await;
    let spec = ExecSpec {
        container: "c".into(),
        args: words(&["sh", "-c", "tty; stty size; read x; stty size; exit 9"]),
        tty: true,
        size: Some(TerminalSize { width: 132, height: 43 }),
        stdin: true,
        stdout: true,
        ..ExecSpec::default()
    };
    let mut exec = sandbox.exec(spec).await.expect("starts");
    let mut stdout = exec.streams.stdout.take().expect("stdout");
    let text = read_until(&mut stdout, "43 132\r\n").await;
    assert!(text.contains("/dev/pts/") && text.ends_with("43 132\r\n"), "{text:?}");
    exec.resize(TerminalSize { width: 80, height: 24 });
    finish(exec.streams.stdin.as_mut().expect("stdin").write_all(b"\n")).await.expect("writes");
    let text = read_until(&mut stdout, "24 80\r\n").await;
    assert!(text.ends_with("24 80\r\n"), "{text:?}");
    assert_eq!(finish(exec.wait()).await.expect("ends").exit_code, 9);
    world.end().await;
}

#[tokio::test]
async fn exec_is_under_the_containers_restrictions() {
    let world = World::new().await;
    let status = ["busybox", "grep", "-E", "Seccomp:|NoNewPrivs|CapBnd|CapEff", "/proc/self/status"];
    for no_new_privileges in [false, true] {
        let sandbox = running(&world, |spec| {
            spec.seccomp = Seccomp::RuntimeDefault;
            spec.no_new_privileges = no_new_privileges;
        })
        .await;
        let run = |args: &[&str]| sandbox.exec_sync("c", words(args), Duration::from_secs(10));
        let text = String::from_utf8(run(&status).await.expect("runs").stdout).expect("text");
        assert!(text.contains("Seccomp:\t2"), "{text}");
        assert!(text.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privileges))), "{text}");
        assert!(text.contains("CapEff:\t00000000a80425fb"), "{text}");
        assert!(text.contains("CapBnd:\t00000000a80425fb"), "{text}");
        let output = run(&["unshare", "-U", "true"]).await.expect("runs");
        assert_ne!(output.exit_code, 0, "the filter holds in an exec");
        let group = String::from_utf8(run(&["cat", "/proc/self/cgroup"]).await.expect("runs").stdout).expect("text");
        assert!(group.contains("memory:/\n") || group == "0::/\n", "{group}");
        finish(sandbox.destroy()).await.expect("destroys");
    }
    world.end().await;
}

#[tokio::test]
async fn attached_clients_type_and_read() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut spec = world.shell("c", "while read x; do echo got $x; echo e >&2; done; echo end");
    spec.stdin = true;
    spec.stdin_once = true;
    sandbox.create_container(spec).await.expect("creates");
    let mut streams = sandbox.attach("c", true).await.expect("attaches");
    sandbox.start("c").await.expect("starts");
    let mut stdin = streams.stdin.take().expect("stdin");
    finish(stdin.write_all(b"one\n")).await.expect("writes");
    let mut stdout = streams.stdout.take().expect("stdout");
    assert_eq!(read_until(&mut stdout, "\n").await, "got one\n");
    let mut second = sandbox.attach("c", true).await.expect("attaches");
    finish(stdin.write_all(b"two\n")).await.expect("writes");
    assert_eq!(read_until(&mut stdout, "\n").await, "got two\n");
    assert_eq!(read_until(second.stdout.as_mut().expect("stdout"), "\n").await, "got two\n");
    assert_eq!(read_until(second.stderr.as_mut().expect("stderr"), "\n").await, "e\n");
    // Who only listens ends nothing by leaving.
    let mut third = sandbox.attach("c", false).await.expect("attaches");
    assert!(third.stdin.is_none());
    finish(stdin.write_all(b"three\n")).await.expect("writes");
    assert_eq!(read_until(&mut stdout, "\n").await, "got three\n");
    assert_eq!(read_until(third.stdout.as_mut().expect("stdout"), "\n").await, "got three\n");
    drop(third);
    finish(stdin.write_all(b"four\n")).await.expect("writes");
    assert_eq!(read_until(&mut stdout, "\n").await, "got four\n");
    drop(second);
    drop(stdin);
    let mut rest = String::new();
    finish(stdout.read_to_string(&mut rest)).await.expect("reads");
    assert_eq!(rest, "end\n");
    assert_eq!(finish(sandbox.wait("c")).await.expect("exits").exit_code, 0);
    assert_eq!(world.log("c").iter().filter(|line| line.starts_with("stdout")).count(), 5);
    world.end().await;
}

#[tokio::test]
async fn a_container_with_a_terminal_is_attached_and_resized() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let mut spec = world.shell("c", "read x; stty size; tty; read x; exit 6");
    spec.stdin = true;
    spec.tty = true;
    sandbox.create_container(spec).await.expect("creates");
    let mut streams = sandbox.attach("c", true).await.expect("attaches");
    sandbox.resize_tty("c", TerminalSize { width: 100, height: 30 }).await.expect("resizes");
    sandbox.start("c").await.expect("starts");
    let mut stdout = streams.stdout.take().expect("stdout");
    let stdin = streams.stdin.as_mut().expect("stdin");
    finish(stdin.write_all(b"\n")).await.expect("writes");
    let text = read_until(&mut stdout, "/dev/pts/0\r\n").await;
    assert!(text.contains("30 100") && text.ends_with("/dev/pts/0\r\n"), "{text:?}");
    finish(stdin.write_all(b"\n")).await.expect("writes");
    assert_eq!(finish(sandbox.wait("c")).await.expect("exits").exit_code, 6);
    world.end().await;
}

#[tokio::test]
async fn output_to_a_client_that_does_not_read_waits_and_the_log_is_whole() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let spec = world.shell("c", "i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done");
    sandbox.create_container(spec).await.expect("creates");
    let mut streams = sandbox.attach("c", true).await.expect("attaches");
    sandbox.start("c").await.expect("starts");
    let mut text = String::new();
    finish(streams.stdout.take().expect("stdout").read_to_string(&mut text)).await.expect("reads");
    assert_eq!(text.lines().count(), 60_000);
    finish(sandbox.wait("c")).await.expect("exits");
    let log = world.log("c");
    assert_eq!(log.len(), 60_000);
    assert!(log.iter().enumerate().all(|(number, line)| *line == format!("stdout line {number}")));
    world.end().await;
}
