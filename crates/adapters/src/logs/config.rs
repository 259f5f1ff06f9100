//! The configuration file.

use std::{collections::BTreeMap, path::PathBuf};

use clap::ValueEnum;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serving::{ConfigError, Span};

use super::format::Format;

/// The configuration of a log adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where records come from.
    pub sources: Vec<Source>,
    /// Where positions are kept over a restart; without it every start begins at the ends of the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<PathBuf>,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Its name, which stands in each record.
    pub name: String,
    /// Files; `*` stands for anything in a file's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// A Redis whose slow log is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_slow_log: Option<SlowLog>,
    /// How records are written.
    #[serde(default)]
    pub format: Kind,
    /// With `regex`: the expression, in which `%{NAME:field}` may stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The field that holds the time; common names if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_field: Option<String>,
    /// How it is written, as strptime has it, or `unix`, `unixms`, `unixns`; common ways if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_format: Option<String>,
    /// The zone of times that name none, such as `Europe/Berlin`; UTC if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Which lines make one record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiline: Option<Multiline>,
    /// What stands in each record besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// Which lines make one record: exactly one of `start` and `continues`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Multiline {
    /// A line in which this matches begins a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// A line in which this matches goes on with the record before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// The most lines of a record.
    #[serde(default = "most_lines")]
    pub most_lines: usize,
    /// After so much silence a record is complete.
    #[serde(default = "wait")]
    pub wait: Span,
}

/// A Redis whose slow log is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowLog {
    /// `redis://[USER:PASSWORD@]HOST[:PORT]`.
    pub address: String,
    /// File that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Time between questions.
    #[serde(default = "period")]
    pub period: Span,
}

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// As they are.
    #[default]
    Raw,
    /// A JSON object a line.
    Json,
    /// `key=value key="two words"`.
    Logfmt,
    /// As container runtimes write them.
    Cri,
    /// nginx's access log.
    Nginx,
    /// nginx's error log.
    NginxError,
    /// Apache's access log.
    Apache,
    /// Apache's error log.
    ApacheError,
    /// syslog as of old (RFC 3164).
    Syslog,
    /// syslog (RFC 5424).
    #[value(name = "syslog5424")]
    Syslog5424,
    /// Redis' own log.
    Redis,
    /// By an expression of one's own.
    Regex,
}

impl Config {
    /// Reads a configuration and judges it.
    ///
    /// # Errors
    /// With the field that cannot be used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = serving::from_yaml(text)?;
        config.check()?;
        Ok(config)
    }

    /// Judges what the types alone do not.
    ///
    /// # Errors
    /// With the field that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.sources.is_empty() {
            return Err(ConfigError::field("sources", "there must be one"));
        }
        for (at, source) in self.sources.iter().enumerate() {
            let wrong = |field: &str, reason: &str| Err(ConfigError::field(format!("sources[{at}].{field}"), reason));
            if source.files.is_empty() == source.redis_slow_log.is_none() {
                return wrong("files", "needs either files or redisSlowLog");
            }
            if source.files.iter().any(|file| {
                file.file_name().is_none() || file.parent().is_some_and(|parent| parent.to_string_lossy().contains('*'))
            }) {
                return wrong("files", "`*` may stand in a file's name only");
            }
            if let Err(reason) = source.reader() {
                return wrong("format", &reason);
            }
            if let Some(multiline) = &source.multiline {
                match (&multiline.start, &multiline.continues) {
                    (Some(expression), None) | (None, Some(expression)) => {
                        if let Err(error) = Regex::new(expression) {
                            return wrong("multiline", &error.to_string());
                        }
                    }
                    _ => return wrong("multiline", "needs either start or continues"),
                }
            }
            if let Some(slow_log) = &source.redis_slow_log
                && slow_log.address.parse::<crate::wire::Address>().is_err()
            {
                return wrong("redisSlowLog.address", "must be redis://[USER:PASSWORD@]HOST[:PORT]");
            }
        }
        Ok(())
    }
}

impl Source {
    /// What reads its records.
    ///
    /// # Errors
    /// If the pattern is none, or the zone unknown.
    pub fn reader(&self) -> Result<Format, String> {
        Format::new(
            self.format,
            self.pattern.as_deref(),
            self.time_field.clone(),
            self.time_format.clone(),
            self.zone.as_deref(),
        )
    }
}

fn most_lines() -> usize {
    500
}

fn wait() -> Span {
    Span::seconds(1)
}

fn period() -> Span {
    Span::seconds(10)
}
