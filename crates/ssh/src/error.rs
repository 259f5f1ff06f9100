//! What can go wrong.

/// A command that could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// The connection broke. A retry may help.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// The server does not keep to the protocol.
    #[error("not the protocol of SSH: {0}")]
    Protocol(&'static str),
    /// The server and this program have no way in common.
    #[error("no common {what}: the server offers {offered}")]
    Nothing {
        /// What there is no way of.
        what: &'static str,
        /// The server's.
        offered: String,
    },
    /// The server's signature or a packet's seal is wrong.
    #[error("{0} is not genuine")]
    Forged(&'static str),
    /// The server has another key than it is known by.
    #[error("{0} has another host key than the one it is known by")]
    HostKey(String),
    /// The server ended the connection, in its own words.
    #[error("the server says: {0}")]
    Said(String),
    /// The server knows none of the agent's keys.
    #[error("permission denied ({methods}): {tried} keys of the agent were tried")]
    Denied {
        /// What it would take instead.
        methods: String,
        /// How many keys.
        tried: usize,
    },
    /// The agent does not answer as one.
    #[error("the SSH agent: {0}")]
    Agent(String),
    /// The server runs no commands, or not this one.
    #[error("the server does not run the command")]
    Refused,
}
