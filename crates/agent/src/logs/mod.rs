//! Container logs: files in the CRI format, read with all of `kubectl logs`' options and followed by inotify.

mod follow;
pub mod line;
pub mod links;
mod read;
mod tail;

use std::{future::Future, io, path::PathBuf, pin::Pin};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only that many lines at the end.
    pub tail: Option<u64>,
    /// Only lines of that time and later.
    pub since: Option<Timestamp>,
    /// Each line with its time in front.
    pub timestamps: bool,
    /// No more bytes than that.
    pub limit: Option<u64>,
    /// Only one of the streams.
    pub stream: Stream,
}

/// Which of a container's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    /// Both, as they came.
    #[default]
    All,
    /// stdout
    Stdout,
    /// stderr
    Stderr,
}

/// A log.
pub struct Source {
    /// The file that is written now; rotated ones are `PATH.1`, `PATH.2`…, the last one being the oldest.
    pub path: PathBuf,
    /// Set to follow the log: resolves when nothing more will be written.
    pub ended: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Sends the log's text until its end, its limit, or until the receiver is gone.
pub async fn send(source: Source, options: Options, sink: mpsc::Sender<Bytes>) -> io::Result<()> {
    let path = source.path.clone();
    // Before anything is read, so that nothing written in between is missed.
    let watch = source.ended.is_some().then(|| follow::Watch::new(&path)).transpose()?;
    let mut out = read::Output::new(options.clone(), sink);
    let tail = options.tail;
    let mut current =
        tokio::task::spawn_blocking(move || tail::open(&path, tail)).await.map_err(io::Error::other)??;
    let mut last = current.pop();
    for old in current {
        let mut reader = read::Reader::new(old);
        if !reader.drain(&mut out).await? {
            return Ok(());
        }
    }
    let mut reader = last.take().map(read::Reader::new);
    if let Some(reader) = &mut reader
        && !reader.drain(&mut out).await?
    {
        return Ok(());
    }
    if let (Some(watch), Some(ended)) = (watch, source.ended) {
        follow::follow(watch, &source.path, reader, out, ended).await?;
    }
    Ok(())
}
