//! Uploading and reading blobs, as the specification's sections on push and pull go.

use engine::content::Digest;
use http::Method;

use crate::world::{noise, world, world_with};

#[tokio::test]
async fn the_base_says_which_protocol_this_is() {
    let world = world().await;
    for path in ["/v2/", "/v2"] {
        let reply = world.client.get(path).await.is(200);
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
    }
    world.client.post("/v2/").await.fails(405, "UNSUPPORTED");
}

#[tokio::test]
async fn a_blob_is_pushed_with_post_then_put_and_read_back() {
    let world = world().await;
    let bytes = noise(3_000_000, 1);
    let digest = world.client.blob("a/b", &bytes).await;
    let path = format!("/v2/a/b/blobs/{digest}");
    let head = world.client.head(&path).await.is(200);
    assert_eq!((head.header("content-length"), head.header("docker-content-digest")), ("3000000", digest.as_str()));
    let reply = world.client.get(&path).await.is(200);
    assert_eq!(reply.header("content-length"), "3000000");
    assert!(reply.body == bytes);
    let etag = reply.header("etag").to_owned();
    world.client.send(Method::GET, &path, &[("if-none-match", &etag)], "").await.is(304);
}

#[tokio::test]
async fn a_blob_is_pushed_with_a_single_post() {
    let world = world().await;
    let digest = Digest::of(b"hello");
    let reply =
        world.client.send(Method::POST, &format!("/v2/x/blobs/uploads/?digest={digest}"), &[], "hello").await.is(201);
    assert_eq!(reply.header("location"), format!("/v2/x/blobs/{digest}"));
    assert_eq!(world.client.get(reply.header("location")).await.is(200).body, "hello");
    let wrong = Digest::of(b"other");
    let path = format!("/v2/x/blobs/uploads/?digest={wrong}");
    world.client.send(Method::POST, &path, &[], "hello").await.fails(400, "DIGEST_INVALID");
    world.client.head(&format!("/v2/x/blobs/{wrong}")).await.is(404);
    assert_eq!(
        std::fs::read_dir(world.dir.path().join("content/registry/x/_uploads")).map_or(0, Iterator::count),
        0,
        "one that is empty may be gone"
    );
}

#[tokio::test]
async fn a_client_may_choose_sha512() {
    let world = world().await;
    let digest = Digest::parse(&format!("sha512:{}", "0".repeat(128))).unwrap().again(b"hello");
    let upload = async |repository: &str, bytes: &'static str| {
        let location = world.client.begin(repository).await;
        world.client.put(&format!("{location}?digest={digest}"), "a/b", bytes).await
    };
    upload("x", "other").await.fails(400, "DIGEST_INVALID");
    upload("x", "hello").await.is(201);
    let reply = world.client.get(&format!("/v2/x/blobs/{digest}")).await.is(200);
    assert_eq!((&reply.body[..], reply.header("docker-content-digest")), (&b"hello"[..], digest.as_str()));
    let manifest = serde_json::json!({"schemaVersion": 2, "layers": [],
        "config": {"mediaType": "a/b", "digest": digest, "size": 5}})
    .to_string();
    let name = digest.again(manifest.as_bytes());
    let path = format!("/v2/x/manifests/{name}");
    let kind = crate::world::OCI_MANIFEST;
    world.client.put(&path, kind, manifest.clone()).await.is(201);
    world.client.put(&path, kind, manifest.replace("a/b", "a/c")).await.fails(400, "DIGEST_INVALID");
    assert_eq!(world.client.get(&path).await.is(200).body, manifest);
    // Collections know both kinds.
    std::fs::remove_dir_all(world.content.root().join("registry/_promises")).unwrap();
    assert_eq!(world.registry.collect().await.unwrap().blobs, 0);
    world.client.delete(&path).await.is(202);
    crate::world::eventually("it goes", async || !world.content.has_blob(&digest) && !world.content.has_blob(&name))
        .await;
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let world = world().await;
    let digest = world.client.blob("x", b"").await;
    let reply = world.client.get(&format!("/v2/x/blobs/{digest}")).await.is(200);
    assert!(reply.body.is_empty());
    assert_eq!(reply.header("content-length"), "0");
}

#[tokio::test]
async fn chunks_must_come_in_order_and_the_upload_tells_where_it_is() {
    let world = world().await;
    let bytes = noise(250_000, 2);
    let digest = Digest::of(&bytes);
    let location = world.client.begin("x").await;
    let chunk = async |range: &str, bytes: &[u8]| {
        world.client.send(Method::PATCH, &location, &[("content-range", range)], bytes.to_vec()).await
    };
    let reply = chunk("0-99999", &bytes[..100_000]).await.is(202);
    assert_eq!((reply.header("range"), reply.header("location")), ("0-99999", location.as_str()));
    // The same again, and one too far on.
    for range in ["0-99999", "150000-249999"] {
        let reply = chunk(range, &bytes[..100_000]).await.fails(416, "RANGE_INVALID");
        assert_eq!((reply.header("range"), reply.header("location")), ("0-99999", location.as_str()));
    }
    // A length that is not the range's, and what is no range.
    chunk("100000-100009", &bytes[100_000..100_005]).await.fails(400, "SIZE_INVALID");
    chunk("bytes", &bytes[100_000..100_005]).await.fails(400, "BLOB_UPLOAD_INVALID");
    let status = world.client.get(&location).await.is(204);
    assert_eq!(status.header("range"), "0-99999");
    assert!(!status.headers.contains_key("content-length"));
    chunk("100000-199999", &bytes[100_000..200_000]).await.is(202);
    let finish = format!("{location}?digest={digest}");
    let last = bytes[200_000..].to_vec();
    let wrong = [("content-range", "0-49999")];
    world.client.send(Method::PUT, &finish, &wrong, last.clone()).await.fails(416, "RANGE_INVALID");
    world.client.send(Method::PUT, &finish, &[("content-range", "200000-249999")], last).await.is(201);
    assert!(world.client.get(&format!("/v2/x/blobs/{digest}")).await.is(200).body == bytes);
    world.client.get(&location).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_goes_on_after_the_registry_was_started_anew() {
    let world = world().await;
    let location = world.client.begin("x").await;
    world.client.send(Method::PATCH, &location, &[], "hello, ").await.is(202);
    // Another registry on the same directory knows nothing of this one's memory.
    let content = world.content.clone();
    let other = world_with(|config| config.content = content).await;
    assert_eq!(other.client.get(&location).await.is(204).header("range"), "0-6");
    other.client.send(Method::PATCH, &location, &[], "wor").await.is(202);
    // And the first one notices that its own memory is out of date.
    world.client.send(Method::PATCH, &location, &[("content-range", "7-8")], "ld").await.fails(416, "RANGE_INVALID");
    world.client.send(Method::PATCH, &location, &[("content-range", "10-11")], "ld").await.is(202);
    let digest = Digest::of(b"hello, world");
    // Both write at once, past all that the protocol checks: nobody gets what they think they have sent.
    let upload = world.content.repository("x").unwrap();
    let id = location.rsplit('/').next().unwrap();
    let mut writer = upload.open_upload(id).unwrap().unwrap();
    let mut late = upload.open_upload(id).unwrap().unwrap();
    writer.write(b"!").unwrap();
    assert!(late.finish(&digest, std::time::Duration::ZERO).is_err());
    late = upload.open_upload(id).unwrap().unwrap();
    assert_eq!(late.length(), 13);
    world.client.delete(&location).await.is(204);
    assert!(writer.finish(&Digest::of(b"hello, world!"), std::time::Duration::ZERO).is_err());
    let location = world.client.begin("x").await;
    world.client.put(&format!("{location}?digest={digest}"), "application/octet-stream", "hello, world").await.is(201);
    assert_eq!(world.client.get(&format!("/v2/x/blobs/{digest}")).await.is(200).body, "hello, world");
}

#[tokio::test]
async fn an_upload_can_be_given_up() {
    let world = world().await;
    let location = world.client.begin("x").await;
    world.client.send(Method::PATCH, &location, &[], "hello").await.is(202);
    world.client.delete(&location).await.is(204);
    for reply in [
        world.client.delete(&location).await,
        world.client.get(&location).await,
        world.client.send(Method::PATCH, &location, &[], "more").await,
        world.client.put(&format!("{location}?digest={}", Digest::of(b"hello")), "a/b", "").await,
    ] {
        reply.fails(404, "BLOB_UPLOAD_UNKNOWN");
    }
    world.client.get("/v2/x/blobs/uploads/not-an-id").await.fails(404, "BLOB_UPLOAD_UNKNOWN");
    // Nor is an upload another repository's.
    let location = world.client.begin("x").await;
    world.client.get(&location.replace("/v2/x/", "/v2/y/")).await.fails(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_refused_and_not_kept() {
    let world = world().await;
    let location = world.client.begin("x").await;
    let digest = Digest::of(b"this");
    world.client.put(&format!("{location}?digest={digest}"), "a/b", "that").await.fails(400, "DIGEST_INVALID");
    world.client.head(&format!("/v2/x/blobs/{digest}")).await.is(404);
    let location = world.client.begin("x").await;
    world.client.put(&location, "a/b", "that").await.fails(400, "DIGEST_INVALID");
    world.client.put(&format!("{location}?digest=md5:12"), "a/b", "that").await.fails(400, "DIGEST_INVALID");
    assert_eq!(std::fs::read_dir(world.dir.path().join("content/blobs/sha256")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository_without_a_copy() {
    let world = world().await;
    let digest = world.client.blob("from/here", b"shared").await;
    let before = std::fs::metadata(world.blob_file(&digest)).unwrap();
    world.client.head(&format!("/v2/to/there/blobs/{digest}")).await.is(404);
    world.client.get(&format!("/v2/to/there/blobs/{digest}")).await.fails(404, "BLOB_UNKNOWN");
    let reply = world.client.post(&format!("/v2/to/there/blobs/uploads/?mount={digest}&from=from/here")).await.is(201);
    assert_eq!(reply.header("location"), format!("/v2/to/there/blobs/{digest}"));
    assert_eq!(world.client.get(&format!("/v2/to/there/blobs/{digest}")).await.is(200).body, "shared");
    let after = std::fs::metadata(world.blob_file(&digest)).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((before.ino(), before.nlink()), (after.ino(), after.nlink()));
    // What can't be mounted is uploaded.
    for from in ["nowhere", "NOT/A NAME"] {
        let from = from.replace(' ', "%20");
        let reply = world.client.post(&format!("/v2/x/blobs/uploads/?mount={digest}&from={from}")).await.is(202);
        assert!(reply.header("location").starts_with("/v2/x/blobs/uploads/"));
    }
    // Without `from` the whole store is looked through.
    world.client.post(&format!("/v2/y/blobs/uploads/?mount={digest}")).await.is(201);
    let unknown = Digest::of(b"?");
    world.client.post(&format!("/v2/y/blobs/uploads/?mount={unknown}")).await.is(202);
    let content = world.content.clone();
    let strict = world_with(|config| (config.content, config.mount_from_store) = (content, false)).await;
    strict.client.post(&format!("/v2/z/blobs/uploads/?mount={digest}")).await.is(202);
}

#[tokio::test]
async fn a_part_of_a_blob_can_be_asked_for() {
    let world = world().await;
    let bytes = noise(1_000_000, 3);
    let path = format!("/v2/x/blobs/{}", world.client.blob("x", &bytes).await);
    let range = async |range: &str| world.client.send(Method::GET, &path, &[("range", range)], "").await;
    let reply = range("bytes=10-19").await.is(206);
    assert_eq!((reply.header("content-range"), reply.header("content-length")), ("bytes 10-19/1000000", "10"));
    assert!(reply.body == bytes[10..20]);
    assert!(range("bytes=300000-").await.is(206).body == bytes[300_000..]);
    assert!(range("bytes=-5").await.is(206).body == bytes[999_995..]);
    assert!(range("bytes=0-1,5-6").await.is(200).body == bytes);
    assert_eq!(range("bytes=1000000-").await.fails(416, "RANGE_INVALID").header("content-range"), "bytes */1000000");
    let stale = [("range", "bytes=10-19"), ("if-range", "\"other\"")];
    world.client.send(Method::GET, &path, &stale, "").await.is(200);
}

#[tokio::test]
async fn a_blob_that_no_manifest_needs_can_be_deleted() {
    let world = world().await;
    let digest = world.client.blob("x", b"loose").await;
    let path = format!("/v2/x/blobs/{digest}");
    world.client.delete(&path).await.is(202);
    world.client.delete(&path).await.fails(404, "BLOB_UNKNOWN");
    world.client.head(&path).await.is(404);
    let image = world.client.image("x", "1", "text").await;
    let path = format!("/v2/x/blobs/{}", image.layer);
    world.client.delete(&path).await.fails(405, "DENIED");
    world.client.head(&path).await.is(200);
    world.client.delete(&format!("/v2/x/manifests/{}", image.digest)).await.is(202);
    world.client.delete(&path).await.is(202);
}
