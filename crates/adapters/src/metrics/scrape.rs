//! One scrape: the software is asked, and what it says becomes metrics.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use http::Uri;
use http_ends::{Client, Names, Trust};
use serving::Live;

use super::{
    Arguments, TargetError, exposition::Metrics, haproxy, mapping::Mapping, memcached, nginx, redis, shown, sql,
};
use crate::wire::{Address, MOST, Rows, WireError, memcached::stats, mysql::MySql, postgres::Postgres, redis::Redis};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// Redis, by INFO.
    Redis,
    /// memcached, by stats.
    Memcached,
    /// nginx, by its stub_status page.
    Nginx,
    /// HAProxy, by its statistics in CSV.
    Haproxy,
    /// PostgreSQL, by its statistics views.
    Postgres,
    /// MySQL and MariaDB, by SHOW GLOBAL STATUS and VARIABLES.
    Mysql,
    /// Any JSON, by a mapping file.
    Json,
    /// Any text, by a mapping file.
    Text,
}

enum Place {
    Wire(Address),
    Web(Uri),
    File(PathBuf),
}

/// Asks one target.
pub struct Scraper {
    from: From,
    place: Place,
    shown: String,
    mapping: Option<Live<Mapping>>,
    timeout: Duration,
    password_file: Option<PathBuf>,
    client: Client,
    names: Names,
}

impl Scraper {
    /// A scraper by the command line.
    ///
    /// # Errors
    /// If the target is not one of its kind.
    pub fn new(arguments: &Arguments, mapping: Option<Live<Mapping>>) -> Result<Self, TargetError> {
        let target = &arguments.target;
        let place = match arguments.from {
            From::Redis => wire(target, "redis", &["redis", "rediss"])?,
            From::Memcached => wire(target, "memcached", &["memcached", "memcacheds", "tcp"])?,
            From::Postgres => wire(target, "postgres", &["postgres", "postgresql"])?,
            From::Mysql => wire(target, "mysql", &["mysql", "mariadb"])?,
            From::Nginx | From::Haproxy | From::Json | From::Text => match target.strip_prefix("file:") {
                Some(path) => Place::File(path.into()),
                None => {
                    let uri = target.parse::<Uri>().ok();
                    let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
                    Place::Web(uri.ok_or_else(|| TargetError::Place(target.clone()))?)
                }
            },
        };
        if matches!(arguments.from, From::Json | From::Text) && mapping.is_none() {
            return Err(TargetError::NoMapping);
        }
        let names = Names::default();
        Ok(Self {
            from: arguments.from,
            place,
            shown: shown(target),
            mapping,
            timeout: arguments.timeout.0,
            password_file: arguments.password_file.clone(),
            client: Client::new(names.clone(), Trust::System),
            names,
        })
    }

    /// What is asked, without passwords.
    #[must_use]
    pub fn target(&self) -> String {
        self.shown.clone()
    }

    /// Asks, and tells what came; or that nothing did, and why.
    pub async fn scrape(&self) -> (Metrics, Option<String>) {
        let began = Instant::now();
        let asked = tokio::time::timeout(self.timeout, self.ask()).await;
        let asked = asked.unwrap_or(Err(WireError::Deadline(self.timeout)));
        let (mut metrics, error) = match asked {
            Ok(metrics) => (metrics, None),
            Err(error) => {
                tracing::warn!(%error, target = self.shown, "the scrape failed");
                let mut metrics = Metrics::default();
                metrics.gauge(self.up(), "Whether it answered", &[], 0.0);
                (metrics, Some(error.to_string()))
            }
        };
        let failed = f64::from(u8::from(error.is_some()));
        metrics.gauge("hythe_adapter_scrape_error", "Whether the last scrape failed", &[], failed);
        let took = began.elapsed().as_secs_f64();
        metrics.gauge("hythe_adapter_scrape_duration_seconds", "What the last scrape took", &[], took);
        (metrics, error)
    }

    fn up(&self) -> &'static str {
        match self.from {
            From::Redis => "redis_up",
            From::Memcached => "memcached_up",
            From::Nginx => "nginx_up",
            From::Haproxy => "haproxy_up",
            From::Postgres => "pg_up",
            From::Mysql => "mysql_up",
            From::Json | From::Text => "hythe_adapter_up",
        }
    }

    async fn ask(&self) -> Result<Metrics, WireError> {
        match &self.place {
            Place::Wire(address) => {
                let mut address = address.clone();
                if let Some(file) = &self.password_file {
                    address.password = Some(std::fs::read_to_string(file)?.trim_end().to_owned());
                }
                match self.from {
                    From::Redis => self.redis(&address).await,
                    From::Memcached => {
                        let kinds = ["", "settings", "slabs"];
                        let answers = stats(&self.names, &address, &kinds, self.timeout).await?;
                        let [general, settings, slabs] = answers.as_slice() else { return Ok(Metrics::default()) };
                        Ok(memcached::metrics(general, settings, slabs))
                    }
                    From::Postgres => self.postgres(&address).await,
                    _ => self.mysql(&address).await,
                }
            }
            Place::Web(uri) => {
                let answer = self.client.get_following(uri, MOST, self.timeout).await?;
                if !answer.status().is_success() {
                    return Err(WireError::Said(format!("status {}", answer.status().as_u16())));
                }
                self.read(answer.body())
            }
            Place::File(path) => self.read(&std::fs::read(path)?),
        }
    }

    fn read(&self, body: &[u8]) -> Result<Metrics, WireError> {
        let text = String::from_utf8_lossy(body);
        let mapping = self.mapping.as_ref().map(Live::current);
        let mut metrics = match self.from {
            From::Nginx => {
                return nginx::metrics(&text).ok_or(WireError::Protocol("nginx's", "it is not a stub_status page"));
            }
            From::Haproxy => {
                return haproxy::metrics(&text).ok_or(WireError::Protocol("HAProxy's", "it is not its table in CSV"));
            }
            From::Json => {
                let document =
                    serde_json::from_slice(body).map_err(|_| WireError::Protocol("JSON", "it cannot be parsed"))?;
                mapping.map(|mapping| mapping.json(&document)).unwrap_or_default()
            }
            _ => mapping.map(|mapping| mapping.text(&text)).unwrap_or_default(),
        };
        metrics.gauge(self.up(), "Whether it answered", &[], 1.0);
        Ok(metrics)
    }

    async fn redis(&self, address: &Address) -> Result<Metrics, WireError> {
        let mut redis = Redis::connect(&self.names, address, self.timeout).await?;
        let info = redis.ask(&["INFO", "ALL"], self.timeout).await?.text();
        // What a user may not ask is left out.
        let clients = redis.ask(&["CONFIG", "GET", "maxclients"], self.timeout).await;
        let max_clients = clients.ok().and_then(|reply| match reply {
            crate::wire::redis::Reply::List(pair) => pair.get(1)?.text().parse().ok(),
            _ => None,
        });
        let slow_log =
            redis.ask(&["SLOWLOG", "LEN"], self.timeout).await.ok().and_then(|reply| reply.text().parse().ok());
        Ok(redis::metrics(&redis::Answers { info, max_clients, slow_log }))
    }

    async fn postgres(&self, address: &Address) -> Result<Metrics, WireError> {
        let mut postgres = Postgres::connect(&self.names, address, self.timeout).await?;
        let mut metrics = Metrics::default();
        metrics.gauge("pg_up", "Whether the server answered", &[], 1.0);
        for (prefix, labels, query) in sql::POSTGRES {
            match postgres.ask(query, self.timeout).await {
                Ok(rows) => sql::postgres(&mut metrics, prefix, labels, &rows),
                // What a version does not know or a user may not see is left out.
                Err(WireError::Said(reason)) => tracing::debug!(prefix, reason, "a query was refused"),
                Err(error) => return Err(error),
            }
        }
        Ok(metrics)
    }

    async fn mysql(&self, address: &Address) -> Result<Metrics, WireError> {
        let mut mysql = MySql::connect(&self.names, address, self.timeout).await?;
        let mut metrics = Metrics::default();
        metrics.gauge("mysql_up", "Whether the server answered", &[], 1.0);
        let put: [fn(&mut Metrics, &Rows); 3] = [sql::mysql_status, sql::mysql_variables, sql::mysql_replica];
        for (forms, put) in sql::MYSQL.iter().zip(put) {
            for query in *forms {
                match mysql.ask(query, self.timeout).await {
                    Ok(rows) => {
                        put(&mut metrics, &rows);
                        break;
                    }
                    Err(WireError::Said(reason)) => tracing::debug!(query, reason, "a query was refused"),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(metrics)
    }
}

fn wire(target: &str, kind: &'static str, schemes: &[&str]) -> Result<Place, TargetError> {
    let address: Address = target.parse().map_err(|error| TargetError::Address(shown(target), error))?;
    if schemes.contains(&address.scheme.as_str()) {
        Ok(Place::Wire(address))
    } else {
        Err(TargetError::Scheme(kind, address.scheme))
    }
}
