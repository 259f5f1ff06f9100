//! Edits of header fields, applied while they are written.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::HeaderEdit;
use crate::http1::Field;

/// Where fields are written to: text of HTTP/1, a map of HTTP/2.
pub trait Sink {
    /// Writes one.
    fn field(&mut self, name: &[u8], value: &[u8]);
}

impl Sink for Vec<u8> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.reserve(name.len() + value.len() + 4);
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }
}

impl Sink for HeaderMap {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            self.append(name, value);
        }
    }
}

/// Compiled edits of one or more places, in order.
#[derive(Debug, Default)]
pub struct Edits {
    /// Names that do not pass, because they are removed or set anew.
    without: Vec<String>,
    with: Vec<(String, String)>,
}

impl Edits {
    /// Edits that follow one another.
    pub fn new(edits: &[&HeaderEdit]) -> Self {
        let mut made = Self::default();
        for edit in edits {
            for name in edit.remove.iter().chain(edit.set.iter().map(|h| &h.name)) {
                made.with.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                made.without.push(name.to_ascii_lowercase());
            }
            for header in edit.set.iter().chain(&edit.add) {
                made.with.push((header.name.to_ascii_lowercase(), header.value.clone()));
            }
        }
        made
    }

    /// Whether a field does not pass.
    pub fn drops(&self, name: &[u8]) -> bool {
        !self.without.is_empty() && self.without.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
    }

    /// Writes what is added.
    pub fn write(&self, sink: &mut impl Sink) {
        for (name, value) in &self.with {
            sink.field(name.as_bytes(), value.as_bytes());
        }
    }

    /// What a field is set to, if it is.
    pub fn sets(&self, name: &str) -> Option<&str> {
        self.with.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Writes fields as the edits leave them. `skip` names those that are written otherwise.
pub fn write_edited(sink: &mut impl Sink, text: &[u8], fields: &[Field], edits: &Edits, skip: impl Fn(&Field) -> bool) {
    for field in fields {
        let name = field.name.of(text);
        if !field.hop && !skip(field) && !edits.drops(name) {
            sink.field(name, field.value.of(text));
        }
    }
    edits.write(sink);
}
