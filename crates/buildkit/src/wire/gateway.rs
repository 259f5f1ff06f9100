//! `moby.buildkit.v1.frontend.LLBBridge`: how buildx drives a build from its side.

use std::collections::BTreeMap;

use grpc::{Fields, Message, Status};

use super::status_of;

/// `SolveRequest`: a frontend and what it is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FrontendRequest {
    pub has_definition: bool,
    pub frontend: String,
    pub attributes: BTreeMap<String, String>,
    /// The results of other builds that this one uses, by name: the definitions that were handed out for them.
    pub inputs: BTreeMap<String, Vec<u8>>,
    /// The context, where it came as an archive by other means than a session.
    pub archive: Option<std::path::PathBuf>,
}

impl FrontendRequest {
    pub fn read(message: &[u8]) -> Self {
        let fields = Fields::read(message);
        let definition = fields.message(1);
        let inputs = fields.all(13).map(Fields::read);
        Self {
            has_definition: definition.is_some_and(|definition| definition.all(1).next().is_some()),
            frontend: fields.text(2),
            attributes: fields.map(3),
            inputs: inputs.map(|entry| (entry.text(1), entry.data(2).to_vec())).collect(),
            archive: None,
        }
    }
}

/// `SolveResponse`: a reference to a result that does not have to be there yet, and metadata.
pub(crate) fn solved(reference: &str, metadata: &BTreeMap<String, Vec<u8>>) -> Message {
    let result = Message::default();
    let result = match reference {
        "" => result,
        id => result.message(3, &Message::default().text(1, id)),
    };
    let entries = metadata.iter().map(|(key, value)| Message::default().text(1, key).data(2, value));
    Message::default().message(3, &result.messages(10, entries))
}

/// `PongResponse`.
pub(crate) fn pong(frontend: &[&str], graph: &[&str], worker: &Message) -> Message {
    let capability = |id: &&str| Message::default().text(1, id).flag(2, true);
    Message::default()
        .messages(1, frontend.iter().map(capability))
        .messages(2, graph.iter().map(capability))
        .message(3, worker)
}

/// What a client's side of a build came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Returned {
    /// The reference that becomes the result; empty for none.
    Result(String),
    Failed(Status),
}

/// `ReturnRequest`.
pub(crate) fn read_return(message: &[u8]) -> Returned {
    let fields = Fields::read(message);
    if let Some(error) = fields.all(2).next() {
        return Returned::Failed(status_of(error));
    }
    let result = fields.message(1).unwrap_or_default();
    let id = |reference: Fields<'_>| reference.text(1);
    let single = result.message(3).map(id).filter(|id| !id.is_empty());
    let several = || {
        let map = result.message(4)?;
        let first = map.all(1).next().map(Fields::read)?;
        first.message(2).map(id)
    };
    Returned::Result(single.or_else(several).unwrap_or_else(|| result.text(1)))
}
