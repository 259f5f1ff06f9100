//! One event loop: clients on one side, servers on the other, nothing shared but counters and health.
//!
//! A turn of the loop reads from everything that has something to say, and only then writes: all that a turn sends to one
//! server or one client leaves in one system call, however many requests or answers it is.

mod changes;
mod client;
mod connections;
mod gather;
mod io;
mod memcached;
mod passing;
mod pool;
mod reading;
mod redis;
mod server;
mod turn;
mod upload;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use mio::{Events, Poll, Token, Waker};
use serving::{AccessLog, Activity};
use slab::Slab;
use tokio::sync::mpsc::UnboundedSender;

use self::client::Client;
use self::pool::PoolState;
use self::server::Server;
use crate::plan::PoolPlan;
use crate::stats::Stats;

/// What a loop is told.
#[derive(Debug)]
pub enum Order {
    /// These are the pools from now on; a pool without a new socket keeps the one it has.
    Pools(Vec<(Arc<PoolPlan>, Option<ListeningSocket>)>),
    /// What a name stands for; no addresses when it could not be found out.
    Resolved(Arc<str>, Result<(Vec<IpAddr>, Instant), String>),
    /// Close the listeners, answer what was asked, and end.
    Stop,
}

/// A socket that is bound and listens.
#[derive(Debug)]
pub struct ListeningSocket {
    /// Its descriptor, set not to block.
    pub descriptor: OwnedFd,
    /// Whether it is a unix socket.
    pub unix: bool,
}

/// A question of a loop: what does this name stand for?
#[derive(Debug)]
pub struct Question {
    /// The loop that asks.
    pub worker: usize,
    /// The name.
    pub host: Arc<str>,
}

/// The other end of a loop, for those who give it orders.
#[derive(Debug, Clone)]
pub struct Handle {
    orders: Sender<Order>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Gives an order. A loop that has ended takes none.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            // A waker fails only when its poll is gone, and then nobody waits.
            let _ = self.waker.wake();
        }
    }
}

/// What a loop is started with.
pub struct Start {
    /// Its number, from 0.
    pub number: usize,
    /// Where it counts.
    pub stats: Arc<Stats>,
    /// Where it asks for addresses.
    pub questions: UnboundedSender<Question>,
    /// Where it tells of clients that leave.
    pub access_log: AccessLog,
    /// Where it tells of clients that come.
    pub activity: Activity,
}

/// An event loop and all it holds.
pub struct Core {
    number: usize,
    poll: Poll,
    orders: Receiver<Order>,
    stats: Arc<Stats>,
    questions: UnboundedSender<Question>,
    access_log: AccessLog,
    activity: Activity,
    pools: Vec<PoolState>,
    /// A place is empty for a moment while its client or server is being dealt with.
    clients: Slab<Option<Box<Client>>>,
    servers: Slab<Option<Box<Server>>>,
    names: HashMap<Arc<str>, Name>,
    generation: u64,
    began: Instant,
    now: Instant,
    /// `now` in milliseconds since the process's clock began.
    clock: u64,
    scratch: Vec<u8>,
    dirty_clients: Vec<usize>,
    dirty_servers: Vec<usize>,
    resuming_clients: Vec<usize>,
    resuming_servers: Vec<usize>,
    failed_servers: Vec<usize>,
    /// Clients that have broken the protocol, their generations, and when they are closed at the latest.
    lingering: Vec<(usize, u64, Instant)>,
    /// When listeners that could not accept for want of descriptors are tried again.
    accept_again: Option<Instant>,
    stopping: bool,
}

/// A name and the addresses it stands for.
#[derive(Debug)]
struct Name {
    addresses: Vec<IpAddr>,
    expires: Instant,
    asked: bool,
    turn: usize,
}

const WAKER: Token = Token(0);

/// What a token of the poll stands for.
#[derive(Clone, Copy, Debug)]
enum Source {
    Waker,
    Listener(usize),
    Client(usize),
    Server(usize),
}

impl Source {
    fn token(self) -> Token {
        Token(match self {
            Source::Waker => 0,
            Source::Listener(index) => index << 2 | 1,
            Source::Client(index) => index << 2 | 2,
            Source::Server(index) => index << 2 | 3,
        })
    }

    fn of(token: Token) -> Source {
        let index = token.0 >> 2;
        match token.0 & 3 {
            1 => Source::Listener(index),
            2 => Source::Client(index),
            3 => Source::Server(index),
            _ => Source::Waker,
        }
    }
}

/// Begun once for the process, so that all loops mean the same by a time.
static CLOCK: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

/// The size of what is read at once.
const SCRATCH: usize = 64 * 1024;

impl Core {
    /// A loop without pools, and its handle.
    ///
    /// # Errors
    /// When the kernel gives no poll.
    pub fn new(start: Start) -> std::io::Result<(Core, Handle)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, orders) = std::sync::mpsc::channel();
        let now = Instant::now();
        let core = Core {
            number: start.number,
            poll,
            orders,
            stats: start.stats,
            questions: start.questions,
            access_log: start.access_log,
            activity: start.activity,
            pools: Vec::new(),
            clients: Slab::new(),
            servers: Slab::new(),
            names: HashMap::new(),
            generation: 0,
            began: *CLOCK,
            now,
            clock: 0,
            scratch: vec![0; SCRATCH],
            dirty_clients: Vec::new(),
            dirty_servers: Vec::new(),
            resuming_clients: Vec::new(),
            resuming_servers: Vec::new(),
            failed_servers: Vec::new(),
            lingering: Vec::new(),
            accept_again: None,
            stopping: false,
        };
        Ok((core, Handle { orders: sender, waker }))
    }

    /// Runs until it is told to stop and all clients have their answers.
    ///
    /// # Errors
    /// When the kernel's poll fails.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while !(self.stopping && self.clients.is_empty()) {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
                _ => self.turn(&events),
            }
        }
        Ok(())
    }
}
