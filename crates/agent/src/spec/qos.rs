//! The quality-of-service class of a pod.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::quantity;

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Limits equal requests for CPU and memory in every container.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// As it stands in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class that a pod's resources give it.
pub fn of(pod: &Pod) -> QosClass {
    let Some(spec) = &pod.spec else { return QosClass::BestEffort };
    if let Some(resources) = &spec.resources {
        let (any, guaranteed) = measure(Some(resources));
        if any {
            return if guaranteed { QosClass::Guaranteed } else { QosClass::Burstable };
        }
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let (mut any, mut all) = (false, true);
    for container in containers {
        let (some, guaranteed) = measure(container.resources.as_ref());
        any |= some;
        all &= guaranteed;
    }
    match (any, all) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

fn measure(resources: Option<&ResourceRequirements>) -> (bool, bool) {
    let Some(resources) = resources else { return (false, false) };
    let amount = |map: &Option<std::collections::BTreeMap<String, _>>, name: &str| {
        map.as_ref().and_then(|m| m.get(name)).and_then(quantity::milli).filter(|v| *v > 0)
    };
    let (mut any, mut guaranteed) = (false, true);
    for name in ["cpu", "memory"] {
        let limit = amount(&resources.limits, name);
        // An absent request is defaulted to the limit.
        let request = amount(&resources.requests, name).or(limit);
        any |= limit.is_some() || request.is_some();
        guaranteed &= limit.is_some() && limit == request;
    }
    (any, guaranteed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(containers: serde_json::Value) -> QosClass {
        of(&serde_json::from_value(json!({"metadata": {}, "spec": {"containers": containers}})).expect("a pod"))
    }

    #[test]
    fn the_class_follows_requests_and_limits_of_all_containers() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        assert_eq!(class(json!([{"name": "a"}])), QosClass::BestEffort);
        assert_eq!(class(json!([{"name": "a", "resources": full}])), QosClass::Guaranteed);
        assert_eq!(
            class(json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1"}}}])),
            QosClass::Guaranteed
        );
        assert_eq!(class(json!([{"name": "a", "resources": full}, {"name": "b"}])), QosClass::Burstable);
        assert_eq!(class(json!([{"name": "a", "resources": {"requests": {"cpu": "1m"}}}])), QosClass::Burstable);
        assert_eq!(class(json!([{"name": "a", "resources": {"limits": {"cpu": "1"}}}])), QosClass::Burstable);
    }
}
