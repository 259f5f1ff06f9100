//! `GET /containers/NAME/top`: the container's processes as the host sees them, in the columns `ps` would show.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::life;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, json as json_answer};
use crate::system;

/// Clock ticks a second; the same on every Linux.
const TICKS: u64 = 100;

/// Lists processes.
pub(crate) async fn top(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = daemon.containers.find(call.param("name"))?;
    let sandbox = life::sandbox(&daemon, &container)?;
    let Wanted { columns, order } = wanted(call.query("ps_args").unwrap_or("-ef"))?;
    let main = container.record().state.pid;
    blocking(move || {
        let pids = members(main, sandbox.pid());
        let mut processes: Vec<Process> = pids.iter().filter_map(|pid| Process::read(*pid)).collect();
        processes.sort_by(|one, other| {
            let compare = |(column, turned): &(Column, bool)| {
                let ordering = one.compare(other, column);
                if *turned { ordering.reverse() } else { ordering }
            };
            order.iter().map(compare).find(|ordering| ordering.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        });
        let rows: Vec<Vec<String>> = processes.iter().map(|process| process.row(&columns)).collect();
        let titles: Vec<String> = columns.iter().map(|column| column.title()).collect();
        Ok(json_answer(&json!({"Titles": titles, "Processes": rows})))
    })
    .await
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    /// `-o NAME=TITLE`.
    title: Option<String>,
}

/// What the arguments of `ps` come to.
struct Wanted {
    columns: Vec<Column>,
    /// Keys of `--sort`, each with whether it is turned round.
    order: Vec<(Column, bool)>,
}

const STANDARD: &str = "pid,tty,time,cmd";
const FULL: &str = "uid,pid,ppid,c,stime,tty,time,cmd";
const LONG: &str = "f,s,uid,pid,ppid,c,pri,ni,vsz,wchan,tty,time,cmd";
const USER: &str = "user,pid,%cpu,%mem,vsz,rss,tty,stat,start,time,command";
const JOBS: &str = "pid,pgid,sid,tty,time,cmd";

fn named(names: &str) -> Vec<Column> {
    let column = |text: &str| {
        let (name, title) = text.split_once('=').map_or((text, None), |(name, title)| (name, Some(title.to_owned())));
        Column { name: name.trim().to_ascii_lowercase(), title }
    };
    names.split(',').filter(|name| !name.trim().is_empty()).map(column).collect()
}

/// Arguments of `ps` (procps): its sets of columns, lists of them, and their order. Which processes are meant is said by
/// the container, so that options that choose some are taken and mean nothing more.
fn wanted(args: &str) -> Result<Wanted> {
    let refuse = |what: &str| Err(ApiError::bad(format!("ps: error: {what}")));
    let mut words = args.split_whitespace();
    let (mut set, mut own, mut order) = (STANDARD, Vec::new(), Vec::new());
    let keys = |list: &str| -> Vec<(Column, bool)> {
        let key = |key: &str| (named(key.trim_start_matches(['+', '-'])).pop(), key.starts_with('-'));
        list.split(',').map(key).filter_map(|(column, turned)| Some((column?, turned))).collect()
    };
    while let Some(word) = words.next() {
        if let Some(option) = word.strip_prefix("--") {
            let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
            let mut value = || value.or_else(|| words.next()).unwrap_or_default();
            match name {
                "sort" => order = keys(value()),
                "format" => own.extend(named(value())),
                "forest" | "headers" | "no-headers" | "cumulative" | "deselect" => {}
                _ => return refuse("unknown gnu long option"),
            }
            continue;
        }
        let unix = word.starts_with('-');
        let letters = word.trim_start_matches('-');
        for (index, letter) in letters.char_indices() {
            // The rest of the word, or the next one.
            let rest = &letters[index + letter.len_utf8()..];
            let mut value = || if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
            match letter {
                'o' | 'O' => {
                    own.extend(named(value()));
                    break;
                }
                'k' if !unix => {
                    order = keys(value());
                    break;
                }
                // Those are named by their numbers or users.
                'p' | 'g' | 'G' | 'C' if unix => {
                    value();
                    break;
                }
                'f' if unix => set = FULL,
                'F' if unix => set = FULL,
                'l' => set = LONG,
                'j' => set = JOBS,
                'u' if !unix || letters.contains(['x', 'a']) => set = USER,
                'e' | 'A' | 'a' | 'd' | 'x' | 'w' | 'f' | 'T' | 'H' | 'N' | 'c' | 'r' | 'y' | 'L' | 'm' | 'Z' | 'M' => {
                }
                _ => return refuse("unsupported option (BSD syntax)"),
            }
        }
    }
    let columns = if own.is_empty() { named(set) } else { own };
    let known = |column: &&Column| column.heading().is_empty();
    if let Some(unknown) = columns.iter().chain(order.iter().map(|(column, _)| column)).find(known) {
        return refuse(&format!("unknown user-defined format specifier \"{}\"", unknown.name));
    }
    if !columns.iter().any(|column| column.title() == "PID") {
        return Err(ApiError::internal("Couldn't find PID field in ps output"));
    }
    Ok(Wanted { columns, order })
}

impl Column {
    fn title(&self) -> String {
        self.title.clone().unwrap_or_else(|| self.heading().to_owned())
    }

    fn heading(&self) -> &'static str {
        match self.name.as_str() {
            "user" | "euser" | "uname" => "USER",
            "uid" | "euid" => "UID",
            "gid" | "egid" => "GID",
            "group" | "egroup" => "GROUP",
            "pgid" | "pgrp" => "PGID",
            "sid" | "sess" | "session" => "SID",
            "f" | "flag" | "flags" => "F",
            "pri" => "PRI",
            "nlwp" | "thcount" => "NLWP",
            "wchan" => "WCHAN",
            "sz" => "SZ",
            "lstart" => "STARTED",
            "etimes" => "ELAPSED",
            "psr" => "PSR",
            "pid" => "PID",
            "ppid" => "PPID",
            "c" => "C",
            "stime" => "STIME",
            "start" => "START",
            "tty" | "tt" => "TTY",
            "time" | "cputime" => "TIME",
            "cmd" | "args" => "CMD",
            "command" => "COMMAND",
            "comm" | "ucmd" => "COMMAND",
            "%cpu" | "pcpu" => "%CPU",
            "%mem" | "pmem" => "%MEM",
            "vsz" | "vsize" => "VSZ",
            "rss" | "rssize" => "RSS",
            "stat" => "STAT",
            "state" | "s" => "S",
            "ni" | "nice" => "NI",
            "etime" => "ELAPSED",
            _ => "",
        }
    }
}

/// The processes that share the main one's cgroup: all descendants, wherever they went.
fn members(main: i32, shim: Option<i32>) -> Vec<i32> {
    let of = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let group = |text: &str| {
        text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).max_by_key(|path| path.len()).map(str::to_owned)
    };
    let Some(wanted) = group(&of(main)) else { return vec![main] };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut pids: Vec<i32> =
        pids.filter(|pid| Some(*pid) != shim && group(&of(*pid)).as_ref() == Some(&wanted)).collect();
    pids.sort_unstable();
    pids
}

struct Process {
    pid: i32,
    uid: u32,
    gid: u32,
    stat: Vec<String>,
    name: String,
    command: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let metadata = fs::metadata(format!("/proc/{pid}")).ok()?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = (text.find('(')?, text.rfind(')')?);
        let name = text[head + 1..tail].to_owned();
        // From the third field on, which is the state.
        let stat = text[tail + 1..].split_whitespace().map(str::to_owned).collect();
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = match arguments.is_empty() {
            true => format!("[{name}]"),
            false => String::from_utf8_lossy(&arguments).trim_end_matches('\0').replace('\0', " "),
        };
        Some(Self { pid, uid, gid, stat, name, command })
    }

    /// A field of stat(5) by its number.
    fn field(&self, number: usize) -> u64 {
        self.stat.get(number - 3).and_then(|text| text.parse::<i64>().ok()).map_or(0, |number| number.max(0) as u64)
    }

    fn signed(&self, number: usize) -> i64 {
        self.stat.get(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn started(&self) -> Timestamp {
        Timestamp::from_second(system::boot_time() + (self.field(22) / TICKS) as i64).unwrap_or_default()
    }

    /// Numbers by their size, the rest by its letters.
    fn compare(&self, other: &Self, column: &Column) -> std::cmp::Ordering {
        let cell = |process: &Self| process.row(std::slice::from_ref(column)).pop().unwrap_or_default();
        let (one, two) = (cell(self), cell(other));
        match (one.parse::<f64>(), two.parse::<f64>()) {
            (Ok(one), Ok(two)) => one.total_cmp(&two),
            _ => one.cmp(&two),
        }
    }

    fn row(&self, columns: &[Column]) -> Vec<String> {
        let seconds = (self.field(14) + self.field(15)) / TICKS;
        let elapsed = Timestamp::now().duration_since(self.started()).as_secs().max(1) as u64;
        let clock = |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let cell = |column: &Column| match column.name.as_str() {
            "user" | "euser" | "uname" | "uid" => user_name(self.uid),
            "euid" => self.uid.to_string(),
            "gid" | "egid" | "group" | "egroup" => self.gid.to_string(),
            "pgid" | "pgrp" => self.field(5).to_string(),
            "sid" | "sess" | "session" => self.field(6).to_string(),
            "f" | "flag" | "flags" => format!("{:x}", self.field(9) & 7),
            "pri" => (39 - self.signed(18)).to_string(),
            "nlwp" | "thcount" => self.field(20).to_string(),
            "psr" => self.field(39).to_string(),
            "wchan" => fs::read_to_string(format!("/proc/{}/wchan", self.pid))
                .ok()
                .filter(|name| !name.is_empty() && name != "0")
                .unwrap_or_else(|| "-".into()),
            "sz" => (self.field(23) / 4096).to_string(),
            "lstart" => self.started().to_zoned(TimeZone::system()).strftime("%a %b %e %H:%M:%S %Y").to_string(),
            "etimes" => elapsed.to_string(),
            "pid" => self.pid.to_string(),
            "ppid" => self.field(4).to_string(),
            "c" => (seconds * 100 / elapsed).to_string(),
            "stime" | "start" => self.started().to_zoned(TimeZone::system()).strftime("%H:%M").to_string(),
            "tty" | "tt" => terminal(self.field(7)),
            "time" | "cputime" => clock(seconds),
            "etime" => clock(elapsed),
            "cmd" | "command" | "args" => self.command.clone(),
            "comm" | "ucmd" => self.name.clone(),
            "%cpu" | "pcpu" => format!("{:.1}", seconds as f64 * 100.0 / elapsed as f64),
            "%mem" | "pmem" => {
                format!("{:.1}", self.field(24) as f64 * 4096.0 * 100.0 / system::memory_total().max(1) as f64)
            }
            "vsz" | "vsize" => (self.field(23) / 1024).to_string(),
            "rss" | "rssize" => (self.field(24) * 4).to_string(),
            "ni" | "nice" => self.signed(19).to_string(),
            _ => self.stat.first().cloned().unwrap_or_default(),
        };
        columns.iter().map(cell).collect()
    }
}

fn terminal(device: u64) -> String {
    match device {
        0 => "?".into(),
        device => format!("pts/{}", device & 0xff),
    }
}

fn user_name(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let users: BTreeMap<u32, &str> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.parse().ok()?, name))
        })
        .collect();
    users.get(&uid).map_or_else(|| uid.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(args: &str) -> Result<Vec<Column>> {
        wanted(args).map(|wanted| wanted.columns)
    }

    #[test]
    fn columns_are_those_of_ps() {
        let titles = |args| columns(args).unwrap().iter().map(Column::title).collect::<Vec<_>>().join(" ");
        assert_eq!(titles("-ef"), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("-o pid,comm"), "PID COMMAND");
        assert_eq!(titles("axo pid,stat,nlwp"), "PID STAT NLWP");
        assert_eq!(titles("-eopid,user=WHO --sort=-pid"), "PID WHO");
        assert_eq!(titles("-x"), "PID TTY TIME CMD");
        assert_eq!(titles("aux --sort=comm").split(' ').count(), 11);
        assert!(columns("-o comm").unwrap_err().message.contains("PID field"));
        assert!(columns("-o pid,nonsense").is_err());
        assert!(columns("--nonsense").is_err());
    }

    #[test]
    fn processes_come_in_the_order_asked_for() {
        let Wanted { order, .. } = wanted("aux --sort=-pid,comm").unwrap();
        let order: Vec<(&str, bool)> = order.iter().map(|(column, turned)| (column.name.as_str(), *turned)).collect();
        assert_eq!(order, [("pid", true), ("comm", false)]);
        let process =
            |pid: i32| Process { pid, uid: 0, gid: 0, stat: vec![], name: String::new(), command: String::new() };
        assert!(process(9).compare(&process(10), &named("pid")[0]).is_lt());
    }

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let row = Process::read(own).unwrap().row(&columns("-ef").unwrap());
        assert_eq!(row[1], own.to_string());
    }
}
