//! PUT: replaces an object.

use serde_json::Value;

use crate::{
    call::{Call, Reply},
    decode,
    failure::Outcome,
    managed,
    query::WriteOptions,
    verbs::{
        create,
        modify::{Modify, Part, modify},
    },
};

/// The object in the body takes the place of the one named in the path.
pub(crate) async fn update(call: &Call<'_>, part: Part) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), "UpdateOptions")?;
    let mut tree = decode::object(call, &options)?;
    call.settle_owners(&mut tree, false);
    call.check_name(&tree)?;
    let how = Modify {
        part,
        options: &options,
        author: managed::Author::Update,
        retries: false,
        unconditional: part != Part::Main,
    };
    let unversioned = tree["metadata"]["resourceVersion"].as_str().unwrap_or("").is_empty();
    // Without a version the client wants to win whatever happened meanwhile.
    let how = Modify { retries: unversioned, ..how };
    let wanted = tree.clone();
    match modify(call, &how, |_: &Value| Ok(wanted.clone())).await {
        Err(status) if status.reason == "NotFound" && part == Part::Main && call.resource.strategy.create_on_update => {
            if !unversioned {
                return Err(call.not_found());
            }
            create::create_tree(call, tree, &options, managed::Author::Update).await
        }
        other => other,
    }
}
