//! `/v2/NAME/manifests/REFERENCE`

use engine::content::{Digest, ManifestError, ManifestRecord, Repository};
use http::{
    HeaderMap, HeaderName, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    answer::{Body, CONTENT_DIGEST, created, finish, full},
    failure::{Code, Failure},
    handler::accepted,
    mirror,
    registry::Registry,
    route::{Reference, parameters},
};

/// The largest manifest (the specification asks for no less).
const LIMIT: usize = 4 << 20;
/// Says that the registry keeps referrers itself.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Says which tags of the query were taken.
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// `GET` and `HEAD`
pub(crate) async fn get(
    registry: &Registry,
    repository: &Repository,
    reference: Reference,
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let unknown =
        || Code::ManifestUnknown.failure().detail(json!({"name": repository.name(), "reference": reference.text()}));
    let digest = match &reference {
        Reference::Digest(digest) => mirror::manifest(registry, repository, digest).await?,
        Reference::Tag(tag) => mirror::tag(registry, repository, tag).await?,
        Reference::Neither(_) => None,
    };
    let Some(digest) = digest else {
        let exists = registry.blocking(repository, |r| Ok::<_, Failure>(r.exists())).await?;
        return Err(if exists {
            unknown()
        } else {
            Code::NameUnknown.failure().detail(json!({"name": repository.name()}))
        });
    };
    let wanted = digest.clone();
    let content = registry.config().content.clone();
    let found: Option<(ManifestRecord, Vec<u8>)> = registry
        .blocking(repository, move |r| match r.manifest(&wanted)? {
            Some(record) => {
                if record.mirrored {
                    r.touch_manifest(&wanted);
                }
                content.read_blob(&wanted).map(|bytes| Some((record, bytes)))
            }
            None => Ok(None),
        })
        .await?;
    // Deleted just now.
    let (record, bytes) = found.ok_or_else(unknown)?;
    let tag = format!("\"{digest}\"");
    let response = Response::builder().header(CONTENT_DIGEST, digest.as_str()).header(ETAG, &tag);
    if is_known(headers, &tag) {
        return Ok(finish(response.status(StatusCode::NOT_MODIFIED), Body::default()));
    }
    let response = response.header(CONTENT_TYPE, record.media_type).header(CONTENT_LENGTH, bytes.len());
    Ok(finish(response, full(bytes)))
}

/// `PUT`
pub(crate) async fn put(
    registry: &Registry,
    repository: &Repository,
    reference: Reference,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    if let Reference::Neither(text) = &reference {
        return Err(Code::ManifestInvalid.because(format!("{text:?} is neither a tag nor a digest")));
    }
    // The specification's next version: tags for what is pushed by digest.
    let by_digest = matches!(reference, Reference::Digest(_));
    let tags: Vec<String> = parameters(request.uri().query(), "tag").collect();
    if let Some(bad) = tags.iter().find(|tag| !Repository::is_tag(tag)) {
        return Err(Code::ManifestInvalid.because(format!("{bad:?} is not a tag")));
    }
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    let body = Limited::new(request.into_body(), LIMIT).collect();
    let body = tokio::time::timeout(registry.config().patience, body)
        .await
        .map_err(|_| Code::ManifestInvalid.because("the manifest took too long").status(StatusCode::REQUEST_TIMEOUT))?;
    let bytes = body.map_err(|error| match error.downcast_ref::<http_body_util::LengthLimitError>() {
        Some(_) => Code::ManifestInvalid
            .because(format!("a manifest has {LIMIT} bytes at most"))
            .status(StatusCode::PAYLOAD_TOO_LARGE),
        None => Code::ManifestInvalid.because("the manifest broke off"),
    })?;
    let bytes = bytes.to_bytes();
    let (digest, tags) = match reference {
        Reference::Digest(digest) if digest != digest.again(&bytes) => return Err(Code::DigestInvalid.failure()),
        Reference::Digest(digest) => (digest, tags),
        Reference::Tag(tag) | Reference::Neither(tag) => (Digest::of(&bytes), vec![tag]),
    };
    let given = tags.clone();
    let put = move |r: &Repository| {
        let put = |tag: Option<&str>| r.put_manifest(&digest, &bytes, &media_type, tag);
        let stored = put(tags.first().map(String::as_str))?;
        tags.iter().skip(1).try_for_each(|tag| put(Some(tag)).map(drop))?;
        Ok(stored)
    };
    let first = put.clone();
    let stored = match registry.blocking(repository, move |r| Ok::<_, Failure>(first(r))).await? {
        // The client was told of blobs that only the upstream registry has.
        Err(ManifestError::Missing(missing)) if registry.inner.upstream.is_some() => {
            for blob in &missing {
                mirror::bring(registry, repository, blob).await?;
            }
            registry.blocking::<_, ManifestError>(repository, move |r| put(r)).await?
        }
        result => result?,
    };
    let location = format!("/v2/{}/manifests/{}", repository.name(), stored.digest);
    let mut response = created(&location, &stored.digest);
    if by_digest {
        response = given.iter().fold(response, |response, tag| response.header(TAG, tag));
    }
    Ok(match stored.subject {
        Some(subject) => finish(response.header(SUBJECT, subject.as_str()), Body::default()),
        None => finish(response, Body::default()),
    })
}

/// `DELETE`: by tag, the tag; by digest, the manifest and all its tags.
pub(crate) async fn delete(
    registry: &Registry,
    repository: &Repository,
    reference: Reference,
) -> Result<Response<Body>, Failure> {
    let text = reference.text().to_owned();
    let gone = match reference {
        Reference::Digest(digest) => registry.blocking(repository, move |r| r.delete_manifest(&digest)).await?,
        Reference::Tag(tag) => registry.blocking(repository, move |r| r.delete_tag(&tag)).await?,
        Reference::Neither(_) => false,
    };
    if !gone {
        return Err(Code::ManifestUnknown.failure().detail(json!({"name": repository.name(), "reference": text})));
    }
    registry.sweep();
    Ok(accepted())
}

/// Whether the client has it already.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let given = headers.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    given.map(|t| t.trim().trim_start_matches("W/")).any(|t| t == "*" || t.trim_matches('"') == tag.trim_matches('"'))
}
