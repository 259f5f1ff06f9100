//! `metav1.Status`: the one shape in which the API reports failure.
//!
//! Constructors carry upstream's codes, reasons and words (`k8s.io/apimachinery/pkg/api/errors`), because
//! clients and people know them by heart.

mod cause;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

pub use cause::{Cause, quoted};

/// The largest body of a request, in bytes.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// `metav1.Status` with `status: Failure`, or `Success` when the code is below 400 (some deletes).
///
/// Serializes as the whole object, `kind` and `apiVersion` included.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, thiserror::Error)]
#[serde(default)]
#[error("{message}")]
pub struct Status {
    /// Set only where a list can go on.
    pub metadata: Metadata,
    /// The HTTP status code.
    pub code: u16,
    /// A reason from `metav1.StatusReason`, such as `NotFound`; empty where upstream has none.
    pub reason: String,
    /// For people.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
}

/// `metav1.ListMeta`, as far as a status uses it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Where a list may go on, if its pages have expired.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (plural) or kind, as upstream fills it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// UID of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One entry a fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds after which a retry makes sense; 0 is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

impl Status {
    /// 200, as a delete answers that took effect at once.
    pub fn success(group: &str, plural: &str, name: &str, uid: &str) -> Self {
        let details = Details { uid: uid.into(), ..about(group, plural, name) };
        Self { code: 200, details: Some(Box::new(details)), ..Self::default() }
    }

    /// 404: no such object.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(plural, group), quoted(name));
        Self::new(404, "NotFound", message).details(about(group, plural, name))
    }

    /// 404: no such resource, version or path.
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").details(Details::default())
    }

    /// 409: a create of what exists.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {} already exists", qualified(plural, group), quoted(name));
        Self::new(409, "AlreadyExists", message).details(about(group, plural, name))
    }

    /// 409: every name generated from `generateName` was taken.
    pub fn generate_name_conflict(group: &str, plural: &str, name: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            qualified(plural, group),
            quoted(name)
        );
        Self::new(409, "AlreadyExists", message).details(Details { retry_after_seconds, ..about(group, plural, name) })
    }

    /// 409: a write based on an old version.
    pub fn conflict(group: &str, plural: &str, name: &str) -> Self {
        Self::conflict_because(
            group,
            plural,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 with the words of the caller, such as those on preconditions.
    pub fn conflict_because(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {}: {why}", qualified(plural, group), quoted(name));
        Self::new(409, "Conflict", message).details(about(group, plural, name))
    }

    /// 409: server-side apply met fields of other managers.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message).details(Details { causes, ..Details::default() })
    }

    /// 422: one or more fields are wrong.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut message = format!("{} {} is invalid", qualified(kind, group), quoted(name));
        let mut faults: Vec<String> = Vec::new();
        for cause in &causes {
            let fault = cause.to_string();
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        match faults.as_slice() {
            [] => {}
            [one] => write!(message, ": {one}").expect("writing to a String does not fail"),
            several => write!(message, ": [{}]", several.join(", ")).expect("writing to a String does not fail"),
        }
        Self::new(422, "Invalid", message).details(Details { causes, ..about(group, kind, name) })
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: no valid credentials.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403; `name` may be empty.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: impl AsRef<str>) -> Self {
        let why = why.as_ref();
        let message = match (plural, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", qualified(plural, group)),
            _ => format!("{} {} is forbidden: {why}", qualified(plural, group), quoted(name)),
        };
        Self::new(403, "Forbidden", message).details(about(group, plural, name))
    }

    /// 405: the resource lacks that verb.
    pub fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .details(Details::default())
    }

    /// 406: none of the wanted representations can be had.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {}", accepted.join(", ")))
    }

    /// 415: the body is in a format that is not understood.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    /// 413: a body above [`BODY_LIMIT`].
    pub fn too_large() -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {BODY_LIMIT}"))
    }

    /// 410: a watch from a revision that is compacted.
    pub fn watch_expired() -> Self {
        Self::expired("The resourceVersion for the provided watch is too old.")
    }

    /// 410: a list at a revision that is compacted.
    pub fn list_expired() -> Self {
        Self::expired("The resourceVersion for the provided list is too old.")
    }

    /// 410: a page of a list at a revision that is compacted; `continue_token` goes on at the latest one.
    pub fn continue_expired(continue_token: String) -> Self {
        let mut status = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new \
             list without the continue parameter, or use the continue token in this response to retrieve the \
             remainder of the results. Continuing with the provided token results in an inconsistent list - objects \
             that were created, modified, or deleted between the time the first chunk was returned and now may show \
             up in the list.",
        );
        status.metadata.continue_token = continue_token;
        status
    }

    /// 410 with the words of the caller.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 504: not done in time; it may still be done later.
    pub fn timeout(message: impl AsRef<str>, retry_after_seconds: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.as_ref()))
            .details(Details { retry_after_seconds, ..Details::default() })
    }

    /// 504: a list or watch asks for a revision that the server has not reached yet.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        Self::new(504, "Timeout", format!("Timeout: Too large resource version: {asked}, current: {current}"))
            .details(Details { causes: vec![cause], retry_after_seconds: 1, ..Details::default() })
    }

    /// 500: the operation could not be completed for now.
    pub fn server_timeout(group: &str, plural: &str, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            qualified(plural, group)
        );
        Self::new(500, "ServerTimeout", message)
            .details(Details { retry_after_seconds, ..about(group, plural, operation) })
    }

    /// 500: the server's own fault.
    pub fn internal_error(error: impl std::fmt::Display) -> Self {
        let error = error.to_string();
        let message = format!("Internal error occurred: {error}");
        let cause = Cause { reason: String::new(), message: error, field: String::new() };
        Self::new(500, "InternalError", message).details(Details { causes: vec![cause], ..Details::default() })
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).details(Details { retry_after_seconds, ..Details::default() })
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// Any other failure.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), ..Self::default() }
    }

    /// With these details.
    #[must_use]
    pub fn details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// Whether this is a success.
    pub fn is_success(&self) -> bool {
        self.code < 400
    }

    /// The whole object as JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a status has only strings and numbers")
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "Status")?;
        map.serialize_entry("apiVersion", "v1")?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("status", if self.is_success() { "Success" } else { "Failure" })?;
        if !self.message.is_empty() {
            map.serialize_entry("message", &self.message)?;
        }
        if !self.reason.is_empty() {
            map.serialize_entry("reason", &self.reason)?;
        }
        if let Some(details) = &self.details {
            map.serialize_entry("details", details)?;
        }
        if !self.is_success() {
            map.serialize_entry("code", &self.code)?;
        }
        map.end()
    }
}

fn about(group: &str, kind: &str, name: &str) -> Details {
    Details { name: name.into(), group: group.into(), kind: kind.into(), ..Details::default() }
}

/// `deployments.apps`, or `pods` for the core group.
fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.into() } else { format!("{resource}.{group}") }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
