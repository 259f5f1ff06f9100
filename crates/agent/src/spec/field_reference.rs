//! `fieldRef`: a pod's own fields as text.

use api::status::quoted;
use k8s_openapi::api::core::v1::Pod;

/// What is known of a pod only at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// All addresses of the pod, the primary one first; empty before its network exists.
    pub pod_ips: Vec<String>,
    /// Addresses of the node.
    pub host_ips: Vec<String>,
}

/// The text at `path` (environment variables and downward files); `None` if the path is not supported.
pub fn value(pod: &Pod, facts: &PodFacts, path: &str) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.annotations" => meta.annotations.as_ref(),
            "metadata.labels" => meta.labels.as_ref(),
            _ => return None,
        };
        return Some(values.and_then(|v| v.get(key)).cloned().unwrap_or_default());
    }
    let text = |s: Option<&String>| Some(s.cloned().unwrap_or_default());
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Some(map_text(meta.labels.as_ref())),
        "metadata.annotations" => Some(map_text(meta.annotations.as_ref())),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" => text(facts.host_ips.first()),
        "status.hostIPs" => Some(facts.host_ips.join(",")),
        "status.podIP" => text(facts.pod_ips.first()),
        "status.podIPs" => Some(facts.pod_ips.join(",")),
        _ => None,
    }
}

/// `map['key']` as (map, key).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` a line, sorted, with the value quoted as Go's `%q` does.
fn map_text(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", quoted(v))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_read_as_upstream_documents_them() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "say \"hi\"\n"}},
            "spec": {"containers": [], "nodeName": "node", "serviceAccountName": "sa"}
        }))
        .expect("a pod");
        let facts = PodFacts { pod_ips: vec!["10.0.0.1".into(), "fd00::1".into()], host_ips: vec!["192.0.2.1".into()] };
        for (path, expected) in [
            ("metadata.name", Some("web")),
            ("metadata.uid", Some("u")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.labels['none']", Some("")),
            ("metadata.labels", Some("a=\"say \\\"hi\\\"\\n\"\nb=\"2\"")),
            ("spec.nodeName", Some("node")),
            ("status.podIP", Some("10.0.0.1")),
            ("status.podIPs", Some("10.0.0.1,fd00::1")),
            ("status.hostIP", Some("192.0.2.1")),
            ("spec.hostname", None),
            ("spec.x['y']", None),
        ] {
            assert_eq!(value(&pod, &facts, path).as_deref(), expected, "{path}");
        }
    }
}
