//! Parts of an encoded object, found without building all of it as a tree.

use std::{fmt, ops::Range};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Where the parts of an encoded object stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Its `metadata`.
    metadata: Range<usize>,
    /// Within that the managed fields, with the comma before them.
    managers: Option<Range<usize>>,
}

impl Layout {
    /// Looks once through the metadata; `None` if they are not where our encoding puts them: behind `kind` and
    /// `apiVersion`, which hold no quotes.
    pub fn of(object: &[u8]) -> Option<Layout> {
        const METADATA: &[u8] = b",\"metadata\":";
        const MANAGERS: &[u8] = b",\"managedFields\":[";
        let from = memchr::memmem::find(object, METADATA)? + METADATA.len();
        if object.get(from) != Some(&b'{') || object[1..from].contains(&b'{') {
            return None;
        }
        let (mut depth, mut at) = (0_usize, from);
        let mut managers: Option<Range<usize>> = None;
        loop {
            match *object.get(at)? {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    match (depth, &mut managers) {
                        (0, _) => return Some(Layout { metadata: from..at + 1, managers }),
                        (1, Some(list)) if list.end == 0 => list.end = at + 1,
                        _ => {}
                    }
                }
                b',' if depth == 1 && object[at..].starts_with(MANAGERS) => {
                    managers = Some(at..0);
                    // On to its bracket.
                    at += MANAGERS.len() - 2;
                }
                b'"' => {
                    at += 1;
                    loop {
                        match *object.get(at)? {
                            b'"' => break,
                            b'\\' => at += 2,
                            _ => at += 1,
                        }
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// The bytes of the object's metadata.
    pub fn metadata<'o>(&self, object: &'o [u8]) -> &'o [u8] {
        &object[self.metadata.clone()]
    }

    /// The same in two pieces, between which the managed fields stood.
    pub fn lean_metadata<'o>(&self, object: &'o [u8]) -> [&'o [u8]; 2] {
        let Range { start, end } = self.metadata;
        match &self.managers {
            Some(list) => [&object[start..list.start], &object[list.end..end]],
            None => [&object[start..end], b""],
        }
    }

    /// The object without managed fields; `None` if it has none.
    pub fn without_managers(&self, object: &[u8]) -> Option<Vec<u8>> {
        let list = self.managers.as_ref()?;
        Some([&object[..list.start], &object[list.end..]].concat())
    }
}

/// The object without `metadata.managedFields`; `None` if it has none, or not where our encoding puts it.
pub(crate) fn without_managers(object: &[u8]) -> Option<Vec<u8>> {
    Layout::of(object)?.without_managers(object)
}

/// The object cut down to what these JSON pointers (without escapes, through objects alone) lead to.
pub(crate) fn pick(object: &[u8], pointers: &[&str]) -> Value {
    let paths = pointers.iter().filter_map(|pointer| pointer.strip_prefix('/')).collect();
    let picked = Pick { paths }.deserialize(&mut serde_json::Deserializer::from_slice(object));
    picked.ok().flatten().unwrap_or(Value::Object(Map::new()))
}

/// What is wanted below one place.
struct Pick<'p> {
    paths: Vec<&'p str>,
}

/// What is wanted below one field.
enum Wanted<'p> {
    Nothing,
    All,
    Parts(Vec<&'p str>),
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut picked = Map::new();
        while let Some((name, wanted)) = fields.next_key_seed(Name(&self.paths))? {
            let value = match wanted {
                Wanted::Nothing => {
                    fields.next_value::<IgnoredAny>()?;
                    None
                }
                Wanted::All => Some(fields.next_value()?),
                Wanted::Parts(paths) => fields.next_value_seed(Pick { paths })?,
            };
            if let Some(value) = value {
                picked.insert(name, value);
            }
        }
        Ok(Some(Value::Object(picked)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A field's name, and what is wanted of it; the name of one that nobody wants is not kept.
struct Name<'n, 'p>(&'n [&'p str]);

impl<'de, 'p> DeserializeSeed<'de> for Name<'_, 'p> {
    type Value = (String, Wanted<'p>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for Name<'_, 'p> {
    type Value = (String, Wanted<'p>);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let mut parts = Vec::new();
        for path in self.0 {
            match path.strip_prefix(name) {
                Some("") => return Ok((name.to_owned(), Wanted::All)),
                Some(rest) => parts.extend(rest.strip_prefix('/')),
                None => {}
            }
        }
        if parts.is_empty() {
            return Ok((String::new(), Wanted::Nothing));
        }
        Ok((name.to_owned(), Wanted::Parts(parts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(object: &[u8]) -> Option<&[u8]> {
        Some(Layout::of(object)?.metadata(object))
    }

    #[test]
    fn the_metadata_is_cut_out_whatever_its_strings_say() {
        let object = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","annotations":{"a":"}\"{\\","b":"{"}},"spec":{"metadata":{}}}"#;
        let metadata = metadata(object).unwrap();
        let tree: Value = serde_json::from_slice(object).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(metadata).unwrap(), tree["metadata"]);
    }

    #[test]
    fn managed_fields_are_cut_out_and_nothing_else_is() {
        let with = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","annotations":{"managedFields":"[","a":",\"managedFields\":[{"},"managedFields":[{"fieldsV1":{"k:{\"a\":\"]\"}":{"f:managedFields":{}}}},{}],"generation":1},"spec":{"template":{"metadata":{"name":"t","managedFields":[{}]}}}}"#;
        let cut = without_managers(with).unwrap();
        let mut tree: Value = serde_json::from_slice(with).unwrap();
        tree["metadata"].as_object_mut().unwrap().shift_remove("managedFields");
        assert_eq!(serde_json::from_slice::<Value>(&cut).unwrap(), tree);
        assert_eq!(without_managers(&cut), None);
        let lean = Layout::of(with).unwrap().lean_metadata(with).concat();
        assert_eq!(serde_json::from_slice::<Value>(&lean).unwrap(), tree["metadata"]);
        let last = br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","managedFields":[]},"spec":{}}"#;
        assert_eq!(
            without_managers(last).unwrap(),
            br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"},"spec":{}}"#
        );
    }

    #[test]
    fn other_layouts_are_left_to_the_parser() {
        assert_eq!(metadata(br#"{"spec":{"a":1,"metadata":{"name":"x"}},"metadata":{"name":"p"}}"#), None);
        assert_eq!(metadata(br#"{"kind":"Pod","apiVersion":"v1","metadata":null}"#), None);
        assert_eq!(metadata(br#"{"kind":"Pod"}"#), None);
        let whole =
            br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p\\\"","managedFields":[{"a":["b"]}]},"spec":{}}"#;
        for cut in 0..whole.len() - br#","spec":{}}"#.len() {
            assert_eq!(metadata(&whole[..cut]), None, "cut off at {cut}");
        }
    }

    #[test]
    fn only_what_the_pointers_lead_to_is_kept() {
        let object = json!({
            "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b", "x/y": "z"}, "uid": "u"},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}], "hostNetwork": true}, "status": "odd",
        });
        let pointers = ["/metadata/name", "/metadata/labels", "/spec/nodeName", "/spec/absent", "/status/phase"];
        let picked = pick(object.to_string().as_bytes(), &pointers);
        assert_eq!(
            picked,
            json!({"metadata": {"name": "p", "labels": {"a": "b", "x/y": "z"}}, "spec": {"nodeName": "n"}})
        );
    }
}
