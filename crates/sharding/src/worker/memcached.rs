//! What becomes of a memcached client's request.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Core;
use super::client::{Asker, Client, Slot};
use super::gather::{Gather, Kind};
use super::server::For;
use crate::protocol::Span;
use crate::protocol::memcached::{Ends, Request, TOO_LARGE};
use crate::protocol::redis::Access;
use crate::stats::{Number, ShardStats};

const NO_SHARD: &[u8] = b"SERVER_ERROR no shard of this pool can be asked now\r\n";

impl Core {
    /// Answers a request or sends it on. `keys` are parts of `bytes`, the whole request.
    pub(super) fn memcached(
        &mut self,
        id: usize,
        client: &mut Client,
        bytes: &[u8],
        request: Request,
        keys: &[Span],
        base64: bool,
    ) {
        client.requests += 1;
        match request {
            Request::Quit => client.closing = true,
            Request::Answered(line) => {
                if line.starts_with("ERROR") || line.starts_with("CLIENT_ERROR") {
                    self.pools[client.pool].stats.refused.add(1);
                }
                client.answer(line.as_bytes());
            }
            Request::Fatal(line) => {
                self.pools[client.pool].stats.refused.add(1);
                client.answer(line.as_bytes());
                client.closing = true;
                client.faulty = true;
            }
            Request::TooLarge { data, silent, stale } => {
                self.pools[client.pool].stats.refused.add(1);
                client.passing_over = data;
                if stale {
                    self.forget(id, client, keys[0].of(bytes), base64);
                }
                if !silent {
                    client.answer(TOO_LARGE.as_bytes());
                }
            }
            Request::Any => match self.shard_of(client.pool, b"") {
                Some(shard) => self.forward_to(id, client, shard, Access::Read, &[bytes], Ends::Itself),
                None => client.answer(NO_SHARD),
            },
            Request::All { silenced } => self.all(id, client, bytes, silenced),
            Request::Stats => {
                let numbers = self.numbers(client.pool);
                client.answer(numbers.as_bytes());
            }
            Request::Retrieve { prefix, touches } => {
                let access = if touches { Access::Write } else { Access::Read };
                self.retrieve(id, client, bytes, prefix, keys, access);
            }
            Request::Single { read, silenced } => {
                let Some(shard) = self.shard_of_key(client, keys[0].of(bytes), base64) else {
                    if silenced.is_none() {
                        client.answer(NO_SHARD);
                    }
                    return;
                };
                let access = if read { Access::Read } else { Access::Write };
                match silenced {
                    None => self.forward_to(id, client, shard, access, &[bytes], Ends::Itself),
                    Some(word) => {
                        let parts = [&bytes[..word.start], &bytes[word.end..]];
                        self.submit(id, client, shard, access, For::Nobody, Ends::Itself, &parts);
                    }
                }
            }
            Request::Quiet { read } => {
                let Some(shard) = self.shard_of_key(client, keys[0].of(bytes), base64) else {
                    client.answer(NO_SHARD);
                    return;
                };
                let access = if read { Access::Read } else { Access::Write };
                self.forward_to(id, client, shard, access, &[bytes, b"mn\r\n"], Ends::AtNoop);
            }
        }
    }

    /// Sends a request to all shards, those that are ejected among them: nothing may be left behind where it was to be emptied.
    fn all(&mut self, id: usize, client: &mut Client, bytes: &[u8], silenced: Option<Span>) {
        let shards = self.pools[client.pool].plan.shards.len();
        match silenced {
            Some(word) => {
                let parts = [&bytes[..word.start], &bytes[word.end..]];
                for shard in 0..shards {
                    self.submit(id, client, shard, Access::Write, For::Nobody, Ends::Itself, &parts);
                }
            }
            None if shards < 2 => match shards {
                0 => client.answer(NO_SHARD),
                _ => self.forward_to(id, client, 0, Access::Write, &[bytes], Ends::Itself),
            },
            None => {
                let sequence = client.ask(Slot::Gather(Box::new(Gather::new(Kind::Agreed, shards))));
                for (part, shard) in (0u32..).zip(0..shards) {
                    let to = For::Client(Asker { client: id, generation: client.generation, sequence, part });
                    self.submit(id, client, shard, Access::Write, to, Ends::Itself, &[bytes]);
                }
            }
        }
    }

    /// What monitoring asks every memcached for, of this loop.
    fn numbers(&self, pool: usize) -> String {
        let state = &self.pools[pool];
        let sum =
            |of: fn(&ShardStats) -> &Number| state.shards.iter().map(|shard| of(&shard.stats).value()).sum::<u64>();
        let clients = state.plan.shared.clients.load(std::sync::atomic::Ordering::Acquire) as u64;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut text = format!("STAT pid {}\r\nSTAT version {}\r\n", std::process::id(), env!("CARGO_PKG_VERSION"));
        for (name, value) in [
            ("uptime", self.now.saturating_duration_since(self.began).as_secs()),
            ("time", time),
            ("curr_connections", clients),
            ("total_connections", state.stats.accepted.value()),
            ("rejected_requests", state.stats.refused.value()),
            ("shards", state.shards.len() as u64),
            ("shard_requests", sum(|stats| &stats.requests)),
            ("shard_responses", sum(|stats| &stats.responses)),
            ("shard_errors", sum(|stats| &stats.errors)),
            ("bytes_written", sum(|stats| &stats.request_bytes)),
            ("bytes_read", sum(|stats| &stats.response_bytes)),
        ] {
            text.push_str(&format!("STAT {name} {value}\r\n"));
        }
        text + "END\r\n"
    }

    /// Deletes a key whose new value is not taken: it must not go on having its old one.
    fn forget(&mut self, id: usize, client: &mut Client, key: &[u8], base64: bool) {
        if let Some(shard) = self.shard_of_key(client, key, base64) {
            let parts: [&[u8]; 3] = if base64 { [b"md ", key, b" b\r\n"] } else { [b"delete ", key, b"\r\n"] };
            self.submit(id, client, shard, Access::Write, For::Nobody, Ends::Itself, &parts);
        }
    }

    /// Keys that are written in base64 belong where they belong when written plainly.
    fn shard_of_key(&mut self, client: &Client, key: &[u8], base64: bool) -> Option<usize> {
        match base64.then(|| STANDARD.decode(key)) {
            Some(Ok(plain)) => self.shard_of(client.pool, &plain),
            _ => self.shard_of(client.pool, key),
        }
    }

    fn retrieve(&mut self, id: usize, client: &mut Client, bytes: &[u8], prefix: Span, keys: &[Span], access: Access) {
        let mut groups: Vec<(usize, Vec<Span>)> = Vec::new();
        for key in keys {
            let Some(shard) = self.shard_of(client.pool, key.of(bytes)) else {
                client.answer(NO_SHARD);
                return;
            };
            match groups.iter_mut().find(|(other, _)| *other == shard) {
                Some((_, keys)) => keys.push(*key),
                None => groups.push((shard, vec![*key])),
            }
        }
        if let [(shard, _)] = groups[..] {
            self.forward_to(id, client, shard, access, &[bytes], Ends::Itself);
            return;
        }
        let sequence = client.ask(Slot::Gather(Box::new(Gather::new(Kind::Values, groups.len()))));
        let mut line = Vec::new();
        for (part, (shard, keys)) in (0u32..).zip(&groups) {
            line.clear();
            line.extend_from_slice(prefix.of(bytes));
            for key in keys {
                line.push(b' ');
                line.extend_from_slice(key.of(bytes));
            }
            line.extend_from_slice(b"\r\n");
            let to = For::Client(Asker { client: id, generation: client.generation, sequence, part });
            self.submit(id, client, *shard, access, to, Ends::Itself, &[&line]);
        }
    }
}
