//! `hythe proxy …`: one data plane under several names. Flags expand to the configuration that `--config` would read.

mod expand;
pub mod manuals;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serving::{ConfigError, Flags, Live, Manual};

use crate::config::{Config, Duration, Size};
use serve::read;

pub use serve::serve;

/// Proxies of this data plane.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// HTTP edge: TLS, routes, balancing, health, retries, limits. Also the TLS sidecar of an application on localhost.
    #[command(after_help = manuals::HTTP.after_help())]
    Http(Http),
    /// Request splitter: shares of requests to several versions; a user never flips.
    #[command(after_help = manuals::SPLIT.after_help())]
    Split(Split),
    /// Tee: requests are copied to an experiment, production answers.
    #[command(after_help = manuals::TEE.after_help())]
    Tee(Tee),
    /// Service broker: a port on localhost to whatever the environment provides.
    #[command(after_help = manuals::BROKER.after_help())]
    Broker(Broker),
    /// HTTP cache in front of a service.
    #[command(after_help = manuals::CACHE.after_help())]
    Cache(CacheArguments),
    /// Rate limits in front of a service.
    #[command(after_help = manuals::LIMIT.after_help())]
    Limit(Limit),
    /// TCP balancing.
    #[command(after_help = manuals::TCP.after_help())]
    Tcp(Plain),
    /// UDP balancing.
    #[command(after_help = manuals::UDP.after_help())]
    Udp(Plain),
}

/// What all of them have.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The configuration file (YAML); it is followed. In place of the flags below.
    #[arg(long, env = "PROXY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, env = "PROXY_LISTEN", value_name = "ADDR", default_value = ":8080")]
    pub listen: String,
    #[command(flatten)]
    serving: Flags,
}

/// `hythe proxy http`.
#[derive(Args, Clone, Debug)]
pub struct Http {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Endpoints, HOST:PORT.
    #[arg(long, env = "PROXY_TO", value_name = "HOST:PORT", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Certificate chain (PEM): TLS is ended here.
    #[arg(long, env = "PROXY_CERTIFICATE", value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, env = "PROXY_KEY", value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// `round_robin`, `weighted`, `least_connections`, `random_two_choices` or `hash`.
    #[arg(long, env = "PROXY_BALANCE", value_name = "WAY", default_value = "round_robin")]
    pub balance: String,
    /// A path that is asked for to find out whether endpoints are well.
    #[arg(long, env = "PROXY_HEALTH", value_name = "PATH")]
    pub health: Option<String>,
}

/// `hythe proxy split`.
#[derive(Args, Clone, Debug)]
pub struct Split {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A share and its endpoint: `90=HOST:PORT`; may be given several times.
    #[arg(long, env = "SPLIT_TO", value_name = "WEIGHT=HOST:PORT", value_delimiter = ',')]
    pub to: Vec<String>,
    /// What keeps a user with one version: `address`, `cookie:NAME` or `header:NAME`.
    #[arg(long, env = "SPLIT_STICK", value_name = "KEY", default_value = "address")]
    pub stick: String,
}

/// `hythe proxy tee`.
#[derive(Args, Clone, Debug)]
pub struct Tee {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Who answers.
    #[arg(long, env = "TEE_PRODUCTION", value_name = "HOST:PORT")]
    pub production: Option<String>,
    /// Who gets copies.
    #[arg(long, env = "TEE_EXPERIMENT", value_name = "HOST:PORT")]
    pub experiment: Option<String>,
    /// How many of a hundred requests are copied.
    #[arg(long, env = "TEE_PERCENT", value_name = "N", default_value = "100")]
    pub percent: f64,
}

/// `hythe proxy broker`.
#[derive(Args, Clone, Debug)]
pub struct Broker {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A Service binding below $SERVICE_BINDING_ROOT, by name.
    #[arg(long, env = "BROKER_BINDING", value_name = "NAME")]
    pub binding: Option<String>,
    /// A Service binding below $SERVICE_BINDING_ROOT, by type.
    #[arg(long = "type", env = "BROKER_TYPE", value_name = "TYPE")]
    pub kind: Option<String>,
    /// SRV records.
    #[arg(long, env = "BROKER_SRV", value_name = "NAME")]
    pub srv: Option<String>,
    /// Environment variables with this prefix: PREFIX_HOST and PREFIX_PORT, or PREFIX_URL.
    #[arg(long, env = "BROKER_ENVIRONMENT", value_name = "PREFIX")]
    pub environment: Option<String>,
    /// An address or name.
    #[arg(long, env = "BROKER_TO", value_name = "HOST:PORT")]
    pub to: Option<String>,
    /// TLS to the service, which must show a certificate for this name.
    #[arg(long, env = "BROKER_TLS", value_name = "NAME")]
    pub tls: Option<String>,
    /// Authorities that are believed (PEM); the machine's own if not said.
    #[arg(long, env = "BROKER_AUTHORITIES", value_name = "FILE", requires = "tls")]
    pub authorities: Option<PathBuf>,
}

/// `hythe proxy cache`.
#[derive(Args, Clone, Debug)]
pub struct CacheArguments {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Endpoints, HOST:PORT.
    #[arg(long, env = "PROXY_TO", value_name = "HOST:PORT", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Memory for stored responses.
    #[arg(long, env = "CACHE_MEMORY", value_name = "SIZE", default_value = "64MiB")]
    pub memory: Size,
    /// Directory of the tier on disk; none: memory alone.
    #[arg(long, env = "CACHE_DISK", value_name = "DIR")]
    pub disk: Option<PathBuf>,
    /// How much the tier on disk may hold.
    #[arg(long, env = "CACHE_DISK_SIZE", value_name = "SIZE", default_value = "1GiB")]
    pub disk_size: Size,
    /// Freshness of responses that say nothing about it.
    #[arg(long, env = "CACHE_DEFAULT_TTL", value_name = "TIME", default_value = "0s")]
    pub default_ttl: Duration,
    /// Networks that may PURGE.
    #[arg(long, env = "CACHE_PURGE_FROM", value_name = "NETWORK", value_delimiter = ',')]
    pub purge_from: Vec<String>,
    /// The other replicas of this cache, which purge what it is told to purge.
    #[arg(long, env = "CACHE_PURGE_PEERS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub purge_peers: Vec<String>,
}

/// `hythe proxy limit`.
#[derive(Args, Clone, Debug)]
pub struct Limit {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Endpoints, HOST:PORT.
    #[arg(long, env = "PROXY_TO", value_name = "HOST:PORT", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Requests …
    #[arg(long, env = "LIMIT_REQUESTS", value_name = "N", default_value = "100")]
    pub requests: u64,
    /// … in this time.
    #[arg(long, env = "LIMIT_PER", value_name = "TIME", default_value = "1m")]
    pub per: Duration,
    /// How many at once after a rest.
    #[arg(long, env = "LIMIT_BURST", value_name = "N")]
    pub burst: Option<u64>,
    /// What is counted apart: `address`, `path`, `identity`, `header:NAME`.
    #[arg(long, env = "LIMIT_BY", value_name = "KEY", default_value = "address", value_delimiter = ',')]
    pub by: Vec<String>,
    /// `token_bucket` or `sliding_window`.
    #[arg(long, env = "LIMIT_ALGORITHM", value_name = "WAY", default_value = "token_bucket")]
    pub algorithm: String,
    /// Requests of those who send `Authorization`, in the same time.
    #[arg(long, env = "LIMIT_AUTHENTICATED", value_name = "N")]
    pub authenticated: Option<u64>,
    /// Where other replicas ask this one; with --peer or --peers the limit is shared.
    #[arg(long, env = "LIMIT_PEERS_LISTEN", value_name = "ADDR", default_value = ":8081")]
    pub peers_listen: String,
    /// A replica, this one too; may be given several times.
    #[arg(long = "peer", env = "LIMIT_PEER", value_name = "ADDR", value_delimiter = ',')]
    pub peer: Vec<String>,
    /// A headless Service of the replicas.
    #[arg(long, env = "LIMIT_PEERS", value_name = "NAME:PORT", conflicts_with = "peer")]
    pub peers: Option<String>,
    /// What this replica is called among them.
    #[arg(long, env = "LIMIT_OWN", value_name = "ADDR")]
    pub own: Option<String>,
}

/// `hythe proxy tcp` and `hythe proxy udp`.
#[derive(Args, Clone, Debug)]
pub struct Plain {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Endpoints, HOST:PORT.
    #[arg(long, env = "PROXY_TO", value_name = "HOST:PORT", value_delimiter = ',')]
    pub to: Vec<String>,
    /// `round_robin`, `weighted`, `least_connections`, `random_two_choices` or `hash` (of the client's address).
    #[arg(long, env = "PROXY_BALANCE", value_name = "WAY", default_value = "round_robin")]
    pub balance: String,
}

impl Command {
    /// What a user must know of it.
    pub fn manual(&self) -> &'static Manual {
        match self {
            Self::Http(_) => &manuals::HTTP,
            Self::Split(_) => &manuals::SPLIT,
            Self::Tee(_) => &manuals::TEE,
            Self::Broker(_) => &manuals::BROKER,
            Self::Cache(_) => &manuals::CACHE,
            Self::Limit(_) => &manuals::LIMIT,
            Self::Tcp(_) => &manuals::TCP,
            Self::Udp(_) => &manuals::UDP,
        }
    }

    fn common(&self) -> &Common {
        match self {
            Self::Http(c) => &c.common,
            Self::Split(c) => &c.common,
            Self::Tee(c) => &c.common,
            Self::Broker(c) => &c.common,
            Self::Cache(c) => &c.common,
            Self::Limit(c) => &c.common,
            Self::Tcp(c) | Self::Udp(c) => &c.common,
        }
    }

    /// The configuration that its flags stand for.
    ///
    /// # Errors
    /// The flag that cannot be used, and why.
    pub fn expand(&self) -> Result<Config, ConfigError> {
        let config = expand::expand(self)?;
        crate::config::check(&config).map_err(|problem| ConfigError::field(problem.field, problem.reason))?;
        Ok(config)
    }
}

/// Runs a proxy until it ends or is told to end.
pub fn main(command: Command) -> ExitCode {
    let flags = command.common().serving.clone();
    serving::run(command.manual(), flags, |serving| async move {
        let live = command.common().config.as_ref().map(|file| Live::open(file, read)).transpose()?;
        let config = match &live {
            Some(live) => (*live.current()).clone(),
            None => command.expand()?,
        };
        serve(config, live, serving).await
    })
}
