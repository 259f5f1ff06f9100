//! The sessions that are open.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grpc::{CallError, Channel};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Session;

/// How long a build waits for the session it names: clients open both at the same time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sessions at a time, of all clients.
const LARGEST: usize = 1000;

/// Why there is no such session.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// Two clients chose one name.
    #[error("session {0} already exists")]
    Exists(String),
    /// A client opens sessions and does not close them.
    #[error("too many sessions")]
    TooMany,
    /// It never came, or has gone.
    #[error("no active session for {0}: context deadline exceeded")]
    Missing(String),
    /// It does not speak gRPC.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// All of them.
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<String, Session>>,
    changed: watch::Sender<()>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { open: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Sessions {
    /// Speaks with a client over its connection until either goes.
    pub async fn run<T>(&self, io: T, id: String, methods: BTreeSet<String>) -> Result<(), SessionError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if self.open.lock().contains_key(&id) {
            return Err(SessionError::Exists(id));
        }
        let channel = Channel::over(io, "localhost").await?;
        let closing = channel.closing();
        {
            let mut open = self.open.lock();
            if open.len() >= LARGEST {
                return Err(SessionError::TooMany);
            }
            if open.contains_key(&id) {
                return Err(SessionError::Exists(id));
            }
            open.insert(id.clone(), Session { channel, methods });
        }
        let _gone = Gone(self, id);
        self.changed.send_replace(());
        closing.wait().await;
        Ok(())
    }

    /// A session by its id, which may have a prefix before a colon.
    pub async fn get(&self, id: &str) -> Result<Session, SessionError> {
        let id = id.split_once(':').map_or(id, |(_, id)| id);
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                if let Some(session) = self.open.lock().get(id).filter(|session| !session.channel.is_closed()) {
                    return session.clone();
                }
                // The sender lives as long as this table.
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.map_err(|_| SessionError::Missing(id.to_owned()))
    }
}

/// Takes a session off the table when its connection is no longer followed.
struct Gone<'a>(&'a Sessions, String);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.open.lock().remove(&self.1);
    }
}
