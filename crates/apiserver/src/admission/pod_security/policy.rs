//! What the labels of a namespace say: how much pods may, by which version of the standards, and what follows if one
//! asks for more.

use std::fmt;

use api::status::Cause;
use serde_json::Value;

/// How the labels begin.
pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";
/// The standards that we know are those of our own version.
const NEWEST: u32 = 36;

/// How much pods may, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// Whose standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Latest,
    /// Of 1.x.
    Minor(u32),
}

impl Version {
    /// The minor version whose standards are meant, as far as we know them.
    pub fn minor(self) -> u32 {
        match self {
            Self::Latest => NEWEST,
            Self::Minor(minor) => minor.min(NEWEST),
        }
    }
}

/// What pods are held against; written `LEVEL:VERSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub level: Level,
    pub version: Version,
}

impl Default for Limit {
    fn default() -> Self {
        Self { level: Level::Privileged, version: Version::Latest }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace asks for. What it wants noted in an audit log is only read for its faults: there is no such log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    /// Pods beyond it are refused.
    pub enforce: Limit,
    /// Of pods beyond it users are warned.
    pub warn: Limit,
}

impl Policy {
    /// By a namespace's labels, and what is wrong with these.
    pub fn of(labels: &Value) -> (Self, Vec<Cause>) {
        let mut causes = Vec::new();
        let mut limit = |mode: &str, level_in_doubt: Level| {
            let mut read = |name: &str, wrong: &str, is_right: &dyn Fn(&str) -> bool| {
                let label = format!("{PREFIX}{name}");
                let value = labels[&label].as_str()?;
                let right = is_right(value);
                if !right {
                    causes.push(Cause::invalid(format!("metadata.labels[{label}]"), value, wrong));
                }
                Some(right.then(|| value.to_owned()))
            };
            let level = read(mode, "must be one of privileged, baseline, restricted", &|text| level(text).is_some());
            let version =
                read(&format!("{mode}-version"), "must be \"latest\" or \"v1.x\"", &|text| version(text).is_some());
            let known = level.as_ref().is_some_and(Option::is_some);
            let found = Limit {
                level: level
                    .as_ref()
                    .map_or(Level::Privileged, |text| text.as_deref().and_then(self::level).unwrap_or(level_in_doubt)),
                version: version.flatten().and_then(|text| self::version(&text)).unwrap_or(Version::Latest),
            };
            (found, level.is_some(), known)
        };
        let (enforce, _, is_known) = limit("enforce", Level::Restricted);
        limit("audit", Level::Privileged);
        let (mut warn, is_asked_for, _) = limit("warn", Level::Privileged);
        if !is_asked_for && is_known && enforce.level > warn.level {
            warn.level = enforce.level;
            if labels[format!("{PREFIX}warn-version")].is_null() {
                warn.version = enforce.version;
            }
        }
        (Self { enforce, warn }, causes)
    }
}

fn level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

fn version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::Latest);
    }
    let minor = text.strip_prefix("v1.")?;
    let is_plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
    minor.parse().ok().filter(|_| is_plain).map(Version::Minor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(labels: Value) -> (String, String, Vec<String>) {
        let (policy, causes) = Policy::of(&labels);
        (policy.enforce.to_string(), policy.warn.to_string(), causes.iter().map(Cause::to_string).collect())
    }

    #[test]
    fn labels_say_what_is_refused_and_what_is_warned_of() {
        let none = "privileged:latest".to_owned();
        assert_eq!(shown(Value::Null), (none.clone(), none.clone(), vec![]));
        let both = shown(
            json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.20"}),
        );
        assert_eq!(both, ("baseline:v1.20".into(), "baseline:v1.20".into(), vec![]));
        let split = shown(
            json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}),
        );
        assert_eq!(split, ("baseline:latest".into(), "restricted:latest".into(), vec![]));
        let warned = shown(
            json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "privileged"}),
        );
        assert_eq!(warned, ("restricted:latest".into(), none, vec![]));
    }

    #[test]
    fn labels_that_cannot_be_read_are_named_and_mean_the_strictest() {
        let (enforce, warn, causes) = shown(json!({"pod-security.kubernetes.io/enforce": "none",
            "pod-security.kubernetes.io/enforce-version": "v1.09", "pod-security.kubernetes.io/audit": "much"}));
        assert_eq!((enforce.as_str(), warn.as_str()), ("restricted:latest", "privileged:latest"));
        let level = "must be one of privileged, baseline, restricted";
        assert_eq!(
            causes,
            [
                format!("metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": {level}"),
                "metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"v1.09\": must be \"latest\" or \"v1.x\"".into(),
                format!("metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"much\": {level}"),
            ]
        );
    }
}
