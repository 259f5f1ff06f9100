//! How much of what there is.

use std::{collections::BTreeMap, fs, time::Instant};

use super::threshold::{Amount, Signal};
use crate::{context::Context, node::machine};

/// One look at the machine.
pub struct Measures {
    /// What is known; a signal that can't be read is missing.
    pub signals: BTreeMap<Signal, Amount>,
    /// When it was looked.
    pub at: Instant,
}

impl Measures {
    /// Takes it: a few files of the kernel and the file systems' counters.
    pub async fn read(context: &Context) -> Self {
        let at = Instant::now();
        let mut signals = BTreeMap::new();
        let asked = |signal| context.config.eviction.thresholds.iter().any(|t| t.signal == signal);
        if asked(Signal::AllocatableMemory)
            && let Some(usage) = context.runtime.usage_of_node().await
        {
            let capacity = context.machine.memory_bytes - context.config.reserved.memory;
            let used = i64::try_from(usage.working_set).unwrap_or(i64::MAX);
            let available = capacity.saturating_sub(used).max(0);
            signals.insert(Signal::AllocatableMemory, Amount { available, capacity });
        }
        if let Some(available) = machine::memory_available() {
            signals.insert(Signal::MemoryAvailable, Amount { available, capacity: context.machine.memory_bytes });
        }
        let node = machine::storage(context.data_dir());
        let image = context.images.directory().and_then(|dir| machine::storage(&dir)).or(node);
        for (storage, bytes, inodes) in [
            (node, Signal::NodefsAvailable, Signal::NodefsInodesFree),
            (image, Signal::ImagefsAvailable, Signal::ImagefsInodesFree),
        ] {
            let Some((capacity, available, all, free)) = storage else { continue };
            signals.insert(bytes, Amount { available, capacity });
            // Some file systems count no inodes.
            if all > 0 {
                let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                signals.insert(inodes, Amount { available: whole(free), capacity: whole(all) });
            }
        }
        if let Some(amount) = process_ids() {
            signals.insert(Signal::PidAvailable, amount);
        }
        Self { signals, at }
    }
}

fn process_ids() -> Option<Amount> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
    let capacity = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max").unwrap_or(i64::MAX));
    // "0.1 0.2 0.3 RUNNING/ALL LAST"
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let used: i64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Amount { available: (capacity - used).max(0), capacity })
}
