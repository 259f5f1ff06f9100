//! `/v2/NAME/blobs/uploads/…`: blobs that clients send, in one piece or many.

use engine::content::{ContentError, Digest, Repository};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE},
};
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    answer::{Body, created, empty, finish},
    failure::{Code, Failure},
    range::chunk,
    receive::receive,
    registry::Registry,
    route::parameter,
    sessions::Writing,
};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// `POST`: a mount, a blob at once, or the beginning of an upload.
pub(crate) async fn begin(
    registry: &Registry,
    repository: &Repository,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let query = request.uri().query();
    let (mount, whole) = (digest(query, "mount")?, digest(query, "digest")?);
    if let Some(wanted) = mount
        && let Some(location) = try_mount(registry, repository, &wanted, parameter(query, "from")).await?
    {
        return Ok(finish(created(&location, &wanted), Body::default()));
    }
    let (id, writing) = registry.new_session(repository).await?;
    let Some(expected) = whole else {
        drop(writing);
        return Ok(progress(repository, &id, 0, StatusCode::ACCEPTED));
    };
    let limit = content_length(request.headers());
    let result = match receive(writing, request.into_body(), limit, registry.config().patience).await {
        Ok(writing) => complete(registry, repository, &id, writing, expected).await,
        Err(failure) => Err(failure),
    };
    registry.forget(repository, &id);
    if result.is_err() {
        // The client never learnt its ID.
        let id = id.clone();
        let _ = registry.blocking(repository, move |r| r.cancel_upload(&id)).await;
    }
    result
}

/// `GET`: how far it is.
pub(crate) async fn status(registry: &Registry, repository: &Repository, id: &str) -> Result<Response<Body>, Failure> {
    let length = registry.upload_length(repository, id).await?;
    Ok(progress(repository, id, length, StatusCode::NO_CONTENT))
}

/// `PATCH`: one more piece.
pub(crate) async fn append(
    registry: &Registry,
    repository: &Repository,
    id: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let writing = registry.session(repository, id).await?;
    let limit = expected_length(repository, id, &writing, request.headers())?;
    let writing = receive(writing, request.into_body(), limit, registry.config().patience).await?;
    Ok(progress(repository, id, writing.length(), StatusCode::ACCEPTED))
}

/// `PUT`: the last piece, perhaps empty, and the digest of the whole.
pub(crate) async fn close(
    registry: &Registry,
    repository: &Repository,
    id: &str,
    request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let expected = digest(request.uri().query(), "digest")?
        .ok_or_else(|| Code::DigestInvalid.because("the digest of the blob is missing"))?;
    let writing = registry.session(repository, id).await?;
    let limit = expected_length(repository, id, &writing, request.headers())?;
    let writing = receive(writing, request.into_body(), limit, registry.config().patience).await?;
    let result = complete(registry, repository, id, writing, expected).await;
    registry.forget(repository, id);
    result
}

/// `DELETE`
pub(crate) async fn cancel(registry: &Registry, repository: &Repository, id: &str) -> Result<Response<Body>, Failure> {
    let wanted = id.to_owned();
    let gone = registry.blocking(repository, move |r| r.cancel_upload(&wanted)).await?;
    registry.forget(repository, id);
    match gone {
        true => Ok(finish(Response::builder().status(StatusCode::NO_CONTENT), Body::default())),
        false => Err(Code::BlobUploadUnknown.failure()),
    }
}

async fn try_mount(
    registry: &Registry,
    repository: &Repository,
    wanted: &Digest,
    from: Option<String>,
) -> Result<Option<String>, Failure> {
    let config = registry.config();
    let (digest, keep) = (wanted.clone(), config.keep);
    let source = match &from {
        Some(name) => match config.content.repository(name) {
            Some(source) => Some(source),
            // As with any blob that can't be mounted, the client uploads it.
            None => return Ok(None),
        },
        None if config.mount_from_store => None,
        None => return Ok(None),
    };
    let mounted = registry.blocking(repository, move |r| r.mount(&digest, source.as_ref(), keep)).await?;
    Ok(mounted.then(|| format!("/v2/{}/blobs/{wanted}", repository.name())))
}

async fn complete(
    registry: &Registry,
    repository: &Repository,
    id: &str,
    mut writing: Writing,
    expected: Digest,
) -> Result<Response<Body>, Failure> {
    let (digest, keep) = (expected.clone(), registry.config().keep);
    let id = id.to_owned();
    registry
        .blocking(repository, move |r| {
            // Cancelled while it was on its way.
            if r.upload_length(&id).is_none() {
                return Err(Code::BlobUploadUnknown.failure());
            }
            let upload = writing.take().ok_or_else(|| Code::BlobUploadUnknown.failure())?;
            upload.finish(&digest, keep).map_err(|error| match error {
                ContentError::Invalid(message) => Code::BlobUploadInvalid.because(message),
                other => other.into(),
            })
        })
        .await?;
    let location = format!("/v2/{}/blobs/{expected}", repository.name());
    Ok(finish(created(&location, &expected), Body::default()))
}

/// How many bytes must come, by the headers. A chunk must begin where the upload ends.
fn expected_length(
    repository: &Repository,
    id: &str,
    writing: &Writing,
    headers: &HeaderMap,
) -> Result<Option<u64>, Failure> {
    let length = content_length(headers);
    let Some(header) = headers.get(CONTENT_RANGE) else { return Ok(length) };
    let (from, to) = header
        .to_str()
        .ok()
        .and_then(chunk)
        .ok_or_else(|| Code::BlobUploadInvalid.because("Content-Range is not START-END"))?;
    let current = writing.length();
    if from != current {
        let response = progress(repository, id, current, StatusCode::RANGE_NOT_SATISFIABLE);
        let failure = Code::RangeInvalid.because(format!("the next chunk begins at {current}"));
        let failure = failure.detail(json!({"offset": current}));
        return Err([LOCATION, RANGE, UPLOAD_ID].into_iter().fold(failure, |failure, name| {
            let value = response.headers().get(&name).cloned().unwrap_or(HeaderValue::from_static(""));
            failure.header(name, value)
        }));
    }
    let announced = to - from + 1;
    if length.is_some_and(|length| length != announced) {
        return Err(Code::SizeInvalid.failure());
    }
    Ok(Some(announced))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn digest(query: Option<&str>, name: &str) -> Result<Option<Digest>, Failure> {
    let parse = |text: String| {
        Digest::parse(&text).ok_or_else(|| Code::DigestInvalid.because(format!("unsupported digest {text:?}")))
    };
    parameter(query, name).map(parse).transpose()
}

/// Where an upload is, and how far. `Range` has no way to say "nothing": it is `0-0` then, as everywhere.
fn progress(repository: &Repository, id: &str, length: u64, status: StatusCode) -> Response<Body> {
    let builder = match status {
        StatusCode::NO_CONTENT => Response::builder().status(status),
        _ => empty(status),
    };
    let builder = builder
        .header(LOCATION, format!("/v2/{}/blobs/uploads/{id}", repository.name()))
        .header(RANGE, format!("0-{}", length.saturating_sub(1)))
        .header(UPLOAD_ID, id);
    finish(builder, Body::default())
}
