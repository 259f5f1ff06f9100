//! `GET /system/df`.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer};
use crate::{containers, images};

/// What may be asked about.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// What takes how much room.
pub(crate) async fn disk_usage(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let types: HashSet<String> = call.all("type").map(str::to_owned).collect();
    if let Some(unknown) = types.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(ApiError::bad(format!("unknown object type: {unknown}")));
    }
    blocking(move || {
        let wanted = |kind: &str| types.is_empty() || types.contains(kind);
        // What was not asked for is not there, rather than empty.
        let mut answer =
            json!({"LayersSize": 0, "Images": null, "Containers": null, "Volumes": null, "BuildCache": null});
        if wanted("image") {
            let users = images::users(&daemon);
            let mut list = Vec::new();
            let all = images::visible(&daemon.config.content)?;
            let of = |image| images::layers(&daemon.config.content, image);
            let mut holders: BTreeMap<String, usize> = BTreeMap::new();
            for layer in all.iter().flat_map(of) {
                *holders.entry(layer.digest).or_default() += 1;
            }
            for image in &all {
                let mut summary = images::summary(image);
                let layers = of(image);
                let shared =
                    layers.iter().filter(|layer| holders[&layer.digest] > 1).map(|layer| layer.size).sum::<u64>();
                summary["Containers"] = (*users.get(image.id.as_str()).unwrap_or(&0)).into();
                summary["SharedSize"] = shared.into();
                list.push(summary);
            }
            answer["LayersSize"] = images::layers_size(&daemon.config.content, &all).into();
            answer["Images"] = list.into();
        }
        if wanted("container") {
            let list = daemon.containers.all();
            let summaries = list.iter().map(|container| containers::summary(&daemon, container, true));
            answer["Containers"] = summaries.collect::<Vec<Value>>().into();
        }
        if wanted("build-cache") {
            answer["BuildCache"] = images::build_cache(&daemon).into();
        }
        if wanted("volume") {
            answer["Volumes"] = daemon
                .volumes
                .all()
                .iter()
                .map(|volume| {
                    let mut value = volume.json(&daemon.volumes);
                    let users = daemon.containers.all().iter().filter(|c| c.record().uses_volume(&volume.name)).count();
                    value["UsageData"] =
                        json!({"RefCount": users, "Size": size_of_tree(&daemon.volumes.data(&volume.name))});
                    value
                })
                .collect::<Vec<Value>>()
                .into();
        }
        Ok(json_answer(&answer))
    })
    .await
}

/// Bytes of all files below a directory, hard links counted once.
pub(crate) fn size_of_tree(root: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut total = 0;
    let mut stack = vec![root.to_owned()];
    while let Some(directory) = stack.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                stack.push(entry.path());
            } else if metadata.nlink() == 1 || seen.insert(metadata.ino()) {
                total += metadata.len();
            }
        }
    }
    total
}
