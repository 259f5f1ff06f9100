//! A JSON tree of text whose type is not known, read once, and whether a field stands twice in it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The tree as [`Value`] reads it (of a field that stands twice, the last counts), and whether any stands twice:
/// [`super::repeated`] says which.
///
/// # Errors
/// The text is no JSON.
pub fn tree(text: &[u8]) -> serde_json::Result<(Value, bool)> {
    serde_json::from_slice(text).map(|Tree { value, twice }| (value, twice))
}

struct Tree {
    value: Value,
    twice: bool,
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        Tree { value, twice: false }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

macro_rules! leaf {
    ($($visit:ident: $of:ty => $make:expr),*) => {
        $(fn $visit<E>(self, value: $of) -> Result<Tree, E> {
            Ok(($make)(value).into())
        })*
    };
}

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    leaf!(
        visit_bool: bool => Value::Bool,
        visit_i64: i64 => |n: i64| Value::Number(n.into()),
        visit_u64: u64 => |n: u64| Value::Number(n.into()),
        visit_f64: f64 => |n: f64| Number::from_f64(n).map_or(Value::Null, Value::Number),
        visit_str: &str => |text: &str| Value::String(text.to_owned()),
        visit_string: String => Value::String
    );

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Value::Null.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let (mut items, mut any) = (Vec::new(), false);
        while let Some(Tree { value, twice }) = access.next_element()? {
            items.push(value);
            any |= twice;
        }
        Ok(Tree { value: Value::Array(items), twice: any })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let (mut fields, mut any) = (Map::new(), false);
        while let Some(name) = access.next_key::<String>()? {
            let Tree { value, twice } = access.next_value()?;
            any |= twice | fields.insert(name, value).is_some();
        }
        Ok(Tree { value: Value::Object(fields), twice: any })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_as_serde_json_reads_it() {
        let text = br#"{"a": [1, -2, 3.5, 18446744073709551615, true, null, {"b": "\u00e9"}], "c": {}, "d": 1e400}"#;
        assert!(tree(text).is_err() && serde_json::from_slice::<Value>(text).is_err(), "no such number");
        for text in [
            r#"{"z": [1, -2, 3.5, 18446744073709551615, 1e30, true, null, {"b": "\u00e9\n"}], "c": {}, "a": []}"#,
            "[]",
            "\"text\"",
            "null",
            " 7 ",
        ] {
            let (read, twice) = tree(text.as_bytes()).expect("it is JSON");
            let expected: Value = serde_json::from_str(text).expect("it is JSON");
            assert_eq!((read.to_string(), twice), (expected.to_string(), false));
        }
        for text in ["", "{", "[1,]", "{\"a\":1} x", "{\"a\" 1}"] {
            let (ours, theirs) = (tree(text.as_bytes()), serde_json::from_str::<Value>(text));
            assert_eq!(ours.expect_err("no JSON").to_string(), theirs.expect_err("no JSON").to_string());
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_seen_wherever_it_stands() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":1,"b":0,"a":2}}]"#, r#"{"x":[[{"a":1,"a":2}],3]}"#] {
            let (read, twice) = tree(text.as_bytes()).expect("it is JSON");
            assert!(twice && read.to_string().contains(r#""a":2"#), "{text}");
        }
        assert!(!tree(br#"[{"a":1},{"a":1}]"#).expect("it is JSON").1);
    }
}
