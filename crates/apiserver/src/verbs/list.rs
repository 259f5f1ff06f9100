//! LIST: pages of a collection, from the cache where it holds the revision asked for, else from the store.

use std::sync::Arc;

use api::status::Status;
use base64::{DecodeError, Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use store::Revision;

use crate::{
    cache::Cached,
    call::{Call, Reply},
    failure::{Outcome, of_store},
    query::{ListOptions, VersionMatch},
    selection::Selection,
};

/// One page of a list.
pub(crate) struct Page {
    pub objects: Vec<Arc<Cached>>,
    /// The revision of the list.
    pub revision: Revision,
    /// How to get the next page; empty on the last.
    pub continue_token: String,
    /// Objects after this page, where it is known.
    pub remaining: Option<u64>,
}

/// What a continue token says.
struct Continue {
    /// Revision of the first page; `None` goes on with the newest.
    revision: Option<Revision>,
    /// The last key of the page before, without the kind's root.
    after: String,
}

/// The collection named in the path.
pub(crate) async fn list(call: &Call<'_>, options: &ListOptions) -> Outcome<Reply> {
    page(call, options).await.map(Reply::List)
}

/// What the options ask for of the collection named in the path.
pub(crate) async fn page(call: &Call<'_>, options: &ListOptions) -> Outcome<Page> {
    let selection = Selection::parse(call.resource, &options.labels, &options.fields)?;
    if !options.continue_token.is_empty() {
        let from = Continue::decode(&options.continue_token)?;
        return page_after(call, options, &selection, from).await;
    }
    let cache = &call.server.cache;
    match (options.resource_version, options.version_match) {
        (None, _) => cache.fresh().await,
        // Whatever there is, at once and whole: upstream's cache minds no limit here either.
        (Some(0), _) => {
            let whole = ListOptions { limit: 0, ..options.clone() };
            return Ok(newest(call, &whole, &selection, None));
        }
        (Some(asked), VersionMatch::Exact) => return at(call, options, &selection, asked, None).await,
        (Some(asked), VersionMatch::Unset) if options.limit > 0 => {
            return at(call, options, &selection, asked, None).await;
        }
        (Some(asked), _) => {
            cache.reach(asked).await.map_err(|e| Status::too_large_resource_version(asked, e.current))?;
        }
    }
    Ok(newest(call, options, &selection, None))
}

/// From the cache, as it is now.
pub(crate) fn newest(call: &Call<'_>, options: &ListOptions, selection: &Selection, after: Option<&str>) -> Page {
    let applied = call.server.cache.applied();
    let kind = &call.kind;
    if let Some(name) = selection.name.as_deref().filter(|_| !call.path.namespace.is_empty() || !kind.namespaced) {
        let object = kind.named(&call.path.namespace, name).filter(|o| selection.wants(kind, o));
        let revision = applied.max(object.as_ref().map_or(0, |o| o.revision));
        return Page {
            objects: object.into_iter().collect(),
            revision,
            continue_token: String::new(),
            remaining: None,
        };
    }
    let snapshot = kind.snapshot(&call.path.namespace, after, options.limit, |object| selection.wants(kind, object));
    let revision = applied.max(snapshot.last);
    let mut page = Page { revision, continue_token: String::new(), remaining: None, objects: snapshot.objects };
    if snapshot.more {
        if selection.is_everything() {
            page.remaining = Some((snapshot.total - page.objects.len()) as u64);
        }
        page.continue_token = token(call, revision, &page.objects);
    }
    page
}

/// A following page: from the cache if nothing changed since the first one, else from the store's past.
async fn page_after(call: &Call<'_>, options: &ListOptions, selection: &Selection, from: Continue) -> Outcome<Page> {
    let root = &call.kind.root;
    let after = format!("{root}{}", from.after);
    if !after.starts_with(&call.kind.prefix(&call.path.namespace)) {
        return Err(Status::bad_request(format!(
            "continue key is not valid: possible attempt to use a different path: {}",
            from.after
        )));
    }
    let Some(revision) = from.revision else {
        call.server.cache.fresh().await;
        return Ok(newest(call, options, selection, Some(&after)));
    };
    if call.kind.last(None) <= revision && call.server.cache.applied() >= revision {
        let mut page = newest(call, options, selection, Some(&after));
        if call.kind.last(None) <= revision {
            page.revision = revision;
            if !page.continue_token.is_empty() {
                page.continue_token = token(call, revision, &page.objects);
            }
            return Ok(page);
        }
    }
    at(call, options, selection, revision, Some(&after)).await.map_err(|status| {
        // With this token the client may go on, if it does not mind that the pages are of different times.
        let inconsistent = || Continue { revision: None, after: after[root.len()..].to_owned() }.encode();
        if status.code == 410 { Status::continue_expired(inconsistent()) } else { status }
    })
}

/// From the store, at exactly that revision.
async fn at(
    call: &Call<'_>,
    options: &ListOptions,
    selection: &Selection,
    revision: Revision,
    after: Option<&str>,
) -> Outcome<Page> {
    let prefix = call.kind.prefix(&call.path.namespace);
    let end = format!("{}0", &prefix[..prefix.len() - 1]);
    let mut start = after.map_or_else(|| prefix.clone(), |after| format!("{after}\0"));
    let mut page = Page { objects: Vec::new(), revision, continue_token: String::new(), remaining: None };
    loop {
        // With a selector a page of the store may hold few that match: go on until the page is full.
        let missing = if options.limit == 0 { 0 } else { options.limit - page.objects.len() };
        let read = call.server.store.range(&start, &end, Some(revision), missing).await.map_err(of_store)?;
        let Some(last) = read.entries.last().map(|e| e.key.clone()) else { return Ok(page) };
        for entry in read.entries {
            let object = Cached::new(entry.key, entry.value, entry.mod_revision);
            if selection.wants(&call.kind, &object) {
                page.objects.push(Arc::new(object));
            }
        }
        if !read.more {
            return Ok(page);
        }
        if options.limit != 0 && page.objects.len() >= options.limit {
            if selection.is_everything() {
                page.remaining = Some(read.remaining);
            }
            page.continue_token =
                Continue { revision: Some(revision), after: last[call.kind.root.len()..].to_owned() }.encode();
            return Ok(page);
        }
        start = format!("{last}\0");
    }
}

fn token(call: &Call<'_>, revision: Revision, objects: &[Arc<Cached>]) -> String {
    let after = objects.last().map_or("", |o| &o.key[call.kind.root.len()..]);
    Continue { revision: Some(revision), after: after.to_owned() }.encode()
}

impl Continue {
    fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, |r| r as i64);
        URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": self.after}).to_string())
    }

    fn decode(token: &str) -> Outcome<Continue> {
        let fault =
            |what: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {what}"));
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|error| match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => {
                fault(&format!("illegal base64 data at input byte {at}"))
            }
            _ => fault(&format!("illegal base64 data at input byte {}", token.len())),
        })?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|e| fault(&api::strict::json_fault(&bytes).unwrap_or_else(|| e.to_string())))?;
        if value["v"] != "meta.k8s.io/v1" {
            return Err(fault("server does not recognize this encoded version"));
        }
        let after = value["start"].as_str().filter(|s| !s.is_empty()).ok_or_else(|| fault("no start key"))?;
        let revision = value["rv"]
            .as_i64()
            .filter(|r| *r != 0)
            .ok_or_else(|| fault("incorrect encoded start resourceVersion 0"))?;
        Ok(Continue { revision: u64::try_from(revision).ok(), after: after.to_owned() })
    }
}
