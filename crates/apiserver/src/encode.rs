//! The one encoding of an object: compact JSON in which `metadata.resourceVersion` stands before anything
//! a user can name, so that the store can stamp it and a reader can find it again.

use bytes::Bytes;
use serde_json::{Map, Value};

use store::Revision;

const MARK: &[u8] = b"\"resourceVersion\":\"";

/// Encodes `object` with an empty resourceVersion, into which the store stamps the revision of the write.
pub fn encode(object: &Value) -> store::Value {
    let mut out = Vec::with_capacity(4096);
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    out.extend_from_slice(b"{\"kind\":");
    write(&mut out, fields.get("kind").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"apiVersion\":");
    write(&mut out, fields.get("apiVersion").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"metadata\":{");
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    const FIRST: [&str; 4] = ["name", "generateName", "namespace", "uid"];
    for key in FIRST {
        if let Some(value) = metadata.get(key) {
            write_pair(&mut out, key, value);
            out.push(b',');
        }
    }
    out.extend_from_slice(MARK);
    let stamp_at = out.len();
    out.push(b'"');
    for (key, value) in metadata {
        if FIRST.contains(&key.as_str()) || key == "resourceVersion" {
            continue;
        }
        out.push(b',');
        write_pair(&mut out, key, value);
    }
    out.push(b'}');
    for (key, value) in fields {
        if matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            continue;
        }
        out.push(b',');
        write_pair(&mut out, key, value);
    }
    out.push(b'}');
    store::Value { bytes: Bytes::from(out), stamp_at: Some(stamp_at) }
}

/// The bytes as the store keeps them once `value` is written at `revision`.
pub fn stamped(value: &store::Value, revision: Revision) -> Bytes {
    let Some(at) = value.stamp_at else { return value.bytes.clone() };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision).as_bytes();
    let mut out = Vec::with_capacity(value.bytes.len() + digits.len());
    out.extend_from_slice(&value.bytes[..at]);
    out.extend_from_slice(digits);
    out.extend_from_slice(&value.bytes[at..]);
    Bytes::from(out)
}

/// The same object with another resourceVersion (what a DELETED event shows).
pub fn restamped(bytes: &Bytes, revision: Revision) -> Bytes {
    let Some(mark) = bytes.windows(MARK.len()).position(|w| w == MARK) else { return bytes.clone() };
    let at = mark + MARK.len();
    let Some(length) = bytes[at..].iter().position(|b| *b == b'"') else { return bytes.clone() };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision).as_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 4);
    out.extend_from_slice(&bytes[..at]);
    out.extend_from_slice(digits);
    out.extend_from_slice(&bytes[at + length..]);
    Bytes::from(out)
}

fn write_pair(out: &mut Vec<u8>, key: &str, value: &Value) {
    serde_json::to_writer(&mut *out, key).expect("a string is always valid JSON");
    out.push(b':');
    write(out, value);
}

fn write(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a JSON value is always serializable into memory");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_stamp_lands_in_metadata_whatever_users_name_their_keys() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "data": {"resourceVersion": "no", "x": "\"resourceVersion\":\"no\""},
            "metadata": {"labels": {"resourceVersion": "no"}, "name": "a\"resourceVersion\":\"", "namespace": "n", "resourceVersion": "7"},
        });
        let encoded = encode(&object);
        let at_12 = stamped(&encoded, 12);
        let parsed: Value = serde_json::from_slice(&at_12).unwrap();
        assert_eq!(parsed["metadata"]["resourceVersion"], "12");
        assert_eq!(parsed["metadata"]["labels"]["resourceVersion"], "no");
        let at_4711 = restamped(&at_12, 4711);
        let parsed: Value = serde_json::from_slice(&at_4711).unwrap();
        assert_eq!(parsed["metadata"]["resourceVersion"], "4711");
        assert_eq!(parsed["data"]["resourceVersion"], "no");
    }
}
