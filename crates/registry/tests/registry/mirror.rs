//! A registry that fetches from another what it does not have.

use std::time::Duration;

use engine::content::{Content, Digest, PullOptions};
use http::Method;
use registry::{Mirror, hash_password};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::world::{World, eventually, noise, world, world_with};

async fn mirror_of(upstream: &World) -> World {
    let at = format!("http://{}", upstream.client.address);
    world_with(|config| config.mirror = Some(Mirror::at(&at))).await
}

#[tokio::test]
async fn what_is_missing_is_fetched_and_kept() {
    let upstream = world().await;
    let image = upstream.client.image("team/app", "v1", "text").await;
    let mirror = mirror_of(&upstream).await;
    let head = mirror.client.head(&format!("/v2/team/app/blobs/{}", image.layer)).await.is(200);
    let reply = mirror.client.get("/v2/team/app/manifests/v1").await.is(200);
    assert_eq!(reply.header("docker-content-digest"), image.digest.as_str());
    assert_eq!(reply.body, image.manifest);
    let layer = mirror.client.get(&format!("/v2/team/app/blobs/{}", image.layer)).await.is(200);
    assert_eq!(Digest::of(&layer.body), image.layer);
    assert_eq!(head.header("content-length"), layer.body.len().to_string());
    mirror.client.get(&format!("/v2/team/app/blobs/{}", image.config)).await.is(200);
    assert!([&image.layer, &image.config, &image.digest].iter().all(|d| mirror.content.has_blob(d)));
    // What upstream does not have is not there either.
    mirror.client.get("/v2/team/app/manifests/v9").await.fails(404, "MANIFEST_UNKNOWN");
    mirror.client.get("/v2/none/manifests/v1").await.fails(404, "NAME_UNKNOWN");
    mirror.client.get(&format!("/v2/team/app/blobs/{}", Digest::of(b"?"))).await.fails(404, "BLOB_UNKNOWN");
    // The engine pulls through it, and what it kept survives a collection.
    mirror.registry.collect().await.unwrap();
    let name = format!("{}/team/app:v1", mirror.client.address);
    assert_eq!(mirror.content.pull(&name, &PullOptions::default()).await.unwrap().manifest, image.digest);
    // When upstream is gone, what is here is served.
    drop(upstream);
    eventually("what is here is served", async || mirror.client.get("/v2/team/app/manifests/v1").await.status == 200)
        .await;
    mirror.client.get(&format!("/v2/team/app/blobs/{}", image.layer)).await.is(200);
    mirror.client.get("/v2/team/app/manifests/v2").await.fails(502, "UNAVAILABLE");
}

#[tokio::test]
async fn a_tag_that_moves_upstream_moves_here_unless_it_was_pushed_here() {
    let upstream = world().await;
    upstream.client.image("app", "latest", "one").await;
    let mirror = mirror_of(&upstream).await;
    mirror.client.get("/v2/app/manifests/latest").await.is(200);
    let two = upstream.client.image("app", "latest", "two").await;
    let current =
        async || mirror.client.get("/v2/app/manifests/latest").await.header("docker-content-digest").to_owned();
    assert_eq!(current().await, two.digest.as_str());
    let own = mirror.client.image("app", "latest", "own").await;
    assert_eq!(current().await, own.digest.as_str());
}

#[tokio::test]
async fn a_push_may_count_on_blobs_that_only_upstream_has() {
    let upstream = world().await;
    let image = upstream.client.image("app", "v1", "text").await;
    let mirror = mirror_of(&upstream).await;
    // As clients do: ask for each blob, and upload none that is there.
    for digest in [&image.config, &image.layer] {
        mirror.client.head(&format!("/v2/app/blobs/{digest}")).await.is(200);
    }
    mirror.client.put("/v2/app/manifests/own", crate::world::OCI_MANIFEST, image.manifest.clone()).await.is(201);
    drop(upstream);
    assert!(mirror.content.has_blob(&image.layer));
    mirror.client.get("/v2/app/manifests/own").await.is(200);
    let unknown = crate::world::manifest_of("never pushed");
    let reply = mirror.client.put("/v2/app/manifests/x", crate::world::OCI_MANIFEST, unknown).await;
    assert!(matches!(reply.status.as_u16(), 400 | 502), "{reply:?}");
}

#[tokio::test]
async fn the_upstream_registry_may_want_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    std::fs::write(&file, format!("ann:{}\n", hash_password("secret"))).unwrap();
    let mut upstream = world_with(|config| config.htpasswd = Some(file)).await;
    upstream.client.headers.insert("authorization", "Basic YW5uOnNlY3JldA==".parse().unwrap());
    let image = upstream.client.image("app", "v1", "text").await;
    let stranger = mirror_of(&upstream).await;
    stranger.client.get("/v2/app/manifests/v1").await.fails(403, "DENIED");
    let at = Mirror::at(&format!("http://ann:secret@{}", upstream.client.address));
    let friend = world_with(|config| config.mirror = Some(at)).await;
    friend.client.get("/v2/app/manifests/v1").await.is(200);
    friend.client.get(&format!("/v2/app/blobs/{}", image.layer)).await.is(200);
}

/// An upstream registry whose one blob comes by the hand of the test.
async fn slow_upstream(size: usize) -> (String, tokio::sync::mpsc::Sender<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let receiver = receiver.clone();
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    if !head.contains("/blobs/") {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
                        continue;
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                    // The mirror asks once for the length and closes; only who stays is given the bytes.
                    let mut receiver = receiver.lock().await;
                    let mut byte = [0];
                    if tokio::time::timeout(Duration::from_millis(200), stream.read(&mut byte)).await.is_ok() {
                        return;
                    }
                    while let Some(bytes) = receiver.recv().await {
                        if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                    return;
                }
            });
        }
    });
    (format!("http://{address}"), sender)
}

#[tokio::test]
async fn clients_read_a_blob_while_it_arrives_and_it_is_fetched_once() {
    let bytes = noise(1_000_000, 21);
    let digest = Digest::of(&bytes);
    let (at, feed) = slow_upstream(bytes.len()).await;
    let mirror = world_with(|config| config.mirror = Some(Mirror::at(&at))).await;
    let mut first = tokio::net::TcpStream::connect(mirror.client.address).await.unwrap();
    first.write_all(format!("GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    feed.send(bytes[..400_000].to_vec()).await.unwrap();
    let mut got = Vec::new();
    let mut buffer = vec![0; 65536];
    let head = loop {
        let n = first.read(&mut buffer).await.unwrap();
        assert!(n > 0, "closed early");
        got.extend(&buffer[..n]);
        let end = got.windows(4).position(|w| w == b"\r\n\r\n");
        // Less than half of it exists anywhere but in this test, and the client has it.
        if let Some(end) = end.filter(|end| got.len() - end - 4 >= 399_000) {
            break end + 4;
        }
    };
    assert!(String::from_utf8_lossy(&got[..head]).contains("content-length: 1000000"));
    let path = format!("/v2/app/blobs/{digest}");
    let range = [("range", "bytes=900000-900009")];
    let (second, third, ()) =
        tokio::join!(mirror.client.get(&path), mirror.client.send(Method::GET, &path, &range, ""), async {
            feed.send(bytes[400_000..].to_vec()).await.unwrap()
        });
    assert!(second.is(200).body == bytes);
    assert!(third.is(206).body == bytes[900_000..900_010]);
    while got.len() < head + bytes.len() {
        let n = first.read(&mut buffer).await.unwrap();
        assert!(n > 0, "closed early");
        got.extend(&buffer[..n]);
    }
    assert!(got[head..] == bytes);
    assert!(mirror.content.has_blob(&digest));
}

#[tokio::test]
async fn nobody_is_given_the_whole_of_a_blob_that_is_not_what_it_is_called() {
    let bytes = noise(1_000_000, 22);
    let digest = Digest::of(b"something else");
    let (at, feed) = slow_upstream(bytes.len()).await;
    let mirror = world_with(|config| config.mirror = Some(Mirror::at(&at))).await;
    let path = format!("/v2/app/blobs/{digest}");
    let (reply, ()) = tokio::join!(mirror.client.try_send(Method::GET, &path, &[], ""), async {
        feed.send(bytes.clone()).await.unwrap()
    });
    assert!(reply.is_err(), "the answer breaks off before its end");
    assert!(!mirror.content.has_blob(&digest));
    let left = |content: &Content| std::fs::read_dir(content.root().join("ingest")).unwrap().count();
    assert_eq!(left(&mirror.content), 0);
}

#[tokio::test]
async fn beyond_its_limit_the_longest_unused_goes_and_never_what_is_in_use() {
    let upstream = world().await;
    let mut images = Vec::new();
    for n in 0..4_u8 {
        // Nothing that gzip makes small.
        let text: String = noise(20_000, u64::from(n)).iter().map(|byte| char::from(b' ' + byte % 90)).collect();
        images.push(upstream.client.image("app", &format!("v{n}"), &text).await);
    }
    let size = images.iter().filter_map(|image| upstream.content.blob_size(&image.layer)).max().unwrap();
    let at = format!("http://{}", upstream.client.address);
    let mirror = world_with(|config| {
        let limit = Some(size * 5 / 2);
        config.mirror = Some(Mirror { limit, grace: Duration::ZERO, ..Mirror::at(&at) });
    })
    .await;
    let fetch = async |n: usize| {
        mirror.client.get(&format!("/v2/app/manifests/v{n}")).await.is(200);
        mirror.client.get(&format!("/v2/app/blobs/{}", images[n].layer)).await.is(200);
        mirror.client.get(&format!("/v2/app/blobs/{}", images[n].config)).await.is(200);
    };
    // The first is an image of the engine's, too.
    let name = format!("{}/app:v0", mirror.client.address);
    mirror.content.pull(&name, &PullOptions::default()).await.unwrap();
    for n in 1..4 {
        fetch(n).await;
    }
    eventually("the longest unused is gone", async || !mirror.content.has_blob(&images[1].layer)).await;
    for (n, image) in images.iter().enumerate().filter(|(n, _)| *n != 1) {
        assert!(mirror.content.has_blob(&image.layer), "{n} is here");
    }
    // It comes back when it is wanted, and another goes.
    fetch(1).await;
    eventually("the next is gone", async || !mirror.content.has_blob(&images[2].layer)).await;
    assert!(mirror.content.has_blob(&images[0].layer) && mirror.content.has_blob(&images[1].layer));
}
