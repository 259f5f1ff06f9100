//! A `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`): the fields of upstream's file that mean something here.
//! Others are refused, so that nobody relies on what is not kept.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;

use crate::{
    config::AgentConfig,
    logs::links::LogPlaces,
    node::eviction::threshold::{Limit, Signal, Threshold},
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
    allowed_unsafe_sysctls: Vec<String>,
    seccomp_default: Option<bool>,
    system_reserved: BTreeMap<String, String>,
    kube_reserved: BTreeMap<String, String>,
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
    shutdown_grace_period: Option<String>,
    shutdown_grace_period_critical_pods: Option<String>,
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
        config.log_max_files = self.container_log_max_files.unwrap_or(config.log_max_files).max(1);
        config.unsafe_sysctls.clone_from(&self.allowed_unsafe_sysctls);
        config.seccomp_default = self.seccomp_default.unwrap_or(config.seccomp_default);
        for (field, reserved) in [("systemReserved", &self.system_reserved), ("kubeReserved", &self.kube_reserved)] {
            self.reserve(config, field, reserved)?;
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
        let (all, critical) = (&mut config.shutdown_grace, &mut config.shutdown_grace_critical);
        set(all, "shutdownGracePeriod", self.shutdown_grace_period.as_deref())?;
        set(critical, "shutdownGracePeriodCriticalPods", self.shutdown_grace_period_critical_pods.as_deref())?;
        if critical > all {
            return Err(ConfigurationError(
                "invalid configuration: shutdownGracePeriod must be >= shutdownGracePeriodCriticalPods".to_owned(),
            ));
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

    fn thresholds(&self, config: &mut AgentConfig) -> Result<(), ConfigurationError> {
        let eviction = &mut config.eviction;
        if let Some(hard) = &self.eviction_hard {
            let given = read_thresholds("evictionHard", hard, |_| Ok(None))?;
            // As upstream: what is not named then is not watched, unless the file says so.
            let keep = self.merge_default_eviction_settings.unwrap_or(false);
            let named = |t: &Threshold| hard.keys().any(|name| Signal::named(name) == Some(t.signal));
            eviction.thresholds.retain(|t| keep && !named(t));
            eviction.thresholds.extend(given);
        }
        let grace = |signal: &str| {
            let text = self.eviction_soft_grace_period.get(signal).ok_or_else(|| {
                ConfigurationError(format!("grace period must be specified for the soft eviction threshold {signal}"))
            })?;
            duration("evictionSoftGracePeriod", text).map(Some)
        };
        eviction.thresholds.extend(read_thresholds("evictionSoft", &self.eviction_soft, grace)?);
        for (name, text) in &self.eviction_minimum_reclaim {
            let bad = || unreadable("evictionMinimumReclaim", name, text);
            let signal = Signal::named(name).ok_or_else(bad)?;
            let limit = read_limit(text).ok_or_else(bad)?;
            eviction.thresholds.iter_mut().filter(|t| t.signal == signal).for_each(|t| t.reclaim = Some(limit));
        }
        set(
            &mut eviction.transition,
            "evictionPressureTransitionPeriod",
            self.eviction_pressure_transition_period.as_deref(),
        )?;
        eviction.max_pod_grace = self.eviction_max_pod_grace_period.unwrap_or(eviction.max_pod_grace);
        Ok(())
    }
}

fn read_thresholds(
    field: &str,
    map: &BTreeMap<String, String>,
    grace: impl Fn(&str) -> Result<Option<Duration>, ConfigurationError>,
) -> Result<Vec<Threshold>, ConfigurationError> {
    map.iter()
        // Upstream's way to say that a signal is not to be watched.
        .filter(|(_, text)| *text != "0%" && *text != "100%")
        .map(|(name, text)| {
            let bad = || unreadable(field, name, text);
            let signal = Signal::named(name).ok_or_else(bad)?;
            let limit = read_limit(text).ok_or_else(bad)?;
            Ok(Threshold { signal, limit, grace: grace(name)?, reclaim: None })
        })
        .collect()
}

fn read_limit(text: &str) -> Option<Limit> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.parse().ok().filter(|p| (0.0..=100.0).contains(p))?;
            Some(Limit::Part(percent / 100.0))
        }
        None => quantity::whole(&Quantity(text.to_owned())).filter(|a| *a >= 0).map(Limit::Absolute),
    }
}

fn unreadable(field: &str, signal: &str, text: &str) -> ConfigurationError {
    ConfigurationError(format!("{field}: eviction signal {signal}={text:?} can't be understood"))
}

fn amount(field: &str, text: &str) -> Result<i64, ConfigurationError> {
    let bad = || ConfigurationError(format!("invalid configuration: {field}: {text:?}"));
    quantity::whole(&Quantity(text.to_owned())).filter(|a| *a >= 0).ok_or_else(bad)
}

fn set(target: &mut Duration, field: &str, text: Option<&str>) -> Result<(), ConfigurationError> {
    if let Some(text) = text {
        *target = duration(field, text)?;
    }
    Ok(())
}

/// A duration as Go writes it: `1h30m`, `2.5s`, `100ms`, `0`.
fn duration(field: &str, text: &str) -> Result<Duration, ConfigurationError> {
    let bad = || ConfigurationError(format!("{field}: time: invalid duration {text:?}"));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        rest = tail;
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            "shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s", "seccompDefault": true,
        }))
        .expect("understood");
        assert_eq!((config.max_pods, config.log_max_size, config.reserved.cpu_milli), (20, 1 << 20, 750));
        let [hard, soft] = config.eviction.thresholds.as_slice() else { panic!("{:?}", config.eviction) };
        assert_eq!((hard.signal, hard.limit, hard.grace), (Signal::MemoryAvailable, Limit::Part(0.05), None));
        assert_eq!((soft.limit, soft.grace), (Limit::Absolute(10 << 30), Some(Duration::from_secs(90))));
        assert_eq!((config.images.high, config.images.minimum_age), (70, Duration::from_secs(3600)));
        assert_eq!(config.shutdown_grace, Duration::from_secs(30));
        assert!(config.seccomp_default);
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
            json!({"shutdownGracePeriod": "1s", "shutdownGracePeriodCriticalPods": "2s"}),
            json!({"systemReserved": {"gold": "1"}}),
        ] {
            assert!(read(fields.clone()).is_err(), "{fields}");
        }
    }
}
