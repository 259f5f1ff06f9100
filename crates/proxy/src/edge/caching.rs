//! Requests through a cache.

use std::rc::Rc;
use std::sync::Arc;

use super::exchange::{Exchange, Purpose, Tally};
use super::reply::{Extra, Reply};
use super::upstream::{self, Failure, Served, forward};
use crate::cache::freshness::{self, Directives, Use};
use crate::cache::{Cache, Entry, Fetch, Key, now, split_tags};
use crate::http1::{Framing, Request};
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
    let plain = !matches!(method, b"GET" | b"HEAD")
        || request.upgrade
        || request.framing != Framing::None
        || request.header("range").is_some();
    let asked = Directives::parse(
        request
            .fields
            .iter()
            .filter(|f| f.name.of(&request.text).eq_ignore_ascii_case(b"cache-control"))
            .map(|f| f.value.of(&request.text)),
    );
    if plain || asked.no_store {
        Cache::count(&cache.passed);
        let served = forward(x, route, prefix, target, body, reply, &mut Purpose::Plain).await;
        // Section 4.4: what changed a resource makes what is stored of it old.
        if !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
            && served.is_ok()
            && (200..400).contains(&x.tally.status.get())
        {
            cache.store.remove(&key);
        }
        return served;
    }
    let mut waited = false;
    loop {
        let stored = cache.store.find(&key, request);
        if let Some(entry) = &stored {
            match freshness::judge(&entry.lifetime, now().saturating_sub(entry.stored), &asked) {
                Use::Fresh => {
                    Cache::count(&cache.hits);
                    return serve(cache, x, route, entry, "hit", reply).await;
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
        if asked.only_if_cached {
            x.tally.status.set(504);
            let _ = x.deadline.guard(reply.error(504, "it is not stored", &[])).await;
            return Ok(Served::Answered { clean: true });
        }
        if method == b"HEAD" {
            // A response without its body is of no use to others.
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
    let extra =
        [("age", age.to_string().into_bytes()), ("cache-status", format!("{}; {how}", cache.name()).into_bytes())];
    let extra = Extra { fields: &extra, instead: None };
    let same = entry.status == 200 && not_modified(x.request, entry);
    let status = if same { 304 } else { entry.status };
    x.tally.cached.set(true);
    x.tally.status.set(status);
    x.deadline.set(x.listener.config.limits.idle_body_timeout.0);
    let framing = if same || entry.status == 204 { Framing::None } else { Framing::Length(entry.body.len() as u64) };
    let head = x.request.method() == b"HEAD";
    let sent = async {
        let mut out = reply.head_of(status, b"", &entry.text, &entry.fields, framing, &route.response_edits, &extra)?;
        if framing != Framing::None && !head {
            x.tally.bytes_out.set(entry.body.len() as u64);
            out.write(&entry.body).await?;
        }
        out.end(&Default::default()).await
    };
    let sent = x.deadline.guard(sent).await;
    if matches!(sent, Ok(Ok(()))) {
        Ok(Served::Answered { clean: true })
    } else {
        Err(Failure::Client(0, "the client left"))
    }
}

/// Whether the client has it already (RFC 9110 section 13.2.2).
fn not_modified(request: &Request, entry: &Entry) -> bool {
    if let Some(list) = request.header("if-none-match") {
        return entry.header("etag").is_some_and(|tag| freshness::tag_matches(list, tag));
    }
    let since = request.header("if-modified-since").and_then(freshness::date);
    let modified = entry.header("last-modified").and_then(freshness::date);
    matches!((since, modified), (Some(since), Some(modified)) if modified <= since)
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

/// Drops a URL, or whatever bears one of the tags that the request names.
async fn purge(cache: &Cache, x: &Exchange<'_>, key: &[u8], reply: &mut Reply<'_>) -> Result<Served, Failure> {
    let (status, text) = if cache.may_purge(x.client) {
        let tags: Vec<String> = cache
            .config
            .tag_headers
            .iter()
            .filter_map(|name| x.request.header(&name.to_ascii_lowercase()))
            .flat_map(split_tags)
            .collect();
        let purged =
            if tags.is_empty() { usize::from(cache.store.remove(key)) } else { cache.store.remove_tagged(&tags) };
        (200, format!("purged {purged}"))
    } else {
        (403, "who asks may not purge".to_owned())
    };
    x.tally.status.set(status);
    if x.request.framing != Framing::None {
        reply.close();
    }
    let sent = x.deadline.guard(reply.error(status, &text, &[])).await;
    if matches!(sent, Ok(Ok(()))) {
        Ok(Served::Answered { clean: true })
    } else {
        Err(Failure::Client(0, "the client left"))
    }
}
