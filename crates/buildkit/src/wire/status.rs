//! `moby.buildkit.v1.StatusResponse`: what a client draws its progress from.

use std::time::SystemTime;

use grpc::Message;

use super::timestamp;

/// One piece of news; what is empty has not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub vertexes: Vec<Vertex>,
    pub statuses: Vec<StatusLine>,
    pub logs: Vec<Log>,
    pub warnings: Vec<Warning>,
}

/// A step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vertex {
    /// `sha256:…`; the same step has the same.
    pub digest: String,
    pub name: String,
    pub cached: bool,
    pub started: Option<SystemTime>,
    pub completed: Option<SystemTime>,
    /// Why it failed; empty if it did not.
    pub error: String,
}

/// A line below a step: something with a beginning, an end, and maybe a size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusLine {
    pub id: String,
    /// The digest of its step.
    pub vertex: String,
    pub current: u64,
    /// 0 when nobody knows.
    pub total: u64,
    pub timestamp: SystemTime,
    pub started: SystemTime,
    pub completed: Option<SystemTime>,
}

/// Output of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub vertex: String,
    pub timestamp: SystemTime,
    /// 1 or 2.
    pub stream: u8,
    pub bytes: Vec<u8>,
}

/// A remark on a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    pub vertex: String,
    pub text: String,
}

impl Report {
    /// As it is sent.
    pub fn message(&self) -> Message {
        Message::default()
            .messages(1, self.vertexes.iter().map(Vertex::message))
            .messages(2, self.statuses.iter().map(StatusLine::message))
            .messages(3, self.logs.iter().map(Log::message))
            .messages(
                4,
                self.warnings.iter().map(|warning| {
                    Message::default().text(1, &warning.vertex).number(2, 1).data(3, warning.text.as_bytes())
                }),
            )
    }

    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        self.vertexes.is_empty() && self.statuses.is_empty() && self.logs.is_empty() && self.warnings.is_empty()
    }
}

impl Vertex {
    fn message(&self) -> Message {
        let message = Message::default().text(1, &self.digest).text(3, &self.name).flag(4, self.cached);
        let message = optional(optional(message, 5, self.started), 6, self.completed);
        message.text(7, &self.error)
    }
}

impl StatusLine {
    fn message(&self) -> Message {
        let message = Message::default()
            .text(1, &self.id)
            .text(2, &self.vertex)
            .text(3, &self.id)
            .number(4, self.current)
            .number(5, self.total)
            .message(6, &timestamp(self.timestamp))
            .message(7, &timestamp(self.started));
        optional(message, 8, self.completed)
    }
}

impl Log {
    fn message(&self) -> Message {
        Message::default()
            .text(1, &self.vertex)
            .message(2, &timestamp(self.timestamp))
            .number(3, u64::from(self.stream))
            .data(4, &self.bytes)
    }
}

fn optional(message: Message, field: u32, time: Option<SystemTime>) -> Message {
    match time {
        Some(time) => message.message(field, &timestamp(time)),
        None => message,
    }
}
