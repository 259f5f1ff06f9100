//! What is done anew, and what is not.

use std::fs;

use builder::{BuildRequest, Event};

use crate::world::World;

const STEPS: &str = "FROM base\nENV A=1\nCOPY one /one\nRUN cat /one > /seen\nCOPY two /two\nRUN cat /two >> /seen\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_same_build_again_does_nothing_and_gives_the_same_image() {
    let world = World::new().await;
    world.file("one", "1\n");
    world.file("two", "2\n");
    let first = world.build(STEPS).await;
    assert_eq!(first.cached(), Vec::<String>::new());
    assert_eq!(world.read(&first.image, "seen"), "1\n2\n");
    let second = world.build(STEPS).await;
    assert_eq!(second.cached().len(), 5);
    assert_eq!(second.output.image, first.output.image);
    assert!(!second.events.iter().any(|event| matches!(event, Event::Running { .. })));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_counts_from_its_step_on_and_a_touched_one_does_not() {
    let world = World::new().await;
    let one = world.file("one", "1\n");
    world.file("two", "2\n");
    world.build(STEPS).await;
    fs::File::options().write(true).open(&one).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(world.build(STEPS).await.cached().len(), 5);
    world.file("two", "changed\n");
    let changed = world.build(STEPS).await;
    assert_eq!(changed.cached(), ["ENV A=1", "COPY one /one", "RUN cat /one > /seen"]);
    assert_eq!(world.read(&changed.image, "seen"), "1\nchanged\n");
    // Back to what it was: known.
    world.file("two", "2\n");
    assert_eq!(world.build(STEPS).await.cached().len(), 5);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&one, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.build(STEPS).await.cached(), ["ENV A=1"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_step_uses_change_nothing() {
    let world = World::new().await;
    world.file("d/a", "a");
    world.file("d/ignored.log", "1");
    world.file(".dockerignore", "**/*.log\n");
    world.build("FROM base\nCOPY d /d").await;
    world.file("d/ignored.log", "2");
    world.file("beside", "x");
    assert_eq!(world.build("FROM base\nCOPY d /d").await.cached(), ["COPY d /d"]);
    world.file("d/new", "n");
    assert!(world.build("FROM base\nCOPY d /d").await.cached().is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_does_all_anew_and_the_next_build_knows_it() {
    let world = World::new().await;
    let text = "FROM base\nRUN cat /proc/sys/kernel/random/uuid > /id";
    let first = world.build(text).await;
    let second = world.build_with(BuildRequest { no_cache: true, ..world.request(text) }).await;
    assert_ne!(world.read(&first.image, "id"), world.read(&second.image, "id"));
    let third = world.build(text).await;
    assert_eq!(third.output.image, second.output.image);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_count_where_they_are_declared_and_proxies_never() {
    let world = World::new().await;
    let text = "FROM base\nRUN echo before\nARG V=1\nRUN echo $V > /v";
    let with = |name: &str, value: &str| {
        let mut request = world.request(text);
        request.args.insert(name.into(), value.into());
        request
    };
    world.build(text).await;
    let other = world.build_with(with("V", "2")).await;
    assert_eq!(other.cached(), ["RUN echo before", "ARG V=1"]);
    assert_eq!(world.read(&other.image, "v"), "2\n");
    assert!(other.history().contains(&"|1 V=2 /bin/sh -c echo $V > /v".to_owned()), "{:?}", other.history());
    let proxied = world.build_with(with("HTTP_PROXY", "http://127.0.0.1:1")).await;
    assert_eq!(proxied.cached().len(), 3);
    let unused = world.build_with(with("NOBODY", "x")).await;
    assert!(unused.classic().contains("[Warning] One or more build-args [NOBODY] were not consumed\n"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_are_known_again_by_what_is_copied_from_them() {
    let world = World::new().await;
    world.file("in", "1");
    let text = "FROM base AS make\nCOPY in /in\nRUN cat /proc/sys/kernel/random/uuid > /noise && cat /in > /out\nFROM base\nCOPY --from=make /out /out\nRUN true";
    world.build(text).await;
    // Another file, but the same outcome: the second stage does not notice.
    world.file("in2", "x");
    let text = text.replace("COPY in /in", "COPY in in2 /");
    let built = world.build(&text).await;
    assert_eq!(built.cached(), ["COPY --from=make /out /out", "RUN true"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_survives_its_images_until_it_is_pruned() {
    let world = World::new().await;
    let text = "FROM base\nRUN echo x > /x";
    let request = BuildRequest { tags: vec!["made".into()], ..world.request(text) };
    world.build_with(request).await;
    world.content.remove_image("made", false).unwrap();
    assert_eq!(world.build(text).await.cached().len(), 1);
    assert_eq!(world.builder.cache().len(), 1);
    for image in world.content.images().unwrap().iter().filter(|image| image.tags.is_empty()) {
        world.content.remove_image(image.id.as_str(), false).unwrap();
    }
    assert_eq!(world.builder.prune(std::time::Duration::ZERO, 0).unwrap().len(), 1);
    assert_eq!(fs::read_dir(world.path("content/layers")).unwrap().count(), 1);
    assert!(world.build(text).await.cached().is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_taken_from_an_image_that_began_alike() {
    let world = World::new().await;
    world.file("one", "1\n");
    world.file("two", "2\n");
    let first = world.build_with(BuildRequest { tags: vec!["source".into()], ..world.request(STEPS) }).await;
    world.builder.prune(std::time::Duration::ZERO, 0).unwrap();
    let from = |text: &str| BuildRequest { cache_from: vec!["source".into()], ..world.request(text) };
    let again = world.build_with(from(STEPS)).await;
    assert_eq!((again.cached().len(), again.output.image), (5, first.output.image));
    world.builder.prune(std::time::Duration::ZERO, 0).unwrap();
    world.file("two", "other\n");
    assert_eq!(world.build_with(from(STEPS)).await.cached().len(), 3);
    assert!(world.build_with(from("FROM base\nENV A=2\nCOPY one /one")).await.cached().is_empty());
    let absent = BuildRequest { cache_from: vec!["127.0.0.1:1/absent".into()], ..world.request("FROM base\nENV A=3") };
    assert!(world.build_with(absent).await.classic().contains("nothing is taken from 127.0.0.1:1/absent"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_layer_is_known_on_another_base() {
    let world = World::new().await;
    world.file("one", "1");
    world.build("FROM base\nCOPY --link one /dir/one").await;
    let built = world.build("FROM base\nENV A=1\nCOPY --link one /dir/one").await;
    assert_eq!(built.cached(), ["COPY --link one /dir/one"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_taken_to_another_machine_in_a_directory_saves_the_work_there() {
    let (one, two) = (World::new().await, World::new().await);
    let text = "FROM fixed AS tools\nRUN echo tool > /tool\nFROM fixed\nENV A=1\nCOPY --from=tools /tool /tool\nCOPY f /f\nRUN cat /tool /f > /both\n";
    let directory = one.path("cache");
    for world in [&one, &two] {
        world.file("f", "f\n");
        let base = world.path("context/base/bin");
        fs::create_dir_all(&base).unwrap();
        for name in ["sh", "cat"] {
            fs::copy("/bin/busybox", base.join(name)).unwrap();
        }
        let fixed = BuildRequest {
            source_date_epoch: Some(0),
            tags: vec!["fixed".into()],
            ..world.request("FROM scratch\nCOPY base /")
        };
        world.build_with(fixed).await;
    }
    let write = BuildRequest { cache_to: Some(directory.clone()), ..one.request(text) };
    let first = one.build_with(write).await;
    let read = || BuildRequest { cache_directories: vec![directory.clone()], ..two.request(text) };
    let second = two.build_with(read()).await;
    assert_eq!(second.cached().len(), 5, "{:?}", second.events);
    assert_eq!(second.output.image, first.output.image);
    assert_eq!(two.read(&second.image, "both"), "tool\nf\n");
    assert!(two.content.images().unwrap().iter().all(|image| image.tags.iter().all(|tag| !tag.contains("cache-of"))));
    // A layer that was tampered with is not believed.
    let layer =
        fs::read_dir(directory.join("blobs/sha256")).unwrap().flatten().max_by_key(|e| e.metadata().unwrap().len());
    fs::write(layer.unwrap().path(), "other bytes").unwrap();
    let three = World::new().await;
    let warned =
        three.build_with(BuildRequest { cache_directories: vec![directory], ..three.request("FROM base\nENV A=1") });
    let warned = warned.await;
    assert!(
        warned.events.iter().any(|e| matches!(e, Event::Warning(text) if text.starts_with("nothing is taken from")))
    );
    for world in [one, two, three] {
        world.end().await;
    }
}
