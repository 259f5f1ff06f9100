//! Names of images.

use std::sync::Arc;

use engine::content::{Content, Image, ImagePlatform, Reference};
use http::StatusCode;

use super::announce::announce;
use crate::containers;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, Version, empty};

/// The repository of images whose names were taken away, one tag each: its manifest's digits.
pub(crate) const NAMELESS: &str = "localhost/hythe/nameless";

/// Takes the names that stand in for none away from what is shown.
pub(crate) fn strip(image: &mut Image) {
    image.tags.retain(|name| !name.starts_with(NAMELESS));
}

/// The platform that a request names in JSON, which is looked at from a version of the API on.
pub(super) fn asked_platform(call: &Call, since: Version) -> Result<Option<ImagePlatform>> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Platform {
        os: String,
        architecture: String,
        variant: String,
    }
    let Some(text) = call.query("platform").filter(|text| !text.is_empty() && call.version >= since) else {
        return Ok(None);
    };
    let Platform { os, architecture, variant } =
        serde_json::from_str(text).map_err(|error| ApiError::bad(format!("failed to parse platform: {error}")))?;
    if os.is_empty() && architecture.is_empty() && !variant.is_empty() {
        return Err(ApiError::bad("optional platform fields provided, but OS and Architecture are missing"));
    }
    if os.is_empty() || architecture.is_empty() {
        return Err(ApiError::bad("both OS and Architecture must be provided"));
    }
    Ok(Some(ImagePlatform { os, architecture, variant }))
}

/// The image, if it is of the platform that a request names.
pub(super) fn of_platform(daemon: &Daemon, call: &Call, since: Version, name: &str) -> Result<Image> {
    let asked = asked_platform(call, since)?;
    let image = containers::find_image(daemon, name)?;
    if let Some(ImagePlatform { os, architecture, variant }) = asked {
        let parts = [os, architecture, variant];
        let wanted = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        containers::check_platform(&wanted, &image, name)?;
    }
    Ok(image)
}

/// `repo` and `tag` of a query as a name; `None` when there is neither.
pub(crate) fn target_name(repository: Option<&str>, tag: Option<&str>) -> Result<Option<Reference>> {
    let Some(repository) = repository else { return Ok(None) };
    let text = match tag {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let reference = Reference::parse(&text)?;
    if reference.digest.is_some() {
        return Err(ApiError::bad("cannot use digest as a tag"));
    }
    if reference.familiar().starts_with("sha256:") {
        return Err(ApiError::bad("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    Ok(Some(reference))
}

/// Keeps an image that is about to lose this name, if it is its only one.
pub(crate) fn keep_nameless(content: &Content, name: &Reference) -> Result<()> {
    let Ok(mut image) = content.image(&name.to_string()) else { return Ok(()) };
    strip(&mut image);
    if image.tags.iter().all(|tag| *tag == name.to_string()) {
        content.tag(&name.to_string(), &nameless(&image))?;
    }
    Ok(())
}

/// The name of an image without one.
pub(crate) fn nameless(image: &Image) -> String {
    format!("{NAMELESS}:{}", image.manifest.hex())
}

/// Forgets the name that stood in for one, now that there is one.
pub(crate) fn is_named(content: &Content, image: &str) {
    if let Ok(image) = content.image(image)
        && image.tags.iter().any(|name| name.starts_with(NAMELESS))
        && image.tags.iter().any(|name| !name.starts_with(NAMELESS))
    {
        let _ = content.remove_image(&nameless(&image), false);
    }
}

/// Gives an image one more name.
pub(crate) async fn tag(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let image = call.param("name").to_owned();
    let target = target_name(call.query("repo"), call.query("tag"))?
        .ok_or_else(|| ApiError::bad("repository name must have at least one component"))?;
    blocking(move || {
        let content = &daemon.config.content;
        let found = containers::find_image(&daemon, &image)?;
        let replaces = content.image(&target.to_string()).is_ok_and(|other| other.id != found.id);
        if replaces {
            keep_nameless(content, &target)?;
        }
        content.tag(found.manifest.as_str(), &target.to_string())?;
        is_named(content, found.id.as_str());
        announce(&daemon, "tag", found.id.as_str(), target.familiar());
        Ok(empty(StatusCode::CREATED))
    })
    .await
}
