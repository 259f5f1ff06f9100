//! Removing images: by name, by ID, and all that nobody needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::content::{Image, Reference};
use serde_json::{Value, json};

use super::layers::layers_size;
use super::list::{created, descends, familiar, visible};
use super::names::{NAMELESS, keep_nameless, nameless};
use crate::containers::{Record, find_image};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer};
use crate::time;

/// Removes a name, and the image with its last one.
pub(crate) async fn remove(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let name = call.param("name").to_owned();
    if name.trim().is_empty() {
        return Err(ApiError::bad("image name cannot be blank"));
    }
    let (force, with_parents) = (call.flag("force"), !call.flag("noprune"));
    blocking(move || Ok(json_answer(&take_away(&daemon, &name, force, with_parents)?))).await
}

fn short(image: &Image) -> &str {
    &image.id.hex()[..12]
}

fn take_away(daemon: &Daemon, name: &str, force: bool, with_parents: bool) -> Result<Vec<Value>> {
    let content = &daemon.config.content;
    let image = find_image(daemon, name)?;
    let reference = Reference::parse(name).ok().filter(|reference| {
        let full = reference.to_string();
        image.tags.contains(&full) || image.digests.contains(&full)
    });
    let untag_only = reference.as_ref().is_some_and(|reference| {
        let full = reference.to_string();
        image.tags.iter().any(|tag| *tag != full)
    });
    // Names by digest go with the last tag of their repository.
    let alone = |reference: &Reference| -> Vec<Reference> {
        let own = |name: &String| Reference::parse(name).ok().filter(|other| other.name() == reference.name());
        let full = reference.to_string();
        match image.tags.iter().filter(|tag| **tag != full).any(|tag| own(tag).is_some()) {
            true => Vec::new(),
            false => image.digests.iter().filter(|digest| **digest != full).filter_map(own).collect(),
        }
    };
    let untagged = |reference: &Reference| {
        daemon.events.emit(
            "image",
            "untag",
            image.id.as_str(),
            BTreeMap::from([("name".into(), image.id.as_str().to_owned())]),
        );
        json!({"Untagged": reference.familiar()})
    };
    if let (true, Some(reference)) = (untag_only, &reference) {
        let mut answer = vec![untagged(reference)];
        content.remove_image(&reference.to_string(), true)?;
        for digest in alone(reference).iter().filter(|_| reference.digest.is_none()) {
            content.remove_image(&digest.to_string(), true)?;
            answer.push(untagged(digest));
        }
        return Ok(answer);
    }
    let user = |live: bool| {
        let all = daemon.containers.all();
        all.into_iter()
            .map(|container| container.snapshot())
            .find(|record| record.image_id == image.id.as_str() && (record.state.status.is_live() == live))
    };
    let by_id = reference.is_none();
    if by_id && content.images()?.iter().any(|other| descends(other, &image)) {
        return Err(ApiError::conflict(format!(
            "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
            short(&image)
        )));
    }
    if by_id && image.tags.len() > 1 && !force && user(true).is_none() {
        return Err(ApiError::conflict(format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            short(&image)
        )));
    }
    let shown = match &reference {
        Some(_) => name.to_owned(),
        None => short(&image).to_owned(),
    };
    let needed = |user: &Record, name: &str| {
        format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its \
             referenced image {}",
            user.short_id(),
            short(&image)
        )
    };
    if let Some(running) = user(true) {
        if let (Some(reference), true) = (&reference, force) {
            // The name goes, the image stays for whoever runs it.
            keep_nameless(content, reference)?;
            content.remove_image(&reference.to_string(), true)?;
            return Ok(vec![untagged(reference)]);
        }
        return Err(ApiError::conflict(match reference {
            Some(_) => needed(&running, &shown),
            None => format!(
                "conflict: unable to delete {shown} (cannot be forced) - image is being used by running container {}",
                running.short_id()
            ),
        }));
    }
    // Whoever has it mounted keeps its layers, but is asked for.
    let shown_in = daemon.containers.all().into_iter().map(|container| container.snapshot());
    if let Some(user) = shown_in.filter(|_| !force).find(|record| record.shows_image(image.id.as_str())) {
        return Err(ApiError::conflict(match reference {
            Some(_) => needed(&user, &shown),
            None => format!(
                "conflict: unable to delete {shown} (must be forced) - image is being used by container {}",
                user.short_id()
            ),
        }));
    }
    if let Some(stopped) = user(false) {
        if !force {
            return Err(ApiError::conflict(match reference {
                Some(_) => needed(&stopped, &shown),
                None => format!(
                    "conflict: unable to delete {shown} (must be forced) - image is being used by stopped container {}",
                    stopped.short_id()
                ),
            }));
        }
        // A stopped container starts again and may be committed: its image stays, without a name.
        content.tag(image.manifest.as_str(), &nameless(&image))?;
    }
    let (removed, gone) = match &reference {
        Some(reference) => content.remove_image(&reference.to_string(), force)?,
        None if image.tags.is_empty() => content.remove_image(image.id.as_str(), force)?,
        None => {
            let (mut removed, mut gone) = (Vec::new(), false);
            for tag in &image.tags {
                let (names, last) = content.remove_image(tag, force)?;
                removed.extend(names);
                gone = last;
            }
            (removed, gone)
        }
    };
    let mut answer: Vec<Value> = Vec::new();
    // Those that stand in for none are nobody's.
    for name in removed.iter().filter(|name| !name.starts_with(NAMELESS) && Reference::parse(name).is_ok()) {
        let name = familiar(std::slice::from_ref(name)).remove(0);
        daemon.events.emit(
            "image",
            "untag",
            image.id.as_str(),
            BTreeMap::from([("name".into(), image.id.as_str().to_owned())]),
        );
        answer.push(json!({"Untagged": name}));
    }
    if gone {
        daemon.events.emit(
            "image",
            "delete",
            image.id.as_str(),
            BTreeMap::from([("name".into(), image.id.as_str().to_owned())]),
        );
        answer.push(json!({"Deleted": image.id.as_str()}));
        if with_parents {
            answer.extend(parents(daemon, &image)?);
        }
    }
    Ok(answer)
}

/// Removes what an image was made of that has no name and that nobody else needs.
fn parents(daemon: &Daemon, image: &Image) -> Result<Vec<Value>> {
    let all = visible(&daemon.config.content)?;
    let mut answer = Vec::new();
    for parent in &all {
        let nameless = parent.tags.is_empty() && parent.digests.is_empty();
        let used = || {
            all.iter().any(|other| descends(other, parent))
                || daemon.containers.all().iter().any(|user| user.record().image_id == parent.id.as_str())
        };
        if nameless && descends(image, parent) && !used() {
            answer.extend(take_away(daemon, parent.id.as_str(), true, true)?);
        }
    }
    Ok(answer)
}

/// Removes images without a name, or with the filter `dangling=false` all that no container uses.
pub(crate) async fn prune(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let filters = call.filters()?;
    filters.expect(&["dangling", "until", "label", "label!"])?;
    blocking(move || {
        let dangling_only = filters.flag("dangling")?.unwrap_or(true);
        let until = match filters.values("until").first() {
            None => None,
            Some(text) => Some(time::query(text).ok_or_else(|| ApiError::bad(format!("failed to parse: {text}")))?),
        };
        let mut used: Vec<String> = Vec::new();
        for container in daemon.containers.all() {
            let record = container.record();
            used.push(record.image_id.clone());
            used.extend(record.images.values().cloned());
        }
        let mut deleted = Vec::new();
        let content = &daemon.config.content;
        let before = visible(content)?;
        let size = layers_size(content, &before);
        for image in before {
            let old = until.is_none_or(|until| created(&image) < until);
            if (dangling_only && !image.tags.is_empty()) || !old || !filters.labels(&image.config.config.labels) {
                continue;
            }
            if used.iter().any(|id| id == image.id.as_str()) {
                continue;
            }
            if let Ok(answer) = take_away(&daemon, image.id.as_str(), true, true) {
                deleted.extend(answer);
            }
        }
        // What others still need is not got back.
        let reclaimed = size.saturating_sub(layers_size(content, &visible(content)?));
        daemon.events.emit("image", "prune", "", BTreeMap::from([("reclaimed".into(), reclaimed.to_string())]));
        let deleted = if deleted.is_empty() { Value::Null } else { deleted.into() };
        Ok(json_answer(&json!({"ImagesDeleted": deleted, "SpaceReclaimed": reclaimed})))
    })
    .await
}
