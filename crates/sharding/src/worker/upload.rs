//! Large requests with a single key that are sent on as they come, in little memory: their client is not read from while
//! the server has enough to take.
//!
//! Such a request has a connection to its server to itself, so that nobody waits behind a client that sends slowly. Its
//! client's requests before it are answered first, and those after it wait for its answer: on connections of their own they
//! could overtake each other.

use super::Core;
use super::client::{Asker, Client, Parser, Slot};
use super::server::{Failure, For, Pending, Place};
use crate::config::Writes;
use crate::protocol::memcached::Ends;
use crate::protocol::redis::{Access, Route, route};
use crate::protocol::{Broken, Span, resp};

/// From this size on a request is sent on as it comes rather than held until it is whole.
pub const LARGE: usize = 1 << 20;
/// While so many bytes wait for a server, the client that sends them is not read from …
const ENOUGH: usize = 1 << 20;
/// … until no more than so many do.
const AGAIN: usize = 256 << 10;

/// A request that is being sent on.
#[derive(Debug)]
pub struct Upload {
    rest: resp::Rest,
    /// Over which connection; none when that has failed, or there never was one: what follows is for nobody.
    server: Option<usize>,
    /// The server has enough to take.
    pub waits: bool,
}

impl Core {
    /// Begins to send on the request at the start of `bytes`, which is not whole. Tells how many bytes of it are dealt
    /// with; none if it must be whole first, or must wait for answers to those before it. One that must be whole and is larger
    /// than may be held is refused, and passed over.
    pub(super) fn begin_upload(&mut self, id: usize, client: &mut Client, bytes: &[u8]) -> Option<usize> {
        let Some((key, access)) = one_key(client, bytes).filter(|(_, access)| !self.is_copied(client.pool, *access))
        else {
            return self.pass_over(client, bytes);
        };
        if !client.slots.is_empty() {
            client.alone = true;
            return None;
        }
        let shard = self.shard_of(client.pool, key.of(bytes));
        let Parser::Redis(parser) = &mut client.parser else { return None };
        let (head, rest) = parser.give_up()?;
        client.requests += 1;
        client.alone = true;
        let sequence = client.ask(Slot::Waiting);
        let asker = Asker { client: id, generation: client.generation, sequence, part: 0 };
        let server = shard.map(|shard| self.open_for(client, asker, shard, access, &bytes[..head]));
        if server.is_none() {
            client.deliver(sequence, 0, super::redis::NO_SHARD);
        }
        client.upload = Some(Upload { rest, server, waits: false });
        Some(head)
    }

    /// Whether requests of a pool go to replicas too, for which they must be whole.
    fn is_copied(&self, pool: usize, access: Access) -> bool {
        let plan = &self.pools[pool].plan;
        access == Access::Write
            && plan.pool.writes == Writes::All
            && plan.shards.iter().any(|shard| !shard.replicas.is_empty())
    }

    /// Refuses a request that is larger than may be held: what still comes of it is for nobody.
    fn pass_over(&mut self, client: &mut Client, bytes: &[u8]) -> Option<usize> {
        if bytes.len() <= client.most_held {
            return None;
        }
        let Parser::Redis(parser) = &mut client.parser else { return None };
        let (head, rest) = parser.give_up()?;
        client.requests += 1;
        self.pools[client.pool].stats.refused.add(1);
        let most = client.most_held;
        let why =
            format!("-ERR the request must be whole before it is sent on, and is larger than held_bytes ({most})\r\n");
        client.answer(why.as_bytes());
        client.upload = Some(Upload { rest, server: None, waits: false });
        Some(head)
    }

    /// Makes a connection for one request, and queues the beginning of that.
    fn open_for(&mut self, client: &Client, asker: Asker, shard: usize, access: Access, head: &[u8]) -> usize {
        let endpoint = self.pools[client.pool].endpoint_for(shard, access, self.clock);
        let id = self.open(Place { pool: client.pool, endpoint, version: client.version, lane: 0 });
        if let Some(Some(server)) = self.servers.get_mut(id) {
            // It ends after the last answer, as those do that have no place any more.
            server.uploads_to = server.place.take();
            server.fed_by = Some((asker.client, asker.generation));
            server.out.bytes.extend_from_slice(head);
            server.pending.push_back(Pending { to: For::Client(asker), since: self.now, bytes: 0, ends: Ends::Itself });
            server.stats.requests.add(1);
            server.stats.request_bytes.add(head.len() as u64);
            server.stats.waiting.add(1);
        }
        self.touch_server(id);
        id
    }

    /// Sends on what has come of a request; how many bytes of `bytes` that is.
    pub(super) fn feed(&mut self, client: &mut Client, bytes: &[u8]) -> Result<usize, Broken> {
        let Some(upload) = &mut client.upload else { return Ok(0) };
        let (taken, whole) = upload.rest.advance(bytes)?;
        let id = upload.server;
        if let Some(Some(server)) = id.and_then(|id| self.servers.get_mut(id)) {
            if server.out.waiting() == 0 || whole {
                // Until now it was the client that was slow.
                server.refresh(self.now);
            }
            server.out.bytes.extend_from_slice(&bytes[..taken]);
            server.stats.request_bytes.add(taken as u64);
            upload.waits = !whole && server.out.waiting() >= ENOUGH;
            if whole {
                server.fed_by = None;
            }
        }
        if whole {
            client.upload = None;
        }
        if let Some(id) = id {
            self.touch_server(id);
        }
        Ok(taken)
    }

    /// Ends a request that its client has broken off.
    pub(super) fn abandon_upload(&mut self, client: &mut Client) {
        if let Some(upload) = client.upload.take()
            && let Some(id) = upload.server
        {
            client.forget_waiting();
            if let Some(Some(server)) = self.servers.get_mut(id) {
                // It is not the shard's fault.
                server.uploads_to = None;
            }
            self.fail(id, Failure::of_protocol("the client has broken its request off"));
        }
    }

    /// Goes on with a client after the server of its request has taken enough.
    pub(super) fn resume_feeding(&mut self, server: usize) {
        let Some(Some(feeding)) = self.servers.get(server) else { return };
        let Some((id, generation)) = feeding.fed_by.filter(|_| feeding.out.waiting() <= AGAIN) else { return };
        if let Some(Some(client)) = self.clients.get_mut(id)
            && client.generation == generation
            && let Some(upload) = &mut client.upload
            && std::mem::take(&mut upload.waits)
        {
            client.resume(id, &mut self.resuming_clients);
        }
    }

    /// What still comes of a request is for nobody: its connection is gone.
    pub(super) fn lose_upload(&mut self, (id, generation): (usize, u64)) {
        if let Some(Some(client)) = self.clients.get_mut(id)
            && client.generation == generation
            && let Some(upload) = &mut client.upload
        {
            (upload.server, upload.waits) = (None, false);
            client.resume(id, &mut self.resuming_clients);
        }
    }
}

/// The key of a request that has one alone, if it is there already.
fn one_key(client: &Client, bytes: &[u8]) -> Option<(Span, Access)> {
    let Parser::Redis(parser) = &client.parser else { return None };
    let Route::Key(at, access) = route(parser.arguments.first()?.of(bytes)) else { return None };
    Some((*parser.arguments.get(at)?, access))
}
