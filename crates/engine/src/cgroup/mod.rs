//! Control groups: one seam over v1 (also in hybrid layout) and v2.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What a cgroup has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// When it was read.
    pub at: SystemTime,
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: u64,
    /// Their limit.
    pub pids_limit: Option<u64>,
}

/// Processor time used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStats {
    /// All, in ns.
    pub usage: u64,
    /// In user mode, in ns.
    pub user: u64,
    /// In the kernel, in ns.
    pub system: u64,
    /// Periods of the quota that ran.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time spent throttled, in ns.
    pub throttled: u64,
}

/// Memory used, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// All that is charged, page cache included.
    pub usage: u64,
    /// `usage` less inactive file pages: what Kubernetes calls the working set.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// The limit, if any.
    pub limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from disk.
    pub major_page_faults: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
}
