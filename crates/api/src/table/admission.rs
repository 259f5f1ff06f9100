//! Admission webhooks and policies.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    cell::{at, count_at, text_at},
    column::{AGE, NAME, integer, text},
};
use crate::resource::Column;

pub(super) const WEBHOOKS: &[Column] =
    &[NAME, integer("Webhooks", "How many webhooks it registers.", |o, _| count_at(o, "/webhooks").into()), AGE];

pub(super) const VALIDATING_POLICIES: &[Column] = &[
    NAME,
    integer("Validations", "How many rules it has.", |o, _| count_at(o, "/spec/validations").into()),
    text("ParamKind", "What its parameters are.", param_kind),
    AGE,
];

pub(super) const MUTATING_POLICIES: &[Column] = &[
    NAME,
    integer("Mutations", "How many changes it makes.", |o, _| count_at(o, "/spec/mutations").into()),
    text("ParamKind", "What its parameters are.", param_kind),
    AGE,
];

pub(super) const BINDINGS: &[Column] = &[
    NAME,
    text("PolicyName", "The policy that it puts to use.", |o, _| text_at(o, "/spec/policyName").into()),
    text("ParamRef", "The parameters.", param_ref),
    AGE,
];

fn param_kind(object: &Value, _: Timestamp) -> Value {
    match at(object, "/spec/paramKind") {
        Some(kind) => format!("{}/{}", text_at(kind, "/apiVersion"), text_at(kind, "/kind")).into(),
        None => "<unset>".into(),
    }
}

fn param_ref(object: &Value, _: Timestamp) -> Value {
    let Some(param) = at(object, "/spec/paramRef") else {
        return "<unset>".into();
    };
    match (text_at(param, "/namespace"), text_at(param, "/name")) {
        ("", "") => match at(param, "/selector") {
            Some(selector) => super::cell::selector(Some(selector)).into(),
            None => "<unset>".into(),
        },
        (_, "") => "<unset>".into(),
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}
