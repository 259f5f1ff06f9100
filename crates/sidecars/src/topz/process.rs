//! One process as `/proc` tells of it (proc(5)).

use std::{fs, path::Path};

/// One process at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its number in this PID namespace.
    pub pid: i32,
    /// Its parent's number; 0 if that is in another namespace.
    pub parent: i32,
    /// `R`, `S`, `D`, `Z`, `T`, …
    pub state: char,
    /// Its name, 15 bytes at most.
    pub name: String,
    /// Its command line, or its name in brackets if it has none.
    pub command: String,
    /// Its effective user, if that may be known.
    pub user: Option<u32>,
    /// Threads.
    pub threads: u64,
    /// Processor time used, in clock ticks.
    pub cpu_ticks: u64,
    /// When it began, in clock ticks after the machine did.
    pub start_ticks: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Resident memory, in pages.
    pub resident_pages: u64,
    /// Its control groups, as `/proc/PID/cgroup` tells them.
    pub groups: String,
}

/// Reads a process; nothing if it is gone or the kernel tells nonsense.
#[must_use]
pub fn read(directory: &Path) -> Option<Process> {
    let mut process = parse_stat(&lossy(&directory.join("stat"))?)?;
    let command = fs::read(directory.join("cmdline")).unwrap_or_default();
    process.command = command_line(&command, &process.name);
    process.user = lossy(&directory.join("status")).and_then(|status| effective_user(&status));
    process.groups = lossy(&directory.join("cgroup")).unwrap_or_default();
    Some(process)
}

/// What `stat` tells.
#[must_use]
pub fn parse_stat(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    // The name may hold anything, parentheses too.
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered as in proc(5); the list begins with field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.trim().parse().ok()?,
        parent: field(4)?.parse().ok()?,
        state: field(3)?.chars().next()?,
        name: name.to_owned(),
        command: String::new(),
        user: None,
        threads: number(20)?,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        start_ticks: number(22)?,
        virtual_bytes: number(23)?,
        resident_pages: number(24)?,
        groups: String::new(),
    })
}

fn command_line(bytes: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split('\0').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { format!("[{name}]") } else { words.join(" ") }
}

fn effective_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Names and command lines may hold any bytes.
fn lossy(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let text =
            "42 (a) R (b c) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 3 0 999 4096000 250 18446744073709551615\n";
        let process = parse_stat(text).unwrap();
        assert_eq!((process.name.as_str(), process.state, process.parent), ("a) R (b c", 'S', 1));
        assert_eq!((process.cpu_ticks, process.threads, process.start_ticks), (12, 3, 999));
        assert_eq!((process.virtual_bytes, process.resident_pages), (4_096_000, 250));
    }

    #[test]
    fn nonsense_is_no_process() {
        for text in ["", "1", "1 (x)", "1 (x) S", "x (x) S 1 1", "1 (x) S 1 1 1 0 -1 0 0 0 0 0 a b"] {
            assert_eq!(parse_stat(text), None, "{text}");
        }
    }

    #[test]
    fn a_command_line_is_joined_and_kernel_threads_have_none() {
        assert_eq!(command_line(b"/bin/sh\0-c\0sleep 1\0", "sh"), "/bin/sh -c sleep 1");
        assert_eq!(command_line(b"", "kworker"), "[kworker]");
        assert_eq!(effective_user("Name:\tx\nUid:\t1\t2\t3\t4\n"), Some(2));
    }
}
