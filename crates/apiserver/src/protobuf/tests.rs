use api::{
    catalogue,
    schema::{Holds, Shape, Slot, Type, Union, types},
};
use serde_json::{Map, Value, json};

use super::{
    MAGIC, answer,
    decode::{self, decode},
    encode,
    wire::{Reader, Token, Writer},
};

/// A generator of numbers that is the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn object(&mut self, of: &'static Type, depth: usize) -> Value {
        let mut out = Map::new();
        for slot in of.message.unwrap_or_default() {
            self.slot(slot, of, depth, &mut out);
        }
        Value::Object(out)
    }

    fn slot(&mut self, slot: &'static Slot, of: &'static Type, depth: usize, out: &mut Map<String, Value>) {
        if self.below(10) < 3 {
            return;
        }
        let (at, value) = match slot.holds {
            Holds::Inline(inner) => {
                inner.iter().for_each(|slot| self.slot(slot, of, depth, out));
                return;
            }
            Holds::Field(at) => {
                let field = &of.fields[at];
                let mut value = self.value(&field.shape, depth);
                while !field.keeps_zero && is_zero(&value) {
                    value = self.value(&field.shape, depth);
                }
                (at, value)
            }
            Holds::Union(at, kind) => (at, self.union(kind, of, depth)),
        };
        if !value.is_null() {
            out.insert(of.fields[at].name.to_owned(), value);
        }
    }

    fn union(&mut self, kind: Union, of: &'static Type, depth: usize) -> Value {
        let first = self.below(2) == 0;
        match kind {
            Union::Empty => json!({}),
            Union::Items => json!(["get", "list"]),
            _ if depth > 2 => Value::Null,
            Union::OrStrings => json!({"a": if first { self.object(of, depth + 2) } else { json!(["b", "c"]) }}),
            _ if first => self.object(of, depth + 2),
            Union::OrList => json!([self.object(of, depth + 2), self.object(of, depth + 2)]),
            Union::OrBoolean => json!(self.below(2) == 0),
        }
    }

    /// Null where the tree is deep enough.
    fn value(&mut self, shape: &'static Shape, depth: usize) -> Value {
        let one_of = |choices: &[Value], at: u64| choices[at as usize].clone();
        match shape {
            Shape::Boolean => json!(self.below(2) == 0),
            Shape::Int32 => one_of(&[json!(0), json!(1), json!(-1), json!(i32::MAX), json!(i32::MIN)], self.below(5)),
            Shape::Int64 => one_of(&[json!(0), json!(300), json!(-7), json!(i64::MAX), json!(i64::MIN)], self.below(5)),
            Shape::Number => one_of(&[json!(0.0), json!(1.5), json!(-2.25e10)], self.below(3)),
            Shape::String => {
                one_of(&[json!(""), json!("a"), json!("grüß \u{1f600}"), json!("x".repeat(300))], self.below(4))
            }
            Shape::Time => one_of(&[json!("1969-07-20T20:17:40Z"), json!("2026-01-02T03:04:05Z")], self.below(2)),
            Shape::MicroTime => {
                one_of(&[json!("2026-01-02T03:04:05.000000Z"), json!("2026-01-02T03:04:05.678901Z")], self.below(2))
            }
            Shape::Bytes => one_of(&[json!(""), json!("AAEC/w=="), json!("aGVsbG8=")], self.below(3)),
            Shape::IntOrString => {
                one_of(&[json!(0), json!(-3), json!(8080), json!("25%"), json!("http")], self.below(5))
            }
            Shape::Quantity => one_of(&[json!("250m"), json!("1Gi"), json!("0")], self.below(3)),
            Shape::Any => {
                one_of(&[json!({"f:a": {".": {}}}), json!({"a": [1, "b", null]}), json!("text")], self.below(3))
            }
            Shape::Object { .. } | Shape::List { .. } | Shape::Map { .. } if depth > 5 => Value::Null,
            Shape::Object { of, .. } => self.object(of, depth + 1),
            Shape::List { of, .. } => {
                let items: Vec<Value> = (0..=self.below(3)).map(|_| self.value(of, depth + 1)).collect();
                if items.iter().any(Value::is_null) { Value::Null } else { Value::Array(items) }
            }
            Shape::Map { of, .. } => {
                let keys = ["", "example.com/a", "b"];
                let entries = keys[..=self.below(3) as usize].iter();
                let map: Map<String, Value> = entries.map(|key| ((*key).into(), self.value(of, depth + 1))).collect();
                if map.values().any(Value::is_null) { Value::Null } else { Value::Object(map) }
            }
        }
    }
}

fn is_zero(value: &Value) -> bool {
    *value == json!("") || *value == json!(false) || value.as_f64() == Some(0.0)
}

fn written(of: &'static Type, tree: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    encode::object(&mut out, of, tree);
    out.into_bytes()
}

fn read(of: &'static Type, body: &[u8]) -> Value {
    let mut out = Map::new();
    decode::object(body, of, &mut out, 0).expect("what was written is well formed");
    Value::Object(out)
}

#[test]
fn whatever_is_written_is_read_again_for_every_type() {
    let mut random = Random(1);
    let all = api::schema::all_types().iter().filter(|of| of.message.is_some());
    let mut fields = 0;
    for of in all {
        for round in 0..20 {
            let tree = random.object(of, 0);
            fields += tree.as_object().map_or(0, Map::len);
            assert_eq!(read(of, &written(of, &tree)), tree, "{} in round {round}", of.name);
        }
    }
    assert!(fields > 20_000, "only {fields} fields were tried");
}

#[test]
fn every_number_of_every_message_is_tried_by_a_value_of_its_own() {
    // A field that is written under one number and read under another would go unnoticed if all fields were alike.
    for of in api::schema::all_types().iter().filter(|of| of.message.is_some()) {
        for field in of.fields {
            let mut random = Random(7);
            let mut value = random.value(&field.shape, 0);
            while is_zero(&value) {
                value = random.value(&field.shape, 0);
            }
            let tree = json!({ field.name: value });
            let holds = |slot: &Slot| matches!(slot.holds, Holds::Union(at, _) if of.fields[at].name == field.name);
            if of.message.unwrap_or_default().iter().any(holds) || matches!(field.name, "apiVersion" | "kind") {
                continue;
            }
            assert_eq!(read(of, &written(of, &tree)), tree, "{}", of.name);
        }
    }
}

#[test]
fn fields_that_nobody_knows_are_passed_over() {
    let of = &types::core_v1_ConfigMap;
    let tree = json!({"metadata": {"name": "a"}, "data": {"x": "y"}});
    let mut body = Writer::default();
    body.varint(1000, 5);
    body.bytes(1001, b"new");
    body.raw(&written(of, &tree));
    body.double(1002, 1.0);
    assert_eq!(read(of, &body.into_bytes()), tree);
}

#[test]
fn what_the_schema_does_not_know_is_not_written() {
    let of = &types::core_v1_ConfigMap;
    let known = json!({"metadata": {"name": "a"}});
    let more = json!({"metadata": {"name": "a", "surname": "b"}, "size": 3, "data": null});
    assert_eq!(written(of, &more), written(of, &known));
}

#[test]
fn keys_of_maps_are_sorted() {
    let of = &types::core_v1_ConfigMap;
    let (one, other) = (json!({"data": {"b": "1", "a": "2"}}), json!({"data": {"a": "2", "b": "1"}}));
    assert_eq!(written(of, &one), written(of, &other));
}

#[test]
fn a_config_map_as_kubectl_sends_it_is_read() {
    // `kubectl create configmap a --from-literal=x=y` of kubectl 1.32.
    let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x1b\x0a\x11\x0a\x01a\x12\x00\x1a\x00\x22\x00\x2a\x002\x008\x00B\x00\x12\x06\x0a\x01x\x12\x01y\x1a\x00\x22\x00";
    let resource = catalogue::by_kind("", "v1", "ConfigMap").expect("config maps are served");
    let tree = decode(body, "v1", "ConfigMap", resource.schema).expect("it is well formed");
    assert_eq!(tree, json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"x": "y"}}));
}

#[test]
fn an_object_stands_in_an_envelope_that_names_it() {
    let text = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"x":"y"}}"#;
    let body = answer::whole(text.as_bytes()).expect("config maps have a message");
    let expected =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01a\x12\x06\x0a\x01x\x12\x01y\x1a\x00\x22\x00";
    assert_eq!(body, &expected[..]);
}

#[test]
fn a_list_in_pieces_is_the_list_in_one() {
    let items: Vec<Value> =
        (0..500).map(|n| json!({"metadata": {"name": format!("m{n}")}, "data": {"k": "x".repeat(400)}})).collect();
    let metadata = json!({"resourceVersion": "7", "continue": "c", "remainingItemCount": 3});
    let whole = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items});
    let whole = answer::whole(whole.to_string().as_bytes()).expect("it is known");
    let objects = items.iter().map(|item| item.to_string().into());
    let pieces = answer::list("v1", "ConfigMapList", &metadata, &types::core_v1_ConfigMap, objects);
    assert!(pieces.len() > 3, "{} pieces", pieces.len());
    let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
    assert!(joined == whole, "{} and {} bytes", joined.len(), whole.len());
}

#[test]
fn a_list_of_metadata_alone_is_known() {
    let text = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"9"},
        "items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a"}}]}"#;
    let body = answer::whole(text.as_bytes()).expect("it has a message");
    let raw = b"\x0a\x03\x12\x019\x12\x05\x0a\x03\x0a\x01a";
    assert!(body.windows(raw.len()).any(|window| window == raw), "{body:?}");
}

#[test]
fn an_event_of_a_watch_is_a_frame_with_its_length() {
    let text = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#;
    let frame = answer::event("ADDED", text.as_bytes());
    let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes"));
    assert_eq!(length as usize, frame.len() - 4);
    let mut reader = Reader::new(&frame[4..]);
    assert!(matches!(reader.next(), Ok(Some((1, Token::Bytes(b"ADDED"))))));
    let Ok(Some((2, Token::Bytes(extension)))) = reader.next() else { panic!("no object in {frame:?}") };
    let Ok(Some((1, Token::Bytes(object)))) = Reader::new(extension).next() else { panic!("no bytes in {frame:?}") };
    assert_eq!(object, answer::whole(text.as_bytes()).expect("it is known"));
    assert!(object.starts_with(MAGIC));
}

#[test]
fn a_failure_is_a_status() {
    let text = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no","reason":"NotFound",
        "details":{"name":"a","kind":"pods","causes":[{"reason":"r","message":"m","field":"f"}],"retryAfterSeconds":3},"code":404}"#;
    let body = answer::whole(text.as_bytes()).expect("it has a message");
    let tree = decode(&body, "v1", "Status", &types::meta_v1_Status).expect("it is well formed");
    assert_eq!(tree, serde_json::from_str::<Value>(text).expect("it is JSON"));
}

#[test]
fn the_verbs_of_a_resource_are_a_message_of_their_own() {
    let tree = json!({"name": "pods", "verbs": ["get", "list"]});
    let expected = b"\x0a\x04pods\x22\x0b\x0a\x03get\x0a\x04list";
    assert_eq!(written(&types::meta_v1_APIResource, &tree), expected);
}

#[test]
fn every_kind_of_upstream_has_a_message() {
    let without: Vec<&str> =
        catalogue::all().iter().map(|r| r.schema).filter(|of| of.message.is_none()).map(|of| of.name).collect();
    // Upstream serves these as custom resources, or (metrics) from a server of its own.
    const OTHERS: [&str; 3] = ["metrics", "gateway", "patterns"];
    let others = |name: &&&str| OTHERS.iter().all(|module| !name.contains(module));
    assert_eq!(without.iter().filter(others).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(catalogue::all().len() - without.len() > 60);
}

#[test]
fn answers_that_are_no_objects_of_the_catalogue_are_known() {
    for (api_version, kind) in [
        ("autoscaling/v1", "Scale"),
        ("policy/v1", "Eviction"),
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("v1", "Status"),
        ("v1", "APIResourceList"),
        ("v1", "APIGroupList"),
        ("v1", "APIGroup"),
        ("v1", "APIVersions"),
        ("", "APIResourceList"),
    ] {
        let of = decode::type_of(api_version, kind);
        assert!(of.is_some_and(|of| of.message.is_some()), "{api_version} {kind}");
    }
}

#[test]
fn examples_survive_the_way_there_and_back() {
    let mut tried = 0;
    let mut folders = vec![std::path::PathBuf::from("../../examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("examples are beside the crates") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("an example can be read");
            for document in text.split("\n---") {
                let Ok(tree) = serde_yaml_ng::from_str::<Value>(document) else { continue };
                let text = |field: &str| tree[field].as_str().unwrap_or("").to_owned();
                let (kind, version) = (text("kind"), text("apiVersion"));
                let (group, version) = version.split_once('/').unwrap_or(("", &version));
                let resource = catalogue::by_kind(group, version, &kind).filter(|r| r.schema.message.is_some());
                let Some(resource) = resource else { continue };
                let tree = api::strict::decode_value(resource, tree).expect("an example is valid").object;
                let body = answer::whole(tree.to_string().as_bytes()).expect("it has a message");
                let back = decode(&body, resource.api_version, &kind, resource.schema).expect("it is well formed");
                assert_eq!(back, tree, "{}", path.display());
                tried += 1;
            }
        }
    }
    assert!(tried >= 5, "only {tried} objects were found");
}

#[test]
fn broken_messages_are_refused() {
    let resource = catalogue::by_kind("", "v1", "Pod").expect("pods are served");
    for body in [&b""[..], b"k8s", b"k8s\0\xff", b"k8s\0\x12\xff\xff\xff\xff\x0f", b"k8s\0\x12\x02\x0a\x05"] {
        assert!(decode(body, "v1", "Pod", resource.schema).is_err(), "{body:?}");
    }
}
