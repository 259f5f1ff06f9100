//! Which endpoint is next: a pure choice, given the time, a turn and a draw.

use super::{Endpoint, Members};
use crate::config::{self, Balance};

/// What a request wants of the choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// Where the key is on the ring, in `balance: hash`.
    pub point: u32,
    /// The digest of the endpoint that the client sticks to.
    pub sticky: Option<u64>,
    /// Those that failed this request already.
    pub tried: &'a [u64],
}

/// The index of the next endpoint.
pub fn choose(
    config: &config::Pool,
    members: &Members,
    wish: &Wish<'_>,
    now: u64,
    turn: impl Fn() -> usize,
    draw: impl Fn() -> u32,
) -> Option<usize> {
    let endpoints = &members.endpoints;
    let room = |e: &Endpoint| {
        config.max_requests_per_endpoint == 0 || (e.active() as usize) < config.max_requests_per_endpoint
    };
    if let Some(sticky) = wish.sticky
        && let Some(i) = endpoints
            .iter()
            .position(|e| e.digest == sticky && e.is_well(now) && room(e) && !wish.tried.contains(&e.id))
    {
        return Some(i);
    }
    if endpoints.len() == 1 {
        let only = &endpoints[0];
        return (only.is_open(now) && room(only) && wish.tried.is_empty()).then_some(0);
    }
    let open = |i: usize| {
        let endpoint = &endpoints[i];
        endpoint.is_open(now) && room(endpoint) && !wish.tried.contains(&endpoint.id)
    };
    let warm = |i: usize| match config.slow_start {
        None => true,
        Some(time) => f64::from(draw()) / f64::from(u32::MAX) <= endpoints[i].warmth(now, time.0),
    };
    let count = endpoints.len();
    if count == 0 {
        return None;
    }
    let in_turn = |order: &dyn Fn(usize) -> usize, length: usize| {
        let start = turn();
        let mut cold = None;
        for step in 0..length {
            let i = order(start.wrapping_add(step) % length);
            if open(i) {
                if warm(i) {
                    return Some(i);
                }
                cold = cold.or(Some(i));
            }
        }
        cold
    };
    let load = |i: usize| {
        (f64::from(endpoints[i].active()) + 1.0)
            / (f64::from(endpoints[i].weight().max(1))
                * config.slow_start.map_or(1.0, |t| endpoints[i].warmth(now, t.0)))
    };
    match config.balance {
        Balance::RoundRobin => in_turn(&|i| i, count),
        Balance::Weighted => in_turn(&|i| members.turns[i] as usize, members.turns.len()),
        Balance::LeastConnections => {
            // Equals take turns.
            let start = turn();
            (0..count)
                .map(|i| (start.wrapping_add(i)) % count)
                .filter(|i| open(*i))
                .min_by(|a, b| load(*a).total_cmp(&load(*b)))
        }
        Balance::RandomTwoChoices => {
            let candidates = (0..count).filter(|i| open(*i)).count();
            let nth = |n: usize| (0..count).filter(|i| open(*i)).nth(n);
            match candidates {
                0 => None,
                1 => nth(0),
                _ => {
                    let first = draw() as usize % candidates;
                    let second = (first + 1 + draw() as usize % (candidates - 1)) % candidates;
                    let (first, second) = (nth(first)?, nth(second)?);
                    Some(if load(second) < load(first) { second } else { first })
                }
            }
        }
        // Who cannot take it is passed over, as if it had no place: its keys go where they would go without it.
        Balance::Hash => {
            let ring = members.ring.as_ref()?;
            let point = if ring.placement() == hash_ring::Placement::Random { draw() } else { wish.point };
            ring.lookup(point).filter(|i| open(*i)).or_else(|| ring.candidates(point).find(|i| open(*i)))
        }
    }
}

/// Turns by weight, interleaved (smooth weighted round robin): 3:1 is a a b a, not a a a b.
pub fn turns(weights: &[u32]) -> Vec<u16> {
    let gcd = |mut a: u32, mut b: u32| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let mut weights: Vec<i64> = weights.iter().map(|w| i64::from(w / divisor)).collect();
    // Very uneven weights are made coarser, so that the list stays short.
    while weights.iter().sum::<i64>() > 8192 {
        weights.iter_mut().for_each(|w| *w = (*w + 1) / 2);
    }
    let total: i64 = weights.iter().sum();
    let mut current = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            for i in 0..weights.len() {
                current[i] += weights[i];
                if weights[i] > 0 && (current[i] > current[best] || weights[best] == 0) {
                    best = i;
                }
            }
            current[best] -= total;
            best as u16
        })
        .collect()
}

/// Weights for a ring, whose memory grows with their sum: above 4096 together they are made smaller alike, and none vanishes.
pub fn bounded(weights: &[u32]) -> Vec<u32> {
    const MOST: u64 = 4096;
    let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    let smaller = |w: u32| if w == 0 { 0 } else { (u64::from(w) * MOST / total).max(1) as u32 };
    if total <= MOST { weights.to_vec() } else { weights.iter().map(|w| smaller(*w)).collect() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::super::Member;
    use super::*;

    fn members(weights: &[u32]) -> Members {
        let endpoints = weights.iter().enumerate().map(|(i, weight)| {
            let address = format!("10.0.0.{}:80", i + 1).parse().unwrap();
            Arc::new(Endpoint::new(
                &Member { address, host: format!("10.0.0.{}", i + 1), weight: *weight, drain: false },
                false,
            ))
        });
        Members::new(&config::Pool { balance: Balance::Weighted, ..Default::default() }, endpoints.collect())
    }

    fn placed(weights: &[u32]) -> Members {
        Members::new(&pool(Balance::Hash), members(weights).endpoints)
    }

    fn point(key: usize) -> u32 {
        config::RingConfig::default().point(&key.to_le_bytes())
    }

    fn pool(balance: Balance) -> config::Pool {
        config::Pool { balance, ..Default::default() }
    }

    fn count(config: &config::Pool, members: &Members, requests: usize, point: impl Fn(usize) -> u32) -> Vec<usize> {
        let mut counts = vec![0; members.endpoints.len()];
        let (turn, draw) = (Cell::new(0usize), Cell::new(12_345u64));
        for request in 0..requests {
            let next_turn = || turn.replace(turn.get() + 1);
            let next_draw = || {
                draw.set(draw.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
                (draw.get() >> 32) as u32
            };
            let wish = Wish { point: point(request), ..Default::default() };
            if let Some(i) = choose(config, members, &wish, 1, next_turn, next_draw) {
                counts[i] += 1;
            }
        }
        counts
    }

    #[test]
    fn turns_are_interleaved_by_weight() {
        assert_eq!(turns(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(turns(&[2, 2]), [0, 1]);
        assert_eq!(turns(&[0, 5]), [1]);
        assert!(turns(&[0, 0]).is_empty() && turns(&[]).is_empty());
    }

    #[test]
    fn weights_of_a_ring_are_bounded_and_keep_their_proportions() {
        assert_eq!(bounded(&[3, 1, 0]), [3, 1, 0]);
        assert_eq!(bounded(&[u32::MAX, u32::MAX, 0, 1]), [2047, 2047, 0, 1]);
    }

    #[test]
    fn each_way_of_balancing_shares_as_it_says() {
        assert_eq!(count(&pool(Balance::RoundRobin), &members(&[1, 1, 1]), 300, |_| 0), [100, 100, 100]);
        assert_eq!(count(&pool(Balance::Weighted), &members(&[3, 1]), 400, |_| 0), [300, 100]);
        assert_eq!(count(&pool(Balance::LeastConnections), &members(&[1, 1]), 100, |_| 0), [50, 50]);
        let two = count(&pool(Balance::RandomTwoChoices), &members(&[1, 1, 1]), 3000, |_| 0);
        assert!(two.iter().all(|n| (800..1200).contains(n)), "{two:?}");
        let hashed = count(&pool(Balance::Hash), &placed(&[3, 1]), 4000, point);
        assert!((2800..3200).contains(&hashed[0]), "{hashed:?}");
    }

    #[test]
    fn an_endpoint_that_goes_takes_only_its_own_keys_along() {
        let (three, config) = (placed(&[1, 1, 1]), pool(Balance::Hash));
        let pick = |members: &Members, key: usize| {
            choose(&config, members, &Wish { point: point(key), ..Default::default() }, 1, || 0, || 0).unwrap()
        };
        let before: Vec<usize> = (0..3000).map(|key| pick(&three, key)).collect();
        three.endpoints[2].set_health(false, 1);
        for (key, before) in before.iter().enumerate().filter(|(_, b)| **b != 2) {
            assert_eq!(pick(&three, key), *before);
        }
    }

    #[test]
    fn the_unwell_the_draining_and_the_tried_are_left_out() {
        let three = members(&[1, 1, 1]);
        let config = pool(Balance::RoundRobin);
        three.endpoints[0].set_health(false, 1);
        three.endpoints[1].set(1, true);
        assert_eq!(count(&config, &three, 10, |_| 0), [0, 0, 10]);
        let tried = [three.endpoints[2].id];
        assert_eq!(choose(&config, &three, &Wish { tried: &tried, ..Default::default() }, 1, || 0, || 0), None);
        let sticky = Some(three.endpoints[1].digest);
        assert_eq!(
            choose(&config, &three, &Wish { sticky, ..Default::default() }, 1, || 0, || 0),
            Some(1),
            "who sticks to one that drains still reaches it"
        );
    }

    #[test]
    fn one_that_came_back_starts_slowly() {
        let two = members(&[1, 1]);
        let config = config::Pool { slow_start: Some(config::Duration::seconds(10)), ..pool(Balance::RoundRobin) };
        two.endpoints[0].set_health(false, 1);
        two.endpoints[0].set_health(true, 1);
        let counts = count(&config, &two, 1000, |_| 0);
        assert!((20..120).contains(&counts[0]), "{counts:?}");
    }
}
