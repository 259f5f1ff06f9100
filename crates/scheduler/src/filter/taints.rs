//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether each taint is tolerated.
pub(super) fn all_tolerated(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    let tolerated = |t: &Taint| tolerates(tolerations, &t.key, t.value.as_deref().unwrap_or_default(), &t.effect);
    taints.iter().all(tolerated)
}

/// Whether one of the tolerations fits the taint.
pub(crate) fn tolerates(tolerations: &[Toleration], key: &str, value: &str, effect: &str) -> bool {
    let empty_or = |have: &Option<String>, want: &str| have.as_deref().is_none_or(|h| h.is_empty() || h == want);
    tolerations.iter().any(|t| {
        empty_or(&t.effect, effect)
            && empty_or(&t.key, key)
            && match t.operator.as_deref() {
                None | Some("" | "Equal") => t.value.as_deref().unwrap_or_default() == value,
                Some("Exists") => true,
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_fit_by_key_value_and_effect() {
        let toleration = |key: &str, operator: &str, value: &str, effect: &str| {
            let some = |s: &str| Some(s.to_owned()).filter(|s| !s.is_empty());
            let toleration_seconds = None;
            Toleration {
                key: some(key),
                operator: some(operator),
                value: some(value),
                effect: some(effect),
                toleration_seconds,
            }
        };
        for (given, want) in [
            (toleration("k", "Equal", "v", "NoSchedule"), true),
            (toleration("k", "", "v", ""), true),
            (toleration("k", "Exists", "", ""), true),
            (toleration("", "Exists", "", ""), true),
            (toleration("k", "Equal", "w", "NoSchedule"), false),
            (toleration("k", "Equal", "v", "NoExecute"), false),
            (toleration("j", "Exists", "", ""), false),
            (toleration("k", "Like", "v", ""), false),
        ] {
            assert_eq!(tolerates(std::slice::from_ref(&given), "k", "v", "NoSchedule"), want, "{given:?}");
        }
    }
}
