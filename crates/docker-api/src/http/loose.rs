//! JSON as Go's decoder reads it, for clients that rely on that: a field's name is found whatever its case, and `null` is
//! nothing (encoding/json, "Unmarshal").

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::{Map, Value};

/// Reads a value whose fields may be written in another case than the type's own.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    T::deserialize(Loose(value))
}

struct Loose(Value);

impl<'de> Deserializer<'de> for Loose {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Loose))),
            Value::Object(map) => object(map, visitor),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Object(map) => object(renamed(map, fields), visitor),
            other => Loose(other).deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, serde_json::Error> for Loose {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

fn object<'de, V: Visitor<'de>>(map: Map<String, Value>, visitor: V) -> Result<V::Value, serde_json::Error> {
    visitor.visit_map(MapDeserializer::new(map.into_iter().map(|(name, value)| (name, Loose(value)))))
}

/// Gives entries the names of the fields they are; one that has the very name goes before others.
fn renamed(map: Map<String, Value>, fields: &[&'static str]) -> Map<String, Value> {
    let (mut exact, others): (Map<_, _>, Map<_, _>) =
        map.into_iter().partition(|(name, _)| fields.contains(&name.as_str()));
    for (name, value) in others {
        let field = fields.iter().find(|field| field.eq_ignore_ascii_case(&name));
        exact.entry(field.map_or(name, |field| (*field).to_owned())).or_insert(value);
    }
    exact
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        network_mode: String,
        inner: Vec<Inner>,
        labels: BTreeMap<String, String>,
        limit: Option<i64>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        host_port: String,
    }

    #[test]
    fn names_of_fields_are_found_in_any_case_and_keys_of_maps_stay() {
        let value = json!({
            "networkmode": "host", "INNER": [{"hostPort": "80"}], "Labels": {"aB": "c"}, "limit": 7, "unknown": [1],
        });
        let expected = Outer {
            network_mode: "host".into(),
            inner: vec![Inner { host_port: "80".into() }],
            labels: BTreeMap::from([("aB".to_owned(), "c".to_owned())]),
            limit: Some(7),
        };
        assert_eq!(read::<Outer>(value).unwrap(), expected);
    }

    #[test]
    fn the_very_name_goes_before_others() {
        let value = json!({"networkmode": "host", "NetworkMode": "none"});
        assert_eq!(read::<Outer>(value).unwrap().network_mode, "none");
        assert!(read::<Outer>(json!({"networkmode": 1})).is_err());
    }
}
