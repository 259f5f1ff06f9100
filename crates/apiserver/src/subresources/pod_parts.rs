//! `pods/ephemeralcontainers` and `pods/resize`: the two parts of a running pod's spec that may change, each
//! through its own door.

use api::{
    status::{Cause, Status},
    strategy::pod::part,
};
use serde_json::Value;

use crate::{
    call::{Call, Reply},
    failure::Outcome,
    managed,
    query::{WriteOptions, options_kind},
    verbs::{
        modify::{Modify, Part, modify},
        patch::Asked,
    },
};

/// Keeps of the new pod what the door is for.
type Prepare = fn(&mut Value, &Value);
/// All faults of the new pod, given the old one.
type Validate = fn(&Value, &Value) -> Vec<Cause>;

pub(super) async fn change(call: &Call<'_>, verb: &str) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), options_kind(verb))?;
    let expected = call.resource.into();
    let body = Asked::read(call, &options, expected, verb)?;
    let how = Modify {
        part: Part::Counted,
        options: &options,
        author: managed::Author::Update,
        retries: !body.is_pinned(),
        unconditional: true,
    };
    let (prepare, validate): (Prepare, Validate) = match call.path.subresource.as_str() {
        "ephemeralcontainers" => (part::prepare_ephemeral, part::validate_ephemeral),
        _ => (part::prepare_resize, part::validate_resize),
    };
    modify(call, &how, |old| {
        let mut asked = body.ask(call, &options, expected, || old.clone())?;
        call.check_name(&asked)?;
        let mut new = old.clone();
        new["spec"] = asked["spec"].take();
        for field in ["resourceVersion", "uid"] {
            if let Some(text) = asked["metadata"][field].as_str() {
                new["metadata"][field] = text.into();
            }
        }
        prepare(&mut new, old);
        let faults = validate(&new, old);
        if !faults.is_empty() {
            return Err(Status::invalid("", "Pod", &call.path.name, faults));
        }
        Ok(new)
    })
    .await
}
