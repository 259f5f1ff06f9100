//! `/configz`: the settings that hold, as a `KubeletConfiguration`.

use http::Response;
use serde_json::{Map, Value, json};

use super::respond::{self, Body};
use crate::{
    agent::Agent,
    config::AgentConfig,
    node::{
        eviction::{
            self,
            threshold::{Limit, Signal, Threshold},
        },
        shutdown::Turn,
    },
};

pub(super) fn answer(agent: &Agent) -> Response<Body> {
    respond::json(&configuration(&agent.context.config))
}

fn configuration(config: &AgentConfig) -> Value {
    let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs());
    let of = |soft: bool| -> Vec<&Threshold> {
        config
            .eviction
            .thresholds
            .iter()
            .filter(|t| t.grace.is_some() == soft && t.signal != Signal::AllocatableMemory)
            .collect()
    };
    let limits = |thresholds: &[&Threshold]| -> Map<String, Value> {
        thresholds.iter().map(|t| (t.signal.name().to_owned(), limit(&t.limit).into())).collect()
    };
    let (hard, soft) = (of(false), of(true));
    let graces: Map<String, Value> =
        soft.iter().map(|t| (t.signal.name().to_owned(), seconds(t.grace.unwrap_or_default()).into())).collect();
    let mut shown = json!({"kubeletconfig": {
        "staticPodPath": config.manifests.as_ref().map(|p| p.to_string_lossy()).unwrap_or_default(),
        "port": config.port,
        "healthzPort": config.healthz.port(),
        "healthzBindAddress": config.healthz.ip(),
        "maxPods": config.max_pods,
        "podLogsDir": config.logs.pods,
        "podPidsLimit": config.pod_pids_limit.unwrap_or(-1),
        "podCIDR": config.pod_cidr,
        "clusterDNS": config.cluster_dns,
        "clusterDomain": config.cluster_domain,
        "resolvConf": config.resolv_conf,
        "containerLogMaxSize": config.log_max_size.to_string(),
        "containerLogMaxFiles": config.log_max_files,
        "containerLogMaxWorkers": config.log_rotation.workers,
        "containerLogMonitorInterval": seconds(config.log_rotation.interval),
        "registerWithTaints": config.register_with_taints,
        "allowedUnsafeSysctls": config.unsafe_sysctls,
        "seccompDefault": config.seccomp_default,
        "enforceNodeAllocatable": [if config.enforce_allocatable { "pods" } else { "none" }],
        "evictionHard": limits(&hard),
        "evictionSoft": limits(&soft),
        "evictionSoftGracePeriod": graces,
        "evictionPressureTransitionPeriod": seconds(config.eviction.transition),
        "evictionMaxPodGracePeriod": config.eviction.max_pod_grace,
        "imageGCHighThresholdPercent": config.images.high,
        "imageGCLowThresholdPercent": config.images.low,
        "imageMinimumGCAge": seconds(config.images.minimum_age),
        "imageMaximumGCAge": seconds(config.images.maximum_age.unwrap_or_default()),
        "enableSystemLogHandler": true,
        "enableDebuggingHandlers": true,
    }});
    let fields = &mut shown["kubeletconfig"];
    match config.shutdown.as_slice() {
        [others, critical] if (others.priority, critical.priority) == (0, eviction::CRITICAL) => {
            fields["shutdownGracePeriod"] = seconds(others.grace + critical.grace).into();
            fields["shutdownGracePeriodCriticalPods"] = seconds(critical.grace).into();
        }
        turns => {
            let turn = |t: &Turn| json!({"priority": t.priority, "shutdownGracePeriodSeconds": t.grace.as_secs()});
            fields["shutdownGracePeriodByPodPriority"] = turns.iter().map(turn).collect();
        }
    }
    shown
}

/// A part with an upper end has no form of its own in the configuration: it shows as the part.
fn limit(limit: &Limit) -> String {
    match limit {
        Limit::Part(part) | Limit::PartUpTo(part, _) => format!("{}%", (part * 1000.0).round() / 10.0),
        Limit::Absolute(bytes) => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_hold_are_shown_in_upstreams_form() {
        let mut config = AgentConfig::new("n", "/data");
        config.max_pods = 7;
        let shown = &configuration(&config)["kubeletconfig"];
        assert_eq!((&shown["maxPods"], &shown["seccompDefault"]), (&json!(7), &json!(false)));
        assert_eq!(shown["evictionHard"]["memory.available"], (100 << 20).to_string());
        assert_eq!(shown["evictionHard"]["nodefs.inodesFree"], "5%");
        assert_eq!(shown["evictionPressureTransitionPeriod"], "300s");
        assert_eq!(
            (&shown["shutdownGracePeriod"], &shown["shutdownGracePeriodCriticalPods"]),
            (&json!("30s"), &json!("10s"))
        );
        config.shutdown = vec![Turn { priority: 7, grace: std::time::Duration::from_secs(9) }];
        let shown = &configuration(&config)["kubeletconfig"];
        assert_eq!(
            (&shown["shutdownGracePeriod"], &shown["shutdownGracePeriodByPodPriority"]),
            (&Value::Null, &json!([{"priority": 7, "shutdownGracePeriodSeconds": 9}]))
        );
    }
}
