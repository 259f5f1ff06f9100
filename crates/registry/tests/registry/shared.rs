//! One store for the engine and the registry.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use engine::content::{Content, ManifestError, PullOptions};

use crate::world::{Client, OCI_MANIFEST, config_of, layer_of, manifest_of, world};

/// The blobs of a store, with what tells a copy from the same file.
fn blobs(content: &Content) -> BTreeMap<String, (u64, u64)> {
    let entries = std::fs::read_dir(content.root().join("blobs/sha256")).unwrap();
    entries
        .map(|e| {
            let entry = e.unwrap();
            let metadata = entry.metadata().unwrap();
            (entry.file_name().into_string().unwrap(), (metadata.ino(), metadata.ctime_nsec() as u64))
        })
        .collect()
}

fn docker_archive(dir: &std::path::Path, text: &str) -> std::path::PathBuf {
    let layout = dir.join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    for bytes in [config_of(text), layer_of(text), manifest_of(text)] {
        std::fs::write(layout.join("blobs/sha256").join(engine::content::Digest::of(&bytes).hex()), bytes).unwrap();
    }
    let manifest = manifest_of(text);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": OCI_MANIFEST, "digest": engine::content::Digest::of(&manifest), "size": manifest.len()}]});
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    layout
}

#[tokio::test]
async fn pushing_an_image_of_the_engine_and_pulling_it_again_copies_nothing() {
    let world = world().await;
    let layout = docker_archive(world.dir.path(), "text");
    let image = world.content.import(&layout, Some("todo:latest")).unwrap().remove(0);
    let before = blobs(&world.content);
    let registry = world.client.address.to_string();
    // The engine's own way, which `docker push` and `hythe push` take…
    let repository = world.content.repository("todo").unwrap();
    let stored = repository.publish("todo:latest", "v1").unwrap();
    assert_eq!(stored.digest, image.manifest);
    // …and a pull over HTTP by the registry's name.
    let pulled = world.content.pull(&format!("{registry}/todo:v1"), &PullOptions::default()).await.unwrap();
    assert_eq!((&pulled.id, &pulled.manifest), (&image.id, &image.manifest));
    assert_eq!(blobs(&world.content), before, "the same files, none written again");
    assert!(matches!(repository.publish("none", "v1"), Err(ManifestError::Content(_))));
    // Over HTTP, other clients see it.
    let reply = world.client.get("/v2/todo/manifests/v1").await.is(200);
    assert_eq!(reply.header("docker-content-digest"), image.manifest.as_str());
    world.client.get(&format!("/v2/todo/blobs/{}", image.id)).await.is(200);
}

#[tokio::test]
async fn an_image_that_the_engine_has_is_not_listed_until_it_is_pushed() {
    let world = world().await;
    let layout = docker_archive(world.dir.path(), "text");
    let image = world.content.import(&layout, Some("localhost:5000/todo:v1")).unwrap().remove(0);
    assert_eq!(world.client.get("/v2/_catalog").await.json()["repositories"], serde_json::json!([]));
    world.client.get("/v2/todo/manifests/v1").await.fails(404, "NAME_UNKNOWN");
    world.client.head(&format!("/v2/todo/blobs/{}", image.id)).await.is(404);
}

#[tokio::test]
async fn removing_the_engines_name_leaves_the_registrys_and_the_other_way_round() {
    let world = world().await;
    let pushed = world.client.image("todo", "v1", "text").await;
    let name = format!("{}/todo:v1", world.client.address);
    let pull = async || world.content.pull(&name, &PullOptions::default()).await.unwrap();
    pull().await;
    assert!(world.content.remove_image(&name, false).unwrap().1);
    world.client.get(&format!("/v2/todo/blobs/{}", pushed.layer)).await.is(200);
    let image = pull().await;
    world.client.delete(&format!("/v2/todo/manifests/{}", pushed.digest)).await.is(202);
    world.registry.collect().await.unwrap();
    assert!(world.content.prepare_snapshot("c", &image).is_ok());
    assert!([&pushed.digest, &pushed.config, &pushed.layer].iter().all(|d| world.content.has_blob(d)));
}

#[tokio::test]
async fn blobs_that_are_here_already_are_stored_once_however_they_come() {
    let world = world().await;
    let layout = docker_archive(world.dir.path(), "text");
    world.content.import(&layout, Some("todo:latest")).unwrap();
    let count = blobs(&world.content).len();
    // A client that does not know better uploads all of it.
    Client::image(&world.client, "todo", "v1", "text").await;
    assert_eq!(blobs(&world.content).len(), count);
    assert_eq!(
        std::fs::read_dir(world.content.root().join("registry/todo/_uploads")).map_or(0, Iterator::count),
        0,
        "one that is empty may be gone"
    );
}
