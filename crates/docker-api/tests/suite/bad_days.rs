//! Kills in the middle, registries that misbehave, full disks: clear words, nothing lost, nothing left.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::registry::{FakeRegistry, Mood};
use super::world::World;

/// All blobs of the store.
fn blobs(world: &World) -> BTreeSet<String> {
    let entries = std::fs::read_dir(world.path("data/content/blobs/sha256")).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// A client's command under way, with its output to be read.
fn begin(world: &World, args: &[&str]) -> Child {
    world.client(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait_for(registry: &FakeRegistry) {
    registry.stalled.recv_timeout(Duration::from_secs(30)).expect("the registry is asked");
}

#[test]
fn a_registry_that_misbehaves_is_told_in_words_and_leaves_nothing() {
    let world = World::empty();
    World::busybox_at(&world.path("busybox.tar"));
    let registry = FakeRegistry::serve(&world.path("busybox.tar"));
    let name = registry.name();
    for (mood, words) in [
        (Mood::Truncates, &["unexpected EOF", "end of file", "body", "truncated"][..]),
        (Mood::Lies, &["digest", "filesystem layer verification failed"]),
        (Mood::Fails, &["500"]),
    ] {
        registry.becomes(mood);
        let text = world.docker(&["pull", &name]).fails(1);
        assert!(words.iter().any(|word| text.contains(word)), "{text}");
        assert_eq!(world.docker(&["images", "-q"]).ok(), "");
        let text = world.docker(&["run", "--rm", &name]).fails(125);
        assert!(words.iter().any(|word| text.contains(word)), "{text}");
    }
    registry.becomes(Mood::Honest);
    assert_eq!(world.docker(&["run", "--rm", &name]).ok(), "served");
    world.docker(&["rmi", &name]).ok();
    assert_eq!(blobs(&world), BTreeSet::new());
}

#[test]
fn a_kill_in_the_middle_of_a_pull_costs_nothing_but_the_pull() {
    let mut world = World::new();
    let before = blobs(&world);
    let root = world.path("busybox.tar");
    // Another image than the one that is here already.
    let mut other = tar::Builder::new(std::fs::File::create(world.path("other.tar")).unwrap());
    other.append_path_with_name(&root, "noise").unwrap();
    other.finish().unwrap();
    let registry = FakeRegistry::serve(&world.path("other.tar"));
    registry.becomes(Mood::Stalls);
    let mut pull = begin(&world, &["pull", &registry.name()]);
    wait_for(&registry);
    world.crash_and_restart();
    assert!(!pull.wait().unwrap().success());
    assert!(world.docker(&["inspect", &registry.name()]).fails(1).contains("No such object"));
    assert_eq!(world.docker(&["run", "--rm", "busybox", "echo", "still"]).ok(), "still");
    registry.becomes(Mood::Honest);
    world.docker(&["pull", &registry.name()]).ok();
    world.docker(&["rmi", &registry.name()]).ok();
    assert_eq!(blobs(&world), before);
}

#[test]
fn a_client_that_leaves_ends_its_pull_and_the_next_one_succeeds() {
    let world = World::empty();
    World::busybox_at(&world.path("busybox.tar"));
    let registry = FakeRegistry::serve(&world.path("busybox.tar"));
    registry.becomes(Mood::Stalls);
    let mut pull = begin(&world, &["pull", &registry.name()]);
    wait_for(&registry);
    pull.kill().unwrap();
    pull.wait().unwrap();
    registry.becomes(Mood::Honest);
    assert_eq!(world.docker(&["run", "--rm", &registry.name()]).ok(), "served");
}

#[test]
fn a_kill_in_the_middle_of_a_push_loses_no_image() {
    let mut world = World::new();
    let registry = FakeRegistry::serve(&world.path("busybox.tar"));
    registry.becomes(Mood::Stalls);
    let target = format!("{}/pushed:1", registry.address);
    world.docker(&["tag", "busybox", &target]).ok();
    let before = blobs(&world);
    let mut push = begin(&world, &["push", &target]);
    wait_for(&registry);
    world.crash_and_restart();
    assert!(!push.wait().unwrap().success());
    assert_eq!(world.docker(&["run", "--rm", &target, "echo", "still"]).ok(), "still");
    assert_eq!(blobs(&world), before);
    registry.becomes(Mood::Fails);
    let text = world.docker(&["push", &target]).fails(1);
    assert!(text.contains("500"), "{text}");
}

#[test]
fn a_kill_in_the_middle_of_a_build_leaves_what_is_cleared_at_the_next_start() {
    let mut world = World::new();
    let before = blobs(&world);
    let context = world.path("context");
    std::fs::create_dir(&context).unwrap();
    let dockerfile = |second: &str| format!("FROM busybox\nRUN echo one > /one\nRUN {second}\n");
    std::fs::write(context.join("Dockerfile"), dockerfile("echo now; sleep 1000")).unwrap();
    let mut build = begin(&world, &["build", "-t", "app", context.to_str().unwrap()]);
    let output = BufReader::new(build.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line == "now"));
    world.crash_and_restart();
    assert!(!build.wait().unwrap().success());
    let left = |name: &str| std::fs::read_dir(world.path(name)).unwrap().count();
    assert_eq!(left("data/builder/work"), 0);
    // The step that was done is done.
    std::fs::write(context.join("Dockerfile"), dockerfile("echo two > /two")).unwrap();
    let said = world.docker(&["build", "-t", "app", context.to_str().unwrap()]).ok();
    assert_eq!(said.matches(" ---> Using cache").count(), 1, "{said}");
    assert_eq!(world.docker(&["run", "--rm", "app", "cat", "/one", "/two"]).ok(), "one\ntwo");
    world.docker(&["rmi", "app"]).ok();
    world.docker(&["builder", "prune", "-f"]).ok();
    assert_eq!(blobs(&world), before);
}

#[test]
fn a_client_that_leaves_ends_its_build() {
    let world = World::new();
    let context = world.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nRUN echo now; sleep 1000\n").unwrap();
    let mut build = begin(&world, &["build", context.to_str().unwrap()]);
    let output = BufReader::new(build.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line == "now"));
    build.kill().unwrap();
    build.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::read_dir(world.path("data/builder/work")).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the build goes on");
        std::thread::yield_now();
    }
}

#[test]
fn kills_around_a_commit_leave_the_image_whole_or_absent() {
    let mut world = World::new();
    let before = blobs(&world);
    world.docker(&["run", "--name", "made", "busybox", "dd", "if=/dev/urandom", "of=/noise", "bs=1M", "count=8"]).ok();
    for delay in [5, 20, 40, 80, 160, 320] {
        let mut commit = begin(&world, &["commit", "made", "saved"]);
        // The moment is not chosen: whatever it hits has to hold.
        std::thread::sleep(Duration::from_millis(delay));
        world.crash_and_restart();
        let _ = commit.wait().unwrap();
        if world.docker(&["image", "inspect", "saved"]).code == 0 {
            let size = world.docker(&["run", "--rm", "saved", "wc", "-c", "/noise"]);
            assert!(size.stdout.starts_with("8388608 ") || size.code == 127, "{size:?}");
            world.docker(&["rmi", "saved"]).ok();
        }
        world.docker(&["start", "-a", "made"]).ok();
    }
    world.docker(&["commit", "made", "saved"]).ok();
    world.docker(&["rmi", "saved"]).ok();
    assert_eq!(blobs(&world), before);
}

#[test]
fn a_full_disk_is_named_and_what_was_there_still_works() {
    let world = World::on(48 << 20);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(64 << 20);
    header.set_mode(0o644);
    tar.append_data(&mut header, "zeros", std::io::Read::take(std::io::repeat(7), 64 << 20)).unwrap();
    let archive = tar.into_inner().unwrap();
    let text = world.docker_with(&["import", "-", "big"], &archive).fails(1);
    assert!(text.to_lowercase().contains("no space left on device"), "{text}");
    let fill = ["run", "--rm", "busybox", "dd", "if=/dev/zero", "of=/full", "bs=1M", "count=64"];
    // Here the shim's own notes are on the full disk too, so the exit code is not always dd's.
    let outcome = world.docker(&fill);
    assert!(outcome.code != 0 && outcome.stderr.contains("No space left on device"), "{outcome:?}");
    assert_eq!(world.docker(&["run", "--rm", "busybox", "echo", "still"]).ok(), "still");
}

#[test]
fn of_two_clients_that_want_one_name_one_gets_it() {
    let world = World::new();
    let mut children: Vec<Child> =
        (0..4).map(|_| begin(&world, &["create", "--name", "wanted", "busybox", "true"])).collect();
    let codes: Vec<i32> = children.iter_mut().map(|child| child.wait().unwrap().code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(world.docker(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "wanted");
}
