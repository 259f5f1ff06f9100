//! `componentstatuses`: how the parts of the control plane fare, asked at the moment.

use std::{collections::BTreeSet, sync::Arc};

use api::status::Status;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    cache::Cached,
    call::{Call, Reply},
    failure::Outcome,
    health,
    query::ListOptions,
    selection::Selection,
    verbs::list::Page,
};

/// The kind's plural name.
pub(crate) const PLURAL: &str = "componentstatuses";

/// Upstream's name of the scheduler.
pub const SCHEDULER: &str = "scheduler";
/// Upstream's name of what runs the controllers.
pub const CONTROLLER_MANAGER: &str = "controller-manager";
/// Upstream's name of the store.
const STORE: &str = "etcd-0";

/// Which parts of the control plane run beside the server. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Components(Arc<Mutex<BTreeSet<&'static str>>>);

/// A part runs as long as this is held.
pub struct Running {
    all: Components,
    name: &'static str,
}

impl Components {
    /// [`SCHEDULER`] or [`CONTROLLER_MANAGER`] runs from now on.
    #[must_use]
    pub fn running(&self, name: &'static str) -> Running {
        self.0.lock().insert(name);
        Running { all: self.clone(), name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.all.0.lock().remove(self.name);
    }
}

/// GET of one of them or of their list.
pub(crate) async fn answer(call: &Call<'_>, verb: &str) -> Outcome<Reply> {
    let mut all = Vec::new();
    for name in [SCHEDULER, CONTROLLER_MANAGER, STORE] {
        let found = match name {
            STORE => health::store(call.server).await,
            _ if call.server.config.components.0.lock().contains(name) => Ok(()),
            _ => Err("it does not run".to_owned()),
        };
        all.push((name, status(name, found)));
    }
    if verb == "get" {
        let found = all.into_iter().find(|(name, _)| *name == call.path.name);
        let missing = || Status::new(500, "", format!("Component not found: {}", call.path.name));
        return found.map(|(_, tree)| Reply::Tree { code: 200, tree }).ok_or_else(missing);
    }
    let options = ListOptions::parse(&call.query)?;
    let selection = Selection::parse(call.resource, &options.labels, &options.fields)?;
    let objects = all.into_iter().map(|(name, tree)| {
        let object = Cached::new(call.kind.key("", name), Bytes::from(tree.to_string()), 0);
        Arc::new(object)
    });
    let objects = objects.filter(|object| selection.wants(&call.kind, object)).collect();
    Ok(Reply::List(Page { objects, revision: 0, continue_token: String::new(), remaining: None }))
}

fn status(name: &str, found: Result<(), String>) -> Value {
    let (healthy, message) = match found {
        Ok(()) => ("True", "ok".to_owned()),
        Err(why) => ("False", why),
    };
    json!({
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": healthy, "message": message}],
    })
}
