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
    let request = |n: u32| BuildRequest { tags: vec!["same".into()], ..world.request(&format!("FROM base\nRUN echo {n} > /n")) };
    let (one, two) = tokio::join!(world.try_build(request(1)), world.try_build(request(2)));
    let ids = [one.0.unwrap().image, two.0.unwrap().image];
    assert!(ids.contains(&world.content.image("same").unwrap().id.to_string()));
    for id in &ids {
        assert!(world.content.image(id).is_ok());
    }
    world.end().await;
}
