//! OpenAPI v2 as protobuf: the messages of `OpenAPIv2.proto` of gnostic, written by hand from the JSON
//! trees of [`super::v2`]. Each function writes one message; numbers are field numbers.

use serde_json::{Map, Value};

use super::{
    definitions::{Definitions, unpack},
    v2,
};
use crate::resource::Resource;

/// The whole `Document`.
pub fn document(resources: &[&Resource]) -> Vec<u8> {
    let text = unpack();
    let definitions = Definitions::new(&text, resources);
    let mut out = Message::default();
    out.string(1, "2.0");
    let info = v2::info();
    out.message(2, |m| {
        m.text(1, &info["title"]);
        m.text(2, &info["version"]);
    });
    out.message(8, |paths| {
        for item in v2::all_paths(resources) {
            let value = v2::path_item(&item);
            paths.named(2, &item.path, |m| path_item(m, &value));
        }
    });
    out.message(9, |all| {
        for name in definitions.names() {
            if let Some(definition) = definitions.get(&name) {
                all.named(1, &name, |m| schema(m, &definition));
            }
        }
    });
    // SecurityRequirement: a name with an empty list of scopes.
    out.message(12, |m| m.named(1, "BearerToken", |_| {}));
    let security = v2::security();
    out.message(13, |m| {
        m.named(1, "BearerToken", |m| {
            m.message(2, |m| {
                let token = &security["BearerToken"];
                m.text(1, &token["type"]);
                m.text(2, &token["name"]);
                m.text(3, &token["in"]);
                m.text(4, &token["description"]);
            });
        });
    });
    out.0
}

fn path_item(m: &mut Message, item: &Value) {
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(value) = item.get(method) {
            m.message(field, |m| operation(m, value));
        }
    }
    parameters(m, 9, item);
}

fn operation(m: &mut Message, operation: &Value) {
    m.texts(1, &operation["tags"]);
    m.text(3, &operation["description"]);
    m.text(5, &operation["operationId"]);
    m.texts(6, &operation["produces"]);
    m.texts(7, &operation["consumes"]);
    parameters(m, 8, operation);
    m.message(9, |m| {
        for (code, value) in entries(&operation["responses"]) {
            // ResponseValue { response: Response }
            m.named(1, code, |m| {
                m.message(1, |m| {
                    m.text(1, &value["description"]);
                    if let Some(value) = value.get("schema") {
                        // SchemaItem { schema: Schema }
                        m.message(2, |m| m.message(1, |m| schema(m, value)));
                    }
                });
            });
        }
    });
    m.texts(10, &operation["schemes"]);
    extensions(m, 13, operation);
}

/// `ParametersItem { parameter: Parameter { … } }`
fn parameters(m: &mut Message, field: u32, owner: &Value) {
    for parameter in owner["parameters"].as_array().into_iter().flatten() {
        m.message(field, |m| m.message(1, |m| self::parameter(m, parameter)));
    }
}

fn parameter(m: &mut Message, parameter: &Value) {
    match parameter["in"].as_str() {
        Some("body") => m.message(1, |m| {
            m.text(1, &parameter["description"]);
            m.text(2, &parameter["name"]);
            m.text(3, &parameter["in"]);
            m.boolean(4, &parameter["required"]);
            m.message(5, |m| schema(m, &parameter["schema"]));
        }),
        // The field of NonBodyParameter, and that of the type and of uniqueItems in it.
        place => {
            let (of_place, of_type, of_unique) = if place == Some("path") { (4, 5, 18) } else { (3, 6, 20) };
            m.message(2, |m| {
                m.message(of_place, |m| {
                    m.boolean(1, &parameter["required"]);
                    m.text(2, &parameter["in"]);
                    m.text(3, &parameter["description"]);
                    m.text(4, &parameter["name"]);
                    m.text(of_type, &parameter["type"]);
                    m.boolean(of_unique, &parameter["uniqueItems"]);
                });
            });
        }
    }
}

fn schema(m: &mut Message, schema: &Value) {
    m.text(1, &schema["$ref"]);
    m.text(2, &schema["format"]);
    m.text(4, &schema["description"]);
    if let Some(default) = schema.get("default") {
        m.message(5, |m| any(m, default));
    }
    m.texts(19, &schema["required"]);
    if let Some(of) = schema.get("additionalProperties") {
        // AdditionalPropertiesItem { schema: Schema }
        m.message(21, |m| m.message(1, |m| self::schema(m, of)));
    }
    if schema["type"].is_string() {
        m.message(22, |m| m.text(1, &schema["type"]));
    }
    if let Some(of) = schema.get("items") {
        m.message(23, |m| m.message(1, |m| self::schema(m, of)));
    }
    if schema["properties"].is_object() {
        m.message(25, |m| {
            for (name, property) in entries(&schema["properties"]) {
                m.named(1, name, |m| self::schema(m, property));
            }
        });
    }
    extensions(m, 31, schema);
}

/// `x-…` as `NamedAny`.
fn extensions(m: &mut Message, field: u32, owner: &Value) {
    for (name, value) in entries(owner).filter(|(name, _)| name.starts_with("x-")) {
        m.named(field, name, |m| any(m, value));
    }
}

/// `Any { yaml }`: JSON is YAML.
fn any(m: &mut Message, value: &Value) {
    m.string(2, &value.to_string());
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// A protobuf message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        const LENGTH_DELIMITED: u32 = 2;
        self.varint(u64::from(field << 3 | LENGTH_DELIMITED));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn string(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// A JSON string; anything else is absent.
    fn text(&mut self, field: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.string(field, text);
        }
    }

    fn texts(&mut self, field: u32, values: &Value) {
        values.as_array().into_iter().flatten().for_each(|value| self.text(field, value));
    }

    fn boolean(&mut self, field: u32, value: &Value) {
        if value.as_bool() == Some(true) {
            self.varint(u64::from(field << 3));
            self.varint(1);
        }
    }

    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// The many messages of a name (1) and a value (2).
    fn named(&mut self, field: u32, name: &str, fill: impl FnOnce(&mut Self)) {
        self.message(field, |m| {
            m.string(1, name);
            m.message(2, fill);
        });
    }
}
