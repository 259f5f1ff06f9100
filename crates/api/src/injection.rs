//! What a Sidecar (`patterns.hythe.dev/v1`) does to a new pod. Pure: admission here and a webhook elsewhere call it.

use serde_json::{Map, Value, json};

use crate::strategy::check::selects;

/// What containers without an image of their own run.
pub const IMAGE: &str = concat!("hythe.dev/patterns:", env!("CARGO_PKG_VERSION"));

/// Lists what was injected; a pod that bears it is left alone.
pub const INJECTED: &str = "patterns.hythe.dev/sidecars";

/// `false` on a pod keeps it as it is.
pub const INJECT: &str = "patterns.hythe.dev/inject";

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Adds to a pod what those of the Sidecars bring that select it, in order of their names; whether anything was added.
/// `sidecars` are those of the pod's namespace.
pub fn inject<'a>(pod: &mut Value, sidecars: impl Iterator<Item = &'a Value>, image: &str) -> bool {
    let annotation = |key: &str| pod["metadata"]["annotations"][key].as_str();
    let left_alone = annotation(INJECT) == Some("false")
        || annotation(INJECTED).is_some()
        || annotation("kubernetes.io/config.mirror").is_some()
        || pod["metadata"]["labels"][MANAGED_BY] == "hythe-patterns";
    if left_alone || !pod["spec"].is_object() {
        return false;
    }
    let mut chosen: Vec<&Value> = sidecars
        .filter(|sidecar| sidecar["metadata"]["deletionTimestamp"].is_null())
        .filter(|sidecar| selects(&sidecar["spec"]["selector"], pod["metadata"].get("labels")))
        .collect();
    chosen.sort_by_key(|sidecar| sidecar["metadata"]["name"].as_str());
    let names: Vec<&str> = chosen.iter().filter_map(|sidecar| sidecar["metadata"]["name"].as_str()).collect();
    if names.is_empty() {
        return false;
    }
    for sidecar in &chosen {
        let spec = &sidecar["spec"];
        for field in ["initContainers", "containers"] {
            for container in spec[field].as_array().into_iter().flatten() {
                let mut container = container.clone();
                if container["image"].as_str().unwrap_or_default().is_empty() {
                    container["image"] = image.into();
                    container["imagePullPolicy"] = "IfNotPresent".into();
                }
                add(&mut pod["spec"], field, container);
            }
        }
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            add(&mut pod["spec"], "volumes", volume.clone());
        }
        if spec["shareProcessNamespace"] == true {
            pod["spec"]["shareProcessNamespace"] = true.into();
        }
    }
    if !pod["metadata"]["annotations"].is_object() {
        pod["metadata"]["annotations"] = Value::Object(Map::new());
    }
    pod["metadata"]["annotations"][INJECTED] = names.join(",").into();
    true
}

/// Appends to a list unless it has something of that name: what the pod itself says comes first.
fn add(spec: &mut Value, field: &str, item: Value) {
    match spec[field].as_array_mut() {
        Some(all) if all.iter().any(|one| one["name"] == item["name"]) => {}
        Some(all) => all.push(item),
        None => spec[field] = json!([item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(name: &str, selector: Value, container: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"selector": selector, "containers": [container]}})
    }

    fn pod(labels: Value) -> Value {
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}})
    }

    #[test]
    fn a_selected_pod_gets_the_containers_in_order_of_the_sidecars_names() {
        let all = [
            sidecar("b", json!({"matchLabels": {"app": "web"}}), json!({"name": "two", "image": "two:1"})),
            sidecar("a", json!({}), json!({"name": "one", "args": ["sidecar", "topz"]})),
            sidecar("c", json!({"matchLabels": {"app": "db"}}), json!({"name": "three"})),
        ];
        let mut web = pod(json!({"app": "web"}));
        assert!(inject(&mut web, all.iter(), "patterns:1"));
        let names: Vec<_> = web["spec"]["containers"].as_array().into_iter().flatten().map(|c| &c["name"]).collect();
        assert_eq!(names, ["app", "one", "two"]);
        assert_eq!(web["spec"]["containers"][1]["image"], "patterns:1");
        assert_eq!(web["spec"]["containers"][2]["image"], "two:1");
        assert_eq!(web["metadata"]["annotations"][INJECTED], "a,b");
        let once = web.clone();
        assert!(!inject(&mut web, all.iter(), "patterns:1"), "a second time changes nothing");
        assert_eq!(web, once);
    }

    #[test]
    fn what_the_pod_itself_has_is_kept() {
        let one = [sidecar("a", json!({}), json!({"name": "app", "image": "other:1"}))];
        let mut web = pod(json!({}));
        assert!(inject(&mut web, one.iter(), "patterns:1"));
        assert_eq!(web["spec"]["containers"], json!([{"name": "app", "image": "app:1"}]));
    }

    #[test]
    fn a_pod_may_refuse() {
        let one = [sidecar("a", json!({}), json!({"name": "one"}))];
        let mut web = pod(json!({}));
        web["metadata"]["annotations"] = json!({INJECT: "false"});
        let before = web.clone();
        assert!(!inject(&mut web, one.iter(), "patterns:1"));
        assert_eq!(web, before);
    }
}
