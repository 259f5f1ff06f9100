//! Who asks, and who is told.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use super::*;

impl Server {
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let _ = self.connect(stream.into());
        }
    }

    pub(super) fn connect(&mut self, socket: OwnedFd) -> io::Result<u64> {
        set_nonblocking(&socket)?;
        let id = self.next;
        self.next += 1;
        self.connections.insert(id, Connection { socket, reader: Reader::default(), queue: VecDeque::new() });
        Ok(id)
    }

    pub(super) fn serve(&mut self, id: u64) {
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

    pub(super) fn send(&mut self, id: u64, message: &Message, fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.queue.push_back((protocol::frame(message), fds));
        let queued: usize = connection.queue.iter().map(|(bytes, _)| bytes.len()).sum();
        if queued > MAX_QUEUED || connection.flush().is_err() {
            self.connections.remove(&id);
        }
    }

    pub(super) fn announce(&mut self, message: &Message) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.send(id, message, Vec::new());
        }
    }

    pub(super) fn answer(&mut self, (connection, id): Caller, result: Result<Answer, Failure>, fds: Vec<OwnedFd>) {
        self.send(connection, &Message::Answer { id, fds: fds.len(), result }, fds);
    }

    pub(super) fn handle(&mut self, caller: Caller, body: RequestBody, fds: Vec<OwnedFd>) {
        let done = |()| Answer::Done;
        let result = match body {
            RequestBody::Records => {
                let records = self
                    .containers
                    .values()
                    .map(|container| Record { log_dropped: container.streams.dropped(), ..container.record.clone() });
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
                true => ending::kill(pid, signal).map(done),
                false => Err(Failure::NotFound),
            },
            RequestBody::Attach { container, without_stdin } => self.container(&container).and_then(|container| {
                let attached = container.streams.attach(fds, without_stdin);
                attached.map(done).map_err(|error| Failure::Other(error.to_string()))
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
}

impl Connection {
    /// Sends what is queued, as far as the socket takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
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
