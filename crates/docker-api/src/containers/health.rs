//! Health checks: a command in the container, now and then.

use std::sync::Arc;
use std::time::Duration;

use engine::{ExecSpec, Sandbox, UserSpec};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::record::{Health, HealthResult, Record, Status};
use super::table::Container;
use super::{MAIN, random_id};
use crate::daemon::Daemon;
use crate::time;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// How many results are kept, and how much of each one's output.
const KEPT: usize = 5;
const OUTPUT: usize = 4096;

/// Whether a container has a check.
pub(super) fn is_wanted(record: &Record) -> bool {
    command(record).is_some()
}

fn command(record: &Record) -> Option<Vec<String>> {
    let check = record.options.healthcheck.as_ref()?;
    let (kind, rest) = check.test.split_first()?;
    match kind.as_str() {
        "CMD" if !rest.is_empty() => Some(rest.to_vec()),
        "CMD-SHELL" => {
            let shell = record.options.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            Some(shell.into_iter().chain(rest.first().cloned()).collect())
        }
        _ => None,
    }
}

/// Checks until dropped.
pub(super) fn watch(daemon: &Arc<Daemon>, container: &Arc<Container>, sandbox: &Sandbox) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let record = container.snapshot();
    if let Some(command) = command(&record) {
        tasks.spawn(check(daemon.clone(), container.clone(), sandbox.clone(), record, command));
    }
    tasks
}

async fn check(daemon: Arc<Daemon>, container: Arc<Container>, sandbox: Sandbox, record: Record, command: Vec<String>) {
    let options = record.options.healthcheck.clone().unwrap_or_default();
    let or = |nanoseconds: i64, default: Duration| match u64::try_from(nanoseconds) {
        Ok(nanoseconds @ 1..) => Duration::from_nanos(nanoseconds),
        _ => default,
    };
    let (interval, timeout) = (or(options.interval, INTERVAL), or(options.timeout, TIMEOUT));
    let start_interval = or(options.start_interval, START_INTERVAL);
    let start_period = or(options.start_period, Duration::ZERO);
    let retries = if options.retries > 0 { options.retries } else { RETRIES };
    let started = time::parse(&record.state.started_at).unwrap_or_else(Timestamp::now);
    let in_start_period =
        || Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default() < start_period;
    loop {
        let starting = in_start_period() && health(&container) == "starting";
        tokio::time::sleep(if starting { start_interval.min(interval) } else { interval }).await;
        if container.status() != Status::Running {
            continue;
        }
        let in_start_period = in_start_period();
        let result = probe(&daemon, &sandbox, &record, &command, timeout).await;
        let (before, after) = container.note(|record| {
            let health = record.state.health.get_or_insert_with(Health::default);
            let before = health.status.clone();
            judge(health, result, in_start_period, retries);
            (before, health.status.clone())
        });
        if before != after {
            let record = container.snapshot();
            daemon.events.emit("container", format!("health_status: {after}"), &record.id, record.event_attributes());
        }
    }
}

fn health(container: &Container) -> String {
    container.record().state.health.as_ref().map(|health| health.status.clone()).unwrap_or_default()
}

/// What a result makes of a container's health.
fn judge(health: &mut Health, result: HealthResult, in_start_period: bool, retries: i64) {
    match result.exit_code {
        0 => {
            health.failing_streak = 0;
            health.status = "healthy".into();
        }
        // A container that has never been well may take its time.
        _ if in_start_period && health.status == "starting" => {}
        _ => {
            health.failing_streak += 1;
            if health.failing_streak >= retries {
                health.status = "unhealthy".into();
            }
        }
    }
    health.log.push(result);
    let surplus = health.log.len().saturating_sub(KEPT);
    health.log.drain(..surplus);
}

async fn probe(
    daemon: &Daemon,
    sandbox: &Sandbox,
    record: &Record,
    command: &[String],
    timeout: Duration,
) -> HealthResult {
    let start = time::now();
    // As dockerd: whoever looks at events sees a check as any other exec.
    let exec_id = random_id();
    let tell = |action: String, exit_code: Option<i32>| {
        let mut attributes = record.event_attributes();
        attributes.insert("execID".into(), exec_id.clone());
        attributes.extend(exit_code.map(|code| ("exitCode".into(), code.to_string())));
        daemon.events.emit("container", action, &record.id, attributes);
    };
    tell(format!("exec_create: {}", command.join(" ")), None);
    tell(format!("exec_start: {}", command.join(" ")), None);
    let spec = ExecSpec {
        container: MAIN.to_owned(),
        args: command.to_vec(),
        user: Some(UserSpec {
            user: record.options.user.clone(),
            image_groups: !record.options.user.contains(':'),
            ..UserSpec::default()
        }),
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    };
    let (exit_code, output) = match sandbox.exec(spec).await {
        Err(error) => (-1, error.to_string()),
        Ok(mut exec) => {
            let streams = std::mem::take(&mut exec.streams);
            let heard = Mutex::default();
            let run = async {
                let (.., exit) =
                    tokio::join!(listen(streams.stdout, &heard), listen(streams.stderr, &heard), exec.wait());
                exit.map_or(-1, |exit| exit.exit_code)
            };
            let ended = tokio::time::timeout(timeout, run).await;
            tell("exec_die".into(), Some(ended.as_ref().map_or(128 + libc::SIGKILL, |code| *code)));
            let text = String::from_utf8_lossy(&heard.lock()).into_owned();
            match ended {
                Ok(code) => (code, text),
                Err(_) => {
                    let _ = exec.signal(libc::SIGKILL).await;
                    let until_then = if text.is_empty() { text } else { format!(": {text}") };
                    (-1, format!("Health check exceeded timeout ({}){until_then}", time::go(timeout)))
                }
            }
        }
    };
    HealthResult { start, end: time::now(), exit_code, output }
}

/// Keeps the beginning of what a process writes. The rest is read, too: a check that nobody listens to would fail of it.
async fn listen(output: Option<engine::Output>, heard: &Mutex<Vec<u8>>) {
    let Some(mut output) = output else { return };
    let mut buffer = [0; OUTPUT];
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        let mut heard = heard.lock();
        let room = OUTPUT - heard.len();
        heard.extend(&buffer[..count.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(results: &[(i32, bool)]) -> Health {
        let mut health = Health { status: "starting".into(), ..Health::default() };
        for (exit_code, in_start_period) in results {
            let result = HealthResult { exit_code: *exit_code, ..HealthResult::default() };
            judge(&mut health, result, *in_start_period, 3);
        }
        health
    }

    #[test]
    fn some_failures_in_a_row_make_it_unhealthy_and_one_success_well() {
        assert_eq!(after(&[(1, false), (1, false)]).status, "starting");
        assert_eq!(after(&[(1, false), (1, false), (1, false)]).status, "unhealthy");
        assert_eq!(after(&[(1, false), (1, false), (1, false), (0, false)]).status, "healthy");
        assert_eq!(after(&[(0, false), (1, false), (1, false)]).status, "healthy");
    }

    #[test]
    fn failures_while_starting_do_not_count() {
        assert_eq!(after(&[(1, true); 9]).failing_streak, 0);
        assert_eq!(after(&[(1, true); 9]).log.len(), 5);
        assert_eq!(after(&[(0, true), (1, true)]).failing_streak, 1);
    }
}
