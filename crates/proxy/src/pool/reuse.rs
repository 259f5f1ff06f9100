//! Connections that wait for their next request. Each thread has its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Endpoint, Pool};
use crate::io::{Input, Stream, about_now};

/// A connection to an endpoint, and what was read on it.
pub struct Idle {
    /// The connection.
    pub stream: Stream,
    /// Nothing, while it waits.
    pub input: Input,
}

struct Waiting {
    idle: Idle,
    until: Instant,
}

thread_local! {
    static WAITING: RefCell<HashMap<(u64, u64), Vec<Waiting>>> = RefCell::new(HashMap::new());
    static SWEEPING: Cell<bool> = const { Cell::new(false) };
}

/// A connection that was used before and is still good, the one used last.
pub fn reuse(pool: &Pool, endpoint: &Endpoint) -> Option<Idle> {
    WAITING.with_borrow_mut(|waiting| {
        let list = waiting.get_mut(&(pool.id, endpoint.id))?;
        while let Some(candidate) = list.pop() {
            if candidate.idle.stream.is_quiet() {
                return Some(candidate.idle);
            }
        }
        None
    })
}

/// Keeps a connection for the next request.
pub fn shelve(pool: &Pool, endpoint: &Endpoint, mut idle: Idle) {
    if !idle.input.rest().is_empty() || pool.config.idle_connections == 0 {
        return;
    }
    idle.input.rest_if_empty();
    let until = about_now() + pool.config.idle_timeout.0;
    WAITING.with_borrow_mut(|waiting| {
        let list = waiting.entry((pool.id, endpoint.id)).or_default();
        if list.len() < pool.config.idle_connections {
            list.push(Waiting { idle, until });
        }
    });
    if !SWEEPING.replace(true) {
        tokio::task::spawn_local(sweep(pool.config.idle_timeout.0));
    }
}

/// Closes what waited too long, as long as anything waits.
async fn sweep(mut next: Duration) {
    loop {
        tokio::time::sleep(next.max(Duration::from_millis(100))).await;
        let now = Instant::now();
        let soonest = WAITING.with_borrow_mut(|waiting| {
            waiting.retain(|_, list| {
                list.retain(|w| w.until > now && w.idle.stream.is_quiet());
                !list.is_empty()
            });
            waiting.values().flatten().map(|w| w.until).min()
        });
        match soonest {
            Some(until) => next = until - now,
            None => break,
        }
    }
    SWEEPING.set(false);
}
