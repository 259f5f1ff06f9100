//! Signals, ends, removal.

use super::*;

impl Server {
    pub(super) fn signal(&mut self, id: &str, signal: i32) -> Result<(), Failure> {
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

    pub(super) fn reap(&mut self) {
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
    pub(super) fn claim(&mut self, pid: i32) {
        if let Some(at) = self.unclaimed.iter().position(|(ended, _, _)| *ended == pid) {
            let (_, status, time) = self.unclaimed.swap_remove(at);
            self.ended(pid, status, time);
        }
    }

    pub(super) fn forget_unclaimed(&mut self) {
        if self.workers.is_empty() {
            self.unclaimed = Vec::new();
        }
    }

    pub(super) fn ended(&mut self, pid: i32, status: WaitStatus, now: SystemTime) {
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
            match self.workers.iter().find(|(_, worker)| worker.pid == Some(pid)).map(|(id, _)| *id) {
                Some(worker) => self.worker_ended(worker, status),
                None => self.unclaimed.push((pid, status, now)),
            }
            return;
        };
        // Its start may have succeeded or failed in the meantime: the pipe is at its end now.
        self.started(&id);
        self.container_ended(&id, status, now);
    }

    /// A worker that was killed leaves behind what it was making, which waits for it and holds its socket open: that
    /// ends, too, and with it the wait for the worker's report.
    fn worker_ended(&mut self, worker: u64, status: WaitStatus) {
        let Some(worker) = self.workers.get_mut(&worker) else { return };
        worker.pid = None;
        if let (Task::Create { container, .. }, WaitStatus::Signaled(..)) = (&worker.task, status) {
            let group = self.cgroups.group(self.setup.cgroup_of(container));
            group.kill();
        }
    }

    pub(super) fn container_ended(&mut self, id: &str, status: WaitStatus, now: SystemTime) {
        let group = self.group(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        if !container.own_pids {
            group.kill();
        }
        container.streams.drain();
        // A short life may be seen to begin only after it was seen to end.
        let started_at = container.record.started_at.unwrap_or(now).min(now);
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

    pub(super) fn remove(&mut self, caller: Caller, id: &str) -> Result<(), Failure> {
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
    pub(super) fn discard(&mut self, id: &str) -> Result<(), Failure> {
        let Some(container) = self.containers.remove(id) else { return Ok(()) };
        create::unmount_rootfs(&self.directory, id);
        let other = |error: io::Error| Failure::Other(format!("remove: {error}"));
        self.purge_cgroup(id).map_err(other)?;
        match fs::remove_dir_all(&container.home.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(other(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn purge_cgroup(&self, container: &str) -> io::Result<()> {
        self.group(container).kill();
        // Children of the shim that were just killed keep it busy until they are gone, which takes no time.
        self.cgroups.purge(self.setup.cgroup_of(container).as_ref(), Duration::from_secs(2))
    }

    pub(super) fn kill_everything(&mut self) {
        for pid in self.workers.values().filter_map(|worker| worker.pid) {
            let _ = kill(pid, libc::SIGKILL);
        }
        self.cgroups.group(&self.setup.cgroup).kill();
        if let Some(pause) = self.pause {
            let _ = kill(pause, libc::SIGKILL);
        }
    }

    /// Whether everything has ended, after [`RequestBody::Shutdown`].
    pub(super) fn finish_shutdown(&mut self) -> bool {
        let Some(caller) = self.shutdown else { return false };
        let alive = self.containers.values().any(|container| container.record.state != ContainerState::Exited);
        if alive || !self.workers.is_empty() || self.pause.is_some() {
            // What was coming to be when everything was killed was not among it.
            self.kill_everything();
            return false;
        }
        // Mounts go with this process's mount namespace, which takes the kernel no time of ours.
        let _ = fs::remove_file(self.directory.socket());
        self.answer(caller, Ok(Answer::Done), Vec::new());
        true
    }
}

pub(super) fn kill(pid: i32, signal: i32) -> Result<(), Failure> {
    // Not by nix, whose signals end before the real-time ones (an image's STOPSIGNAL may be SIGRTMIN+3).
    // SAFETY: no memory is involved.
    match Errno::result(unsafe { libc::kill(pid, signal) }) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(Errno::EINVAL) => Err(Failure::Other(format!("there is no signal {signal}"))),
        Err(errno) => Err(Failure::Other(format!("signal {pid}: {}", errno.desc()))),
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
