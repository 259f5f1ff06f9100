//! One turn of the loop: read, decide, write.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mio::Events;
use mio::event::Event;
use serving::Record;

use super::client::{AGAIN, Client};
use super::server::{Failure, Said, Stage};
use super::{Core, Order, Source};
use crate::config::Protocol;

/// Reads from one connection in one turn; the others want their turn too.
pub(super) const MOST_READS: usize = 8;
/// How long a client that has broken the protocol is listened to, so that it can read why it is closed.
const LINGER: Duration = Duration::from_secs(1);
/// How long accepting rests when there are no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Core {
    /// How long nothing needs to be done unless something happens.
    pub(super) fn patience(&self) -> Option<Duration> {
        let busy = [
            &self.resuming_clients,
            &self.resuming_servers,
            &self.failed_servers,
            &self.dirty_clients,
            &self.dirty_servers,
        ];
        if busy.iter().any(|list| !list.is_empty()) {
            return Some(Duration::ZERO);
        }
        let due = |server: &super::Server| server.deadline().or_else(|| server.stalls_until());
        let answers = self.servers.iter().filter_map(|(_, server)| due(server.as_ref()?));
        let lingering = self.lingering.iter().map(|&(_, _, until)| until);
        let next = answers.chain(self.accept_again).chain(lingering).min()?;
        // The kernel counts whole milliseconds: a little late is better than many turns too early.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    pub(super) fn turn(&mut self, events: &Events) {
        self.now = Instant::now();
        self.clock = u64::try_from(self.now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        for event in events {
            match Source::of(event.token()) {
                Source::Waker => self.take_orders(),
                Source::Listener(pool) => self.accept(pool),
                Source::Client(id) => self.client_event(id, event),
                Source::Server(id) => self.server_event(id, event),
            }
        }
        if self.accept_again.is_some_and(|at| at <= self.now) {
            self.accept_again = None;
            (0..self.pools.len()).for_each(|pool| self.accept(pool));
        }
        for id in std::mem::take(&mut self.resuming_servers) {
            if let Some(Some(server)) = self.servers.get_mut(id) {
                server.resuming = false;
                self.read_server(id, false);
            }
        }
        for id in std::mem::take(&mut self.resuming_clients) {
            if let Some(Some(client)) = self.clients.get_mut(id) {
                client.resuming = false;
                self.read_client(id);
            }
        }
        if !self.lingering.is_empty() {
            self.close_lingering();
        }
        self.give_up_overdue();
        self.give_up_stalled();
        self.flush_servers();
        for id in std::mem::take(&mut self.failed_servers) {
            self.give_up(id);
        }
        self.flush_clients();
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Pools(pools) => self.apply(pools),
                Order::Resolved(host, answer) => self.resolved(&host, answer),
                Order::Stop => self.stop(),
            }
        }
    }

    fn accept(&mut self, pool: usize) {
        loop {
            let state = &self.pools[pool];
            let Some(listener) = &state.listener else { return };
            let (mut stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client has gone already.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => continue,
                Err(error) => {
                    tracing::warn!(%error, pool = %state.plan.name, "cannot accept a client, trying again soon");
                    self.accept_again = Some(self.now + ACCEPT_REST);
                    return;
                }
            };
            let clients = state.plan.shared.clients.fetch_add(1, std::sync::atomic::Ordering::AcqRel) + 1;
            let most = state.plan.pool.client_connections as usize;
            let (protocol, most_held) = (state.plan.pool.protocol(), state.plan.pool.held_bytes);
            state.stats.accepted.add(1);
            state.stats.clients.add(1);
            self.activity.note();
            if state.plan.pool.tcpkeepalive {
                stream.keep_alive();
            }
            self.generation += 1;
            let id = self.clients.vacant_key();
            let registered = stream.register(self.poll.registry(), Source::Client(id).token());
            let mut client = Box::new(Client::new(stream, peer, pool, self.generation, protocol, self.now));
            client.hold(most_held);
            if let Err(error) = registered {
                tracing::warn!(%error, "a client cannot be watched");
                client.broken = true;
            }
            if most > 0 && clients > most {
                client.answer(match protocol {
                    Protocol::Redis => b"-ERR max number of clients reached\r\n",
                    Protocol::Memcached => b"ERROR Too many open connections\r\n",
                });
                client.closing = true;
            }
            client.dirty = true;
            self.clients.insert(Some(client));
            self.dirty_clients.push(id);
        }
    }

    fn client_event(&mut self, id: usize, event: &Event) {
        let Some(Some(client)) = self.clients.get_mut(id) else { return };
        if event.is_error() {
            client.broken = true;
        }
        if event.is_writable() {
            client.out.unblock();
        }
        if event.is_read_closed() {
            client.ending = true;
        }
        client.readable |= event.is_readable() || event.is_read_closed();
        self.touch_client(id);
        self.read_client(id);
    }

    /// Puts a client on the list of those to be written to.
    pub(super) fn touch_client(&mut self, id: usize) {
        if let Some(Some(client)) = self.clients.get_mut(id)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty_clients.push(id);
        }
    }

    fn server_event(&mut self, id: usize, event: &Event) {
        let Some(Some(server)) = self.servers.get_mut(id) else { return };
        if event.is_writable() {
            server.out.unblock();
        }
        if server.stage == Stage::Connecting {
            match server.stream.as_ref().and_then(|stream| stream.connected()) {
                None => return,
                Some(Ok(())) => {
                    server.stage = Stage::Up;
                    server.stats.connections.add(1);
                }
                Some(Err(error)) => {
                    self.fail(id, Failure::of_io(&error));
                    return;
                }
            }
        }
        self.touch_server(id);
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read_server(id, event.is_read_closed() || event.is_error());
        }
    }

    /// Puts a server on the list of those to be written to.
    pub(super) fn touch_server(&mut self, id: usize) {
        if let Some(Some(server)) = self.servers.get_mut(id)
            && !server.dirty
        {
            server.dirty = true;
            self.dirty_servers.push(id);
        }
    }

    fn read_server(&mut self, id: usize, ending: bool) {
        let Some(mut server) = self.servers.get_mut(id).and_then(Option::take) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut reads = 0;
        let failure = loop {
            if self.must_wait(id, &mut server) {
                break None;
            }
            let Some(stream) = server.stream.as_mut().filter(|_| server.failure.is_none()) else { break None };
            if reads == MOST_READS * 4 {
                server.resuming = true;
                self.resuming_servers.push(id);
                break None;
            }
            reads += 1;
            match stream.read(&mut scratch) {
                Ok(0) => break Some(Failure::of_protocol("Connection closed by the server")),
                Ok(count) => {
                    server.stats.response_bytes.add(count as u64);
                    let stats = server.stats.clone();
                    let taken = server.take(&scratch[..count], |said| match said {
                        Said::MayPass(pending) => self.may_pass(pending),
                        Said::TooLarge(pending) => {
                            self.refuse_large(pending);
                            true
                        }
                        Said::Part(pending, part) => {
                            self.pass(pending, part);
                            true
                        }
                        Said::Answer(pending, reply) => {
                            stats.responses.add(1);
                            stats.waiting.subtract(1);
                            stats.took(self.now.saturating_duration_since(pending.since));
                            self.deliver(pending, reply);
                            true
                        }
                    });
                    self.judge(&mut server);
                    if let Err(failure) = taken {
                        break Some(failure);
                    }
                    if count < scratch.len() && !ending {
                        break None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(Failure::of_io(&error)),
            }
        };
        self.scratch = scratch;
        let drained = server.place.is_none() && server.pending.is_empty();
        self.servers[id] = Some(server);
        if let Some(failure) = failure {
            self.fail(id, failure);
        } else if drained {
            self.close_server(id);
        }
    }

    fn give_up_overdue(&mut self) {
        let overdue = |server: &super::Server| server.deadline().is_some_and(|at| at <= self.now);
        let ids: Vec<usize> = self
            .servers
            .iter()
            .filter(|(_, server)| server.as_ref().is_some_and(|server| server.failure.is_none() && overdue(server)))
            .map(|(id, _)| id)
            .collect();
        ids.into_iter().for_each(|id| self.fail(id, Failure::timeout()));
    }

    fn flush_servers(&mut self) {
        for id in std::mem::take(&mut self.dirty_servers) {
            let Some(Some(server)) = self.servers.get_mut(id) else { continue };
            server.dirty = false;
            let (Stage::Up, Some(stream)) = (server.stage, server.stream.as_mut()) else { continue };
            if server.out.waiting() == 0 {
                continue;
            }
            match server.out.flush(stream) {
                Err(error) => self.fail(id, Failure::of_io(&error)),
                Ok(count) if count > 0 && server.fed_by.is_some() => {
                    server.refresh(self.now);
                    self.resume_feeding(id);
                }
                Ok(_) => {}
            }
        }
    }

    fn flush_clients(&mut self) {
        let mut resumed = Vec::new();
        for id in std::mem::take(&mut self.dirty_clients) {
            let Some(Some(client)) = self.clients.get_mut(id) else { continue };
            client.dirty = false;
            if client.out.waiting() > 0 && !client.broken {
                match client.out.flush(&mut client.stream) {
                    Ok(count) => client.bytes_out += count as u64,
                    Err(_) => client.broken = true,
                }
            }
            if client.out.waiting() <= AGAIN {
                resumed.extend(client.fed_by.take());
            }
            if client.is_over() && client.faulty && !client.broken && !client.ended {
                self.linger(id);
            } else if client.is_over() {
                self.close_client(id);
            } else if ((client.readable && !client.ended) || client.unread) && !client.is_full() {
                client.resume(id, &mut self.resuming_clients);
            }
        }
        resumed.into_iter().for_each(|server| self.resume_server(server));
    }

    /// Ends a client that has broken the protocol: closing at once, with bytes of it unread, would take our last words back.
    fn linger(&mut self, id: usize) {
        let Some(Some(client)) = self.clients.get_mut(id) else { return };
        if client.lingering {
            return;
        }
        client.lingering = true;
        client.stream.end();
        self.lingering.push((id, client.generation, self.now + LINGER));
        if client.readable {
            client.resume(id, &mut self.resuming_clients);
        }
    }

    fn close_lingering(&mut self) {
        let now = self.now;
        for (id, generation, until) in std::mem::take(&mut self.lingering) {
            let there = matches!(self.clients.get(id), Some(Some(client)) if client.generation == generation);
            if there && until <= now {
                self.close_client(id);
            } else if there {
                self.lingering.push((id, generation, until));
            }
        }
    }

    fn close_client(&mut self, id: usize) {
        let Some(Some(mut client)) = self.clients.try_remove(id) else { return };
        if let Some(server) = client.fed_by {
            self.resume_server(server);
        }
        self.abandon_upload(&mut client);
        client.stream.deregister(self.poll.registry());
        client.stream.end();
        let state = &self.pools[client.pool];
        state.plan.shared.clients.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
        state.stats.clients.subtract(1);
        if self.access_log.is_on() {
            let mut more = serde_json::Map::new();
            more.insert("requests".to_owned(), client.requests.into());
            self.access_log.write(Record {
                protocol: if state.plan.pool.redis { "redis" } else { "memcached" },
                client: std::mem::take(&mut client.peer),
                host: state.plan.name.to_string(),
                bytes_in: client.bytes_in,
                bytes_out: client.bytes_out,
                duration_ms: self.now.saturating_duration_since(client.since).as_secs_f64() * 1e3,
                more: Some(more),
                ..Record::default()
            });
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        for state in &mut self.pools {
            if let Some(mut listener) = state.listener.take() {
                listener.deregister(self.poll.registry());
            }
        }
        let ids: Vec<usize> = self.clients.iter().map(|(id, _)| id).collect();
        for id in ids {
            // What has arrived already is still answered.
            self.read_client(id);
            if let Some(Some(client)) = self.clients.get_mut(id) {
                client.closing = true;
            }
            self.touch_client(id);
        }
    }
}
