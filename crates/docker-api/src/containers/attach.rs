//! Attach: a client's connection becomes the container's standard streams.

use std::io;
use std::sync::Arc;

use engine::{Streams, TerminalSize};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::record::Status;
use super::table::Waiting;
use super::{MAIN, life, logs};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};
use crate::http::{Call, Frames, Hijacked, Pending, Response, Version, empty, hijack, raw, websocket};

/// Which streams a client wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Attaches to a container; one that does not run yet is attached to when it starts.
pub(crate) async fn attach(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let wanted = Wanted { stdin: call.flag("stdin"), stdout: call.flag("stdout"), stderr: call.flag("stderr") };
    // By then dockerd has left HTTP, and says it in plain words.
    join(daemon, call, wanted, None).await.or_else(|error| Ok(raw(error.status, format!("{error}\r\n"))))
}

/// The same by WebSocket, where output is not told apart.
pub(crate) async fn attach_websocket(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    // Before, whoever came got all of them.
    let flag = |name: &str| call.version < Version(42) || call.flag(name);
    let wanted = Wanted { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr") };
    join(daemon, call, wanted, Some(websocket)).await
}

type TakeOver = fn(&mut Call) -> Result<(Response, Pending)>;

async fn join(daemon: Arc<Daemon>, mut call: Call, wanted: Wanted, other: Option<TakeOver>) -> Result<Response> {
    let keys = detach_keys(call.query("detachKeys"))?;
    let name = call.param("name");
    let container = daemon.containers.find(name)?;
    let record = container.snapshot();
    if record.state.status == Status::Paused {
        return Err(ApiError::conflict(format!("container {name} is paused, unpause the container before attach")));
    }
    if record.state.status == Status::Restarting {
        return Err(ApiError::conflict(format!("container {name} is restarting, wait until the container is running")));
    }
    let mut moments = container.moments.subscribe();
    let ends = moments.borrow_and_update().ends;
    let tty = record.options.tty;
    let (with_logs, stream) = (call.flag("logs"), call.flag("stream"));
    let frames = if other.is_some() { Frames::Raw } else { Frames::of(tty) };
    enum Source {
        Now(Streams),
        Later(oneshot::Receiver<Streams>),
    }
    let source = match (stream, life::sandbox(&daemon, &container)) {
        (false, _) => None,
        (true, Ok(sandbox)) => Some(Source::Now(sandbox.attach(MAIN, wanted.stdin).await?)),
        (true, Err(_)) => {
            let (sender, receiver) = oneshot::channel();
            container.waiting.lock().push(Waiting { stdin: wanted.stdin, streams: sender });
            Some(Source::Later(receiver))
        }
    };
    let (response, pending) = match other {
        Some(take_over) => take_over(&mut call)?,
        None => hijack(&mut call, frames)?,
    };
    daemon.events.emit("container", "attach", &record.id, record.event_attributes());
    tokio::spawn(async move {
        let Ok(mut connection) = pending.established().await else { return };
        if with_logs {
            logs::copy(&container, frames, wanted.stdout, wanted.stderr, &mut connection.writer).await;
        }
        let streams = match source {
            None => None,
            Some(Source::Now(streams)) => Some(streams),
            Some(Source::Later(receiver)) => receiver.await.ok(),
        };
        let Some(streams) = streams else {
            let _ = connection.writer.shutdown().await;
            return;
        };
        // Who wants to hear nothing, or what the process has closed, stays until the container ends, as who hears it.
        let ended = async {
            let _ = moments.wait_for(|moment| moment.ends > ends || moment.removed).await;
        };
        let detached = converse(connection, streams, wanted, frames, tty.then_some(keys), ended).await;
        if detached {
            let record = container.snapshot();
            daemon.events.emit("container", "detach", &record.id, record.event_attributes());
        }
    });
    Ok(response)
}

/// Copies between a client and a process until the process's output ends or the client detaches; says whether it did.
/// The connection is closed only when `settled` is over too.
pub(super) async fn converse(
    connection: Hijacked,
    streams: Streams,
    wanted: Wanted,
    frames: Frames,
    keys: Option<Vec<u8>>,
    settled: impl Future<Output = ()>,
) -> bool {
    let Hijacked { reader, mut writer } = connection;
    let Streams { stdin, stdout, stderr } = streams;
    let (stdout, stderr) = (stdout.filter(|_| wanted.stdout), stderr.filter(|_| wanted.stderr));
    let has_output = stdout.is_some() || stderr.is_some();
    let stdin = stdin.filter(|_| wanted.stdin);
    let has_input = stdin.is_some();
    let input = forward_input(reader, stdin, keys);
    let output = async {
        forward_output(&mut writer, stdout, stderr, frames).await;
        settled.await;
        let _ = writer.shutdown().await;
    };
    tokio::pin!(input, output);
    let mut reading = true;
    loop {
        tokio::select! {
            end = &mut input, if reading => {
                reading = false;
                match end {
                    End::Detached => return true,
                    // Nothing goes either way any more.
                    End::Gone if !has_output && has_input => return false,
                    End::Gone => {}
                }
            }
            () = &mut output, if has_output || !has_input => return false,
            else => return false,
        }
    }
}

enum End {
    Detached,
    Gone,
}

async fn forward_input(mut reader: impl AsyncRead + Unpin, stdin: Option<engine::Input>, keys: Option<Vec<u8>>) -> End {
    let mut stdin = stdin;
    let mut detector = keys.map(Detector::new);
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let Some(to) = &mut stdin else { continue };
        let (bytes, detached) = match &mut detector {
            Some(detector) => detector.feed(&buffer[..count]),
            None => (buffer[..count].to_vec(), false),
        };
        if to.write_all(&bytes).await.is_err() {
            // The process does not read any more; the client's words are dropped.
            stdin = None;
        }
        if detached {
            return End::Detached;
        }
    }
    drop(stdin);
    End::Gone
}

async fn forward_output(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut stdout: Option<engine::Output>,
    mut stderr: Option<engine::Output>,
    frames: Frames,
) {
    let (mut first, mut second) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    while stdout.is_some() || stderr.is_some() {
        let (stream, read, bytes) = tokio::select! {
            read = read(&mut stdout, &mut first), if stdout.is_some() => (1, read, &first),
            read = read(&mut stderr, &mut second), if stderr.is_some() => (2, read, &second),
        };
        match read {
            Ok(count @ 1..) => {
                if writer.write_all(&frames.frame(stream, &bytes[..count])).await.is_err() {
                    return;
                }
                let _ = writer.flush().await;
            }
            _ if stream == 1 => stdout = None,
            _ => stderr = None,
        }
    }
}

async fn read(output: &mut Option<engine::Output>, buffer: &mut [u8]) -> io::Result<usize> {
    match output {
        Some(output) => output.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// Finds the sequence of keys by which a user leaves.
pub(super) struct Detector {
    keys: Vec<u8>,
    seen: usize,
}

impl Detector {
    fn new(keys: Vec<u8>) -> Self {
        Self { keys, seen: 0 }
    }

    /// What is for the process, and whether the sequence is complete. A beginning of it is held back until it is
    /// known to be none.
    fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (through, true);
                }
                continue;
            }
            through.extend(&self.keys[..std::mem::take(&mut self.seen)]);
            if self.keys.first() == Some(byte) {
                self.seen = 1;
            } else {
                through.push(*byte);
            }
        }
        (through, false)
    }
}

/// `ctrl-p,ctrl-q`, or other such sequences.
pub(super) fn detach_keys(text: Option<&str>) -> Result<Vec<u8>> {
    let Some(text) = text else { return Ok(vec![16, 17]) };
    text.split(',')
        .map(|key| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
            (Some(letter), _) => match letter.as_bytes() {
                [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
                [b'@'] => Some(0),
                [b'['] => Some(27),
                [b'\\'] => Some(28),
                [b']'] => Some(29),
                [b'^'] => Some(30),
                [b'_'] => Some(31),
                _ => None,
            },
            (None, [letter]) => Some(*letter),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| ApiError::bad(format!("Invalid detach keys ({text}) provided")))
}

/// Sets the size of a container's terminal.
pub(crate) async fn resize(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let size = size_of(&call)?;
    let container = daemon.containers.find(call.param("name"))?;
    life::sandbox(&daemon, &container)?.resize_tty(MAIN, size).await?;
    let mut attributes = container.record().event_attributes();
    attributes.insert("height".into(), size.height.to_string());
    attributes.insert("width".into(), size.width.to_string());
    daemon.events.emit("container", "resize", &container.id, attributes);
    Ok(empty(StatusCode::OK))
}

/// The size in a query.
pub(super) fn size_of(call: &Call) -> Result<TerminalSize> {
    let number = |name: &str, what: &str| -> Result<u16> {
        let text = call.query(name).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let reason = if is_number { "value out of range" } else { "invalid syntax" };
        let number: Result<u32, _> = text.parse();
        let number = number.map_err(|_| ApiError::bad(format!("invalid resize {what} {text:?}: {reason}")))?;
        // No terminal is larger than what the kernel can say.
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    };
    let height = number("h", "height")?;
    Ok(TerminalSize { width: number("w", "width")?, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_to_leave_are_found_across_reads_and_held_back_until_then() {
        let mut detector = Detector::new(detach_keys(None).unwrap());
        assert_eq!(detector.feed(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(detector.feed(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(detector.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(detector.feed(b"\x11y"), (vec![], true));
    }

    #[test]
    fn keys_are_letters_or_with_control() {
        assert_eq!(detach_keys(Some("ctrl-a,x,ctrl-[")).unwrap(), [1, b'x', 27]);
        assert!(detach_keys(Some("ctrl-aa")).is_err());
    }
}
