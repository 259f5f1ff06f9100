//! What is no resource: discovery, OpenAPI, version, health, metrics, keys.

use api::{catalogue, discovery, openapi, status::Status};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    body::Body,
    failure::Outcome,
    health, metrics,
    negotiate::{Accept, Offer},
    query::Query,
    respond,
    respond::with_type,
    server::ApiServer,
};

/// Paths listed at `/`.
const PATHS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
];

/// The answer to a GET that names no resource.
pub(crate) async fn answer(
    server: &ApiServer,
    path: &str,
    query: &Query<'_>,
    headers: &HeaderMap,
) -> Outcome<Response<Body>> {
    let trimmed = path.trim_end_matches('/');
    let steps: Vec<&str> = trimmed.split('/').skip(1).collect();
    let wants = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let all = catalogue::all();
    let document = match steps.as_slice() {
        [] => {
            let groups = catalogue::groups().iter().filter(|g| !g.name.is_empty());
            let groups = groups.flat_map(|g| {
                let versions = g.versions.iter().map(|v| format!("/apis/{}/{v}", g.name));
                std::iter::once(format!("/apis/{}", g.name)).chain(versions).collect::<Vec<_>>()
            });
            let mut paths: Vec<String> = PATHS.iter().map(|p| (*p).to_owned()).chain(groups).collect();
            paths.sort();
            return Ok(raw(&json!({"paths": paths})));
        }
        ["healthz" | "livez" | "readyz", ..] => {
            return health::answer(server, path, query).await.ok_or_else(Status::no_such_resource);
        }
        ["version"] => return Ok(raw(&discovery::version())),
        ["metrics"] => return Ok(with_type(200, "text/plain; version=0.0.4", Body::from(metrics::text(server)))),
        // Upstream's scheduler has it at its own port.
        ["metrics", "resources"] => {
            let Some(page) = ::metrics::page("resources") else { return Err(Status::no_such_resource()) };
            return Ok(with_type(200, "text/plain; version=0.0.4", Body::from(page.await)));
        }
        ["metrics", "slis"] => {
            health::round(server).await;
            return Ok(with_type(200, "text/plain; version=0.0.4", Body::from(server.metrics.slis())));
        }
        ["api"] => match aggregated(wants) {
            Some((media_type, version)) => {
                return Ok(tagged(discovery::aggregated(all, true, version), media_type, headers));
            }
            None => {
                let (address, port) = server.config.advertise;
                discovery::core_versions(&format!("{address}:{port}"))
            }
        },
        ["apis"] => match aggregated(wants) {
            Some((media_type, version)) => {
                return Ok(tagged(discovery::aggregated(all, false, version), media_type, headers));
            }
            None => discovery::group_list(all),
        },
        ["api", version] => discovery::resource_list(all, "", version).ok_or_else(Status::no_such_resource)?,
        ["apis", group] => discovery::group(all, group).ok_or_else(Status::no_such_resource)?,
        ["apis", group, version] => {
            discovery::resource_list(all, group, version).ok_or_else(Status::no_such_resource)?
        }
        ["openid", "v1", "jwks"] => {
            return Ok(with_type(200, "application/jwk-set+json", Body::from(server.tokens.jwks().to_string())));
        }
        [".well-known", "openid-configuration"] => {
            let (address, port) = server.config.advertise;
            let issuer = &server.tokens.issuer;
            json!({
                "issuer": issuer,
                "jwks_uri": format!("https://{address}:{port}/openid/v1/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            })
            .to_string()
            .into_bytes()
        }
        ["openapi", rest @ ..] => return open_api(rest, wants, query, headers).await,
        _ => return Err(Status::no_such_resource()),
    };
    let offer = Offer { tables: false, protobuf: true, stream: false };
    Ok(respond::json_response(
        200,
        Bytes::from(document),
        Accept::parse(headers, query.optional_flag("pretty"), offer)?,
    ))
}

/// A document that every client gets as it is to be read (upstream's `WriteRawJSON`).
fn raw(document: &Value) -> Response<Body> {
    let text = serde_json::to_vec_pretty(document).unwrap_or_default();
    with_type(200, "application/json", Body::from(Bytes::from(text)))
}

/// Makes a document; `None` if there is no such group or version.
type Make = Box<dyn FnOnce() -> Option<Vec<u8>> + Send>;

/// The OpenAPI documents. They are large and made anew each time, so that they are made beside the runtime.
async fn open_api(steps: &[&str], wants: &str, query: &Query<'_>, headers: &HeaderMap) -> Outcome<Response<Body>> {
    let all = catalogue::all();
    let gzip = Accept { gzip: Accept::wants_gzip(headers), ..Accept::JSON };
    let (hash, media_type, make): (String, &'static str, Make) = match steps {
        ["v2"] => {
            let binary = wants.split(',').next().is_some_and(|first| {
                let media_type = first.split(';').next().unwrap_or("").trim();
                media_type == openapi::PROTOBUF || media_type == openapi::PROTOBUF_OLD
            });
            if binary {
                (openapi::hash_of_all(all), openapi::PROTOBUF, Box::new(move || Some(openapi::v2_protobuf(all))))
            } else {
                (openapi::hash_of_all(all), "application/json", Box::new(move || Some(openapi::v2(all))))
            }
        }
        ["v3"] => (openapi::hash_of_all(all), "application/json", Box::new(move || Some(openapi::index(all)))),
        ["v3", rest @ ..] => {
            let (group, version) = match rest {
                ["api", version] => (String::new(), (*version).to_owned()),
                ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
                _ => return Err(Status::no_such_resource()),
            };
            let hash = openapi::hash(all, &group, &version);
            (hash, "application/json", Box::new(move || openapi::v3(all, &group, &version)))
        }
        _ => return Err(Status::no_such_resource()),
    };
    let tag = format!("\"{hash}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|known| known == tag);
    let mut response = if known {
        let mut response = with_type(304, media_type, Body::Empty);
        response.headers_mut().remove(header::CONTENT_TYPE);
        response
    } else {
        let made = tokio::task::spawn_blocking(make).await.map_err(Status::internal_error)?;
        let document = Bytes::from(made.ok_or_else(Status::no_such_resource)?);
        respond::maybe_gzip(200, media_type, document, gzip)
    };
    let out = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    if query.text("hash") == hash {
        // The address names the content, so it may be kept for good.
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

/// The media type and version of the aggregated document that the client prefers to the plain one.
fn aggregated(accept: &str) -> Option<(&'static str, &'static str)> {
    let clause = accept.split(',').map(str::trim).find(|clause| {
        clause.contains("as=APIGroupDiscoveryList")
            || matches!(clause.split(';').next(), Some("application/json" | "*/*"))
    })?;
    if !clause.contains("as=APIGroupDiscoveryList") || !clause.starts_with("application/json") {
        return None;
    }
    discovery::AGGREGATED.into_iter().find(|(media_type, version)| {
        let version = version.rsplit('/').next().unwrap_or("");
        let _ = media_type;
        clause.split(';').any(|part| part.trim() == format!("v={version}"))
    })
}

/// A document with its entity tag; 304 if the client has it.
pub(crate) fn tagged(document: Vec<u8>, media_type: &'static str, headers: &HeaderMap) -> Response<Body> {
    let tag = discovery::etag(&document);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|known| known == tag);
    let mut response = with_type(200, media_type, Body::from(Bytes::from(document)));
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::Empty;
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}
