//! `resourceFieldRef`: a container's requests and limits as text.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::{
    quantity,
    resources::{Side, amount},
};

/// What the node offers to pods: a limit that is not set falls back to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// Thousandths of a CPU.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
}

/// The value of `selector`; `own` is the container whose environment it stands in.
pub fn value(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    node: Allocatable,
) -> Result<String, String> {
    let container = match selector.container_name.as_deref().filter(|n| !n.is_empty()) {
        None => own.ok_or("containerName must be given")?,
        Some(name) => pod
            .spec
            .as_ref()
            .and_then(|s| s.containers.iter().chain(s.init_containers.iter().flatten()).find(|c| c.name == name))
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let (side, resource) = match selector.resource.split_once('.') {
        Some(("limits", resource)) => (Side::Limits, resource),
        Some(("requests", resource)) => (Side::Requests, resource),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let set = amount(container.resources.as_ref(), side, resource, quantity::milli_wide);
    let milli = match (set, side, resource) {
        (Some(value), ..) => value,
        // A request that is not set equals the limit.
        (None, Side::Requests, _) => {
            amount(container.resources.as_ref(), Side::Limits, resource, quantity::milli_wide).unwrap_or(0)
        }
        (None, Side::Limits, "cpu") => i128::from(node.cpu_milli),
        (None, Side::Limits, "memory") => i128::from(node.memory) * 1000,
        (None, Side::Limits, "ephemeral-storage") => i128::from(node.ephemeral_storage) * 1000,
        (None, Side::Limits, _) => 0,
    };
    let divisor = selector.divisor.as_ref().and_then(quantity::milli_wide).filter(|d| *d > 0).unwrap_or(1000);
    Ok(quantity::divided(milli, divisor).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_divided_rounded_up_and_fall_back_to_the_node() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{
            "name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}
        }]}}))
        .expect("a pod");
        let own = &pod.spec.as_ref().expect("a spec").containers[0];
        let node = Allocatable { cpu_milli: 2000, memory: 1 << 30, ephemeral_storage: 5 };
        let get = |resource: &str, divisor: Option<&str>| {
            let selector =
                serde_json::from_value(json!({"resource": resource, "divisor": divisor})).expect("a selector");
            value(&pod, Some(own), &selector, node)
        };
        assert_eq!(get("limits.cpu", None), Ok("2".into()));
        assert_eq!(get("limits.cpu", Some("1m")), Ok("1500".into()));
        assert_eq!(get("requests.cpu", Some("1m")), Ok("1500".into()));
        assert_eq!(get("requests.memory", Some("1Mi")), Ok("64".into()));
        assert_eq!(get("limits.memory", Some("1Mi")), Ok("1024".into()));
        assert!(get("cpu", None).is_err());
    }
}
