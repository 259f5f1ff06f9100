//! Reading an object for a row of a table: a tree of the fields that its columns look at, and of nothing else. Most of a
//! list's time goes into trees.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The object with only the fields of these names, wherever they stand.
pub(crate) fn keep(object: &[u8], names: &Names<'_>) -> Value {
    Keep(names).deserialize(&mut serde_json::Deserializer::from_slice(object)).unwrap_or_default()
}

/// Sorted names, and a mark for each by which most others are told from them without comparing any.
pub(crate) struct Names<'n> {
    sorted: &'n [&'n str],
    marks: [u64; 4],
}

impl<'n> Names<'n> {
    /// Of names that are in order.
    pub fn new(sorted: &'n [&'n str]) -> Self {
        let mut marks = [0; 4];
        for name in sorted {
            let (word, mark) = mark_of(name);
            marks[word] |= mark;
        }
        Self { sorted, marks }
    }

    fn find(&self, name: &str) -> Option<&'n str> {
        let (word, mark) = mark_of(name);
        if self.marks[word] & mark == 0 {
            return None;
        }
        self.sorted.binary_search(&name).ok().map(|at| self.sorted[at])
    }
}

/// One bit of 256, made of the length and the ends of a name.
fn mark_of(name: &str) -> (usize, u64) {
    let end = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or(0));
    let bytes = name.as_bytes();
    let mark = (end(bytes.first()) ^ (end(bytes.last()) << 2) ^ (bytes.len() << 4)) % 256;
    (mark / 64, 1 << (mark % 64))
}

#[derive(Clone, Copy)]
struct Keep<'n>(&'n Names<'n>);

impl<'de> DeserializeSeed<'de> for Keep<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = fields.next_key_seed(Name(self.0))? {
            match name {
                Some(name) => {
                    kept.insert(name.to_owned(), fields.next_value_seed(self)?);
                }
                None => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            kept.push(item);
        }
        Ok(Value::Array(kept))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

/// A field's name, if it is one of these.
struct Name<'n>(&'n Names<'n>);

impl<'de, 'n> DeserializeSeed<'de> for Name<'n> {
    type Value = Option<&'n str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Name<'n> {
    type Value = Option<&'n str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.find(name))
    }
}

#[cfg(test)]
mod tests {
    use api::{catalogue, table};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_kept_by_name_at_any_depth() {
        let object = json!({"a": {"b": [{"a": 1, "c": 2}, null, -3, 0.5, true, "x"], "d": {"a": 1}}, "c": {"a": 1}});
        let kept = keep(object.to_string().as_bytes(), &Names::new(&["a", "b"]));
        assert_eq!(kept, json!({"a": {"b": [{"a": 1}, null, -3, 0.5, true, "x"]}}));
    }

    #[test]
    fn a_pods_row_needs_no_more_than_is_kept() {
        let resource = catalogue::by_kind("", "v1", "Pod").expect("a kind");
        let names = table::fields_read(resource).expect("few");
        assert!(names.is_sorted());
        let ended = json!({"exitCode": 3, "signal": 9, "reason": "", "finishedAt": "2026-01-01T00:00:00Z"});
        let state = |state: Value, ready: bool| {
            json!({"name": "c", "ready": ready, "started": ready, "restartCount": 4, "image": "i", "state": state,
                "lastState": {"terminated": ended}})
        };
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "long"}});
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let mut rows = Vec::new();
        for (phase, reason, init, app) in [
            ("Running", "", running.clone(), running.clone()),
            ("Running", "", json!({"terminated": {"exitCode": 0}}), waiting.clone()),
            ("Pending", "", waiting, json!({"waiting": {"reason": "PodInitializing"}})),
            ("Failed", "Evicted", json!({"terminated": ended}), json!({"terminated": ended})),
            (
                "Succeeded",
                "",
                json!({"terminated": {"exitCode": 0}}),
                json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
            ),
        ] {
            for (deleting, sidecar, gated) in [(false, false, false), (true, true, false), (false, true, true)] {
                let mut pod = json!({
                    "kind": "Pod", "apiVersion": "v1",
                    "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"reason": "x"}},
                    "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "env": [{"name": "A"}]}, {"name": "d"}],
                        "initContainers": [{"name": "c"}], "readinessGates": [{"conditionType": "x/y"}],
                        "volumes": [{"name": "v"}]},
                    "status": {"phase": phase, "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.0.2",
                        "nominatedNodeName": "m", "initContainerStatuses": [state(init.clone(), true)],
                        "containerStatuses": [state(app.clone(), true), state(running.clone(), false)],
                        "conditions": [{"type": "Ready", "status": "True"}, {"type": "x/y", "status": "True"},
                            {"type": "Initialized", "status": "False"}]},
                });
                if !reason.is_empty() {
                    pod["status"]["reason"] = reason.into();
                }
                if deleting {
                    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }
                if sidecar {
                    pod["spec"]["initContainers"][0]["restartPolicy"] = "Always".into();
                }
                if gated {
                    let gate = json!({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"});
                    pod["status"]["conditions"][0] = gate;
                }
                let row = |pod: &Value| table::row(resource, pod, table::IncludeObject::None, now);
                let kept = keep(pod.to_string().as_bytes(), &Names::new(names));
                assert_eq!(row(&kept), row(&pod));
                rows.push(row(&pod).to_string());
            }
        }
        rows.sort();
        rows.dedup();
        assert!(rows.len() >= 10, "they differ in what is looked at: {rows:#?}");
    }
}
