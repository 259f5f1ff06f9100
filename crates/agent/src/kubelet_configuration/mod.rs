//! A `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`): the fields of upstream's file that mean something here.
//! Others are refused, so that nobody relies on what is not kept.

mod thresholds;
mod values;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::api::resource::Quantity};
use serde::Deserialize;

use self::values::{amount, duration, set};
use crate::{
    config::AgentConfig,
    logs::links::LogPlaces,
    node::shutdown::{self, Turn},
    spec::quantity,
};

/// What can't be made of a file; the text names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("KubeletConfiguration: {0}")]
pub struct ConfigurationError(String);

/// Where collectors of logs look for links, by upstream's convention.
const LOG_LINKS: &str = "/var/log/containers";

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubeletConfiguration {
    kind: String,
    api_version: String,
    port: Option<u16>,
    healthz_port: Option<u16>,
    healthz_bind_address: Option<IpAddr>,
    static_pod_path: Option<PathBuf>,
    max_pods: Option<u32>,
    pod_logs_dir: Option<PathBuf>,
    pod_pids_limit: Option<i64>,
    container_log_max_size: Option<String>,
    container_log_max_files: Option<u32>,
    container_log_max_workers: Option<u32>,
    container_log_monitor_interval: Option<String>,
    register_with_taints: Vec<Taint>,
    allowed_unsafe_sysctls: Vec<String>,
    seccomp_default: Option<bool>,
    system_reserved: BTreeMap<String, String>,
    kube_reserved: BTreeMap<String, String>,
    enforce_node_allocatable: Option<Vec<String>>,
    eviction_hard: Option<BTreeMap<String, String>>,
    eviction_soft: BTreeMap<String, String>,
    eviction_soft_grace_period: BTreeMap<String, String>,
    eviction_minimum_reclaim: BTreeMap<String, String>,
    merge_default_eviction_settings: Option<bool>,
    eviction_pressure_transition_period: Option<String>,
    eviction_max_pod_grace_period: Option<u64>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low_threshold_percent: Option<u8>,
    #[serde(rename = "imageMinimumGCAge")]
    image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageMaximumGCAge")]
    image_maximum_gc_age: Option<String>,
    shutdown_grace_period: Option<String>,
    shutdown_grace_period_critical_pods: Option<String>,
    shutdown_grace_period_by_pod_priority: Vec<ByPriority>,
}

/// `ShutdownGracePeriodByPodPriority`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ByPriority {
    priority: i32,
    shutdown_grace_period_seconds: u64,
}

impl KubeletConfiguration {
    /// Reads a document.
    ///
    /// # Errors
    /// An unknown field, or one of another type.
    pub fn parse(document: serde_json::Value) -> Result<Self, ConfigurationError> {
        let parsed: Self = serde_json::from_value(document).map_err(|e| ConfigurationError(e.to_string()))?;
        match (parsed.kind.as_str(), parsed.api_version.as_str()) {
            ("KubeletConfiguration", "kubelet.config.k8s.io/v1beta1") => Ok(parsed),
            (kind, version) => Err(ConfigurationError(format!(
                "no kind {kind:?} is registered for version {version:?}: kubelet.config.k8s.io/v1beta1 KubeletConfiguration is expected"
            ))),
        }
    }

    /// Changes the agent's settings to what it says.
    ///
    /// # Errors
    /// A value that can't be understood.
    pub fn apply(&self, config: &mut AgentConfig) -> Result<(), ConfigurationError> {
        if let Some(path) = &self.static_pod_path {
            config.manifests = Some(path.clone()).filter(|p| !p.as_os_str().is_empty());
        }
        config.port = self.port.unwrap_or(config.port);
        if config.port == 0 {
            return Err(ConfigurationError(
                "invalid configuration: port (--port) 0 must be between 1 and 65535, inclusive".to_owned(),
            ));
        }
        config.healthz.set_port(self.healthz_port.unwrap_or(config.healthz.port()));
        config.healthz.set_ip(self.healthz_bind_address.unwrap_or(config.healthz.ip()));
        if let Some(directory) = &self.pod_logs_dir {
            if !directory.is_absolute() {
                return Err(ConfigurationError(format!(
                    "invalid configuration: pod logs path {:?} must be absolute path",
                    directory.to_string_lossy()
                )));
            }
            config.logs = LogPlaces { pods: directory.clone(), links: Some(PathBuf::from(LOG_LINKS)) };
        }
        config.max_pods = self.max_pods.unwrap_or(config.max_pods);
        config.pod_pids_limit = self.pod_pids_limit.map_or(config.pod_pids_limit, |n| Some(n).filter(|n| *n > 0));
        if let Some(size) = &self.container_log_max_size {
            config.log_max_size = amount("containerLogMaxSize", size)?.unsigned_abs();
        }
        config.log_max_files = self.container_log_max_files.unwrap_or(config.log_max_files);
        if config.log_max_files <= 1 {
            return Err(ConfigurationError(format!(
                "failed to initialize container log manager: invalid MaxFiles {}, must be > 1",
                config.log_max_files
            )));
        }
        self.rotation(config)?;
        self.taints(config)?;
        config.unsafe_sysctls.clone_from(&self.allowed_unsafe_sysctls);
        config.seccomp_default = self.seccomp_default.unwrap_or(config.seccomp_default);
        for (field, reserved) in [("systemReserved", &self.system_reserved), ("kubeReserved", &self.kube_reserved)] {
            self.reserve(config, field, reserved)?;
        }
        if let Some(whom) = &self.enforce_node_allocatable {
            config.enforce_allocatable = match whom.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["pods"] => true,
                [] | ["none"] => false,
                other => {
                    return Err(ConfigurationError(format!(
                        "invalid configuration: option {other:?} specified for enforceNodeAllocatable: [\"pods\"] and [\"none\"] are kept"
                    )));
                }
            };
        }
        self.thresholds(config)?;
        let images = &mut config.images;
        images.high = self.image_gc_high_threshold_percent.unwrap_or(images.high);
        images.low = self.image_gc_low_threshold_percent.unwrap_or(images.low);
        if images.high > 100 || images.low >= images.high {
            return Err(ConfigurationError(
                "invalid configuration: imageGCLowThresholdPercent must be less than imageGCHighThresholdPercent, which is at most 100"
                    .to_owned(),
            ));
        }
        set(&mut images.minimum_age, "imageMinimumGCAge", self.image_minimum_gc_age.as_deref())?;
        if let Some(text) = &self.image_maximum_gc_age {
            images.maximum_age = Some(duration("imageMaximumGCAge", text)?).filter(|age| !age.is_zero());
        }
        if images.maximum_age.is_some_and(|most| most <= images.minimum_age) {
            return Err(ConfigurationError(format!(
                "invalid configuration: imageMaximumGCAge {}s must be greater than imageMinimumGCAge {}s",
                images.maximum_age.unwrap_or_default().as_secs_f64(),
                images.minimum_age.as_secs_f64()
            )));
        }
        self.shutdown(config)
    }

    /// Logs are rotated by who writes them, at the line that would be too much: whatever the interval and the number of
    /// workers, none is ever late.
    fn rotation(&self, config: &mut AgentConfig) -> Result<(), ConfigurationError> {
        let rotation = &mut config.log_rotation;
        rotation.workers = self.container_log_max_workers.unwrap_or(rotation.workers);
        if rotation.workers < 1 {
            return Err(ConfigurationError(
                "invalid configuration: containerLogMaxWorkers must be greater than or equal to 1".to_owned(),
            ));
        }
        set(&mut rotation.interval, "containerLogMonitorInterval", self.container_log_monitor_interval.as_deref())?;
        if rotation.interval < Duration::from_secs(3) {
            return Err(ConfigurationError(
                "invalid configuration: containerLogMonitorInterval must be a positive time duration greater than or equal to 3s"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn taints(&self, config: &mut AgentConfig) -> Result<(), ConfigurationError> {
        for taint in &self.register_with_taints {
            if taint.time_added.is_some() {
                return Err(ConfigurationError("invalid configuration: taint.TimeAdded is not nil".to_owned()));
            }
            let effect = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str());
            if taint.key.is_empty() || !effect {
                let value = taint.value.as_deref().unwrap_or_default();
                let text = format!("invalid taint: {}={value}:{}", taint.key, taint.effect);
                return Err(ConfigurationError(text));
            }
        }
        config.register_with_taints.clone_from(&self.register_with_taints);
        Ok(())
    }

    fn shutdown(&self, config: &mut AgentConfig) -> Result<(), ConfigurationError> {
        let periods = [&self.shutdown_grace_period, &self.shutdown_grace_period_critical_pods];
        let (mut all, mut critical) = (Duration::ZERO, Duration::ZERO);
        set(&mut all, "shutdownGracePeriod", self.shutdown_grace_period.as_deref())?;
        set(&mut critical, "shutdownGracePeriodCriticalPods", self.shutdown_grace_period_critical_pods.as_deref())?;
        if critical > all {
            return Err(ConfigurationError(format!(
                "invalid configuration: shutdownGracePeriodCriticalPods {{{}s}} must be <= shutdownGracePeriod {{{}s}}",
                critical.as_secs_f64(),
                all.as_secs_f64()
            )));
        }
        let turn = |by: &ByPriority| Turn {
            priority: by.priority,
            grace: Duration::from_secs(by.shutdown_grace_period_seconds),
        };
        let mut turns: Vec<Turn> = self.shutdown_grace_period_by_pod_priority.iter().map(turn).collect();
        if !turns.is_empty() && !all.is_zero() {
            return Err(ConfigurationError(
                "invalid configuration: Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
                    .to_owned(),
            ));
        }
        if !turns.is_empty() {
            turns.sort_by_key(|turn| turn.priority);
            config.shutdown = turns;
        } else if periods.iter().any(|period| period.is_some()) {
            config.shutdown = shutdown::turns(all, critical);
        }
        Ok(())
    }

    fn reserve(
        &self,
        config: &mut AgentConfig,
        field: &str,
        reserved: &BTreeMap<String, String>,
    ) -> Result<(), ConfigurationError> {
        for (resource, text) in reserved {
            let quantity = Quantity(text.clone());
            let read = if resource == "cpu" { quantity::milli } else { quantity::whole };
            let bad = || ConfigurationError(format!("invalid configuration: {field}.{resource}: {text:?}"));
            let amount = read(&quantity).filter(|a| *a >= 0).ok_or_else(bad)?;
            match resource.as_str() {
                "cpu" => config.reserved.cpu_milli += amount,
                "memory" => config.reserved.memory += amount,
                "ephemeral-storage" => config.reserved.ephemeral_storage += amount,
                "pid" => {}
                _ => return Err(bad()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::eviction::threshold::{Limit, Signal};

    fn read(fields: serde_json::Value) -> Result<AgentConfig, String> {
        let mut document = json!({"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"});
        document.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let mut config = AgentConfig::new("n", "/data");
        let parsed = KubeletConfiguration::parse(document).map_err(|e| e.to_string())?;
        parsed.apply(&mut config).map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn upstreams_fields_become_settings() {
        let config = read(json!({
            "maxPods": 20, "podLogsDir": "/var/log/pods", "healthzPort": 1248, "containerLogMaxSize": "1Mi", "allowedUnsafeSysctls": ["net.core.*"],
            "systemReserved": {"cpu": "500m", "memory": "1Gi"}, "kubeReserved": {"cpu": "250m"},
            "evictionHard": {"memory.available": "5%"},
            "evictionSoft": {"nodefs.available": "10Gi"}, "evictionSoftGracePeriod": {"nodefs.available": "1m30s"},
            "imageGCHighThresholdPercent": 70, "imageGCLowThresholdPercent": 60, "imageMinimumGCAge": "1h",
            "imageMaximumGCAge": "24h", "containerLogMonitorInterval": "3s", "containerLogMaxWorkers": 2,
            "registerWithTaints": [{"key": "example.com/kind", "value": "gpu", "effect": "NoExecute"}],
            "shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s", "seccompDefault": true,
        }))
        .expect("understood");
        assert_eq!((config.max_pods, config.log_max_size, config.reserved.cpu_milli), (20, 1 << 20, 750));
        let [hard, soft] = config.eviction.thresholds.as_slice() else { panic!("{:?}", config.eviction) };
        assert_eq!((hard.signal, hard.limit, hard.grace), (Signal::MemoryAvailable, Limit::Part(0.05), None));
        assert_eq!((soft.limit, soft.grace), (Limit::Absolute(10 << 30), Some(Duration::from_secs(90))));
        assert_eq!((config.images.high, config.images.minimum_age), (70, Duration::from_secs(3600)));
        assert_eq!(config.images.maximum_age, Some(Duration::from_secs(86_400)));
        assert_eq!((config.log_rotation.interval, config.log_rotation.workers), (Duration::from_secs(3), 2));
        assert_eq!(config.register_with_taints[0].effect, "NoExecute");
        assert_eq!(config.shutdown, shutdown::turns(Duration::from_secs(30), Duration::from_secs(10)));
        assert!(config.seccomp_default && config.enforce_allocatable);
        assert_eq!(config.healthz.to_string(), "127.0.0.1:1248");
        assert_eq!(config.logs.links.as_deref(), Some(std::path::Path::new("/var/log/containers")));
    }

    #[test]
    fn thresholds_are_left_out_merged_and_reclaimed_beyond() {
        let config = read(json!({
            "evictionHard": {"memory.available": "0%", "nodefs.available": "1Gi", "imagefs.available": "100%"},
            "evictionMinimumReclaim": {"nodefs.available": "5%"},
        }))
        .expect("understood");
        let [disk] = config.eviction.thresholds.as_slice() else { panic!("{:?}", config.eviction) };
        assert_eq!((disk.limit, disk.reclaim), (Limit::Absolute(1 << 30), Some(Limit::Part(0.05))));
        let config = read(json!({
            "evictionHard": {"memory.available": "0%", "nodefs.available": "1Gi"}, "mergeDefaultEvictionSettings": true,
        }))
        .expect("understood");
        let named = |signal| config.eviction.thresholds.iter().filter(|t| t.signal == signal).count();
        assert_eq!((named(Signal::MemoryAvailable), named(Signal::NodefsAvailable)), (0, 1));
        assert_eq!((named(Signal::ImagefsAvailable), named(Signal::NodefsInodesFree)), (1, 1), "by default");
    }

    #[test]
    fn a_shutdown_has_the_turns_that_are_given_in_the_order_of_priorities() {
        let turn = |priority, seconds: u64| json!({"priority": priority, "shutdownGracePeriodSeconds": seconds});
        let config =
            read(json!({"shutdownGracePeriodByPodPriority": [turn(1000, 5), turn(0, 60)]})).expect("understood");
        let turns: Vec<_> = config.shutdown.iter().map(|t| (t.priority, t.grace.as_secs())).collect();
        assert_eq!(turns, [(0, 60), (1000, 5)]);
        let config = read(json!({"shutdownGracePeriod": "5s"})).expect("understood");
        assert_eq!(config.shutdown, shutdown::turns(Duration::from_secs(5), Duration::ZERO));
        assert_eq!(read(json!({})).expect("understood").shutdown, AgentConfig::new("n", "/data").shutdown);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for fields in [
            json!({"noSuchField": 1}),
            json!({"kind": "Pod"}),
            json!({"podLogsDir": "var/log/pods"}),
            json!({"evictionHard": {"memory.free": "1Gi"}}),
            json!({"evictionHard": {"memory.available": "200%"}}),
            json!({"evictionSoft": {"memory.available": "1Gi"}}),
            json!({"evictionMinimumReclaim": {"memory.available": "lots"}}),
            json!({"imageMinimumGCAge": "2 hours"}),
            json!({"imageGCHighThresholdPercent": 50}),
            json!({"imageMinimumGCAge": "1h", "imageMaximumGCAge": "1h"}),
            json!({"containerLogMonitorInterval": "2s"}),
            json!({"containerLogMaxWorkers": 0}),
            json!({"containerLogMaxFiles": 1}),
            json!({"registerWithTaints": [{"key": "k", "effect": "Sometimes"}]}),
            json!({"shutdownGracePeriod": "1s", "shutdownGracePeriodCriticalPods": "2s"}),
            json!({"shutdownGracePeriod": "1s",
                "shutdownGracePeriodByPodPriority": [{"priority": 0, "shutdownGracePeriodSeconds": 1}]}),
            json!({"systemReserved": {"gold": "1"}}),
            json!({"enforceNodeAllocatable": ["pods", "system-reserved"]}),
        ] {
            assert!(read(fields.clone()).is_err(), "{fields}");
        }
    }
}
