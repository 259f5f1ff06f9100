//! Which pod is ended first. Pure.

use std::{cmp::Reverse, sync::Arc};

use super::threshold::Signal;
use crate::pods::PodView;

/// A pod that could be ended.
pub struct Candidate {
    /// The pod.
    pub view: Arc<PodView>,
    /// Its priority.
    pub priority: i32,
    /// What it uses of what is short.
    pub usage: i64,
    /// What it asked for.
    pub request: i64,
    /// What each of its containers uses.
    pub containers: Vec<(String, i64)>,
}

/// Puts the first to go first: those that use more than they asked for, then those of lower priority, then those
/// that use most beyond what they asked for.
pub fn order(candidates: &mut [Candidate], signal: Signal) {
    candidates.sort_by_key(|c| {
        let requests = signal.requested().is_some();
        let within = requests && c.usage <= c.request;
        (within, c.priority, Reverse(if requests { c.usage - c.request } else { c.usage }))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_exceeds_goes_before_who_matters_less_before_who_uses_most() {
        let one = |name: &str, priority, usage, request| {
            let mut pod = k8s_openapi::api::core::v1::Pod::default();
            pod.metadata.name = Some(name.to_owned());
            let view =
                PodView { pod: Arc::new(pod), sandbox: None, containers: Vec::new(), failed: false, whole: None };
            Candidate { view: Arc::new(view), priority, usage, request, containers: Vec::new() }
        };
        let mut all = [
            one("within", 0, 500, 600),
            one("important", 9, 900, 0),
            one("greedy", 0, 300, 100),
            one("greedier", 0, 400, 100),
        ];
        let names = |all: &[Candidate]| -> Vec<String> {
            all.iter().filter_map(|c| c.view.pod.metadata.name.clone()).collect()
        };
        order(&mut all, Signal::MemoryAvailable);
        assert_eq!(names(&all), ["greedier", "greedy", "important", "within"]);
        order(&mut all, Signal::PidAvailable);
        assert_eq!(names(&all), ["within", "greedier", "greedy", "important"]);
    }
}
