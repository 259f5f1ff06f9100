//! `service.kubernetes.io/topology-mode: Auto`: each zone is given as many of a Service's endpoints as it has of the
//! processors, most of them its own. Pure.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::{Endpoint, EndpointHints, ForZone},
};
use kube::ResourceExt;

/// How much more than its share an endpoint may have to bear.
const OVERLOAD: f64 = 0.2;

/// The event when hints appear.
pub(super) const ENABLED: &str = "TopologyAwareHintsEnabled";
/// The event when there are none.
pub(super) const DISABLED: &str = "TopologyAwareHintsDisabled";

/// Why endpoints get no hints: the text of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoHints {
    /// A node does not say what is needed, or there are no two zones.
    #[error(
        "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4"
    )]
    Nodes,
    /// Fewer endpoints than zones.
    #[error("Insufficient number of endpoints ({0} endpoints, {1} zones), addressType: IPv4")]
    Few(usize, usize),
    /// Some zone would be given less than it needs.
    #[error(
        "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold \
         ({0} endpoints, {1} zones), addressType: IPv4"
    )]
    Overload(usize, usize),
    /// An endpoint is nowhere.
    #[error("One or more endpoints do not have a zone specified, addressType: IPv4")]
    NoZone,
}

/// Whether the Service wants it.
pub(super) fn is_auto(service: &Service) -> bool {
    let mode = |name: &str| service.annotations().get(name).map(String::as_str);
    let mode = mode("service.kubernetes.io/topology-aware-hints").or(mode("service.kubernetes.io/topology-mode"));
    matches!(mode, Some("Auto" | "auto"))
}

/// What of a node counts: its zone and processors in thousandths, or nothing if it is not to be counted.
pub(super) fn share(node: &Node) -> Option<(Option<&str>, i64)> {
    const EXCLUDED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
    let status = node.status.as_ref()?;
    let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    if !is_ready || EXCLUDED.iter().any(|label| node.labels().contains_key(*label)) {
        return None;
    }
    let cpu = status.allocatable.as_ref().and_then(|a| a.get("cpu")?.0.parse::<Quantity>().ok());
    let cpu = cpu.map_or(0, |cpu| cpu.milli_value());
    let zone = node.labels().get("topology.kubernetes.io/zone").map(String::as_str).filter(|zone| !zone.is_empty());
    Some((zone, cpu))
}

/// The processors of each zone; nothing if some node does not tell, or if there are no two zones.
pub(super) fn zones<'a>(nodes: impl Iterator<Item = Option<(Option<&'a str>, i64)>>) -> Option<BTreeMap<String, i64>> {
    let mut out: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.flatten() {
        *out.entry(zone.filter(|_| cpu > 0)?.to_owned()).or_default() += cpu;
    }
    (out.len() >= 2).then_some(out)
}

/// Gives hints to the endpoints that are ready.
///
/// # Errors
/// Why there are none: then all endpoints are without.
pub(super) fn give(zones: Option<&BTreeMap<String, i64>>, endpoints: &mut [&mut Endpoint]) -> Result<(), NoHints> {
    let ready = |e: &Endpoint| e.conditions.as_ref().and_then(|c| c.ready) == Some(true);
    let of: Vec<Option<String>> = endpoints.iter().filter(|e| ready(e)).map(|e| e.zone.clone()).collect();
    let mut wanted = match share_out(zones, &of) {
        Ok(wanted) => wanted.into_iter(),
        Err(error) => {
            endpoints.iter_mut().for_each(|endpoint| endpoint.hints = None);
            return Err(error);
        }
    };
    for endpoint in endpoints {
        let zone = if ready(endpoint) { wanted.next() } else { None };
        let hints = |name| EndpointHints { for_zones: Some(vec![ForZone { name }]), for_nodes: None };
        endpoint.hints = zone.map(hints);
    }
    Ok(())
}

/// The zone for which each endpoint is, given where it is.
fn share_out(zones: Option<&BTreeMap<String, i64>>, of: &[Option<String>]) -> Result<Vec<String>, NoHints> {
    let zones = zones.ok_or(NoHints::Nodes)?;
    let total: i64 = zones.values().sum();
    if zones.len() > of.len() {
        return Err(NoHints::Few(of.len(), zones.len()));
    }
    let mut desired: BTreeMap<&str, f64> = BTreeMap::new();
    let mut least = 0.0;
    for (zone, cpu) in zones {
        let exact = *cpu as f64 / total as f64 * of.len() as f64;
        let minimum = (exact / (1.0 + OVERLOAD)).ceil();
        desired.insert(zone, exact.max(minimum));
        least += minimum;
        if least > of.len() as f64 {
            return Err(NoHints::Overload(of.len(), zones.len()));
        }
    }
    let mut out = of.iter().cloned().collect::<Option<Vec<String>>>().ok_or(NoHints::NoZone)?;
    let (mut giving, mut receiving) = exchanges(&desired, &out);
    for zone in &mut out {
        let Some(left) = giving.get_mut(zone.as_str()).filter(|left| **left > 0) else { continue };
        let Some((to, missing)) = receiving.iter_mut().find(|(_, missing)| **missing > 0) else { break };
        *left -= 1;
        *missing -= 1;
        *zone = (*to).to_owned();
    }
    Ok(out)
}

/// How many endpoints zones give away, and how many they get.
fn exchanges<'a>(
    desired: &BTreeMap<&'a str, f64>,
    present: &[String],
) -> (BTreeMap<&'a str, usize>, BTreeMap<&'a str, usize>) {
    let (mut surplus, mut want): (BTreeMap<&str, f64>, BTreeMap<&str, f64>) = (BTreeMap::new(), BTreeMap::new());
    for (zone, target) in desired {
        let has = present.iter().filter(|z| z == zone).count() as f64;
        if has > *target {
            surplus.insert(zone, has - target);
        } else if has < *target {
            want.insert(zone, target - has);
        }
    }
    let most = |of: &BTreeMap<&'a str, f64>| {
        of.iter().filter(|(_, n)| **n > 0.0).max_by(|a, b| a.1.total_cmp(b.1)).map(|(zone, n)| (*zone, *n))
    };
    let (mut giving, mut receiving): (BTreeMap<&str, usize>, BTreeMap<&str, usize>) = Default::default();
    while let (Some((from, given)), Some((to, taken))) = (most(&surplus), most(&want)) {
        if (given < 1.0 && taken < 1.0) || given < 0.5 || taken < 0.5 {
            break;
        }
        *giving.entry(from).or_default() += 1;
        *receiving.entry(to).or_default() += 1;
        surplus.entry(from).and_modify(|n| *n -= 1.0);
        want.entry(to).and_modify(|n| *n -= 1.0);
    }
    (giving, receiving)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn zones_of(list: &[(&str, i64)]) -> BTreeMap<String, i64> {
        list.iter().map(|(zone, cpu)| ((*zone).to_owned(), *cpu)).collect()
    }

    fn shared(zones: &[(&str, i64)], endpoints: &str) -> Result<String, NoHints> {
        let of: Vec<_> = endpoints.chars().map(|c| (c != '-').then(|| c.to_string())).collect();
        share_out(Some(&zones_of(zones)), &of).map(|out| out.concat())
    }

    #[test]
    fn endpoints_stay_with_their_zones_unless_another_has_too_few() {
        assert_eq!(shared(&[("a", 1000), ("b", 1000)], "aabb").as_deref(), Ok("aabb"));
        assert_eq!(shared(&[("a", 2000), ("b", 2000)], "aaab").as_deref(), Ok("baab"));
        assert_eq!(shared(&[("a", 1000), ("b", 1000), ("c", 1000)], "aaaaaa").as_deref(), Ok("bbccaa"));
        assert_eq!(shared(&[("a", 3000), ("b", 1000)], "aaabbb").as_deref(), Ok("aaaabb"), "by their processors");
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(share_out(None, &[]), Err(NoHints::Nodes));
        assert_eq!(shared(&[("a", 1), ("b", 1)], "a"), Err(NoHints::Few(1, 2)));
        assert_eq!(shared(&[("a", 1000), ("b", 1000)], "aab"), Err(NoHints::Overload(3, 2)));
        assert_eq!(shared(&[("a", 1000), ("b", 1000)], "ab-a"), Err(NoHints::NoZone));
        let text = NoHints::Few(1, 2).to_string();
        assert_eq!(text, "Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4");
    }

    #[test]
    fn nodes_count_that_are_ready_and_nobody_elses() {
        let node = |zone: &str, ready: &str, role: Option<&str>| -> Node {
            let mut node = json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": zone}},
                "status": {"allocatable": {"cpu": "1500m"}, "conditions": [{"type": "Ready", "status": ready}]}});
            if let Some(role) = role {
                node["metadata"]["labels"][format!("node-role.kubernetes.io/{role}")] = json!("");
            }
            serde_json::from_value(node).expect("a node")
        };
        let of = |nodes: &[Node]| zones(nodes.iter().map(share));
        let two = [node("a", "True", None), node("b", "True", None), node("b", "True", None)];
        assert_eq!(of(&two), Some(zones_of(&[("a", 1500), ("b", 3000)])));
        assert_eq!(of(&[node("a", "True", None), node("b", "False", None)]), None);
        assert_eq!(of(&[node("a", "True", None), node("b", "True", Some("control-plane"))]), None);
        assert_eq!(of(&[two[0].clone(), two[1].clone(), node("", "True", None)]), None, "one that is nowhere");
    }
}
