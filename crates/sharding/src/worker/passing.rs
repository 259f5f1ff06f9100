//! Large answers that are passed on as they come: memory stays bounded, since a server is not read from while the client
//! that its answer is for has enough to read.
//!
//! Others may wait behind it meanwhile, so a client that does not go on reading is given up in time. An answer that is not
//! the next one for its client, or one of several that are joined, is kept until it is whole: to make servers wait for
//! each other's clients could make them wait for ever. What is kept has a limit; beyond it the client gets an error instead.

use super::Core;
use super::client::{Client, ENOUGH};
use super::server::{For, Pending, Server};

impl Core {
    /// The client that an answer is for, if it is still there.
    pub(super) fn asker(&mut self, pending: &Pending) -> Option<(usize, u64, &mut Client)> {
        let For::Client(asker) = pending.to else { return None };
        let client = self.clients.get_mut(asker.client)?.as_deref_mut()?;
        (client.generation == asker.generation).then_some((asker.client, asker.sequence, client))
    }

    /// Whether an answer may be passed on as it comes: its client waits for it next, or nobody does any more.
    pub(super) fn may_pass(&mut self, pending: &Pending) -> bool {
        self.asker(pending).is_none_or(|(_, sequence, client)| client.is_next(sequence))
    }

    /// Puts an error in the place of an answer that is too large to be kept.
    pub(super) fn refuse_large(&mut self, pending: &Pending) {
        let Some((_, _, client)) = self.asker(pending) else { return };
        let reply = client.too_large();
        tracing::warn!(client = client.peer, "an answer is larger than `held_bytes`: the client gets an error");
        self.deliver(pending, &reply);
    }

    /// Passes on a part of an answer.
    pub(super) fn pass(&mut self, pending: &Pending, part: &[u8]) {
        if let Some((id, _, client)) = self.asker(pending) {
            client.out.bytes.extend_from_slice(part);
            self.touch_client(id);
        }
    }

    /// Whether a server must wait, since the client that its answer is passed on to has enough to read already.
    pub(super) fn must_wait(&mut self, id: usize, server: &mut Server) -> bool {
        let Some(pending) = server.pending.front().copied().filter(|_| server.passing.is_some()) else { return false };
        // It is the client that is slow from now on, not the server.
        if let Some(first) = server.pending.front_mut() {
            first.since = self.now;
        }
        let Some((client_id, _, client)) = self.asker(&pending) else { return false };
        if client.out.waiting() < ENOUGH || client.broken {
            return false;
        }
        client.fed_by = Some(id);
        self.touch_client(client_id);
        server.paused.get_or_insert(self.now);
        true
    }

    /// Reads on from a server that had to wait.
    pub(super) fn resume_server(&mut self, id: usize) {
        if let Some(Some(server)) = self.servers.get_mut(id)
            && server.paused.take().is_some()
            && !server.resuming
        {
            server.resuming = true;
            self.resuming_servers.push(id);
        }
    }

    /// Gives clients up that have kept a server waiting for too long: others wait behind them.
    pub(super) fn give_up_stalled(&mut self) {
        let now = self.now;
        let stalled = |server: &Server| server.stalls_until().is_some_and(|until| until <= now);
        let stalled: Vec<Pending> = self
            .servers
            .iter()
            .filter_map(|(_, server)| server.as_deref().filter(|server| stalled(server))?.pending.front().copied())
            .collect();
        for pending in stalled {
            if let Some((id, _, client)) = self.asker(&pending) {
                tracing::warn!(client = client.peer, "closed: it does not read the large answer that it has asked for");
                client.broken = true;
                self.touch_client(id);
            }
        }
    }
}
