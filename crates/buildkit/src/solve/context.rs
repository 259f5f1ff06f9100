//! A build's files: the Dockerfile, what `.dockerignore` leaves of the context, and contexts with names, fetched from
//! the client into directories that go with the build.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use builder::dockerfile::{Command, Dockerfile, MountKind};
use builder::{Access, Context, NamedContext, Repository};
use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

use super::attributes::{Description, Named, is_true};
use super::failed::Failed;
use crate::Inner;
use crate::progress::Board;
use crate::session::{Session, SessionAgents, SessionSecrets, Sessions, Upload, receive_upload};
use crate::sync::{Limits, Patterns, receive};
use crate::wire::reference_of;

/// No honest Dockerfile is longer.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// Bytes of a context that is an archive.
const MAX_ARCHIVE: u64 = 64 << 30;

/// Where a build's files come from.
pub(crate) struct Files<'a> {
    pub sessions: &'a Sessions,
    pub session: &'a Session,
    pub description: &'a Description,
    pub board: &'a Board,
    /// Goes with the build.
    pub place: &'a TempDir,
}

/// The Dockerfile, and what is to be left out of the context.
pub(crate) struct Definition {
    pub name: String,
    pub text: String,
    /// `.dockerignore`'s lines; `None` as long as nobody looked.
    ignore: Option<Vec<String>>,
    /// The whole context, where it is an archive.
    archive: Option<PathBuf>,
    /// The whole context, where it is a repository.
    repository: Option<PathBuf>,
}

impl Files<'_> {
    /// Finds the Dockerfile.
    pub async fn definition(&self) -> Result<Definition, Failed> {
        let own = self.description.own_dockerfile;
        let elsewhere =
            self.description.archive.is_some().then(String::new).or_else(|| self.description.remote.clone());
        match elsewhere {
            None => self.local_definition().await,
            Some(remote) if self.description.archive.is_none() && Repository::parse(&remote).is_some() => {
                let task = format!("[internal] load git source {remote}");
                let directory = self.check_out(&remote, task, "repository").await?;
                let (name, repository) = (self.description.filename.clone(), Some(directory.clone()));
                if own {
                    return Ok(Definition { repository, ..self.local_definition().await? });
                }
                let missing =
                    || Failed::words(format!("failed to read dockerfile: open {name}: no such file or directory"));
                let text = read_below(&directory, &name)?.ok_or_else(missing)?;
                Ok(Definition { name, text, ignore: Some(Vec::new()), archive: None, repository })
            }
            Some(remote) => {
                let (archive, text) = self.remote(&remote).await?;
                match (text, archive) {
                    _ if own => {
                        let definition = self.local_definition().await?;
                        Ok(Definition { archive: Some(self.place.path().join("archive")), ..definition })
                    }
                    // Not an archive: the Dockerfile itself.
                    (Some(text), _) => {
                        let (name, ignore) = ("Dockerfile".into(), Some(Vec::new()));
                        Ok(Definition { name, text, ignore, archive: None, repository: None })
                    }
                    (None, archive) => {
                        let (path, name) = (archive.clone(), self.description.filename.clone());
                        let text = blocking(move || dockerfile_of(&path, &name)).await?;
                        let name = self.description.filename.clone();
                        Ok(Definition { name, text, ignore: None, archive: Some(archive), repository: None })
                    }
                }
            }
        }
    }

    async fn local_definition(&self) -> Result<Definition, Failed> {
        let name = self.description.filename.clone();
        let task = self.board.task(format!("[internal] load build definition from {name}"));
        let base = name.rsplit('/').next().unwrap_or_default();
        let mut wanted = vec![name.clone(), format!("{name}.dockerignore")];
        if base == "Dockerfile" {
            wanted.push(format!("{}dockerfile", name.strip_suffix(base).unwrap_or_default()));
        }
        let patterns = Patterns { follow: wanted.clone(), ..Patterns::default() };
        let directory = self.place.path().join("definition");
        let fetched = self.fetch(&self.description.dockerfile_directory, &patterns, &directory, |_| ()).await;
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(error) => {
                task.fail(&error.to_string());
                return Err(error);
            }
        };
        task.amount_done("transferring dockerfile:", bytes);
        let read = |path: &str| read_below(&directory, path);
        let text = match read(&name)? {
            Some(text) => Some(text),
            None => wanted.get(2).map(|path| read(path)).transpose()?.flatten(),
        };
        let Some(text) = text else {
            let error = format!("failed to read dockerfile: open {base}: no such file or directory");
            task.fail(&error);
            return Err(Failed::words(error));
        };
        if text.trim().is_empty() {
            let error = format!("the Dockerfile ({name}) cannot be empty");
            task.fail(&error);
            return Err(Failed::words(error));
        }
        let ignore = read(&wanted[1])?.map(|text| lines(&text));
        task.done();
        Ok(Definition { name: base.to_owned(), text, ignore, archive: None, repository: None })
    }

    /// Fetches the main context, as much of it as the Dockerfile can name.
    pub async fn context(
        &self,
        definition: &mut Definition,
        dockerfile: &Dockerfile,
        whole: bool,
    ) -> Result<Context, Failed> {
        if let Some(archive) = &definition.archive {
            let file = File::open(archive).map_err(|error| Failed::words(format!("read the context: {error}")))?;
            return Ok(Context::Tar(Box::new(file)));
        }
        if let Some(directory) = &definition.repository {
            // As BuildKit: what is committed is meant, whatever its `.dockerignore` says.
            return Ok(Context::Received(directory.clone()));
        }
        if self.description.remote.is_some() || self.description.archive.is_some() {
            return Ok(Context::None);
        }
        let follow = match wanted(dockerfile) {
            Wanted::All => Vec::new(),
            _ if whole => Vec::new(),
            Wanted::Nothing => return self.nothing(),
            Wanted::Paths(paths) => paths,
        };
        let name = &self.description.context_directory;
        if definition.ignore.is_none() {
            let task = self.board.task("[internal] load .dockerignore");
            let directory = self.place.path().join("ignore");
            let patterns = Patterns { follow: vec![".dockerignore".into()], ..Patterns::default() };
            let bytes = match self.fetch(name, &patterns, &directory, |_| ()).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    task.fail(&error.to_string());
                    return Err(error);
                }
            };
            task.amount_done("transferring context:", bytes);
            definition.ignore =
                Some(read_below(&directory, ".dockerignore")?.map(|text| lines(&text)).unwrap_or_default());
            task.done();
        }
        let exclude = definition.ignore.clone().unwrap_or_default();
        let task = self.board.task("[internal] load build context");
        let directory = self.transfer(task, name, &Patterns { exclude, follow }, "context").await?;
        Ok(Context::Received(directory))
    }

    fn nothing(&self) -> Result<Context, Failed> {
        let path = self.place.path().join("nothing");
        std::fs::create_dir(&path).map_err(|error| Failed::words(format!("create {}: {error}", path.display())))?;
        Ok(Context::Received(path))
    }

    /// Fetches the contexts that have names.
    pub async fn named(
        &self,
        inner: &Arc<Inner>,
        inputs: &BTreeMap<String, Vec<u8>>,
    ) -> Result<BTreeMap<String, NamedContext>, Failed> {
        let mut found = BTreeMap::new();
        for (number, (name, context)) in self.description.contexts.iter().enumerate() {
            let context = match context {
                Named::Image(image) => NamedContext::Image(image.clone()),
                Named::Input(input) => {
                    let invalid = || Failed::words(format!("invalid input {input} for {name}"));
                    let reference = inputs.get(input).and_then(|graph| reference_of(graph)).ok_or_else(invalid)?;
                    let job = inner.jobs.of_reference(&reference).ok_or_else(invalid)?;
                    NamedContext::Image(super::evaluate(inner, &job, &reference).await?)
                }
                Named::Repository(address) => {
                    let (task, place) = (format!("[context {name}] {address}"), format!("named-{number}"));
                    NamedContext::Directory(self.check_out(address, task, &place).await?)
                }
                Named::Local(directory) => {
                    let ignore = self.place.path().join(format!("named-ignore-{number}"));
                    let patterns = Patterns { follow: vec![".dockerignore".into()], ..Patterns::default() };
                    let task = self.board.task(format!("[context {name}] load .dockerignore"));
                    let bytes = self.fetch(directory, &patterns, &ignore, |_| ()).await?;
                    task.amount_done(&format!("transferring {name}:"), bytes);
                    task.done();
                    let exclude = read_below(&ignore, ".dockerignore")?.map(|text| lines(&text)).unwrap_or_default();
                    let task = self.board.task(format!("[context {name}] load from client"));
                    let patterns = Patterns { exclude, ..Patterns::default() };
                    let place = format!("named-{number}");
                    NamedContext::Directory(self.transfer(task, directory, &patterns, &place).await?)
                }
            };
            found.insert(name.clone(), context);
        }
        Ok(found)
    }

    /// Fetches with a line that grows.
    async fn transfer(
        &self,
        mut task: crate::progress::Task,
        name: &str,
        patterns: &Patterns,
        place: &str,
    ) -> Result<PathBuf, Failed> {
        let line = format!("transferring {name}:");
        let directory = self.place.path().join(place);
        let fetched = self.fetch(name, patterns, &directory, |bytes| task.amount(&line, bytes)).await;
        if let Ok(bytes) = fetched {
            task.amount_done(&line, bytes);
        }
        task.ended(&fetched);
        fetched.map(|_| directory)
    }

    /// Fills a new directory from the client's of that name.
    async fn fetch(
        &self,
        name: &str,
        patterns: &Patterns,
        directory: &Path,
        progress: impl FnMut(u64),
    ) -> Result<u64, Failed> {
        let session = match self.description.sessions.get(name) {
            Some(id) => self.sessions.get(id).await.map_err(|error| Failed::words(error.to_string()))?,
            None => self.session.clone(),
        };
        let root = root(directory).map_err(|error| Failed::words(format!("{}: {error}", directory.display())))?;
        receive(&session.channel, name, patterns, root, Limits::default(), progress)
            .await
            .map_err(|error| Failed::words(format!("transferring {name}: {error}")))
    }

    /// Fetches a repository's files; answers where they are.
    async fn check_out(&self, address: &str, task: String, place: &str) -> Result<PathBuf, Failed> {
        let task = self.board.task(task);
        let unknown = || Failed::words(format!("unknown build context {address}"));
        let repository = Repository::parse(address).ok_or_else(unknown)?;
        let keep_git = self.description.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let keep_git = keep_git.is_some_and(|value| is_true(value));
        let access = Access {
            agents: Some(Arc::new(SessionAgents(self.session.clone()))),
            secrets: Some(Arc::new(SessionSecrets(self.session.clone()))),
        };
        let files = repository.check_out(&self.place.path().join(place), MAX_ARCHIVE, keep_git, &access).await;
        task.ended(&files);
        files.map(|files| files.directory).map_err(Failed::words)
    }

    /// Fetches a context that is not the client's directory: an archive, or a Dockerfile, whose text is returned.
    async fn remote(&self, remote: &str) -> Result<(PathBuf, Option<String>), Failed> {
        let path = self.place.path().join("archive");
        if let Some(archive) = &self.description.archive {
            std::fs::rename(archive, &path).map_err(|error| Failed::words(format!("take the context: {error}")))?;
        } else if let Some(upload) = Upload::parse(remote) {
            let task = self.board.task("[internal] load remote build context");
            let file = tokio::fs::File::create(&path).await.map_err(|error| Failed::words(error.to_string()))?;
            receive_upload(self.session, &upload, file, MAX_ARCHIVE).await.map_err(Failed::words)?;
            task.done();
        } else if remote.starts_with("http://") || remote.starts_with("https://") {
            let task = self.board.task("[internal] load remote build context");
            let fetched = builder::download(remote, &path, MAX_ARCHIVE).await;
            fetched.map_err(|error| Failed::words(format!("failed to load {remote}: {error}")))?;
            task.done();
        } else {
            return Err(Failed::words(format!("unknown build context {remote}")));
        }
        let archive = path.clone();
        let text = blocking(move || text_of(&archive)).await?;
        Ok((path, text))
    }
}

/// What a Dockerfile can take from the main context.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Paths(Vec<String>),
    All,
}

/// Whether a source of `ADD` comes from elsewhere.
fn is_fetched(source: &str) -> bool {
    source.contains("://") || Repository::parse(source).is_some()
}

/// The sources that a Dockerfile names; all where variables or roots stand for them.
fn wanted(dockerfile: &Dockerfile) -> Wanted {
    let mut paths = Vec::new();
    let mut any = false;
    let mut add = |source: &str| {
        any = true;
        let plain = source.trim_start_matches('/').trim_start_matches("./").trim_end_matches('/');
        let odd = plain.is_empty() || plain == "." || plain.contains('$') || plain.split('/').any(|part| part == "..");
        if odd || plain.contains(['\\', '[', '!']) {
            return false;
        }
        paths.push(plain.to_owned());
        true
    };
    let mut all = false;
    for instruction in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
        match &instruction.command {
            Command::Copy(copying) | Command::Add(copying) if copying.from.is_none() => {
                for source in copying.sources.iter().filter(|source| !is_fetched(source)) {
                    all |= !add(source);
                }
            }
            Command::Run { mounts, .. } => {
                for mount in mounts {
                    if let MountKind::Bind { from: None, source, .. } = &mount.kind {
                        all |= !add(source);
                    }
                }
            }
            _ => {}
        }
    }
    match (any, all) {
        (false, _) => Wanted::Nothing,
        (true, true) => Wanted::All,
        (true, false) => Wanted::Paths(paths),
    }
}

/// A `.dockerignore`'s patterns, as clients take them: without slashes around them.
fn lines(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    let clean = |line: &str| {
        let (not, pattern) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
        let pattern = builder::pattern::clean(pattern);
        (!pattern.is_empty()).then(|| format!("{not}{pattern}"))
    };
    lines.filter_map(clean).collect()
}

/// A new directory, opened.
fn root(path: &Path) -> std::io::Result<OwnedFd> {
    std::fs::create_dir(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A text in a directory that a client filled: links in it lead nowhere else.
fn read_below(directory: &Path, path: &str) -> Result<Option<String>, Failed> {
    use rustix::fs::{ResolveFlags, openat2};
    let failed = |error: std::io::Error| Failed::words(format!("failed to read {path}: {error}"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat2(&root, path.trim_start_matches('/'), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_DOCKERFILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// A file's text, if it is no archive.
fn text_of(path: &Path) -> Result<Option<String>, Failed> {
    let failed = |error: std::io::Error| Failed::words(format!("read the context: {error}"));
    let file = File::open(path).map_err(failed)?;
    if builder::is_archive(&file).map_err(failed)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_DOCKERFILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The Dockerfile in an archive.
fn dockerfile_of(archive: &Path, name: &str) -> Result<String, Failed> {
    let failed = |error: std::io::Error| Failed::words(format!("read the context: {error}"));
    let found = builder::read_in_archive(File::open(archive).map_err(failed)?, name, MAX_DOCKERFILE).map_err(failed)?;
    let text = found
        .ok_or_else(|| Failed::words(format!("failed to read dockerfile: open {name}: no such file or directory")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failed> + Send + 'static) -> Result<T, Failed> {
    let panicked = |panic: tokio::task::JoinError| Err(Failed::words(format!("interrupted: {panic}")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_for_what_the_dockerfile_names() {
        let of = |text: &str| wanted(&Dockerfile::parse(text).unwrap());
        assert_eq!(of("FROM a\nRUN b\nCOPY --from=x /y /y\nADD https://x/y /"), Wanted::Nothing);
        let paths = |paths: &[&str]| Wanted::Paths(paths.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(of("FROM a\nCOPY ./a/ /b* c/\nADD d /"), paths(&["a", "b*", "d"]));
        assert_eq!(of("FROM a\nRUN --mount=target=/x,source=s true"), paths(&["s"]));
        for text in ["COPY . /", "COPY $A /", "ADD a / b/", "RUN --mount=target=/x true", "COPY ../x /"] {
            assert_eq!(of(&format!("FROM a\nCOPY y /\n{text}")), Wanted::All, "{text}");
        }
    }

    #[test]
    fn patterns_are_cleaned_as_dockers_client_does() {
        assert_eq!(lines("\u{feff}# no\n /a/ \n\n!b/./c\n.\n**/x"), ["a", "!b/c", "**/x"]);
    }

    #[test]
    fn a_dockerfile_that_is_a_link_is_read_within_its_directory_alone() {
        let place = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", place.path().join("out")).unwrap();
        std::os::unix::fs::symlink("/file", place.path().join("in")).unwrap();
        std::fs::write(place.path().join("file"), "text").unwrap();
        std::fs::create_dir(place.path().join("directory")).unwrap();
        assert_eq!(read_below(place.path(), "in").unwrap().as_deref(), Some("text"));
        assert_eq!(read_below(place.path(), "out").unwrap(), None);
        assert!(read_below(place.path(), "directory").is_err());
    }
}
