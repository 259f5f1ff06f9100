//! Which replica of a leaf is asked: the cheaper of two. Pure.
//!
//! The cost is what a replica's answers took lately, times what it has in hand. A slow answer counts at once, and is
//! forgotten over [`FORGET`]: a replica that was slow is tried again after a while.

use std::time::Duration;

/// A past answer weighs a third after this long.
const FORGET: f64 = 10.0;
/// Of a replica that has not answered yet.
const UNKNOWN: f64 = 1e-4;

/// How a replica does. Times are since any one beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    seconds: f64,
    at: Duration,
    in_hand: u32,
}

impl Load {
    /// A request goes out.
    pub fn begin(&mut self) {
        self.in_hand += 1;
    }

    /// A request was given up, of which nothing is learnt but that it is no longer in hand.
    pub fn end(&mut self) {
        self.in_hand = self.in_hand.saturating_sub(1);
    }

    /// What an answer took, or a failure is reckoned as.
    pub fn learn(&mut self, took: Duration, now: Duration) {
        let took = took.as_secs_f64();
        let old = self.aged(now);
        let since = now.saturating_sub(self.at).as_secs_f64();
        let weight = (-since / FORGET).exp();
        self.seconds = if took > old { took } else { self.seconds * weight + took * (1.0 - weight) };
        self.at = now;
    }

    /// What asking it now would cost.
    #[must_use]
    pub fn cost(&self, now: Duration) -> f64 {
        self.aged(now).max(UNKNOWN) * f64::from(self.in_hand + 1)
    }

    fn aged(&self, now: Duration) -> f64 {
        self.seconds * (-now.saturating_sub(self.at).as_secs_f64() / FORGET).exp()
    }
}

/// Chooses one of `loads`, other than `not` if there is another: the cheaper of two that the random number picks.
#[must_use]
pub fn choose(loads: &[Load], not: Option<usize>, now: Duration, random: u64) -> Option<usize> {
    let candidates: Vec<usize> = (0..loads.len()).filter(|at| Some(*at) != not).collect();
    match candidates.len() {
        0 => not.filter(|at| *at < loads.len()),
        1 => Some(candidates[0]),
        count => {
            let first = (random % count as u64) as usize;
            let other = (random / count as u64 % (count as u64 - 1)) as usize;
            let second = if other >= first { other + 1 } else { other };
            let (first, second) = (candidates[first], candidates[second]);
            Some(if loads[second].cost(now) < loads[first].cost(now) { second } else { first })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_slow_replica_is_left_alone_and_tried_again_later() {
        let mut loads = [Load::default(), Load::default()];
        loads[0].learn(Duration::from_secs(1), NOW);
        loads[1].learn(Duration::from_millis(5), NOW);
        for random in 0..10 {
            assert_eq!(choose(&loads, None, NOW, random), Some(1));
        }
        let later = NOW + Duration::from_secs(120);
        loads[1].learn(Duration::from_millis(5), later);
        assert_eq!(choose(&loads, None, later, 0), Some(0));
    }

    #[test]
    fn what_is_in_hand_counts() {
        let mut loads = [Load::default(), Load::default()];
        loads[0].begin();
        assert_eq!(choose(&loads, None, NOW, 0), Some(1));
        loads[0].end();
        loads[0].end();
        assert_eq!(loads[0], Load::default());
    }

    #[test]
    fn the_second_request_goes_to_another_replica_if_there_is_one() {
        let loads = [Load::default(); 3];
        for random in 0..100 {
            assert_ne!(choose(&loads, Some(1), NOW, random), Some(1));
        }
        assert_eq!(choose(&loads[..1], Some(0), NOW, 0), Some(0), "a service behind one address may have others");
        assert_eq!(choose(&[], None, NOW, 0), None);
    }
}
