//! One image: `inspect` and `history`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::layers::layers;
use super::list::{created, familiar, familiar_digests};
use super::names::of_platform;
use crate::daemon::Daemon;
use crate::error::{Result, blocking};
use crate::http::{Call, Response, Version, json as json_answer};

/// Everything about an image.
pub(crate) async fn inspect(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let name = call.param("name").to_owned();
    blocking(move || {
        let image = of_platform(&daemon, &call, Version(49), &name)?;
        let config = &image.config;
        let last = config.history.iter().rev().find_map(|entry| entry.comment.clone()).unwrap_or_default();
        Ok(json_answer(&json!({
            "Id": image.id.as_str(),
            "RepoTags": familiar(&image.tags),
            "RepoDigests": familiar_digests(&image),
            "Parent": "",
            "Comment": last,
            "Created": config.created.clone().unwrap_or_default(),
            "DockerVersion": "",
            "Author": config.author.clone().unwrap_or_default(),
            "Config": process_config(&image.config.config),
            "Architecture": config.architecture,
            "Variant": config.variant.clone().unwrap_or_default(),
            "Os": config.os,
            "Size": image.size,
            "GraphDriver": {"Data": null, "Name": "overlay2"},
            "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
            "Metadata": {"LastTagTime": crate::time::NEVER},
        })))
    })
    .await
}

/// The image's options with the fields that clients expect to find empty.
fn process_config(config: &engine::content::ProcessConfig) -> Value {
    let list = |list: &Vec<String>| if list.is_empty() { Value::Null } else { json!(list) };
    let mut value = json!({
        "Hostname": "", "Domainname": "", "User": config.user,
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": config.env,
        "Cmd": list(&config.cmd),
        "Image": "",
        "Volumes": if config.volumes.is_empty() { Value::Null } else { json!(config.volumes) },
        "WorkingDir": config.working_dir,
        "Entrypoint": list(&config.entrypoint),
        "OnBuild": list(&config.on_build),
        "Labels": if config.labels.is_empty() { Value::Null } else { json!(config.labels) },
    });
    if !config.exposed_ports.is_empty() {
        value["ExposedPorts"] = json!(config.exposed_ports);
    }
    if let Some(signal) = &config.stop_signal {
        value["StopSignal"] = signal.clone().into();
    }
    if let Some(check) = &config.healthcheck {
        value["Healthcheck"] = json!(check);
    }
    if !config.shell.is_empty() {
        value["Shell"] = json!(config.shell);
    }
    value
}

/// The steps an image was made in, the last first.
pub(crate) async fn history(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let name = call.param("name").to_owned();
    blocking(move || {
        let image = of_platform(&daemon, &call, Version(48), &name)?;
        let mut sizes = layers(&daemon.config.content, &image).into_iter().map(|layer| layer.size);
        let mut steps: Vec<Value> = Vec::new();
        for step in &image.config.history {
            let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
            let made = step.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            steps.push(json!({
                "Id": "<missing>",
                "Created": made.unwrap_or_else(|| created(&image)).as_second(),
                "CreatedBy": step.created_by.clone().unwrap_or_default(),
                "Tags": null,
                "Size": size,
                "Comment": step.comment.clone().unwrap_or_default(),
            }));
        }
        // Layers that no step tells of.
        steps.extend(sizes.map(|size| {
            json!({"Id": "<missing>", "Created": created(&image).as_second(), "CreatedBy": "", "Tags": null, "Size": size, "Comment": ""})
        }));
        if let Some(last) = steps.last_mut() {
            last["Id"] = image.id.as_str().into();
            last["Tags"] = if image.tags.is_empty() { Value::Null } else { json!(familiar(&image.tags)) };
        }
        steps.reverse();
        Ok(json_answer(&steps))
    })
    .await
}
