//! Which endpoints of a Service's slices take traffic. Pure.

use std::{collections::BTreeSet, net::SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// The endpoints of one Service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Ready ones; if there are none, those that still serve while they terminate.
    pub active: Vec<SocketAddr>,
    /// The active ones on this node.
    pub local: Vec<SocketAddr>,
    /// The others that still exist.
    pub draining: Vec<SocketAddr>,
}

/// Chooses for the port of that name (empty for the unnamed one).
pub fn choose<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>, port_name: &str, node: &str) -> Chosen {
    let (mut ready, mut serving, mut all) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut local = BTreeSet::new();
    for slice in slices.into_iter().filter(|s| s.address_type == "IPv4" || s.address_type == "IPv6") {
        let port = slice.ports.iter().flatten().find(|p| p.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(address) = endpoint.addresses.first().and_then(|a| a.parse().ok()) else { continue };
            let address = SocketAddr::new(address, port);
            let (is_ready, is_serving) = conditions(endpoint);
            all.insert(address);
            if is_ready {
                ready.insert(address);
            }
            if is_serving {
                serving.insert(address);
            }
            if endpoint.node_name.as_deref() == Some(node) {
                local.insert(address);
            }
        }
    }
    let active = if ready.is_empty() { serving } else { ready };
    Chosen {
        local: active.intersection(&local).copied().collect(),
        draining: all.difference(&active).copied().collect(),
        active: active.into_iter().collect(),
    }
}

/// (ready, serving while terminating); an unknown condition counts as true, as the API documents.
fn conditions(endpoint: &Endpoint) -> (bool, bool) {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    (ready, serving && terminating)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(endpoints: serde_json::Value) -> Chosen {
        let slice: EndpointSlice = serde_json::from_value(
            json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 80}, {"name": "x", "port": 81}], "endpoints": endpoints}),
        )
        .expect("a slice");
        choose([&slice], "http", "here")
    }

    fn text(list: &[SocketAddr]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_endpoints_take_traffic_and_terminating_ones_only_if_no_other_does() {
        let ready = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "here"});
        let unready = json!({"addresses": ["10.0.0.2"], "conditions": {"ready": false}});
        let leaving =
            json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let got = chosen(json!([ready, unready, leaving]));
        assert_eq!(text(&got.active), ["10.0.0.1:80"]);
        assert_eq!(text(&got.local), ["10.0.0.1:80"]);
        assert_eq!(text(&got.draining), ["10.0.0.2:80", "10.0.0.3:80"]);
        let got = chosen(json!([unready, leaving]));
        assert_eq!(
            (text(&got.active), text(&got.draining)),
            (vec!["10.0.0.3:80".to_owned()], vec!["10.0.0.2:80".to_owned()])
        );
        assert_eq!(chosen(json!([unready])).active, []);
    }
}
