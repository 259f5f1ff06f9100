//! fsutil's transfer of file trees: contexts come this way, and directories go back. The sender lists all files in the
//! order of their paths, the receiver asks for the contents that it wants by the files' places in that list.

mod packet;
mod receive;
mod send;
mod tree;

pub(crate) use receive::{Patterns, receive};
pub(crate) use send::send;
pub use tree::{Limits, TreeError};

use std::time::Duration;

use grpc::{CallError, Receiving, Sending};
use packet::Packet;

/// How long the other side may take to hear why nothing goes on.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The call ended.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The other side said so.
    #[error("error from {0}: {1}")]
    Peer(&'static str, String),
    /// What came is no packet, or not one for now.
    #[error("unexpected packet in a file transfer")]
    Packet,
    /// Nothing came for too long.
    #[error("the client has sent nothing for {0} seconds")]
    Stalled(u64),
    /// What came can't be taken.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What is to be sent can't be read.
    #[error("{0}: {1}")]
    Read(String, std::io::Error),
    /// A defect.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

/// Tells the other side why the transfer ends here. It hears that only as long as the call lasts, and ends it then.
async fn refuse(error: SyncError, sending: Sending, mut receiving: Receiving) -> SyncError {
    let _ = sending.send(&Packet::Error(error.to_string()).message()).await;
    drop(sending);
    let rest = async { while let Ok(Some(_)) = receiving.next().await {} };
    let _ = tokio::time::timeout(LAST_WORDS, rest).await;
    error
}
