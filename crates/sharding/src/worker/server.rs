//! A connection to a server: requests of many clients one behind the other, and whom the answers are for.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Asker;
use super::io::{Out, Stream};
use crate::config::{Address, Pool, Protocol};
use crate::protocol::{Broken, memcached, resp};
use crate::stats::ShardStats;

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub enum For {
    /// A client's request.
    Client(Asker),
    /// Nobody: the client asked for silence, or another server's answer is the one that counts.
    Nobody,
    /// This program, which has introduced itself; an error is told of in the log.
    Introduction,
}

/// From this size on an answer is passed on as it comes rather than kept until it is whole, where its client waits for it.
const LARGE: usize = 256 * 1024;

/// How long a client may keep a server waiting in the middle of an answer, unless the pool has a timeout.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server's bytes are to the loop.
pub enum Said<'a> {
    /// A question: may this answer be passed on as it comes?
    MayPass(&'a Pending),
    /// An answer that may not be passed on is larger than may be kept: what follows of it is for nobody.
    TooLarge(&'a Pending),
    /// A part of an answer that is passed on; more of it follows.
    Part(&'a Pending, &'a [u8]),
    /// A whole answer, or the last part of one.
    Answer(&'a Pending, &'a [u8]),
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Whom the answer is for.
    pub to: For,
    /// When the request came.
    pub since: Instant,
    /// How many bytes it had.
    pub bytes: usize,
    /// How the end of a memcached answer is known.
    pub ends: memcached::Ends,
}

/// Why a connection to a server is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, in the kernel's words where they are the kernel's, as twemproxy tells its clients.
    pub reason: String,
    /// Whether it was for want of an answer.
    pub timed_out: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The server's name is being resolved.
    Resolving,
    /// The connection is being made.
    Connecting,
    /// It stands.
    Up,
}

/// Reads answers of either protocol.
#[derive(Debug)]
enum Scanner {
    Redis(resp::ReplyScanner),
    Memcached(memcached::ReplyScanner),
}

/// Where a connection belongs: a pool's endpoint, RESP's version, and which of `server_connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub pool: usize,
    pub endpoint: usize,
    pub version: u8,
    pub lane: usize,
}

/// Reads the rest of an answer that is passed on.
#[derive(Debug)]
pub enum Passing {
    Redis(resp::Passing),
    Memcached(memcached::Passing),
}

impl Passing {
    fn advance(&mut self, buffer: &[u8]) -> Result<(usize, bool), Broken> {
        match self {
            Passing::Redis(passing) => passing.advance(buffer),
            Passing::Memcached(passing) => passing.advance(buffer),
        }
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Server {
    pub stream: Option<Stream>,
    pub stage: Stage,
    pub address: Address,
    pub protocol: Protocol,
    /// Where it belongs; `None` once it takes no more requests and ends after the last answer.
    pub place: Option<Place>,
    /// Where it would belong if it were not for one large request alone: whose failure its failure is.
    pub uploads_to: Option<Place>,
    pub out: Out,
    input: Vec<u8>,
    pub pending: VecDeque<Pending>,
    /// The client whose one request, which is not whole yet, it was made for.
    pub fed_by: Option<(usize, u64)>,
    scanner: Scanner,
    /// The first answer is being passed on as it comes.
    pub passing: Option<Passing>,
    /// An answer that can't be passed on is kept up to so many bytes.
    most_held: usize,
    /// It is not read from, since then: the client that its answer is passed on to has enough to read.
    pub paused: Option<Instant>,
    pub timeout: Option<Duration>,
    pub failure: Option<Failure>,
    pub dirty: bool,
    /// It has said that it cannot serve.
    pub sick: bool,
    /// It waits in the list of those to be read from.
    pub resuming: bool,
    /// The address it is connected to, when that came of a name, and when the name is to be looked up again.
    pub resolved: Option<(IpAddr, Instant)>,
    pub stats: Arc<ShardStats>,
}

impl Server {
    pub fn new(address: Address, place: Place, pool: &Pool, stats: Arc<ShardStats>) -> Server {
        Server {
            stream: None,
            stage: Stage::Resolving,
            address,
            protocol: pool.protocol(),
            place: Some(place),
            uploads_to: None,
            out: Out::default(),
            input: Vec::new(),
            pending: VecDeque::new(),
            fed_by: None,
            scanner: match pool.protocol() {
                Protocol::Redis => Scanner::Redis(resp::ReplyScanner::default()),
                Protocol::Memcached => Scanner::Memcached(memcached::ReplyScanner::default()),
            },
            passing: None,
            most_held: pool.held_bytes,
            paused: None,
            timeout: pool.answer_timeout(),
            failure: None,
            dirty: false,
            sick: false,
            resuming: false,
            resolved: None,
            stats,
        }
    }

    /// Says who we are, before the first request.
    pub fn introduce(&mut self, pool: &Pool, now: Instant) {
        if pool.protocol() == Protocol::Memcached {
            return;
        }
        let version = self.place.map_or(2, |place| place.version);
        let database = pool.redis_db.to_string();
        let mut say = |words: &[&str]| {
            resp::write_header(&mut self.out.bytes, b'*', words.len());
            words.iter().for_each(|word| resp::write_bulk(&mut self.out.bytes, word.as_bytes()));
            let ends = memcached::Ends::Itself;
            self.pending.push_back(Pending { to: For::Introduction, since: now, bytes: 0, ends });
        };
        if let Some(password) = &pool.redis_auth {
            say(&["AUTH", password]);
        }
        if version == 3 {
            say(&["HELLO", "3"]);
        }
        if pool.redis_db > 0 {
            say(&["SELECT", &database]);
        }
    }

    /// Begins anew to wait: it has just taken something, or been given something to take.
    pub fn refresh(&mut self, now: Instant) {
        self.pending.iter_mut().for_each(|pending| pending.since = now);
    }

    /// When the first answer is overdue.
    pub fn deadline(&self) -> Option<Instant> {
        // While a client is waited for, the server is not.
        if self.paused.is_some() || (self.fed_by.is_some() && self.out.waiting() == 0) {
            return None;
        }
        Some(self.pending.front()?.since + self.timeout?)
    }

    /// Until when the client that its answer is passed on to may keep it waiting.
    pub fn stalls_until(&self) -> Option<Instant> {
        Some(self.paused? + self.timeout.unwrap_or(PATIENCE))
    }

    /// Takes the bytes that have come and hands each answer over with whom it is for: whole, or where it is large and may be
    /// passed on, part by part.
    ///
    /// # Errors
    /// When they are no answers, or answers to nothing.
    pub fn take(&mut self, bytes: &[u8], mut hand_over: impl FnMut(Said<'_>) -> bool) -> Result<(), Failure> {
        if self.input.is_empty() {
            let taken = self.answers(bytes, &mut hand_over)?;
            self.input.extend_from_slice(&bytes[taken..]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let taken = self.answers(&input, &mut hand_over)?;
            if taken == input.len() {
                input = Vec::new();
            } else {
                input.drain(..taken);
            }
            self.input = input;
        }
        Ok(())
    }

    fn answers(&mut self, bytes: &[u8], hand_over: &mut impl FnMut(Said<'_>) -> bool) -> Result<usize, Failure> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some(&first) = self.pending.front() else {
                return Err(Failure::of_protocol("the server said something unasked"));
            };
            if let Some(passing) = &mut self.passing {
                let (length, whole) = passing.advance(rest).map_err(|Broken(reason)| Failure::of_protocol(reason))?;
                at += length;
                if !whole {
                    hand_over(Said::Part(&first, &rest[..length]));
                    break;
                }
                self.passing = None;
                self.pending.pop_front();
                hand_over(Said::Answer(&first, wanted(&first, &rest[..length])));
                continue;
            }
            let length = match &mut self.scanner {
                Scanner::Redis(scanner) => scanner.scan(rest),
                Scanner::Memcached(scanner) => scanner.scan(rest, first.ends),
            };
            let Some(length) = length.map_err(|Broken(reason)| Failure::of_protocol(reason))? else {
                let push = rest[0] == b'>' && matches!(self.scanner, Scanner::Redis(_));
                if rest.len() < LARGE || push || !self.goes_on(&first, rest.len(), hand_over) {
                    break;
                }
                let Some(&first) = self.pending.front() else { break };
                match &mut self.scanner {
                    Scanner::Redis(scanner) => {
                        let (read, passing) = scanner.pass();
                        self.passing = Some(Passing::Redis(passing));
                        hand_over(Said::Part(&first, &rest[..read]));
                        at += read;
                    }
                    // It has been read over once only: values are leapt over.
                    Scanner::Memcached(scanner) => {
                        self.passing = Some(Passing::Memcached(scanner.pass(first.ends)));
                    }
                }
                continue;
            };
            at += length;
            let reply = &rest[..length];
            if reply.first() == Some(&b'>') && matches!(self.scanner, Scanner::Redis(_)) {
                // A push answers nothing, and nobody here has subscribed to anything.
                continue;
            }
            if is_transient_failure(reply) {
                self.sick = true;
            }
            if let Some(pending) = self.pending.pop_front() {
                hand_over(Said::Answer(&pending, wanted(&pending, reply)));
            }
        }
        Ok(at)
    }

    /// Whether a large answer, of which so many bytes are here, goes on as it comes: to the client that waits for it next,
    /// or to nobody any more, if it is more than may be kept.
    fn goes_on(&mut self, first: &Pending, here: usize, hand_over: &mut impl FnMut(Said<'_>) -> bool) -> bool {
        if hand_over(Said::MayPass(first)) {
            return true;
        }
        if here < self.most_held {
            return false;
        }
        hand_over(Said::TooLarge(first));
        if let Some(first) = self.pending.front_mut() {
            first.to = For::Nobody;
        }
        true
    }
}

/// What the client gets of an answer, or of its end: without the `MN` that is ours.
fn wanted<'a>(pending: &Pending, reply: &'a [u8]) -> &'a [u8] {
    if pending.ends == memcached::Ends::AtNoop { &reply[..reply.len() - 4] } else { reply }
}

/// Replies that say that the server as a whole cannot serve for now. As in twemproxy they count as failures of the server;
/// unlike there, the client is told what the server said, and the connection goes on for the others.
fn is_transient_failure(reply: &[u8]) -> bool {
    reply.first() == Some(&b'-')
        && [b"-OOM ".as_slice(), b"-BUSY ", b"-LOADING "].iter().any(|start| reply.starts_with(start))
}

impl Failure {
    /// A failure the kernel tells of.
    pub fn of_io(error: &io::Error) -> Failure {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or(&text).to_owned();
        Failure { reason, timed_out: error.raw_os_error() == Some(110) }
    }

    /// A server that does not answer in time.
    pub fn timeout() -> Failure {
        Failure { reason: "Connection timed out".to_owned(), timed_out: true }
    }

    /// A server that says what it should not.
    pub fn of_protocol(reason: &str) -> Failure {
        Failure { reason: reason.to_owned(), timed_out: false }
    }

    /// The error reply that clients get.
    pub fn reply(&self, protocol: Protocol) -> Vec<u8> {
        match protocol {
            Protocol::Redis => format!("-ERR {}\r\n", self.reason),
            Protocol::Memcached => format!("SERVER_ERROR {}\r\n", self.reason),
        }
        .into_bytes()
    }
}
