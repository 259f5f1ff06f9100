//! Links and redirects of what is served below another path: absolute ones get that path in front, so that a browser
//! stays where it is (upstream's apimachinery, `util/proxy/transport.go`).

mod html;

use std::io::{self, Write};

use bytes::Bytes;
use flate2::{
    Compression,
    write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder},
};
use futures::{StreamExt, stream};
use http::{HeaderValue, Response, header};

use self::html::Rewriter;
use crate::body::{Body, BoxError};

/// Where something is served, from its client's view.
#[derive(Clone, Debug)]
pub(crate) struct Prefix {
    /// Without a slash at its end.
    pub path: String,
    /// What the client calls the server: `host:port`.
    pub host: String,
}

impl Prefix {
    /// Makes an answer work below the prefix.
    pub fn apply(self, mut response: Response<Body>) -> Response<Body> {
        if let Some(to) = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()) {
            if let Some(value) = self.link(to).and_then(|to| HeaderValue::from_str(&to).ok()) {
                response.headers_mut().insert(header::LOCATION, value);
            }
            return response;
        }
        let text = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("");
        if text(header::CONTENT_TYPE).split(';').next().is_none_or(|kind| kind.trim() != "text/html") {
            return response;
        }
        let Some(coding) = Coding::of(text(header::CONTENT_ENCODING)) else { return response };
        let (mut parts, body) = response.into_parts();
        let Body::Stream(chunks) = body else { return Response::from_parts(parts, body) };
        parts.headers.remove(header::CONTENT_LENGTH);
        let page = Page { coding, rewriter: Rewriter::new(self) };
        let rewritten = stream::unfold(Some((chunks, page)), |state| async {
            let (mut chunks, mut page) = state?;
            let (bytes, rest) = match chunks.next().await {
                Some(Ok(chunk)) => (page.feed(&chunk), true),
                Some(Err(error)) => return Some((Err(error), None)),
                None => (page.finish(), false),
            };
            match bytes {
                Ok(bytes) => Some((Ok(bytes), rest.then_some((chunks, page)))),
                Err(error) => Some((Err(Box::new(error) as BoxError), None)),
            }
        });
        let some = rewritten.filter(|piece| std::future::ready(!matches!(piece, Ok(bytes) if bytes.is_empty())));
        Response::from_parts(parts, Body::Stream(some.boxed()))
    }

    /// What a link must say instead, if anything.
    fn link(&self, link: &str) -> Option<String> {
        let (authority, path) = match link.split_once("://") {
            Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
                rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
            }
            _ => match link.strip_prefix("//") {
                Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
                None => ("", link),
            },
        };
        // Elsewhere, or relative to the page.
        if (!authority.is_empty() && authority != self.host) || !path.starts_with('/') {
            return None;
        }
        let (path, tail) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
        if path.starts_with(&self.path) {
            return None;
        }
        let front = &link[..link.len() - path.len() - tail.len()];
        Some(format!("{front}{}{}{tail}", self.path, clean(path)))
    }
}

/// A path without `.`, `..` and empty segments; a slash at its end stays.
fn clean(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// How a page is packed.
enum Coding {
    Plain,
    Gzip(Box<Gzip>),
    Deflate(Box<Deflate>),
}

type Gzip = (GzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>);
type Deflate = (DeflateDecoder<Vec<u8>>, DeflateEncoder<Vec<u8>>);

impl Coding {
    /// `None` for one that is not known here: such pages are passed on as they are.
    fn of(name: &str) -> Option<Self> {
        let level = Compression::fast();
        Some(match name {
            "" => Self::Plain,
            "gzip" => Self::Gzip(Box::new((GzDecoder::new(Vec::new()), GzEncoder::new(Vec::new(), level)))),
            "deflate" => {
                Self::Deflate(Box::new((DeflateDecoder::new(Vec::new()), DeflateEncoder::new(Vec::new(), level))))
            }
            _ => return None,
        })
    }
}

struct Page {
    coding: Coding,
    rewriter: Rewriter,
}

impl Page {
    fn feed(&mut self, chunk: &[u8]) -> io::Result<Bytes> {
        let rewriter = &mut self.rewriter;
        Ok(Bytes::from(match &mut self.coding {
            Coding::Plain => rewriter.feed(chunk),
            Coding::Gzip(both) => {
                let plain = unpacked(&mut both.0, chunk, GzDecoder::get_mut)?;
                both.1.write_all(&rewriter.feed(&plain))?;
                std::mem::take(both.1.get_mut())
            }
            Coding::Deflate(both) => {
                let plain = unpacked(&mut both.0, chunk, DeflateDecoder::get_mut)?;
                both.1.write_all(&rewriter.feed(&plain))?;
                std::mem::take(both.1.get_mut())
            }
        }))
    }

    fn finish(&mut self) -> io::Result<Bytes> {
        let rest = self.rewriter.finish();
        Ok(Bytes::from(match &mut self.coding {
            Coding::Plain => rest,
            Coding::Gzip(both) => {
                both.1.write_all(&rest)?;
                both.1.try_finish()?;
                std::mem::take(both.1.get_mut())
            }
            Coding::Deflate(both) => {
                both.1.write_all(&rest)?;
                both.1.try_finish()?;
                std::mem::take(both.1.get_mut())
            }
        }))
    }
}

/// All that can be told of what was packed, a chunk later.
fn unpacked<W: Write>(decoder: &mut W, chunk: &[u8], written: fn(&mut W) -> &mut Vec<u8>) -> io::Result<Vec<u8>> {
    decoder.write_all(chunk)?;
    decoder.flush()?;
    Ok(std::mem::take(written(decoder)))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn prefix() -> Prefix {
        Prefix { path: "/api/v1/namespaces/a/pods/b/proxy".into(), host: "cluster:6443".into() }
    }

    #[test]
    fn only_absolute_links_to_the_same_host_get_the_prefix() {
        for (link, becomes) in [
            ("/x", Some("/api/v1/namespaces/a/pods/b/proxy/x")),
            ("/", Some("/api/v1/namespaces/a/pods/b/proxy/")),
            ("/x/../y//z/?q=/1#f", Some("/api/v1/namespaces/a/pods/b/proxy/y/z/?q=/1#f")),
            ("https://cluster:6443/x", Some("https://cluster:6443/api/v1/namespaces/a/pods/b/proxy/x")),
            ("//cluster:6443/x", Some("//cluster:6443/api/v1/namespaces/a/pods/b/proxy/x")),
            ("/api/v1/namespaces/a/pods/b/proxy/x", None),
            ("https://elsewhere/x", None),
            ("//elsewhere/x", None),
            ("x/y", None),
            ("?a=b", None),
            ("mailto:x@y", None),
            ("", None),
        ] {
            assert_eq!(prefix().link(link).as_deref(), becomes, "{link}");
        }
    }

    async fn through(kind: &'static str, coding: &'static str, chunks: Vec<Vec<u8>>) -> (Response<()>, Vec<u8>) {
        let chunks = stream::iter(chunks.into_iter().map(|c| Ok(Bytes::from(c)))).boxed();
        let mut response = Response::new(Body::Stream(chunks));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        if !coding.is_empty() {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let (parts, body) = prefix().apply(response).into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        (Response::from_parts(parts, ()), bytes.to_vec())
    }

    const PAGE: &str = "<a href=\"/x\">x</a>";
    const REWRITTEN: &str = "<a href=\"/api/v1/namespaces/a/pods/b/proxy/x\">x</a>";

    #[tokio::test]
    async fn pages_are_rewritten_however_they_are_packed_and_all_else_stays() {
        let (response, page) = through("text/html; charset=utf-8", "", vec![PAGE.into()]).await;
        assert_eq!(String::from_utf8(page).expect("text"), REWRITTEN);
        assert!(!response.headers().contains_key(header::CONTENT_LENGTH), "it is longer now");
        let (response, other) = through("text/plain", "", vec![PAGE.into()]).await;
        assert_eq!((other, response.headers().len()), (PAGE.as_bytes().to_vec(), 2));
        assert_eq!(through("text/html", "br", vec![b"?".to_vec()]).await.1, b"?");
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(PAGE.as_bytes()).expect("packed");
        let packed = packer.finish().expect("packed");
        let (first, second) = packed.split_at(packed.len() / 2);
        let (_, packed) = through("text/html", "gzip", vec![first.to_vec(), second.to_vec()]).await;
        let mut unpacker = GzDecoder::new(Vec::new());
        unpacker.write_all(&packed).expect("gzip");
        assert_eq!(String::from_utf8(unpacker.finish().expect("whole")).expect("text"), REWRITTEN);
    }

    #[test]
    fn a_redirect_stays_below_the_prefix() {
        let mut response = Response::new(Body::Empty);
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/login?next=/x"));
        let response = prefix().apply(response);
        assert_eq!(response.headers()[header::LOCATION], "/api/v1/namespaces/a/pods/b/proxy/login?next=/x");
    }
}
