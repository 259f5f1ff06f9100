//! One step of a field path, and its order and spelling in `FieldsV1`.

use std::{cmp::Ordering, fmt};

use serde_json::Value;

/// One step down into an object.
#[derive(Clone, Debug, PartialEq)]
pub enum PathElement {
    /// A field of an object or a key of a map: `f:replicas`.
    Field(Box<str>),
    /// An item of a list keyed by fields, which are sorted by name: `k:{"name":"web"}`.
    Key(Vec<(Box<str>, Value)>),
    /// An item of a set: `v:"a"`.
    Value(Value),
    /// A position: `i:0`. Upstream reads these but does not write them.
    Index(i64),
}

impl Eq for PathElement {}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        use PathElement::*;
        match (self, other) {
            (Field(a), Field(b)) => a.cmp(b),
            (Key(a), Key(b)) => {
                let pairs = a.iter().zip(b).map(|((an, av), (bn, bv))| an.cmp(bn).then_with(|| compare_values(av, bv)));
                pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Value(a), Value(b)) => compare_values(a, b),
            (Index(a), Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PathElement {
    /// A field.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }

    /// The name, if it is a field.
    pub fn as_field(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            _ => None,
        }
    }

    /// As it stands in `FieldsV1`.
    pub fn to_fields_key(&self) -> String {
        match self {
            Self::Field(name) => {
                let mut key = String::with_capacity(name.len() + 2);
                key.push_str("f:");
                key.push_str(name);
                key
            }
            Self::Key(fields) => {
                let mut key = String::from("k:{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        key.push(',');
                    }
                    push_json(&mut key, &Value::String((**name).to_owned()));
                    key.push(':');
                    push_json(&mut key, value);
                }
                key.push('}');
                key
            }
            Self::Value(value) => {
                let mut key = String::from("v:");
                push_json(&mut key, value);
                key
            }
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads a key of `FieldsV1`. `Ok(None)` for kinds of steps that a later version may know.
    pub(super) fn from_fields_key(key: &str) -> Result<Option<Self>, String> {
        let Some((kind, rest)) = key.split_at_checked(2) else {
            return Err("key must be 2 characters long:".to_owned());
        };
        let json = || serde_json::from_str::<Value>(rest).map_err(|e| e.to_string());
        match kind {
            "f:" => Ok(Some(Self::field(rest))),
            "v:" => Ok(Some(Self::Value(json()?))),
            "k:" => match json()? {
                Value::Object(map) => {
                    let mut fields: Vec<_> = map.into_iter().map(|(k, v)| (k.into_boxed_str(), v)).collect();
                    fields.sort_by(|a, b| a.0.cmp(&b.0));
                    Ok(Some(Self::Key(fields)))
                }
                _ => Err(format!("expected an object: {key}")),
            },
            "i:" => rest.parse().map(|i| Some(Self::Index(i))).map_err(|_| format!("invalid index: {key}")),
            _ if !kind.ends_with(':') => Err(format!("missing colon: {key}")),
            _ => Ok(None),
        }
    }
}

fn push_json(out: &mut String, value: &Value) {
    // Go's encoder escapes these three; nothing else differs for the scalars that stand here.
    let text = value.to_string();
    if text.contains(['<', '>', '&']) {
        out.push_str(&text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
    } else {
        out.push_str(&text);
    }
}

/// As in error messages: `.name`, `[name="web"]`, `[="a"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The total order of structured-merge-diff: numbers, texts, booleans, lists, maps, null.
pub(super) fn compare_values(left: &Value, right: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let pairs = a.iter().zip(b).map(|(a, b)| compare_values(a, b));
            pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let sorted = |m: &serde_json::Map<String, Value>| {
                let mut pairs: Vec<_> = m.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                pairs
            };
            let (a, b) = (sorted(a), sorted(b));
            let pairs = a.iter().zip(&b).map(|(a, b)| a.0.cmp(&b.0).then_with(|| compare_values(&a.1, &b.1)));
            pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
        }
        _ => rank(left).cmp(&rank(right)),
    }
}
