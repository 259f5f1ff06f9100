//! What libcontainer logs while it makes a container.
//!
//! Its errors name a step ("failed to prepare rootfs") but not the reason, which it only logs, and in another process
//! than the one that returns. So a worker's ERROR events go to a file in memory that its forks share.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The errors logged so far in this worker and its forks.
pub(super) struct Trace(File);

struct Recorder(Mutex<File>);

impl Trace {
    /// Records from now on; for a worker only, because it lasts as long as the process.
    pub fn start() -> io::Result<Self> {
        let fd: OwnedFd = nix::sys::memfd::memfd_create(c"trace", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
        let file = File::from(fd);
        let recorder = Recorder(Mutex::new(file.try_clone()?));
        tracing::subscriber::set_global_default(recorder).map_err(io::Error::other)?;
        Ok(Self(file))
    }

    /// The first error, which is the innermost.
    pub fn cause(mut self) -> Option<String> {
        let mut text = String::new();
        self.0.rewind().ok()?;
        self.0.read_to_string(&mut text).ok()?;
        text.lines().find(|line| !line.is_empty()).map(String::from)
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields).replace("\\\"", "'");
        if let Ok(mut file) = self.0.lock() {
            // One write a line: the file's position is shared with other processes.
            let _ = file.write_all(text.as_bytes());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
    }
}
