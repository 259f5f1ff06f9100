//! The daemon: what survives its death, and what it says of itself.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::world::World;

#[test]
fn containers_do_not_notice_a_crash_of_the_daemon() {
    let mut world = World::new();
    world.docker(&["network", "create", "net"]).ok();
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "up",
            "--network",
            "net",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 9' TERM; while true; do sleep 0.1; done",
        ])
        .ok();
    world.docker(&["run", "-d", "--name", "ends", "busybox", "sleep", "1000"]).ok();
    let pid = world.docker(&["inspect", "-f", "{{.State.Pid}}", "up"]).ok();
    world.crash_and_restart();
    assert_eq!(
        world.docker(&["inspect", "-f", "{{.State.Pid}} {{.State.Status}}", "up"]).ok(),
        format!("{pid} running")
    );
    assert!(
        world
            .docker(&["run", "--rm", "--network", "net", "busybox", "ping", "-c", "1", "-W", "2", "up"])
            .ok()
            .contains("1 packets received")
    );
    world.docker(&["stop", "up"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.ExitCode}}", "up"]).ok(), "9");
    world.docker(&["rm", "-f", "ends", "up"]).ok();
}

#[test]
fn events_tell_the_life_of_a_container() {
    let world = World::new();
    let mut events = world
        .client(&["events", "--since", "1", "--filter", "container=seen", "--format", "{{.Action}}"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    world.docker(&["run", "--name", "seen", "busybox", "true"]).ok();
    world.docker(&["rm", "seen"]).ok();
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        seen.push(line.unwrap());
        if seen.last().unwrap() == "destroy" {
            break;
        }
    }
    let _ = events.kill();
    let _ = events.wait();
    seen.retain(|action| !matches!(action.as_str(), "connect" | "disconnect"));
    assert_eq!(seen, ["create", "attach", "start", "die", "destroy"]);
    world.docker(&["run", "-d", "--name", "forced", "busybox", "sleep", "1000"]).ok();
    world.docker(&["rm", "-f", "forced"]).ok();
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64().to_string();
    let filters = ["--filter", "container=forced", "--filter", "type=container", "--format", "{{.Action}}"];
    let told = world.docker(&[&["events", "--since", "1", "--until", &until][..], &filters].concat()).ok();
    assert_eq!(told, "create\nstart\nkill\ndie\ndestroy");
}

#[test]
fn the_engine_describes_itself() {
    let world = World::new();
    assert_eq!(world.docker(&["version", "-f", "{{.Server.APIVersion}} {{.Server.Os}}"]).ok(), "1.51 linux");
    world.docker(&["run", "-d", "busybox", "sleep", "1000"]).ok();
    assert_eq!(world.docker(&["info", "-f", "{{.ContainersRunning}} {{.Images}} {{.OSType}}"]).ok(), "1 1 linux");
    assert!(world.docker(&["system", "df"]).ok().contains("Containers      1         1"));
    assert!(world.docker(&["swarm", "init"]).fails(1).contains("swarm mode is not supported"));
    assert!(world.docker(&["service", "ls"]).fails(1).contains("This node is not a swarm manager"));
}

#[test]
fn pruning_removes_what_nobody_uses() {
    let world = World::new();
    world.docker(&["run", "--name", "over", "busybox", "true"]).ok();
    world.docker(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).ok();
    world.docker(&["volume", "create", "spare"]).ok();
    world.docker(&["network", "create", "spare"]).ok();
    // What goes is a file; what it stood on is another image's, too.
    world.docker(&["commit", "over"]).ok();
    let told = world.docker(&["image", "prune", "-f"]).ok();
    let bytes = told.lines().find_map(|line| line.strip_prefix("Total reclaimed space: ")).expect("told");
    assert!(told.contains("deleted: sha256:") && !told.contains("untagged") && !bytes.contains("MB"), "{told}");
    world.docker(&["system", "prune", "-af", "--volumes"]).ok();
    assert_eq!(world.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "up");
    assert_eq!(world.docker(&["network", "ls", "--format", "{{.Name}}"]).ok(), "bridge\nhost\nnone");
    assert_eq!(world.docker(&["images", "--format", "{{.Repository}}"]).ok(), "busybox");
}
