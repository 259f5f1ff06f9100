//! When the files in a directory change.

use std::{path::Path, time::Duration};

use directory_watch::{DirectoryWatch, Kinds};

/// Between looks where the kernel does not tell (upstream's `fileCheckFrequency`).
const FALLBACK: Duration = Duration::from_secs(20);
/// Files are often written one after the other: they are read together.
const SETTLE: Duration = Duration::from_millis(50);

/// Changes of one directory.
pub struct Changes {
    watch: Option<DirectoryWatch>,
}

impl Changes {
    /// Of a directory, which is made if it is missing.
    pub fn of(dir: &Path) -> Self {
        let watch = || {
            std::fs::create_dir_all(dir)?;
            let watch = DirectoryWatch::new()?;
            watch.add(dir, Kinds::IN_CLOSE_WRITE | Kinds::IN_MOVE | Kinds::IN_DELETE)?;
            Ok(watch)
        };
        let watched: std::io::Result<_> = watch();
        if let Err(error) = &watched {
            tracing::warn!(%error, dir = %dir.display(), "the manifests of static pods can't be watched: they are looked at now and then");
        }
        Self { watch: watched.ok() }
    }

    /// Resolves after a change.
    pub async fn next(&mut self) {
        let Some(watch) = &self.watch else { return tokio::time::sleep(FALLBACK).await };
        // What happened does not matter: everything is read anew.
        let pause = if watch.events().await.is_ok() { SETTLE } else { FALLBACK };
        tokio::time::sleep(pause).await;
    }
}
