//! A client: its requests in the order in which they came, and the answers in the same order.

use std::collections::VecDeque;
use std::time::Instant;

use smallvec::SmallVec;

use super::gather::Gather;
use super::io::{Out, Stream};
use super::upload::Upload;
use crate::config::Protocol;
use crate::protocol::{memcached, resp};

/// Most requests of one client that may wait for answers; more are not read.
const MOST_WAITING: usize = 1024;
/// Most bytes of one client's requests that may wait for answers; more are not read.
const MOST_WAITING_BYTES: usize = 8 << 20;
/// While so many bytes of answers wait for a client, no more requests of it are read.
const SLOW: usize = 1 << 20;
/// While so many bytes wait for a client, a server whose large answer is passed on to it is not read from …
pub const ENOUGH: usize = 16 << 20;
/// … until no more than so many do.
pub const AGAIN: usize = 8 << 20;
/// A client that lets so many bytes of answers pile up is closed.
const TOO_SLOW: usize = 64 << 20;

/// An answer that came before its turn. Most are short.
pub type Reply = SmallVec<[u8; 48]>;

/// A request's place in the queue of answers.
#[derive(Debug)]
pub enum Slot {
    /// Its answer is still to come.
    Waiting,
    /// Its answer waits for those before it.
    Ready(Reply),
    /// Its answer is put together from several shards'.
    Gather(Box<Gather>),
}

/// Reads requests of either protocol.
#[derive(Debug)]
pub enum Parser {
    /// Redis.
    Redis(resp::RequestParser),
    /// memcached.
    Memcached(memcached::RequestParser),
}

/// Who asked, so that an answer finds its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The client's place among clients.
    pub client: usize,
    /// Which of the clients that have had this place.
    pub generation: u64,
    /// Which of its requests.
    pub sequence: u64,
    /// Which part of the request.
    pub part: u32,
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    pub stream: Stream,
    pub peer: String,
    pub pool: usize,
    pub generation: u64,
    /// What it calls itself.
    pub name: Option<Box<[u8]>>,
    pub parser: Parser,
    /// Bytes of a request that is not whole yet, or not yet wanted.
    pub input: Vec<u8>,
    /// So many bytes that come next are data that nobody wants.
    pub passing_over: usize,
    /// A large request that is sent on as it comes.
    pub upload: Option<Upload>,
    /// Such a request waits for the answers before it, or has begun: those after it wait for its answer.
    pub alone: bool,
    pub slots: VecDeque<Slot>,
    /// The sequence number of the first slot.
    pub first: u64,
    pub out: Out,
    /// `input` holds requests that were not read because too much was under way.
    pub unread: bool,
    /// The other side has said that it sends nothing more.
    pub ending: bool,
    /// There may be something to read.
    pub readable: bool,
    /// All that the other side has sent is read.
    pub ended: bool,
    /// No more requests are read; once all answers are sent, the connection is closed.
    pub closing: bool,
    /// It has broken the protocol: what it still sends is read and dropped for a while, so that the error reaches it.
    pub faulty: bool,
    /// It is told all, and only what it still sends is being dropped.
    pub lingering: bool,
    /// It cannot be written to any more, or is too slow.
    pub broken: bool,
    /// It waits in the list of those to be written to.
    pub dirty: bool,
    /// It waits in the list of those to be read from.
    pub resuming: bool,
    pub authenticated: bool,
    /// RESP's version, 2 or 3.
    pub version: u8,
    pub waiting_bytes: usize,
    /// Bytes of answers that wait for others.
    held: usize,
    /// How many at most; [`Client::hold`] sets it.
    pub most_held: usize,
    /// A server that waits until this client has read more.
    pub fed_by: Option<usize>,
    pub since: Instant,
    pub requests: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Client {
    pub fn new(stream: Stream, peer: String, pool: usize, generation: u64, protocol: Protocol, now: Instant) -> Client {
        Client {
            stream,
            peer,
            pool,
            generation,
            name: None,
            parser: match protocol {
                Protocol::Redis => Parser::Redis(resp::RequestParser::default()),
                Protocol::Memcached => Parser::Memcached(memcached::RequestParser::default()),
            },
            input: Vec::new(),
            passing_over: 0,
            upload: None,
            alone: false,
            slots: VecDeque::new(),
            first: 0,
            out: Out::default(),
            unread: false,
            ending: false,
            readable: false,
            ended: false,
            closing: false,
            faulty: false,
            lingering: false,
            broken: false,
            dirty: false,
            resuming: false,
            authenticated: false,
            version: 2,
            waiting_bytes: 0,
            held: 0,
            most_held: usize::MAX,
            fed_by: None,
            since: now,
            requests: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// How many bytes are held for it at most: of answers that wait for others, and of a value that it sends.
    pub fn hold(&mut self, most: usize) {
        self.most_held = most;
        if let Parser::Memcached(parser) = &mut self.parser {
            parser.longest_value = most.min(memcached::LONGEST_VALUE);
        }
    }

    /// Whether it has so much under way that nothing more is read from it.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= MOST_WAITING
            || self.out.waiting() >= SLOW
            || self.waiting_bytes >= MOST_WAITING_BYTES
            || self.closing
            || match &self.upload {
                Some(upload) => upload.waits,
                None => self.alone && !self.slots.is_empty(),
            }
    }

    /// Whether nothing more can come of it.
    pub fn is_over(&self) -> bool {
        self.broken
            || (self.closing && self.upload.is_some())
            || ((self.closing || (self.ended && !self.unread)) && self.slots.is_empty() && self.out.waiting() == 0)
    }

    /// Asks for another turn of this client, `id`, unless one is coming.
    pub fn resume(&mut self, id: usize, resuming: &mut Vec<usize>) {
        if !self.resuming {
            self.resuming = true;
            resuming.push(id);
        }
    }

    /// Gives up the places of requests that wait for answers.
    pub fn forget_waiting(&mut self) {
        self.first += self.slots.len() as u64;
        self.slots.clear();
    }

    /// Takes a place in the queue of answers; its sequence number.
    pub fn ask(&mut self, slot: Slot) -> u64 {
        self.slots.push_back(slot);
        self.first + self.slots.len() as u64 - 1
    }

    /// Answers at the end of the queue.
    pub fn answer(&mut self, reply: &[u8]) {
        if self.slots.is_empty() {
            self.out.bytes.extend_from_slice(reply);
        } else {
            self.held += reply.len();
            self.slots.push_back(Slot::Ready(Reply::from_slice(reply)));
        }
    }

    /// Whether the answer to this request is the next that it gets, and from one server alone.
    pub fn is_next(&self, sequence: u64) -> bool {
        sequence == self.first && matches!(self.slots.front(), Some(Slot::Waiting))
    }

    /// Puts an answer, or a part of one, where it belongs.
    pub fn deliver(&mut self, sequence: u64, part: u32, reply: &[u8]) {
        let Some(index) = sequence.checked_sub(self.first).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        if index == 0 && matches!(self.slots.front(), Some(Slot::Waiting)) {
            self.send(reply);
            return;
        }
        let instead = (self.held.saturating_add(reply.len()) > self.most_held).then(|| self.too_large());
        let reply = instead.as_deref().unwrap_or(reply);
        match self.slots.get_mut(index) {
            Some(slot @ Slot::Waiting) => {
                self.held += reply.len();
                *slot = Slot::Ready(Reply::from_slice(reply));
            }
            Some(slot @ Slot::Gather(_)) => {
                let Slot::Gather(gather) = slot else { return };
                self.held += reply.len();
                if !gather.add(part, reply) {
                    return;
                }
                self.held = self.held.saturating_sub(gather.held());
                let whole = gather.join();
                if index == 0 {
                    self.send(&whole);
                } else {
                    self.held += whole.len();
                    *slot = Slot::Ready(Reply::from_vec(whole));
                }
            }
            Some(Slot::Ready(_)) | None => {}
        }
    }

    /// What stands in place of an answer that is too large to be kept.
    pub fn too_large(&self) -> Vec<u8> {
        let start = match self.parser {
            Parser::Redis(_) => "-ERR",
            Parser::Memcached(_) => "SERVER_ERROR",
        };
        format!("{start} the answer must be kept for others, and is larger than held_bytes ({})\r\n", self.most_held)
            .into_bytes()
    }

    /// Sends the first answer and those behind it that are ready.
    fn send(&mut self, reply: &[u8]) {
        if self.out.waiting() > TOO_SLOW {
            self.broken = true;
            return;
        }
        self.out.bytes.extend_from_slice(reply);
        self.slots.pop_front();
        self.first += 1;
        while let Some(Slot::Ready(reply)) = self.slots.front() {
            self.held = self.held.saturating_sub(reply.len());
            self.out.bytes.extend_from_slice(reply);
            self.slots.pop_front();
            self.first += 1;
        }
    }
}
