//! Manifests and tags.

use engine::content::Digest;
use http::Method;
use serde_json::json;

use crate::world::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, config_of, layer_of, manifest_of, world};

#[tokio::test]
async fn a_manifest_is_read_back_as_it_was_pushed() {
    let world = world().await;
    let image = world.client.image("team/app", "v1", "text").await;
    for reference in ["v1", image.digest.as_str()] {
        let path = format!("/v2/team/app/manifests/{reference}");
        for reply in [world.client.get(&path).await, world.client.head(&path).await] {
            assert_eq!(reply.header("content-type"), OCI_MANIFEST);
            assert_eq!(reply.header("docker-content-digest"), image.digest.as_str());
            assert_eq!(reply.header("content-length"), image.manifest.len().to_string());
        }
        assert_eq!(world.client.get(&path).await.is(200).body, image.manifest);
        let etag = format!("\"{}\"", image.digest);
        world.client.send(Method::GET, &path, &[("if-none-match", &etag)], "").await.is(304);
    }
}

#[tokio::test]
async fn what_is_unknown_is_said_to_be() {
    let world = world().await;
    world.client.get("/v2/none/manifests/v1").await.fails(404, "NAME_UNKNOWN");
    world.client.image("some", "v1", "text").await;
    world.client.get("/v2/some/manifests/v2").await.fails(404, "MANIFEST_UNKNOWN");
    world.client.get(&format!("/v2/some/manifests/{}", Digest::of(b"x"))).await.fails(404, "MANIFEST_UNKNOWN");
    world.client.get("/v2/some/manifests/.not-a-tag").await.fails(404, "MANIFEST_UNKNOWN");
    world.client.delete("/v2/some/manifests/v2").await.fails(404, "MANIFEST_UNKNOWN");
    // A repository with blobs alone is one, without tags.
    world.client.blob("bare", b"x").await;
    assert_eq!(world.client.get("/v2/bare/tags/list").await.is(200).json(), json!({"name": "bare", "tags": []}));
    assert_eq!(world.client.get("/v2/_catalog").await.json(), json!({"repositories": ["some"]}));
}

#[tokio::test]
async fn a_manifest_whose_blobs_are_missing_is_refused_with_their_digests() {
    let world = world().await;
    let manifest = manifest_of("text");
    let put = async |repository: &str| {
        world.client.put(&format!("/v2/{repository}/manifests/v1"), OCI_MANIFEST, manifest.clone()).await
    };
    let config = world.client.blob("x", &config_of("text")).await;
    let reply = put("x").await.fails(400, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(reply.json()["errors"][0]["detail"], json!([{"digest": Digest::of(&layer_of("text"))}]));
    // Another repository's blob does not do.
    world.client.blob("y", &layer_of("text")).await;
    put("x").await.fails(400, "MANIFEST_BLOB_UNKNOWN");
    world.client.get("/v2/x/manifests/v1").await.is(404);
    world.client.blob("x", &layer_of("text")).await;
    put("x").await.is(201);
    // A length that is a lie.
    let mut lie: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    lie["config"]["size"] = 5.into();
    world.client.put("/v2/x/manifests/v2", OCI_MANIFEST, lie.to_string()).await.fails(400, "MANIFEST_INVALID");
    assert!(world.content.has_blob(&config));
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let world = world().await;
    let image = world.client.image("x", "v1", "text").await;
    let good = String::from_utf8(image.manifest.clone()).unwrap();
    let put = async |kind: &str, body: String| world.client.put("/v2/x/manifests/v2", kind, body).await;
    put(OCI_MANIFEST, "{".into()).await.fails(400, "MANIFEST_INVALID");
    put(OCI_MANIFEST, "[".repeat(100_000)).await.fails(400, "MANIFEST_INVALID");
    put(OCI_MANIFEST, "{}".into()).await.fails(400, "MANIFEST_INVALID");
    put(DOCKER_MANIFEST, good.clone()).await.fails(400, "MANIFEST_INVALID");
    put(OCI_INDEX, good.replace(OCI_MANIFEST, OCI_INDEX)).await.fails(400, "MANIFEST_INVALID");
    put("text/plain", good.clone()).await.fails(400, "MANIFEST_INVALID");
    put("application/vnd.docker.distribution.manifest.v1+prettyjws", good.clone()).await.fails(400, "MANIFEST_INVALID");
    put(OCI_MANIFEST, good.replace("sha256:", "md5:")).await.fails(400, "MANIFEST_INVALID");
    put(OCI_MANIFEST, " ".repeat(5 << 20)).await.fails(413, "MANIFEST_INVALID");
    let other = format!("/v2/x/manifests/{}", Digest::of(b"other"));
    world.client.put(&other, OCI_MANIFEST, good.clone()).await.fails(400, "DIGEST_INVALID");
    world.client.put("/v2/x/manifests/-bad", OCI_MANIFEST, good.clone()).await.fails(400, "MANIFEST_INVALID");
    assert_eq!(world.client.get("/v2/x/tags/list").await.json()["tags"], json!(["v1"]));
    // With parameters, and by its digest alone, it is fine.
    let kind = format!("{OCI_MANIFEST}; charset=utf-8");
    world.client.put(&format!("/v2/x/manifests/{}", image.digest), &kind, good).await.is(201);
}

#[tokio::test]
async fn a_manifest_pushed_by_digest_may_bring_its_tags() {
    let world = world().await;
    let image = world.client.image("x", "v1", "text").await;
    let path = format!("/v2/x/manifests/{}", image.digest);
    let reply = world.client.put(&format!("{path}?tag=a&tag=b"), OCI_MANIFEST, image.manifest.clone()).await.is(201);
    assert_eq!(reply.headers.get_all("oci-tag").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(world.client.get("/v2/x/tags/list").await.json()["tags"], json!(["a", "b", "v1"]));
    world
        .client
        .put(&format!("{path}?tag=a&tag=-b"), OCI_MANIFEST, image.manifest)
        .await
        .fails(400, "MANIFEST_INVALID");
}

#[tokio::test]
async fn an_index_needs_its_manifests_and_keeps_them() {
    let world = world().await;
    let image = world.client.image("x", "arm", "text").await;
    let index = |digest: &Digest| {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": digest, "size": image.manifest.len(), "platform": {"os": "linux", "architecture": "arm64"}}]})
        .to_string()
    };
    let missing = world.client.put("/v2/x/manifests/all", OCI_INDEX, index(&Digest::of(b"?"))).await;
    missing.fails(400, "MANIFEST_BLOB_UNKNOWN");
    let reply = world.client.put("/v2/x/manifests/all", OCI_INDEX, index(&image.digest)).await.is(201);
    let path = format!("/v2/x/manifests/{}", reply.header("docker-content-digest"));
    assert_eq!(world.client.get("/v2/x/manifests/all").await.is(200).header("content-type"), OCI_INDEX);
    world.client.delete(&format!("/v2/x/manifests/{}", image.digest)).await.fails(405, "DENIED");
    world.client.delete(&path).await.is(202);
    world.client.delete(&format!("/v2/x/manifests/{}", image.digest)).await.is(202);
}

#[tokio::test]
async fn a_tag_moves_and_goes_and_a_manifest_takes_its_tags_along() {
    let world = world().await;
    let one = world.client.image("x", "latest", "one").await;
    let two = world.client.image("x", "latest", "two").await;
    let current = async || world.client.get("/v2/x/manifests/latest").await.header("docker-content-digest").to_owned();
    assert_eq!(current().await, two.digest.as_str());
    world.client.get(&format!("/v2/x/manifests/{}", one.digest)).await.is(200);
    for tag in ["a", "b"] {
        world.client.put(&format!("/v2/x/manifests/{tag}"), OCI_MANIFEST, one.manifest.clone()).await.is(201);
    }
    world.client.delete("/v2/x/manifests/a").await.is(202);
    world.client.get(&format!("/v2/x/manifests/{}", one.digest)).await.is(200);
    world.client.delete(&format!("/v2/x/manifests/{}", one.digest)).await.is(202);
    world.client.get("/v2/x/manifests/b").await.fails(404, "MANIFEST_UNKNOWN");
    assert_eq!(world.client.get("/v2/x/tags/list").await.json()["tags"], json!(["latest"]));
}
