//! The variables that announce Services to a container (`enableServiceLinks`).

use k8s_openapi::api::core::v1::Service;

/// One set of variables for each Service with an address. `services` are those of the pod's namespace and
/// `default/kubernetes`, in the order in which they are to appear.
pub fn variables<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for service in services {
        let Some(spec) = &service.spec else { continue };
        let address = spec.cluster_ip.as_deref().unwrap_or_default();
        if address.is_empty() || address == "None" {
            continue;
        }
        let Some(ports) = spec.ports.as_ref().filter(|p| !p.is_empty()) else { continue };
        let name = upper(service.metadata.name.as_deref().unwrap_or_default());
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        out.push((format!("{name}_SERVICE_HOST"), address.to_owned()));
        out.push((format!("{name}_SERVICE_PORT"), ports[0].port.to_string()));
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.push((format!("{name}_SERVICE_PORT_{}", upper(port_name)), port.port.to_string()));
            }
        }
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
            let url = format!("{protocol}://{host}:{}", port.port);
            let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
            if index == 0 {
                out.push((format!("{name}_PORT"), url.clone()));
            }
            out.push((prefix.clone(), url));
            out.push((format!("{prefix}_PROTO"), protocol));
            out.push((format!("{prefix}_PORT"), port.port.to_string()));
            out.push((format!("{prefix}_ADDR"), address.to_owned()));
        }
    }
    out
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_is_announced_by_docker_style_variables() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "redis-master"},
            "spec": {"clusterIP": "10.0.0.11", "ports": [{"port": 6379, "name": "db", "protocol": "TCP"}]}
        }))
        .expect("a service");
        let headless: Service = serde_json::from_value(
            json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}),
        )
        .expect("a service");
        let got = variables([&service, &headless]);
        let expected = [
            ("REDIS_MASTER_SERVICE_HOST", "10.0.0.11"),
            ("REDIS_MASTER_SERVICE_PORT", "6379"),
            ("REDIS_MASTER_SERVICE_PORT_DB", "6379"),
            ("REDIS_MASTER_PORT", "tcp://10.0.0.11:6379"),
            ("REDIS_MASTER_PORT_6379_TCP", "tcp://10.0.0.11:6379"),
            ("REDIS_MASTER_PORT_6379_TCP_PROTO", "tcp"),
            ("REDIS_MASTER_PORT_6379_TCP_PORT", "6379"),
            ("REDIS_MASTER_PORT_6379_TCP_ADDR", "10.0.0.11"),
        ];
        assert_eq!(got, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
