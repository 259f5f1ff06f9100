//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use api::{
    patch::{json, merge, strategic},
    status::{Cause, Details, Status},
    strategy::metadata::IMMUTABLE,
    strict,
};
use serde_json::Value;

use crate::{
    call::{Call, Reply},
    decode,
    failure::Outcome,
    managed, negotiate,
    query::WriteOptions,
    verbs::{
        create,
        modify::{Modify, Part, modify},
    },
};

/// The media type of server-side apply.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
const ACCEPTED: [&str; 4] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", APPLY];

enum Document {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

/// The body changes the object named in the path; `convert` leads to and from what the patch is of, for
/// subresources that show another kind.
pub(crate) async fn patch(call: &Call<'_>, part: Part) -> Outcome<Reply> {
    let options = WriteOptions::parse(&call.query, call.user_agent(), "PatchOptions")?;
    let media_type = negotiate::media_type(call.headers);
    if media_type == APPLY {
        return apply(call, part, &options).await;
    }
    if options.force.is_some() {
        let fault = Cause::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![fault]));
    }
    let document = document(call, media_type)?;
    let how = Modify { part, options: &options, author: managed::Author::Update, retries: true, unconditional: true };
    modify(call, &how, |old| {
        let mut new = if document.spares_managers(call) { managed::without(old) } else { old.clone() };
        run(call, &document, &mut new)?;
        let new = match &document {
            Document::Strategic(patch) => {
                // What the patch does not name is as it was stored.
                let spared = Spared::take(patch, &mut new);
                spared.back(decode::patched(call, &options, new, Some(patch))?)
            }
            _ => decode::patched(call, &options, new, None)?,
        };
        call.check_name(&new)?;
        check_uid(call, &new, old)?;
        Ok(new)
    })
    .await
}

/// A patch can't name another object; unlike an update's, its uid is no precondition.
fn check_uid(call: &Call<'_>, new: &Value, old: &Value) -> Outcome<()> {
    let (uid, before) = (&new["metadata"]["uid"], &old["metadata"]["uid"]);
    if uid.as_str().unwrap_or("").is_empty() || uid == before {
        return Ok(());
    }
    let fault = Cause::invalid("metadata.uid", uid, IMMUTABLE);
    Err(Status::invalid(call.resource.group, call.resource.kind, &call.path.name, vec![fault]))
}

impl Document {
    /// Whether neither this patch nor the way it comes can touch the managed fields: they need not be copied then.
    fn spares_managers(&self, call: &Call<'_>) -> bool {
        // Through a subresource the list can't be edited.
        !call.path.subresource.is_empty()
            && matches!(self, Document::Merge(patch) | Document::Strategic(patch)
                if patch["metadata"].get("managedFields").is_none())
    }
}

/// The fields of an object that a patch does not name, taken aside with their places.
struct Spared(Vec<(usize, String, Value)>);

impl Spared {
    fn take(patch: &Value, object: &mut Value) -> Spared {
        let mut spared = Vec::new();
        if let (Some(patch), Some(fields)) = (patch.as_object(), object.as_object_mut()) {
            let is_spared = |name: &String| {
                !matches!(name.as_str(), "kind" | "apiVersion" | "metadata") && !patch.contains_key(name)
            };
            if fields.keys().any(is_spared) {
                let all = std::mem::take(fields);
                for (place, (name, value)) in all.into_iter().enumerate() {
                    if is_spared(&name) {
                        spared.push((place, name, value));
                    } else {
                        fields.insert(name, value);
                    }
                }
            }
        }
        Spared(spared)
    }

    fn back(self, mut object: Value) -> Value {
        if let Some(fields) = object.as_object_mut() {
            for (place, name, value) in self.0 {
                fields.shift_insert(place.min(fields.len()), name, value);
            }
        }
        object
    }
}

/// The patch in the body, applied to any tree (of a subresource such as `scale`).
pub(crate) fn patch_tree(call: &Call<'_>, tree: &mut Value) -> Outcome<()> {
    let document = document(call, negotiate::media_type(call.headers))?;
    run(call, &document, tree)
}

fn document(call: &Call<'_>, media_type: &str) -> Outcome<Document> {
    let (make, wanted): (fn(Value) -> Document, _) = match media_type {
        "application/json-patch+json" => (Document::Json, "[]handlers.jsonPatchOp"),
        "application/merge-patch+json" => (Document::Merge, "map[string]interface {}"),
        "application/strategic-merge-patch+json" => (Document::Strategic, "map[string]interface {}"),
        _ => return Err(Status::unsupported_media_type(&ACCEPTED)),
    };
    let refuse = |fault: String| {
        let before = if media_type == "application/strategic-merge-patch+json" { "" } else { "error decoding patch: " };
        Status::bad_request(format!("{before}{fault}"))
    };
    let tree: Value = serde_json::from_slice(&call.body)
        .map_err(|error| refuse(strict::json_fault(&call.body).unwrap_or_else(|| error.to_string())))?;
    let fits = match wanted {
        "[]handlers.jsonPatchOp" => tree.is_array(),
        _ => tree.is_object(),
    };
    if !fits {
        let found = json::kind(&tree);
        return Err(refuse(format!("json: cannot unmarshal {found} into Go value of type {wanted}")));
    }
    Ok(make(tree))
}

fn run(call: &Call<'_>, document: &Document, tree: &mut Value) -> Outcome<()> {
    match document {
        Document::Json(patch) => json::apply(tree, patch).map_err(|error| match error {
            json::Error::Decode(text) => Status::bad_request(text),
            error @ json::Error::TooMany(_) => Status::new(413, "RequestEntityTooLarge", error.to_string()),
            json::Error::Apply(text) => unprocessable(call, &text),
        }),
        Document::Merge(patch) => {
            merge::apply(tree, patch.clone()).map_err(|error| Status::bad_request(error.to_string()))
        }
        Document::Strategic(patch) => {
            strategic::apply(tree, patch.clone(), call.resource.schema).map_err(|error| match error.code() {
                400 => Status::bad_request(error.to_string()),
                422 => unprocessable(call, &error.to_string()),
                _ => Status::internal_error(error),
            })
        }
    }
}

/// A patch that is sound but does not fit the object. Upstream's answer does not say why; a warning beside it does.
fn unprocessable(call: &Call<'_>, text: &str) -> Status {
    call.warn(text);
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
        .details(Details::default())
}

/// Server-side apply: creates what does not exist.
async fn apply(call: &Call<'_>, part: Part, options: &WriteOptions) -> Outcome<Reply> {
    needs_manager(call)?;
    let applied = managed::applied_object(call, options)?;
    apply_part(call, part, options, &applied).await
}

/// Who applies must say who it is.
pub(crate) fn needs_manager(call: &Call<'_>) -> Outcome<()> {
    if !call.query.text("fieldManager").is_empty() {
        return Ok(());
    }
    let fault = Cause::required("fieldManager", "is required for apply patch");
    Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![fault]))
}

/// The same for a document that is decoded already; through a subresource nothing is created.
pub(crate) async fn apply_part(call: &Call<'_>, part: Part, options: &WriteOptions, applied: &Value) -> Outcome<Reply> {
    call.server.cache.fresh().await;
    let how = Modify { part, options, author: managed::Author::Apply, retries: true, unconditional: true };
    for _ in 0..3 {
        if call.kind.get(&call.key()).is_some() {
            match modify(call, &how, |old| managed::apply(call, Some(old), applied, options)).await {
                Err(status) if status.reason == "NotFound" => {}
                other => return other,
            }
        }
        if !call.path.subresource.is_empty() {
            return Err(call.not_found());
        }
        if applied["metadata"]["uid"].is_string() {
            let why = format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: ",
                applied["metadata"]["uid"].as_str().unwrap_or("")
            );
            return Err(Status::conflict_because(call.resource.group, call.resource.plural, &call.path.name, &why));
        }
        let new = managed::apply(call, None, applied, options)?;
        match create::create_tree(call, new, options, managed::Author::Apply).await {
            Err(status) if status.reason == "AlreadyExists" => call.server.cache.fresh().await,
            other => return other,
        }
    }
    Err(call.conflict())
}
