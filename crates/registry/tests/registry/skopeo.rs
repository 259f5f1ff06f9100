//! A stock client: Debian's skopeo, both ways.

use std::{
    path::Path,
    process::{Command, Output},
};

use engine::content::Digest;
use registry::hash_password;
use serde_json::{Value, json};

use crate::world::{
    DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, config_of, layer_of, manifest_of, noise, world, world_with,
};

async fn try_skopeo(arguments: &[&str]) -> Output {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(arguments);
    let running = tokio::task::spawn_blocking(move || command.output());
    running.await.unwrap().expect("skopeo is installed (scripts/deps.sh test)")
}

async fn skopeo(arguments: &[&str]) -> String {
    let output = try_skopeo(arguments).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "skopeo {arguments:?}: {out} {err}");
    out.into_owned()
}

/// An OCI layout with an index of two images; returns the text of the first.
fn layout(dir: &Path) -> String {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let write = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        digest
    };
    let text = String::from_utf8_lossy(&noise(2_000_000, 31)).into_owned();
    let mut entries = Vec::new();
    for (text, architecture) in [(text.as_str(), "amd64"), ("other", "arm64")] {
        write(&config_of(text));
        write(&layer_of(text));
        let manifest = manifest_of(text);
        entries.push(json!({"mediaType": OCI_MANIFEST, "digest": write(&manifest), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture}}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
    let top = json!({"schemaVersion": 2, "manifests": [{"mediaType": OCI_INDEX, "digest": write(index.as_bytes()), "size": index.len(),
        "annotations": {"org.opencontainers.image.ref.name": "all"}}]});
    std::fs::write(dir.join("index.json"), top.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    text
}

#[tokio::test]
async fn images_go_in_and_come_out_in_both_formats() {
    let world = world().await;
    let dir = world.dir.path();
    let text = layout(&dir.join("in"));
    let (from, address) = (format!("oci:{}:all", dir.join("in").display()), world.client.address);
    let docker = |name: &str| format!("docker://{address}/{name}");
    skopeo(&["copy", "--dest-tls-verify=false", &from, &docker("one:v1")]).await;
    let pushed = world.client.get("/v2/one/manifests/v1").await.is(200);
    assert_eq!((pushed.header("content-type"), &pushed.body[..]), (OCI_MANIFEST, &manifest_of(&text)[..]));
    // Within the registry, to Docker's schema 2: the blobs are mounted.
    let both = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let blobs = || std::fs::read_dir(world.content.root().join("blobs/sha256")).unwrap().count();
    let before = blobs();
    skopeo(&[&both[..], &["--format", "v2s2", &docker("one:v1"), &docker("two:v1")]].concat()).await;
    let converted = world.client.get("/v2/two/manifests/v1").await.is(200);
    assert_eq!(converted.header("content-type"), DOCKER_MANIFEST);
    // A manifest, and the configuration that skopeo writes anew if at all.
    assert!((1..=2).contains(&(blobs() - before)), "{before} {}", blobs());
    // And back to OCI's, out into a directory.
    skopeo(&[&both[..], &["--format", "oci", &docker("two:v1"), &docker("three:v1")]].concat()).await;
    assert_eq!(world.client.get("/v2/three/manifests/v1").await.header("content-type"), OCI_MANIFEST);
    let out = format!("oci:{}:out", dir.join("out").display());
    skopeo(&["copy", "--src-tls-verify=false", &docker("three:v1"), &out]).await;
    let layer = std::fs::read(dir.join("out/blobs/sha256").join(Digest::of(&layer_of(&text)).hex())).unwrap();
    assert!(layer == layer_of(&text));
}

#[tokio::test]
async fn an_index_goes_in_and_out_whole() {
    let world = world().await;
    let dir = world.dir.path();
    layout(&dir.join("in"));
    let (from, to) =
        (format!("oci:{}:all", dir.join("in").display()), format!("docker://{}/many:v1", world.client.address));
    skopeo(&["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &from, &to]).await;
    let reply = world.client.get("/v2/many/manifests/v1").await.is(200);
    assert_eq!(reply.header("content-type"), OCI_INDEX);
    let out = format!("oci:{}:all", dir.join("out").display());
    skopeo(&["copy", "--all", "--preserve-digests", "--src-tls-verify=false", &to, &out]).await;
    let count = |name: &str| std::fs::read_dir(dir.join(name).join("blobs/sha256")).unwrap().count();
    assert_eq!(count("in"), count("out"));
}

#[tokio::test]
async fn it_inspects_lists_and_deletes() {
    let world = world().await;
    for tag in ["v1", "v2"] {
        world.client.image("app", tag, tag).await;
    }
    let name = |tag: &str| format!("docker://{}/app{tag}", world.client.address);
    let shown: Value = serde_json::from_str(&skopeo(&["inspect", "--tls-verify=false", &name(":v1")]).await).unwrap();
    assert_eq!((&shown["RepoTags"], &shown["Architecture"]), (&json!(["v1", "v2"]), &json!("amd64")));
    let listed: Value = serde_json::from_str(&skopeo(&["list-tags", "--tls-verify=false", &name("")]).await).unwrap();
    assert_eq!(listed["Tags"], json!(["v1", "v2"]));
    skopeo(&["delete", "--tls-verify=false", &name(":v1")]).await;
    world.client.get("/v2/app/manifests/v1").await.fails(404, "MANIFEST_UNKNOWN");
    let gone = try_skopeo(&["inspect", "--tls-verify=false", &name(":v1")]).await;
    assert!(String::from_utf8_lossy(&gone.stderr).contains("manifest unknown"), "{gone:?}");
}

#[tokio::test]
async fn it_sends_the_password_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    std::fs::write(&file, format!("ann:{}\n", hash_password("secret"))).unwrap();
    let world = world_with(|config| config.htpasswd = Some(file)).await;
    layout(&dir.path().join("in"));
    let (from, to) =
        (format!("oci:{}:all", dir.path().join("in").display()), format!("docker://{}/app:v1", world.client.address));
    let refused = try_skopeo(&["copy", "--dest-tls-verify=false", &from, &to]).await;
    assert!(!refused.status.success());
    skopeo(&["copy", "--dest-tls-verify=false", "--dest-creds", "ann:secret", &from, &to]).await;
    skopeo(&["inspect", "--tls-verify=false", "--creds", "ann:secret", &to]).await;
}
