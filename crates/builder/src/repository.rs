//! Repositories of git: as contexts, and as what `ADD` adds. One commit is fetched, never its history.

use std::path::{Path, PathBuf};
use std::time::Duration;

use git::{Found, Remote, checkout, keep};
use http_ends::{Client, Names, Trust};

/// No honest repository takes longer.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What a text such as `https://host/name.git#branch:directory` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    url: String,
    /// A branch, a tag or a commit; the repository's own choice if none is given.
    reference: Option<String>,
    /// The part that is meant; empty for all.
    directory: String,
}

/// A commit's files.
#[derive(Debug)]
pub struct CheckedOut {
    /// The directory that was meant.
    pub directory: PathBuf,
    /// The commit.
    pub commit: String,
}

impl Repository {
    /// Takes what Docker takes for a repository: `git://`, `ssh://`, `git@`, `github.com/`, and `http[s]://….git`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let other = ["git://", "ssh://", "git@"].iter().any(|start| address.starts_with(start));
        let web = crate::fetch::is_url(address)
            && address.split('?').next().is_some_and(|address| address.trim_end_matches('/').ends_with(".git"));
        let url = match address.strip_prefix("github.com/") {
            Some(rest) => format!("https://github.com/{rest}"),
            None if other || web => address.to_owned(),
            None => return None,
        };
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        Some(Self { url, reference, directory: directory.trim_matches('/').to_owned() })
    }

    /// Writes the files into `target`, which is made. Submodules are empty directories there. With `keep_git` a `.git`
    /// of that commit lies beside them, unless a part is meant.
    ///
    /// # Errors
    /// In words for a user: the server's, or the disk's; a repository of more than `most` bytes.
    pub async fn check_out(&self, target: &Path, most: u64, keep_git: bool) -> Result<CheckedOut, String> {
        let failed = |error: &dyn std::fmt::Display| format!("failed to fetch {}: {error}", self.shown());
        if self.url.starts_with("git://") {
            return Err(failed(&"the git protocol is not spoken: use the repository's https address"));
        }
        let client = Client::new(Names::default(), Trust::System);
        let remote = Remote::new(client, &self.url, None, PATIENCE).map_err(|error| failed(&error))?;
        let reference = self.reference.as_deref().unwrap_or("HEAD");
        let found = remote.find(reference).await.map_err(|error| failed(&error))?;
        let commit = found.commit.to_string();
        let whole = keep_git && self.directory.is_empty();
        let wanted = found.tag.filter(|_| whole).unwrap_or(found.commit);
        std::fs::create_dir_all(target).map_err(|error| failed(&error))?;
        let objects = remote.fetch(&wanted, target, most).await.map_err(|error| failed(&error))?;
        let (target, directory, url) = (target.join("files"), self.directory.clone(), remote.url().to_owned());
        let origin = whole.then_some(url);
        let written = tokio::task::spawn_blocking(move || write(objects, &found, &target, &directory, origin)).await;
        let directory = written.unwrap_or_else(|defect| Err(defect.to_string())).map_err(|error| failed(&error))?;
        Ok(CheckedOut { directory, commit })
    }

    /// Its address without a password.
    fn shown(&self) -> String {
        match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            _ => self.url.clone(),
        }
    }
}

fn write(
    mut objects: Box<dyn git::Objects + Send>,
    found: &Found,
    target: &Path,
    directory: &str,
    origin: Option<String>,
) -> Result<PathBuf, String> {
    checkout(objects.as_mut(), &found.commit, target).map_err(|error| error.to_string())?;
    if let Some(url) = origin {
        keep(objects.as_mut(), found, &url, target).map_err(|error| error.to_string())?;
    }
    // A link in it leads nowhere else.
    let meant = target.join(directory);
    let (all, found) = (target.canonicalize(), meant.canonicalize());
    match (all, found) {
        (Ok(all), Ok(found)) if found.starts_with(&all) && found.is_dir() => Ok(found),
        _ => Err(format!("there is no directory {directory} in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_archives_and_split_as_docker_does() {
        let of = |text: &str| {
            Repository::parse(text).map(|found| (found.url, found.reference.unwrap_or_default(), found.directory))
        };
        let parts = |url: &str, reference: &str, directory: &str| {
            Some((url.to_owned(), reference.to_owned(), directory.to_owned()))
        };
        assert_eq!(of("https://x/y.git"), parts("https://x/y.git", "", ""));
        assert_eq!(of("http://x/y.git#main:a/b"), parts("http://x/y.git", "main", "a/b"));
        assert_eq!(of("https://x/y.git#:sub/"), parts("https://x/y.git", "", "sub"));
        assert_eq!(of("github.com/a/b#v1"), parts("https://github.com/a/b", "v1", ""));
        assert_eq!(of("git@github.com:a/b"), parts("git@github.com:a/b", "", ""));
        assert!(of("ssh://x/y").is_some() && of("git://x/y").is_some());
        assert!(of("https://x/y.tar.gz").is_none() && of("https://x/y").is_none() && of("dir.git").is_none());
    }

    #[tokio::test]
    async fn what_is_not_spoken_is_said_without_a_password() {
        let target = tempfile::tempdir().unwrap();
        let said = async |text: &str| {
            let repository = Repository::parse(text).unwrap();
            repository.check_out(&target.path().join("x"), 1 << 20, false).await.unwrap_err()
        };
        assert!(said("git@host:a/b").await.contains("ssh, which is not spoken"));
        assert!(said("git://host/a").await.contains("the git protocol is not spoken"));
        let refused = said("http://me:secret@127.0.0.1:1/a.git").await;
        assert!(refused.contains("http://127.0.0.1:1/a.git") && !refused.contains("secret"), "{refused}");
    }
}
