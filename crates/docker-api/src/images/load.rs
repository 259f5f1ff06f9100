//! `docker load`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use engine::content::{Content, ContentError, Image, Reference};
use serde_json::{Value, json};

use super::announce::announce;
use super::names::{NAMELESS, is_named, keep_nameless, strip};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json_stream};

/// Takes in every image of an archive.
pub(crate) async fn load(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
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
        let loaded = import(content, spool.path());
        for (_, image) in &known {
            is_named(content, image.id.as_str());
        }
        let mut messages: Vec<Value> = Vec::new();
        let mut told = BTreeSet::new();
        // An image with several names is in the archive once a name.
        let last: BTreeMap<String, Image> = loaded?.into_iter().map(|image| (image.id.to_string(), image)).collect();
        for mut image in last.into_values() {
            strip(&mut image);
            is_named(content, image.id.as_str());
            announce(&daemon, "load", image.id.as_str(), image.id.as_str().to_owned());
            let new = image
                .tags
                .iter()
                .filter(|tag| !known.iter().any(|(name, old)| name.to_string() == **tag && old.id == image.id));
            let mut shown: Vec<String> = new.filter_map(|tag| Some(Reference::parse(tag).ok()?.familiar())).collect();
            if shown.is_empty() {
                shown = image.tags.iter().filter_map(|tag| Some(Reference::parse(tag).ok()?.familiar())).collect();
            }
            shown.retain(|name| told.insert(name.clone()));
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
fn import(content: &Content, path: &Path) -> Result<Vec<Image>> {
    match content.import_all(path, &|manifest| format!("{NAMELESS}:{}", manifest.hex())) {
        Err(ContentError::Invalid(reason)) if reason.contains("plain root file system") => {
            Err(ApiError::bad("invalid archive: does not contain a manifest.json"))
        }
        result => Ok(result?),
    }
}
