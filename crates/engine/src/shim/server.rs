//! The shim's loop: requests, children, streams.
//!
//! Longer than most files because every handler shares one state and must keep its invariants in step: a container's
//! end is drained, recorded and announced in that order, whatever else happens at the moment.

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
use super::stdio::{Interest, Streams};
use super::{create, exec};
use crate::PidMode;
use crate::cgroup::{Cgroups, Group};
use crate::directory::{ContainerDirectory, Directory, save};
use crate::spec::ExecSpec;
use crate::status::{ContainerState, ExitStatus};

/// A client that lets more than this pile up is cut off; it can connect again.
const MAX_QUEUED: usize = 4 << 20;

pub(super) struct Server {
    directory: Directory,
    setup: Setup,
    cgroups: Cgroups,
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
    pid: i32,
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
            // SAFETY: pointer and length describe `fds`, which outlives the call.
            let count = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
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

    // Clients.

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let _ = self.connect(stream.into());
        }
    }

    fn connect(&mut self, socket: OwnedFd) -> io::Result<u64> {
        super::stdio::set_nonblocking(&socket)?;
        let id = self.next;
        self.next += 1;
        self.connections.insert(id, Connection { socket, reader: Reader::default(), queue: VecDeque::new() });
        Ok(id)
    }

    fn serve(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.flush().is_err() {
            self.connections.remove(&id);
            return;
        }
        let open = match connection.reader.fill(connection.socket.as_fd()) {
            Ok(open) => open,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        while let Some(connection) = self.connections.get_mut(&id) {
            let request = match connection.reader.next::<Request>() {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(error) => {
                    eprintln!("shim: request: {error}");
                    self.connections.remove(&id);
                    break;
                }
            };
            match connection.reader.take_fds(request.fds) {
                Ok(fds) => self.handle((id, request.id), request.body, fds),
                Err(error) => {
                    eprintln!("shim: request: {error}");
                    self.connections.remove(&id);
                }
            }
        }
        if !open {
            self.connections.remove(&id);
        }
    }

    fn send(&mut self, id: u64, message: &Message, fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.queue.push_back((protocol::frame(message), fds));
        let queued: usize = connection.queue.iter().map(|(bytes, _)| bytes.len()).sum();
        if queued > MAX_QUEUED || connection.flush().is_err() {
            self.connections.remove(&id);
        }
    }

    fn announce(&mut self, message: &Message) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.send(id, message, Vec::new());
        }
    }

    fn answer(&mut self, (connection, id): Caller, result: Result<Answer, Failure>, fds: Vec<OwnedFd>) {
        self.send(connection, &Message::Answer { id, fds: fds.len(), result }, fds);
    }

    fn handle(&mut self, caller: Caller, body: RequestBody, fds: Vec<OwnedFd>) {
        let done = |()| Answer::Done;
        let result = match body {
            RequestBody::Records => {
                let records = self.containers.values().map(|container| {
                    Record { log_dropped: container.streams.dropped(), ..container.record.clone() }
                });
                let mut records: Vec<Record> = records.collect();
                records.sort_by_key(|record| record.created_at);
                Ok(Answer::Records(records))
            }
            // These answer when they are done; what they return is an early failure.
            RequestBody::Create { container, stdio, pid_of } => match self.create(caller, container, stdio, pid_of) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            RequestBody::Start { container } => match self.start(caller, &container) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            RequestBody::Exec { spec } => match self.exec(caller, &spec, fds) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            RequestBody::Remove { container } => match self.remove(caller, &container) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            RequestBody::Shutdown => {
                self.shutdown = Some(caller);
                self.kill_everything();
                return;
            }
            RequestBody::Signal { container, signal } => self.signal(&container, signal).map(done),
            RequestBody::SignalExec { pid, signal } => match self.execs.contains_key(&pid) {
                true => kill(pid, signal).map(done),
                false => Err(Failure::NotFound),
            },
            RequestBody::Attach { container } => self.container(&container).and_then(|container| {
                container.streams.attach(fds).map(done).map_err(|error| Failure::Other(error.to_string()))
            }),
            RequestBody::Resize { container, size } => {
                self.container(&container).map(|container| container.streams.resize(size)).map(done)
            }
            RequestBody::CloseStdin { container } => {
                self.container(&container).map(|container| container.streams.close_stdin()).map(done)
            }
            RequestBody::ReopenLog { container } => self.container(&container).and_then(|container| {
                container.streams.reopen_log().map(done).map_err(|error| Failure::Other(error.to_string()))
            }),
        };
        self.answer(caller, result, Vec::new());
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Failure> {
        self.containers.get_mut(id).ok_or(Failure::NotFound)
    }

    fn group(&self, container: &str) -> Box<dyn Group> {
        self.cgroups.group(create::container_cgroup(&self.setup, container))
    }

    // Making and starting.

    fn create(&mut self, caller: Caller, id: String, stdio: Stdio, pid_of: Option<String>) -> Result<(), Failure> {
        let other = |error: io::Error| Failure::Create(error.to_string());
        if self.shutdown.is_some() {
            return Err(Failure::Create("the sandbox is being removed".to_owned()));
        }
        let own_pids = self.setup.spec.pid == PidMode::PerContainer && pid_of.is_none();
        let pid_namespace = match (&pid_of, self.setup.spec.pid, self.pause) {
            (Some(target), _, _) => {
                let target = self.containers.get(target).ok_or(Failure::NotFound)?;
                let pid = target.record.pid.ok_or(Failure::State(target.record.state))?;
                Some(format!("/proc/{pid}/ns/pid"))
            }
            (None, PidMode::Shared, Some(pause)) => Some(format!("/proc/{pause}/ns/pid")),
            (None, PidMode::Host, _) => None,
            _ => Some(String::new()),
        };
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| other(errno.into()));
        let null = || -> Result<OwnedFd, Failure> {
            Ok(File::options().read(true).write(true).open("/dev/null").map_err(other)?.into())
        };
        let (error, error_writer) = pipe()?;
        let (ours, theirs) = if stdio.tty {
            ((None, [None, None]), [null()?, null()?, null()?])
        } else {
            let (stdin, stdin_writer) = if stdio.stdin { pipe().map(|(r, w)| (r, Some(w)))? } else { (null()?, None) };
            let ((stdout, stdout_writer), (stderr, stderr_writer)) = (pipe()?, pipe()?);
            ((stdin_writer, [Some(stdout), Some(stderr)]), [stdin, stdout_writer, stderr_writer])
        };
        let streams = Streams::new(stdio, ours.0, ours.1)
            .map_err(|error| Failure::Create(format!("open the log: {error}")))?;
        let order = create::Order {
            directory: &self.directory,
            cgroups: &self.cgroups,
            container: &id,
            pid_namespace,
            stdio: theirs,
            error: error_writer,
        };
        let (pid, socket) = fork::worker(&order.descriptors(), || create::create(&order)).map_err(other)?;
        drop(order);
        let task = Task::Create { container: id, streams: Box::new(streams), error, own_pids };
        self.work(Worker { pid, socket, caller, task });
        Ok(())
    }

    fn work(&mut self, worker: Worker) {
        self.workers.insert(self.next, worker);
        self.next += 1;
    }

    fn worker_done(&mut self, id: u64) {
        let Some(worker) = self.workers.remove(&id) else { return };
        let mut bytes = [0; 16 * 1024];
        let mut fds = VecDeque::new();
        let report = protocol::receive(worker.socket.as_fd(), &mut bytes, &mut fds)
            .ok()
            .and_then(|count| serde_json::from_slice::<Report>(&bytes[..count]).ok());
        let died = || Failure::Create("the runtime died while making the container".to_owned());
        let result = report.map_or_else(|| Err(died()), |report| report.result);
        match (worker.task, result) {
            (Task::Exec, Ok(pid)) => {
                self.execs.insert(pid, SystemTime::now());
                self.answer(worker.caller, Ok(Answer::Pid(pid)), fds.into());
                self.claim(pid);
            }
            (Task::Exec, Err(failure)) => self.answer(worker.caller, Err(failure), Vec::new()),
            (Task::Create { container, streams, error, own_pids }, Ok(pid)) => {
                let result = self.created(&container, *streams, error, own_pids, pid, fds.pop_front());
                self.answer(worker.caller, result.map(|()| Answer::Pid(pid)), Vec::new());
                self.claim(pid);
            }
            (Task::Create { container, error, .. }, Err(failure)) => {
                // What the launcher said is more exact than libcontainer's account of it.
                let failure = told(error).unwrap_or(failure);
                let group = self.group(&container);
                group.kill();
                let _ = self.purge_cgroup(&container);
                self.answer(worker.caller, Err(failure), Vec::new());
            }
        }
    }

    fn created(
        &mut self,
        id: &str,
        mut streams: Streams,
        error: OwnedFd,
        own_pids: bool,
        pid: i32,
        master: Option<OwnedFd>,
    ) -> Result<(), Failure> {
        if let Some(master) = master {
            streams.set_terminal(master).map_err(|error| Failure::Create(error.to_string()))?;
        }
        let record = Record {
            id: id.to_owned(),
            state: ContainerState::Created,
            pid: Some(pid),
            created_at: SystemTime::now(),
            started_at: None,
            exit: None,
            log_dropped: 0,
        };
        let home = self.directory.container(id);
        record_durably(&home, &record);
        let container =
            Container { record, streams, home, error: Some(error), starting: None, failure: None, removal: None, own_pids };
        self.containers.insert(id.to_owned(), container);
        if self.shutdown.is_some() {
            self.group(id).kill();
        }
        Ok(())
    }

    fn start(&mut self, caller: Caller, id: &str) -> Result<(), Failure> {
        let container = self.container(id)?;
        if container.record.state != ContainerState::Created || container.starting.is_some() {
            return Err(Failure::State(container.record.state));
        }
        let other = |error: io::Error| Failure::Other(format!("start: {error}"));
        let directory = File::open(container.home.runtime().join(create::RUNTIME_ID)).map_err(other)?;
        let path = format!("/proc/self/fd/{}/notify.sock", directory.as_raw_fd());
        let mut stream = UnixStream::connect(path).map_err(other)?;
        io::Write::write_all(&mut stream, b"start container").map_err(other)?;
        container.starting = Some(caller);
        Ok(())
    }

    /// The pipe of a starting container has news.
    fn started(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let (Some(error), Some(caller)) = (container.error.take(), container.starting.take()) else { return };
        if let Some(failure) = told(error) {
            container.failure = Some(failure.clone());
            self.answer(caller, Err(failure), Vec::new());
            return;
        }
        let now = SystemTime::now();
        container.record.state = ContainerState::Running;
        container.record.started_at = Some(now);
        record_durably(&container.home, &container.record);
        let pid = container.record.pid.unwrap_or(0);
        self.announce(&Message::Started { container: id.to_owned(), pid, at: now });
        self.answer(caller, Ok(Answer::Pid(pid)), Vec::new());
    }

    fn exec(&mut self, caller: Caller, spec: &ExecSpec, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let container = self.container(&spec.container)?;
        let (ContainerState::Running, Some(init)) = (container.record.state, container.record.pid) else {
            return Err(Failure::State(container.record.state));
        };
        let mut fds = fds.into_iter();
        let stdio = [spec.stdin, spec.stdout, spec.stderr].map(|connected| match connected && !spec.tty {
            true => fds.next(),
            false => None,
        });
        let keep: Vec<RawFd> = stdio.iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let order = exec::Order { directory: &self.directory, cgroups: &self.cgroups, spec, init, stdio };
        let (pid, socket) =
            fork::worker(&keep, || exec::exec(order)).map_err(|error| Failure::Other(format!("exec: {error}")))?;
        self.work(Worker { pid, socket, caller, task: Task::Exec });
        Ok(())
    }

    // Ending.

    fn signal(&mut self, id: &str, signal: i32) -> Result<(), Failure> {
        let container = self.container(id)?;
        match (container.record.state, container.record.pid) {
            (ContainerState::Exited, _) | (_, None) => Ok(()),
            _ if signal == libc::SIGKILL => {
                self.group(id).kill();
                Ok(())
            }
            (_, Some(pid)) => kill(pid, signal),
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let flags = WaitPidFlag::WNOHANG;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))) => {
                    self.ended(pid.as_raw(), status, SystemTime::now());
                }
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// A process that ended before it was known who it is.
    fn claim(&mut self, pid: i32) {
        if let Some(at) = self.unclaimed.iter().position(|(ended, _, _)| *ended == pid) {
            let (_, status, time) = self.unclaimed.swap_remove(at);
            self.ended(pid, status, time);
        }
    }

    fn forget_unclaimed(&mut self) {
        if self.workers.is_empty() {
            self.unclaimed = Vec::new();
        }
    }

    fn ended(&mut self, pid: i32, status: WaitStatus, now: SystemTime) {
        if self.pause == Some(pid) {
            self.pause = None;
            return;
        }
        if let Some(started_at) = self.execs.remove(&pid) {
            let exit = exit_status(status, started_at, now);
            self.announce(&Message::ExecExited { pid, exit });
            return;
        }
        let owner = self.containers.values().find(|container| container.record.pid == Some(pid));
        let Some(id) = owner.map(|container| container.record.id.clone()) else {
            if self.workers.values().all(|worker| worker.pid != pid) {
                self.unclaimed.push((pid, status, now));
            }
            return;
        };
        // Its start may have succeeded or failed in the meantime: the pipe is at its end now.
        self.started(&id);
        self.container_ended(&id, status, now);
    }

    fn container_ended(&mut self, id: &str, status: WaitStatus, now: SystemTime) {
        let group = self.group(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        if !container.own_pids {
            group.kill();
        }
        container.streams.drain();
        let started_at = container.record.started_at.unwrap_or(now);
        let mut exit = exit_status(status, started_at, now);
        if let Some(Failure::Start { exit_code, .. }) = &container.failure {
            exit.exit_code = *exit_code;
        }
        exit.oom_killed = group.oom_kills() > 0;
        container.record.state = ContainerState::Exited;
        container.record.pid = None;
        container.record.exit = Some(exit);
        container.record.log_dropped = container.streams.dropped();
        record_durably(&container.home, &container.record);
        let log_dropped = container.record.log_dropped;
        let removal = container.removal.take();
        self.announce(&Message::Exited { container: id.to_owned(), exit, log_dropped });
        if let Some(caller) = removal {
            let result = self.discard(id);
            self.answer(caller, result.map(|()| Answer::Done), Vec::new());
        }
    }

    fn remove(&mut self, caller: Caller, id: &str) -> Result<(), Failure> {
        let container = self.container(id)?;
        if container.record.state == ContainerState::Exited {
            let result = self.discard(id);
            self.answer(caller, result.map(|()| Answer::Done), Vec::new());
        } else {
            container.removal = Some(caller);
            self.group(id).kill();
        }
        Ok(())
    }

    /// Removes what belongs to an exited container.
    fn discard(&mut self, id: &str) -> Result<(), Failure> {
        let Some(container) = self.containers.remove(id) else { return Ok(()) };
        create::unmount_rootfs(&container.home);
        let other = |error: io::Error| Failure::Other(format!("remove: {error}"));
        self.purge_cgroup(id).map_err(other)?;
        match fs::remove_dir_all(&container.home.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(other(error)),
            _ => Ok(()),
        }
    }

    fn purge_cgroup(&self, container: &str) -> io::Result<()> {
        self.group(container).kill();
        // Children of the shim that were just killed keep it busy until they are gone, which takes no time.
        self.cgroups.purge(create::container_cgroup(&self.setup, container).as_ref(), Duration::from_secs(2))
    }

    fn kill_everything(&mut self) {
        for worker in self.workers.values() {
            let _ = kill(worker.pid, libc::SIGKILL);
        }
        self.cgroups.group(&self.setup.cgroup).kill();
        if let Some(pause) = self.pause {
            let _ = kill(pause, libc::SIGKILL);
        }
    }

    /// Whether everything has ended, after [`RequestBody::Shutdown`].
    fn finish_shutdown(&mut self) -> bool {
        let Some(caller) = self.shutdown else { return false };
        let alive = self.containers.values().any(|container| container.record.state != ContainerState::Exited);
        if alive || !self.workers.is_empty() || self.pause.is_some() {
            return false;
        }
        // Mounts go with this process's mount namespace, which takes the kernel no time of ours.
        let _ = fs::remove_file(self.directory.socket());
        self.answer(caller, Ok(Answer::Done), Vec::new());
        true
    }
}

impl Connection {
    /// Sends what is queued, as far as the socket takes it.
    fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, fds)) = self.queue.front_mut() {
            let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            match protocol::send(self.socket.as_fd(), bytes, &raw) {
                Ok(count) => {
                    fds.clear();
                    bytes.drain(..count);
                    if bytes.is_empty() {
                        self.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn kill(pid: i32, signal: i32) -> Result<(), Failure> {
    // Not by nix, whose signals end before the real-time ones (an image's STOPSIGNAL may be SIGRTMIN+3).
    // SAFETY: no memory is involved.
    match Errno::result(unsafe { libc::kill(pid, signal) }) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(Errno::EINVAL) => Err(Failure::Other(format!("there is no signal {signal}"))),
        Err(errno) => Err(Failure::Other(format!("signal {pid}: {}", errno.desc()))),
    }
}

/// What was told on the pipe of a start, if anything.
fn told(error: OwnedFd) -> Option<Failure> {
    let mut text = Vec::new();
    let _ = super::stdio::set_nonblocking(&error);
    let _ = File::from(error).read_to_end(&mut text);
    serde_json::from_slice(&text).ok()
}

fn record_durably(home: &ContainerDirectory, record: &Record) {
    // A full disk must not keep the end of a container from being announced.
    if let Err(error) = save(&home.record(), record) {
        eprintln!("shim: record of {}: {error}", record.id);
    }
}

fn exit_status(status: WaitStatus, started_at: SystemTime, finished_at: SystemTime) -> ExitStatus {
    let (exit_code, signal) = match status {
        WaitStatus::Exited(_, code) => (code, None),
        WaitStatus::Signaled(_, signal, _) => (128 + signal as i32, Some(signal as i32)),
        _ => (255, None),
    };
    ExitStatus { exit_code, signal, oom_killed: false, started_at, finished_at, known: true }
}
