//! `GET /images/json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::content::{Content, Image, Reference};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::names::strip;
use crate::containers::find_image;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::filters::{Filters, glob};
use crate::http::{Call, Response, Version, json as json_answer};
use crate::time;

/// All images, the newest first, without the names that stand in for none.
pub(crate) fn visible(content: &Content) -> Result<Vec<Image>> {
    let mut images = content.images()?;
    for image in &mut images {
        strip(image);
    }
    // Several manifests may have one configuration, which is the image's identity.
    let mut by_id: BTreeMap<String, Image> = BTreeMap::new();
    for image in images {
        match by_id.get_mut(image.id.as_str()) {
            Some(same) => {
                same.tags.extend(image.tags);
                same.digests.extend(image.digests);
            }
            None => drop(by_id.insert(image.id.as_str().to_owned(), image)),
        }
    }
    let mut images: Vec<Image> = by_id.into_values().collect();
    images.sort_by_cached_key(|image| std::cmp::Reverse(created(image)));
    Ok(images)
}

/// When an image was made; the epoch if nobody knows.
pub(super) fn created(image: &Image) -> Timestamp {
    image.config.created.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether an image was made of another by further steps.
pub(crate) fn descends(image: &Image, of: &Image) -> bool {
    let (own, theirs) = (&image.config, &of.config);
    let step = |step: &engine::content::History| (step.created.clone(), step.created_by.clone(), step.empty_layer);
    own.history.len() > theirs.history.len()
        && own.rootfs.diff_ids.starts_with(&theirs.rootfs.diff_ids)
        && own.history.iter().zip(&theirs.history).all(|(own, theirs)| step(own) == step(theirs))
}

/// Names as Docker shows them.
pub(super) fn familiar(names: &[String]) -> Vec<String> {
    names
        .iter()
        .map(|name| Reference::parse(name).map_or_else(|_| name.clone(), |reference| reference.familiar()))
        .collect()
}

/// Names by digest as Docker shows them.
pub(super) fn familiar_digests(image: &Image) -> Vec<String> {
    familiar(&image.digests)
}

/// One line of the list.
pub(crate) fn summary(image: &Image) -> Value {
    json!({
        "Id": image.id.as_str(),
        "ParentId": "",
        "RepoTags": familiar(&image.tags),
        "RepoDigests": familiar_digests(image),
        "Created": created(image).as_second(),
        "Size": image.size,
        "SharedSize": -1,
        "Containers": -1,
        "Labels": if image.config.config.labels.is_empty() { Value::Null } else { json!(image.config.config.labels) },
    })
}

/// How many containers each image has, by the image's id.
pub(crate) fn users(daemon: &Daemon) -> BTreeMap<String, i64> {
    let mut users = BTreeMap::new();
    for container in daemon.containers.all() {
        *users.entry(container.record().image_id.clone()).or_default() += 1;
    }
    users
}

/// Lists images.
pub(crate) async fn list(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let mut filters = call.filters()?;
    filters.expect(&["dangling", "label", "label!", "before", "since", "reference", "until"])?;
    if let Some(name) = call.query("filter") {
        filters = Filters::parse(Some(&json!({"reference": [name]}).to_string()))?;
    }
    let every = call.flag("all");
    let counted = call.version >= Version(51);
    blocking(move || {
        let dangling = filters.flag("dangling")?;
        let moment = |key: &str| -> Result<Option<Timestamp>> {
            filters.values(key).first().map(|name| Ok(created(&find_image(&daemon, name)?))).transpose()
        };
        let (before, since) = (moment("before")?, moment("since")?);
        // Of several moments the earliest counts.
        let mut until: Option<Timestamp> = None;
        for text in filters.values("until") {
            let moment = time::query(text).ok_or_else(|| ApiError::bad(format!("invalid filter 'until={text}'")))?;
            until = Some(until.map_or(moment, |other| other.min(moment)));
        }
        let users = if counted { users(&daemon) } else { BTreeMap::new() };
        let mut list = Vec::new();
        let visible = visible(&daemon.config.content)?;
        let children = visible.clone();
        for mut image in visible {
            // What has no name and others are made of is shown with all steps alone.
            let nameless = image.tags.is_empty() && image.digests.is_empty();
            if nameless && !every && children.iter().any(|other| descends(other, &image)) {
                continue;
            }
            let made = created(&image);
            let patterns = filters.values("reference");
            if !patterns.is_empty() {
                image.tags.retain(|name| patterns.iter().any(|pattern| reference_fits(pattern, name)));
                image.digests.retain(|name| patterns.iter().any(|pattern| reference_fits(pattern, name)));
                if image.tags.is_empty() && image.digests.is_empty() {
                    continue;
                }
            }
            let fits = dangling.is_none_or(|wanted| wanted == image.tags.is_empty())
                && before.is_none_or(|before| made < before)
                && since.is_none_or(|since| made > since)
                && until.is_none_or(|until| made < until)
                && filters.labels(&image.config.config.labels);
            if fits {
                let mut line = summary(&image);
                if counted {
                    line["Containers"] = users.get(image.id.as_str()).copied().unwrap_or_default().into();
                }
                list.push(line);
            }
        }
        Ok(json_answer(&list))
    })
    .await
}

/// Whether a pattern is for this name: `busybox`, `busy*`, `busybox:1.*`, `localhost:5000/*/app`.
fn reference_fits(pattern: &str, name: &str) -> bool {
    let Ok(reference) = Reference::parse(name) else { return false };
    let (familiar, full) = (reference.familiar(), reference.to_string());
    let repository = |text: &str| match text.split_once('@') {
        Some((repository, _)) => repository.to_owned(),
        None => text
            .rsplit_once(':')
            .filter(|(_, tag)| !tag.contains('/'))
            .map_or(text, |(repository, _)| repository)
            .to_owned(),
    };
    [&familiar, &full].into_iter().any(|text| glob(pattern, text) || glob(pattern, &repository(text)))
}

#[cfg(test)]
mod tests {
    use super::reference_fits;

    #[test]
    fn patterns_are_for_names_with_and_without_their_tag() {
        for (pattern, name, fits) in [
            ("busybox", "docker.io/library/busybox:1", true),
            ("busy*:*", "docker.io/library/busybox:1", true),
            ("box", "docker.io/library/busybox:1", false),
            ("localhost:5000/*", "localhost:5000/app:1", true),
            ("app", "localhost:5000/app:1", false),
        ] {
            assert_eq!(reference_fits(pattern, name), fits, "{pattern} {name}");
        }
    }
}
