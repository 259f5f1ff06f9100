//! What a client has sent: read as far as it may have under way, cut into requests.

use std::io::ErrorKind;

use super::Core;
use super::client::{Client, Parser};
use super::turn::MOST_READS;
use super::upload::LARGE;
use crate::protocol::{Broken, resp};

impl Core {
    pub(super) fn read_client(&mut self, id: usize) {
        let Some(mut client) = self.clients.get_mut(id).and_then(Option::take) else { return };
        let mut scratch = std::mem::take(&mut self.scratch);
        if client.unread && !client.is_full() {
            self.consume(id, &mut client, &[]);
        }
        let mut reads = 0;
        while client.readable && !client.ended && !client.broken && (client.lingering || !client.is_full()) {
            if reads == MOST_READS {
                client.resume(id, &mut self.resuming_clients);
                break;
            }
            reads += 1;
            match client.stream.read(&mut scratch) {
                Ok(0) => client.ended = true,
                Ok(count) => {
                    // A short read has emptied the socket, unless the end of the stream is still to be read.
                    client.readable = count == scratch.len() || client.ending;
                    client.bytes_in += count as u64;
                    if client.lingering {
                        continue;
                    }
                    self.consume(id, &mut client, &scratch[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => client.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => client.broken = true,
            }
        }
        self.scratch = scratch;
        if client.ended && client.upload.is_some() && !client.unread {
            // It has left in the middle of a request.
            client.broken = true;
        }
        if (client.ended || client.broken || client.closing || client.out.waiting() > 0) && !client.dirty {
            client.dirty = true;
            self.dirty_clients.push(id);
        }
        self.clients[id] = Some(client);
    }

    /// Deals with the requests in what a client has sent, and keeps the rest for later.
    fn consume(&mut self, id: usize, client: &mut Client, bytes: &[u8]) {
        if client.input.is_empty() {
            let taken = self.requests(id, client, bytes);
            client.input.extend_from_slice(&bytes[taken..]);
        } else {
            let mut input = std::mem::take(&mut client.input);
            input.extend_from_slice(bytes);
            let taken = self.requests(id, client, &input);
            if taken < input.len() {
                input.drain(..taken);
                client.input = input;
            }
        }
        if client.closing {
            client.input = Vec::new();
        }
        client.unread = !client.input.is_empty() && client.is_full();
    }

    /// Deals with the whole requests in `bytes`; how many bytes they are.
    fn requests(&mut self, id: usize, client: &mut Client, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !client.is_full() {
            if client.passing_over > 0 {
                let step = client.passing_over.min(bytes.len() - at);
                (at, client.passing_over) = (at + step, client.passing_over - step);
                continue;
            }
            let dealt_with = if client.upload.is_some() {
                self.feed(client, &bytes[at..]).map(|taken| (taken > 0).then_some(taken))
            } else {
                client.alone &= !client.slots.is_empty();
                self.request(id, client, &bytes[at..])
            };
            match dealt_with {
                Ok(Some(length)) => at += length,
                Ok(None) => break,
                Err(Broken(reason)) => {
                    self.abandon_upload(client);
                    self.pools[client.pool].stats.refused.add(1);
                    let error = match client.parser {
                        Parser::Redis(_) => format!("-ERR Protocol error: {reason}\r\n"),
                        Parser::Memcached(_) => format!("CLIENT_ERROR {reason}\r\n"),
                    };
                    client.answer(error.as_bytes());
                    client.closing = true;
                    client.faulty = true;
                    return bytes.len();
                }
            }
        }
        at
    }

    /// Deals with the request at the start of `bytes`, if it is whole; its length.
    fn request(&mut self, id: usize, client: &mut Client, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        match &mut client.parser {
            Parser::Redis(parser) => {
                let closed = !client.authenticated && self.pools[client.pool].plan.pool.redis_auth.is_some();
                let limits = if closed { resp::Limits::UNAUTHENTICATED } else { resp::Limits::USUAL };
                let Some(length) = parser.parse(bytes, limits)? else {
                    let large = bytes.len() >= LARGE && !closed;
                    return Ok(if large { self.begin_upload(id, client, bytes) } else { None });
                };
                let inline = parser.inline;
                // The list goes back afterwards: most requests then need no memory of their own.
                let arguments = std::mem::take(&mut parser.arguments);
                self.redis(id, client, &bytes[..length], &arguments, inline);
                if let Parser::Redis(parser) = &mut client.parser {
                    parser.arguments = arguments;
                    parser.next();
                }
                Ok(Some(length))
            }
            Parser::Memcached(parser) => {
                let Some((length, request)) = parser.parse(bytes)? else { return Ok(None) };
                let (keys, base64) = (std::mem::take(&mut parser.keys), parser.base64);
                self.memcached(id, client, &bytes[..length], request, &keys, base64);
                if let Parser::Memcached(parser) = &mut client.parser {
                    parser.keys = keys;
                }
                Ok(Some(length))
            }
        }
    }
}
