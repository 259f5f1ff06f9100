//! A configuration that follows its file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{ConfigError, FileWatch, Serving};

/// A configuration read from a file, and read again when the file changes, on SIGHUP and on `POST /-/reload`.
///
/// A version that cannot be used is refused aloud and the one before it goes on. Work under way keeps the version that it
/// began with: it holds an `Arc` of it.
pub struct Live<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

type Parse<T> = Box<dyn Fn(&str) -> Result<T, ConfigError> + Send + Sync>;

struct Inner<T> {
    path: PathBuf,
    parse: Parse<T>,
    /// The text last read, usable or not: the same text is judged once.
    seen: Mutex<String>,
    current: watch::Sender<Arc<T>>,
}

impl<T: Send + Sync + 'static> Live<T> {
    /// Reads the file for the first time. Errors that `parse` returns get the file's name, and the line of their field.
    ///
    /// # Errors
    /// If the file cannot be read or used.
    pub fn open(
        path: impl Into<PathBuf>,
        parse: impl Fn(&str) -> Result<T, ConfigError> + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let path = path.into();
        let text = read(&path)?;
        let first = parse(&text).map_err(|error| error.located_in(&text).in_file(&path))?;
        let (current, _) = watch::channel(Arc::new(first));
        Ok(Self { inner: Arc::new(Inner { path, parse: Box::new(parse), seen: Mutex::new(text), current }) })
    }

    /// The version in force.
    pub fn current(&self) -> Arc<T> {
        self.inner.current.borrow().clone()
    }

    /// Tells of each new version.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.inner.current.subscribe()
    }

    /// Reads the file anew. Returns whether there is a new version.
    ///
    /// # Errors
    /// If the file cannot be read or used; the version in force stays in force.
    pub fn reload(&self) -> Result<bool, ConfigError> {
        let text = read(&self.inner.path)?;
        let mut seen = self.inner.seen.lock();
        // A refused text is judged again, so that whoever asks is told why.
        let next = (self.inner.parse)(&text).map_err(|error| error.located_in(&text).in_file(&self.inner.path));
        let changed = *seen != text;
        *seen = text;
        let next = next?;
        if changed {
            self.inner.current.send_replace(Arc::new(next));
        }
        Ok(changed)
    }

    /// Follows the file until the process ends.
    pub fn follow(&self, serving: &Serving) {
        let live = self.clone();
        serving.admin().on_reload(move || live.reload());
        let (live, serving) = (self.clone(), serving.clone());
        tokio::spawn(async move {
            let mut watch = match FileWatch::new([&live.inner.path]) {
                Ok(watch) => watch,
                Err(error) => {
                    tracing::warn!(%error, file = %live.inner.path.display(), "the file cannot be watched: a change is taken up on SIGHUP or POST /-/reload only");
                    return;
                }
            };
            // Compared before the first event, too: the file may have changed since it was opened.
            loop {
                let same = std::fs::read_to_string(&live.inner.path).is_ok_and(|text| text == *live.inner.seen.lock());
                if !same {
                    serving.admin().reload();
                }
                if watch.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::whole(format!("cannot be read: {error}")).in_file(path))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Flags, from_yaml};

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: Flags,
    }

    fn number(text: &str) -> Result<u32, ConfigError> {
        from_yaml::<u32>(text)
    }

    #[tokio::test]
    async fn what_changes_between_the_first_reading_and_the_watch_is_taken_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("size.yaml");
        std::fs::write(&path, "1").unwrap();
        let live = Live::open(&path, number).unwrap();
        std::fs::write(&path, "2").unwrap();
        let mut versions = live.subscribe();
        live.follow(&Serving::detached(Only::parse_from(["test"]).flags));
        tokio::time::timeout(std::time::Duration::from_secs(60), versions.changed())
            .await
            .expect("it is told of")
            .unwrap();
        assert_eq!(*live.current(), 2);
    }

    #[test]
    fn a_broken_file_is_refused_and_the_old_version_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("size.yaml");
        std::fs::write(&path, "1").unwrap();
        let live = Live::open(&path, number).unwrap();
        std::fs::write(&path, "many").unwrap();
        let error = live.reload().unwrap_err();
        assert_eq!((error.line, error.file.as_deref()), (Some(1), Some(path.as_path())));
        assert!(live.reload().is_err(), "a second question gets the same answer");
        assert_eq!(*live.current(), 1);
        std::fs::write(&path, "2").unwrap();
        assert_eq!(live.reload(), Ok(true));
        assert_eq!(*live.current(), 2);
        assert_eq!(live.reload(), Ok(false), "the same text is no new version");
        std::fs::remove_file(&path).unwrap();
        assert!(live.reload().is_err());
        assert_eq!(*live.current(), 2);
    }
}
