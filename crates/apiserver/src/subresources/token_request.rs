//! `serviceaccounts/token`: a token for a service account, bound to a pod if the caller wishes.

use api::status::{Cause, Status};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    call::{Call, Reply},
    decode,
    failure::Outcome,
    token::Claims,
    verbs::create::rfc3339,
};

/// Upstream's least and greatest life of a token in seconds.
const SECONDS: (i64, i64) = (600, 1 << 32);
const DEFAULT_SECONDS: i64 = 3600;

pub(super) async fn create(call: &Call<'_>) -> Outcome<Reply> {
    call.server.cache.fresh().await;
    let mut request = if call.body.is_empty() {
        json!({})
    } else {
        decode::document(call, "io.k8s.api.authentication.v1.TokenRequest")?
    };
    let account = call.kind.get(&call.key()).ok_or_else(|| call.not_found())?.parse();
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or("").to_owned();
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let invalid =
        |name: &str, fault: Cause| Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![fault]);
    for (field, own) in [("name", &call.path.name), ("namespace", &call.path.namespace)] {
        if let Some(said) = request["metadata"][field].as_str().filter(|said| !said.is_empty() && said != own) {
            let why = format!("must match the service account {field} if specified");
            return Err(invalid(&call.path.name, Cause::invalid(format!("metadata.{field}"), said, &why)));
        }
    }
    let refuse = |fault| invalid("", fault);
    if seconds < SECONDS.0 {
        return Err(refuse(Cause::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 10 minutes",
        )));
    }
    if seconds > SECONDS.1 {
        return Err(refuse(Cause::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        )));
    }
    let asked: Vec<String> = request["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let audiences = if asked.is_empty() { vec![call.server.tokens.issuer.clone()] } else { asked };
    let account_uid = uid(&account);
    let reference = request["spec"]["boundObjectRef"].clone();
    let (kind, name) = (reference["kind"].as_str().unwrap_or(""), reference["name"].as_str().unwrap_or(""));
    let mut bound_uid = String::new();
    let mut node_name = String::new();
    let mut node_uid = String::new();
    if reference.is_object() {
        let (storage, namespace) = match kind {
            "Pod" => ("pods", call.path.namespace.as_str()),
            "Secret" => ("secrets", call.path.namespace.as_str()),
            "Node" => ("nodes", ""),
            other => {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to type {other:?} with name {name:?}",
                    call.path.name
                )));
            }
        };
        let object = call
            .server
            .cache
            .kind(storage)
            .named(namespace, name)
            .ok_or_else(|| Status::not_found("", storage, name))?
            .parse();
        bound_uid = uid(&object);
        if let Some(asked) = reference["uid"].as_str().filter(|asked| !asked.is_empty() && *asked != bound_uid) {
            let why = format!(
                "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict_because("", storage, name, &why));
        }
        if kind == "Pod" {
            let runs_as = object["spec"]["serviceAccountName"].as_str().unwrap_or("");
            if runs_as != call.path.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.path.name
                )));
            }
            node_name = object["spec"]["nodeName"].as_str().unwrap_or("").to_owned();
            if let Some(node) = call.server.cache.kind("nodes").named("", &node_name) {
                node_uid = uid(&node.parse());
            }
        }
    }
    let claims = Claims {
        namespace: &call.path.namespace,
        account: &call.path.name,
        account_uid: &account_uid,
        bound_to: reference.is_object().then_some((kind, name, bound_uid.as_str())),
        node: (!node_name.is_empty()).then_some((node_name.as_str(), node_uid.as_str())),
        audiences: &audiences,
        seconds,
    };
    let now = Timestamp::now();
    let (token, expires) = call.server.tokens.sign(&claims, now).map_err(Status::internal_error)?;
    request["kind"] = "TokenRequest".into();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["metadata"]["name"] = call.path.name.as_str().into();
    request["metadata"]["namespace"] = call.path.namespace.as_str().into();
    request["metadata"]["creationTimestamp"] = rfc3339(now).into();
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = seconds.into();
    request["status"] = json!({"token": token, "expirationTimestamp": rfc3339(expires)});
    Ok(Reply::Tree { code: 201, tree: request })
}
