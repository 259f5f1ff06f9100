//! Where a configuration comes from.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use http::Uri;
use http_ends::Client;

use super::kubernetes::{Api, ApiError};
use git::{CheckoutError, Remote, RemoteError, checkout};

/// The largest configuration that is taken, in bytes.
const MOST: usize = 16 << 20;
const MOST_PACK: u64 = 1 << 30;

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One file, by its address.
    Http(Uri),
    /// A mounted directory, such as that of a ConfigMap, or one file.
    Path(PathBuf),
    /// A ConfigMap by the Kubernetes API, whole or one key of it.
    ConfigMap {
        /// The pod's own if not given.
        namespace: Option<String>,
        /// Its name.
        name: String,
        /// One key; all if not given.
        key: Option<String>,
    },
    /// A directory or file of a git repository.
    Git {
        /// The repository's address.
        url: String,
        /// Branch, tag, reference or commit.
        reference: String,
        /// Within the repository; empty for the whole.
        path: PathBuf,
    },
}

/// A configuration as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// One file.
    File(Vec<u8>),
    /// Files by their names, which may lead into directories.
    Files(BTreeMap<String, Vec<u8>>),
}

/// A source that gave nothing. A retry may help.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It could not be asked.
    #[error(transparent)]
    Http(#[from] http_ends::Error),
    /// It says no.
    #[error("{0}: status {1}")]
    Status(Uri, u16),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// The Kubernetes API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The repository.
    #[error(transparent)]
    Git(#[from] RemoteError),
    /// The repository's files.
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    /// More than is taken.
    #[error("the configuration is larger than {MOST} bytes")]
    TooLarge,
}

impl FromStr for Source {
    type Err = String;

    /// `http://…`, `https://…`, `dir:PATH`, `configmap:[NAMESPACE/]NAME[#KEY]`, `git+URL[#REF[:PATH]]`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("dir:") {
            return if path.is_empty() { Err("dir: needs a path".into()) } else { Ok(Self::Path(path.into())) };
        }
        if let Some(rest) = text.strip_prefix("configmap:") {
            let (rest, key) = rest.split_once('#').map_or((rest, None), |(rest, key)| (rest, Some(key.to_owned())));
            let (namespace, name) =
                rest.split_once('/').map_or((None, rest), |(namespace, name)| (Some(namespace.to_owned()), name));
            let legal = |name: &str| {
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
            };
            if !legal(name) || namespace.as_ref().is_some_and(|namespace| !legal(namespace)) {
                return Err("configmap: needs [NAMESPACE/]NAME[#KEY]".into());
            }
            return Ok(Self::ConfigMap { namespace, name: name.to_owned(), key });
        }
        if let Some(rest) = text.strip_prefix("git+") {
            let (url, place) = rest.split_once('#').unwrap_or((rest, ""));
            let (reference, path) = place.split_once(':').unwrap_or((place, ""));
            let path = Path::new(path);
            if path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
                return Err("the path must lie within the repository".into());
            }
            let reference = if reference.is_empty() { "HEAD" } else { reference }.to_owned();
            return Ok(Self::Git { url: url.to_owned(), reference, path: path.to_owned() });
        }
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        if matches!(uri.scheme_str(), Some("http" | "https")) { Ok(Self::Http(uri)) } else { Err(wrong()) }
    }
}

fn wrong() -> String {
    "must be http://…, https://…, dir:PATH, configmap:[NAMESPACE/]NAME[#KEY] or git+URL[#REF[:PATH]]".into()
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(uri) => f.write_str(&http_ends::shown(uri)),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::ConfigMap { namespace, name, .. } => {
                write!(
                    f,
                    "ConfigMap {}{name}",
                    namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default()
                )
            }
            // A password in the address is nobody's business.
            Self::Git { url, reference, .. } => write!(f, "{} at {reference}", url.rsplit('@').next().unwrap_or(url)),
        }
    }
}

impl Source {
    /// Fetches the configuration.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn fetch(&self, client: &Client, deadline: Duration) -> Result<Content, SourceError> {
        match self {
            Self::Http(uri) => {
                let answer = client.get_following(uri, MOST, deadline).await?;
                match answer.status().as_u16() {
                    200 => Ok(Content::File(answer.into_body().to_vec())),
                    status => Err(SourceError::Status(uri.clone(), status)),
                }
            }
            Self::Path(path) => read(path),
            Self::ConfigMap { namespace, name, key } => {
                let mut files = Api::of_the_pod()?.config_map(namespace.as_deref(), name, deadline).await?;
                match key {
                    None => Ok(Content::Files(files)),
                    Some(key) => match files.remove(key) {
                        Some(content) => Ok(Content::File(content)),
                        None => Err(ApiError::NoKey(key.clone()).into()),
                    },
                }
            }
            Self::Git { url, reference, path } => {
                let remote = Remote::new(client.clone(), url, None, deadline)?;
                let commit = remote.resolve(reference).await?;
                let place = scratch().map_err(|error| SourceError::Io(std::env::temp_dir(), error))?;
                let mut pack = remote.fetch(&commit, &place.0, MOST_PACK).await?;
                let files = place.0.join("files");
                checkout(pack.as_mut(), &commit, &files)?;
                read_within(&files, path)
            }
        }
    }
}

/// A path of the repository must not lead out of it by a link.
fn read_within(root: &Path, path: &Path) -> Result<Content, SourceError> {
    let told = |error| SourceError::Io(path.to_owned(), error);
    let wanted = root.join(path).canonicalize().map_err(told)?;
    let root = root.canonicalize().map_err(told)?;
    if !wanted.starts_with(&root) {
        return Err(told(std::io::Error::other("leads out of the repository")));
    }
    read(&wanted)
}

/// Reads a file, or all files of a directory. Names that begin with `..` belong to the way Kubernetes mounts ConfigMaps.
fn read(path: &Path) -> Result<Content, SourceError> {
    let told = |path: &Path, error| SourceError::Io(path.to_owned(), error);
    let metadata = std::fs::metadata(path).map_err(|error| told(path, error))?;
    if !metadata.is_dir() {
        if metadata.len() > MOST as u64 {
            return Err(SourceError::TooLarge);
        }
        return std::fs::read(path).map(Content::File).map_err(|error| told(path, error));
    }
    let (mut files, mut total) = (BTreeMap::new(), 0);
    let mut waiting = vec![(path.to_owned(), String::new())];
    while let Some((directory, prefix)) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|error| told(&directory, error))? {
            let entry = entry.map_err(|error| told(&directory, error))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with("..") {
                continue;
            }
            let (path, name) = (entry.path(), format!("{prefix}{name}"));
            // A link to a directory is not followed: it may lead anywhere, or in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push((path, format!("{name}/")));
            } else if let Ok(metadata) = std::fs::metadata(&path)
                && metadata.is_file()
            {
                total += metadata.len();
                if total > MOST as u64 {
                    return Err(SourceError::TooLarge);
                }
                files.insert(name, std::fs::read(&path).map_err(|error| told(&path, error))?);
            }
        }
    }
    Ok(Content::Files(files))
}

/// A directory that is gone when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scratch() -> std::io::Result<Scratch> {
    let base = std::env::temp_dir();
    std::fs::create_dir_all(&base)?;
    for attempt in 0u32..1000 {
        let path = base.join(format!("hythe-config-{}-{attempt}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(Scratch(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_by_how_they_are_written() {
        let config_map = |namespace: Option<&str>, key: Option<&str>| Source::ConfigMap {
            namespace: namespace.map(Into::into),
            name: "app".into(),
            key: key.map(Into::into),
        };
        assert_eq!("configmap:app".parse(), Ok(config_map(None, None)));
        assert_eq!("configmap:web/app#a.yaml".parse(), Ok(config_map(Some("web"), Some("a.yaml"))));
        assert_eq!("dir:/etc/x".parse(), Ok(Source::Path("/etc/x".into())));
        let git = |reference: &str, path: &str| {
            Ok(Source::Git { url: "https://h/r.git".into(), reference: reference.into(), path: path.into() })
        };
        assert_eq!("git+https://h/r.git".parse(), git("HEAD", ""));
        assert_eq!("git+https://h/r.git#main:conf/app".parse(), git("main", "conf/app"));
        assert!(matches!("http://h/x".parse(), Ok(Source::Http(_))));
        for text in ["", "ftp://h/x", "/etc/x", "configmap:", "configmap:a/../b", "git+https://h/r#main:../x", "dir:"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
