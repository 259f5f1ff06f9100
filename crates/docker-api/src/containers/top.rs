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
    let columns = columns(call.query("ps_args").unwrap_or("-ef"))?;
    let main = container.record().state.pid;
    blocking(move || {
        let pids = members(main, sandbox.pid());
        let rows: Vec<Vec<String>> =
            pids.iter().filter_map(|pid| Process::read(*pid)).map(|process| process.row(&columns)).collect();
        let titles: Vec<String> = columns.iter().map(|column| column.title()).collect();
        Ok(json_answer(&json!({"Titles": titles, "Processes": rows})))
    })
    .await
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column(String);

/// The columns of `-ef`, `aux` and `-o a,b`; what else `ps` knows is refused.
fn columns(args: &str) -> Result<Vec<Column>> {
    let named = |names: &str| names.split(',').map(|name| Column(name.trim().to_ascii_lowercase())).collect::<Vec<_>>();
    let words: Vec<&str> = args.split_whitespace().collect();
    let columns = match words[..] {
        ["-ef" | "-e" | "-f" | "ef"] => named("uid,pid,ppid,c,stime,tty,time,cmd"),
        ["aux" | "-aux" | "au"] => named("user,pid,%cpu,%mem,vsz,rss,tty,stat,start,time,command"),
        ["-o" | "-eo" | "-efo" | "o", names] => named(names),
        [one] if one.starts_with("-o") || one.starts_with("-eo") => {
            named(one.trim_start_matches("-e").trim_start_matches("-o").trim_start_matches('o'))
        }
        _ => return Err(ApiError::bad(format!("ps: unsupported arguments {args:?}"))),
    };
    match columns.iter().find(|column| column.title().is_empty()) {
        Some(unknown) => {
            Err(ApiError::bad(format!("ps: error: unknown user-defined format specifier \"{}\"", unknown.0)))
        }
        None if !columns.iter().any(|column| column.0 == "pid") => {
            Err(ApiError::internal("Couldn't find PID field in ps output"))
        }
        None => Ok(columns),
    }
}

impl Column {
    fn title(&self) -> String {
        match self.0.as_str() {
            "user" => "USER",
            "uid" => "UID",
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
            "vsz" => "VSZ",
            "rss" => "RSS",
            "stat" | "state" | "s" => "STAT",
            "ni" | "nice" => "NI",
            "etime" => "ELAPSED",
            _ => "",
        }
        .to_owned()
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
    stat: Vec<String>,
    name: String,
    command: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
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
        Some(Self { pid, uid, stat, name, command })
    }

    /// A field of stat(5) by its number.
    fn field(&self, number: usize) -> u64 {
        self.stat.get(number - 3).and_then(|text| text.parse::<i64>().ok()).map_or(0, |number| number.max(0) as u64)
    }

    fn started(&self) -> Timestamp {
        Timestamp::from_second(system::boot_time() + (self.field(22) / TICKS) as i64).unwrap_or_default()
    }

    fn row(&self, columns: &[Column]) -> Vec<String> {
        let seconds = (self.field(14) + self.field(15)) / TICKS;
        let elapsed = Timestamp::now().duration_since(self.started()).as_secs().max(1) as u64;
        let clock = |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let cell = |column: &Column| match column.0.as_str() {
            "user" | "uid" => user_name(self.uid),
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
            "vsz" => (self.field(23) / 1024).to_string(),
            "rss" => (self.field(24) * 4).to_string(),
            "ni" | "nice" => self.stat.get(16).cloned().unwrap_or_default(),
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

    #[test]
    fn columns_are_those_of_ps() {
        let titles = |args| columns(args).unwrap().iter().map(Column::title).collect::<Vec<_>>().join(" ");
        assert_eq!(titles("-ef"), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("-o pid,comm"), "PID COMMAND");
        assert!(columns("-o comm").unwrap_err().message.contains("PID field"));
        assert!(columns("-o pid,nonsense").is_err());
    }

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let row = Process::read(own).unwrap().row(&columns("-ef").unwrap());
        assert_eq!(row[1], own.to_string());
    }
}
