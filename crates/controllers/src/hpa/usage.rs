//! From what pods use to how many there should be. Pure (upstream's `replica_calculator.go`).

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::pods;

/// Ratios this near to one change nothing.
pub const TOLERANCE: f64 = 0.1;
/// The CPU of a pod that has just started says little.
const WARM_UP: SignedDuration = SignedDuration::from_mins(5);
/// A pod that was never ready this long after its start is not about to be.
const FIRST_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// What one pod uses, in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub value: i64,
    pub at: Timestamp,
    pub window: SignedDuration,
}

/// What each pod may be measured by.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Per cent of what the pods ask for (thousandths, by pod).
    Utilization(i64, &'a BTreeMap<String, i64>),
    /// Thousandths on average.
    Average(i64),
}

/// How many there should be, and what the pods use now: on average, and in per cent of what they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i32,
    pub average: i64,
    pub utilization: Option<i64>,
}

/// Why nothing can be proposed. Trying again later may help with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The selector finds no pod.
    #[error("no pods returned by selector while calculating replica count")]
    Pods,
    /// No pod that counts has a sample.
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    Samples,
    /// What a pod asks for is not known, so neither is how much of it it uses.
    #[error("missing request")]
    Request,
}

/// The pods in groups.
struct Groups {
    ready: usize,
    /// Not ready yet.
    unready: Vec<String>,
    /// Without a sample.
    missing: Vec<String>,
    samples: BTreeMap<String, i64>,
}

fn group(pods: &[Arc<Pod>], samples: &BTreeMap<String, Sample>, is_cpu: bool, now: Timestamp) -> Groups {
    let mut groups = Groups { ready: 0, unready: Vec::new(), missing: Vec::new(), samples: BTreeMap::new() };
    for pod in pods {
        let name = pod.name_any();
        if pod.metadata.deletion_timestamp.is_some() || pods::phase(pod) == "Failed" {
            continue;
        }
        let Some(sample) = samples.get(&name) else {
            let pending = pods::phase(pod) == "Pending";
            if pending {
                groups.unready.push(name)
            } else {
                groups.missing.push(name)
            }
            continue;
        };
        if pods::phase(pod) == "Pending" || (is_cpu && is_warming_up(pod, sample, now)) {
            groups.unready.push(name);
            continue;
        }
        groups.ready += 1;
        groups.samples.insert(name, sample.value);
    }
    groups
}

fn is_warming_up(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let ready = pods::condition(pod, "Ready");
    let changed = ready.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let (Some(started), Some(ready), Some(changed)) = (started, ready, changed) else { return true };
    if started.checked_add(WARM_UP).is_ok_and(|end| end > now) {
        let measured_after = changed.checked_add(sample.window).is_ok_and(|t| sample.at >= t);
        return ready.status == "False" || !measured_after;
    }
    ready.status == "False" && started.checked_add(FIRST_READINESS).is_ok_and(|end| end > changed)
}

impl Target<'_> {
    /// Used to wanted; the average; the utilization in per cent. `None`: a pod asks for nothing.
    fn ratio(self, samples: &BTreeMap<String, i64>) -> Option<(f64, i64, Option<i64>)> {
        let total: i64 = samples.values().sum();
        let average = total / (samples.len() as i64).max(1);
        match self {
            Self::Average(wanted) => Some((average as f64 / wanted.max(1) as f64, average, None)),
            Self::Utilization(wanted, requests) => {
                let asked: i64 = samples.keys().map(|pod| requests.get(pod)).sum::<Option<i64>>()?;
                let utilization = (total * 100) / asked.max(1);
                Some((utilization as f64 / wanted.max(1) as f64, average, Some(utilization)))
            }
        }
    }

    /// What a pod without a sample is taken to use, so that nothing is scaled down for want of knowledge.
    fn assumed(self, pod: &str) -> i64 {
        match self {
            Self::Average(wanted) => wanted,
            Self::Utilization(wanted, requests) => requests.get(pod).copied().unwrap_or(0) * wanted.max(100) / 100,
        }
    }
}

/// Whether a ratio calls for nothing.
pub fn is_near(ratio: f64) -> bool {
    (1.0 - ratio).abs() <= TOLERANCE
}

/// How many pods there should be. `Err`: why that can't be said.
pub fn propose(
    pods: &[Arc<Pod>],
    samples: &BTreeMap<String, Sample>,
    target: Target,
    is_cpu: bool,
    current: i32,
    now: Timestamp,
) -> Result<Proposal, Unknown> {
    if pods.is_empty() {
        return Err(Unknown::Pods);
    }
    let mut groups = group(pods, samples, is_cpu, now);
    if groups.samples.is_empty() {
        return Err(Unknown::Samples);
    }
    let (ratio, average, utilization) = target.ratio(&groups.samples).ok_or(Unknown::Request)?;
    let keep = Proposal { replicas: current, average, utilization };
    let counts_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !counts_unready && groups.missing.is_empty() {
        if is_near(ratio) {
            return Ok(keep);
        }
        return Ok(Proposal { replicas: (ratio * groups.ready as f64).ceil() as i32, ..keep });
    }
    for pod in &groups.missing {
        let value = if ratio < 1.0 { target.assumed(pod) } else { 0 };
        groups.samples.insert(pod.clone(), value);
    }
    if counts_unready {
        groups.samples.extend(groups.unready.iter().map(|pod| (pod.clone(), 0)));
    }
    let (cautious, _, _) = target.ratio(&groups.samples).ok_or(Unknown::Request)?;
    if is_near(cautious) || (ratio < 1.0) != (cautious < 1.0) {
        return Ok(keep);
    }
    let replicas = (cautious * groups.samples.len() as f64).ceil() as i32;
    let backwards = (cautious < 1.0 && replicas > current) || (cautious > 1.0 && replicas < current);
    Ok(if backwards { keep } else { Proposal { replicas, ..keep } })
}

/// How many there should be for a value that is not the pods' own: per pod on average, or as a whole.
pub fn propose_by_value(value: i64, wanted: i64, per_pod: bool, current: i32, ready: i32) -> i32 {
    let wanted = wanted.max(1) as f64;
    if per_pod {
        let ratio = value as f64 / (wanted * f64::from(current.max(1)));
        return if current > 0 && is_near(ratio) { current } else { (value as f64 / wanted).ceil() as i32 };
    }
    let ratio = value as f64 / wanted;
    match current {
        0 => ratio.ceil() as i32,
        _ if is_near(ratio) => current,
        _ => (ratio * f64::from(ready)).ceil() as i32,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    /// Pods, what they use, what they ask for.
    type World = (Vec<Arc<Pod>>, BTreeMap<String, Sample>, BTreeMap<String, i64>);

    /// `a=500` uses 500, `a?` has no sample, `a~500` is not ready yet.
    fn world(text: &str) -> World {
        let (mut pods, mut samples, mut requests) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for word in text.split_whitespace() {
            let (name, rest) = word.split_at(1);
            let young = rest.starts_with('~');
            let pod = json!({"metadata": {"name": name}, "status": {"phase": "Running", "startTime": if young { "2026-01-01T00:59:50Z" } else { "2026-01-01T00:00:00Z" },
                "conditions": [{"type": "Ready", "status": if young { "False" } else { "True" }, "lastTransitionTime": "2026-01-01T00:00:10Z"}]}});
            pods.push(Arc::new(serde_json::from_value(pod).unwrap()));
            requests.insert(name.to_owned(), 1000);
            if let Ok(value) = rest[1..].parse() {
                samples.insert(name.to_owned(), Sample { value, at: now(), window: SignedDuration::from_secs(15) });
            }
        }
        (pods, samples, requests)
    }

    #[test]
    fn replicas_follow_utilization() {
        for (text, wanted, current, replicas) in [
            ("a=500 b=500", 50, 2, 2),
            ("a=900 b=900", 50, 2, 4),
            ("a=540 b=540", 50, 2, 2),
            ("a=100 b=100 c=100", 50, 3, 1),
            // One unknown is taken for idle when growing, and for busy when shrinking.
            ("a=900 b=900 c?", 50, 3, 4),
            ("a=100 b=100 c?", 50, 3, 3),
            // One that is not ready yet keeps growth in bounds.
            ("a=900 b=900 c~900", 50, 3, 4),
            ("a=100 b=100 c~900", 50, 3, 1),
        ] {
            let (pods, samples, requests) = world(text);
            let proposal =
                propose(&pods, &samples, Target::Utilization(wanted, &requests), true, current, now()).unwrap();
            assert_eq!(proposal.replicas, replicas, "{text}");
        }
    }

    #[test]
    fn replicas_follow_averages_and_values() {
        let (pods, samples, _) = world("a=300 b=300");
        assert_eq!(propose(&pods, &samples, Target::Average(100), false, 2, now()).unwrap().replicas, 6);
        assert!(propose(&pods, &BTreeMap::new(), Target::Average(100), false, 2, now()).is_err());
        for (value, wanted, per_pod, current, replicas) in [
            (3000, 1000, true, 2, 3),
            (2100, 1000, true, 2, 2),
            (3000, 1000, false, 2, 6),
            (1050, 1000, false, 2, 2),
            (3000, 1000, false, 0, 3),
        ] {
            assert_eq!(
                propose_by_value(value, wanted, per_pod, current, current),
                replicas,
                "{value} {wanted} {per_pod} {current}"
            );
        }
    }
}
