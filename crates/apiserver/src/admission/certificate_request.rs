//! A CertificateSigningRequest names who sent it; nobody says that of themselves. (Upstream does so in the kind's strategy.)

use serde_json::{Map, Value, json};

use super::Attributes;
use crate::failure::Outcome;

pub(super) fn name_requester(request: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
    let user = request.user;
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    for field in ["username", "uid", "groups", "extra"] {
        spec.shift_remove(field);
    }
    spec.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        spec.insert("uid".into(), user.uid.as_str().into());
    }
    spec.insert("groups".into(), json!(user.groups));
    if !user.extra.is_empty() {
        let extra: Map<String, Value> = user.extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
        spec.insert("extra".into(), extra.into());
    }
    Ok(())
}
