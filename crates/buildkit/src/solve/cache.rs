//! A build's cache at the client or at a registry, and back (`--cache-to`, `--cache-from`). What it consists of is the
//! builder's own: no other builder reads it.

use std::path::{Path, PathBuf};

use engine::content::{Digest, Reference};
use serde_json::{Value, json};

use super::attributes::is_true;
use super::failed::Failed;
use crate::Inner;
use crate::progress::Board;
use crate::session::{Blobs, Session, login};
use crate::wire::CacheEntry;

/// No honest manifest or configuration is longer.
const MAX_DOCUMENT: u64 = 64 << 20;
/// Bytes of a layer.
const MAX_LAYER: u64 = 64 << 30;

/// Where a build's cache goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Caches {
    /// Directories at the client.
    pub directories: Vec<Target>,
    /// Names at registries.
    pub names: Vec<Target>,
}

/// A place for a cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its path or name.
    pub place: String,
    /// The build is as good without (`ignore-error=true`).
    pub dispensable: bool,
}

impl Target {
    /// A failure that counts.
    pub fn judge<T>(&self, result: Result<T, Failed>) -> Result<Option<T>, Failed> {
        if self.dispensable { Ok(result.ok()) } else { result.map(Some) }
    }
}

/// A cache in a directory at the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalCache {
    /// The directory, as the client knows it.
    pub path: String,
    /// Its manifest.
    pub digest: String,
}

/// Sorts what a client wants.
pub(crate) fn sort_caches(exports: &[CacheEntry]) -> Result<Caches, Failed> {
    let mut caches = Caches::default();
    for export in exports {
        let get = |key: &str| export.attributes.get(key).filter(|value| !value.is_empty()).cloned();
        let dispensable = get("ignore-error").is_some_and(|value| is_true(&value));
        match export.kind.as_str() {
            // Every image holds what later builds may take from it.
            "inline" => {}
            "local" => {
                let place = get("dest").ok_or_else(|| Failed::words("local cache exporter requires dest"))?;
                caches.directories.push(Target { place, dispensable });
            }
            "registry" => {
                let place = get("ref").ok_or_else(|| Failed::words("registry cache exporter requires ref"))?;
                caches.names.push(Target { place, dispensable });
            }
            kind => {
                let text =
                    format!("cache export to {kind} is not supported by this builder: use inline, local or registry");
                return Err(Failed::words(text));
            }
        }
    }
    Ok(caches)
}

/// Brings a client's cache here; answers the directory that the builder reads, within `place`.
pub(super) async fn import(
    session: &Session,
    cache: &LocalCache,
    board: &Board,
    place: &Path,
) -> Result<PathBuf, Failed> {
    let task = board.task(format!("importing cache manifest from local:{}", cache.path));
    let fetched = fetch(session, cache, place).await;
    task.ended(&fetched);
    fetched
}

async fn fetch(session: &Session, cache: &LocalCache, place: &Path) -> Result<PathBuf, Failed> {
    let blobs = place.join("blobs/sha256");
    let local = |error: std::io::Error| Failed::words(format!("{}: {error}", blobs.display()));
    std::fs::create_dir_all(&blobs).map_err(local)?;
    let store = Blobs::local(session, &cache.path);
    let one = async |digest: &str, limit: u64| {
        let digest = Digest::parse(digest).ok_or_else(|| Failed::words(format!("invalid digest {digest:?}")))?;
        let path = blobs.join(digest.hex());
        if !path.exists() {
            store.read(digest.as_str(), limit, &path).await.map_err(|error| Failed::words(error.to_string()))?;
        }
        Ok::<_, Failed>(path)
    };
    let manifest = one(&cache.digest, MAX_DOCUMENT).await?;
    let text = std::fs::read(&manifest).map_err(local)?;
    let size = text.len();
    let manifest: Value = serde_json::from_slice(&text)
        .map_err(|error| Failed::words(format!("the cache's manifest {}: {error}", cache.digest)))?;
    let digest_of = |descriptor: &Value| descriptor["digest"].as_str().unwrap_or_default().to_owned();
    one(&digest_of(&manifest["config"]), MAX_DOCUMENT).await?;
    for layer in manifest["layers"].as_array().into_iter().flatten() {
        one(&digest_of(layer), MAX_LAYER).await?;
    }
    let descriptor = json!({"mediaType": manifest["mediaType"], "digest": cache.digest, "size": size});
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    std::fs::write(place.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).map_err(local)?;
    std::fs::write(place.join("index.json"), index.to_string()).map_err(local)?;
    Ok(place.to_owned())
}

/// Takes a cache that the builder wrote to a directory at the client; answers its manifest's descriptor, by which the
/// client finds it again.
pub(super) async fn export(session: &Session, written: &Path, path: &str, board: &Board) -> Result<String, Failed> {
    let task = board.task("exporting cache to client directory");
    let sent = send(session, written, path).await;
    task.ended(&sent);
    sent
}

async fn send(session: &Session, written: &Path, path: &str) -> Result<String, Failed> {
    let local = |error: std::io::Error| Failed::words(format!("{}: {error}", written.display()));
    let index = std::fs::read(written.join("index.json")).map_err(local)?;
    let index: Value = serde_json::from_slice(&index).map_err(|error| Failed::words(error.to_string()))?;
    let store = Blobs::local(session, path);
    for entry in std::fs::read_dir(written.join("blobs/sha256")).map_err(local)? {
        let entry = entry.map_err(local)?;
        let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
        store.write(&digest, &entry.path()).await.map_err(|error| Failed::words(error.to_string()))?;
    }
    Ok(index["manifests"][0].to_string())
}

/// Pushes a cache that the builder made an image, and takes the image away again.
pub(super) async fn push(inner: &Inner, session: &Session, name: &str, board: &Board) -> Result<(), Failed> {
    let task = board.task("exporting cache to registry");
    let pushed = async {
        let name = Reference::parse(name).map_err(|error| Failed::words(error.to_string()))?;
        let login = login(session, &name.registry).await.map_err(Failed::words)?;
        let sent = inner.host.push(&name, login).await;
        if let Err(error) = inner.content.remove_image(&name.to_string(), true) {
            tracing::warn!(%error, %name, "a cache stays among the images");
        }
        sent.map_err(|error| Failed::words(format!("failed to push {}: {error}", name.familiar())))
    };
    let pushed = pushed.await;
    task.ended(&pushed);
    pushed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_goes_where_it_is_wanted() {
        let entry = |kind: &str, key: &str, value: &str| {
            let mut entry = CacheEntry { kind: kind.into(), ..CacheEntry::default() };
            entry.attributes.insert(key.into(), value.into());
            entry
        };
        let wanted = [entry("inline", "", ""), entry("local", "dest", "/c"), entry("registry", "ref", "a/b:c")];
        let caches = sort_caches(&wanted).unwrap();
        let to = |place: &str| vec![Target { place: place.into(), dispensable: false }];
        assert_eq!(caches, Caches { directories: to("/c"), names: to("a/b:c") });
        let mut lenient = entry("registry", "ref", "a");
        lenient.attributes.insert("ignore-error".into(), "true".into());
        let target = sort_caches(&[lenient]).unwrap().names.remove(0);
        assert_eq!(target.judge::<()>(Err(Failed::words("full"))).unwrap(), None);
        assert!(to("/c")[0].judge::<()>(Err(Failed::words("full"))).is_err());
        let said = |kind: &str| sort_caches(&[entry(kind, "dest", "")]).unwrap_err().to_string();
        assert_eq!(said("local"), "local cache exporter requires dest");
        assert_eq!(said("registry"), "registry cache exporter requires ref");
        assert!(said("gha").contains("cache export to gha is not supported"));
    }
}
