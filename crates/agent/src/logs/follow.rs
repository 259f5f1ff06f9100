//! Follows a log as it is written and rotated, woken by inotify.

use std::{future::Future, io, path::Path, pin::Pin};

use directory_watch::{DirectoryWatch, Kinds};

use super::{
    read::{Output, Reader},
    tail,
};

/// Tells of changes in a log's directory.
pub struct Watch(DirectoryWatch);

impl Watch {
    /// Watches the directory of `path`, which is made if it is missing.
    pub fn new(path: &Path) -> io::Result<Self> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(directory)?;
        let watch = DirectoryWatch::new()?;
        watch.add(directory, Kinds::IN_MODIFY | Kinds::IN_CREATE | Kinds::IN_MOVED_TO | Kinds::IN_DELETE_SELF)?;
        Ok(Self(watch))
    }
}

/// Goes on from `reader` until `ended` and all is read, or the client is gone.
pub async fn follow(
    watch: Watch,
    path: &Path,
    mut reader: Option<Reader>,
    mut out: Output,
    mut ended: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> io::Result<()> {
    let mut over = false;
    loop {
        if let Some(reader) = &mut reader
            && !reader.drain(&mut out).await?
        {
            return Ok(());
        }
        let mut newer = tail::after(path, reader.as_ref().map(Reader::inode))?;
        if let Some(newest) = newer.pop() {
            // Rotated, perhaps more than once. Between the last read and the rotation the old file may have grown.
            let old = reader.take();
            for mut finished in old.into_iter().chain(newer.into_iter().map(Reader::new)) {
                if !finished.drain(&mut out).await? {
                    return Ok(());
                }
            }
            reader = Some(Reader::new(newest));
            continue;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            changed = watch.0.events() => drop(changed?),
            () = &mut ended => over = true,
            () = out.closed() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use bytes::Bytes;
    use tokio::sync::{mpsc, oneshot};

    use super::super::{Options, Source, send};

    async fn next(chunks: &mut mpsc::Receiver<Bytes>) -> String {
        let chunk = tokio::time::timeout(Duration::from_secs(10), chunks.recv()).await.expect("in time");
        chunk.map(|c| String::from_utf8_lossy(&c).into_owned()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_over_a_rotation_and_ends_with_its_container() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c/0.log");
        let (end, ended) = oneshot::channel::<()>();
        let ended = Box::pin(async move { drop(ended.await) });
        let (sender, mut chunks) = mpsc::channel(16);
        let source = Source { path: path.clone(), ended: Some(ended) };
        let task = tokio::spawn(send(source, Options::default(), sender));
        let write = |text: &str| {
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).expect("open");
            writeln!(file, "2024-01-01T00:00:01Z stdout F {text}").expect("written");
        };
        write("one");
        assert_eq!(next(&mut chunks).await, "one\n");
        write("two");
        assert_eq!(next(&mut chunks).await, "two\n");
        std::fs::rename(&path, path.with_extension("log.1")).expect("renamed");
        write("three");
        assert_eq!(next(&mut chunks).await, "three\n");
        // Twice before anyone looks, the old file having grown.
        write("four");
        let older = path.with_extension("log.2");
        std::fs::rename(path.with_extension("log.1"), &older).expect("renamed");
        std::fs::rename(&path, path.with_extension("log.1")).expect("renamed");
        write("five");
        std::fs::rename(&older, path.with_extension("log.3")).expect("renamed");
        std::fs::rename(path.with_extension("log.1"), &older).expect("renamed");
        std::fs::rename(&path, path.with_extension("log.1")).expect("renamed");
        write("six");
        let mut seen = String::new();
        while !seen.ends_with("six\n") {
            seen += &next(&mut chunks).await;
        }
        assert_eq!(seen, "four\nfive\nsix\n");
        write("seven");
        end.send(()).expect("heard");
        assert_eq!(next(&mut chunks).await, "seven\n");
        assert_eq!(next(&mut chunks).await, "");
        task.await.expect("ended").expect("no error");
    }
}
