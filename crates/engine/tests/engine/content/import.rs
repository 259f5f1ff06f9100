//! Images from files, and what becomes of them.

use std::{fs, path::Path};

use engine::content::{Content, ContentError, Digest, Reference};
use serde_json::json;
use tar::EntryType::Regular;

use super::{archive, config};

fn layers() -> Vec<Vec<u8>> {
    vec![archive(&[(Regular, "bin/run", "one"), (Regular, "base", "b")]), archive(&[(Regular, "bin/run", "two")])]
}

fn docker_archive(path: &Path, tags: &[&str]) {
    let layers = layers();
    let config = config(&layers);
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add("a/layer.tar", &layers[0]);
    add("b/layer.tar", &layers[1]);
    add("c.json", &config);
    let manifest = json!([{"Config": "c.json", "RepoTags": tags, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    add("manifest.json", manifest.to_string().as_bytes());
    builder.finish().unwrap();
}

#[test]
fn a_docker_archive_brings_its_names_and_its_layers() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    let file = dir.path().join("image.tar");
    docker_archive(&file, &["app:1", "app:latest"]);
    let image = content.import(&file, None).unwrap().remove(0);
    assert_eq!(image.tags, ["docker.io/library/app:1", "docker.io/library/app:latest"]);
    assert_eq!(image.id, Digest::of(&config(&layers())));
    assert_eq!(
        (image.config.config.cmd.as_slice(), image.config.config.env.as_slice()),
        (&["/bin/run".to_owned()][..], &["A=1".to_owned()][..])
    );
    let snapshot = content.prepare_snapshot("c", &image).unwrap();
    assert_eq!(fs::read_to_string(snapshot.lower[0].join("bin/run")).unwrap(), "two");
    assert_eq!(fs::read_to_string(snapshot.lower[1].join("bin/run")).unwrap(), "one");
}

#[test]
fn an_oci_layout_is_imported_from_a_directory_and_from_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let blob = |bytes: &[u8], kind: &str| {
        let digest = Digest::of(bytes);
        fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let layers = layers();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(&config(&layers), "application/vnd.oci.image.config.v1+json"),
        "layers": layers.iter().map(|l| blob(l, "application/vnd.oci.image.layer.v1.tar")).collect::<Vec<_>>(),
    });
    let mut descriptor = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "localhost/lay:3"});
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();

    let content = Content::open(dir.path().join("one")).unwrap();
    let image = content.import(&layout, None).unwrap().remove(0);
    assert_eq!(image.tags, ["localhost/lay:3"]);
    assert_eq!(image.manifest, Digest::of(manifest.to_string().as_bytes()));

    let packed = dir.path().join("layout.tar");
    let mut builder = tar::Builder::new(fs::File::create(&packed).unwrap());
    builder.append_dir_all(".", &layout).unwrap();
    builder.finish().unwrap();
    let other = Content::open(dir.path().join("two")).unwrap();
    assert_eq!(other.import(&packed, Some("renamed:1")).unwrap()[0].tags, ["docker.io/library/renamed:1"]);
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    let layers = layers();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    // The configuration promises other layers than there are.
    add("c.json", &config(&layers));
    add("a", &layers[1]);
    add("b", &layers[0]);
    add(
        "manifest.json",
        json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["a", "b"]}]).to_string().as_bytes(),
    );
    let file = dir.path().join("image.tar");
    fs::write(&file, builder.into_inner().unwrap()).unwrap();
    assert!(matches!(content.import(&file, None), Err(ContentError::Mismatch { .. })));
    assert!(content.images().unwrap().is_empty());
}

#[test]
fn the_last_name_takes_the_image_along_but_not_what_others_need() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    let file = dir.path().join("image.tar");
    docker_archive(&file, &["app:1"]);
    content.import(&file, None).unwrap();
    fs::write(&file, &layers()[0]).unwrap();
    let base = content.import(&file, Some("base:1")).unwrap().remove(0);
    content.tag("app:1", "app:2").unwrap();
    assert_eq!(content.remove_image("app:1", false).unwrap(), (vec!["docker.io/library/app:1".to_owned()], false));
    assert!(content.remove_image("app:2", false).unwrap().1);
    assert!(matches!(content.image("app:2"), Err(ContentError::NotFound(_))));
    // The layer that both share stays.
    assert_eq!(content.image("base:1").unwrap().id, base.id);
    assert!(content.prepare_snapshot("c", &base).is_ok());
    assert_eq!(fs::read_dir(dir.path().join("content/layers")).unwrap().count(), 1);
}

#[test]
fn an_image_that_is_here_in_two_wrappings_is_one_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    let file = dir.path().join("image.tar");
    docker_archive(&file, &["app:1"]);
    let image = content.import(&file, None).unwrap().remove(0);
    let mut layers = content.image_layers(&image).unwrap();
    let name = |text: &str| vec![Reference::parse(text).unwrap()];
    let plain = content.author(&image.config, &layers, &name("plain:1")).unwrap();
    // As a tool leaves it that wraps the same layers otherwise; the configuration stays.
    layers[0].media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
    let other = content.author(&image.config, &layers, &name("other:1")).unwrap();
    assert!(plain.id == other.id && plain.manifest != other.manifest);
    let mut tags = content.image(plain.id.as_str()).unwrap().tags;
    tags.sort();
    assert_eq!(tags, ["docker.io/library/other:1", "docker.io/library/plain:1"]);
    assert!(content.image(&plain.id.hex()[..8]).is_ok());
    for wrapping in [&plain, &other] {
        assert_eq!(content.image(wrapping.manifest.as_str()).unwrap().manifest, wrapping.manifest);
    }
    // A name is of its own manifest alone, the ID of both.
    assert_eq!(content.image("plain:1").unwrap().manifest, plain.manifest);
    assert!(content.remove_image("app:1", false).unwrap().1);
    assert!(content.remove_image(plain.id.as_str(), false).unwrap().1);
    assert!(content.images().unwrap().is_empty());
}

#[test]
fn an_image_in_use_stays_unless_forced_and_its_layers_stay_even_then() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    let file = dir.path().join("image.tar");
    docker_archive(&file, &["app:1"]);
    let image = content.import(&file, None).unwrap().remove(0);
    let snapshot = content.prepare_snapshot("c1", &image).unwrap();
    assert!(matches!(content.remove_image("app:1", false), Err(ContentError::InUse { .. })));
    assert!(content.remove_image("app:1", true).unwrap().1);
    assert!(snapshot.lower.iter().all(|l| l.exists()));
    content.remove_snapshot("c1").unwrap();
    content.collect().unwrap();
    assert!(snapshot.lower.iter().all(|l| !l.exists()));
}

#[test]
fn an_id_or_a_piece_of_it_names_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    let file = dir.path().join("image.tar");
    docker_archive(&file, &["app:1"]);
    let image = content.import(&file, None).unwrap().remove(0);
    assert_eq!(content.image(image.id.as_str()).unwrap().tags, image.tags);
    assert_eq!(content.image(&image.id.hex()[..12]).unwrap().tags, image.tags);
    assert!(content.image("0123456789ab").is_err());
    assert!(matches!(content.image("Not A Name"), Err(ContentError::InvalidReference(_))));
}
