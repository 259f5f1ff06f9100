//! A client's session: a connection on which the client answers, for its files, secrets, agents and credentials.

mod agents;
mod auth;
mod content;
mod files;
mod secrets;
mod table;

pub(crate) use agents::SessionAgents;
pub(crate) use auth::{credentials, login};
pub(crate) use content::Blobs;
pub(crate) use files::{PieceWriter, Upload, receive_upload, send_file};
pub(crate) use secrets::SessionSecrets;
pub use table::SessionError;
pub(crate) use table::Sessions;

use std::collections::BTreeSet;

use grpc::Channel;

/// One session.
#[derive(Clone)]
pub(crate) struct Session {
    pub channel: Channel,
    /// What the client answers, `/package.Service/Method`, in lower case.
    pub methods: BTreeSet<String>,
}

impl Session {
    /// Whether the client answers a method (`package.Service/Method`).
    pub fn answers(&self, method: &str) -> bool {
        self.methods.contains(&format!("/{}", method.to_ascii_lowercase()))
    }
}
