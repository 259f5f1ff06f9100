//! What a pod takes: upstream's `pods.go` of the evaluators, and `component-helpers/resource`.

use jiff::Timestamp;
use serde_json::Value;

use super::{Amounts, add, one, read};

/// What a pod requests (or is limited to, with the field `limits`): its containers together or the largest moment of
/// its start, and its overhead.
pub fn of_containers(pod: &Value, field: &str) -> Amounts {
    together(pod, field, |container| read(&container["resources"][field]), read(&pod["spec"]["resources"][field]))
}

fn together(pod: &Value, field: &str, of: impl Fn(&Value) -> Amounts, whole: Amounts) -> Amounts {
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in pod["spec"]["initContainers"].as_array().into_iter().flatten() {
        let mut now = of(container);
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, now);
            most(&mut peak, sidecars.clone());
        } else {
            add(&mut now, sidecars.clone());
            most(&mut peak, now);
        }
    }
    let mut total = sidecars;
    pod["spec"]["containers"].as_array().into_iter().flatten().for_each(|c| add(&mut total, of(c)));
    most(&mut total, peak);
    // The pod's own amounts stand for those of its containers.
    total.extend(whole);
    let mut overhead = read(&pod["spec"]["overhead"]);
    if field == "limits" {
        // Only what is limited anyway grows.
        overhead.retain(|name, _| total.contains_key(name));
    }
    add(&mut total, overhead);
    total
}

/// The same while it is resized: of what it asks for, what it was granted and what it has, the largest; what the node can
/// never give does not count (KEP-1287).
fn held(pod: &Value, field: &str) -> Amounts {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut pending = conditions.filter(|condition| condition["type"] == "PodResizePending");
    let infeasible = pending.any(|condition| condition["reason"] == "Infeasible");
    let largest = |asked: &Value, told: &Value| {
        let has = &told["resources"][field];
        let granted = if field == "requests" { &told["allocatedResources"] } else { &Value::Null };
        let is_told = !has.is_null() || !granted.is_null();
        let mut amounts = if infeasible && is_told { Amounts::new() } else { read(asked) };
        most(&mut amounts, read(has));
        most(&mut amounts, read(granted));
        amounts
    };
    let statuses = || {
        ["containerStatuses", "initContainerStatuses"]
            .into_iter()
            .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
    };
    let of = |container: &Value| {
        let told = statuses().find(|status| status["name"] == container["name"]);
        largest(&container["resources"][field], told.unwrap_or(&Value::Null))
    };
    let asked = &pod["spec"]["resources"][field];
    let whole = if asked.is_null() { Amounts::new() } else { largest(asked, &pod["status"]) };
    together(pod, field, of, whole)
}

/// A pod that has ended, or whose time to end is over, takes only its place among the objects.
pub(super) fn usage(pod: &Value, now: Timestamp) -> Amounts {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let marked: Option<Timestamp> = pod["metadata"]["deletionTimestamp"].as_str().and_then(|t| t.parse().ok());
    let mut used = Amounts::new();
    if ended || marked.is_some_and(|end| end < now) {
        return used;
    }
    used.insert("pods".into(), one());
    for (name, amount) in held(pod, "requests") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            used.insert(name.clone(), amount.clone());
        }
        used.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in held(pod, "limits") {
        used.insert(format!("limits.{name}"), amount);
    }
    used
}

fn most(a: &mut Amounts, b: Amounts) {
    for (name, amount) in b {
        if a.get(&name).is_none_or(|have| *have < amount) {
            a.insert(name, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::tests::{container, now, pod, text},
        *,
    };

    #[test]
    fn a_pod_takes_what_its_containers_ask_for() {
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = "Always".into();
        let object = pod(json!({
            "containers": [container("200m"), container("300m")],
            "initContainers": [sidecar, container("700m")],
            "overhead": {"cpu": "10m", "memory": "1Mi"},
        }));
        let used = super::super::usage("", "pods", &object, now());
        assert_eq!(text(&used, "requests.cpu").as_deref(), Some("810m"));
        assert_eq!(text(&used, "cpu").as_deref(), Some("810m"));
        assert_eq!(text(&used, "requests.example.com/gpu").as_deref(), Some("3"));
        assert_eq!(text(&used, "limits.memory").as_deref(), Some("193Mi"));
        assert_eq!(text(&used, "requests.memory").as_deref(), Some("1Mi"));
        assert_eq!(text(&used, "count/pods").as_deref(), Some("1"));
    }

    #[test]
    fn a_pod_that_ended_takes_only_its_place() {
        let mut object = pod(json!({"containers": [container("1")]}));
        object["status"]["phase"] = "Succeeded".into();
        assert_eq!(super::super::usage("", "pods", &object, now()).keys().collect::<Vec<_>>(), ["count/pods"]);
        object["status"]["phase"] = "Running".into();
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:59Z".into();
        assert_eq!(super::super::usage("", "pods", &object, now()).keys().collect::<Vec<_>>(), ["count/pods"]);
    }

    #[test]
    fn a_pod_that_is_resized_takes_the_largest_of_what_it_asks_for_and_has() {
        let cpu = |asked: &str, status: Value| {
            let mut object = pod(json!({"containers": [container(asked)]}));
            object["status"] = status;
            text(&usage(&object, now()), "requests.cpu")
        };
        let told = |granted: &str, has: &str| {
            json!({"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": granted},
                "resources": {"requests": {"cpu": has}, "limits": {"memory": "64Mi"}}}]})
        };
        assert_eq!(cpu("100m", json!({})).as_deref(), Some("100m"));
        assert_eq!(cpu("100m", told("100m", "300m")).as_deref(), Some("300m"), "not yet taken away");
        assert_eq!(cpu("200m", told("100m", "100m")).as_deref(), Some("200m"), "soon given");
        let mut never = told("100m", "100m");
        never["conditions"] = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
        assert_eq!(cpu("900", never.clone()).as_deref(), Some("100m"), "never given");
        never["conditions"][0]["reason"] = "Deferred".into();
        assert_eq!(cpu("2", never).as_deref(), Some("2"));
    }
}
