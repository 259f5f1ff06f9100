//! `kill -9` at any point of a push.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use engine::content::{Content, Digest};
use http::{HeaderMap, Method};

use crate::world::{Client, OCI_MANIFEST, config_of, layer_of, manifest_of, noise};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &std::path::Path) -> (Process, Client) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_registry-serve")).arg(dir).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Process(child), Client { address: line.trim().parse().unwrap(), headers: HeaderMap::new() })
}

/// Pushes images one after the other until the registry is gone; returns those whose manifest was acknowledged.
async fn push_until_it_dies(
    client: Client,
    worker: usize,
    acknowledged: std::sync::Arc<std::sync::atomic::AtomicUsize>,
) -> Vec<(String, Digest)> {
    let mut done = Vec::new();
    for round in 0.. {
        let text = String::from_utf8_lossy(&noise(20_000, (worker * 1000 + round) as u64)).into_owned();
        let repository = format!("r{worker}");
        for bytes in [config_of(&text), layer_of(&text)] {
            let digest = Digest::of(&bytes);
            let path = format!("/v2/{repository}/blobs/uploads/");
            let Ok(reply) = client.try_send(Method::POST, &path, &[], "").await else { return done };
            let location = reply.is(202).header("location").to_owned();
            let half = bytes.len() / 2;
            let Ok(reply) = client.try_send(Method::PATCH, &location, &[], bytes[..half].to_vec()).await else {
                return done;
            };
            reply.is(202);
            let path = format!("{location}?digest={digest}");
            let Ok(reply) = client.try_send(Method::PUT, &path, &[], bytes[half..].to_vec()).await else { return done };
            reply.is(201);
        }
        let manifest = manifest_of(&text);
        let digest = Digest::of(&manifest);
        let path = format!("/v2/{repository}/manifests/t{round}");
        let kind = [("content-type", OCI_MANIFEST)];
        match client.try_send(Method::PUT, &path, &kind, manifest).await {
            Ok(reply) => drop(reply.is(201)),
            Err(_) => return done,
        }
        acknowledged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        done.push((path, digest));
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_was_acknowledged_survives_a_kill_and_the_store_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<(String, Digest)> = Vec::new();
    for kill in 0..6 {
        let (process, client) = start(dir.path());
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let workers: Vec<_> =
            (0..4).map(|w| tokio::spawn(push_until_it_dies(client.clone(), kill * 10 + w, count.clone()))).collect();
        // Not before something was pushed, and each time at another moment.
        crate::world::eventually("images are pushed", async || {
            count.load(std::sync::atomic::Ordering::Relaxed) > kill * 3
        })
        .await;
        drop(process);
        for worker in workers {
            all.extend(worker.await.unwrap());
        }
    }
    assert!(all.len() > 10);
    let (process, client) = start(dir.path());
    for (path, digest) in &all {
        let reply = client.get(path).await.is(200);
        assert_eq!(Digest::of(&reply.body), *digest);
        let manifest = reply.json();
        let repository = path.split('/').nth(2).unwrap();
        for blob in [&manifest["config"], &manifest["layers"][0]] {
            let blob = blob["digest"].as_str().unwrap();
            let body = client.get(&format!("/v2/{repository}/blobs/{blob}")).await.is(200).body;
            assert_eq!(Digest::of(&body).as_str(), blob);
        }
    }
    // Every blob is what its name says, also those that nobody was told about.
    let content = Content::open(dir.path()).unwrap();
    for entry in std::fs::read_dir(content.root().join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(Digest::of(&std::fs::read(entry.path()).unwrap()).hex(), entry.file_name().to_str().unwrap());
    }
    drop(process);
    // Once the promises are over, only what manifests need is left, besides uploads that may still be resumed.
    for promise in std::fs::read_dir(content.root().join("registry/_promises")).unwrap() {
        std::fs::remove_file(promise.unwrap().path()).unwrap();
    }
    content.collect().unwrap();
    let mut manifests = std::collections::HashSet::new();
    for repository in content.repositories().unwrap() {
        let repository = content.repository(&repository).unwrap();
        for tag in repository.tags().unwrap() {
            manifests.insert(repository.tag(&tag).unwrap().unwrap().digest);
        }
    }
    let blobs = std::fs::read_dir(content.root().join("blobs/sha256")).unwrap().count();
    // A kill between a manifest and its tag leaves one untagged, which has its two blobs as well.
    assert!(
        manifests.len() >= all.len() && blobs >= manifests.len() * 3 && blobs.is_multiple_of(3),
        "{blobs} {}",
        manifests.len()
    );
}
