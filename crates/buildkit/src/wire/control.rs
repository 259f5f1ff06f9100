//! `moby.buildkit.v1.Control`: requests and answers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use grpc::{Fields, Message};

use super::timestamp;

/// What is to be built and what becomes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SolveRequest {
    /// The client's name for this build.
    pub build: String,
    /// A graph of the client's own making was sent.
    pub has_definition: bool,
    /// Neither a frontend nor a graph was sent, not even an empty one: the client goes on by way of the gateway.
    pub by_gateway: bool,
    pub session: String,
    pub frontend: String,
    pub attributes: BTreeMap<String, String>,
    pub exports: Vec<Export>,
    pub cache_exports: Vec<CacheEntry>,
    /// The context, where it came as an archive by other means than a session.
    pub archive: Option<std::path::PathBuf>,
}

/// An exporter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Export {
    pub kind: String,
    pub attributes: BTreeMap<String, String>,
}

/// `--cache-to` or `--cache-from`.
pub(crate) type CacheEntry = Export;

impl SolveRequest {
    pub fn read(message: &[u8]) -> Self {
        let fields = Fields::read(message);
        let entry = |bytes| {
            let entry = Fields::read(bytes);
            Export { kind: entry.text(1), attributes: entry.map(2) }
        };
        let mut exports: Vec<Export> = fields.all(13).map(entry).collect();
        if exports.is_empty() && !fields.text(3).is_empty() {
            exports.push(Export { kind: fields.text(3), attributes: fields.map(4) });
        }
        let (definition, frontend) = (fields.message(2), fields.text(6));
        Self {
            build: fields.text(1),
            by_gateway: definition.is_none() && frontend.is_empty(),
            has_definition: definition.is_some_and(|definition| definition.all(1).next().is_some()),
            session: fields.text(5),
            frontend,
            attributes: fields.map(7),
            exports,
            archive: None,
            cache_exports: fields.message(8).map(|cache| cache.all(4).map(entry).collect()).unwrap_or_default(),
        }
    }
}

/// `SolveResponse`.
pub(crate) fn solve_response(results: &BTreeMap<String, String>) -> Message {
    Message::default().map(1, results)
}

/// The one worker there is.
pub(crate) fn worker(id: &str, labels: &BTreeMap<String, String>, platform: (&str, &str), version: &str) -> Message {
    let (os, architecture) = platform;
    Message::default()
        .text(1, id)
        .map(2, labels)
        .message(3, &Message::default().text(1, architecture).text(2, os))
        .message(5, &build_version(version))
}

fn build_version(version: &str) -> Message {
    Message::default().text(1, "hythe").text(2, version)
}

/// `ListWorkersResponse`.
pub(crate) fn workers(worker: &Message) -> Message {
    Message::default().message(1, worker)
}

/// `InfoResponse`.
pub(crate) fn info(version: &str) -> Message {
    Message::default().message(1, &build_version(version))
}

/// A record of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageRecord {
    pub id: String,
    /// A directory that builds change, rather than a step's result.
    pub mount: bool,
    pub size: u64,
    pub used: SystemTime,
    pub description: String,
}

impl UsageRecord {
    pub fn message(&self) -> Message {
        Message::default()
            .text(1, &self.id)
            .flag(2, self.mount)
            .number(4, self.size)
            .message(6, &timestamp(self.used))
            .message(7, &timestamp(self.used))
            .number(8, 1)
            .text(9, &self.description)
            .text(10, if self.mount { "exec.cachemount" } else { "regular" })
    }
}

/// How old and how much `PruneRequest` lets stay, and its filters.
pub(crate) fn prune_request(message: &[u8]) -> (Duration, u64, Vec<String>) {
    let fields = Fields::read(message);
    let keep = fields.number(4).max(fields.number(5));
    (Duration::from_nanos(fields.number(3)), keep, fields.texts(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_graph_is_not_the_gateway() {
        let build = || Message::default().text(1, "build");
        let read = |message: Message| {
            let request = SolveRequest::read(&message.0);
            (request.by_gateway, request.has_definition)
        };
        assert_eq!(read(build()), (true, false));
        assert_eq!(read(build().message(2, &Message::default())), (false, false));
        assert_eq!(read(build().message(2, &Message::default().text(1, "operation"))), (false, true));
        assert_eq!(read(build().text(6, "dockerfile.v0")), (false, false));
    }
}
