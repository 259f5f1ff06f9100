//! Containers and execs being made and started.

use super::*;

impl Server {
    pub(super) fn create(
        &mut self,
        caller: Caller,
        id: String,
        stdio: Stdio,
        pid_of: Option<String>,
    ) -> Result<(), Failure> {
        let other = |error: io::Error| Failure::Create(error.to_string());
        if self.shutdown.is_some() {
            return Err(Failure::Create("the sandbox is being removed".to_owned()));
        }
        let own_pids = self.setup.spec.pid == PidMode::PerContainer && pid_of.is_none();
        let pid_namespace = match (&pid_of, self.setup.spec.pid, self.pause) {
            (Some(path), _, _) if path.starts_with('/') => Some(path.clone()),
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
        let streams =
            Streams::new(stdio, ours.0, ours.1).map_err(|error| Failure::Create(format!("open the log: {error}")))?;
        let order = create::Order {
            directory: &self.directory,
            cgroups: &self.cgroups,
            host: &self.host,
            container: &id,
            pid_namespace,
            stdio: theirs,
            error: error_writer,
        };
        let (pid, socket) = fork::worker(&order.descriptors(), || create::create(&order)).map_err(other)?;
        drop(order);
        let task = Task::Create { container: id, streams: Box::new(streams), error, own_pids };
        self.work(Worker { pid: Some(pid), socket, caller, task });
        Ok(())
    }

    pub(super) fn work(&mut self, worker: Worker) {
        self.workers.insert(self.next, worker);
        self.next += 1;
    }

    pub(super) fn worker_done(&mut self, id: u64) {
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

    pub(super) fn created(
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
        let container = Container {
            record,
            streams,
            home,
            error: Some(error),
            starting: None,
            failure: None,
            removal: None,
            own_pids,
        };
        self.containers.insert(id.to_owned(), container);
        Ok(())
    }

    pub(super) fn start(&mut self, caller: Caller, id: &str) -> Result<(), Failure> {
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
    pub(super) fn started(&mut self, id: &str) {
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

    pub(super) fn exec(&mut self, caller: Caller, spec: &ExecSpec, fds: Vec<OwnedFd>) -> Result<(), Failure> {
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
        self.work(Worker { pid: Some(pid), socket, caller, task: Task::Exec });
        Ok(())
    }
}

/// What was told on the pipe of a start, if anything.
fn told(error: OwnedFd) -> Option<Failure> {
    let mut text = Vec::new();
    let _ = set_nonblocking(&error);
    let _ = File::from(error).read_to_end(&mut text);
    serde_json::from_slice(&text).ok()
}
