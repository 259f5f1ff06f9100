//! Follows a log as it is written and rotated, woken by inotify.

use std::{
    future::Future,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::Path,
    pin::Pin,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

use super::{
    read::{Output, Reader},
    tail,
};

/// Tells of changes in a log's directory.
pub struct Watch {
    inotify: AsyncFd<Descriptor>,
}

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Watches the directory of `path`, which is made if it is missing.
    pub fn new(path: &Path) -> io::Result<Self> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(directory)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF;
        inotify.add_watch(directory, changes)?;
        // SAFETY: the descriptor is owned by the value that is registered, which always names the same one.
        let inotify = unsafe { AsyncFd::register(Descriptor(inotify)) }.map_err(io::Error::from)?;
        Ok(Self { inotify })
    }

    /// Waits for a change; all that came together count as one.
    async fn changed(&self) -> io::Result<()> {
        loop {
            let mut guard = self.inotify.readable().await?;
            let mut any = false;
            loop {
                match self.inotify.get_ref().0.read_events() {
                    Ok(events) => any |= !events.is_empty(),
                    Err(Errno::EAGAIN) => {
                        guard.clear_ready();
                        break;
                    }
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if any {
                return Ok(());
            }
        }
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
            changed = watch.changed() => changed?,
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
