//! Pools that come, change and go: clients stay where their pool does, and connections to servers that stay are kept.

use std::sync::Arc;

use super::client::Client;
use super::io::Listener;
use super::pool::PoolState;
use super::server::{Place, Stage};
use super::{Core, ListeningSocket, Source};
use crate::plan::PoolPlan;

impl Core {
    /// Takes up new pools. Clients stay, and so do connections to servers that stay.
    pub(super) fn apply(&mut self, plans: Vec<(Arc<PoolPlan>, Option<ListeningSocket>)>) {
        for (_, server) in self.servers.iter_mut() {
            // What it counted for may be elsewhere now, or nowhere.
            server.iter_mut().for_each(|server| server.uploads_to = None);
        }
        let names: Vec<Arc<str>> = plans.iter().map(|(plan, _)| plan.name.clone()).collect();
        for (plan, socket) in plans {
            let named = self.pools.iter().position(|state| state.plan.name == plan.name);
            // A pool by another name at the same place is the same one to its clients.
            let index = named.or_else(|| self.pools.iter().position(|state| state.plan.becomes(&plan, &names)));
            let mut state = PoolState::new(plan, self.number, &self.stats, self.clock);
            match index {
                Some(index) => {
                    std::mem::swap(&mut self.pools[index], &mut state);
                    self.pools[index].listener = state.listener.take();
                    self.take_over(index, &state);
                    if state.plan.name != self.pools[index].plan.name {
                        let of_pool = |client: &Client| client.pool == index;
                        let clients = self.clients.iter().filter(|(_, client)| client.as_deref().is_some_and(of_pool));
                        let clients = clients.count() as u64;
                        state.stats.clients.subtract(clients);
                        self.pools[index].stats.clients.add(clients);
                    }
                    self.listen(index, socket);
                }
                None => {
                    self.pools.push(state);
                    self.listen(self.pools.len() - 1, socket);
                }
            }
        }
        for index in 0..self.pools.len() {
            if !names.contains(&self.pools[index].plan.name) {
                self.close_pool(index);
            } else if self.pools[index].plan.pool.preconnect {
                self.preconnect(index);
            }
        }
    }

    fn listen(&mut self, pool: usize, socket: Option<ListeningSocket>) {
        let Some(socket) = socket else { return };
        if let Some(mut old) = self.pools[pool].listener.take() {
            old.deregister(self.poll.registry());
        }
        let mut listener = Listener::from_descriptor(socket.descriptor, socket.unix);
        match listener.register(self.poll.registry(), Source::Listener(pool).token()) {
            Ok(()) => self.pools[pool].listener = Some(listener),
            Err(error) => tracing::error!(%error, pool = %self.pools[pool].plan.name, "the listener cannot be watched"),
        }
    }

    /// Moves the connections of a pool's former self to the endpoints that stay; the others end after their last answers.
    fn take_over(&mut self, index: usize, old: &PoolState) {
        let same_words = |one: &PoolPlan, other: &PoolPlan| {
            let (one, other) = (&one.pool, &other.pool);
            one.redis == other.redis && one.redis_auth == other.redis_auth && one.redis_db == other.redis_db
        };
        let keep = same_words(&old.plan, &self.pools[index].plan);
        for endpoint in &old.endpoints {
            for (version, lanes) in endpoint.connections.iter().enumerate() {
                for (lane, id) in lanes.iter().enumerate().filter_map(|(lane, id)| id.map(|id| (lane, id))) {
                    if !keep || !self.adopt(index, endpoint, version, lane, id) {
                        self.retire(id);
                    }
                }
            }
        }
        if old.plan.pool.redis != self.pools[index].plan.pool.redis {
            self.close_clients(index);
        }
    }

    fn adopt(&mut self, index: usize, old: &super::pool::Endpoint, version: usize, lane: usize, id: usize) -> bool {
        let state = &mut self.pools[index];
        let found = state.endpoints.iter_mut().enumerate().find(|(_, endpoint)| {
            endpoint.address == old.address && endpoint.connections[version].get(lane) == Some(&None)
        });
        let (Some((at, endpoint)), Some(Some(server))) = (found, self.servers.get_mut(id)) else { return false };
        endpoint.connections[version][lane] = Some(id);
        endpoint.rests_until = old.rests_until;
        server.place = Some(Place { pool: index, endpoint: at, version: if version == 1 { 3 } else { 2 }, lane });
        server.timeout = state.plan.pool.answer_timeout();
        let stats = state.shards[endpoint.shard].stats.clone();
        if !Arc::ptr_eq(&stats, &server.stats) {
            let waiting = server.pending.len() as u64;
            server.stats.waiting.subtract(waiting);
            stats.waiting.add(waiting);
            if server.stage == Stage::Up {
                server.stats.connections.subtract(1);
                stats.connections.add(1);
            }
            server.stats = stats;
        }
        true
    }

    fn preconnect(&mut self, index: usize) {
        let lanes = self.pools[index].plan.pool.server_connections as usize;
        for endpoint in 0..self.pools[index].endpoints.len() {
            for lane in 0..lanes {
                let id = self.connection(Place { pool: index, endpoint, version: 2, lane });
                self.touch_server(id);
            }
        }
    }

    /// Ends a pool that is configured no more.
    fn close_pool(&mut self, index: usize) {
        if let Some(mut listener) = self.pools[index].listener.take() {
            listener.deregister(self.poll.registry());
        }
        self.close_clients(index);
        let servers: Vec<usize> = self
            .servers
            .iter()
            .filter(|(_, server)| {
                server.as_ref().and_then(|server| server.place).is_some_and(|place| place.pool == index)
            })
            .map(|(id, _)| id)
            .collect();
        servers.into_iter().for_each(|id| self.retire(id));
    }

    fn close_clients(&mut self, pool: usize) {
        let ids: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| client.as_ref().is_some_and(|client| client.pool == pool))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            if let Some(Some(client)) = self.clients.get_mut(id) {
                client.closing = true;
            }
            self.touch_client(id);
        }
    }
}
