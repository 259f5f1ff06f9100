//! Limits of control groups, as far as they can be seen from inside a container.

use std::{fs, path::Path};

use serde::Serialize;

/// What a control group may use and uses. What is not limited, or cannot be seen, is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// Memory in use, in bytes, caches included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_usage_bytes: Option<u64>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<f64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
}

/// The limits of a process's groups, by what `/proc/PID/cgroup` says.
#[must_use]
pub fn limits(mounted: &Path, groups: &str) -> Limits {
    let mut limits = Limits::default();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        // `/../id` names a group above what this container sees.
        if path.contains("..") {
            continue;
        }
        let path = path.trim_start_matches('/');
        let place = |controller: &str| {
            let own = if controller.is_empty() { mounted.join(path) } else { mounted.join(controller).join(path) };
            // Without a namespace of its own a container sees its own group as the root.
            if own.is_dir() { own } else { mounted.join(controller) }
        };
        for controller in controllers.split(',') {
            match controller {
                "" => {
                    let group = place("");
                    limits.memory_limit_bytes = limits.memory_limit_bytes.or(number(&group.join("memory.max")));
                    limits.memory_usage_bytes = limits.memory_usage_bytes.or(number(&group.join("memory.current")));
                    limits.cpu_limit = limits.cpu_limit.or(quota(&text(&group.join("cpu.max"))));
                    limits.pids_limit = limits.pids_limit.or(number(&group.join("pids.max")));
                }
                "memory" => {
                    let group = place("memory");
                    // Without a limit there stands the largest number of pages.
                    let limit = number(&group.join("memory.limit_in_bytes")).filter(|limit| *limit < 1 << 62);
                    limits.memory_limit_bytes = limit;
                    limits.memory_usage_bytes = number(&group.join("memory.usage_in_bytes"));
                }
                "cpu" => {
                    let group = place("cpu");
                    let told = format!(
                        "{} {}",
                        text(&group.join("cpu.cfs_quota_us")).trim(),
                        text(&group.join("cpu.cfs_period_us")).trim()
                    );
                    limits.cpu_limit = quota(&told);
                }
                "pids" => limits.pids_limit = number(&place("pids").join("pids.max")),
                _ => {}
            }
        }
    }
    limits
}

/// `QUOTA PERIOD`; `max` and `-1` stand for none.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

fn number(path: &Path) -> Option<u64> {
    text(path).trim().parse().ok()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_both_kinds_of_groups_are_seen() {
        let mounted = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = mounted.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory.max", "268435456\n");
        write("memory.current", "1000\n");
        write("cpu.max", "50000 100000\n");
        write("pids.max", "max\n");
        let seen = limits(mounted.path(), "0::/\n");
        let expected = Limits {
            memory_limit_bytes: Some(268_435_456),
            memory_usage_bytes: Some(1000),
            cpu_limit: Some(0.5),
            pids_limit: None,
        };
        assert_eq!(seen, expected);
        write("memory/pod/memory.limit_in_bytes", "1024\n");
        write("cpu/pod/cpu.cfs_quota_us", "-1\n");
        write("cpu/pod/cpu.cfs_period_us", "100000\n");
        let seen = limits(mounted.path(), "5:memory:/pod\n4:cpu,cpuacct:/pod\n3:pids:/elsewhere\n");
        assert_eq!(seen, Limits { memory_limit_bytes: Some(1024), ..Limits::default() });
        assert_eq!(limits(mounted.path(), "0::/../other\n"), Limits::default());
    }
}
