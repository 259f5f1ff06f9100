//! Reviews: who am I, is this token good, may I do that.

use std::sync::Arc;

use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    authn,
    authz::{Action, Decision},
    call::{Call, Reply},
    config::User,
    decode,
    failure::Outcome,
    query::WriteOptions,
    verbs::create::rfc3339,
};

pub(super) async fn answer(call: &Call<'_>) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), "CreateOptions")?;
    let mut review = decode::body_as(call, &options, call.resource)?;
    if review["metadata"].is_null() {
        review["metadata"] = json!({});
    }
    match call.resource.kind {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = rfc3339(Timestamp::now()).into();
            review["status"] = json!({"userInfo": info(&call.user)});
        }
        "TokenReview" => review["status"] = token(call, &review["spec"])?,
        "SelfSubjectRulesReview" => review["status"] = rules(call, &review["spec"]),
        "SelfSubjectAccessReview" => review["status"] = access(call, &call.user, &review["spec"])?,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            let spec = &review["spec"];
            if call.resource.namespaced && spec["resourceAttributes"]["namespace"] != *call.path.namespace {
                return Err(Status::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {:?}",
                    call.path.namespace
                )));
            }
            let texts = |list: &Value| -> Vec<String> {
                list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let user = User {
                name: spec["user"].as_str().unwrap_or("").to_owned(),
                uid: spec["uid"].as_str().unwrap_or("").to_owned(),
                groups: texts(&spec["groups"]),
                extra: Vec::new(),
            };
            if user.name.is_empty() && user.groups.is_empty() {
                let fault =
                    api::status::Cause::invalid("spec.user", "", "at least one of user or group must be specified");
                return Err(Status::invalid(call.resource.group, call.resource.kind, "", vec![fault]));
            }
            review["status"] = access(call, &user, spec)?;
        }
        _ => return Err(Status::no_such_resource()),
    }
    Ok(Reply::Tree { code: 201, tree: review })
}

fn info(user: &User) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = user
            .extra
            .iter()
            .map(|(key, values)| (key.clone(), json!(values)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    out
}

fn token(call: &Call<'_>, spec: &Value) -> Outcome<Value> {
    let token = spec["token"].as_str().unwrap_or("");
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let user: Result<Arc<User>, String> = authn::of_token(call.server, token, &audiences);
    Ok(match user {
        Ok(user) => {
            let good = if audiences.is_empty() { vec![call.server.tokens.issuer.clone()] } else { audiences };
            json!({"authenticated": true, "user": info(&user), "audiences": good})
        }
        Err(error) => json!({"user": {}, "error": error}),
    })
}

fn access(call: &Call<'_>, user: &User, spec: &Value) -> Outcome<Value> {
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == other.is_object() {
        let fault = api::status::Cause::invalid(
            "spec.resourceAttributes",
            resource,
            if resource.is_object() {
                "cannot be specified in combination with nonResourceAttributes"
            } else {
                "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            },
        );
        return Err(Status::invalid(call.resource.group, call.resource.kind, "", vec![fault]));
    }
    let text = |of: &'_ Value, field: &str| of[field].as_str().unwrap_or("").to_owned();
    let fields =
        ["verb", "group", "version", "resource", "subresource", "namespace", "name"].map(|field| text(resource, field));
    let (path, path_verb) = (text(other, "path"), text(other, "verb"));
    let action = Action {
        verb: if resource.is_object() { &fields[0] } else { &path_verb },
        group: &fields[1],
        version: &fields[2],
        resource: &fields[3],
        subresource: &fields[4],
        namespace: &fields[5],
        name: &fields[6],
        path: &path,
    };
    Ok(match call.server.config.authorizer.authorize(user, &action) {
        Decision::Allow => json!({"allowed": true}),
        Decision::Deny(reason) if reason.is_empty() => json!({"allowed": false}),
        Decision::Deny(reason) => json!({"allowed": false, "reason": reason}),
    })
}

/// What the caller may do: an authorizer can be asked about single actions only, so the answer is the widest
/// rule if everything is allowed, else nothing, and marked incomplete.
fn rules(call: &Call<'_>, spec: &Value) -> Value {
    let namespace = spec["namespace"].as_str().unwrap_or("");
    let everything = Action { verb: "*", group: "*", resource: "*", namespace, ..Action::default() };
    match call.server.config.authorizer.authorize(&call.user, &everything) {
        Decision::Allow => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        Decision::Deny(_) => json!({"resourceRules": [], "nonResourceRules": [], "incomplete": true}),
    }
}
