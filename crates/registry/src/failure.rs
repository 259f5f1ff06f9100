//! Errors as the distribution specification has them: a status and `{"errors":[{code, message, detail}]}`.

use engine::content::{ContentError, ManifestError};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::{Value, json};

use crate::answer::{Body, full};

/// The specification's codes, and three of the reference implementation (the last ones).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    PaginationNumberInvalid,
    RangeInvalid,
    Unavailable,
    Unknown,
}

impl Code {
    fn text(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", StatusCode::NOT_FOUND, "blob unknown to registry"),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", StatusCode::BAD_REQUEST, "blob upload invalid"),
            Self::BlobUploadUnknown => {
                ("BLOB_UPLOAD_UNKNOWN", StatusCode::NOT_FOUND, "blob upload unknown to registry")
            }
            Self::DigestInvalid => {
                ("DIGEST_INVALID", StatusCode::BAD_REQUEST, "provided digest did not match uploaded content")
            }
            Self::ManifestBlobUnknown => (
                "MANIFEST_BLOB_UNKNOWN",
                StatusCode::BAD_REQUEST,
                "manifest references a manifest or blob unknown to registry",
            ),
            Self::ManifestInvalid => ("MANIFEST_INVALID", StatusCode::BAD_REQUEST, "manifest invalid"),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", StatusCode::NOT_FOUND, "manifest unknown to registry"),
            Self::NameInvalid => ("NAME_INVALID", StatusCode::BAD_REQUEST, "invalid repository name"),
            Self::NameUnknown => ("NAME_UNKNOWN", StatusCode::NOT_FOUND, "repository name not known to registry"),
            Self::SizeInvalid => {
                ("SIZE_INVALID", StatusCode::BAD_REQUEST, "provided length did not match content length")
            }
            Self::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED, "authentication required"),
            Self::Denied => ("DENIED", StatusCode::FORBIDDEN, "requested access to the resource is denied"),
            Self::Unsupported => ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED, "the operation is unsupported"),
            Self::PaginationNumberInvalid => {
                ("PAGINATION_NUMBER_INVALID", StatusCode::BAD_REQUEST, "invalid number of results requested")
            }
            Self::RangeInvalid => ("RANGE_INVALID", StatusCode::RANGE_NOT_SATISFIABLE, "invalid content range"),
            Self::Unavailable => ("UNAVAILABLE", StatusCode::BAD_GATEWAY, "the upstream registry failed"),
            Self::Unknown => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR, "unknown error"),
        }
    }

    /// With its usual status and message.
    pub fn failure(self) -> Failure {
        let (_, status, message) = self.text();
        Failure(Box::new(Parts {
            code: self,
            status,
            message: message.to_owned(),
            detail: Value::Null,
            headers: Vec::new(),
        }))
    }

    /// With words of one's own.
    pub fn because(self, message: impl Into<String>) -> Failure {
        let mut failure = self.failure();
        failure.0.message = message.into();
        failure
    }
}

/// An answer that is an error. Boxed, because results are moved about far more often than they are errors.
#[derive(Debug)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    status: StatusCode,
    message: String,
    detail: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    pub fn detail(mut self, detail: Value) -> Self {
        self.0.detail = detail;
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// What the client can't help; the log has the details.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Code::Unknown.because("internal error")
    }

    pub fn into_response(self) -> Response<Body> {
        let Parts { code, status, message, detail, headers: more } = *self.0;
        let mut error = json!({"code": code.text().0, "message": message});
        if !detail.is_null() {
            error["detail"] = detail;
        }
        let bytes = json!({"errors": [error]}).to_string();
        let mut response = Response::new(Body::default());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, bytes.len().into());
        headers.extend(more);
        *response.body_mut() = full(bytes);
        response
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match &error {
            ContentError::Mismatch { .. } => Code::DigestInvalid.failure().detail(json!(error.to_string())),
            ContentError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge) => {
                tracing::error!(%error, "the disk is full");
                Code::Unknown.because("no space left on the registry's disk").status(StatusCode::INSUFFICIENT_STORAGE)
            }
            ContentError::InUse { container, .. } => {
                let message = format!("manifest {container} refers to it: delete that first");
                Code::Denied.because(message).status(StatusCode::METHOD_NOT_ALLOWED)
            }
            ContentError::NotInRegistry { .. } => Code::ManifestUnknown.failure(),
            ContentError::Denied { .. } => Code::Denied.because("the upstream registry denies access"),
            ContentError::Registry { .. } => {
                tracing::warn!(%error, "the upstream registry failed");
                Code::Unavailable.failure()
            }
            ContentError::Invalid(_) => Code::ManifestInvalid.because(error.to_string()),
            _ => Self::internal(&error),
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Invalid(message) => Code::ManifestInvalid.failure().detail(json!(message)),
            ManifestError::Missing(digests) => Code::ManifestBlobUnknown
                .failure()
                .detail(json!(digests.iter().map(|d| json!({"digest": d.as_str()})).collect::<Vec<_>>())),
            ManifestError::Content(error) => error.into(),
        }
    }
}
