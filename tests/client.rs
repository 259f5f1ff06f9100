//! What the kubectl on the PATH knows. Debian's own is years older than what it speaks to: where it has no verb for
//! something, its raw requests say the same to the API.

use std::sync::OnceLock;

use serde_json::Value;

use crate::cluster::{Cluster, eventually, text};

impl Cluster {
    /// The minor version of kubectl: 32 of 1.32.
    pub fn kubectl_minor(&self) -> u32 {
        static MINOR: OnceLock<u32> = OnceLock::new();
        *MINOR.get_or_init(|| {
            let told: Value =
                serde_json::from_str(&self.kubectl(&["version", "--client", "-o", "json"])).expect("a version");
            let minor = told["clientVersion"]["minor"].as_str().unwrap_or_default();
            minor.trim_end_matches('+').parse().unwrap_or_else(|_| panic!("{told} has no minor version"))
        })
    }

    /// Merges a patch into a part of an object that `kubectl patch` reaches with `--subresource` since 1.24; `path` is
    /// the object's in the API. Lists are replaced as they are in the patch.
    pub fn merge_part(&self, path: &str, part: &str, patch: &Value) {
        let mut refused = String::new();
        // Someone else may have written in between.
        eventually(&format!("{part} of {path} merged"), || {
            let mut object: Value = serde_json::from_str(&self.kubectl(&["get", "--raw", path])).expect("an object");
            merge(&mut object, patch);
            let output = self.pipe(&["replace", "--raw", &format!("{path}/{part}"), "-f", "-"], &object.to_string());
            refused = text(&output.stderr);
            assert!(
                output.status.success() || refused.contains("Conflict") || refused.contains("modified"),
                "{refused}"
            );
            output.status.success()
        });
    }

    /// The messages of all events.
    pub fn told(&self) -> String {
        self.kubectl(&["get", "events", "-A", "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"])
    }

    /// Waits until there is no such object; an old `kubectl wait --for=delete` fails if there is none to begin with.
    pub fn until_gone(&self, what: &str) {
        eventually(&format!("the end of {what}"), || {
            let output = self.try_kubectl(&["get", what]);
            !output.status.success() && text(&output.stderr).contains("NotFound")
        });
    }
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            if !object.is_object() {
                *object = Value::Object(serde_json::Map::new());
            }
            for (name, value) in fields {
                if value.is_null() {
                    object.as_object_mut().expect("an object").remove(name);
                } else {
                    merge(&mut object[name.as_str()], value);
                }
            }
        }
        other => object.clone_from(other),
    }
}
