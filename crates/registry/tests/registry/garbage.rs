//! Garbage goes, and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use engine::content::{ContentError, Digest, PullOptions, Upload};
use http::Method;

use crate::world::{OCI_MANIFEST, config_of, eventually, layer_of, manifest_of, noise, world, world_with};

#[tokio::test]
async fn a_deleted_manifest_takes_its_blobs_along_but_not_those_that_others_need() {
    let world = world_with(|config| config.keep = Duration::ZERO).await;
    let one = world.client.image("a", "1", "one").await;
    let other = world.client.image("b", "1", "one").await;
    assert_eq!(one.digest, other.digest);
    let two = world.client.image("a", "2", "two").await;
    world.client.delete(&format!("/v2/a/manifests/{}", two.digest)).await.is(202);
    eventually("the blobs go by themselves", async || {
        ![&two.digest, &two.config, &two.layer].iter().any(|d| world.content.has_blob(d))
    })
    .await;
    world.client.delete(&format!("/v2/a/manifests/{}", one.digest)).await.is(202);
    world.registry.collect().await.unwrap();
    world.client.get(&format!("/v2/b/blobs/{}", one.layer)).await.is(200);
    world.client.delete(&format!("/v2/b/manifests/{}", one.digest)).await.is(202);
    eventually("nothing is left", async || !world.content.has_blob(&one.layer)).await;
    eventually("no trace is left", async || {
        let _ = world.registry.collect().await;
        let registry = world.content.root().join("registry");
        !registry.join("a").exists() && !registry.join("b").exists()
    })
    .await;
}

#[tokio::test]
async fn an_untagged_manifest_stays_and_so_does_what_an_index_needs() {
    let world = world_with(|config| config.keep = Duration::ZERO).await;
    let image = world.client.image("a", "1", "one").await;
    world.client.delete("/v2/a/manifests/1").await.is(202);
    world.registry.collect().await.unwrap();
    world.client.get(&format!("/v2/a/manifests/{}", image.digest)).await.is(200);
    world.client.get(&format!("/v2/a/blobs/{}", image.config)).await.is(200);
}

#[tokio::test]
async fn a_blob_that_a_client_was_told_is_here_stays_until_the_promise_ends() {
    let world = world_with(|config| config.keep = Duration::from_secs(3600)).await;
    let digest = world.client.blob("a", b"waiting for its manifest").await;
    let done = world.registry.collect().await.unwrap();
    assert_eq!(done.blobs, 0);
    let due = done.due.expect("somebody has to come back for it").duration_since(SystemTime::now()).unwrap();
    assert!(due > Duration::from_secs(3500) && due <= Duration::from_secs(3600), "{due:?}");
    // Another registry on this store promises less, which changes nothing.
    let content = world.content.clone();
    let hasty = world_with(|config| (config.content, config.keep) = (content, Duration::ZERO)).await;
    hasty.client.head(&format!("/v2/a/blobs/{digest}")).await.is(200);
    assert_eq!(hasty.registry.collect().await.unwrap().blobs, 0);
    // HEAD is a promise too: the client will not upload what is here.
    let image = world.client.image("a", "1", "one").await;
    world.client.head(&format!("/v2/a/blobs/{}", image.layer)).await.is(200);
    world.client.delete(&format!("/v2/a/manifests/{}", image.digest)).await.is(202);
    world.registry.collect().await.unwrap();
    world.client.put("/v2/a/manifests/again", OCI_MANIFEST, image.manifest).await.is(201);
}

#[tokio::test]
async fn what_is_promised_for_a_moment_goes_after_that_without_being_asked_for() {
    let world = world_with(|config| config.keep = Duration::from_millis(300)).await;
    let image = world.client.image("a", "1", "one").await;
    world.client.delete(&format!("/v2/a/manifests/{}", image.digest)).await.is(202);
    eventually("the promise ends", async || !world.content.has_blob(&image.layer)).await;
}

#[tokio::test]
async fn an_upload_under_way_stays_and_one_given_up_goes() {
    let world = world_with(|config| config.keep = Duration::ZERO).await;
    let location = world.client.begin("a").await;
    world.client.send(Method::PATCH, &location, &[], "half").await.is(202);
    world.registry.collect().await.unwrap();
    assert_eq!(world.client.get(&location).await.is(204).header("range"), "0-3");
    let id = location.rsplit('/').next().unwrap();
    let file =
        std::fs::File::options().write(true).open(world.content.root().join("registry/a/_uploads").join(id)).unwrap();
    file.set_modified(SystemTime::now() - Upload::EXPIRY - Duration::from_secs(60)).unwrap();
    world.registry.collect().await.unwrap();
    world.client.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
}

/// Pushes, deletions, pulls, removals and collections all at once: no push that did everything right may fail, and
/// what was acknowledged is there, whole, at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_never_lose_a_blob_to_a_collection_at_the_same_time() {
    const WORKERS: usize = 6;
    const ROUNDS: usize = 12;
    let world = Arc::new(world().await);
    let stop = Arc::new(AtomicBool::new(false));
    let collector = tokio::spawn({
        let (world, stop) = (world.clone(), stop.clone());
        async move {
            let mut runs = 0;
            while !stop.load(Ordering::Relaxed) {
                let done = world.registry.collect().await.unwrap();
                runs += usize::from(!done.postponed);
            }
            runs
        }
    });
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let world = world.clone();
            tokio::spawn(async move {
                let (client, repository) = (&world.client, format!("r{}", worker % 3));
                for round in 0..ROUNDS {
                    // Few different images, so that workers push, need and delete the same ones.
                    let text = format!("image {}", (worker + round) % 4);
                    for bytes in [config_of(&text), layer_of(&text)] {
                        let digest = Digest::of(&bytes);
                        let there = client.head(&format!("/v2/{repository}/blobs/{digest}")).await;
                        if there.status != 200 {
                            client.blob(&repository, &bytes).await;
                        }
                    }
                    let manifest = manifest_of(&text);
                    let digest = Digest::of(&manifest);
                    let reply =
                        client.put(&format!("/v2/{repository}/manifests/w{worker}"), OCI_MANIFEST, manifest).await;
                    reply.is(201);
                    match round % 3 {
                        0 => drop(client.delete(&format!("/v2/{repository}/manifests/{digest}")).await),
                        1 => {
                            let own = format!("{}/{repository}:w{worker}", client.address);
                            match world.content.pull(&own, &PullOptions::default()).await {
                                Ok(_) => drop(world.content.remove_image(&own, false)),
                                // Another worker deleted it.
                                Err(ContentError::NotInRegistry { .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                        _ => {}
                    }
                }
                // The last one is this worker's alone and stays.
                let text = format!("last of {worker} {}", noise(8, worker as u64).len());
                (repository.clone(), client.image(&repository, &format!("last{worker}"), &text).await)
            })
        })
        .collect();
    let mut last = Vec::new();
    for worker in workers {
        last.push(worker.await.unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    assert!(collector.await.unwrap() > 0, "collections did take place");
    for (repository, image) in last {
        world.client.get(&format!("/v2/{repository}/manifests/{}", image.digest)).await.is(200);
        for digest in [&image.config, &image.layer] {
            let body = world.client.get(&format!("/v2/{repository}/blobs/{digest}")).await.is(200).body;
            assert_eq!(Digest::of(&body), *digest);
        }
    }
}
