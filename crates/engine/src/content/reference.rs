//! Image names as Docker writes them: `redis`, `localhost:5000/todo:v1`, `repo@sha256:…`.

use std::fmt;

use super::{ContentError, Digest};

/// A normalized name: always with a registry and a repository, and with a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io` where none was given.
    pub registry: String,
    /// `library/` is put before the official images of Docker Hub.
    pub repository: String,
    /// `latest` where neither a tag nor a digest was given.
    pub tag: Option<String>,
    /// Takes precedence over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalizes (the grammar of the `distribution/reference` specification).
    ///
    /// # Errors
    /// [`ContentError::InvalidReference`].
    pub fn parse(text: &str) -> Result<Self, ContentError> {
        Self::parse_option(text).ok_or_else(|| ContentError::InvalidReference(text.to_owned()))
    }

    fn parse_option(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((before, after)) if !after.contains('/') => (before, Some(after)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return None;
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                (first, rest)
            }
            _ => ("docker.io", name),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        if !is_host(registry) || !is_repository(path) {
            return None;
        }
        let repository = match (registry, path.contains('/')) {
            ("docker.io", false) => format!("library/{path}"),
            _ => path.to_owned(),
        };
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Some(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// The repository with its registry, as in `RepoDigests`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The way Docker shows it: without `docker.io/library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

/// Whether a text is a tag. One that is makes a safe file name.
pub(super) fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= 128 && bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

/// Whether a text is a repository (without its registry). One that is makes a safe relative path.
pub(super) fn is_repository(text: &str) -> bool {
    text.len() <= 255 && text.split('/').all(is_path_component)
}

/// Lower-case words joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(first) || !word(last) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalized_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, full) in [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:7", "docker.io/library/redis:7"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/todo:v1", "localhost:5000/todo:v1"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("index.docker.io/library/redis", "docker.io/library/redis:latest"),
            (&format!("redis@{digest}"), &format!("docker.io/library/redis@{digest}")),
            (&format!("a.b/c:1@{digest}"), &format!("a.b/c:1@{digest}")),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "UPPER",
            "a//b",
            "-a",
            "a:",
            "a:b:c",
            "a@sha256:12",
            "a b",
            "../x",
            "x/../y",
            "a.b:99999/c",
            ":5000/x",
            "a:-t",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_familiar_form_drops_what_docker_drops() {
        assert_eq!(Reference::parse("redis").unwrap().familiar(), "redis:latest");
        assert_eq!(Reference::parse("docker.io/me/app:1").unwrap().familiar(), "me/app:1");
        assert_eq!(Reference::parse("q.io/library/x:1").unwrap().familiar(), "q.io/library/x:1");
    }
}
