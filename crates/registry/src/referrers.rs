//! `GET /v2/NAME/referrers/DIGEST`: which manifests say something about one.

use engine::content::{Digest, Repository};
use http::{HeaderName, HeaderValue, Response, header::LINK};
use serde_json::json;

use crate::{
    answer::{Body, json as document},
    failure::Failure,
    registry::Registry,
    route::parameter,
};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The specification bounds an answer to what a client takes for a manifest, 4 MiB; annotations make most of it.
const PAGE_BYTES: usize = 3 << 20;

/// An index of them, which is empty for what is not known at all.
pub(crate) async fn list(
    registry: &Registry,
    repository: &Repository,
    subject: &Digest,
    query: Option<&str>,
) -> Result<Response<Body>, Failure> {
    let (wanted, last) = (parameter(query, "artifactType"), parameter(query, "last"));
    let of = subject.clone();
    let all = registry.blocking(repository, move |r| r.referrers(&of)).await?;
    let mut manifests = Vec::new();
    let (mut bytes, mut next) = (0, None);
    for referrer in all {
        let record = referrer.record;
        let skipped = last.as_deref().is_some_and(|last| referrer.digest.as_str() <= last)
            || wanted.as_ref().is_some_and(|w| record.artifact_type.as_ref() != Some(w));
        if skipped {
            continue;
        }
        let mut descriptor = json!({"mediaType": record.media_type, "digest": referrer.digest, "size": record.size});
        if let Some(kind) = record.artifact_type {
            descriptor["artifactType"] = kind.into();
        }
        if !record.annotations.is_empty() {
            descriptor["annotations"] = json!(record.annotations);
        }
        bytes += descriptor.to_string().len();
        if bytes > PAGE_BYTES && !manifests.is_empty() {
            next = manifests.last().map(|d: &serde_json::Value| d["digest"].clone());
            break;
        }
        manifests.push(descriptor);
    }
    let index = "application/vnd.oci.image.index.v1+json";
    let mut answer = document(&json!({"schemaVersion": 2, "mediaType": index, "manifests": manifests}), index);
    if let Some(next) = next.as_ref().and_then(|n| n.as_str()) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(wanted) = &wanted {
            query.append_pair("artifactType", wanted);
        }
        let query = query.append_pair("last", next).finish();
        let link = format!("</v2/{}/referrers/{subject}?{query}>; rel=\"next\"", repository.name());
        if let Ok(link) = HeaderValue::from_str(&link) {
            answer = answer.header(LINK, link);
        }
    }
    if wanted.is_some() {
        answer = answer.header(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(answer.done())
}
