//! One request on a resource, taken apart.

use std::sync::Arc;

use api::{resource::Resource, status::Status, strategy::metadata};
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    cache::KindCache,
    config::User,
    failure::{Outcome, of_store},
    negotiate::Accept,
    path::ResourcePath,
    query::Query,
    server::ApiServer,
};

/// What the verbs work on.
pub(crate) struct Call<'a> {
    pub server: &'a Arc<ApiServer>,
    pub resource: &'static Resource,
    pub kind: Arc<KindCache>,
    pub path: ResourcePath,
    pub user: Arc<User>,
    pub query: Query<'a>,
    pub headers: &'a HeaderMap,
    pub accept: Accept,
    /// Empty where the verb takes none.
    pub body: Bytes,
    /// `Warning` headers of the answer.
    pub warnings: Mutex<Vec<String>>,
}

impl Call<'_> {
    /// The store's key of the object named in the path.
    pub fn key(&self) -> Arc<str> {
        self.kind.key(&self.path.namespace, &self.path.name)
    }

    /// 404 for the object named in the path.
    pub fn not_found(&self) -> Status {
        Status::not_found(self.resource.group, self.resource.plural, &self.path.name)
    }

    /// 409 for the object named in the path.
    pub fn conflict(&self) -> Status {
        Status::conflict(self.resource.group, self.resource.plural, &self.path.name)
    }

    /// What is written must bear the name in the path.
    ///
    /// # Errors
    /// 400, if it bears another name or none.
    pub fn check_name(&self, object: &Value) -> Outcome<()> {
        let on_url = &self.path.name;
        match object["metadata"]["name"].as_str().unwrap_or("") {
            "" => Err(Status::bad_request(format!(
                "the name of the object ({on_url} based on URL) was undeterminable: name must be provided"
            ))),
            name if name == on_url => Ok(()),
            name => Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({on_url})"
            ))),
        }
    }

    /// The client's program, from which the field manager is named.
    pub fn user_agent(&self) -> &str {
        self.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// Adds a `Warning` header.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// Adds one that a request which tries again would come upon again.
    pub fn warn_once(&self, text: impl Into<String>) {
        let (text, mut warnings) = (text.into(), self.warnings.lock());
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Adds what is odd about an object that is made or changed.
    pub fn warn_of(&self, new: &Value, old: Option<&Value>) {
        for text in api::warnings::of(self.resource.group, self.resource.kind, new, old) {
            self.warn_once(text);
        }
    }

    /// An owner is named once; a client that repeats one is told. `patched` is what a patch has made.
    pub fn settle_owners(&self, tree: &mut Value, patched: bool) {
        let repeated = metadata::deduplicate_owners(tree);
        if !repeated.is_empty() {
            let when = if patched { " after mutating admission happens" } else { "" };
            self.warn_once(format!(
                ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in \
                 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) \
                 observed: {}",
                repeated.join(", ")
            ));
        }
    }

    /// Commits to the store.
    pub async fn txn(&self, txn: store::Txn) -> Outcome<store::Outcome> {
        let outcome = self.server.store.txn(txn).await.map_err(of_store)?;
        if let store::Outcome::Committed(revision) = &outcome
            && self.resource.plural == "namespaces"
        {
            // Admission of everything else looks at namespaces and does not wait: once a namespace is on its
            // way out, nothing more is made in it.
            let _ = self.server.cache.reach(*revision).await;
        }
        Ok(outcome)
    }
}

/// What a verb answers, before it gets the shape that the client wants.
pub(crate) enum Reply {
    /// Stored bytes of one object.
    Stored { code: u16, bytes: Bytes },
    /// An object of the served version that is not stored, or not like this.
    Tree { code: u16, tree: Value },
    /// A list; the objects are stored bytes.
    List(crate::verbs::list::Page),
    /// A `Status`.
    Status(Status),
    /// Something that is already an HTTP response.
    Response(http::Response<crate::body::Body>),
}
