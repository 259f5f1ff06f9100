//! `hythe sidecar config`: configuration files that follow their source, and an application that hears of it.

mod check;
mod kubernetes;
mod source;
mod target;

use std::{io, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, Uri};
use http_ends::{Client, Names, Trust};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use regex_lite::Regex;
use serving::{Endpoint, FileWatch, Flags, Manual, Serving, Span, Variable};
use std::sync::Arc;
use tokio::sync::Notify;

pub use self::{
    check::{Checks, Format, Refusal},
    kubernetes::{Api, ApiError},
    source::{Content, Source, SourceError},
    target::{Change, TargetError, apply, compare},
};
use crate::notice::{Target, parse_signal, send};

/// What a user must know of it.
pub static MANUAL: Manual = Manual {
    name: "sidecar config",
    about: "Keeps configuration files as their source has them, and tells the application.",
    version: "v1",
    ports: &[],
    endpoints: &[
        Endpoint {
            method: "GET",
            path: "/api/v1/config",
            about: "when it was looked last, changed last, and how it went",
        },
        Endpoint { method: "POST", path: "/api/v1/config", about: "looks now" },
    ],
    variables: &[
        Variable {
            name: "CONFIG_SOURCE",
            default: "",
            about: "http(s)://…, dir:PATH, configmap:[NAMESPACE/]NAME[#KEY] or git+URL[#REF[:PATH]]",
        },
        Variable { name: "CONFIG_TARGET", default: "", about: "the file, or the directory for several" },
        Variable {
            name: "UPDATE_FREQUENCY",
            default: "10s",
            about: "time between looks; a number alone means seconds",
        },
        Variable { name: "CONFIG_TIMEOUT", default: "30s", about: "the most that one look may take" },
        Variable {
            name: "CONFIG_VALIDATE_FORMAT",
            default: "",
            about: "json or yaml: refuses files that are not written so",
        },
        Variable {
            name: "CONFIG_VALIDATE_REGEX",
            default: "",
            about: "refuses files in which this expression matches nowhere",
        },
        Variable {
            name: "CONFIG_VALIDATE_COMMAND",
            default: "",
            about: "refuses what this command ends for with another code than 0; {} is the new file or directory",
        },
        Variable {
            name: "CONFIG_NOTIFY",
            default: "",
            about: "file:PATH, signal:NAME@PROCESS, signal:NAME@pidfile:PATH, restart, or an http(s) address; several with commas",
        },
        Variable { name: "CONFIG_ONE_TIME", default: "false", about: "ends after the first success" },
        Variable { name: "CONFIG_CA_FILE", default: "", about: "certificate authorities for https, PEM file" },
    ],
};

/// Keeps configuration files as their source has them, and tells the application.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
pub struct Arguments {
    /// http(s)://…, dir:PATH, configmap:[NAMESPACE/]NAME[#KEY] or git+URL[#REF[:PATH]].
    #[arg(long, env = "CONFIG_SOURCE", hide_env_values = true, value_name = "SOURCE")]
    pub source: Source,
    /// The file to write; for a source of several files, their directory.
    #[arg(long, env = "CONFIG_TARGET", value_name = "PATH")]
    pub target: PathBuf,
    /// Time between looks; a number alone means seconds. Directories and ConfigMaps are watched besides.
    #[arg(long, env = "UPDATE_FREQUENCY", default_value = "10s", value_name = "TIME", value_parser = frequency)]
    pub update_frequency: Span,
    /// The most that one look may take.
    #[arg(long, env = "CONFIG_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub timeout: Span,
    /// Refuses files that are not written so.
    #[arg(long, env = "CONFIG_VALIDATE_FORMAT", value_name = "FORMAT")]
    pub validate_format: Option<Format>,
    /// Refuses files in which this expression matches nowhere.
    #[arg(long, env = "CONFIG_VALIDATE_REGEX", value_name = "REGEX")]
    pub validate_regex: Option<Regex>,
    /// Refuses what this command ends for with another code than 0; `{}` stands for the new file or directory.
    #[arg(long, env = "CONFIG_VALIDATE_COMMAND", value_name = "COMMAND")]
    pub validate_command: Option<String>,
    /// Whom to tell of a change: file:PATH (its time is set), signal:NAME@PROCESS, signal:NAME@pidfile:PATH, restart
    /// (SIGTERM to the pod's main process), or an http(s) address (POST).
    #[arg(long, env = "CONFIG_NOTIFY", value_name = "NOTICE", value_delimiter = ',')]
    pub notify: Vec<Notice>,
    /// Ends after the first success.
    #[arg(long, env = "CONFIG_ONE_TIME")]
    pub one_time: bool,
    /// Certificate authorities for https, in PEM [default: the system's].
    #[arg(long, env = "CONFIG_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    #[command(flatten)]
    serving: Flags,
}

/// Whom to tell of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A file whose time is set.
    File(PathBuf),
    /// A signal to a process of the shared PID namespace.
    Signal(Signal, Target),
    /// An address that gets a POST.
    Web(Uri),
}

impl FromStr for Notice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "restart" {
            return Ok(Self::Signal(Signal::SIGTERM, Target::Main));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self::File(path.into()));
        }
        if let Some(rest) = text.strip_prefix("signal:") {
            let (signal, process) = rest.split_once('@').ok_or("signal: needs NAME@PROCESS or NAME@pidfile:PATH")?;
            let target = match process.strip_prefix("pidfile:") {
                Some(path) => Target::PidFile(path.into()),
                None if process.is_empty() => return Err("signal: needs a process".into()),
                None => Target::Name(process.to_owned()),
            };
            return Ok(Self::Signal(parse_signal(signal)?, target));
        }
        match text.parse::<Uri>() {
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(Self::Web(uri)),
            _ => {
                Err("must be file:PATH, signal:NAME@PROCESS, signal:NAME@pidfile:PATH, restart or an http address"
                    .into())
            }
        }
    }
}

impl Notice {
    async fn give(&self, client: &Client, timeout: Duration) -> Result<(), String> {
        match self {
            Self::File(path) => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
                let set = file.and_then(|file| file.set_modified(std::time::SystemTime::now()));
                set.map_err(|error| format!("{}: {error}", path.display()))
            }
            Self::Signal(signal, target) => {
                let told = send(target, *signal).map_err(|error| error.to_string())?;
                tracing::info!(%signal, processes = ?told, "the application was told");
                Ok(())
            }
            Self::Web(uri) => {
                let request = Request::post(uri).body(Bytes::new()).map_err(|error| error.to_string())?;
                let answer = client.send(request, 1 << 20, timeout).await.map_err(|error| error.to_string())?;
                let status = answer.status();
                if status.is_success() { Ok(()) } else { Err(format!("{uri}: status {}", status.as_u16())) }
            }
        }
    }
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The new configuration is refused.
    #[error("the new configuration is refused, the old one goes on: {0}")]
    Refused(#[from] Refusal),
    /// The files.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Someone could not be told; it is tried again at the next look.
    #[error("the application could not be told: {0}")]
    Notice(String),
}

/// Runs until it is told to end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    let flags = arguments.serving.clone();
    serving::run(&MANUAL, flags, |serving| async move { Ok(run(arguments, serving).await?) })
}

/// Follows the source until the serving stops.
///
/// # Errors
/// With `one_time`, if the only look fails.
pub async fn run(arguments: Arguments, serving: Serving) -> Result<(), SyncError> {
    let trust = arguments.ca_file.clone().map_or(Trust::System, Trust::File);
    let mut follower = Follower {
        checks: Checks {
            format: arguments.validate_format,
            regex: arguments.validate_regex.clone(),
            command: arguments.validate_command.as_ref().map(|command| words(command)),
            command_time: arguments.timeout.0,
        },
        client: Client::new(Names::default(), trust),
        pending: Vec::new(),
        refused: None,
        arguments,
    };
    let looks = Family::<ByResult, Counter>::default();
    serving.admin().metrics(|registry| {
        registry.register("hythe_config_looks", "Looks at the source by result", looks.clone());
    });
    let (look, state) = (Arc::new(Notify::new()), Arc::new(Mutex::new(State::default())));
    announce(&serving, &follower.arguments, &state, &look);
    let mut failures = 0;
    loop {
        // Begun before the look, so that no change is missed.
        let watch = follower.watch();
        let looked = serving.stopping().run_until_cancelled(follower.look()).await;
        let Some(looked) = looked else { return Ok(()) };
        let result = match &looked {
            Ok(true) => "changed",
            Ok(false) => "unchanged",
            Err(SyncError::Refused(_)) => "refused",
            Err(_) => "error",
        };
        looks.get_or_create(&ByResult { result }).inc();
        failures = if result == "error" { failures + 1 } else { 0 };
        state.lock().tell(&looked);
        match looked {
            Ok(_) => serving.ready(),
            Err(error) if follower.arguments.one_time => return Err(error),
            Err(error) => tracing::error!(%error, "the configuration could not be brought up to date"),
        }
        if follower.arguments.one_time {
            return Ok(());
        }
        tokio::select! {
            () = serving.stopping().cancelled() => return Ok(()),
            () = look.notified() => {}
            () = tokio::time::sleep(pause(follower.arguments.update_frequency.0, failures)) => {}
            () = follower.changed(watch) => {}
        }
    }
}

/// Time until the next look. A source that could not be reached is looked at again sooner, 1 s after the first failure and
/// twice as long after each further one: an application may wait for its first configuration.
fn pause(frequency: Duration, failures: u32) -> Duration {
    match failures {
        0 => frequency,
        _ => frequency.min(Duration::from_secs(1 << (failures - 1).min(16))),
    }
}

struct Follower {
    arguments: Arguments,
    checks: Checks,
    client: Client,
    /// Who has not heard of the last change yet.
    pending: Vec<Notice>,
    /// What was refused last: it is not judged again before it changes.
    refused: Option<(Content, Refusal)>,
}

impl Follower {
    /// Looks once. Returns whether something changed.
    async fn look(&mut self) -> Result<bool, SyncError> {
        let Arguments { source, target, timeout, notify, .. } = &self.arguments;
        let content = source.fetch(&self.client, timeout.0).await?;
        let change = compare(target, &content)?;
        if !change.is_empty() {
            if let Some((before, refusal)) = &self.refused
                && *before == content
            {
                return Err(refusal.clone().into());
            }
            if let Err(refusal) = self.checks.judge(&content).await {
                self.refused = Some((content, refusal.clone()));
                return Err(refusal.into());
            }
            let (target, told) = (target.clone(), change.clone());
            let files: Vec<String> = change.write.keys().map(|path| path.display().to_string()).collect();
            let written = tokio::task::spawn_blocking(move || apply(&target, &content, &told)).await;
            written.map_err(|error| SyncError::Notice(error.to_string()))??;
            tracing::info!(?files, removed = change.remove.len(), "the new configuration is in its place");
            self.refused = None;
            self.pending = notify.clone();
        }
        let mut failed = None;
        let mut left = Vec::new();
        for notice in std::mem::take(&mut self.pending) {
            if let Err(reason) = notice.give(&self.client, self.arguments.timeout.0).await {
                failed = Some(reason);
                left.push(notice);
            }
        }
        self.pending = left;
        failed.map_or(Ok(!change.is_empty()), |reason| Err(SyncError::Notice(reason)))
    }

    /// Begins to watch a source of files.
    fn watch(&self) -> Option<io::Result<FileWatch>> {
        let Source::Path(path) = &self.arguments.source else { return None };
        let files = if path.is_dir() { vec![path.join("..data"), path.join("any")] } else { vec![path.clone()] };
        Some(FileWatch::new(files))
    }

    /// Returns when the source tells of a change by itself; never where it cannot.
    async fn changed(&self, watch: Option<io::Result<FileWatch>>) {
        let watched = match &self.arguments.source {
            Source::Path(_) => match watch {
                Some(Ok(mut watch)) => watch.changed().await.map_err(|error| error.to_string()),
                Some(Err(error)) => Err(error.to_string()),
                None => return,
            },
            Source::ConfigMap { namespace, name, .. } => match Api::of_the_pod() {
                Ok(api) => api.changed(namespace.as_deref(), name).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            Source::Http(_) | Source::Git { .. } => std::future::pending().await,
        };
        if let Err(reason) = watched {
            tracing::debug!(reason, "the source cannot be watched, only asked now and then");
            std::future::pending().await
        }
    }
}

#[derive(Default)]
struct State {
    looked: Option<jiff::Timestamp>,
    changed: Option<jiff::Timestamp>,
    error: Option<String>,
}

impl State {
    fn tell(&mut self, looked: &Result<bool, SyncError>) {
        let now = Some(jiff::Timestamp::now());
        self.looked = now;
        if matches!(looked, Ok(true)) {
            self.changed = now;
        }
        self.error = looked.as_ref().err().map(ToString::to_string);
    }
}

fn announce(serving: &Serving, arguments: &Arguments, state: &Arc<Mutex<State>>, look: &Arc<Notify>) {
    let (source, target, state) = (arguments.source.to_string(), arguments.target.clone(), state.clone());
    serving.admin().route(Method::GET, "/api/v1/config", move |_| {
        let state = state.lock();
        let body = serde_json::json!({
            "kind": "ConfigSync", "apiVersion": "v1", "source": source, "target": target,
            "lastLook": state.looked.map(|at| at.to_string()),
            "lastChange": state.changed.map(|at| at.to_string()),
            "error": state.error,
        });
        async move { http_ends::json(StatusCode::OK, body.to_string()) }
    });
    crate::look::when_asked(serving, "/api/v1/config", look);
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

fn frequency(text: &str) -> Result<Span, String> {
    text.parse::<u64>().map(Span::seconds).or_else(|_| text.parse())
}

/// A command's words; quotes hold spaces together.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for letter in command.chars() {
        match (letter, quote) {
            (letter, Some(open)) if letter == open => quote = None,
            (letter, Some(_)) => word.push(letter),
            ('\'' | '"', None) => {
                quote = Some(letter);
                begun = true;
            }
            (letter, None) if letter.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (letter, None) => word.push(letter),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_apart_as_a_shell_would() {
        assert_eq!(words("nginx -t -c  '{} x' \"\""), ["nginx", "-t", "-c", "{} x", ""]);
        assert!(words("  ").is_empty());
    }

    #[test]
    fn notices_and_frequencies_read_as_they_are_documented() {
        assert_eq!("restart".parse(), Ok(Notice::Signal(Signal::SIGTERM, Target::Main)));
        let nginx = Notice::Signal(Signal::SIGHUP, Target::Name("nginx".into()));
        assert_eq!("signal:HUP@nginx".parse(), Ok(nginx));
        let file = Notice::Signal(Signal::SIGUSR1, Target::PidFile("/run/x.pid".into()));
        assert_eq!("signal:SIGUSR1@pidfile:/run/x.pid".parse(), Ok(file));
        for text in ["signal:HUP", "signal:NOPE@x", "signal:HUP@", "mail:x", ""] {
            assert!(text.parse::<Notice>().is_err(), "{text}");
        }
        assert_eq!(frequency("30"), Ok(Span::seconds(30)));
        assert_eq!(frequency("1m"), Ok(Span::seconds(60)));
    }

    #[test]
    fn a_source_that_cannot_be_reached_is_looked_at_again_sooner() {
        let seconds = |frequency: u64, failures| pause(Duration::from_secs(frequency), failures).as_secs();
        assert_eq!([0, 1, 2, 5, 99].map(|failures| seconds(300, failures)), [300, 1, 2, 16, 300]);
        assert_eq!(seconds(1, 3), 1);
    }
}
