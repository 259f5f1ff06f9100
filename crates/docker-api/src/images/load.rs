//! `docker load`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use engine::content::{Content, ContentError, Image, ImagePlatform, Reference};
use serde_json::{Value, json};

use super::announce::announce;
use super::names::{NAMELESS, asked_platform, is_named, keep_nameless, strip};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, Version, json_stream};

/// Takes in every image of an archive, or every one of a platform.
pub(crate) async fn load(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    if call.all("platform").count() > 1 {
        return Err(ApiError::bad("multiple platform parameters not supported"));
    }
    let wanted = asked_platform(&call, Version(48))?;
    let spool = call.spool(&daemon.scratch()).await?;
    let messages = blocking(move || {
        let content = &daemon.config.content;
        let known: Vec<(Reference, Image)> = content
            .images()?
            .into_iter()
            .map(|mut image| {
                strip(&mut image);
                image
            })
            .flat_map(|image| image.tags.clone().into_iter().map(move |tag| (tag, image.clone())))
            .filter_map(|(tag, image)| Some((Reference::parse(&tag).ok()?, image)))
            .collect();
        // Names that the archive takes from other images: those must not go with them.
        for (name, image) in &known {
            if image.tags.len() == 1 {
                keep_nameless(content, name)?;
            }
        }
        let loaded = import(content, spool.path(), wanted.as_ref());
        for (_, image) in &known {
            is_named(content, image.id.as_str());
        }
        let mut messages: Vec<Value> = Vec::new();
        // An image with several names is in the archive once a name.
        let mut all: Vec<(Image, Vec<Reference>)> = Vec::new();
        for (image, names) in loaded? {
            match all.iter_mut().find(|(other, _)| other.id == image.id) {
                Some((_, known)) => known.extend(names),
                None => all.push((image, names)),
            }
        }
        for (image, names) in all {
            is_named(content, image.id.as_str());
            announce(&daemon, "load", image.id.as_str(), image.id.as_str().to_owned());
            let named = names.iter().filter(|name| !name.to_string().starts_with(NAMELESS)).map(Reference::familiar);
            let shown: BTreeSet<String> = named.collect();
            messages.extend(shown.iter().map(|name| json!({"stream": format!("Loaded image: {name}\n")})));
            if shown.is_empty() {
                messages.push(json!({"stream": format!("Loaded image ID: {}\n", image.id)}));
            }
        }
        Ok(messages)
    })
    .await;
    // As dockerd, which answers before it has read anything: what goes wrong is the stream's last message.
    let messages = messages
        .unwrap_or_else(|error| vec![json!({"errorDetail": {"message": error.message}, "error": error.message})]);
    Ok(json_stream(futures::stream::iter(messages)))
}

/// Images that the archive does not name have none here.
fn import(content: &Content, path: &Path, wanted: Option<&ImagePlatform>) -> Result<Vec<(Image, Vec<Reference>)>> {
    match content.import_all(path, &|manifest| format!("{NAMELESS}:{}", manifest.hex()), wanted) {
        Err(ContentError::Invalid(reason)) if reason.contains("plain root file system") => {
            Err(ApiError::bad("invalid archive: does not contain a manifest.json"))
        }
        result => Ok(result?),
    }
}
