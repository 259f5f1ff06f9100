//! In what shape a client wants its answer, and in what format it sends its objects.

use http::{HeaderMap, HeaderValue, header};

use api::status::Status;

use crate::{failure::Outcome, protobuf};

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
    /// How it is written.
    pub format: Format,
    /// Indented JSON.
    pub pretty: bool,
    /// The client takes gzip.
    pub gzip: bool,
    /// The client does not look at `metadata.managedFields`, which it need not be sent then.
    pub lean: bool,
}

/// What an endpoint can answer with, beside JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// There are columns to show.
    pub tables: bool,
    /// Its kind has a message.
    pub protobuf: bool,
    /// The answer is a stream, for which YAML has no frames.
    pub stream: bool,
}

/// The header by which a client says what of objects it does without; `managedFields` is all that is known.
pub(crate) const OMIT: &str = "hythe-omit";

impl Accept {
    /// JSON, plain.
    pub const JSON: Accept =
        Accept { shape: Shape::Object, format: Format::Json, pretty: false, gzip: false, lean: false };

    /// Whether the client takes gzip.
    pub fn wants_gzip(headers: &HeaderMap) -> bool {
        let value = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok());
        value.is_some_and(|v| v.split(',').any(|e| e.split(';').next().is_some_and(|e| e.trim() == "gzip")))
    }

    /// Reads `Accept`, `Accept-Encoding` and, for who says nothing by `?pretty`, `User-Agent`. The first clause that is
    /// offered wins.
    ///
    /// # Errors
    /// 406, if there is none.
    pub fn parse(headers: &HeaderMap, pretty: Option<bool>, offer: Offer) -> Outcome<Accept> {
        let gzip = Accept::wants_gzip(headers);
        let lean = headers.get(OMIT).is_some_and(|omitted| omitted == "managedFields");
        let pretty = pretty.unwrap_or_else(|| is_read_by_a_person(headers));
        let base = Accept { pretty, gzip, lean, ..Accept::JSON };
        let Some(accept) = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).filter(|v| !v.trim().is_empty())
        else {
            return Ok(base);
        };
        if accept == "application/json" || accept == "*/*" {
            return Ok(base);
        }
        let chosen = by_preference(accept).into_iter().find_map(|clause| clause_accepts(clause, base, offer));
        chosen.filter(|accept| !offer.stream || accept.format != Format::Yaml).ok_or_else(|| not_acceptable(offer))
    }

    /// In what a failure is told before the endpoint is known.
    pub fn of_failures(headers: &HeaderMap) -> Accept {
        let offer = Offer { tables: false, protobuf: true, stream: false };
        Accept::parse(headers, None, offer).unwrap_or(Accept::JSON)
    }
}

/// Whether the client is a browser or a tool of the command line that shows what it gets (upstream's list).
fn is_read_by_a_person(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool.as_bytes()))
}

fn not_acceptable(offer: Offer) -> Status {
    Status::not_acceptable(match (offer.stream, offer.protobuf) {
        (false, true) => &["application/json", "application/yaml", protobuf::MEDIA_TYPE],
        (false, false) => &["application/json", "application/yaml"],
        (true, true) => &["application/json;stream=watch", protobuf::WATCH_MEDIA_TYPE],
        (true, false) => &["application/json;stream=watch"],
    })
}

/// The clauses as `q` ranks them, those without a `*` before those with; otherwise as they stand.
fn by_preference(accept: &str) -> Vec<&str> {
    let mut clauses: Vec<&str> = accept.split(',').map(str::trim).collect();
    let rank = |clause: &&str| {
        let mut parts = clause.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        let stars = if media_type == "*/*" { 2 } else { u8::from(media_type.ends_with("/*")) };
        // Thousandths are all that `q` has.
        (-(quality * 1000.0) as i32, stars)
    };
    clauses.sort_by_key(rank);
    clauses
}

fn clause_accepts(clause: &str, base: Accept, offer: Offer) -> Option<Accept> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        protobuf::MEDIA_TYPE if offer.protobuf => Format::Protobuf,
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
        _ if group != "meta.k8s.io" || !matches!(version, "v1" | "v1beta1") => return None,
        "Table" => Shape::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata,
        _ => return None,
    };
    // Tables have cells of any type, for which there is no message.
    let is_offered = shape != Shape::Table || (offer.tables && format != Format::Protobuf);
    is_offered.then_some(Accept { shape, format, ..base })
}

/// How a body is written.
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
        protobuf::MEDIA_TYPE => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&["application/json", "application/yaml", protobuf::MEDIA_TYPE])),
    }
}

/// The media type without parameters; empty when absent.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}
