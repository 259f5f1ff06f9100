//! One fetch for a cache: what the endpoint is asked, and what becomes of its answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::freshness::{self, Defaults, Directives, Facts};
use super::store::{Entry, Key, joined};
use super::{Cache, date, now, targeted};
use crate::http1::{Field, Framing, Request, Response};

/// A fetch under way.
pub struct Fetch {
    cache: Arc<Cache>,
    key: Key,
    asked: Directives,
    /// What is stored and to be renewed.
    stored: Option<Arc<Entry>>,
    conditions: Vec<(&'static str, Vec<u8>)>,
    filling: Option<Filling>,
    /// The renewed entry, or the old one where renewing failed and that is allowed.
    instead: Option<Arc<Entry>>,
    failed: bool,
    status: u16,
    /// When it began, as the store counts: what was dropped since is not stored again.
    began: u64,
    /// Others wait for this one.
    leads: Option<watch::Sender<()>>,
}

struct Filling {
    entry: Entry,
    body: Vec<u8>,
    expected: Option<u64>,
}

impl Fetch {
    pub(crate) fn new(
        cache: &Arc<Cache>,
        key: &Key,
        asked: Directives,
        stored: Option<Arc<Entry>>,
        leads: Option<watch::Sender<()>>,
    ) -> Self {
        let mut conditions = Vec::new();
        if let Some(entry) = &stored {
            if let Some(tag) = entry.header("etag") {
                conditions.push(("if-none-match", tag.to_vec()));
            }
            if let Some(modified) = entry.header("last-modified") {
                conditions.push(("if-modified-since", modified.to_vec()));
            }
        }
        Self {
            cache: Arc::clone(cache),
            key: Arc::clone(key),
            asked,
            stored,
            conditions,
            filling: None,
            instead: None,
            failed: false,
            status: 0,
            began: cache.store.epoch(),
            leads,
        }
    }

    /// The client's own conditions are judged here, not at the endpoint: the whole response is wanted.
    pub(crate) fn hides(&self, name: &[u8]) -> bool {
        ["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"]
            .iter()
            .any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
    }

    pub(crate) fn request_fields(&self) -> &[(&'static str, Vec<u8>)] {
        &self.conditions
    }

    /// Sees the answer. Returns whether it is not for the client.
    pub(crate) fn head(&mut self, response: &Response, request: &Request) -> bool {
        self.status = response.status;
        if let Some(stored) = &self.stored {
            if response.status == 304 {
                let renewed = Arc::new(renew(stored, response, &self.cache, request, self.asked));
                Cache::count(&self.cache.revalidated);
                self.cache.store.insert(&self.key, Arc::clone(&renewed), self.began);
                self.instead = Some(renewed);
                return true;
            }
            if response.status >= 500
                && freshness::may_serve_after_error(&stored.lifetime, now().saturating_sub(stored.stored), &self.asked)
            {
                self.instead = Some(Arc::clone(stored));
                self.failed = true;
                return true;
            }
        }
        Cache::count(&self.cache.misses);
        let fields = || response.fields.iter().filter(|f| !f.hop);
        match entry(&response.text, fields().copied(), response.status, &self.cache, request, self.asked) {
            Some(entry) if request.method() == b"GET" => {
                let expected = match response.framing {
                    Framing::Length(length) => Some(length),
                    Framing::None => Some(0),
                    _ => None,
                };
                if expected.is_none_or(|length| length <= self.cache.config.max_response.0) {
                    self.filling =
                        Some(Filling { entry, body: Vec::with_capacity(expected.unwrap_or(0) as usize), expected });
                    return false;
                }
            }
            _ => {}
        }
        self.cache.store.mark_unstorable(&self.key);
        false
    }

    pub(crate) fn data(&mut self, data: &[u8]) {
        if let Some(filling) = &mut self.filling {
            if (filling.body.len() + data.len()) as u64 > self.cache.config.max_response.0 {
                self.filling = None;
                self.cache.store.mark_unstorable(&self.key);
            } else {
                filling.body.extend_from_slice(data);
            }
        }
    }

    /// The body has ended; only a whole one is stored.
    pub(crate) fn end(&mut self, complete: bool) {
        if let Some(mut filling) = self.filling.take()
            && complete
            && filling.expected.is_none_or(|length| length == filling.body.len() as u64)
        {
            filling.body.shrink_to_fit();
            filling.entry.body = Bytes::from(filling.body);
            self.cache.store.insert(&self.key, Arc::new(filling.entry), self.began);
        }
        self.release();
    }

    fn release(&mut self) {
        if self.leads.take().is_some() {
            self.cache.store.done(&self.key);
        }
    }

    /// `Cache-Status` (RFC 9211).
    pub(crate) fn response_fields(&self) -> Vec<(&'static str, Vec<u8>)> {
        let why = if self.stored.is_some() { "stale" } else { "uri-miss" };
        let stored = if self.filling.is_some() { "; stored" } else { "" };
        vec![("cache-status", format!("{}; fwd={why}{stored}", self.cache.name()).into_bytes())]
    }

    pub(crate) fn swallowed(&self) -> bool {
        self.instead.is_some()
    }

    /// What answers instead, and whether that is because renewing failed.
    pub(crate) fn instead(&mut self) -> Option<(Arc<Entry>, bool)> {
        self.instead.take().map(|entry| (entry, self.failed))
    }

    /// There was no answer: what is stored, if it may be used.
    pub(crate) fn after_error(&self) -> Option<Arc<Entry>> {
        let stored = self.stored.as_ref()?;
        freshness::may_serve_after_error(&stored.lifetime, now().saturating_sub(stored.stored), &self.asked)
            .then(|| Arc::clone(stored))
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.release();
    }
}

/// An entry of a response without its body, if it may be stored.
fn entry(
    text: &[u8],
    fields: impl Iterator<Item = Field> + Clone,
    status: u16,
    cache: &Cache,
    request: &Request,
    asked: Directives,
) -> Option<Entry> {
    let all = |name: &'static str| {
        fields
            .clone()
            .filter(move |f| f.name.of(text).eq_ignore_ascii_case(name.as_bytes()))
            .map(move |f| f.value.of(text))
    };
    let first = |name: &'static str| all(name).next();
    let config = &cache.config;
    let vary: Vec<String> = all("vary")
        .flat_map(|v| v.split(|b| *b == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let targeted = config.targeted.iter().find_map(|name| {
        let named = fields.clone().filter(|f| f.name.of(text).eq_ignore_ascii_case(name.as_bytes()));
        targeted::parse(named.map(|f| f.value.of(text)))
    });
    let facts = Facts {
        status,
        // Where a field is for caches like this one, neither `Cache-Control` nor `Expires` counts (RFC 9213 section 2.2).
        expires: if targeted.is_some() { None } else { first("expires").map(date::parse) },
        directives: targeted.unwrap_or_else(|| Directives::parse(all("cache-control"))),
        date: first("date").and_then(date::parse),
        last_modified: first("last-modified").and_then(date::parse),
        age: first("age").map_or(0, freshness::age),
        tagged: first("etag").is_some(),
        sets_cookies: first("set-cookie").is_some(),
        varies_by_all: vary.iter().any(|name| name == "*"),
        authorized: request.header("authorization").is_some(),
        unwanted: asked.no_store,
    };
    let defaults = Defaults {
        ttl: config.default_ttl.0.as_secs(),
        stale_while_revalidate: config.stale_while_revalidate.0.as_secs(),
        stale_if_error: config.stale_if_error.0.as_secs(),
    };
    let now = now();
    let lifetime = freshness::lifetime(&facts, &defaults, now / 1000)?;
    let mut tags = Vec::new();
    for name in &config.tag_headers {
        for field in fields.clone().filter(|f| f.name.of(text).eq_ignore_ascii_case(name.as_bytes())) {
            tags.extend(split_tags(field.value.of(text)));
        }
    }
    let mut head = Response::default();
    for field in fields {
        let name = field.name.of(text);
        if !name.eq_ignore_ascii_case(b"age") && !name.eq_ignore_ascii_case(b"content-length") {
            head.push_field(name, field.value.of(text));
        }
    }
    head.text.shrink_to_fit();
    head.fields.shrink_to_fit();
    Some(Entry {
        status,
        text: head.text,
        fields: head.fields,
        body: Bytes::new(),
        lifetime,
        stored: now,
        vary: vary
            .into_iter()
            .map(|name| {
                let value = joined(request, &name);
                (name, value)
            })
            .collect(),
        tags,
    })
}

/// Tags are parted by spaces (`Surrogate-Key`) or commas (`Cache-Tag`).
pub(crate) fn split_tags(value: &[u8]) -> impl Iterator<Item = String> {
    value
        .split(|b| matches!(b, b',' | b' ' | b'\t'))
        .filter(|t| !t.is_empty())
        .map(|t| String::from_utf8_lossy(t).into_owned())
}

/// What is stored, with the fields of a 304 in place of its own (RFC 9111 section 3.2).
fn renew(stored: &Entry, response: &Response, cache: &Cache, request: &Request, asked: Directives) -> Entry {
    let mut merged = Response::default();
    let news = || response.fields.iter().filter(|f| !f.hop);
    for field in &stored.fields {
        let name = field.name.of(&stored.text);
        if !news().any(|f| f.name.of(&response.text).eq_ignore_ascii_case(name)) {
            merged.push_field(name, field.value.of(&stored.text));
        }
    }
    for field in news() {
        merged.push_field(field.name.of(&response.text), field.value.of(&response.text));
    }
    let made = entry(&merged.text, merged.fields.iter().copied(), stored.status, cache, request, asked);
    let mut made = made.unwrap_or_else(|| Entry {
        lifetime: freshness::Lifetime { always: true, ..Default::default() },
        ..copy(stored)
    });
    made.body = stored.body.clone();
    made
}

fn copy(entry: &Entry) -> Entry {
    Entry {
        status: entry.status,
        text: entry.text.clone(),
        fields: entry.fields.clone(),
        body: entry.body.clone(),
        lifetime: entry.lifetime,
        stored: entry.stored,
        vary: entry.vary.clone(),
        tags: entry.tags.clone(),
    }
}
