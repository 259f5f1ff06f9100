//! What must hold between the keys of a file, and errors that say where they are.

use std::collections::HashSet;

use super::{Config, Pool};

/// A configuration that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct Invalid {
    /// The line, counted from 1, where one is to blame.
    pub line: Option<usize>,
    /// The pool and key, and what is wrong with them.
    pub reason: String,
}

impl Invalid {
    pub(super) fn from_yaml(error: &serde_yaml_ng::Error) -> Invalid {
        let line = error.location().map(|location| location.line());
        let text = error.to_string();
        // The location is told in words of our own.
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned();
        Invalid { line, reason }
    }
}

/// What is wrong with which key of which pool.
pub(super) struct Problem {
    pool: String,
    key: &'static str,
    reason: String,
}

impl Problem {
    /// Finds the pool and the key in the file.
    pub(super) fn at_line_of(self, text: &str) -> Invalid {
        let mut inside = false;
        let mut line = None;
        for (number, content) in (1..).zip(text.lines()) {
            let key = content.trim_start().split(':').next().unwrap_or("").trim_matches(['"', '\'']);
            if !content.starts_with([' ', '\t', '#', '-']) && !content.trim().is_empty() {
                inside = key == self.pool;
                if inside {
                    line = Some(number);
                }
            } else if inside && key == self.key {
                line = Some(number);
                break;
            }
        }
        Invalid { line, reason: format!("{}.{}: {}", self.pool, self.key, self.reason) }
    }
}

/// What twemproxy checks once it has read a file, and the same for the keys it does not know.
pub(super) fn check(config: &Config) -> Result<(), Problem> {
    let mut listens = HashSet::new();
    for (name, pool) in &config.pools {
        let problem = |key, reason: String| Problem { pool: name.clone(), key, reason };
        check_pool(pool).map_err(|(key, reason)| problem(key, reason))?;
        if !listens.insert(pool.listen.address.clone()) {
            return Err(problem("listen", format!("another pool listens at {} already", pool.listen.address)));
        }
    }
    if config.pools.is_empty() {
        return Err(Problem { pool: String::new(), key: "", reason: "the file has no pools".to_owned() });
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
