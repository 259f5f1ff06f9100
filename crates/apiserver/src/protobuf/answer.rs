//! Answers: an object in its envelope, a list, a watch's event.

use std::collections::VecDeque;

use api::schema::{Type, type_named};
use bytes::Bytes;
use serde_json::Value;

use super::{MAGIC, decode::type_of, encode, wire::Writer};

/// Lists are made in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// What the items of a list and the objects of an answer are.
#[derive(Clone, Copy)]
enum Message {
    Of(&'static Type),
    /// `meta.k8s.io/v1 PartialObjectMetadata`, which is nothing but metadata.
    Metadata(&'static Type),
}

impl Message {
    fn of(api_version: &str, kind: &str) -> Option<Message> {
        if (api_version, kind) == ("meta.k8s.io/v1", "PartialObjectMetadata") {
            return object_meta().map(Message::Metadata);
        }
        type_of(api_version, kind).filter(|of| of.message.is_some()).map(Message::Of)
    }

    fn write(self, out: &mut Writer, tree: &Value) {
        match self {
            Message::Of(of) => encode::object(out, of, tree),
            Message::Metadata(of) => out.message(1, |out| encode::object(out, of, &tree["metadata"])),
        }
    }
}

fn object_meta() -> Option<&'static Type> {
    type_named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
}

/// An object, a list or a `Status` from its JSON; `None` for kinds that upstream does not serve in protobuf.
pub(crate) fn whole(text: &[u8]) -> Option<Bytes> {
    let tree: Value = serde_json::from_slice(text).ok()?;
    let (kind, api_version) = (tree["kind"].as_str()?, tree["apiVersion"].as_str().unwrap_or(""));
    let mut raw = Writer::with_capacity(text.len());
    match (kind.strip_suffix("List"), tree["items"].as_array()) {
        (Some(of_items), Some(items)) => {
            let message = Message::of(api_version, of_items)?;
            list_meta(&mut raw, &tree["metadata"]);
            items.iter().for_each(|item| raw.message(2, |out| message.write(out, item)));
        }
        _ => Message::of(api_version, kind)?.write(&mut raw, &tree),
    }
    let (mut out, tail) = envelope(api_version, kind, raw.len());
    out.raw(&raw.into_bytes());
    out.raw(&tail);
    Some(Bytes::from(out.into_bytes()))
}

/// A list of these objects (JSON texts) in pieces, beginning with the envelope.
pub(crate) fn list(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    of: &'static Type,
    objects: impl Iterator<Item = Bytes>,
) -> VecDeque<Bytes> {
    let mut raw = Writer::with_capacity(PIECE_BYTES);
    let (mut pieces, mut length) = (VecDeque::new(), 0);
    list_meta(&mut raw, metadata);
    for object in objects {
        let tree: Value = serde_json::from_slice(&object).unwrap_or_default();
        raw.message(2, |out| encode::object(out, of, &tree));
        if raw.len() >= PIECE_BYTES {
            length += raw.len();
            pieces.push_back(Bytes::from(raw.take()));
        }
    }
    length += raw.len();
    let (head, tail) = envelope(api_version, kind, length);
    raw.raw(&tail);
    pieces.push_back(Bytes::from(raw.into_bytes()));
    pieces.push_front(Bytes::from(head.into_bytes()));
    pieces
}

/// One frame of a watch: length (four bytes, the greatest first) and a `WatchEvent` around the object, which is JSON text.
pub(crate) fn event(word: &str, object: &[u8]) -> Bytes {
    // Only kinds with a message are watched in protobuf.
    let object = whole(object).unwrap_or_default();
    let mut out = Writer::with_capacity(object.len() + 32);
    out.raw(&[0; 4]);
    out.bytes(1, word.as_bytes());
    out.message(2, |out| out.bytes(1, &object));
    let mut frame = out.into_bytes();
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Bytes::from(frame)
}

fn list_meta(out: &mut Writer, metadata: &Value) {
    if let Some(of) = type_named("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta") {
        out.message(1, |out| encode::object(out, of, metadata));
    }
}

/// What stands before and behind the so many bytes of an object: magic number and `runtime.Unknown`.
fn envelope(api_version: &str, kind: &str, length: usize) -> (Writer, Vec<u8>) {
    let mut out = Writer::default();
    out.raw(MAGIC);
    out.message(1, |out| {
        out.bytes(1, api_version.as_bytes());
        out.bytes(2, kind.as_bytes());
    });
    out.head(2, length);
    // Encoding and type of the content: none of their own.
    let mut tail = Writer::default();
    tail.bytes(3, b"");
    tail.bytes(4, b"");
    (out, tail.into_bytes())
}
