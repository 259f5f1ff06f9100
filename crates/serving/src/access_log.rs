//! One JSON line a request on standard output.

use std::{
    io::{self, Write},
    sync::mpsc::{self, Receiver, SyncSender, TrySendError},
    thread,
};

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::{Serialize, Serializer};

use crate::Admin;

/// How many records may wait for a slow reader of standard output.
const WAITING: usize = 4096;

/// Writes records beside the work: if standard output is slow, records are dropped and counted, and no request waits.
#[derive(Clone)]
pub struct AccessLog {
    /// In boxes: the queue has room for all that may wait from the start.
    records: Option<SyncSender<Box<Record>>>,
    dropped: Counter,
}

/// One request. Fields that do not apply stay empty and are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Record {
    /// When the request was complete; set when it is written if it is absent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub time: Option<Timestamp>,
    /// `http/1.1`, `h2`, `redis`, `memcached`, `tcp`, `udp`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub protocol: &'static str,
    /// The client's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The method or command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The host that was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The path with its query.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The status, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
    /// From the first byte of the request to the last of the answer, in milliseconds.
    pub duration_ms: f64,
    /// Who answered: an address, or `cache`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upstream: String,
    /// The trace, as 32 hexadecimal digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What else the container tells.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub more: Option<serde_json::Map<String, serde_json::Value>>,
}

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        Self { records: None, dropped: Counter::default() }
    }

    /// A log on standard output.
    pub fn stdout(admin: &Admin) -> Self {
        let (records, receiver) = mpsc::sync_channel(WAITING);
        let dropped = Counter::default();
        admin.metrics(|registry| {
            registry.register(
                "hythe_access_log_dropped",
                "Records dropped because standard output was slow",
                dropped.clone(),
            )
        });
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&receiver, io::stdout()))
            .map_or_else(
                |error| {
                    tracing::warn!(%error, "there is no access log: its thread cannot be started");
                    Self::off()
                },
                |_| Self { records: Some(records), dropped },
            )
    }

    /// Whether records are wanted: where not, none need be made.
    pub fn is_on(&self) -> bool {
        self.records.is_some()
    }

    /// Hands a record over. Never waits.
    pub fn write(&self, record: Record) {
        if let Some(records) = &self.records
            && let Err(TrySendError::Full(_)) = records.try_send(Box::new(record))
        {
            self.dropped.inc();
        }
    }
}

fn rfc3339<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// Writes what comes; what stands ready together is written with one call.
fn write_all(records: &Receiver<Box<Record>>, output: impl Write) {
    let mut output = io::BufWriter::with_capacity(64 << 10, output);
    while let Ok(first) = records.recv() {
        let mut next = Some(first);
        while let Some(mut record) = next.take() {
            record.time.get_or_insert_with(Timestamp::now);
            let written = serde_json::to_writer(&mut output, &*record)
                .map_err(io::Error::from)
                .and_then(|()| output.write_all(b"\n"));
            if written.is_err() {
                return;
            }
            next = records.try_recv().ok();
        }
        if output.flush().is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_json_without_what_does_not_apply() {
        let (sender, receiver) = mpsc::sync_channel(2);
        let path = "/a\nb".to_owned();
        sender.send(Box::new(Record { method: "GET".into(), path, status: Some(200), ..Record::default() })).unwrap();
        drop(sender);
        let mut output = Vec::new();
        write_all(&receiver, &mut output);
        let line = String::from_utf8(output).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record["path"], "/a\nb");
        assert!(record.get("host").is_none() && record["time"].is_string(), "{record}");
    }
}
