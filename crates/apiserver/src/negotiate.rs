//! In what shape a client wants its answer, and in what format it sends its objects.

use http::{HeaderMap, header};

use api::status::Status;

use crate::failure::Outcome;

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object or list itself.
    Object,
    /// `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata` or its list.
    Metadata,
}

/// Shape and format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    /// The shape.
    pub shape: Shape,
    /// YAML rather than JSON.
    pub yaml: bool,
    /// Indented JSON.
    pub pretty: bool,
    /// The client takes gzip.
    pub gzip: bool,
    /// The client does not look at `metadata.managedFields`, which it need not be sent then.
    pub lean: bool,
}

/// The header by which a client says what of objects it does without; `managedFields` is all that is known.
pub(crate) const OMIT: &str = "hythe-omit";

impl Accept {
    /// JSON, plain.
    pub const JSON: Accept = Accept { shape: Shape::Object, yaml: false, pretty: false, gzip: false, lean: false };

    /// Whether the client takes gzip.
    pub fn wants_gzip(headers: &HeaderMap) -> bool {
        let value = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok());
        value.is_some_and(|v| v.split(',').any(|e| e.split(';').next().is_some_and(|e| e.trim() == "gzip")))
    }

    /// Reads `Accept`, `Accept-Encoding` and `?pretty`. The first clause that can be served wins; what has no columns is
    /// not served as a table.
    pub fn parse(headers: &HeaderMap, pretty: bool, tables: bool) -> Outcome<Accept> {
        let gzip = Accept::wants_gzip(headers);
        let lean = headers.get(OMIT).is_some_and(|omitted| omitted == "managedFields");
        let base = Accept { pretty, gzip, lean, ..Accept::JSON };
        let Some(accept) = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).filter(|v| !v.trim().is_empty())
        else {
            return Ok(base);
        };
        if accept == "application/json" || accept == "*/*" {
            return Ok(base);
        }
        accept
            .split(',')
            .find_map(|clause| clause_accepts(clause, base).filter(|accept| tables || accept.shape != Shape::Table))
            .ok_or_else(|| Status::not_acceptable(&["application/json", "application/yaml"]))
    }
}

fn clause_accepts(clause: &str, base: Accept) -> Option<Accept> {
    let mut parts = clause.split(';').map(str::trim);
    let yaml = match parts.next()? {
        "application/json" | "*/*" | "application/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let (mut kind, mut version, mut group) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", v)) => kind = v,
            Some(("v", v)) => version = v,
            Some(("g", v)) => group = v,
            _ => {}
        }
    }
    let shape = match kind {
        "" => Shape::Object,
        "Table" if group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1") => Shape::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" if group == "meta.k8s.io" => Shape::Metadata,
        _ => return None,
    };
    Some(Accept { shape, yaml, ..base })
}

/// The format of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// The format of a create's or update's body; the media type defaults to JSON.
pub(crate) fn object_format(headers: &HeaderMap) -> Outcome<Format> {
    match media_type(headers) {
        "" | "application/json" | "*/*" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])),
    }
}

/// The media type without parameters; empty when absent.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}
