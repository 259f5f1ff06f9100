//! `metav1.Status`: the one shape in which the API reports failure.

use serde::{Deserialize, Serialize};

/// `metav1.Status` with `status: Failure` (or `Success` for some deletes).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// A reason from `metav1.StatusReason`, such as `NotFound`; empty where upstream has none.
    pub reason: String,
    /// For people.
    pub message: String,
    /// What it is about.
    pub details: Option<Details>,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// API group.
    pub group: String,
    /// The resource (plural) or kind, as upstream fills it.
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// One entry a fault.
    pub causes: Vec<Cause>,
    /// Seconds after which a retry makes sense; 0 is none.
    pub retry_after_seconds: u32,
}

/// `metav1.StatusCause`: one invalid field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// A `metav1.CauseType`, such as `FieldValueRequired`.
    pub reason: String,
    /// As upstream words it, for instance `Required value: name or generateName is required`.
    pub message: String,
    /// The path, such as `spec.containers[0].image`.
    pub field: String,
}
