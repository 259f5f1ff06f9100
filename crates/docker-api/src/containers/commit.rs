//! `POST /commit`: a container's writable layer becomes a layer of a new image.

use std::sync::Arc;

use engine::content::Reference;
use http::StatusCode;
use serde_json::{Value, json};

use super::options::Options;
use super::record::Status;
use super::tarball::Tarball;
use super::{MAIN, create, life};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, created};
use crate::images::{self, compose};

/// Makes an image of a container.
pub(crate) async fn commit(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let given: Options = call.json_or_default().await?;
    let name = call.query("container").ok_or_else(|| ApiError::bad("no container named"))?.to_owned();
    let container = daemon.containers.find(&name)?;
    let record = container.snapshot();
    if record.state.status == Status::Removing {
        return Err(ApiError::conflict(format!("You cannot commit container {} which is being removed", container.id)));
    }
    let name = images::target_name(call.query("repo"), call.query("tag"))?;
    let mut options = record.options.clone();
    if given_something(&serde_json::to_value(&given).unwrap_or_default()) {
        options = overlay(options, &given);
    }
    let changes: Vec<String> = call.all("changes").flat_map(|text| text.split('\n')).map(str::to_owned).collect();
    let (comment, author) = (call.query("comment").map(str::to_owned), call.query("author").map(str::to_owned));
    // As docker does unless told otherwise: so that nothing changes while it is read.
    let pause = call.flag_or("pause", true) && record.state.status == Status::Running;
    let mut sandbox = life::sandbox(&daemon, &container).ok().filter(|_| pause);
    // It may end at any moment, and then changes nothing any more.
    if let Some(running) = &sandbox {
        match running.pause(MAIN).await {
            Err(error) if is_over(&error) => sandbox = None,
            paused => paused?,
        }
    }
    let at = daemon.clone();
    let made = blocking(move || {
        let snapshot = at.config.content.snapshot(&record.id);
        let snapshot = snapshot.ok_or_else(|| ApiError::internal("the container's layer is missing"))?;
        let base = at.config.content.image(&record.image_id)?;
        let mut spool = compose::LayerFile::new(&at.scratch())?;
        let mut tar = Tarball::of_layer(&mut spool);
        tar.children(&snapshot.upper, std::path::Path::new(""))?;
        tar.finish()?;
        let mut config = create::image_options(&options);
        images::apply_changes(&mut config, &changes)?;
        let command = record.args.join(" ");
        compose::derive(
            &at,
            Some(&base),
            Some(spool.finish()?),
            config,
            compose::Story { author, comment, created_by: command, architecture: None },
            name,
        )
    })
    .await;
    if let Some(sandbox) = &sandbox {
        match sandbox.resume(MAIN).await {
            Err(error) if is_over(&error) => {}
            resumed => resumed?,
        }
    }
    let image = made.map_err(|error| match error.status {
        StatusCode::NOT_FOUND => ApiError::internal(error.message),
        _ => error,
    })?;
    let id = image.id.as_str();
    images::announce(&daemon, "create", id, id.to_owned());
    for name in &image.tags {
        let shown = Reference::parse(name).map_or_else(|_| name.clone(), |reference| reference.familiar());
        images::announce(&daemon, "tag", id, shown);
    }
    let mut attributes = container.record().event_attributes();
    attributes.insert("imageID".into(), image.id.as_str().to_owned());
    attributes.insert("imageRef".into(), image.tags.first().cloned().unwrap_or_default());
    attributes.insert("comment".into(), call.query("comment").unwrap_or_default().to_owned());
    daemon.events.emit("container", "commit", &container.id, attributes);
    Ok(created(&json!({"Id": image.id.as_str()})))
}

/// Whether there is nothing left to pause or resume.
fn is_over(error: &engine::Error) -> bool {
    matches!(error, engine::Error::State { .. } | engine::Error::ShimGone(_) | engine::Error::NotFound { .. })
}

fn given_something(value: &Value) -> bool {
    let default = serde_json::to_value(Options::default()).unwrap_or_default();
    *value != default
}

/// What the request's own configuration says beside the container's.
fn overlay(mut options: Options, given: &Options) -> Options {
    options.env.extend(given.env.iter().cloned());
    options.labels.extend(given.labels.clone());
    options.exposed_ports.extend(given.exposed_ports.clone());
    if given.cmd.is_some() {
        options.cmd.clone_from(&given.cmd);
    }
    if given.entrypoint.is_some() {
        options.entrypoint.clone_from(&given.entrypoint);
    }
    for (mine, theirs) in [(&mut options.user, &given.user), (&mut options.working_dir, &given.working_dir)] {
        if !theirs.is_empty() {
            mine.clone_from(theirs);
        }
    }
    options
}
