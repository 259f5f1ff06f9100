//! How a sandbox begins, is taken over, and is settled when its shim is lost.

use super::*;

impl Sandbox {
    /// Starts the shim.
    pub(crate) async fn launch(shared: Arc<Shared>, directory: Directory, setup: Setup) -> Result<Self> {
        let id = setup.spec.id.clone();
        let failed = |reason: String| Error::ShimStart { id: id.clone(), reason };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|error| failed(error.to_string()))?;
        let log = File::create(directory.log()).map_err(Error::io("make", directory.log()))?;
        let shim = &shared.config.shim;
        let program = shared.program.as_ref().map_or_else(|| shim.program.clone(), Protected::path);
        let mut child = Command::new(program)
            .arg0("hythe")
            .args(&shim.args)
            .arg(&directory.0)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(ProcessStdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| failed(format!("{}: {error}", shim.program.display())))?;
        let (client, mut incoming) = Client::new(ours.into()).map_err(|error| failed(error.to_string()))?;
        let ready = match incoming.next().await {
            Some(Message::Ready { result }) => result,
            _ => Err(format!("it ended: {}", fs::read_to_string(directory.log()).unwrap_or_default().trim())),
        };
        let pid = match ready {
            Ok(pid) => pid,
            Err(reason) => {
                let _ = child.kill();
                let _ = blocking(move || Ok(child.wait().is_ok())).await;
                return Err(failed(reason));
            }
        };
        let state = State { client: Some(client), pid: Some(pid), child: Some(child), ..State::default() };
        let sandbox = Self::with(shared, directory, setup, state);
        tokio::spawn(sandbox.clone().follow(incoming));
        Ok(sandbox)
    }

    /// Takes over a shim, or what one left behind.
    pub(crate) async fn adopt(shared: Arc<Shared>, directory: Directory, setup: Setup) -> Self {
        if let Ok((client, incoming)) = Client::connect(&directory.socket()) {
            let state = State { client: Some(client.clone()), pid: setup.pid, ..State::default() };
            let sandbox = Self::with(shared.clone(), directory.clone(), setup.clone(), state);
            tokio::spawn(sandbox.clone().follow(incoming));
            if let Ok((Ok(Answer::Records(records)), _)) = client.call(RequestBody::Records, &[]).await {
                let mut state = sandbox.0.state.lock();
                for record in records {
                    let frozen = sandbox.group(&record.id).frozen();
                    // An event may have come in since: it is newer than the answer.
                    state.containers.entry(record.id.clone()).or_insert(Entry { record, paused: frozen });
                }
                drop(state);
                return sandbox;
            }
            // It went away at this very moment.
            sandbox.0.state.lock().ending = true;
        }
        let sandbox = Self::with(shared, directory, setup, State::default());
        sandbox.clean_up().await;
        sandbox
    }

    pub(super) fn with(shared: Arc<Shared>, directory: Directory, setup: Setup, state: State) -> Self {
        let changed = watch::Sender::new(0);
        Self(Arc::new(Inner { shared, directory, setup, state: Mutex::new(state), changed }))
    }

    /// Follows the shim until it is gone.
    pub(super) async fn follow(self, mut incoming: Incoming) {
        while let Some(message) = incoming.next().await {
            self.apply(message);
        }
        let expected = {
            let mut state = self.0.state.lock();
            state.client = None;
            state.pid = None;
            state.execs.clear();
            state.settling = !state.ending;
            state.ending
        };
        if !expected {
            tracing::error!(sandbox = self.id(), "the shim is gone; what it ran is being killed");
            self.reap().await;
            let ended = self.clean_up().await;
            self.0.state.lock().settling = false;
            for (container, exit) in ended {
                self.0.shared.announce(self.id(), &container, EventKind::Exited(exit));
            }
            self.0.shared.announce(self.id(), "", EventKind::SandboxDied);
        }
        self.change();
    }

    pub(super) fn change(&self) {
        self.0.changed.send_modify(|version| *version += 1);
    }

    pub(super) fn apply(&self, message: Message) {
        let mut state = self.0.state.lock();
        let event = match message {
            Message::Started { container, pid, at } => {
                if let Some(entry) = state.containers.get_mut(&container) {
                    entry.record.state = ContainerState::Running;
                    entry.record.pid = Some(pid);
                    entry.record.started_at = Some(at);
                }
                Some((container, EventKind::Started { pid }))
            }
            Message::Exited { container, exit, log_dropped } => {
                if let Some(entry) = state.containers.get_mut(&container) {
                    entry.record.state = ContainerState::Exited;
                    entry.record.pid = None;
                    entry.record.exit = Some(exit);
                    entry.record.log_dropped = log_dropped;
                    entry.paused = false;
                }
                Some((container, EventKind::Exited(exit)))
            }
            Message::ExecExited { pid, exit } => {
                match state.execs.remove(&pid) {
                    Some(waiting) => drop(waiting.send(exit)),
                    None => drop(state.early.insert(pid, exit)),
                }
                None
            }
            Message::Ready { .. } | Message::Answer { .. } => None,
        };
        drop(state);
        if let Some((container, kind)) = event {
            self.change();
            self.0.shared.announce(self.id(), &container, kind);
        }
    }

    /// After the shim's end: kills what is left, removes cgroups and socket, and settles the containers' records.
    /// Returns those that ended by this.
    pub(super) async fn clean_up(&self) -> Vec<(String, ExitStatus)> {
        let sandbox = self.clone();
        let result = blocking(move || {
            let Inner { shared, directory, setup, .. } = &*sandbox.0;
            let patience = Duration::from_secs(5);
            shared.cgroups.group(&setup.cgroup).kill();
            if let Err(error) = shared.cgroups.purge(setup.cgroup.as_ref(), patience) {
                tracing::error!(sandbox = sandbox.id(), %error, "a lost sandbox's cgroup cannot be removed");
            }
            let _ = fs::remove_file(directory.socket());
            let now = SystemTime::now();
            let mut ended = Vec::new();
            for entry in fs::read_dir(directory.containers()).into_iter().flatten().flatten() {
                let id = entry.file_name().to_string_lossy().into_owned();
                let path = directory.container(&id).record();
                // One without a record was being created: it never was.
                let Ok(mut record) = load::<Record>(&path) else { continue };
                if record.state != ContainerState::Exited {
                    record.exit = Some(ExitStatus {
                        exit_code: 255,
                        signal: None,
                        oom_killed: false,
                        started_at: record.started_at.unwrap_or(now),
                        finished_at: now,
                        known: false,
                    });
                    record.state = ContainerState::Exited;
                    record.pid = None;
                    let _ = save(&path, &record);
                }
                let mut state = sandbox.0.state.lock();
                let news = state.containers.get(&id).is_none_or(|known| known.record.state != ContainerState::Exited);
                if let (true, Some(exit)) = (news, record.exit) {
                    ended.push((id.clone(), exit));
                }
                state.containers.insert(id, Entry { record, paused: false });
            }
            sandbox.0.state.lock().containers.retain(|_, entry| entry.record.state == ContainerState::Exited);
            Ok(ended)
        })
        .await;
        result.unwrap_or_default()
    }

    /// Waits for the shim's own end, if it is this process's child.
    pub(super) async fn reap(&self) {
        let child = self.0.state.lock().child.take();
        if let Some(mut child) = child {
            let _ = blocking(move || Ok(child.wait().is_ok())).await;
        }
    }
}
