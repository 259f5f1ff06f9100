//! When the node ends pods: the fields of eviction.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ConfigurationError, KubeletConfiguration,
    values::{duration, read_limit, set},
};
use crate::{
    config::AgentConfig,
    node::eviction::threshold::{Signal, Threshold},
};

impl KubeletConfiguration {
    pub(super) fn thresholds(&self, config: &mut AgentConfig) -> Result<(), ConfigurationError> {
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

fn unreadable(field: &str, signal: &str, text: &str) -> ConfigurationError {
    ConfigurationError(format!("{field}: eviction signal {signal}={text:?} can't be understood"))
}
