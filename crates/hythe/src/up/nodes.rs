//! The way from the API server to the agent of this same process: a pipe in memory.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use agent::Agent;
use apiserver::{NodeConnector, NodeStream};
use async_trait::async_trait;
use tokio::net::TcpStream;

/// Bytes under way on one connection.
const PIPE: usize = 64 * 1024;

/// The agent, once it runs. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct LocalAgent(Arc<OnceLock<Agent>>);

impl LocalAgent {
    /// The agent is up.
    pub fn set(&self, agent: Agent) {
        // There is one agent a process; a second would be a bug of the caller and is ignored.
        let _ = self.0.set(agent);
    }

    /// Answers whoever asks for the agent's health; while there is no agent nobody answers.
    pub fn tell_health(&self, stream: TcpStream) {
        if let Some(agent) = self.0.get().cloned() {
            tokio::spawn(async move { agent.serve_health(stream).await });
        }
    }
}

#[async_trait]
impl NodeConnector for LocalAgent {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn NodeStream>> {
        let Some(agent) = self.0.get().cloned() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, format!("the agent of node {node} is not up yet")));
        };
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(async move { agent.serve_connection(far).await });
        Ok(Box::new(near))
    }
}
