//! From what a verb answers to the HTTP response that the client asked for.

use std::{collections::VecDeque, io::Write, sync::Arc};

use api::{
    resource::{Column, Resource},
    status::Status,
    table::{self, Header, IncludeObject},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    body::Body,
    cache::Cached,
    call::{Call, Reply},
    failure::Outcome,
    keep::{Names, keep},
    negotiate::{Accept, Format, Shape},
    protobuf, scan,
    verbs::list::Page,
    version,
};

/// Answers larger than this are compressed for clients that take gzip (upstream's threshold, in bytes).
const GZIP_FROM: usize = 128 * 1024;
/// Lists go out in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// From so many rows on a second thread helps to make them.
const SHARED_ROWS: usize = 200;

/// The response to a call.
pub(crate) fn respond(call: &Call<'_>, outcome: Outcome<Reply>) -> Response<Body> {
    let mut response = match outcome.and_then(|reply| shaped(call, reply)) {
        Ok(response) => response,
        Err(status) => failure(&status, call.accept),
    };
    for warning in call.warnings.lock().drain(..) {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let value = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn shaped(call: &Call<'_>, reply: Reply) -> Outcome<Response<Body>> {
    let (resource, accept) = (call.resource, call.accept);
    let one = |code: u16, bytes: Bytes| -> Outcome<Response<Body>> {
        match accept.shape {
            Shape::Object => Ok(json_response(code, bytes, accept)),
            Shape::Metadata => Ok(json_response(code, Bytes::from(metadata_only(&bytes, accept.lean)), accept)),
            Shape::Table => {
                let tree: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let revision = tree["metadata"]["resourceVersion"].as_str().unwrap_or("").to_owned();
                let columns = own_columns(resource, &tree);
                let header = Header { resource_version: &revision, columns, ..Header::default() };
                let table = table::render(resource, [&tree], include_object(call)?, &header, Timestamp::now());
                Ok(tree_response(code, &table, accept))
            }
        }
    };
    match reply {
        Reply::Stored { code, bytes } => one(code, served(resource, &bytes, accept)),
        Reply::Tree { code, tree } => one(code, Bytes::from(tree.to_string())),
        Reply::List(page) => match accept.shape {
            Shape::Object => Ok(list_response(resource, &page, accept)),
            Shape::Metadata => Ok(metadata_list(resource, &page, accept)),
            Shape::Table => Ok(table_list(call, &page)?),
        },
        Reply::Status(status) => Ok(status_response(&status, accept)),
        Reply::Response(response) => Ok(response),
    }
}

/// The columns of what is shown, where that is of another kind than the resource, as `scale` is.
fn own_columns(resource: &Resource, tree: &Value) -> Option<&'static [Column]> {
    let kind = tree["kind"].as_str().filter(|kind| *kind != resource.kind)?;
    let group = tree["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
    Some(table::columns(group, kind))
}

/// What rows of a table carry of their objects.
pub(crate) fn include_object(call: &Call<'_>) -> Outcome<IncludeObject> {
    let text = call.query.text("includeObject");
    IncludeObject::parse(text).ok_or_else(|| Status::bad_request(format!("unrecognized includeObject value: {text:?}")))
}

fn list_head(kind: &str, api_version: &str, page: &Page) -> String {
    let metadata = list_meta(page);
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
}

fn list_meta(page: &Page) -> Value {
    // What is measured rather than stored has no version.
    let mut metadata =
        if page.revision == 0 { json!({}) } else { json!({"resourceVersion": page.revision.to_string()}) };
    if !page.continue_token.is_empty() {
        metadata["continue"] = page.continue_token.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

fn protobuf_list(resource: &Resource, page: &Page, accept: Accept) -> Response<Body> {
    let objects = page.objects.iter().map(|object| served(resource, &object.bytes, accept));
    let metadata = list_meta(page);
    let pieces = protobuf::list(resource.api_version, &resource.list_kind(), &metadata, resource.schema, objects);
    if accept.gzip && pieces.iter().map(Bytes::len).sum::<usize>() > GZIP_FROM {
        let joined: Vec<u8> = pieces.iter().flat_map(|p| p.iter().copied()).collect();
        return maybe_gzip(200, protobuf::MEDIA_TYPE, Bytes::from(joined), accept);
    }
    with_type(200, protobuf::MEDIA_TYPE, Body::pieces(pieces))
}

/// A list is its head and the objects' own bytes, joined to large pieces.
fn list_response(resource: &Resource, page: &Page, accept: Accept) -> Response<Body> {
    if let (Format::Protobuf, Some(_)) = (accept.format, resource.schema.message) {
        return protobuf_list(resource, page, accept);
    }
    let head = list_head(&resource.list_kind(), resource.api_version, page);
    let mut pieces = VecDeque::new();
    let total: usize = page.objects.iter().map(|o| o.bytes.len() + 1).sum::<usize>() + head.len() + 8;
    let mut piece = Vec::with_capacity(total.min(PIECE_BYTES + 4096));
    piece.extend_from_slice(head.as_bytes());
    for (index, object) in page.objects.iter().enumerate() {
        if index > 0 {
            piece.push(b',');
        }
        piece.extend_from_slice(&served(resource, &object.bytes, accept));
        if piece.len() >= PIECE_BYTES {
            pieces.push_back(Bytes::from(std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES + 4096))));
        }
    }
    piece.extend_from_slice(b"]}\n");
    pieces.push_back(Bytes::from(piece));
    if accept.format == Format::Yaml || accept.pretty || (accept.gzip && total > GZIP_FROM) {
        let joined: Vec<u8> = pieces.iter().flat_map(|p| p.iter().copied()).collect();
        return json_response(200, Bytes::from(joined), accept);
    }
    with_type(200, "application/json", Body::pieces(pieces))
}

fn metadata_list(resource: &Resource, page: &Page, accept: Accept) -> Response<Body> {
    let mut text = list_head("PartialObjectMetadataList", "meta.k8s.io/v1", page).into_bytes();
    for (index, object) in page.objects.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&metadata_only(&version::served_bytes(resource, &object.bytes), accept.lean));
    }
    text.extend_from_slice(b"]}\n");
    json_response(200, Bytes::from(text), accept)
}

fn table_list(call: &Call<'_>, page: &Page) -> Outcome<Response<Body>> {
    let (include, now) = (include_object(call)?, Timestamp::now());
    let revision = page.revision.to_string();
    let header = Header {
        resource_version: &revision,
        continue_token: &page.continue_token,
        remaining: page.remaining,
        ..Header::default()
    };
    // Its last field is `rows`, an empty list.
    let mut text = table::render(call.resource, [], include, &header, now).to_string().into_bytes();
    text.truncate(text.len() - b"]}".len());
    text.extend_from_slice(&rows(call.resource, &page.objects, include, now));
    text.extend_from_slice(b"]}\n");
    Ok(json_response(200, Bytes::from(text), call.accept))
}

/// The rows of these objects, with commas between them. Whoever asks waits for them: two cores share many of them.
fn rows(resource: &'static Resource, objects: &[Arc<Cached>], include: IncludeObject, now: Timestamp) -> Vec<u8> {
    let names = table::fields_read(resource).map(Names::new);
    let text = |objects: &[Arc<Cached>]| {
        let mut out = Vec::with_capacity(objects.len() * 512);
        for object in objects {
            if !out.is_empty() {
                out.push(b',');
            }
            write_row(&mut out, resource, object, names.as_ref(), include, now);
        }
        out
    };
    if objects.len() < SHARED_ROWS {
        return text(objects);
    }
    let (one, two) = objects.split_at(objects.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| text(two));
        let mut all = text(one);
        all.push(b',');
        // Rows do not panic; if one did, the request would fail as it does for any other panic.
        all.extend_from_slice(&other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        all
    })
}

/// One row. Its metadata are the stored bytes, and only what cells are made of is taken apart.
fn write_row(
    out: &mut Vec<u8>,
    resource: &Resource,
    object: &Cached,
    names: Option<&Names<'_>>,
    include: IncludeObject,
    now: Timestamp,
) {
    let layout = (include == IncludeObject::Metadata && version::is_stored(resource))
        .then(|| scan::Layout::of(&object.bytes))
        .flatten();
    let Some(layout) = layout else {
        let row = table::row(resource, &version::served_tree(resource, object), include, now);
        out.extend_from_slice(row.to_string().as_bytes());
        return;
    };
    let tree = match names {
        Some(names) => keep(&object.bytes, names),
        None => serde_json::from_slice(&object.bytes).unwrap_or_default(),
    };
    let mut row = table::row(resource, &tree, IncludeObject::None, now);
    if let Some(row) = row.as_object_mut() {
        row.shift_remove("object");
    }
    let row = row.to_string();
    out.extend_from_slice(row.strip_suffix('}').unwrap_or(&row).as_bytes());
    out.extend_from_slice(br#","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#);
    layout.lean_metadata(&object.bytes).iter().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(b"}}");
}

/// Stored bytes as they are sent.
fn served(resource: &Resource, stored: &Bytes, accept: Accept) -> Bytes {
    let bytes = version::served_bytes(resource, stored);
    if accept.lean { lean(bytes) } else { bytes }
}

/// The object without its managed fields.
pub(crate) fn lean(object: Bytes) -> Bytes {
    scan::without_managers(&object).map_or(object, Bytes::from)
}

/// The object's `PartialObjectMetadata`; a lean one has no managed fields.
pub(crate) fn metadata_only(object: &[u8], lean: bool) -> Vec<u8> {
    const HEAD: &[u8] = br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;
    match scan::Layout::of(object) {
        Some(layout) if lean => {
            let [one, two] = layout.lean_metadata(object);
            [HEAD, one, two, b"}"].concat()
        }
        Some(layout) => [HEAD, layout.metadata(object), b"}"].concat(),
        None => {
            let mut tree: Value = serde_json::from_slice(object).unwrap_or_default();
            let metadata = tree["metadata"].take();
            let shown = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            shown.to_string().into_bytes()
        }
    }
}

/// A failure as the client reads it.
pub(crate) fn failure(status: &Status, accept: Accept) -> Response<Body> {
    status_response(status, accept)
}

fn status_response(status: &Status, accept: Accept) -> Response<Body> {
    let accept = Accept { shape: Shape::Object, ..accept };
    let mut response = json_response(status.code, Bytes::from(status.to_json()), accept);
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 && matches!(status.code, 429 | 500..) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// A tree in the client's format.
pub(crate) fn tree_response(code: u16, tree: &Value, accept: Accept) -> Response<Body> {
    json_response(code, Bytes::from(tree.to_string()), accept)
}

/// JSON text in the client's format; what has no message stays JSON.
pub(crate) fn json_response(code: u16, text: Bytes, accept: Accept) -> Response<Body> {
    if accept.format == Format::Protobuf
        && let Some(message) = protobuf::whole(&text)
    {
        return maybe_gzip(code, protobuf::MEDIA_TYPE, message, accept);
    }
    if accept.format == Format::Yaml {
        let tree: Value = serde_json::from_slice(&text).unwrap_or_default();
        let yaml = serde_yaml_ng::to_string(&tree).unwrap_or_default();
        return maybe_gzip(code, "application/yaml", Bytes::from(yaml), accept);
    }
    if accept.pretty {
        let tree: Value = serde_json::from_slice(&text).unwrap_or_default();
        let pretty = serde_json::to_vec_pretty(&tree).unwrap_or_default();
        return maybe_gzip(code, "application/json", Bytes::from(pretty), accept);
    }
    maybe_gzip(code, "application/json", ended(text), accept)
}

/// JSON that is not made to be read by people ends its line, as upstream's does.
fn ended(text: Bytes) -> Bytes {
    if text.ends_with(b"\n") { text } else { Bytes::from([&text[..], b"\n"].concat()) }
}

/// Text (or bytes) of that type, compressed if it is large and the client takes gzip.
pub(crate) fn maybe_gzip(code: u16, media_type: &'static str, text: Bytes, accept: Accept) -> Response<Body> {
    if !accept.gzip || text.len() < GZIP_FROM {
        return with_type(code, media_type, Body::from(text));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    // Writing into memory does not fail.
    let packed = encoder.write_all(&text).and_then(|()| encoder.finish());
    match packed {
        Ok(packed) => {
            let mut response = with_type(code, media_type, Body::from(Bytes::from(packed)));
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            response
        }
        Err(_) => with_type(code, media_type, Body::from(text)),
    }
}

/// A stream of watch events.
pub(crate) fn streaming(accept: Accept, body: Body) -> Response<Body> {
    let is_protobuf = accept.format == Format::Protobuf;
    with_type(200, if is_protobuf { protobuf::WATCH_MEDIA_TYPE } else { "application/json" }, body)
}

/// Any answer with a content type.
pub(crate) fn with_type(code: u16, media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
