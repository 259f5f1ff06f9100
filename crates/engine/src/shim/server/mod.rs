//! The shim's loop: requests ([`clients`]), containers and execs being made ([`making`]), children ending ([`ending`]).
//!
//! A container's end is drained, recorded and announced in that order, whatever else happens at the moment.

mod clients;
mod ending;
mod making;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::fork::{self, Report};
use super::protocol::{self, Answer, Failure, Message, Reader, Record, Request, RequestBody, Setup, Stdio};
use super::stdio::{Interest, Streams, set_nonblocking};
use super::{create, exec};
use crate::PidMode;
use crate::cgroup::{Cgroups, Group};
use crate::directory::{ContainerDirectory, Directory, save};
use crate::spec::ExecSpec;
use crate::status::{ContainerState, ExitStatus};

/// A client that lets more than this pile up is cut off; it can connect again.
const MAX_QUEUED: usize = 4 << 20;

/// While everything is being ended, what is still there is killed again after so many milliseconds.
const KILL_AGAIN_MS: libc::c_int = 20;

pub(super) struct Server {
    directory: Directory,
    setup: Setup,
    cgroups: Cgroups,
    /// The host's mount namespace.
    host: File,
    /// Process 1 of the shared PID namespace.
    pause: Option<i32>,
    listener: UnixListener,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    containers: BTreeMap<String, Container>,
    workers: BTreeMap<u64, Worker>,
    /// Running execs by process, with the time of their start.
    execs: BTreeMap<i32, SystemTime>,
    /// Children that ended before a worker had told whose they are; kept while workers are busy.
    unclaimed: Vec<(i32, WaitStatus, SystemTime)>,
    shutdown: Option<Caller>,
    next: u64,
}

/// Who is to get an answer: connection and request.
type Caller = (u64, u64);

struct Connection {
    socket: OwnedFd,
    reader: Reader,
    queue: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

struct Container {
    record: Record,
    streams: Streams,
    home: ContainerDirectory,
    /// Reading end of the pipe on which a failed start is told; at its end, the program runs.
    error: Option<OwnedFd>,
    starting: Option<Caller>,
    failure: Option<Failure>,
    removal: Option<Caller>,
    /// Whether its processes end with its first one (it is process 1 of its own PID namespace).
    own_pids: bool,
}

struct Worker {
    /// None once it has ended: the number may then be another process's.
    pid: Option<i32>,
    socket: OwnedFd,
    caller: Caller,
    task: Task,
}

enum Task {
    Create { container: String, streams: Box<Streams>, error: OwnedFd, own_pids: bool },
    Exec,
}

/// What a descriptor in the poll set stands for.
enum Token {
    Signals,
    Listener,
    Connection(u64),
    Worker(u64),
    Started(String),
    Stream(String, Interest),
}

impl Server {
    pub fn new(
        directory: Directory,
        setup: Setup,
        cgroups: Cgroups,
        host: File,
        pause: Option<i32>,
        first: OwnedFd,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory.containers())?;
        // Relative, because a socket's address holds 107 bytes only.
        std::env::set_current_dir(&directory.0)?;
        let listener = UnixListener::bind("shim.sock")?;
        std::env::set_current_dir("/")?;
        listener.set_nonblocking(true)?;
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut server = Self {
            directory,
            setup,
            cgroups,
            host,
            pause,
            listener,
            signals,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            workers: BTreeMap::new(),
            execs: BTreeMap::new(),
            unclaimed: Vec::new(),
            shutdown: None,
            next: 1,
        };
        let connection = server.connect(first)?;
        server.send(connection, &Message::Ready { result: Ok(nix::unistd::getpid().as_raw()) }, Vec::new());
        Ok(server)
    }

    /// Serves until told to end.
    pub fn run(mut self) -> Result<(), String> {
        loop {
            for token in self.wait().map_err(|error| format!("poll: {error}"))? {
                match token {
                    Token::Signals => self.reap(),
                    Token::Listener => self.accept(),
                    Token::Connection(id) => self.serve(id),
                    Token::Worker(id) => self.worker_done(id),
                    Token::Started(container) => self.started(&container),
                    Token::Stream(container, interest) => {
                        if let Some(container) = self.containers.get_mut(&container) {
                            container.streams.ready(interest);
                        }
                    }
                }
            }
            self.forget_unclaimed();
            if self.finish_shutdown() {
                return Ok(());
            }
        }
    }

    fn wait(&self) -> io::Result<Vec<Token>> {
        let mut fds: Vec<libc::pollfd> = Vec::new();
        let mut tokens = Vec::new();
        let mut add = |token: Token, fd: BorrowedFd<'_>, events: libc::c_short| {
            fds.push(libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
            tokens.push(token);
        };
        add(Token::Signals, self.signals.as_fd(), libc::POLLIN);
        add(Token::Listener, self.listener.as_fd(), libc::POLLIN);
        for (id, connection) in &self.connections {
            let events = libc::POLLIN | if connection.queue.is_empty() { 0 } else { libc::POLLOUT };
            add(Token::Connection(*id), connection.socket.as_fd(), events);
        }
        for (id, worker) in &self.workers {
            add(Token::Worker(*id), worker.socket.as_fd(), libc::POLLIN);
        }
        for (id, container) in &self.containers {
            if let (Some(error), Some(_)) = (&container.error, container.starting) {
                add(Token::Started(id.clone()), error.as_fd(), libc::POLLIN);
            }
            for (interest, fd, events) in container.streams.interests() {
                add(Token::Stream(id.clone(), interest), fd, events);
            }
        }
        loop {
            let timeout = if self.shutdown.is_some() { KILL_AGAIN_MS } else { -1 };
            // SAFETY: pointer and length describe `fds`, which outlives the call.
            let count = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
            if count >= 0 {
                break;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let ready = fds.iter().zip(tokens).filter(|(fd, _)| fd.revents != 0);
        Ok(ready.map(|(_, token)| token).collect())
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Failure> {
        self.containers.get_mut(id).ok_or(Failure::NotFound)
    }

    fn group(&self, container: &str) -> Box<dyn Group> {
        self.cgroups.group(self.setup.cgroup_of(container))
    }
}

fn record_durably(home: &ContainerDirectory, record: &Record) {
    // A full disk must not keep the end of a container from being announced.
    if let Err(error) = save(&home.record(), record) {
        eprintln!("shim: record of {}: {error}", record.id);
    }
}
