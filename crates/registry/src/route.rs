//! Paths. Read from the end, because a repository's name may contain any of the words that follow it.

use engine::content::{Content, Digest, Repository};
use percent_encoding::percent_decode_str;

use crate::failure::{Code, Failure};

/// What a path names.
pub(crate) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalogue,
    /// `/v2/NAME/tags/list`
    Tags(Repository),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(Repository, Reference),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(Repository, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(Repository),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(Repository, String),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(Repository, Digest),
}

/// How a manifest is named.
pub(crate) enum Reference {
    Digest(Digest),
    Tag(String),
    /// Neither: nothing can be stored under it, and nothing was.
    Neither(String),
}

impl Route {
    /// # Errors
    /// `NAME_INVALID`, `DIGEST_INVALID`, or 404 for what is no path of the specification.
    pub fn parse(content: &Content, path: &str) -> Result<Self, Failure> {
        let unknown = || Code::Unsupported.because("no such endpoint").status(http::StatusCode::NOT_FOUND);
        let path = percent_decode_str(path).decode_utf8().map_err(|_| Code::NameInvalid.failure())?;
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
            None => return Err(unknown()),
        };
        if rest == "_catalog" {
            return Ok(Self::Catalogue);
        }
        let repository = |name: &str| content.repository(name).ok_or_else(|| Code::NameInvalid.failure());
        let digest = |text: &str| {
            Digest::parse(text).ok_or_else(|| {
                Code::DigestInvalid.because("the digest is neither sha256 and 64 digits nor sha512 and 128")
            })
        };
        let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let (name, word) = before.rsplit_once('/').ok_or_else(unknown)?;
        Ok(match (word, last) {
            ("tags", "list") => Self::Tags(repository(name)?),
            ("blobs", "uploads") => Self::Uploads(repository(name)?),
            ("manifests", reference) => Self::Manifest(
                repository(name)?,
                match reference {
                    text if text.contains(':') => Reference::Digest(digest(text)?),
                    tag if Repository::is_tag(tag) => Reference::Tag(tag.to_owned()),
                    other => Reference::Neither(other.to_owned()),
                },
            ),
            ("uploads", id) if name.ends_with("/blobs") => {
                let repository = repository(name.strip_suffix("/blobs").unwrap_or(name))?;
                if id.is_empty() { Self::Uploads(repository) } else { Self::Upload(repository, id.to_owned()) }
            }
            ("blobs", text) => Self::Blob(repository(name)?, digest(text)?),
            ("referrers", text) => Self::Referrers(repository(name)?, digest(text)?),
            _ => return Err(unknown()),
        })
    }
}

/// One parameter of a query.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    parameters(query, name).next()
}

/// All of a query's parameters of that name.
pub(crate) fn parameters<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let all = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    all.filter(move |(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Route, Failure> {
        let dir = tempfile::tempdir().unwrap();
        Route::parse(&Content::open(dir.path()).unwrap(), path)
    }

    #[test]
    fn names_may_contain_the_words_of_the_protocol() {
        let digest = Digest::of(b"x");
        let Ok(Route::Manifest(repository, Reference::Tag(tag))) = parse("/v2/a/manifests/b/manifests/v1") else {
            panic!()
        };
        assert_eq!((repository.name(), tag.as_str()), ("a/manifests/b", "v1"));
        let Ok(Route::Blob(repository, _)) = parse(&format!("/v2/blobs/uploads/blobs/{digest}")) else { panic!() };
        assert_eq!(repository.name(), "blobs/uploads");
        let Ok(Route::Uploads(repository)) = parse("/v2/tags/blobs/uploads/") else { panic!() };
        assert_eq!(repository.name(), "tags");
        let Ok(Route::Upload(repository, id)) = parse("/v2/blobs/blobs/uploads/77") else { panic!() };
        assert_eq!((repository.name(), id.as_str()), ("blobs", "77"));
        assert!(matches!(parse("/v2/uploads/tags/list"), Ok(Route::Tags(_))));
        let encoded = format!("/v2/a/blobs/{}", digest.as_str().replace(':', "%3A"));
        assert!(matches!(parse(&encoded), Ok(Route::Blob(..))));
    }

    #[test]
    fn what_is_no_name_or_digest_is_told_apart_from_what_is_no_endpoint() {
        for path in [
            "/v2/UPPER/tags/list",
            "/v2/../x/tags/list",
            "/v2/a//b/tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/_tags/tags/list",
        ] {
            assert!(format!("{:?}", parse(path).err().unwrap()).contains("NameInvalid"), "{path}");
        }
        for path in ["/v2/a/blobs/sha256:12", "/v2/a/blobs/md5:12", "/v2/a/manifests/sha256:zz", "/v2/a/referrers/x"] {
            assert!(format!("{:?}", parse(path).err().unwrap()).contains("DigestInvalid"), "{path}");
        }
        for path in ["/", "/v1/", "/v2x", "/v2/a", "/v2/a/b", "/v2/a/tags/lists"] {
            assert!(format!("{:?}", parse(path).err().unwrap()).contains("404"), "{path}");
        }
    }
}
