//! A pod's priority is that of its class, or of the default class, or 0.

use api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::failure::Outcome;

pub(super) struct Priority;

impl Plugin for Priority {
    fn admit(&self, request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
        if !request.is(Operation::Create, "pods") {
            return Ok(());
        }
        let classes = request.server.cache.kind("priorityclasses.scheduling.k8s.io");
        let name = pod["spec"]["priorityClassName"].as_str().unwrap_or("").to_owned();
        let class = if name.is_empty() {
            let all = classes.snapshot("", None, 0, |_| true).objects;
            let defaults = all.iter().map(|c| c.parse()).filter(|c| c["globalDefault"] == true);
            // Upstream takes the lowest of several.
            defaults.min_by_key(|c| c["value"].as_i64().unwrap_or(0))
        } else {
            let class = classes.named("", &name).ok_or_else(|| {
                Status::forbidden("", "pods", request.name, format!("no PriorityClass with name {name} was found"))
            })?;
            Some(class.parse())
        };
        let value = class.as_ref().map_or(0, |c| c["value"].as_i64().unwrap_or(0));
        let policy = class.as_ref().and_then(|c| c["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
        if let Some(asked) = pod["spec"]["priority"].as_i64().filter(|asked| *asked != value) {
            return Err(Status::forbidden(
                "",
                "pods",
                request.name,
                format!(
                    "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
                ),
            ));
        }
        if let Some(class) = class.as_ref().filter(|_| name.is_empty()) {
            pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
        }
        pod["spec"]["priority"] = value.into();
        if pod["spec"]["preemptionPolicy"].is_null() {
            pod["spec"]["preemptionPolicy"] = policy.into();
        }
        Ok(())
    }
}
