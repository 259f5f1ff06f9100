use serde_json::{Value, json};

use super::*;

fn parsed(status: &Status) -> Value {
    serde_json::from_slice(&status.to_json()).expect("a status is JSON")
}

#[test]
fn a_failure_is_a_whole_object() {
    assert_eq!(
        parsed(&Status::not_found("apps", "deployments", "web")),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": r#"deployments.apps "web" not found"#, "reason": "NotFound",
            "details": {"name": "web", "group": "apps", "kind": "deployments"}, "code": 404,
        })
    );
    assert_eq!(
        parsed(&Status::unauthorized()),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Unauthorized", "reason": "Unauthorized", "code": 401})
    );
}

#[test]
fn a_success_has_no_code() {
    assert_eq!(
        parsed(&Status::success("", "pods", "a", "u")),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "a", "kind": "pods", "uid": "u"}})
    );
}

#[test]
fn faults_of_fields_are_listed_once_each() {
    let causes =
        vec![Cause::required("spec.a", ""), Cause::invalid("spec.b", 1, "too small"), Cause::required("spec.a", "")];
    let status = Status::invalid("apps", "Deployment", "web", causes);
    assert_eq!(
        status.message,
        r#"Deployment.apps "web" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: too small]"#
    );
    assert_eq!(status.code, 422);
    let details = status.details.expect("it has details");
    assert_eq!((details.kind.as_str(), details.causes.len()), ("Deployment", 3));
    let status = Status::invalid("", "Pod", "x", vec![Cause::forbidden("spec", "no")]);
    assert_eq!(status.message, r#"Pod "x" is invalid: spec: Forbidden: no"#);
    assert_eq!(
        parsed(&status)["details"]["causes"][0],
        json!({"reason": "FieldValueForbidden", "message": "Forbidden: no", "field": "spec"})
    );
    assert_eq!(Status::invalid("", "Pod", "x", vec![]).message, r#"Pod "x" is invalid"#);
}

#[test]
fn messages_are_upstreams() {
    for (status, code, reason, message) in [
        (Status::already_exists("", "pods", "a"), 409, "AlreadyExists", r#"pods "a" already exists"#),
        (
            Status::conflict("", "pods", "a"),
            409,
            "Conflict",
            r#"Operation cannot be fulfilled on pods "a": the object has been modified; please apply your changes to the latest version and try again"#,
        ),
        (Status::forbidden("", "pods", "", "no"), 403, "Forbidden", "pods is forbidden: no"),
        (
            Status::forbidden("apps", "deployments", "a", "no"),
            403,
            "Forbidden",
            r#"deployments.apps "a" is forbidden: no"#,
        ),
        (Status::forbidden("", "", "", "no"), 403, "Forbidden", "forbidden: no"),
        (
            Status::method_not_allowed(),
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        (Status::too_large(), 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"),
        (Status::watch_expired(), 410, "Expired", "The resourceVersion for the provided watch is too old."),
        (Status::list_expired(), 410, "Expired", "The resourceVersion for the provided list is too old."),
        (Status::timeout("slow", 1), 504, "Timeout", "Timeout: slow"),
        (Status::internal_error("x"), 500, "InternalError", "Internal error occurred: x"),
        (
            Status::too_large_resource_version(9, 3),
            504,
            "Timeout",
            "Timeout: Too large resource version: 9, current: 3",
        ),
        (
            Status::server_timeout("", "pods", "create", 1),
            500,
            "ServerTimeout",
            "The create operation against pods could not be completed at this time, please try again.",
        ),
    ] {
        assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (code, reason, message));
        assert_eq!(status.to_string(), message, "a status is an error whose text is its message");
    }
}

#[test]
fn an_expired_list_says_where_to_go_on() {
    let status = parsed(&Status::continue_expired("token".into()));
    assert_eq!(status["metadata"], json!({"continue": "token"}));
    assert_eq!((status["code"].as_u64(), status["reason"].as_str()), (Some(410), Some("Expired")));
}

#[test]
fn a_status_survives_the_wire() {
    let status = Status::invalid("", "Pod", "x", vec![Cause::too_long("a", 5)]);
    let read: Status = serde_json::from_slice(&status.to_json()).expect("a status is JSON");
    assert_eq!(read, status);
}
