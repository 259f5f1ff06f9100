//! The time, as exactly as deadlines need it.

use std::sync::LazyLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// About now: the time of the kernel's last tick, some milliseconds ago at most. For deadlines that is as good as the exact
/// time, and reading it needs no look at the hardware's counter, of which a request would take ten.
pub fn about_now() -> Instant {
    static BEGIN: LazyLock<(Instant, Duration)> = LazyLock::new(|| (Instant::now(), ticked()));
    BEGIN.0 + ticked().saturating_sub(BEGIN.1)
}

/// The kernel's clock as of its last tick. Linux has had it since 2.6.32.
fn ticked() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_exact_clock() {
        let (about, exact) = (about_now(), Instant::now());
        let mut last = about;
        while last < about + Duration::from_millis(50) {
            let now = about_now();
            assert!(now >= last, "it never goes back");
            assert!(now <= Instant::now() + Duration::from_millis(10), "it is a tick ahead at most");
            assert!(exact.elapsed() < Duration::from_secs(20), "it does not stand still");
            last = now;
        }
    }
}
