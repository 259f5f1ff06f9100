//! The server: what all requests share.

use std::{collections::HashMap, sync::Arc};

use store::Store;

use crate::{
    allocate, bootstrap,
    cache::Cache,
    config::{Config, User},
    in_process::InProcess,
    metrics::Metrics,
    precedence::Precedence,
    token::Tokens,
    token_uses,
    trees::Trees,
    usage::Usage,
    version,
};

/// A running API server. It serves as long as someone holds it; the store outlives it.
pub struct ApiServer {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) quotas: allocate::QuotaLocks,
    pub(crate) tokens: Tokens,
    pub(crate) static_tokens: HashMap<String, Arc<User>>,
    pub(crate) metrics: Metrics,
    pub(crate) precedence: Precedence,
    pub(crate) trees: Trees,
    pub(crate) usage: Usage,
    pub(crate) token_uses: tokio::sync::mpsc::Sender<token_uses::Use>,
}

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store can't be read or written.
    #[error("the store can't be used: {0}")]
    Store(#[from] store::Error),
    /// The key for service account tokens is none.
    #[error("the service account key is not a PKCS #8 ECDSA P-256 key: {0}")]
    Key(String),
    /// An object that every cluster has could not be made.
    #[error("{object} could not be made: {message}")]
    Bootstrap {
        /// For instance `namespaces/default`.
        object: String,
        /// The server's own answer.
        message: String,
    },
}

impl ApiServer {
    /// Loads what the store holds and makes what every cluster has: the system namespaces, the priority
    /// classes, the `kubernetes` Service.
    pub async fn new(config: Config, store: Arc<dyn Store>) -> Result<Arc<ApiServer>, StartError> {
        let stored = api::catalogue::all().iter().filter(|r| version::is_stored(r));
        let storages = stored.map(|r| (r.storage.prefix, r.namespaced, r.selectable));
        let cache = Cache::load(store.clone(), storages).await?;
        let tokens = Tokens::new(config.service_account_key.as_deref(), config.service_account_issuer.clone())
            .map_err(StartError::Key)?;
        let static_tokens = config.tokens.iter().map(|(token, user)| (token.clone(), Arc::new(user.clone()))).collect();
        let (token_uses, uses) = token_uses::channel();
        let server = Arc::new(ApiServer {
            config,
            store,
            cache,
            quotas: allocate::QuotaLocks::default(),
            tokens,
            static_tokens,
            metrics: Metrics::default(),
            precedence: Precedence::default(),
            trees: Trees::default(),
            usage: Usage::default(),
            token_uses,
        });
        bootstrap::run(&server).await?;
        tokio::spawn(bootstrap::keep(Arc::downgrade(&server)));
        tokio::spawn(token_uses::keep(Arc::downgrade(&server), uses));
        Ok(server)
    }

    /// A service for clients in this process, who act as an administrator.
    pub fn in_process(self: &Arc<Self>) -> InProcess {
        self.in_process_as(User::admin("system:admin"))
    }

    /// A service for clients in this process, who act as `user`.
    pub fn in_process_as(self: &Arc<Self>, user: User) -> InProcess {
        InProcess::new(self.clone(), user)
    }
}
