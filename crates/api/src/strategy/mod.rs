//! What the API server does to objects of a kind before it stores them: defaults, preparation, validation.

use serde_json::Value;

use crate::resource::{NameRule, Strategy};

/// The strategy of a kind; one that accepts everything for kinds that need none.
pub fn for_kind(group: &str, kind: &str) -> Strategy {
    let _ = (group, kind);
    Strategy {
        default: |_| {},
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        prepare_status_update: |new, old| {
            let status = new.get("status").cloned();
            *new = old.clone();
            if let (Some(status), Value::Object(new)) = (status, new) {
                new.insert("status".into(), status);
            }
        },
        validate: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status_update: |_, _| Vec::new(),
        name: NameRule::Subdomain,
        create_on_update: false,
        unconditional_update: true,
        grace: None,
    }
}
