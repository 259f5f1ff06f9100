//! Parts of an encoded object, found without building all of it as a tree.

use std::ops::Range;

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
                    at = end_of_string(object, at)?;
                    continue;
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
    let paths: Vec<&str> = pointers.iter().filter_map(|pointer| pointer.strip_prefix('/')).collect();
    let picked = pick_below(object, past_blanks(object, 0), &paths);
    picked.map_or_else(Map::new, |(fields, _)| fields).into()
}

/// What is wanted below one field.
enum Wanted<'p> {
    Nothing,
    All,
    Parts(Vec<&'p str>),
}

impl<'p> Wanted<'p> {
    fn of(name: &[u8], paths: &[&'p str]) -> Self {
        let mut parts = Vec::new();
        for path in paths {
            match path.as_bytes().strip_prefix(name) {
                Some([]) => return Wanted::All,
                Some([b'/', ..]) => parts.push(&path[name.len() + 1..]),
                _ => {}
            }
        }
        if parts.is_empty() { Wanted::Nothing } else { Wanted::Parts(parts) }
    }
}

/// What the paths lead to in the object that begins at `at`, and where it ends; `None` if it is none, or broken.
fn pick_below(text: &[u8], at: usize, paths: &[&str]) -> Option<(Map<String, Value>, usize)> {
    let mut picked = Map::new();
    if *text.get(at)? != b'{' {
        return None;
    }
    let mut at = past_blanks(text, at + 1);
    while *text.get(at)? != b'}' {
        let end = end_of(text, at)?;
        let name = text.get(at + 1..end - 1)?;
        let colon = past_blanks(text, end);
        if text[at] != b'"' || *text.get(colon)? != b':' {
            return None;
        }
        let from = past_blanks(text, colon + 1);
        let wanted = Wanted::of(name, paths);
        let to = match wanted {
            Wanted::Parts(paths) if text.get(from) == Some(&b'{') => {
                let (parts, to) = pick_below(text, from, &paths)?;
                picked.insert(str::from_utf8(name).ok()?.to_owned(), parts.into());
                to
            }
            Wanted::All => {
                let to = end_of(text, from)?;
                let value = serde_json::from_slice(&text[from..to]).ok()?;
                picked.insert(str::from_utf8(name).ok()?.to_owned(), value);
                to
            }
            Wanted::Parts(_) | Wanted::Nothing => end_of(text, from)?,
        };
        at = past_blanks(text, to);
        match *text.get(at)? {
            b',' => at = past_blanks(text, at + 1),
            b'}' => {}
            _ => return None,
        }
    }
    Some((picked, at + 1))
}

fn past_blanks(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends; nothing within it is looked at.
fn end_of(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match *text.get(at)? {
            b'"' => at = end_of_string(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ if depth == 0 => {
                // A number or a word.
                while !matches!(*text.get(at)?, b',' | b'}' | b']') {
                    at += 1;
                }
            }
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Where the string ends whose first quote is at `at`: behind its last.
fn end_of_string(text: &[u8], mut at: usize) -> Option<usize> {
    at += 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
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

    #[test]
    fn what_is_picked_does_not_depend_on_blanks_and_broken_text_has_nothing() {
        let object = json!({
            "a": [{"}": "]"}, "\"}", 1.5e3], "b": {"c": "\\", "d": [null, true], "e": {}}, "f": -7, "g": "", "\"": {"b": 1},
        });
        let pointers = ["/b/c", "/b/d", "/f", "/g", "/a"];
        let expected = json!({"a": object["a"], "b": {"c": "\\", "d": [null, true]}, "f": -7, "g": ""});
        for text in [object.to_string(), format!(" {object:#}\n")] {
            assert_eq!(pick(text.as_bytes(), &pointers), expected, "{text}");
            let whole = text.trim_end().len();
            for cut in 0..whole {
                assert_eq!(pick(&text.as_bytes()[..cut], &pointers), json!({}), "cut off at {cut}");
            }
        }
        for broken in ["[]", "7", "{7:1}", "{\"f\" 1}", "{\"f\":1 \"g\":2}", "{\"f\":}", "{\"b\":{]}", "{\"f\":]}"] {
            assert_eq!(pick(broken.as_bytes(), &pointers), json!({}), "{broken}");
        }
    }
}
