//! `docker save`: images as an archive that is an OCI layout and has Docker's own `manifest.json` beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use engine::content::{Content, Digest, Image, Reference};
use serde_json::{Value, json};

use super::announce::announce;
use super::layers::layers;
use super::names::of_platform;
use crate::containers::tarball::Tarball;
use crate::containers::{Channel, produce_with};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, Version, streamed};

/// What is asked for: an image and the names to save it under.
struct Wanted {
    image: Image,
    names: Vec<Reference>,
}

/// Streams the archive of one or several images.
pub(crate) async fn save(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let mut asked: Vec<String> = call.all("names").flat_map(|names| names.split(',')).map(str::to_owned).collect();
    if !call.param("name").is_empty() {
        asked.push(call.param("name").to_owned());
    }
    if asked.is_empty() {
        return Err(ApiError::bad("no images named"));
    }
    if call.all("platform").count() > 1 {
        return Err(ApiError::bad("multiple platform parameters not supported"));
    }
    let at = daemon.clone();
    let wanted = blocking(move || {
        let mut wanted: Vec<Wanted> = Vec::new();
        for name in asked {
            for name in of_repository(&at.config.content, &name)?.unwrap_or_else(|| vec![name]) {
                let image = of_platform(&at, &call, Version(48), &name)?;
                // By ID it is saved without a name.
                let reference =
                    Reference::parse(&name).ok().filter(|reference| image.tags.contains(&reference.to_string()));
                match wanted.iter_mut().find(|other| other.image.id == image.id) {
                    Some(same) => same.names.extend(reference),
                    None => wanted.push(Wanted { image, names: reference.into_iter().collect() }),
                }
            }
        }
        Ok(wanted)
    })
    .await?;
    for Wanted { image, .. } in &wanted {
        announce(&daemon, "save", image.id.as_str(), image.id.as_str().to_owned());
    }
    let content = daemon.config.content.clone();
    let stream = produce_with(move |sender| {
        let mut tar = Tarball::new(Channel(sender));
        write(&content, &wanted, &mut tar)?;
        tar.finish()?;
        Ok(())
    });
    Ok(streamed("application/x-tar", stream))
}

/// The names of all images of a repository, if one was named without a tag.
fn of_repository(content: &Content, name: &str) -> Result<Option<Vec<String>>> {
    let Ok(repository) = Reference::parse(name) else { return Ok(None) };
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        return Ok(None);
    }
    let mut names: Vec<String> = content.images()?.into_iter().flat_map(|image| image.tags).collect();
    names.retain(|tag| Reference::parse(tag).is_ok_and(|tag| tag.name() == repository.name()));
    names.sort();
    Ok((!names.is_empty()).then_some(names))
}

fn write(content: &Content, wanted: &[Wanted], tar: &mut Tarball<Channel>) -> Result<()> {
    fn hex(digest: &str) -> &str {
        digest.trim_start_matches("sha256:")
    }
    let blob = |digest: &str| format!("blobs/sha256/{}", hex(digest));
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let (mut index, mut docker, mut done) = (Vec::<Value>::new(), Vec::<Value>::new(), BTreeSet::new());
    for Wanted { image, names } in wanted {
        let layers = layers(content, image);
        let manifest_size = content.blob_size(&image.manifest).unwrap_or(0);
        let digests: Vec<Digest> = layers
            .iter()
            .filter_map(|layer| layer.parsed())
            .chain([image.id.clone(), image.manifest.clone()])
            .collect();
        for digest in digests {
            if done.insert(digest.hex().to_owned()) {
                let path = content.blob_path(&digest);
                File::open(&path)?;
                tar.tree(&path, Path::new(&blob(digest.as_str())))?;
            }
        }
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.manifest, "size": manifest_size,
        });
        if names.is_empty() {
            index.push(descriptor.clone());
        }
        for name in names {
            let mut descriptor = descriptor.clone();
            descriptor["annotations"] = json!({
                "io.containerd.image.name": name.to_string(),
                "org.opencontainers.image.ref.name": name.tag.clone().unwrap_or_default(),
            });
            index.push(descriptor);
        }
        // What clients before Docker 1.10 look for.
        if let Some(top) = layers.last() {
            for name in names {
                let (familiar, tag) = (name.familiar(), name.tag.clone().unwrap_or_default());
                let repository = familiar.strip_suffix(&format!(":{tag}")).unwrap_or(&familiar).to_owned();
                repositories.entry(repository).or_default().insert(tag, hex(&top.digest).to_owned());
            }
        }
        let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
        docker.push(json!({
            "Config": blob(image.id.as_str()),
            "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
            "Layers": layers.iter().map(|layer| blob(&layer.digest)).collect::<Vec<_>>(),
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": index});
    tar.file("index.json", 0, index.to_string().as_bytes())?;
    tar.file("manifest.json", 0, Value::from(docker).to_string().as_bytes())?;
    tar.file("oci-layout", 0, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    if !repositories.is_empty() {
        tar.file("repositories", 0, json!(repositories).to_string().as_bytes())?;
    }
    Ok(())
}
