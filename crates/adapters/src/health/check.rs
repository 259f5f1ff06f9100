//! One check: something real is asked, and the answer says whether all is well.

use std::{process::Stdio, str::FromStr, time::Duration};

use http::Uri;
use http_ends::Client;

use crate::wire::{
    Address, Rows, WireError, memcached,
    mysql::MySql,
    postgres::Postgres,
    redis::{Redis, Reply},
};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A command of Redis.
    Redis(Address),
    /// memcached's version.
    Memcached(Address),
    /// A query.
    Postgres(Address),
    /// A query.
    MySql(Address),
    /// A connection.
    Tcp(Address),
    /// A page.
    Http(Uri),
    /// A script and its arguments.
    Exec(Vec<String>),
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(command) = text.strip_prefix("exec:") {
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            return if words.is_empty() { Err("exec: needs a command".into()) } else { Ok(Self::Exec(words)) };
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return text.parse().map(Self::Http).map_err(|_| "must be an http address".into());
        }
        let address: Address = text.parse().map_err(|error: crate::wire::AddressError| error.to_string())?;
        match address.scheme.as_str() {
            "redis" | "rediss" => Ok(Self::Redis(address)),
            "memcached" | "memcacheds" => Ok(Self::Memcached(address)),
            "postgres" | "postgresql" => Ok(Self::Postgres(address)),
            "mysql" | "mariadb" => Ok(Self::MySql(address)),
            "tcp" if address.port.is_some() => Ok(Self::Tcp(address)),
            "tcp" => Err("tcp:// needs a port".into()),
            _ => Err("must be redis, memcached, postgres, mysql, tcp or http(s) and ://, or exec:COMMAND".into()),
        }
    }
}

impl Check {
    /// Its name in answers and metrics, without passwords.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Redis(address)
            | Self::Memcached(address)
            | Self::Postgres(address)
            | Self::MySql(address)
            | Self::Tcp(address) => address.to_string(),
            Self::Http(uri) => http_ends::shown(uri),
            Self::Exec(words) => format!("exec:{}", words[0]),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// With the reason why all is not well.
    pub async fn run(&self, client: &Client, password: Option<&str>, timeout: Duration) -> Result<(), String> {
        let asked = async {
            match self {
                Self::Redis(address) => redis(client, &with(address, password), timeout).await,
                Self::Memcached(address) => {
                    let answers = memcached::stats(client.names(), address, &[""], timeout).await;
                    answers.map(drop).map_err(|error| error.to_string())
                }
                Self::Postgres(address) => {
                    let address = with(address, password);
                    let query = address.parameter("query").unwrap_or("SELECT 1").to_owned();
                    let asked = async {
                        Postgres::connect(client.names(), &address, timeout).await?.ask(&query, timeout).await
                    };
                    judge(&address, asked.await)
                }
                Self::MySql(address) => {
                    let address = with(address, password);
                    let query = address.parameter("query").unwrap_or("SELECT 1").to_owned();
                    let asked =
                        async { MySql::connect(client.names(), &address, timeout).await?.ask(&query, timeout).await };
                    judge(&address, asked.await)
                }
                Self::Tcp(address) => {
                    let connected =
                        crate::wire::connect(client.names(), &address.host, address.port.unwrap_or(0)).await;
                    connected.map(drop).map_err(|error| error.to_string())
                }
                Self::Http(uri) => {
                    let answer = client.get(uri, http::HeaderMap::new(), 1 << 20, timeout).await;
                    let status = answer.map_err(|error| error.to_string())?.status();
                    // As the kubelet judges.
                    if status.is_success() || status.is_redirection() {
                        Ok(())
                    } else {
                        Err(format!("status {}", status.as_u16()))
                    }
                }
                Self::Exec(words) => exec(words).await,
            }
        };
        tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
    }
}

fn with(address: &Address, password: Option<&str>) -> Address {
    let password = password.map(str::to_owned).or_else(|| address.password.clone());
    Address { password, ..address.clone() }
}

async fn redis(client: &Client, address: &Address, timeout: Duration) -> Result<(), String> {
    let command = address.parameter("command").unwrap_or("PING");
    let words: Vec<&str> = command.split_whitespace().collect();
    let asked = async { Redis::connect(client.names(), address, timeout).await?.ask(&words, timeout).await };
    let reply = asked.await.map_err(|error| error.to_string())?;
    let expected = address.parameter("expect").or((command == "PING").then_some("PONG"));
    match expected {
        Some(expected) if reply.text() != expected => {
            Err(format!("{command}: {:?} instead of {expected:?}", short(&reply.text())))
        }
        None if reply == Reply::Nil => Err(format!("{command}: there is nothing")),
        _ => Ok(()),
    }
}

/// A query must answer a row, and with `expect` this one in its first column.
fn judge(address: &Address, asked: Result<Rows, WireError>) -> Result<(), String> {
    let rows = asked.map_err(|error| error.to_string())?;
    let first = rows.rows.first().and_then(|row| row.first()).cloned().flatten();
    match (address.parameter("expect"), first) {
        (None, _) if rows.rows.is_empty() => Err("the query found nothing".into()),
        (None, _) => Ok(()),
        (Some(expected), Some(first)) if first == expected => Ok(()),
        (Some(expected), first) => Err(format!("{:?} instead of {expected:?}", short(&first.unwrap_or_default()))),
    }
}

async fn exec(words: &[String]) -> Result<(), String> {
    let (program, arguments) = words.split_first().ok_or("no command")?;
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = if output.stderr.is_empty() { output.stdout } else { output.stderr };
    let said = String::from_utf8_lossy(&said);
    Err(match short(said.trim()) {
        nothing if nothing.is_empty() => output.status.to_string(),
        said => format!("{}: {said}", output.status),
    })
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_told_apart_by_their_addresses() {
        assert!(matches!("redis://h?command=GET+x&expect=1".parse(), Ok(Check::Redis(_))));
        assert!(matches!("tcp://h:1".parse(), Ok(Check::Tcp(_))));
        assert!(matches!("https://h/x".parse(), Ok(Check::Http(_))));
        assert_eq!("exec:/bin/x a".parse(), Ok(Check::Exec(vec!["/bin/x".into(), "a".into()])));
        for text in ["", "tcp://h", "ftp://h", "exec:", "h:1"] {
            assert!(text.parse::<Check>().is_err(), "{text}");
        }
        let secret: Check = "postgres://me:secret@h/db".parse().unwrap();
        assert_eq!(secret.name(), "postgres://h");
        // A pod's containers share one host: what tells them apart is the port.
        let page: Check = "http://me:secret@localhost:8080/ok?token=secret".parse().unwrap();
        assert_eq!(page.name(), "http://localhost:8080/ok");
    }

    #[tokio::test]
    async fn a_command_that_fails_tells_its_status_and_what_it_said() {
        let failed = async |script: &str| exec(&["/bin/sh".into(), "-c".into(), script.into()]).await.unwrap_err();
        assert_eq!(failed("exit 3").await, "exit status: 3");
        assert_eq!(failed("echo said; echo why >&2; exit 1").await, "exit status: 1: why");
        assert_eq!(failed("echo said; exit 1").await, "exit status: 1: said");
    }
}
