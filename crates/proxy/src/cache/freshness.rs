//! What may be stored, for how long, and whether it may be used now: RFC 9111 as pure functions. Times come in as
//! milliseconds since 1970; nothing here looks at a clock.

/// `Cache-Control` directives that a shared cache obeys. Spans are in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are called what they are called")]
pub struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub must_understand: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub min_fresh: Option<u64>,
    /// `Some(u64::MAX)`: however stale.
    pub max_stale: Option<u64>,
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
}

impl Directives {
    /// Reads all `Cache-Control` fields of a message. Of a directive that is there twice the stricter one counts; a span
    /// that is no number counts as 0, which is stale (section 4.2.1).
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        for word in values.flat_map(split_list) {
            let (name, value) = match memchr::memchr(b'=', word) {
                Some(at) => (word[..at].trim_ascii(), Some(word[at + 1..].trim_ascii())),
                None => (word.trim_ascii(), None),
            };
            let span = || {
                let text = value.unwrap_or_default();
                let text = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text);
                if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
                    return 0;
                }
                text.iter().fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))).min(1 << 31)
            };
            let stricter = |known: Option<u64>, new: u64| Some(known.map_or(new, |known| known.min(new)));
            match name.to_ascii_lowercase().as_slice() {
                b"no-store" => found.no_store = true,
                // With field names it is about these fields alone; obeyed as if it were about everything.
                b"no-cache" => found.no_cache = true,
                b"private" => found.private = true,
                b"public" => found.public = true,
                b"must-revalidate" | b"proxy-revalidate" => found.must_revalidate = true,
                b"must-understand" => found.must_understand = true,
                b"only-if-cached" => found.only_if_cached = true,
                b"max-age" => found.max_age = stricter(found.max_age, span()),
                b"s-maxage" => found.s_maxage = stricter(found.s_maxage, span()),
                b"min-fresh" => found.min_fresh = Some(span()),
                b"max-stale" => found.max_stale = Some(if value.is_none() { u64::MAX } else { span() }),
                b"stale-while-revalidate" => {
                    found.stale_while_revalidate = stricter(found.stale_while_revalidate, span())
                }
                b"stale-if-error" => found.stale_if_error = stricter(found.stale_if_error, span()),
                _ => {}
            }
        }
        found
    }
}

/// Splits a list at its commas, not at those within quotes.
fn split_list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
}

/// What of a response decides about storing it. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The status.
    pub status: u16,
    /// `Cache-Control`.
    pub directives: Directives,
    /// `Date`.
    pub date: Option<u64>,
    /// `Expires`; `Some(None)` if it is there and no date, which is the past.
    pub expires: Option<Option<u64>>,
    /// `Last-Modified`.
    pub last_modified: Option<u64>,
    /// `Age`, in seconds.
    pub age: u64,
    /// It can be renewed by its tag.
    pub tagged: bool,
    /// It sets cookies.
    pub sets_cookies: bool,
    /// It varies by everything.
    pub varies_by_all: bool,
    /// The request had `Authorization`.
    pub authorized: bool,
    /// The request said `no-store`.
    pub unwanted: bool,
}

/// How a cache is configured where responses do not say, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    /// Freshness of responses that say nothing and have no `Last-Modified`.
    pub ttl: u64,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: u64,
    /// `stale-if-error`.
    pub stale_if_error: u64,
}

/// For how long a stored response may be used. Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// How old it was when it arrived.
    pub initial_age: u64,
    /// How old it may be.
    pub fresh: u64,
    /// How long after that it may be used while it is renewed.
    pub stale_while_revalidate: u64,
    /// How long after that it may be used when renewing fails.
    pub stale_if_error: u64,
    /// It must be renewed before each use (`no-cache`).
    pub always: bool,
    /// It must not be used stale.
    pub must_revalidate: bool,
}

/// Statuses whose meaning for a cache is known here.
fn understood(status: u16) -> bool {
    heuristically(status)
        || matches!(status, 302 | 303 | 307 | 400..=403 | 406..=413 | 415..=431 | 451 | 500 | 502..=505)
}

/// Statuses with which a response may be stored although it says nothing about it (RFC 9110 section 15.1).
fn heuristically(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether a response to GET may be stored, and for how long it may be used (section 3). `now` in seconds.
pub fn lifetime(facts: &Facts, defaults: &Defaults, now: u64) -> Option<Lifetime> {
    let d = &facts.directives;
    let renewable = facts.tagged || facts.last_modified.is_some();
    let explicit = d.s_maxage.is_some() || d.max_age.is_some() || facts.expires.is_some() || (d.no_cache && renewable);
    let shared = d.public || d.s_maxage.is_some() || d.must_revalidate;
    // Section 5.2.2.3: who understands the status may take no notice of `no-store`, who does not must not store.
    let refused = (if d.must_understand { !understood(facts.status) } else { d.no_store })
        || d.private
        || facts.unwanted
        || facts.varies_by_all
        || facts.status < 200
        || matches!(facts.status, 206 | 304)
        || (facts.authorized && !shared)
        // Not the RFC's rule but every careful cache's: a cookie is somebody's.
        || (facts.sets_cookies && !(d.public || d.s_maxage.is_some()));
    if refused || !(explicit || d.public || heuristically(facts.status)) {
        return None;
    }
    let date = facts.date.unwrap_or(now);
    let fresh = match (d.s_maxage, d.max_age, facts.expires) {
        (Some(seconds), ..) | (None, Some(seconds), _) => seconds,
        (None, None, Some(expires)) => expires.map_or(0, |at| at.saturating_sub(date)),
        (None, None, None) => match facts.last_modified {
            // Section 4.2.2: a tenth of its age, and never more than a day.
            Some(modified) => (date.saturating_sub(modified) / 10).min(86_400),
            None => defaults.ttl,
        },
    };
    if fresh == 0 && facts.last_modified.is_none() && !explicit {
        return None;
    }
    // Section 4.2.3: whichever of its own age and the clocks' difference is more.
    let initial_age = facts.age.max(now.saturating_sub(date));
    let must_revalidate = d.must_revalidate || d.s_maxage.is_some();
    let unless = |span: u64| if must_revalidate && d.must_revalidate { 0 } else { span * 1000 };
    Some(Lifetime {
        initial_age: initial_age * 1000,
        fresh: fresh * 1000,
        stale_while_revalidate: unless(d.stale_while_revalidate.unwrap_or(defaults.stale_while_revalidate)),
        stale_if_error: unless(d.stale_if_error.unwrap_or(defaults.stale_if_error)),
        always: d.no_cache,
        must_revalidate,
    })
}

/// What may be done with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It answers.
    Fresh,
    /// It answers, and is renewed meanwhile.
    WhileRenewed,
    /// It must be renewed first.
    Renew,
}

/// Judges a stored response for a request, `resident` milliseconds after it arrived (section 4.2).
pub fn judge(lifetime: &Lifetime, resident: u64, request: &Directives) -> Use {
    let age = lifetime.initial_age + resident;
    if lifetime.always || request.no_cache {
        return Use::Renew;
    }
    if request.max_age.is_some_and(|max| age > max.saturating_mul(1000)) {
        return Use::Renew;
    }
    let needed = age + request.min_fresh.unwrap_or(0).saturating_mul(1000);
    if needed < lifetime.fresh {
        return Use::Fresh;
    }
    if request.min_fresh.is_some() {
        return Use::Renew;
    }
    let stale = age.saturating_sub(lifetime.fresh);
    if !lifetime.must_revalidate && request.max_stale.is_some_and(|max| stale <= max.saturating_mul(1000)) {
        return Use::Fresh;
    }
    if lifetime.stale_while_revalidate > 0 && stale <= lifetime.stale_while_revalidate {
        return Use::WhileRenewed;
    }
    Use::Renew
}

/// Whether a stored response may answer when renewing it failed.
pub fn may_serve_after_error(lifetime: &Lifetime, resident: u64, request: &Directives) -> bool {
    let stale = (lifetime.initial_age + resident).saturating_sub(lifetime.fresh);
    let span =
        request.stale_if_error.map_or(lifetime.stale_if_error, |s| s.saturating_mul(1000).max(lifetime.stale_if_error));
    !lifetime.must_revalidate && !lifetime.always && span > 0 && stale <= span
        || (lifetime.stale_if_error > 0 && !lifetime.always && stale <= lifetime.stale_if_error)
}

/// Whether an entity tag is among those of `If-None-Match` (weak comparison, RFC 9110 section 8.8.3.2).
pub fn tag_matches(list: &[u8], tag: &[u8]) -> bool {
    fn strong(tag: &[u8]) -> &[u8] {
        tag.strip_prefix(b"W/").unwrap_or(tag)
    }
    list.trim_ascii() == b"*" || split_list(list).any(|one| strong(one.trim_ascii()) == strong(tag))
}

/// Seconds of an `Age`: the first where there are several (section 5.1); 0 of what is no number.
pub fn age(value: &[u8]) -> u64 {
    let first = value.split(|b| *b == b',').next().unwrap_or_default().trim_ascii();
    if first.is_empty() || !first.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    first.iter().fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))).min(1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn directives(text: &str) -> Directives {
        Directives::parse([text.as_bytes()].into_iter())
    }

    fn fresh_for(cache_control: &str, change: impl Fn(&mut Facts)) -> Option<u64> {
        let mut facts =
            Facts { status: 200, directives: directives(cache_control), date: Some(NOW), ..Default::default() };
        change(&mut facts);
        lifetime(&facts, &Defaults::default(), NOW).map(|l| l.fresh / 1000)
    }

    #[test]
    fn freshness_comes_from_the_most_specific_that_says_it() {
        assert_eq!(fresh_for("max-age=60, s-maxage=10", |_| ()), Some(10));
        assert_eq!(fresh_for("max-age=60", |f| f.expires = Some(Some(NOW + 5))), Some(60));
        assert_eq!(fresh_for("", |f| f.expires = Some(Some(NOW + 5))), Some(5));
        assert_eq!(fresh_for("", |f| f.expires = Some(None)), Some(0));
        assert_eq!(fresh_for("", |f| f.last_modified = Some(NOW - 1000)), Some(100));
        assert_eq!(fresh_for("", |f| f.last_modified = Some(0)), Some(86_400));
        assert_eq!(fresh_for("", |_| ()), None);
        assert_eq!(fresh_for("max-age=60, max-age=5", |_| ()), Some(5));
        assert_eq!(fresh_for("max-age=soon", |_| ()), Some(0));
        assert_eq!(fresh_for("foo=\"a, max-age=9\", max-age=7", |_| ()), Some(7));
    }

    #[test]
    fn what_is_not_for_all_is_not_stored() {
        for refused in ["no-store, max-age=60", "private, max-age=60", "private=\"set-cookie\", max-age=60"] {
            assert_eq!(fresh_for(refused, |_| ()), None, "{refused}");
        }
        assert_eq!(fresh_for("max-age=60", |f| f.authorized = true), None);
        assert_eq!(fresh_for("max-age=60, public", |f| f.authorized = true), Some(60));
        assert_eq!(fresh_for("s-maxage=60", |f| f.authorized = true), Some(60));
        assert_eq!(fresh_for("max-age=60", |f| f.sets_cookies = true), None);
        assert_eq!(fresh_for("max-age=60", |f| f.varies_by_all = true), None);
        assert_eq!(fresh_for("max-age=60", |f| f.unwanted = true), None);
        assert_eq!(fresh_for("max-age=60", |f| f.status = 206), None);
        assert_eq!(fresh_for("max-age=60", |f| f.status = 500), Some(60));
        assert_eq!(fresh_for("max-age=60, no-store, must-understand", |_| ()), Some(60));
        assert_eq!(fresh_for("max-age=60, must-understand", |f| f.status = 599), None);
        assert_eq!(fresh_for("no-cache", |_| ()), None, "it could not even be renewed");
        assert_eq!(fresh_for("no-cache", |f| f.tagged = true), Some(0));
        assert_eq!(fresh_for("public", |f| (f.status, f.last_modified) = (599, Some(NOW - 1000))), Some(100));
        assert_eq!(fresh_for("", |f| (f.status, f.last_modified) = (500, Some(1))), None);
    }

    #[test]
    fn age_is_the_larger_of_what_is_said_and_what_clocks_show() {
        let facts = Facts {
            status: 200,
            directives: directives("max-age=60"),
            date: Some(NOW - 10),
            age: 30,
            ..Default::default()
        };
        assert_eq!(lifetime(&facts, &Defaults::default(), NOW).unwrap().initial_age, 30_000);
        assert_eq!(lifetime(&Facts { age: 3, ..facts }, &Defaults::default(), NOW).unwrap().initial_age, 10_000);
    }

    #[test]
    fn a_stored_response_is_used_as_both_sides_allow() {
        let facts = |cc: &str| Facts { status: 200, directives: directives(cc), date: Some(NOW), ..Default::default() };
        let of = |cc: &str| lifetime(&facts(cc), &Defaults::default(), NOW).unwrap();
        let plain = of("max-age=60");
        assert_eq!(judge(&plain, 59_000, &directives("")), Use::Fresh);
        assert_eq!(judge(&plain, 60_000, &directives("")), Use::Renew);
        assert_eq!(judge(&plain, 30_000, &directives("max-age=10")), Use::Renew);
        assert_eq!(judge(&plain, 30_000, &directives("min-fresh=31")), Use::Renew);
        assert_eq!(judge(&plain, 70_000, &directives("max-stale=20")), Use::Fresh);
        assert_eq!(judge(&of("max-age=60, must-revalidate"), 70_000, &directives("max-stale")), Use::Renew);
        assert_eq!(judge(&plain, 1000, &directives("no-cache")), Use::Renew);
        assert_eq!(judge(&of("max-age=60, no-cache"), 1000, &directives("")), Use::Renew);
        let swr = of("max-age=60, stale-while-revalidate=30, stale-if-error=600");
        assert_eq!(judge(&swr, 80_000, &directives("")), Use::WhileRenewed);
        assert_eq!(judge(&swr, 91_000, &directives("")), Use::Renew);
        assert!(may_serve_after_error(&swr, 600_000, &directives("")));
        assert!(!may_serve_after_error(&swr, 700_000, &directives("")));
        assert!(!may_serve_after_error(
            &of("max-age=60, stale-if-error=600, must-revalidate"),
            70_000,
            &directives("")
        ));
    }

    #[test]
    fn the_first_age_counts_and_none_is_too_large() {
        for (text, seconds) in [
            ("7200, 0", 7200),
            ("0, 7200", 0),
            ("abc", 0),
            ("-1", 0),
            ("7200.0", 0),
            ("", 0),
            ("99999999999999999999999", 1 << 31),
        ] {
            assert_eq!(age(text.as_bytes()), seconds, "{text}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        assert!(
            tag_matches(b"\"a\", W/\"b\"", b"\"b\"")
                && tag_matches(b"*", b"\"x\"")
                && tag_matches(b"\"b\"", b"W/\"b\"")
        );
        assert!(!tag_matches(b"\"a\"", b"\"b\""));
        assert!(tag_matches(b"\"a,b\"", b"\"a,b\""));
    }
}
