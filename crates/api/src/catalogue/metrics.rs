//! `metrics.k8s.io`: what nodes and pods use. Measured when asked, never stored.

use super::entry::{Entry, cluster, namespaced};
use crate::schema::types::*;

const GROUP: &str = "metrics.k8s.io";
const ASKED: &[&str] = &["get", "list"];

pub fn entries() -> Vec<Entry> {
    vec![
        cluster(GROUP, "v1beta1", "NodeMetrics", "nodes", &metrics_v1beta1_NodeMetrics).verbs(ASKED).singular(""),
        namespaced(GROUP, "v1beta1", "PodMetrics", "pods", &metrics_v1beta1_PodMetrics).verbs(ASKED).singular(""),
    ]
}
