//! Lists: repositories, and the tags of one, page by page.

use engine::content::Repository;
use http::{HeaderValue, Response, header::LINK};
use serde_json::json;

use crate::{
    answer::{Body, json as document},
    failure::{Code, Failure},
    registry::Registry,
    route::parameter,
};

/// Entries of a page at most, whatever the client asks for.
const PAGE: usize = 10_000;

/// `GET /v2/_catalog`
pub(crate) async fn repositories(registry: &Registry, query: Option<&str>) -> Result<Response<Body>, Failure> {
    let content = registry.config().content.clone();
    let all =
        tokio::task::spawn_blocking(move || content.repositories()).await.map_err(|e| Failure::internal(&e))??;
    let page = page(&all, query, |name| name.to_owned())?;
    let answer = document(&json!({"repositories": page.entries}), "application/json");
    Ok(page.link("/v2/_catalog", answer))
}

/// `GET /v2/NAME/tags/list`
pub(crate) async fn tags(
    registry: &Registry,
    repository: &Repository,
    query: Option<&str>,
) -> Result<Response<Body>, Failure> {
    let all = registry
        .blocking(repository, |r| if r.exists() { r.tags().map(Some) } else { Ok(None) })
        .await?
        .ok_or_else(|| Code::NameUnknown.failure().detail(json!({"name": repository.name()})))?;
    // The order in which the tags come.
    let page = page(&all, query, |tag| (tag.to_ascii_lowercase(), tag.to_owned()))?;
    let answer = document(&json!({"name": repository.name(), "tags": page.entries}), "application/json");
    Ok(page.link(&format!("/v2/{}/tags/list", repository.name()), answer))
}

struct Page<'a> {
    entries: &'a [String],
    asked: usize,
    more: bool,
}

/// The entries after `last`, `n` of them; all are sorted by `key`.
fn page<'a, K: Ord>(all: &'a [String], query: Option<&str>, key: impl Fn(&str) -> K) -> Result<Page<'a>, Failure> {
    let asked = match parameter(query, "n") {
        None => PAGE,
        Some(n) => {
            n.parse::<usize>().map_err(|_| Code::PaginationNumberInvalid.failure().detail(json!({"n": n})))?.min(PAGE)
        }
    };
    let begin = match parameter(query, "last") {
        None => 0,
        Some(last) => {
            let last = key(&last);
            all.partition_point(|entry| key(entry) <= last)
        }
    };
    let rest = &all[begin..];
    let entries = &rest[..asked.min(rest.len())];
    // A page of none would link to itself for ever.
    Ok(Page { entries, asked, more: asked > 0 && entries.len() < rest.len() })
}

impl Page<'_> {
    /// Answers, with the way to the next page if there is one (RFC 5988).
    fn link(&self, path: &str, answer: crate::answer::Document) -> Response<Body> {
        let last = self.entries.last().filter(|_| self.more);
        let link = last.and_then(|last| {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("last", last)
                .append_pair("n", &self.asked.to_string())
                .finish();
            HeaderValue::from_str(&format!("<{path}?{query}>; rel=\"next\"")).ok()
        });
        match link {
            Some(link) => answer.header(LINK, link).done(),
            None => answer.done(),
        }
    }
}
