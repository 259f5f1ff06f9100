//! `moby.buildkit.v1.frontend.LLBBridge`: how buildx drives a build from its side.

use std::collections::BTreeMap;

use grpc::{Fields, Message, Status};
use sha2::{Digest as _, Sha256};

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

/// What begins the names of sources that stand for other builds' results.
const RESULT: &str = "docker-image://result.invalid/";

/// A build graph that stands for the result of a reference: what a client hands on when another build uses it.
fn definition(reference: &str) -> Message {
    let source = Message::default().message(3, &Message::default().text(1, &format!("{RESULT}{reference}")));
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&source.0)));
    let end = Message::default().message(1, &Message::default().text(1, &digest));
    // Clients refuse an operation that nothing more is said of.
    let said = Message::default().text(1, &digest).message(2, &Message::default());
    Message::default().messages(1, [source, end]).message(2, &said)
}

/// The reference that a graph stands for, if it is one of those.
pub(crate) fn reference_of(definition: &[u8]) -> Option<String> {
    let definition = Fields::read(definition);
    let mut sources = definition.all(1).map(Fields::read).filter_map(|operation| operation.message(3));
    sources.find_map(|source| Some(source.text(1).strip_prefix(RESULT)?.to_owned()))
}

/// `SolveResponse`: a reference to a result that does not have to be there yet, and metadata.
pub(crate) fn solved(reference: &str, metadata: &BTreeMap<String, Vec<u8>>) -> Message {
    let result = Message::default();
    let result = match reference {
        "" => result,
        id => result.message(3, &Message::default().text(1, id).message(2, &definition(id))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_known_again_when_another_build_is_given_it() {
        let answer = solved("abc", &BTreeMap::from([("key".to_owned(), b"value".to_vec())]));
        let result = Fields::read(&answer.0).message(3).unwrap();
        let reference = result.message(3).unwrap();
        assert_eq!(reference.text(1), "abc");
        assert_eq!(reference_of(reference.data(2)).as_deref(), Some("abc"));
        // The last operation names the one before it by its digest, as clients look it up.
        let graph = Fields::read(reference.data(2));
        let operations: Vec<&[u8]> = graph.all(1).collect();
        let input = Fields::read(operations[1]).message(1).unwrap();
        assert_eq!(input.text(1), format!("sha256:{}", hex::encode(Sha256::digest(operations[0]))));
        assert_eq!(graph.message(2).unwrap().text(1), input.text(1));
        let other = Message::default().message(3, &Message::default().text(1, "docker-image://busybox"));
        assert_eq!(reference_of(&Message::default().message(1, &other).0), None);
        assert_eq!(solved("", &BTreeMap::new()).0, Message::default().message(3, &Message::default()).0);
    }

    #[test]
    fn what_a_client_returns_is_a_result_or_its_own_failure() {
        let reference = Message::default().text(1, "abc");
        let single = Message::default().message(1, &Message::default().message(3, &reference));
        assert_eq!(read_return(&single.0), Returned::Result("abc".into()));
        let entry = Message::default().text(1, "linux/amd64").message(2, &reference);
        let several =
            Message::default().message(1, &Message::default().message(4, &Message::default().message(1, &entry)));
        assert_eq!(read_return(&several.0), Returned::Result("abc".into()));
        let failed = Message::default().message(2, &Message::default().number(1, 2).text(2, "no"));
        assert_eq!(read_return(&failed.0), Returned::Failed(Status::new(2, "no")));
    }
}
