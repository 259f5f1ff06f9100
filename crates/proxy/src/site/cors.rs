//! Cross-origin resource sharing (the Fetch standard, 3.2): which pages may read answers, and what preflight requests are told.

use crate::config::{self, HeaderEdit};
use crate::http1::Request;

/// Fields of answers, each with its value.
pub type Fields = Vec<(&'static str, Vec<u8>)>;

const ORIGIN: &str = "access-control-allow-origin";
const CREDENTIALS: &str = "access-control-allow-credentials";
const METHODS: &str = "access-control-allow-methods";
const HEADERS: &str = "access-control-allow-headers";
const EXPOSE: &str = "access-control-expose-headers";
const MAX_AGE: &str = "access-control-max-age";

/// What a request is as far as other origins are concerned.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Its answer, from wherever it comes, gets these.
    Answer(Fields),
    /// It asks in advance: it is answered with these, and nothing is forwarded.
    Preflight(Fields),
}

/// What is said of a request.
pub fn asked(cors: &config::Cors, request: &Request) -> Asked {
    let origin = request.header("origin");
    let allowed = origin.filter(|origin| cors.origins.iter().any(|pattern| fits(pattern, origin)));
    let wanted = (request.method() == b"OPTIONS").then(|| request.header("access-control-request-method")).flatten();
    let mut fields = Fields::new();
    if let Some(origin) = allowed {
        fields.push((ORIGIN, origin.to_vec()));
        if cors.credentials {
            fields.push((CREDENTIALS, b"true".to_vec()));
        }
        if let Some(method) = wanted {
            if let Some(methods) = told(&cors.methods, Some(method)) {
                fields.push((METHODS, methods));
            }
            if let Some(headers) = told(&cors.headers, request.header("access-control-request-headers")) {
                fields.push((HEADERS, headers));
            }
            fields.push((MAX_AGE, cors.max_age.0.as_secs().to_string().into_bytes()));
        }
        if !cors.expose.is_empty() {
            fields.push((EXPOSE, cors.expose.join(", ").into_bytes()));
        }
    }
    // Caches must not give one origin's answer to another.
    fields.push(("vary", b"Origin".to_vec()));
    match (origin, wanted) {
        (Some(_), Some(_)) => Asked::Preflight(fields),
        _ => Asked::Answer(fields),
    }
}

/// Takes out what endpoints say themselves.
pub fn edit() -> HeaderEdit {
    let remove = [ORIGIN, CREDENTIALS, METHODS, HEADERS, EXPOSE, MAX_AGE].map(str::to_owned).to_vec();
    HeaderEdit { remove, ..HeaderEdit::default() }
}

/// What a list is told as: of a star what was asked for, since browsers take a star for a name where there are credentials.
fn told(list: &[String], asked: Option<&[u8]>) -> Option<Vec<u8>> {
    match list {
        [] => None,
        [star] if star == "*" => asked.map(<[u8]>::to_vec),
        list => Some(list.join(", ").into_bytes()),
    }
}

/// Whether an origin is one of `pattern`'s.
fn fits(pattern: &str, origin: &[u8]) -> bool {
    if pattern == "*" {
        return true;
    }
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    let (Some((scheme, host)), Some((of_scheme, of_host))) = (pattern.split_once("://"), origin.split_once("://"))
    else {
        return false;
    };
    let (host, port) = ported(scheme, host);
    let (of_host, of_port) = ported(of_scheme, of_host);
    let same = match host.strip_prefix('*') {
        Some(end) => {
            of_host.len() > end.len()
                && of_host.is_char_boundary(of_host.len() - end.len())
                && of_host[of_host.len() - end.len()..].eq_ignore_ascii_case(end)
        }
        None => host.eq_ignore_ascii_case(of_host),
    };
    scheme.eq_ignore_ascii_case(of_scheme) && same && port == of_port
}

/// A host and its port, which is the scheme's own if it is not said.
fn ported<'a>(scheme: &str, host: &'a str) -> (&'a str, &'a str) {
    match host.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
        _ if scheme.eq_ignore_ascii_case("https") => (host, "443"),
        _ => (host, "80"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_fits_by_scheme_host_and_port_and_a_star_stands_for_any_labels() {
        for (pattern, origin, fine) in [
            ("*", "null", true),
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "https://WWW.foo.com:443", true),
            ("https://www.foo.com", "http://www.foo.com", false),
            ("https://www.foo.com", "https://www.foo.com:8443", false),
            ("https://www.foo.com:8443", "https://www.foo.com:8443", true),
            ("https://*.bar.com", "https://a.b.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://evilbar.com", false),
            ("https://*.bar.com", "https://a.bar.com.evil.org", false),
            ("http://*:12345", "http://foo.bar.com:12345", true),
            ("http://[::1]:80", "http://[::1]", true),
            ("https://www.foo.com", "null", false),
            ("https://*.bar.com", "https://ü", false),
        ] {
            assert_eq!(fits(pattern, origin.as_bytes()), fine, "{pattern} {origin}");
        }
    }

    #[test]
    fn of_a_star_what_was_asked_for_is_told() {
        let star = ["*".to_owned()];
        assert_eq!(told(&star, Some(b"PUT")), Some(b"PUT".to_vec()));
        assert_eq!(told(&star, None), None);
        assert_eq!(told(&["GET".to_owned(), "PUT".to_owned()], Some(b"PATCH")), Some(b"GET, PUT".to_vec()));
        assert_eq!(told(&[], Some(b"PUT")), None);
    }
}
