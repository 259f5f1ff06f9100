//! What this process uses, from `/proc`.

use std::fs;

use jiff::{SignedDuration, Timestamp};

/// Ticks of `stat` are hundredths of a second on every architecture that there is.
const TICK: u64 = 10_000_000;
const PAGE: u64 = 4096;

/// One look at it.
pub(super) struct Process {
    /// User and system.
    pub cpu_nanoseconds: u64,
    /// Bytes that are in memory, and those of them that are of no file.
    pub resident: u64,
    pub anonymous: u64,
    /// Bytes of address space.
    pub virtual_size: u64,
    /// Without and with reading from disk.
    pub page_faults: (u64, u64),
    pub started: Option<Timestamp>,
}

pub(super) fn read() -> Option<Process> {
    let (stat, statm) = (fs::read_to_string("/proc/self/stat").ok()?, fs::read_to_string("/proc/self/statm").ok()?);
    let mut process = parse(&stat, &statm)?;
    // The kernel tells it in ticks since the machine's start.
    let ticks = started_ticks(&stat)?;
    let since = SignedDuration::from_millis(i64::try_from(ticks).ok()? * 10);
    process.started = crate::node::booted_at().and_then(|booted| booted.checked_add(since).ok());
    Some(process)
}

/// Fields are counted behind the name, which may hold anything; the first of them is the third.
fn field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit(')').next()?.split_whitespace().nth(number - 3)?.parse().ok()
}

fn started_ticks(stat: &str) -> Option<u64> {
    field(stat, 22)
}

fn parse(stat: &str, statm: &str) -> Option<Process> {
    let pages = |index: usize| statm.split_whitespace().nth(index)?.parse::<u64>().ok();
    let (resident, shared) = (pages(1)?, pages(2)?);
    let faults = field(stat, 10)? + field(stat, 12)?;
    Some(Process {
        cpu_nanoseconds: (field(stat, 14)? + field(stat, 15)?) * TICK,
        resident: resident * PAGE,
        anonymous: resident.saturating_sub(shared) * PAGE,
        virtual_size: field(stat, 23)?,
        page_faults: (faults, field(stat, 12)?),
        started: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat =
            "7 (a (b) c) S 1 7 7 0 -1 4194304 100 5 3 0 150 50 9 9 20 0 4 0 1000 8192000 250 18446744073709551615";
        let process = parse(stat, "2000 250 50 10 0 300 0\n").expect("it is read");
        assert_eq!((process.cpu_nanoseconds, process.resident), (2_000_000_000, 250 * 4096));
        assert_eq!((process.anonymous, process.virtual_size), (200 * 4096, 8_192_000));
        assert_eq!((process.page_faults, started_ticks(stat)), ((103, 3), Some(1000)));
        let own = read().expect("there is one");
        assert!(own.started.is_some_and(|at| at < Timestamp::now()) && own.resident > 1 << 20);
    }
}
