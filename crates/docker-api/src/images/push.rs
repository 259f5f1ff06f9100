//! `docker push`.

use std::sync::Arc;

use engine::content::{Digest, Reference};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::layers::{LayerBlob, layers};
use super::registry::Registry;
use super::upload::{Sent, Uploads, elsewhere};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, Version, json_stream};
use crate::system::AuthConfig;

type Sender = mpsc::UnboundedSender<Value>;

/// Layers under way at a time, as in dockerd.
const PARALLEL: usize = 5;

/// Sends an image to the registry of its name.
pub(crate) async fn push(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let name = call.param("name").to_owned();
    let text = match call.query("tag") {
        Some(tag) => format!("{name}:{tag}"),
        None => name.clone(),
    };
    let reference = Reference::parse(&text)?;
    if daemon.config.content.image(&reference.to_string()).is_err() {
        let repository = reference.name();
        return Err(ApiError::not_found(format!(
            "An image does not exist locally with the tag: {}",
            repository
                .strip_prefix("docker.io/library/")
                .or(repository.strip_prefix("docker.io/"))
                .unwrap_or(&repository)
        )));
    }
    // Of one platform, which is all that there is of an image here.
    if call.query("platform").is_some() {
        super::names::of_platform(&daemon, &call, Version(46), &reference.to_string())?;
    }
    let auth = AuthConfig::of(&call);
    let (sender, receiver) = mpsc::unbounded_channel();
    let say = sender.clone();
    let sending = tokio::spawn(async move { send(&daemon, &reference, auth, &say).await });
    tokio::spawn(async move {
        let outcome = sending.await.unwrap_or_else(|panic| Err(ApiError::internal(format!("defect: {panic}"))));
        if let Err(error) = outcome {
            let _ = sender.send(json!({"errorDetail": {"message": error.message}, "error": error.message}));
        }
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Ok(json_stream(stream))
}

/// Sends an image as a user whose credentials these are; tells what `docker push` shows.
pub(crate) async fn send(
    daemon: &Arc<Daemon>,
    reference: &Reference,
    auth: Option<AuthConfig>,
    say: &Sender,
) -> Result<()> {
    let content = daemon.config.content.clone();
    let image = content.image(&reference.to_string())?;
    let status = |id: &str, status: &str| drop(say.send(json!({"status": status, "progressDetail": {}, "id": id})));
    let _ = say.send(json!({"status": format!("The push refers to repository [{}]", reference.name())}));
    let registry = Registry::new(&reference.registry, auth, &daemon.config.registries).await?;
    let uploads = Uploads::open(&registry, reference).await?;
    let layers = layers(&content, &image);
    let known = {
        let (content, name) = (content.clone(), reference.clone());
        blocking(move || Ok(elsewhere(&content, &name))).await?
    };
    let short = |index: usize| image.config.rootfs.diff_ids.get(index).map_or("", |id| &id.hex()[..12]).to_owned();
    for index in (0..layers.len()).rev() {
        status(&short(index), "Preparing");
    }
    let one = |(index, layer): (usize, LayerBlob)| {
        let (uploads, content, known, id) = (&uploads, &content, &known, short(index));
        async move {
            let digest =
                layer.parsed().ok_or_else(|| ApiError::internal(format!("layer of digest {}", layer.digest)))?;
            let from = known.get(&digest).map(String::as_str);
            match uploads.blob(digest.as_str(), content.blob_path(&digest), layer.size, from).await? {
                Sent::Present => status(&id, "Layer already exists"),
                Sent::Mounted(from) => status(&id, &format!("Mounted from {from}")),
                Sent::Whole => status(&id, "Pushed"),
            }
            Ok::<_, ApiError>(())
        }
    };
    let config = async {
        let size = content.blob_size(&image.id).unwrap_or(0);
        uploads.blob(image.id.as_str(), content.blob_path(&image.id), size, None).await
    };
    let all = async {
        let mut pushes = futures::stream::iter(layers.into_iter().enumerate().map(one)).buffer_unordered(PARALLEL);
        while let Some(result) = pushes.next().await {
            result?;
        }
        Ok(())
    };
    tokio::try_join!(config, all)?;
    let manifest = content.read_blob(&image.manifest)?;
    let media_type = media_type(&manifest);
    let size = manifest.len();
    registry.push_manifest(&uploads.there, reference, manifest, &media_type).await?;
    // From now on the image is known by its digest there, too.
    let _ = content.tag(image.manifest.as_str(), &format!("{}@{}", reference.name(), image.manifest));
    let tag = reference.tag.clone().unwrap_or_default();
    let _ = say.send(json!({"status": format!("{tag}: digest: {} size: {size}", image.manifest)}));
    let _ = say.send(json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": image.manifest, "Size": size}}));
    let attributes = std::collections::BTreeMap::from([("name".into(), reference.familiar())]);
    daemon.events.emit("image", "push", reference.familiar(), attributes);
    Ok(())
}

fn media_type(manifest: &[u8]) -> String {
    let value: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let said = value["mediaType"].as_str().filter(|text| !text.is_empty());
    said.unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned()
}

/// What a registry says of an image; answered for images that are here.
pub(crate) async fn distribution(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let image = daemon.config.content.image(call.param("name"))?;
    let manifest = daemon.config.content.read_blob(&image.manifest)?;
    let digest: &Digest = &image.manifest;
    Ok(crate::http::json(&json!({
        "Descriptor": {"mediaType": media_type(&manifest), "digest": digest, "size": manifest.len()},
        "Platforms": [{"architecture": image.config.architecture, "os": image.config.os}],
    })))
}
