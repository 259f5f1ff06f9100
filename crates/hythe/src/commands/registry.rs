//! `hythe registry`: an OCI distribution server over the instance's images, alone.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use engine::content::Content;
use registry::{Config, Mirror, Registry, Tls};
use tokio::net::TcpListener;

use super::session::block_on;
use crate::instance::Instance;

/// How to serve.
#[derive(Args)]
pub struct RegistryFlags {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Who may use it: lines of user:hash (bcrypt), read again when the file changes.
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Certificate chain, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Fetch what is missing from this registry and keep it; the address may begin with user:password@, better in the
    /// variable, where other users of the machine don't see it.
    #[arg(long, value_name = "URL", env = "HYTHE_REGISTRY_UPSTREAM", hide_env_values = true)]
    mirror: Option<String>,
    /// Keep no more than this of what came from there, in bytes or with a K, M, G or T (of 1024): the longest unused goes
    /// first, and never what is in use here.
    #[arg(long, value_name = "SIZE", requires = "mirror", value_parser = size)]
    mirror_limit: Option<u64>,
}

/// `20G` as bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let power = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(format!("{unit:?} is no unit")),
    };
    let number: u64 = digits.parse().map_err(|_| "it is no number".to_owned())?;
    number.checked_mul(1 << (10 * power)).ok_or_else(|| "it is too much".to_owned())
}

pub fn run(instance: &Instance, flags: RegistryFlags) -> Result<ExitCode> {
    instance.create_data()?;
    let mut config = Config::new(Content::open(instance.path("content"))?);
    config.htpasswd = flags.htpasswd;
    config.mirror = flags.mirror.as_deref().map(|url| Mirror { limit: flags.mirror_limit, ..Mirror::at(url) });
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("can't read {}", path.display()));
    let tls = match (&flags.tls_cert, &flags.tls_key) {
        (Some(chain), Some(key)) => Some(Tls::from_pem(&read(chain)?, &read(key)?)?),
        (None, None) => None,
        _ => bail!("--tls-cert and --tls-key go together"),
    };
    block_on(async {
        let listener =
            TcpListener::bind(flags.listen).await.with_context(|| format!("can't listen on {}", flags.listen))?;
        println!("hythe: registry on {}", listener.local_addr()?);
        Registry::open(config)?.serve(listener, tls).await?;
        Ok(ExitCode::SUCCESS)
    })
}
