//! Secrets that hold a service account's token for good, and what is noted of them (KEP-2799).

/// The type of such a Secret.
pub const TYPE: &str = "kubernetes.io/service-account-token";
/// The annotation that names its account.
pub const ACCOUNT: &str = "kubernetes.io/service-account.name";
/// The annotation with that account's UID.
pub const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The label with the day on which the token was used last, as `2026-01-31`.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The label with the day since which it is not good any more.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// The ConfigMap in `kube-system` that tells in `since` from which day on uses are noted.
pub const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
