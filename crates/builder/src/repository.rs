//! Repositories of git: as contexts, and as what `ADD` adds. One commit is fetched, never its history, and those that it
//! has as submodules with it.

mod reach;

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use git::{Found, Objects, Remote, Submodule, checkout, keep, resolve, settings_of, submodules, without_password};

pub use reach::Access;
use reach::Asking;

/// Repositories within repositories within a repository.
const DEEPEST: usize = 16;
/// Repositories within one, altogether.
const MOST_WITHIN: usize = 1000;

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

    /// Writes the files into `target`, which is made, those of submodules with them. With `keep_git` a `.git` of each
    /// commit lies beside its files, unless a part is meant.
    ///
    /// # Errors
    /// In words for a user: the server's, the agent's, or the disk's; a repository of more than `most` bytes.
    pub async fn check_out(
        &self,
        target: &Path,
        most: u64,
        keep_git: bool,
        access: &Access,
    ) -> Result<CheckedOut, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("failed to fetch {}: {error}", without_password(&self.url));
        let asking = access.asking(&self.url).await.map_err(|error| failed(&error))?;
        let remote = access.remote(&self.url, &asking).map_err(|error| failed(&error))?;
        let reference = self.reference.as_deref().unwrap_or("HEAD");
        let found = remote.find(reference).await.map_err(|error| failed(&error))?;
        let commit = found.commit.to_string();
        std::fs::create_dir_all(target).map_err(|error| failed(&error))?;
        let (place, whole) = (target.join("files"), keep_git && self.directory.is_empty());
        let access = access.within(&self.url);
        let fetching = Fetching { access, asking, scratch: target, most, keep_git: whole };
        let part = Part { url: &self.url, found, place: place.clone(), wanted: &self.directory };
        let mut within = 0;
        fetching.fetch(remote, part, 0, &mut within).await.map_err(|error| failed(&error))?;
        let directory = below(&place, &self.directory).map_err(|error| failed(&error))?;
        Ok(CheckedOut { directory, commit })
    }
}

/// What holds for a repository and all within it.
struct Fetching<'a> {
    /// For those within.
    access: Access,
    asking: Asking,
    /// Where packs are.
    scratch: &'a Path,
    most: u64,
    keep_git: bool,
}

/// One of them.
struct Part<'a> {
    url: &'a str,
    found: Found,
    /// Where its files go: a directory that is not there yet.
    place: PathBuf,
    /// The directory of it that is meant; empty for all.
    wanted: &'a str,
}

impl Fetching<'_> {
    /// Writes the files of one, then of those within.
    fn fetch<'a>(
        &'a self,
        remote: Remote,
        part: Part<'a>,
        depth: usize,
        within: &'a mut usize,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let Part { url, found, place, wanted } = part;
            let tag = found.tag.filter(|_| self.keep_git);
            let objects = remote.fetch(&tag.unwrap_or(found.commit), self.scratch, self.most).await;
            let objects = objects.map_err(|error| error.to_string())?;
            let (to, origin) = (place.clone(), self.keep_git.then(|| remote.url().to_owned()));
            let written = tokio::task::spawn_blocking(move || write(objects, &found, &to, origin)).await;
            let submodules = written.unwrap_or_else(|defect| Err(defect.to_string()))?;
            for submodule in submodules.iter().filter(|submodule| concerns(wanted, &submodule.path)) {
                let failed = |error: &dyn std::fmt::Display| format!("submodule {}: {error}", submodule.path);
                *within += 1;
                if depth == DEEPEST || *within > MOST_WITHIN {
                    return Err(failed(&"too many repositories within each other"));
                }
                let own = resolve(url, &submodule.url);
                let inner = self.access.remote(&own, &self.asking).map_err(|error| failed(&error))?;
                let place = place.join(&submodule.path);
                // It stands there as an empty directory.
                std::fs::remove_dir(&place).map_err(|error| failed(&error))?;
                let found = Found { commit: submodule.commit, name: None, tag: None };
                let wanted = wanted.strip_prefix(&format!("{}/", submodule.path)).unwrap_or_default();
                let part = Part { url: &own, found, place, wanted };
                self.fetch(inner, part, depth + 1, within).await.map_err(|error| failed(&error))?;
            }
            Ok(())
        })
    }
}

/// Whether a submodule at `path` has something of the directory that is meant, or is in it.
fn concerns(wanted: &str, path: &str) -> bool {
    let inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    wanted.is_empty() || wanted == path || inside(path, wanted) || inside(wanted, path)
}

/// The files of a commit, and a `.git` beside them if there is an origin to be told there; answers its submodules.
fn write(
    mut objects: Box<dyn Objects + Send>,
    found: &Found,
    target: &Path,
    origin: Option<String>,
) -> Result<Vec<Submodule>, String> {
    checkout(objects.as_mut(), &found.commit, target).map_err(|error| error.to_string())?;
    let within = submodules(objects.as_mut(), &found.commit).map_err(|error| error.to_string())?;
    if let Some(url) = origin {
        keep(objects.as_mut(), found, &url, target).map_err(|error| error.to_string())?;
        let config = std::fs::OpenOptions::new().append(true).open(target.join(".git/config"));
        let added =
            config.and_then(|mut config| std::io::Write::write_all(&mut config, settings_of(&within, &url).as_bytes()));
        added.map_err(|error| error.to_string())?;
    }
    Ok(within)
}

/// A directory of what was written. A link in it leads nowhere else.
fn below(all: &Path, directory: &str) -> Result<PathBuf, String> {
    match (all.canonicalize(), all.join(directory).canonicalize()) {
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

    #[test]
    fn submodules_are_fetched_where_they_have_part_in_what_is_meant() {
        for (wanted, path, concerned) in [
            ("", "a", true),
            ("a", "a", true),
            ("a/b", "a", true),
            ("a", "a/b", true),
            ("ab", "a", false),
            ("a", "ab", false),
            ("b", "a/b", false),
        ] {
            assert_eq!(concerns(wanted, path), concerned, "{wanted} {path}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_had_is_said_without_a_password() {
        let target = tempfile::tempdir().unwrap();
        let said = async |text: &str| {
            let repository = Repository::parse(text).unwrap();
            let access = Access::default();
            repository.check_out(&target.path().join("x"), 1 << 20, false, &access).await.unwrap_err()
        };
        assert!(said("git@host:a/b").await.contains("no SSH key \"default\" forwarded from the client"));
        assert!(said("git://127.0.0.1:1/a").await.contains("Connection refused"));
        let refused = said("http://me:secret@127.0.0.1:1/a.git").await;
        assert!(refused.contains("http://127.0.0.1:1/a.git") && !refused.contains("secret"), "{refused}");
    }
}
