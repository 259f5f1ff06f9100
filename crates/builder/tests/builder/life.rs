//! Builds that are given up, killed, or meet a full disk.

use std::sync::Arc;
use std::time::Duration;

use builder::{BuildRequest, Builder, Event};

use crate::world::{PATIENCE, World, recorder};

/// Waits until something is so, by the events it depends on or not at all.
async fn until(what: &str, mut fine: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !fine() {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_given_up_leaves_nothing_running() {
    let world = World::new().await;
    let (_, events) = recorder();
    let running = Arc::new(tokio::sync::Notify::new());
    let (sink, signal) = (events.clone(), running.clone());
    let progress: builder::Progress = Arc::new(move |event| {
        if matches!(event, Event::Output { .. }) {
            signal.notify_one();
        }
        sink.lock().unwrap().push(event);
    });
    let request = BuildRequest { tags: vec!["never".into()], ..world.request("FROM base\nRUN echo go; sleep 1000") };
    let builder = world.builder.clone();
    let build = tokio::spawn(async move { builder.build(request, progress).await });
    tokio::time::timeout(PATIENCE, running.notified()).await.expect("it runs");
    build.abort();
    assert!(build.await.unwrap_err().is_cancelled());
    until("the end of the sandbox", || world.engine.sandboxes().is_empty()).await;
    let work = world.path("builder/work");
    until("the end of the workspace", || std::fs::read_dir(&work).unwrap().count() == 0).await;
    assert!(world.content.image("never").is_err());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_builder_left_is_cleared_by_the_next() {
    let world = World::new().await;
    let left = world.path("builder/work/0123456789ab");
    std::fs::create_dir_all(left.join("run-0/upper")).unwrap();
    std::fs::write(left.join("lock"), "").unwrap();
    let held = world.path("builder/work/ba9876543210");
    std::fs::create_dir_all(&held).unwrap();
    let lock = std::fs::File::create(held.join("lock")).unwrap();
    lock.lock().unwrap();
    Builder::open(world.engine.clone(), world.content.clone(), world.path("builder")).await.unwrap();
    assert!(!left.exists());
    assert!(held.exists(), "somebody works there");
    drop(lock);
    Builder::open(world.engine.clone(), world.content.clone(), world.path("builder")).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_builds_of_one_name_both_succeed() {
    let world = World::new().await;
    let request =
        |n: u32| BuildRequest { tags: vec!["same".into()], ..world.request(&format!("FROM base\nRUN echo {n} > /n")) };
    let (one, two) = tokio::join!(world.try_build(request(1)), world.try_build(request(2)));
    let ids = [one.0.unwrap().image, two.0.unwrap().image];
    assert!(ids.contains(&world.content.image("same").unwrap().id.to_string()));
    for id in &ids {
        assert!(world.content.image(id).is_ok());
    }
    world.end().await;
}

/// Not a test of its own: the process that the next one kills. It builds in the directory it is given.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started, and killed, by `a_killed_process_leaves_what_the_next_one_clears`"]
async fn victim() {
    let Ok(directory) = std::env::var("BUILDER_VICTIM") else { return };
    let directory = std::path::Path::new(&directory);
    let engine = engine(directory, &std::env::var("BUILDER_CGROUP").unwrap()).await;
    let content = engine::content::Content::open(directory.join("content")).unwrap();
    let builder = Builder::open(engine, content, directory.join("builder")).await.unwrap();
    let request = BuildRequest {
        dockerfile: builder::Source::Text("FROM base\nRUN echo done > /x\nRUN echo second-step; sleep 1000".into()),
        tags: vec!["never".into()],
        ..BuildRequest::default()
    };
    let progress: builder::Progress = Arc::new(|event| {
        if let Event::Output { bytes, .. } = event {
            println!("{}", String::from_utf8_lossy(&bytes));
        }
    });
    builder.build(request, progress).await.unwrap();
}

async fn engine(directory: &std::path::Path, cgroup: &str) -> engine::Engine {
    let engine = engine::Engine::open(engine::EngineConfig {
        data_dir: directory.join("engine"),
        run_dir: directory.join("run"),
        cgroup_root: cgroup.into(),
        shim: engine::ShimCommand { program: env!("CARGO_BIN_EXE_builder-shim").into(), args: Vec::new() },
    })
    .await
    .unwrap();
    engine.adopt().await.unwrap();
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_what_the_next_one_clears() {
    use std::io::BufRead;
    let mut world = World::new().await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::victim", "--ignored", "--nocapture"])
        .env("BUILDER_VICTIM", world.directory.path())
        .env("BUILDER_CGROUP", &world.cgroup)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let started = output.lines().map_while(Result::ok).any(|line| line.contains("second-step"));
    assert!(started, "the build got to its second step");
    child.kill().unwrap();
    child.wait().unwrap();
    world.engine = engine(world.directory.path(), &world.cgroup).await;
    assert_eq!(world.engine.sandboxes().len(), 1, "its container was left");
    world.builder = Builder::open(world.engine.clone(), world.content.clone(), world.path("builder")).await.unwrap();
    assert!(world.engine.sandboxes().is_empty());
    assert!(world.content.image("never").is_err());
    // What was finished is known; and nothing of the rest is in the store.
    let built = world.build("FROM base\nRUN echo done > /x\nRUN true").await;
    assert_eq!(built.cached(), ["RUN echo done > /x"]);
    world.content.collect().unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_clear_error_and_leaves_no_half_image() {
    let world = World::on_tmpfs(48 << 20).await;
    let text = "FROM base\nRUN dd if=/dev/zero of=/a bs=1M count=12\nRUN dd if=/dev/zero of=/b bs=1M count=40";
    let request = BuildRequest { tags: vec!["never".into()], ..world.request(text) };
    let (result, events) = world.try_build(request).await;
    let error = result.unwrap_err();
    let told = format!("{error} {}", crate::world::said(&events));
    assert!(told.contains("No space left on device"), "{told}");
    assert_eq!(error.lines, Some((3, 3)));
    // A layer that fits unpacked, but not a second time as an archive.
    let (result, _) = world.try_build(world.request("FROM base\nRUN dd if=/dev/urandom of=/b bs=1M count=12")).await;
    assert!(result.unwrap_err().to_string().contains("No space left on device"));
    assert!(world.content.image("never").is_err());
    assert_eq!(world.build("FROM base\nRUN echo fits > /x").await.cached().len(), 0);
    world.end().await;
}
