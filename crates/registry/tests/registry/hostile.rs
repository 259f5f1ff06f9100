//! Clients that lie, dawdle and vanish, and a disk that is full.

use std::time::Duration;

use engine::content::{Content, Digest};
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{eventually, noise, world, world_with};

/// Sends raw text and returns the answer's head (all that came, if the connection was closed before).
async fn raw(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buffer).await.unwrap_or(0) {
            0 => break,
            n => answer.extend(&buffer[..n]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn paths_that_try_to_leave_are_names_that_are_none() {
    let world = world().await;
    std::fs::write(world.dir.path().join("secret"), "secret").unwrap();
    for name in
        ["..", "a/..", "%2e%2e/%2e%2e", ".", "a//b", "A", "a_-b", "_tags", "a/_tags", "%00", "a%2f..%2f..", "\u{e9}"]
    {
        let name = name.replace('\u{e9}', "%C3%A9");
        let reply = world.client.post(&format!("/v2/{name}/blobs/uploads/")).await;
        reply.fails(400, "NAME_INVALID");
    }
    let long = "a/".repeat(127) + "aa";
    world.client.post(&format!("/v2/{long}/blobs/uploads/")).await.fails(400, "NAME_INVALID");
    world.client.post(&format!("/v2/{}/blobs/uploads/", &long[..255])).await.is(202);
    world.client.get("/v2/%ff/tags/list").await.fails(400, "NAME_INVALID");
    for id in
        ["..%2f..%2fsecret", "%2e%2e", "00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}"]
    {
        let reply = world.client.get(&format!("/v2/a/blobs/uploads/{id}")).await;
        assert!(matches!(reply.status.as_u16(), 400 | 404), "{id}: {reply:?}");
        world.client.get("/v2/a/tags/list").await.fails(404, "NAME_UNKNOWN");
    }
    assert!(!world.content.root().join("registry/_tags").exists());
}

#[tokio::test]
async fn a_repository_may_be_called_like_a_part_of_another() {
    let world = world().await;
    for name in ["a", "a/b", "a/manifests/b", "blobs/uploads", "a/tags/list"] {
        let image = world.client.image(name, "v1", name).await;
        world.client.get(&format!("/v2/{name}/manifests/v1")).await.is(200);
        world.client.get(&format!("/v2/{name}/blobs/{}", image.layer)).await.is(200);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_what_came_and_the_client_goes_on_from_there() {
    let world = world().await;
    let bytes = noise(2_000_000, 5);
    let location = world.client.begin("x").await;
    let mut stream = TcpStream::connect(world.client.address).await.unwrap();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes[..1_500_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let mut length = 0;
    eventually("what was sent is there", async || {
        let reply = world.client.get(&location).await.is(204);
        length = reply.header("range").strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        length == 1_500_000
    })
    .await;
    let range = format!("{length}-1999999");
    world.client.send(Method::PATCH, &location, &[("content-range", &range)], bytes[length..].to_vec()).await.is(202);
    let digest = Digest::of(&bytes);
    world.client.put(&format!("{location}?digest={digest}"), "a/b", "").await.is(201);
    assert!(world.client.get(&format!("/v2/x/blobs/{digest}")).await.is(200).body == bytes);
}

#[tokio::test]
async fn a_client_that_sends_nothing_any_more_is_let_go() {
    let world = world_with(|config| config.patience = Duration::from_millis(200)).await;
    let location = world.client.begin("x").await;
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this");
    let answer = raw(world.client.address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // What it sent is kept, and the upload is free for others.
    assert_eq!(world.client.get(&location).await.is(204).header("range"), "0-8");
    world.client.send(Method::PATCH, &location, &[], "more").await.is(202);
    let head = "PUT /v2/x/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
    let answer = raw(world.client.address, head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_any_more_is_let_go() {
    let world = world_with(|config| (config.patience, config.connections) = (Duration::from_millis(200), 1)).await;
    let bytes = noise(24 << 20, 7);
    let digest = world.client.blob("x", &bytes).await;
    let mut stream = TcpStream::connect(world.client.address).await.unwrap();
    let head = format!("GET /v2/x/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // It holds the only connection, which the next request waits for.
    world.client.get("/v2/").await.is(200);
    drop(stream);
}

#[tokio::test]
async fn requests_that_are_no_http_and_heads_without_end_are_refused() {
    let world = world().await;
    let answer = raw(world.client.address, "NOT HTTP AT ALL\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let endless = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = raw(world.client.address, &endless).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    let lengths = "POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    let answer = raw(world.client.address, lengths).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    world.client.get("/v2/").await.is(200);
}

#[tokio::test]
async fn two_clients_that_write_to_one_upload_do_not_mix_their_bytes() {
    let world = world().await;
    let location = world.client.begin("x").await;
    let piece = noise(500_000, 9);
    let send =
        async || world.client.send(Method::PATCH, &location, &[("content-range", "0-499999")], piece.clone()).await;
    let (one, two) = tokio::join!(send(), send());
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 416]);
    let digest = Digest::of(&piece);
    world.client.put(&format!("{location}?digest={digest}"), "a/b", "").await.is(201);
}

/// A file system of 4 MiB, unmounted whatever happens.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("small"), dir.path(), Some("tmpfs"), flags, Some("size=4m")).unwrap();
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_the_upload_goes_on_when_there_is_room() {
    let small = Small::mount();
    let content = Content::open(small.0.path().join("content")).unwrap();
    let world = world_with(|config| config.content = content.clone()).await;
    let ballast = small.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let bytes = noise(3 << 20, 11);
    let location = world.client.begin("x").await;
    world.client.send(Method::PATCH, &location, &[], bytes[..1 << 20].to_vec()).await.is(202);
    world.client.send(Method::PATCH, &location, &[], bytes[1 << 20..].to_vec()).await.fails(507, "UNKNOWN");
    std::fs::remove_file(&ballast).unwrap();
    let length = world.client.get(&location).await.is(204).header("range")[2..].parse::<usize>().unwrap() + 1;
    assert!((1 << 20..3 << 20).contains(&length));
    world.client.send(Method::PATCH, &location, &[], bytes[length..].to_vec()).await.is(202);
    let digest = Digest::of(&bytes);
    world.client.put(&format!("{location}?digest={digest}"), "a/b", "").await.is(201);
    assert!(world.client.get(&format!("/v2/x/blobs/{digest}")).await.is(200).body == bytes);
}
