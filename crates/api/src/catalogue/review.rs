//! Questions that are answered and never stored.

use super::entry::{Entry, cluster, namespaced};
use crate::schema::types::*;

const CREATE: &[&str] = &["create"];

pub fn authentication() -> Vec<Entry> {
    const GROUP: &str = "authentication.k8s.io";
    vec![
        cluster(GROUP, "v1", "SelfSubjectReview", "selfsubjectreviews", &authentication_v1_SelfSubjectReview)
            .verbs(CREATE),
        cluster(GROUP, "v1", "TokenReview", "tokenreviews", &authentication_v1_TokenReview).verbs(CREATE),
    ]
}

pub fn authorization() -> Vec<Entry> {
    const GROUP: &str = "authorization.k8s.io";
    vec![
        namespaced(
            GROUP,
            "v1",
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
            &authorization_v1_LocalSubjectAccessReview,
        )
        .verbs(CREATE),
        cluster(
            GROUP,
            "v1",
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
            &authorization_v1_SelfSubjectAccessReview,
        )
        .verbs(CREATE),
        cluster(
            GROUP,
            "v1",
            "SelfSubjectRulesReview",
            "selfsubjectrulesreviews",
            &authorization_v1_SelfSubjectRulesReview,
        )
        .verbs(CREATE),
        cluster(GROUP, "v1", "SubjectAccessReview", "subjectaccessreviews", &authorization_v1_SubjectAccessReview)
            .verbs(CREATE),
    ]
}
