//! A pod's priority is that of its class, or of the default class, or 0; there is one default class at most.

use serde_json::Value;

use super::Attributes;
use crate::failure::Outcome;

const CLASSES: &str = "priorityclasses.scheduling.k8s.io";

pub(super) fn of_pod(request: &Attributes<'_>, pod: &mut Value) -> Outcome<()> {
    if let Some(old) = request.old {
        // What was given when it was made stays, whoever replaces the pod by what they once wrote.
        for given in ["priority", "preemptionPolicy"] {
            if pod["spec"][given].is_null() && !old["spec"][given].is_null() {
                pod["spec"][given] = old["spec"][given].clone();
            }
        }
        return Ok(());
    }
    let name = pod["spec"]["priorityClassName"].as_str().unwrap_or("").to_owned();
    let class = if name.is_empty() {
        default_class(request)
    } else {
        let class = request.server.cache.kind(CLASSES).named("", &name);
        Some(class.ok_or_else(|| request.forbidden(format!("no PriorityClass with name {name} was found")))?.parse())
    };
    let value = class.as_ref().map_or(0, |c| c["value"].as_i64().unwrap_or(0));
    let policy = class.as_ref().and_then(|c| c["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
    let computed = "must not be provided in pod spec; priority admission controller computed";
    if let Some(asked) = pod["spec"]["priority"].as_i64().filter(|asked| *asked != value) {
        let why =
            format!("the integer value of priority ({asked}) {computed} {value} from the given PriorityClass name");
        return Err(request.forbidden(why));
    }
    if let Some(asked) = pod["spec"]["preemptionPolicy"].as_str().filter(|asked| *asked != policy) {
        let why = format!(
            "the string value of PreemptionPolicy ({asked}) {computed} {policy} from the given PriorityClass name"
        );
        return Err(request.forbidden(why));
    }
    if let Some(class) = class.as_ref().filter(|_| name.is_empty()) {
        pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
    }
    pod["spec"]["priority"] = value.into();
    pod["spec"]["preemptionPolicy"] = policy.into();
    Ok(())
}

pub(super) fn judge_class(request: &Attributes<'_>, class: &mut Value) -> Outcome<()> {
    if class["globalDefault"] != true {
        return Ok(());
    }
    match default_class(request) {
        Some(other) if other["metadata"]["name"] != request.name => {
            let name = other["metadata"]["name"].as_str().unwrap_or("");
            Err(request
                .forbidden(format!("PriorityClass {name} is already marked as default. Only one default can exist")))
        }
        _ => Ok(()),
    }
}

/// Upstream takes the lowest of several.
fn default_class(request: &Attributes<'_>) -> Option<Value> {
    let all = request.objects(CLASSES, "");
    // Each new pod asks, and hardly any class says it: the text is searched first.
    let said = memchr::memmem::Finder::new(br#""globalDefault":true"#);
    let likely = all.iter().filter(|class| said.find(&class.bytes).is_some());
    let defaults = likely.map(|class| class.parse()).filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64().unwrap_or(0))
}
