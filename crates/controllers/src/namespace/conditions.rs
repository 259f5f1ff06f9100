//! What a namespace that is going says of its going, in upstream's words. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::NamespaceCondition, apimachinery::pkg::apis::meta::v1::Time};

/// How far the deletion has got.
#[derive(Debug, Default)]
pub struct Progress {
    /// `pods`, `deployments.apps`…: how many are left.
    pub remaining: BTreeMap<String, usize>,
    /// How many of those hold each finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// What could not be deleted, and why.
    pub failures: Vec<String>,
    /// Why it is not known what kinds there are.
    pub discovery: Option<String>,
}

impl Progress {
    pub fn is_complete(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty() && self.discovery.is_none()
    }
}

/// The conditions after `before`; the time of transition moves with the status only.
pub fn conditions(before: &[NamespaceCondition], progress: &Progress, now: Timestamp) -> Vec<NamespaceCondition> {
    let list = |counts: &BTreeMap<String, usize>, what: &str| {
        counts.iter().map(|(name, n)| format!("{name} {what} {n} resource instances")).collect::<Vec<_>>().join(", ")
    };
    let discovery = progress
        .discovery
        .clone()
        .map(|error| ("DiscoveryFailed", format!("Discovery failed for some groups, {error}")));
    let content = (!progress.failures.is_empty()).then(|| {
        let (count, all) = (progress.failures.len(), progress.failures.join(", "));
        ("ContentDeletionFailed", format!("Failed to delete all resource types, {count} remaining: {all}"))
    });
    let remaining = (!progress.remaining.is_empty()).then(|| {
        ("SomeResourcesRemain", format!("Some resources are remaining: {}", list(&progress.remaining, "has")))
    });
    let finalizers = (!progress.finalizers.is_empty()).then(|| {
        let all = list(&progress.finalizers, "in");
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {all}"))
    });
    let rows = [
        (
            "NamespaceDeletionDiscoveryFailure",
            discovery,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            content,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        ("NamespaceContentRemaining", remaining, ("ContentRemoved", "All content successfully removed")),
        (
            "NamespaceFinalizersRemaining",
            finalizers,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    let mut result = before.to_vec();
    for (kind, trouble, (fine_reason, fine_message)) in rows {
        let status = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or((fine_reason, fine_message.to_owned()));
        let old = result.iter().position(|c| c.type_ == kind);
        let since = old.map(|i| &result[i]).filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        let fresh = NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        };
        match old {
            Some(index) => result[index] = fresh,
            None => result.push(fresh),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_said_and_taken_back_when_it_is_gone() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let progress = Progress {
            remaining: BTreeMap::from([("pods".into(), 2), ("secrets".into(), 1)]),
            finalizers: BTreeMap::from([("example.com/hold".into(), 1)]),
            ..Progress::default()
        };
        let first = conditions(&[], &progress, start);
        let find = |all: &[NamespaceCondition], kind: &str| all.iter().find(|c| c.type_ == kind).cloned().unwrap();
        let remaining = find(&first, "NamespaceContentRemaining");
        assert_eq!(
            (remaining.status.as_str(), remaining.message.as_deref()),
            (
                "True",
                Some("Some resources are remaining: pods has 2 resource instances, secrets has 1 resource instances"),
            )
        );
        let held = find(&first, "NamespaceFinalizersRemaining");
        let words = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
        assert_eq!(held.message.as_deref(), Some(words));
        let later: Timestamp = "2026-01-01T00:00:09Z".parse().unwrap();
        let second = conditions(&first, &Progress::default(), later);
        let remaining = find(&second, "NamespaceContentRemaining");
        assert_eq!((remaining.status.as_str(), remaining.reason.as_deref()), ("False", Some("ContentRemoved")));
        assert_eq!(remaining.last_transition_time, Some(Time(later)));
        assert_eq!(find(&second, "NamespaceDeletionContentFailure").last_transition_time, Some(Time(start)));
    }
}
