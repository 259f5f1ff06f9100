//! A container's standard streams: to its log and to whoever is attached.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::log::{Line, Log};
use super::protocol;
use crate::spec::TerminalSize;

/// One read. It lives on the stack, so it also bounds what an idle shim keeps.
const CHUNK: usize = 16 * 1024;

/// A client further behind than this holds the container's output back.
const MAX_PENDING: usize = 64 * 1024;

/// The streams of one container.
#[derive(Debug)]
pub(super) struct Streams {
    stdio: protocol::Stdio,
    log: Option<Log>,
    /// The writing end of the container's stdin (its terminal's master when it has one).
    stdin: Option<OwnedFd>,
    outputs: [Option<Output>; 2],
    clients: Vec<Client>,
    /// Of [`Client::id`].
    next_client: u64,
}

#[derive(Debug)]
struct Output {
    fd: OwnedFd,
    line: Line,
}

/// Someone attached.
#[derive(Debug)]
struct Client {
    id: u64,
    stdin: Option<OwnedFd>,
    /// What it typed that the container has not taken yet.
    typed: Vec<u8>,
    outputs: [Option<OwnedFd>; 2],
    pending: [Vec<u8>; 2],
}

/// Something of [`Streams`] to poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Output(usize),
    ClientInput(u64),
    ClientOutput(u64, usize),
    Stdin,
}

const NAMES: [&str; 2] = ["stdout", "stderr"];

pub(super) fn set_nonblocking(fd: impl AsFd) -> nix::Result<()> {
    let fd = fd.as_fd();
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

impl Streams {
    /// `outputs` are the reading ends of stdout and stderr, `stdin` the writing end.
    pub fn new(stdio: protocol::Stdio, stdin: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2]) -> io::Result<Self> {
        let log = stdio.log.clone().map(Log::open).transpose()?;
        for fd in outputs.iter().flatten().chain(&stdin) {
            set_nonblocking(fd)?;
        }
        let outputs = outputs.map(|fd| fd.map(|fd| Output { fd, line: Line::default() }));
        Ok(Self { stdio, log, stdin, outputs, clients: Vec::new(), next_client: 0 })
    }

    /// A terminal carries all streams.
    pub fn set_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        set_nonblocking(&master)?;
        if self.stdio.stdin {
            self.stdin = Some(master.try_clone()?);
        }
        self.outputs = [Some(Output { fd: master, line: Line::default() }), None];
        Ok(())
    }

    pub fn dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.dropped)
    }

    pub fn reopen_log(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::reopen)
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
        for client in &mut self.clients {
            client.stdin = None;
            client.typed = Vec::new();
        }
    }

    pub fn resize(&self, size: TerminalSize) {
        if let (true, Some(output)) = (self.stdio.tty, &self.outputs[0]) {
            set_size(output.fd.as_fd(), size);
        }
    }

    /// Connects a client; `fds` as [`protocol::RequestBody::Attach`] says.
    pub fn attach(&mut self, fds: Vec<OwnedFd>, without_stdin: bool) -> io::Result<()> {
        let mut fds = fds.into_iter();
        let stdin = if self.stdio.stdin { fds.next() } else { None };
        let stdin = stdin.filter(|_| !without_stdin);
        let outputs = [fds.next(), fds.next()];
        for fd in stdin.iter().chain(outputs.iter().flatten()) {
            set_nonblocking(fd)?;
        }
        let id = self.next_client;
        self.next_client += 1;
        self.clients.push(Client { id, stdin, typed: Vec::new(), outputs, pending: Default::default() });
        self.settle();
        Ok(())
    }

    /// What to wait for, and for which `poll` events.
    pub fn interests(&self) -> Vec<(Interest, BorrowedFd<'_>, libc::c_short)> {
        let mut found = Vec::new();
        let held_back = self.clients.iter().any(|client| client.pending.iter().any(|bytes| bytes.len() > MAX_PENDING));
        for (at, output) in self.outputs.iter().enumerate() {
            if let (Some(output), false) = (output, held_back) {
                found.push((Interest::Output(at), output.fd.as_fd(), libc::POLLIN));
            }
        }
        for client in &self.clients {
            if let (Some(fd), true) = (&client.stdin, client.typed.is_empty()) {
                found.push((Interest::ClientInput(client.id), fd.as_fd(), libc::POLLIN));
            }
            for (at, fd) in client.outputs.iter().enumerate() {
                if let Some(fd) = fd {
                    // Without output to send, only its going away is of interest (POLLERR comes unasked).
                    let events = if client.pending[at].is_empty() { 0 } else { libc::POLLOUT };
                    found.push((Interest::ClientOutput(client.id, at), fd.as_fd(), events));
                }
            }
        }
        if let (Some(stdin), true) = (&self.stdin, self.clients.iter().any(|client| !client.typed.is_empty())) {
            found.push((Interest::Stdin, stdin.as_fd(), libc::POLLOUT));
        }
        found
    }

    /// Acts on one that is ready.
    pub fn ready(&mut self, interest: Interest) {
        match interest {
            Interest::Output(at) => {
                self.read_output(at);
            }
            Interest::ClientInput(id) => self.read_client(id),
            Interest::ClientOutput(id, at) => {
                if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
                    // An empty write finds out whether anyone still reads.
                    client.flush(at, true);
                }
            }
            Interest::Stdin => self.write_stdin(),
        }
        self.settle();
    }

    /// Reads all that is there: the process has ended.
    pub fn drain(&mut self) {
        for (at, name) in NAMES.into_iter().enumerate() {
            while self.read_output(at) {}
            if let (Some(output), Some(log)) = (&mut self.outputs[at], &mut self.log) {
                log.finish(name, &mut output.line, SystemTime::now());
            }
            self.outputs[at] = None;
        }
        self.stdin = None;
        self.settle();
    }

    /// Reads once; whether there may be more.
    fn read_output(&mut self, at: usize) -> bool {
        let mut chunk = [0; CHUNK];
        let Some(output) = &mut self.outputs[at] else { return false };
        let now = SystemTime::now();
        match nix::unistd::read(&output.fd, &mut chunk) {
            Ok(count) if count > 0 => {
                let bytes = &chunk[..count];
                if let Some(log) = &mut self.log {
                    log.output(NAMES[at], &mut output.line, bytes, now);
                }
                for client in &mut self.clients {
                    client.send(at, bytes);
                }
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            // The end: of a terminal, EIO.
            _ => {
                if let Some(log) = &mut self.log {
                    log.finish(NAMES[at], &mut output.line, now);
                }
                self.outputs[at] = None;
                false
            }
        }
    }

    fn read_client(&mut self, id: u64) {
        let Some(client) = self.clients.iter_mut().find(|client| client.id == id) else { return };
        let Some(fd) = &client.stdin else { return };
        let mut chunk = [0; 4096];
        match nix::unistd::read(fd, &mut chunk) {
            Ok(count) if count > 0 => {
                client.typed.extend_from_slice(&chunk[..count]);
                self.write_stdin();
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            _ => {
                client.stdin = None;
                if self.stdio.stdin_once && !self.stdio.tty {
                    self.stdin = None;
                }
            }
        }
    }

    fn write_stdin(&mut self) {
        for client in &mut self.clients {
            while !client.typed.is_empty() {
                let Some(stdin) = &self.stdin else {
                    client.typed = Vec::new();
                    client.stdin = None;
                    break;
                };
                match nix::unistd::write(stdin, &client.typed) {
                    Ok(count) => drop(client.typed.drain(..count)),
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => return,
                    Err(_) => self.stdin = None,
                }
            }
            if client.typed.is_empty() {
                client.typed = Vec::new();
            }
        }
    }

    /// Lets go of clients' streams that have nothing more to come.
    fn settle(&mut self) {
        let ended = self.outputs.each_ref().map(Option::is_none);
        for client in &mut self.clients {
            for (at, ended) in ended.into_iter().enumerate() {
                if ended && client.pending[at].is_empty() {
                    client.outputs[at] = None;
                }
            }
        }
        self.clients.retain(|client| client.outputs.iter().any(Option::is_some) || client.stdin.is_some());
        // A process may close its output and still read.
        if ended == [true, true] && self.stdin.is_none() {
            for client in &mut self.clients {
                client.stdin = None;
            }
        }
    }
}

impl Client {
    fn send(&mut self, at: usize, bytes: &[u8]) {
        if self.outputs[at].is_some() {
            self.pending[at].extend_from_slice(bytes);
            self.flush(at, false);
        }
    }

    fn flush(&mut self, at: usize, polled: bool) {
        let Some(fd) = &self.outputs[at] else { return };
        while !self.pending[at].is_empty() {
            match nix::unistd::write(fd, &self.pending[at]) {
                Ok(count) => drop(self.pending[at].drain(..count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    self.pending[at] = Vec::new();
                    self.outputs[at] = None;
                    return;
                }
            }
        }
        self.pending[at] = Vec::new();
        if polled && hung_up(fd.as_fd()) {
            self.outputs[at] = None;
        }
    }
}

fn hung_up(fd: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    fds[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
}

/// Sets a terminal's size.
pub(crate) fn set_size(fd: BorrowedFd<'_>, size: TerminalSize) {
    use std::os::fd::AsRawFd;
    let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open and `size` outlives the call.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &size) };
}
