//! What `up` tells: one line a phase on standard output, and the outcome to the process that detached it.

use std::{
    fs::File,
    io::Write,
    os::fd::{FromRawFd, RawFd},
    sync::Mutex,
    time::Instant,
};

/// Where lines go, and since when.
pub struct Progress {
    start: Instant,
    phase: Mutex<Instant>,
    notify: Mutex<Option<File>>,
}

impl Progress {
    /// `notify` is a pipe that this process inherited for nothing else.
    pub fn new(notify: Option<RawFd>) -> Self {
        let now = Instant::now();
        // SAFETY: the descriptor was made for this process by `detach` and is used nowhere else.
        let notify = notify.map(|fd| unsafe { File::from_raw_fd(fd) });
        Self { start: now, phase: Mutex::new(now), notify: Mutex::new(notify) }
    }

    /// A phase is over; prints how long it took.
    pub fn phase(&self, what: &str) {
        let mut phase = self.phase.lock().unwrap_or_else(|e| e.into_inner());
        self.say(&format!("{what} ({} ms)", phase.elapsed().as_millis()));
        *phase = Instant::now();
    }

    /// Prints a line.
    pub fn say(&self, line: &str) {
        println!("hythe: {line}");
        if let Some(pipe) = &mut *self.pipe() {
            let _ = writeln!(pipe, "{line}");
        }
    }

    /// The node is Ready: whoever waits may go.
    pub fn ready(&self) {
        self.say(&format!("ready in {} ms", self.start.elapsed().as_millis()));
        self.pipe().take();
    }

    /// It did not come to that.
    pub fn failed(&self, error: &anyhow::Error) {
        if let Some(mut pipe) = self.pipe().take() {
            let _ = writeln!(pipe, "error: {error:#}");
        }
    }

    fn pipe(&self) -> std::sync::MutexGuard<'_, Option<File>> {
        self.notify.lock().unwrap_or_else(|e| e.into_inner())
    }
}
