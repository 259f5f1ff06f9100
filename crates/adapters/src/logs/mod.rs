//! `hythe adapter logs`: logs of all kinds become one JSON line a record on standard output.
//!
//! A record is told at least once: after a crash the last moments before it may be told again.

pub mod config;
mod follow;
pub mod format;
pub mod lines;
pub mod pattern;
pub mod positions;
pub mod slow_log;
pub mod tail;
pub mod time;
mod watch;

use std::{collections::BTreeMap, io::Write, path::PathBuf, process::ExitCode};

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use serde_json::{Map, Value};
use serving::{ConfigError, Endpoint, Flags, Live, Manual, Serving, Variable};

pub use self::follow::{State, follow};
use self::{
    config::{Config, Kind, Multiline, Source},
    format::Record,
};

/// What a user must know of it.
pub static MANUAL: Manual = Manual {
    name: "adapter logs",
    about: "Logs of all kinds as one JSON line a record on standard output.",
    version: "v1",
    ports: &[],
    endpoints: &[Endpoint { method: "GET", path: "/api/v1/positions", about: "how far each log has been read" }],
    variables: &[
        Variable { name: "LOGS_CONFIG", default: "", about: "the configuration file; or else the variables below" },
        Variable {
            name: "LOGS_FILES",
            default: "",
            about: "files, separated by commas; * stands for anything in a name",
        },
        Variable {
            name: "LOGS_FORMAT",
            default: "raw",
            about: "raw, json, logfmt, cri, nginx, nginx-error, apache, apache-error, syslog, syslog5424, redis, regex",
        },
        Variable {
            name: "LOGS_PATTERN",
            default: "",
            about: "the expression of regex, in which %{NAME:field} may stand",
        },
        Variable {
            name: "LOGS_MULTILINE_START",
            default: "",
            about: "an expression that matches a record's first line",
        },
        Variable { name: "LOGS_ZONE", default: "UTC", about: "the zone of times that name none" },
        Variable { name: "LOGS_POSITIONS", default: "", about: "file that keeps positions over a restart" },
    ],
};

/// Tells logs of all kinds as one JSON line a record on standard output.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
#[command(group = ArgGroup::new("what").required(true).args(["config", "files"]))]
pub struct Arguments {
    /// The configuration file (YAML); it is followed.
    #[arg(long, env = "LOGS_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Files; `*` stands for anything in a file's name.
    #[arg(long = "file", env = "LOGS_FILES", value_name = "PATH", value_delimiter = ',', conflicts_with = "config")]
    pub files: Vec<PathBuf>,
    /// How records are written.
    #[arg(long, env = "LOGS_FORMAT", default_value = "raw", value_name = "FORMAT")]
    pub format: Kind,
    /// The expression of regex, in which `%{NAME:field}` may stand.
    #[arg(long, env = "LOGS_PATTERN", value_name = "REGEX")]
    pub pattern: Option<String>,
    /// An expression that matches a record's first line.
    #[arg(long, env = "LOGS_MULTILINE_START", value_name = "REGEX")]
    pub multiline_start: Option<String>,
    /// The zone of times that name none.
    #[arg(long, env = "LOGS_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,
    /// File that keeps positions over a restart.
    #[arg(long, env = "LOGS_POSITIONS", value_name = "FILE")]
    pub positions: Option<PathBuf>,
    #[command(flatten)]
    serving: Flags,
}

impl Arguments {
    /// The configuration that the flags say, where there is no file.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let multiline = self.multiline_start.as_ref().map(|start| {
            serving::from_yaml::<Multiline>("{}").map(|multiline| Multiline { start: Some(start.clone()), ..multiline })
        });
        let source = Source {
            name: "files".into(),
            files: self.files.clone(),
            redis_slow_log: None,
            format: self.format,
            pattern: self.pattern.clone(),
            time_field: None,
            time_format: None,
            zone: self.zone.clone(),
            multiline: multiline.transpose()?,
            fields: BTreeMap::new(),
        };
        let config = Config { sources: vec![source], positions: self.positions.clone() };
        config.check()?;
        Ok(config)
    }
}

/// Runs until it is told to end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    let flags = arguments.serving.clone();
    serving::run(&MANUAL, flags, |serving| async move {
        let output = std::io::BufWriter::with_capacity(64 << 10, std::io::stdout());
        run(arguments, Box::new(output), serving).await
    })
}

/// Tells records to `output` until the serving stops.
///
/// # Errors
/// If the configuration cannot be used, or the output breaks.
pub async fn run(
    arguments: Arguments,
    mut output: Box<dyn Write + Send>,
    serving: Serving,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut state = State::new(&serving);
    let Some(file) = &arguments.config else {
        return Ok(follow(&arguments.config()?, &mut output, &serving, &mut state, std::future::pending()).await?);
    };
    let live = Live::open(file, Config::parse)?;
    live.follow(&serving);
    let mut versions = live.subscribe();
    while !serving.stopping().is_cancelled() {
        let config = versions.borrow_and_update().clone();
        let changed = async { drop(versions.changed().await) };
        follow(&config, &mut output, &serving, &mut state, changed).await?;
    }
    Ok(())
}

/// A record as it is told.
#[must_use]
pub fn line(source: &Source, file: Option<&str>, record: Record, cut: bool, now: Timestamp) -> Value {
    let mut line = Map::new();
    line.insert("time".into(), record.time.unwrap_or(now).to_string().into());
    line.insert("source".into(), source.name.clone().into());
    if let Some(file) = file {
        line.insert("file".into(), file.into());
    }
    if let Some(level) = record.level {
        line.insert("level".into(), level.into());
    }
    if let Some(message) = record.message {
        line.insert("message".into(), message.into());
    }
    for (name, value) in &source.fields {
        line.insert(name.clone(), value.clone().into());
    }
    for (name, value) in record.fields {
        // What the record calls as we call ours stays distinct.
        let name = if line.contains_key(&name) { format!("record.{name}") } else { name };
        line.insert(name, value);
    }
    for (name, is_so) in [("timeIsArrival", record.time.is_none()), ("unparsed", record.unparsed), ("cut", cut)] {
        if is_so {
            line.insert(name.into(), true.into());
        }
    }
    Value::Object(line)
}
