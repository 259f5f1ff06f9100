//! Logs as they are written, rotated and truncated.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use adapters::logs::{Arguments, run};
use clap::Parser;
use parking_lot::Mutex;
use serde_json::Value;
use serving::Serving;
use tokio::task::JoinHandle;

use crate::software::{LONG, redis, serving};

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What was told.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Adapter {
    output: Output,
    serving: Serving,
    running: JoinHandle<Ended>,
}

fn start(told: &[&str]) -> Adapter {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }
    let arguments = Cli::parse_from(["logs"].iter().chain(told)).arguments;
    let (output, serving) = (Output::default(), serving());
    let running = tokio::spawn(run(arguments, Box::new(output.clone()), serving.clone()));
    Adapter { output, serving, running }
}

impl Adapter {
    fn records(&self) -> Vec<Value> {
        let text = String::from_utf8(self.output.0.lock().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn messages(&self) -> Vec<String> {
        self.records().iter().map(|record| record["message"].as_str().unwrap().to_owned()).collect()
    }

    async fn tells(&self, expected: &[&str]) {
        let deadline = tokio::time::Instant::now() + LONG;
        while self.messages() != expected {
            assert!(tokio::time::Instant::now() < deadline, "{:?} instead of {expected:?}", self.messages());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(self) -> Vec<String> {
        self.serving.stopping().cancel();
        tokio::time::timeout(LONG, self.running).await.unwrap().unwrap().unwrap();
        let text = String::from_utf8(self.output.0.lock().clone()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn append(path: &Path, text: &str) {
    File::options().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_over_rotation_truncation_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let (log, positions) = (directory.path().join("app.log"), directory.path().join("state/positions.json"));
    let pattern = directory.path().join("*.log");
    let told = ["--file", pattern.to_str().unwrap(), "--positions", positions.to_str().unwrap()];
    append(&log, "one\ntwo\nthree");
    let adapter = start(&told);
    adapter.tells(&["one", "two"]).await;
    append(&log, " and more\n");
    adapter.tells(&["one", "two", "three and more"]).await;
    // Rotated by renaming; the writer goes on with the old file for a moment.
    let mut writer = File::options().append(true).open(&log).unwrap();
    fs::rename(&log, directory.path().join("app.log.1")).unwrap();
    writer.write_all(b"four\n").unwrap();
    drop(writer);
    append(&log, "five\n");
    adapter.tells(&["one", "two", "three and more", "four", "five"]).await;
    // A file of the same pattern comes.
    append(&directory.path().join("other.log"), "six\n");
    adapter.tells(&["one", "two", "three and more", "four", "five", "six"]).await;
    // Emptied in its place.
    File::create(&log).unwrap();
    append(&log, "7\n");
    adapter.tells(&["one", "two", "three and more", "four", "five", "six", "7"]).await;
    append(&log, "8\n9 is not complete");
    adapter.tells(&["one", "two", "three and more", "four", "five", "six", "7", "8"]).await;
    adapter.end().await;

    // While nobody looks it is rotated, and written on both sides.
    append(&log, " yet\n10\n");
    fs::rename(&log, directory.path().join("app.log.2")).unwrap();
    append(&log, "11\n");
    let adapter = start(&told);
    adapter.tells(&["9 is not complete yet", "10", "11"]).await;
    adapter.end().await;
    let adapter = start(&told);
    append(&log, "12\n");
    adapter.tells(&["12"]).await;
    let record = adapter.records().remove(0);
    assert_eq!((record["source"].as_str(), record["file"].as_str()), (Some("files"), log.to_str()));
    assert_eq!(record["timeIsArrival"], true);
    adapter.end().await;
}

#[tokio::test]
async fn lines_that_belong_together_are_one_record_after_a_silence() {
    let directory = tempfile::tempdir().unwrap();
    let (log, config) = (directory.path().join("app.log"), directory.path().join("logs.yaml"));
    append(&log, "");
    let text = format!(
        "sources:\n- name: app\n  files: [{}]\n  format: regex\n  pattern: '^%{{TIMESTAMP_ISO8601:time}} %{{LOGLEVEL:level}} %{{GREEDYDATA:message}}$'\n  \
         zone: Europe/Berlin\n  multiline: {{start: '^\\d{{4}}-', wait: 50ms}}\n  fields: {{team: web}}\npositions: {}\n",
        log.display(),
        directory.path().join("positions").display()
    );
    fs::write(&config, &text).unwrap();
    let adapter = start(&["--config", config.to_str().unwrap()]);
    append(&log, "2026-03-04 06:06:07,250 ERROR it failed\n  at a\n  at b\n");
    adapter.tells(&["it failed\n  at a\n  at b"]).await;
    let record = adapter.records().remove(0);
    assert_eq!(
        (record["time"].as_str(), record["level"].as_str(), record["team"].as_str()),
        (Some("2026-03-04T05:06:07.25Z"), Some("error"), Some("web"))
    );
    // A new configuration goes on where the old one was; a broken one changes nothing.
    fs::write(&config, text.replace("team: web", "team: db")).unwrap();
    let mut number = 0;
    let deadline = tokio::time::Instant::now() + LONG;
    while adapter.records().last().unwrap()["team"] != "db" {
        assert!(tokio::time::Instant::now() < deadline);
        adapter.serving.admin().reload();
        append(&log, &format!("2026-03-04 06:06:08 INFO {number}\n"));
        number += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fs::write(&config, "sources: []\n").unwrap();
    assert_eq!(adapter.serving.admin().reload()[0].field, "sources");
    append(&log, "2026-03-04 06:06:09 INFO last\n");
    let deadline = tokio::time::Instant::now() + LONG;
    while adapter.messages().last().unwrap() != "last" {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = adapter.messages();
    let numbers: Vec<String> = (0..number).map(|number| number.to_string()).collect();
    assert_eq!(told[1..told.len() - 1], numbers, "each once, in order");
    adapter.end().await;
}

#[tokio::test]
async fn a_redis_slow_log_becomes_records_each_once() {
    let server = redis(&["--slowlog-log-slower-than", "0"]);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("logs.yaml");
    let text = format!(
        "sources: [{{name: cache, redisSlowLog: {{address: \"redis://127.0.0.1:{}\", period: 20ms}}}}]\npositions: {}\n",
        server.port,
        directory.path().join("positions").display()
    );
    fs::write(&config, text).unwrap();
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut client, b"SET greeting hello\r\n").await.unwrap();
    let adapter = start(&["--config", config.to_str().unwrap()]);
    let deadline = tokio::time::Instant::now() + LONG;
    let is_set = |record: &Value| record["message"] == "SET greeting hello";
    while !adapter.records().iter().any(is_set) || adapter.records().len() < 3 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let records = adapter.records();
    assert_eq!(records.iter().filter(|record| is_set(record)).count(), 1);
    let record = records.iter().find(|record| is_set(record)).unwrap();
    assert_eq!((record["command"].as_str(), record["source"].as_str()), (Some("SET"), Some("cache")));
    assert!(record["durationMs"].is_number() && record.get("timeIsArrival").is_none());
    adapter.end().await;
    let again = start(&["--config", config.to_str().unwrap()]);
    let deadline = tokio::time::Instant::now() + LONG;
    while again.records().is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!again.records().iter().any(is_set), "what was told before a restart is not told again");
    again.end().await;
}
