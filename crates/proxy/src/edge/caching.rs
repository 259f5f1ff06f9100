//! Requests through a cache.

use std::rc::Rc;
use std::sync::Arc;

use super::answers::sent;
use super::dated;
use super::exchange::{Exchange, Purpose, Tally};
use super::purging::purge;
use super::reply::{Extra, Reply};
use super::upstream::{self, Failure, Served, forward};
use crate::cache::freshness::{self, Directives, Use};
use crate::cache::range::{self, Part};
use crate::cache::{Cache, Entry, Fetch, Key, date, now};
use crate::http1::{Framing, Known, Request, Response};
use crate::io::BodyIn;
use crate::site::{Route, Target};

/// Serves a request from the cache, or from its target by way of the cache.
pub(super) async fn through(
    cache: &Arc<Cache>,
    x: &Exchange<'_>,
    route: &Arc<Route>,
    prefix: &str,
    target: &Target,
    body: &mut BodyIn<'_>,
    reply: &mut Reply<'_>,
) -> Result<Served, Failure> {
    let request = x.request;
    let method = request.method();
    let key = key(request, x.conn.tls);
    if method == b"PURGE" {
        return purge(cache, x, &key, reply).await;
    }
    let asked = Directives::parse(
        request
            .fields
            .iter()
            .filter(|f| f.name.of(&request.text).eq_ignore_ascii_case(b"cache-control"))
            .map(|f| f.value.of(&request.text)),
    );
    if !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE") {
        Cache::count(&cache.passed);
        let change = Change { cache, key: &key };
        return forward(x, route, prefix, target, body, reply, &mut Purpose::Change(&change)).await;
    }
    let plain = !matches!(method, b"GET" | b"HEAD")
        || request.upgrade
        || request.framing != Framing::None
        // These are for the server alone to judge (section 4.3.2).
        || request.header("if-match").is_some()
        || request.header("if-unmodified-since").is_some();
    if plain || asked.no_store {
        Cache::count(&cache.passed);
        return forward(x, route, prefix, target, body, reply, &mut Purpose::Plain).await;
    }
    let mut waited = false;
    loop {
        let stored = cache.store.find(&key, request).await;
        if let Some((entry, from_disk)) = &stored {
            match freshness::judge(&entry.lifetime, now().saturating_sub(entry.stored), &asked) {
                Use::Fresh => {
                    Cache::count(&cache.hits);
                    let how = if *from_disk { "hit; detail=disk" } else { "hit" };
                    return serve(cache, x, route, entry, how, reply).await;
                }
                Use::WhileRenewed => {
                    Cache::count(&cache.stale);
                    if let Ok(Some(leads)) = cache.store.begin(&key) {
                        renew_beside(cache, x, route, target, &key, entry, leads);
                    }
                    return serve(cache, x, route, entry, "hit; detail=stale-while-revalidate", reply).await;
                }
                Use::Renew => {}
            }
        }
        let stored = stored.map(|(entry, _)| entry);
        if asked.only_if_cached {
            x.tally.status.set(504);
            let _ = x.deadline.guard(reply.error(504, "it is not stored", &[])).await;
            return Ok(Served::Answered { clean: true });
        }
        if method == b"HEAD" || request.header("range").is_some() {
            // A response without its body, or with a part of it, is of no use to others.
            Cache::count(&cache.misses);
            return forward(x, route, prefix, target, body, reply, &mut Purpose::Plain).await;
        }
        let leads = match cache.store.begin(&key) {
            Ok(leads) => leads,
            Err(mut others) if !waited => {
                // Someone fetches it already: its answer will do, if it comes in time and fits.
                let _ = tokio::time::timeout(cache.config.collapse_timeout.0, others.changed()).await;
                waited = true;
                continue;
            }
            Err(_) => None,
        };
        let mut fetch = Fetch::new(cache, &key, asked, stored, leads);
        let served = forward(x, route, prefix, target, body, reply, &mut Purpose::Cache(&mut fetch)).await;
        return match served {
            Ok(Served::Swallowed) => match fetch.instead() {
                Some((entry, failed)) => {
                    let how = if failed { "hit; detail=stale-if-error" } else { "hit; fwd=stale; fwd-status=304" };
                    serve(cache, x, route, &entry, how, reply).await
                }
                None => Err(Failure::Broken("the response was lost".into())),
            },
            Err(failure) if !reply.started() && !matches!(failure, Failure::Client(..)) => match fetch.after_error() {
                Some(entry) => {
                    Cache::count(&cache.stale);
                    serve(cache, x, route, &entry, "hit; detail=stale-if-error", reply).await
                }
                None => Err(failure),
            },
            other => other,
        };
    }
}

/// Scheme, host in lower case, target.
fn key(request: &Request, tls: bool) -> Key {
    let host = request.host.of(&request.text);
    let mut key = Vec::with_capacity(host.len() + request.target().len() + 2);
    key.push(if tls { b's' } else { b'p' });
    key.extend(host.iter().map(u8::to_ascii_lowercase));
    key.push(b' ');
    key.extend_from_slice(request.target());
    key.into()
}

/// Answers with what is stored.
async fn serve(
    cache: &Cache,
    x: &Exchange<'_>,
    route: &Route,
    entry: &Entry,
    how: &str,
    reply: &mut Reply<'_>,
) -> Result<Served, Failure> {
    let age = (entry.lifetime.initial_age + now().saturating_sub(entry.stored)) / 1000;
    let mut extra =
        vec![("age", age.to_string().into_bytes()), ("cache-status", format!("{}; {how}", cache.name()).into_bytes())];
    if !entry.fields.iter().any(|field| field.known == Known::Date) {
        extra.push(("date", dated::text(entry.stored / 1000).into_bytes()));
    }
    let length = entry.body.len() as u64;
    let (status, body) = match () {
        () if entry.status == 200 && not_modified(x.request, entry) => (304, &entry.body[..0]),
        () if entry.status == 200 => match range::asked(x.request, entry) {
            Part::Whole => (200, &entry.body[..]),
            Part::Bytes(first, end) => {
                extra.push(("content-range", format!("bytes {first}-{}/{length}", end - 1).into_bytes()));
                (206, &entry.body[first as usize..end as usize])
            }
            Part::None => {
                extra.push(("content-range", format!("bytes */{length}").into_bytes()));
                (416, &entry.body[..0])
            }
        },
        () => (entry.status, &entry.body[..]),
    };
    x.tally.tell(&entry.fields, &entry.text, &mut extra);
    let extra = Extra { fields: &extra, instead: None };
    x.tally.cached.set(true);
    x.tally.status.set(status);
    x.deadline.set(x.listener.config.limits.idle_body_timeout.0);
    let framing = if matches!(status, 204 | 304) { Framing::None } else { Framing::Length(body.len() as u64) };
    let head = x.request.method() == b"HEAD";
    let whole = async {
        let mut out = reply.head_of(status, b"", &entry.text, &entry.fields, framing, &route.response_edits, &extra)?;
        if framing != Framing::None && !head {
            x.tally.bytes_out.set(body.len() as u64);
            out.write(body).await?;
        }
        out.end(&Default::default()).await
    };
    sent(x, whole).await
}

/// Whether the client has it already (RFC 9110 section 13.2.2).
fn not_modified(request: &Request, entry: &Entry) -> bool {
    if let Some(list) = request.header("if-none-match") {
        return entry.header("etag").is_some_and(|tag| freshness::tag_matches(list, tag));
    }
    // RFC 9111 section 4.3.2: without `Last-Modified` its `Date` counts, without that when it came.
    let of = |name| entry.header(name).and_then(date::parse);
    let modified = || of("last-modified").or_else(|| of("date")).unwrap_or(entry.stored / 1000);
    request.header("if-modified-since").and_then(date::parse).is_some_and(|since| modified() <= since)
}

/// A request that may change what is stored.
pub(super) struct Change<'a> {
    cache: &'a Cache,
    key: &'a Key,
}

impl Change<'_> {
    /// Before the client learns that something changed, nothing is stored of it any more (section 4.4): nor of what the
    /// answer names, where that is on the same host.
    pub(super) fn head(&self, response: &Response) {
        if !(200..400).contains(&response.status) {
            return;
        }
        self.cache.store.forget(self.key);
        for name in ["location", "content-location"] {
            if let Some(other) = response.header(name).and_then(|to| named_by(self.key, to)) {
                self.cache.store.forget(&other);
            }
        }
    }
}

/// The key of what a response to `key` names, if it is on the same host.
fn named_by(key: &Key, reference: &[u8]) -> Option<Key> {
    let space = memchr::memchr(b' ', key)?;
    let (origin, target) = (&key[..space], &key[space + 1..]);
    let reference = reference.split(|b| *b == b'#').next().unwrap_or_default();
    let path = match reference {
        // Of the same scheme and host, written out.
        [b'h' | b'H', ..] if reference.windows(3).any(|w| w == b"://") => {
            let scheme: &[u8] = if origin[0] == b's' { b"https://" } else { b"http://" };
            let (written, rest) = reference.split_at_checked(scheme.len())?;
            let host = &origin[1..];
            let (its, path) = rest.split_at_checked(host.len())?;
            (written.eq_ignore_ascii_case(scheme) && its.eq_ignore_ascii_case(host)).then_some(())?;
            match path.first() {
                None => b"/".to_vec(),
                Some(b'/') => path.to_vec(),
                Some(_) => return None,
            }
        }
        [b'/', b'/', ..] | [] => return None,
        [b'/', ..] => reference.to_vec(),
        // Beside the request's own path.
        _ => {
            let path = target.split(|b| *b == b'?').next().unwrap_or_default();
            let slash = memchr::memrchr(b'/', path)?;
            [&path[..=slash], reference].concat()
        }
    };
    Some([origin, b" ", &path].concat().into())
}

/// Renews what is stored, beside the request that it has answered.
fn renew_beside(
    cache: &Arc<Cache>,
    x: &Exchange<'_>,
    route: &Arc<Route>,
    target: &Target,
    key: &Key,
    entry: &Arc<Entry>,
    leads: tokio::sync::watch::Sender<()>,
) {
    let Some(index) = route.targets.iter().position(|t| Arc::ptr_eq(&t.pool, &target.pool)) else { return };
    let mut request = x.request.duplicate();
    // As a GET: a HEAD that was answered from the store renews nothing.
    request.method = request.push_text(b"GET");
    let (cache, route, key, entry) = (Arc::clone(cache), Arc::clone(route), Arc::clone(key), Arc::clone(entry));
    let (conn, site, listener, client) = (Rc::clone(x.conn), Arc::clone(x.site), Arc::clone(x.listener), x.client);
    tokio::task::spawn_local(async move {
        let (deadline, tally) = (upstream::deadline(), Tally::default());
        let x = Exchange::new((&conn, &site, &listener), &deadline, &request, client, &tally);
        let mut fetch = Fetch::new(&cache, &key, Directives::default(), Some(entry), Some(leads));
        // A failure leaves what is stored as it is: the next request tries again.
        let _ = forward(
            &x,
            &route,
            "",
            &route.targets[index],
            &mut BodyIn::End,
            &mut Reply::Nobody,
            &mut Purpose::Cache(&mut fetch),
        )
        .await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_names_is_of_the_same_host_or_not_forgotten() {
        let key: Key = Arc::from(&b"pexample.com:8080 /shop/cart?x=1"[..]);
        let named =
            |reference: &str| named_by(&key, reference.as_bytes()).map(|k| String::from_utf8(k.to_vec()).unwrap());
        for (reference, path) in [
            ("/items", "/items"),
            ("/items?a#b", "/items?a"),
            ("other", "/shop/other"),
            ("http://example.com:8080/x", "/x"),
            ("HTTP://EXAMPLE.com:8080", "/"),
        ] {
            assert_eq!(named(reference), Some(format!("pexample.com:8080 {path}")), "{reference}");
        }
        for reference in ["", "//example.com/x", "https://example.com:8080/x", "http://example.com/x", "http://e/x"] {
            assert_eq!(named(reference), None, "{reference}");
        }
    }
}
