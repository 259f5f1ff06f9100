//! What must hold between the keys of a file.

use std::collections::HashSet;

use serving::ConfigError;

use super::{Config, Pool};

/// What twemproxy checks once it has read a file, and the same for the keys it does not know.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut listens = HashSet::new();
    for (name, pool) in &config.pools {
        let wrong = |key: &str, reason: String| ConfigError::field(format!("{name}.{key}"), reason);
        check_pool(pool).map_err(|(key, reason)| wrong(key, reason))?;
        if !listens.insert(pool.listen.address.clone()) {
            return Err(wrong("listen", format!("another pool listens at {} already", pool.listen.address)));
        }
    }
    if config.pools.is_empty() {
        return Err(ConfigError::whole("the file has no pools"));
    }
    Ok(())
}

fn check_pool(pool: &Pool) -> Result<(), (&'static str, String)> {
    if pool.servers.is_empty() && pool.discover.is_none() {
        return Err(("servers", "the pool has no servers, and no discover to find them".to_owned()));
    }
    let mut names = HashSet::new();
    for server in &pool.servers {
        let name = server.ring_name();
        if names.contains(&name) {
            return Err(("servers", format!("two servers have the name {name:?}")));
        }
        names.insert(name);
    }
    if pool.server_connections == 0 {
        return Err(("server_connections", "cannot be 0".to_owned()));
    }
    if pool.redis_auth.is_some() && !pool.redis {
        return Err(("redis_auth", "is only valid for a redis pool".to_owned()));
    }
    if pool.redis_auth.as_ref().is_some_and(String::is_empty) {
        return Err(("redis_auth", "is empty".to_owned()));
    }
    if let Some(unknown) = pool.replicas.keys().find(|name| pool.discover.is_none() && !names.contains(*name)) {
        return Err(("replicas", format!("no server has the name {unknown:?}")));
    }
    if let Some(discover) = &pool.discover {
        match (&discover.srv, &discover.host, discover.port) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => return Err(("discover", "needs either srv, or host and port".to_owned())),
        }
    }
    Ok(())
}
