//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use api::{
    patch::{json, merge, strategic},
    status::{Cause, Details, Status},
    strategy::metadata::IMMUTABLE,
    strict::{self, Expected, once, repeated},
};
use serde_json::Value;

use crate::{
    call::{Call, Reply},
    decode,
    failure::Outcome,
    managed, negotiate,
    query::{FieldValidation, WriteOptions},
    verbs::{
        create,
        modify::{Modify, Part, modify},
    },
};

/// The media type of server-side apply.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
const ACCEPTED: [&str; 4] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", APPLY];

/// A patch, and what a strict reader minds about its text.
pub(crate) struct Patch {
    document: Document,
    issues: Vec<String>,
}

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
    let patch = Patch::read(call, &options)?;
    let how = Modify { part, options: &options, author: managed::Author::Update, retries: true, unconditional: true };
    modify(call, &how, |old| {
        let old_tree = if patch.document.spares_managers(call) { managed::without(old) } else { old.clone() };
        let mut new = patch.applied(call, &options, call.resource.into(), old_tree)?;
        call.settle_owners(&mut new, true);
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

impl Patch {
    /// The patch in the body.
    pub(crate) fn read(call: &Call<'_>, options: &WriteOptions) -> Outcome<Patch> {
        let (document, twice) = document(call, negotiate::media_type(call.headers))?;
        let schema = call.resource.schema;
        let issues = match (&document, options.field_validation) {
            (_, FieldValidation::Ignore) => Vec::new(),
            (Document::Json(_), _) => repeated::in_json_patch(schema, &call.body),
            _ if twice => repeated::in_json(schema, &call.body),
            _ => Vec::new(),
        };
        Ok(Patch { document, issues })
    }

    /// What it makes of a tree of that kind (the call's, or one that a subresource shows).
    pub(crate) fn applied(
        &self,
        call: &Call<'_>,
        options: &WriteOptions,
        expected: Expected,
        mut tree: Value,
    ) -> Outcome<Value> {
        run(call, &self.document, expected, &mut tree)?;
        match &self.document {
            Document::Strategic(patch) => {
                // What the patch does not name is as it was stored.
                let spared = Spared::take(patch, &mut tree);
                Ok(spared.back(decode::patched(call, options, expected, tree, Some(patch), &self.issues)?))
            }
            _ => decode::patched(call, options, expected, tree, None, &self.issues),
        }
    }
}

/// What a subresource's body asks for.
pub(crate) enum Asked {
    /// An object in place of what the subresource shows.
    Object(Value),
    /// A patch of that.
    Patch(Patch),
}

impl Asked {
    /// The body of an `update` or a `patch` of that kind.
    pub(crate) fn read(call: &Call<'_>, options: &WriteOptions, expected: Expected, verb: &str) -> Outcome<Asked> {
        if verb != "update" {
            return Patch::read(call, options).map(Asked::Patch);
        }
        let mut object = decode::body_as(call, options, expected)?;
        decode::settle_namespace(call, &mut object)?;
        Ok(Asked::Object(object))
    }

    /// Whether it is for one version of the object alone.
    pub(crate) fn is_pinned(&self) -> bool {
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().is_some_and(|v| !v.is_empty());
        matches!(self, Asked::Object(object) if version(object))
    }

    /// What is to be, given what the subresource shows.
    pub(crate) fn ask(
        &self,
        call: &Call<'_>,
        options: &WriteOptions,
        expected: Expected,
        shown: impl FnOnce() -> Value,
    ) -> Outcome<Value> {
        match self {
            Asked::Object(object) => Ok(object.clone()),
            Asked::Patch(patch) => patch.applied(call, options, expected, shown()),
        }
    }
}

/// The patch of that media type in the body, and whether a field stands twice in it.
fn document(call: &Call<'_>, media_type: &str) -> Outcome<(Document, bool)> {
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
    let (tree, twice) = once::tree(&call.body)
        .map_err(|error| refuse(strict::json_fault(&call.body).unwrap_or_else(|| error.to_string())))?;
    let fits = match wanted {
        "[]handlers.jsonPatchOp" => tree.is_array(),
        _ => tree.is_object(),
    };
    if !fits {
        let found = json::kind(&tree);
        return Err(refuse(format!("json: cannot unmarshal {found} into Go value of type {wanted}")));
    }
    Ok((make(tree), twice))
}

fn run(call: &Call<'_>, document: &Document, expected: Expected, tree: &mut Value) -> Outcome<()> {
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
            strategic::apply(tree, patch.clone(), expected.schema).map_err(|error| match error.code() {
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
