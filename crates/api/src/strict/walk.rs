//! The one pass: a serde visitor that follows the type's table while the text is read.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::{
    notes::{Notes, Path, struct_type},
    scalar, zero,
};
use crate::schema::{Shape, Type};

/// The object as a whole.
pub struct Root<'n> {
    pub of: &'static Type,
    pub notes: &'n mut Notes,
}

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let path = Path::Root(self.of);
        deserializer.deserialize_any(Node { place: Place::Struct(self.of), path: &path, notes: self.notes })
    }
}

/// What is expected where the walk stands.
#[derive(Clone, Copy)]
enum Place {
    Struct(&'static Type),
    Shape(&'static Shape),
}

/// One value on the walk. `Value::Null` comes back for null and for what is of the wrong type.
struct Node<'p, 'n> {
    place: Place,
    path: &'p Path<'p>,
    notes: &'n mut Notes,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.place {
            Place::Shape(Shape::Any) => Value::deserialize(deserializer),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Node<'_, '_> {
    fn shape(&self) -> Option<&'static Shape> {
        match self.place {
            Place::Shape(Shape::Object { .. }) | Place::Struct(_) => None,
            Place::Shape(shape) => Some(shape),
        }
    }

    fn wrong(self, found: &str) -> Value {
        let notes = self.notes;
        match (self.place, self.path) {
            (Place::Shape(shape), path) => notes.mismatch(found, path, shape),
            (Place::Struct(_), Path::Root(of)) => {
                let wanted = format!("v1.{}", of.name.rsplit('.').next().unwrap_or_default());
                notes.fault_of_root(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
            }
            (Place::Struct(of), path) => {
                let fault = || path.mismatch(found, &struct_type(of));
                notes.fault(fault);
            }
        }
        Value::Null
    }

    fn number(self, number: Number) -> Value {
        let fits = match self.shape() {
            Some(Shape::Int32) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Some(Shape::Int64) => number.as_i64().is_some(),
            Some(Shape::Number) => true,
            Some(Shape::IntOrString) => {
                if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
                    return Value::Number(number);
                }
                self.notes.fault(|| format!("json: cannot unmarshal number {number} into Go value of type int32"));
                return Value::Null;
            }
            Some(Shape::Quantity) => return self.quantity(&Value::Number(number)),
            Some(Shape::Time | Shape::MicroTime) => return self.no_time("number"),
            _ => return self.wrong("number"),
        };
        if fits { Value::Number(number) } else { self.wrong(&format!("number {number}")) }
    }

    fn text(self, text: &str) -> Value {
        match self.shape() {
            Some(Shape::String | Shape::IntOrString) => Value::String(text.into()),
            Some(Shape::Quantity) => {
                if scalar::is_canonical_quantity(text) {
                    return Value::String(text.into());
                }
                self.quantity(&Value::String(text.into()))
            }
            Some(Shape::Bytes) => self.checked(scalar::base64(text)),
            Some(Shape::Time) => self.checked(scalar::time(text)),
            Some(Shape::MicroTime) => self.checked(scalar::micro_time(text)),
            _ => self.wrong("string"),
        }
    }

    fn checked(self, result: Result<String, String>) -> Value {
        match result {
            Ok(text) => Value::String(text),
            Err(fault) => {
                self.notes.fault(|| fault);
                Value::Null
            }
        }
    }

    fn quantity(self, value: &Value) -> Value {
        self.checked(scalar::quantity(value))
    }

    fn no_time(self, found: &str) -> Value {
        self.notes.fault(|| format!("json: cannot unmarshal {found} into Go value of type string"));
        Value::Null
    }

    fn fields<'de, A: MapAccess<'de>>(self, of: &'static Type, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        // One bit a field; types have fewer than 128 fields, which a test holds true.
        let mut seen = 0u128;
        while let Some(key) = access.next_key_seed(FieldName(of))? {
            match key {
                Ok(index) => {
                    let field = &of.fields[index];
                    let again = seen & (1 << index) != 0;
                    seen |= 1 << index;
                    if again {
                        self.notes.issue("duplicate", self.path, field.name);
                    }
                    let path = Path::Field(self.path, of, field);
                    let node = Node { place: Place::Shape(&field.shape), path: &path, notes: &mut *self.notes };
                    let value = access.next_value_seed(node)?;
                    if !self.notes.keeps_zeros && zero::is_left_out(field, &value) {
                        // What came before under that name is overwritten all the same.
                        if again {
                            map.shift_remove(field.name);
                        }
                    } else if !value.is_null() {
                        map.insert(field.name.into(), value);
                    }
                }
                Err(unknown) => {
                    self.notes.issue("unknown", self.path, &unknown);
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(map))
    }

    fn entries<'de, A: MapAccess<'de>>(self, of: &'static Shape, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(MapKey)? {
            let path = Path::Key(self.path, &key);
            let node = Node { place: Place::Shape(of), path: &path, notes: &mut *self.notes };
            let value = access.next_value_seed(node)?;
            if map.contains_key(&key) {
                self.notes.issue("duplicate", self.path, &key);
            }
            map.insert(key, if value.is_null() { empty(of) } else { value });
        }
        Ok(Value::Object(map))
    }
}

/// What Go has where an item or a map's value is null.
fn empty(shape: &Shape) -> Value {
    match shape {
        Shape::Boolean => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::String | Shape::Bytes => "".into(),
        Shape::Quantity => "0".into(),
        Shape::Object { .. } | Shape::Map { .. } => Value::Object(Map::new()),
        Shape::List { .. } => Value::Array(Vec::new()),
        Shape::Time | Shape::MicroTime | Shape::Any => Value::Null,
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(match self.shape() {
            Some(Shape::Boolean) => Value::Bool(value),
            Some(Shape::IntOrString) => {
                self.notes.fault(|| "json: cannot unmarshal bool into Go value of type int32".into());
                Value::Null
            }
            Some(Shape::Quantity) => self.quantity(&Value::Bool(value)),
            Some(Shape::Time | Shape::MicroTime) => self.no_time("bool"),
            _ => self.wrong("bool"),
        })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(match Number::from_f64(value) {
            Some(number) => self.number(number),
            None => self.wrong("number"),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(self.text(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(match self.shape() {
            Some(Shape::String | Shape::IntOrString) => Value::String(value),
            _ => self.text(&value),
        })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(match self.place {
            Place::Struct(_) => Value::Object(Map::new()),
            Place::Shape(_) => Value::Null,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let Some(Shape::List { of, .. }) = self.shape() else {
            while access.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(match self.shape() {
                Some(Shape::Quantity) => self.quantity(&Value::Array(Vec::new())),
                Some(Shape::Time | Shape::MicroTime) => self.no_time("array"),
                _ => self.wrong("array"),
            });
        };
        let mut items = Vec::with_capacity(access.size_hint().unwrap_or(0).min(1024));
        loop {
            let path = Path::Item(self.path, items.len());
            let node = Node { place: Place::Shape(of), path: &path, notes: &mut *self.notes };
            match access.next_element_seed(node)? {
                Some(Value::Null) => items.push(empty(of)),
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        match self.place {
            Place::Struct(of) => self.fields(of, access),
            Place::Shape(Shape::Object { of, .. }) => self.fields(of, access),
            Place::Shape(Shape::Map { of, .. }) => self.entries(of, access),
            Place::Shape(shape) => {
                while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(match shape {
                    Shape::Quantity => self.quantity(&Value::Object(Map::new())),
                    Shape::Time | Shape::MicroTime => self.no_time("object"),
                    _ => self.wrong("object"),
                })
            }
        }
    }
}

/// The index of a field by its name, without a copy of the name.
struct FieldName(&'static Type);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.binary_search_by(|field| field.name.cmp(name)).map_err(|_| name.into()))
    }
}

/// The key of a map: text in JSON, any scalar in YAML.
pub struct MapKey;

impl<'de> DeserializeSeed<'de> for MapKey {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for MapKey {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar key")
    }

    fn visit_str<E>(self, key: &str) -> Result<String, E> {
        Ok(key.into())
    }

    fn visit_string<E>(self, key: String) -> Result<String, E> {
        Ok(key)
    }

    fn visit_bool<E>(self, key: bool) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_i64<E>(self, key: i64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_u64<E>(self, key: u64) -> Result<String, E> {
        Ok(key.to_string())
    }

    fn visit_f64<E>(self, key: f64) -> Result<String, E> {
        Ok(key.to_string())
    }
}
