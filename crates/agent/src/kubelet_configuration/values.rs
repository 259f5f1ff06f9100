//! How values of a configuration are written: amounts, durations, limits.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::ConfigurationError;
use crate::{node::eviction::threshold::Limit, spec::quantity};

/// `5%` of what there is, or an amount.
pub(super) fn read_limit(text: &str) -> Option<Limit> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.parse().ok().filter(|p| (0.0..=100.0).contains(p))?;
            Some(Limit::Part(percent / 100.0))
        }
        None => quantity::whole(&Quantity(text.to_owned())).filter(|a| *a >= 0).map(Limit::Absolute),
    }
}

/// Bytes or a number, not negative.
pub(super) fn amount(field: &str, text: &str) -> Result<i64, ConfigurationError> {
    let bad = || ConfigurationError(format!("invalid configuration: {field}: {text:?}"));
    quantity::whole(&Quantity(text.to_owned())).filter(|a| *a >= 0).ok_or_else(bad)
}

/// Sets what is given.
pub(super) fn set(target: &mut Duration, field: &str, text: Option<&str>) -> Result<(), ConfigurationError> {
    if let Some(text) = text {
        *target = duration(field, text)?;
    }
    Ok(())
}

/// A duration as Go writes it: `1h30m`, `2.5s`, `100ms`, `0`.
pub(super) fn duration(field: &str, text: &str) -> Result<Duration, ConfigurationError> {
    let fault = |why: String| ConfigurationError(format!("{field}: {why}"));
    let nanoseconds = go_duration::read(text).map_err(|e| fault(e.to_string()))?;
    let nanoseconds = u64::try_from(nanoseconds).map_err(|_| fault(format!("{text:?} is negative")))?;
    Ok(Duration::from_nanos(nanoseconds))
}
