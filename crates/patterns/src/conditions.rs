//! Status conditions: what is said, and since when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition says; when it began to say so is found by comparing with the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// For instance `Ready`.
    pub type_: &'static str,
    /// `None` is `Unknown`.
    pub status: Option<bool>,
    /// CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Said {
    /// It holds.
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(true), reason, message: message.into() }
    }

    /// It does not.
    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(false), reason, message: message.into() }
    }
}

/// The conditions that say so, with the times of `before` where a status did not change.
pub fn conditions(
    said: &[Said],
    before: &[Condition],
    generation: Option<i64>,
    now: jiff::Timestamp,
) -> Vec<Condition> {
    said.iter()
        .map(|one| {
            let status = match one.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let same = before.iter().find(|c| c.type_ == one.type_ && c.status == status);
            Condition {
                type_: one.type_.to_owned(),
                status: status.to_owned(),
                reason: one.reason.to_owned(),
                message: one.message.clone(),
                observed_generation: generation,
                last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
            }
        })
        .collect()
}

/// What changed its status: type, whether it holds now, reason and message.
pub fn transitions<'a>(after: &'a [Condition], before: &[Condition]) -> Vec<&'a Condition> {
    after.iter().filter(|c| !before.iter().any(|b| b.type_ == c.type_ && b.status == c.status)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
        let first = conditions(&[Said::no("Ready", "NoPodReady", "")], &[], Some(1), at(10));
        let same = conditions(&[Said::no("Ready", "ServiceNotFound", "x")], &first, Some(2), at(20));
        assert_eq!(same[0].last_transition_time.0, at(10));
        assert_eq!((same[0].reason.as_str(), same[0].observed_generation), ("ServiceNotFound", Some(2)));
        assert!(transitions(&same, &first).is_empty());
        let other = conditions(&[Said::yes("Ready", "Serving", "")], &same, Some(2), at(30));
        assert_eq!(other[0].last_transition_time.0, at(30));
        assert_eq!(transitions(&other, &same).len(), 1);
    }
}
