//! `POST /build`, over whatever [`crate::ImageBuilder`] there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::builder::{BuildFailure, BuildOptions};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer, json_stream};
use crate::networks;

/// Builds an image from the context in the body.
pub(crate) async fn build(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let Some(builder) = daemon.config.builder.clone() else {
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "this engine was started without an image builder"));
    };
    if call.query("version") == Some("2") {
        return Err(ApiError::bad("BuildKit is not supported by this engine: build with DOCKER_BUILDKIT=0"));
    }
    if call.query("remote").is_some() {
        return Err(ApiError::bad("remote build contexts are not supported: send the context"));
    }
    let (at, mode) = (daemon.clone(), call.query("networkmode").unwrap_or("default").to_owned());
    let place = blocking(move || networks::lend(&at, &mode)).await?;
    let options = BuildOptions {
        dockerfile: call.query("dockerfile").unwrap_or("Dockerfile").to_owned(),
        tags: call.all("t").map(str::to_owned).collect(),
        target: call.query("target").map(str::to_owned),
        build_args: document(&call, "buildargs")?,
        labels: document(&call, "labels")?,
        no_cache: call.flag("nocache"),
        pull: call.flag("pull"),
        quiet: call.flag("q"),
        network: place.namespace.clone(),
        resolv_conf: place.resolv_conf.clone(),
        platform: call.query("platform").unwrap_or_default().to_owned(),
        extra_hosts: call.all("extrahosts").map(str::to_owned).collect(),
        remove: call.flag_or("rm", true),
        shm_size: call.number("shmsize")?.unwrap_or(0),
        memory: call.number("memory")?.unwrap_or(0),
    };
    let quiet = options.quiet;
    let context = call.spool(&daemon.scratch()).await?.into_temp_path();
    let (sender, receiver) = mpsc::unbounded_channel::<Value>();
    let progress = sender.clone();
    let say: crate::BuildProgress = Arc::new(move |text: &str| {
        if !quiet {
            let _ = progress.send(json!({"stream": text}));
        }
    });
    let building = tokio::spawn(builder.build(context.to_path_buf(), options, say));
    tokio::spawn(async move {
        let message = match building
            .await
            .unwrap_or_else(|panic| Err(BuildFailure { message: format!("defect: {panic}"), code: 0 }))
        {
            Ok(id) if quiet => json!({"stream": format!("{id}\n")}),
            Ok(id) => json!({"aux": {"ID": id}}),
            Err(BuildFailure { message, code: 0 }) => json!({"errorDetail": {"message": message}, "error": message}),
            Err(BuildFailure { message, code }) => {
                json!({"errorDetail": {"code": code, "message": message}, "error": message})
            }
        };
        let _ = blocking(move || networks::give_back(&daemon, &place)).await;
        let _ = sender.send(message);
        drop(context);
    });
    let stream = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    Ok(json_stream(stream))
}

fn document<T: DeserializeOwned + Default>(call: &Call, name: &str) -> Result<BTreeMap<String, T>> {
    match call.query(name) {
        None => Ok(BTreeMap::new()),
        Some(text) => Ok(serde_json::from_str(text)?),
    }
}

/// The builder's cache is in the store and goes with its images.
pub(crate) async fn prune(_: Arc<Daemon>, _: Call) -> Result<Response> {
    Ok(json_answer(&json!({"CachesDeleted": null, "SpaceReclaimed": 0})))
}
