//! What the failure of a pod means to its Job (`podFailurePolicy`), and which successes are enough
//! (`successPolicy`). Pure.

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy},
    core::v1::{ContainerStatus, Pod},
};
use kube::ResourceExt;

use super::indexes::Indexes;

/// What follows from a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts towards the limits.
    Count,
    /// It does not.
    Ignore,
    /// Its index is over.
    FailIndex,
    /// The Job is over; this is why.
    FailJob(String),
}

/// The first rule that matches decides; without one the failure counts.
pub fn verdict(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.as_ref().map(|p| p.rules.as_slice()).unwrap_or_default();
    for (number, rule) in rules.iter().enumerate() {
        if let Some(what) = matches(rule, pod) {
            return match rule.action.as_str() {
                "Ignore" => Verdict::Ignore,
                "FailIndex" => Verdict::FailIndex,
                "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {number}")),
                _ => Verdict::Count,
            };
        }
    }
    Verdict::Count
}

/// What it is about the pod that matches the rule.
fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    if let Some(required) = &rule.on_exit_codes {
        let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        return all.filter_map(|c| exit_code(c, required).map(|code| (&c.name, code))).next().map(
            |(container, code)| {
                format!("Container {container} for pod {namespace}/{name} failed with exit code {code}")
            },
        );
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    patterns
        .flat_map(|p| {
            conditions.iter().find(|c| c.type_ == p.type_ && p.status.as_deref().unwrap_or("True") == c.status)
        })
        .next()
        .map(|condition| format!("Pod {namespace}/{name} has condition {}", condition.type_))
}

fn exit_code(container: &ContainerStatus, required: &PodFailurePolicyOnExitCodesRequirement) -> Option<i32> {
    if required.container_name.as_ref().is_some_and(|name| *name != container.name) {
        return None;
    }
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let listed = required.values.contains(&code);
    let matches = match required.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (code != 0 && matches).then_some(code)
}

/// The message of the first rule that the succeeded indexes fulfil.
pub fn success(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    let met =
        |rule: &k8s_openapi::api::batch::v1::SuccessPolicyRule| match (&rule.succeeded_indexes, rule.succeeded_count) {
            (Some(text), count) => {
                let wanted = Indexes::parse(text, completions);
                !wanted.is_empty() && wanted.common(succeeded) >= count.unwrap_or(wanted.len())
            }
            (None, Some(count)) => succeeded.len() >= count,
            (None, None) => false,
        };
    let number = policy?.rules.iter().position(|rule| !succeeded.is_empty() && met(rule))?;
    Some(format!("Matched rules at index {number}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(rules: Value) -> JobSpec {
        serde_json::from_value(json!({"template": {}, "podFailurePolicy": {"rules": rules}})).unwrap()
    }

    fn pod(container: &str, code: i32, condition: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {
            "containerStatuses": [{"name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code}}}],
            "conditions": [{"type": condition, "status": "True"}]}}))
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = json!([
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
        ]);
        for (pod, verdict_) in [
            (pod("main", 42, "DisruptionTarget"), Verdict::Ignore),
            (
                pod("main", 42, "Ready"),
                Verdict::FailJob(
                    "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1".into(),
                ),
            ),
            (pod("side", 42, "Ready"), Verdict::FailIndex),
            (pod("side", 1, "Ready"), Verdict::Count),
            (pod("side", 0, "Ready"), Verdict::Count),
        ] {
            assert_eq!(verdict(&spec(rules.clone()), &pod), verdict_);
        }
        let evicted = spec(json!([{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]}]));
        let words = "Pod n/p has condition DisruptionTarget matching FailJob rule at index 0";
        assert_eq!(verdict(&evicted, &pod("c", 1, "DisruptionTarget")), Verdict::FailJob(words.into()));
    }

    #[test]
    fn a_success_policy_is_met_by_indexes_by_count_or_by_both() {
        let policy = |rule: Value| -> SuccessPolicy { serde_json::from_value(json!({"rules": [rule]})).unwrap() };
        for (rule, succeeded, met) in [
            (json!({"succeededIndexes": "0,2"}), "0,2,4", true),
            (json!({"succeededIndexes": "0,2"}), "0,4", false),
            (json!({"succeededCount": 2}), "4,5", true),
            (json!({"succeededCount": 3}), "4,5", false),
            (json!({"succeededIndexes": "0-4", "succeededCount": 2}), "1,4", true),
            (json!({"succeededIndexes": "0-4", "succeededCount": 2}), "1,7", false),
        ] {
            let message = success(Some(&policy(rule.clone())), 10, &Indexes::parse(succeeded, 10));
            assert_eq!(message.is_some(), met, "{rule} {succeeded}");
        }
        assert_eq!(success(None, 10, &Indexes::parse("0-9", 10)), None);
    }
}
