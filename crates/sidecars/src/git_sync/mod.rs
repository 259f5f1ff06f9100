//! `hythe sidecar git-sync`: a directory that follows a branch, a tag or a commit.
//!
//! Flags, variables and the layout of the directory are those of Kubernetes' git-sync 4.

mod worktrees;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use git::{Oid, Remote, RemoteError};
use http::{Method, StatusCode};
use http_ends::{Client, Names, Trust};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use serving::{Endpoint, Flags, Manual, Serving, Span, Variable};
use tokio::sync::Notify;

pub use self::worktrees::{WorktreeError, Worktrees};
use crate::notice::{self, Hook};

/// What a user must know of it.
pub static MANUAL: Manual = Manual {
    name: "sidecar git-sync",
    about: "Keeps a directory as a branch, a tag or a commit of a git repository has it.",
    version: "v1",
    ports: &[],
    endpoints: &[
        Endpoint { method: "GET", path: "/api/v1/sync", about: "the commit that is shown, and how the last try went" },
        Endpoint { method: "POST", path: "/api/v1/sync", about: "looks for a new commit now" },
    ],
    variables: &[
        Variable { name: "GITSYNC_REPO", default: "", about: "the repository's http, https or file address" },
        Variable { name: "GITSYNC_REF", default: "HEAD", about: "branch, tag, reference or commit" },
        Variable { name: "GITSYNC_ROOT", default: "", about: "directory for worktrees and link" },
        Variable { name: "GITSYNC_LINK", default: "", about: "name of the link; the repository's name if not given" },
        Variable { name: "GITSYNC_DEPTH", default: "1", about: "taken and of no effect" },
        Variable { name: "GITSYNC_PERIOD", default: "10s", about: "time between looks" },
        Variable { name: "GITSYNC_SYNC_TIMEOUT", default: "120s", about: "the most that one sync may take" },
        Variable { name: "GITSYNC_ONE_TIME", default: "false", about: "ends after the first sync" },
        Variable { name: "GITSYNC_MAX_FAILURES", default: "0", about: "failures in a row that are borne; -1: any" },
        Variable { name: "GITSYNC_STALE_WORKTREE_TIMEOUT", default: "0s", about: "how long old worktrees stay" },
        Variable { name: "GITSYNC_TOUCH_FILE", default: "", about: "a file whose time is set after each change" },
        Variable { name: "GITSYNC_MAX_PACK_BYTES", default: "4294967296", about: "the largest pack that is taken" },
        Variable { name: "GITSYNC_WEBHOOK_URL", default: "", about: "asked after each change" },
        Variable { name: "GITSYNC_WEBHOOK_METHOD", default: "POST", about: "its method" },
        Variable {
            name: "GITSYNC_WEBHOOK_SUCCESS_STATUS",
            default: "200",
            about: "by which it tells success; 0 for any",
        },
        Variable { name: "GITSYNC_WEBHOOK_TIMEOUT", default: "1s", about: "the most that a call may take" },
        Variable { name: "GITSYNC_WEBHOOK_BACKOFF", default: "3s", about: "time before it is asked again" },
        Variable { name: "GITSYNC_EXECHOOK_COMMAND", default: "", about: "run after each change" },
        Variable { name: "GITSYNC_EXECHOOK_TIMEOUT", default: "30s", about: "the most that it may take" },
        Variable { name: "GITSYNC_EXECHOOK_BACKOFF", default: "3s", about: "time before it is run again" },
        Variable { name: "GITSYNC_USERNAME", default: "", about: "for the repository" },
        Variable { name: "GITSYNC_PASSWORD", default: "", about: "password or token; a file is better" },
        Variable { name: "GITSYNC_PASSWORD_FILE", default: "", about: "file that holds the password or token" },
        Variable { name: "GITSYNC_CA_FILE", default: "", about: "certificate authorities for https, PEM file" },
    ],
};

/// Keeps a directory as a branch, a tag or a commit of a git repository has it.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
pub struct Arguments {
    /// The repository: http, https, or file:///DIRECTORY.
    #[arg(long, env = "GITSYNC_REPO", hide_env_values = true, value_name = "URL")]
    pub repo: String,
    /// Branch, tag, reference or commit to follow.
    #[arg(long = "ref", env = "GITSYNC_REF", default_value = "HEAD", value_name = "REF")]
    pub reference: String,
    /// As git-sync takes it. History is never fetched, so that a depth changes nothing.
    #[arg(long, env = "GITSYNC_DEPTH", default_value = "1", value_name = "N")]
    pub depth: u32,
    /// Directory for worktrees and link.
    #[arg(long, env = "GITSYNC_ROOT", value_name = "DIR")]
    pub root: PathBuf,
    /// The link that shows the files, within the root unless absolute [default: the repository's name].
    #[arg(long, env = "GITSYNC_LINK", value_name = "PATH")]
    pub link: Option<PathBuf>,
    /// Time between looks.
    #[arg(long, env = "GITSYNC_PERIOD", default_value = "10s", value_name = "TIME")]
    pub period: Span,
    /// The most that one sync may take.
    #[arg(long, env = "GITSYNC_SYNC_TIMEOUT", default_value = "120s", value_name = "TIME")]
    pub sync_timeout: Span,
    /// Ends after the first sync.
    #[arg(long, env = "GITSYNC_ONE_TIME")]
    pub one_time: bool,
    /// Failures in a row that are borne before giving up; negative for any number.
    #[arg(long, env = "GITSYNC_MAX_FAILURES", default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub max_failures: i64,
    /// How long the files of a commit stay that is not shown any more.
    #[arg(long, env = "GITSYNC_STALE_WORKTREE_TIMEOUT", default_value = "0s", value_name = "TIME")]
    pub stale_worktree_timeout: Span,
    /// A file whose time is set after each change.
    #[arg(long, env = "GITSYNC_TOUCH_FILE", value_name = "FILE")]
    pub touch_file: Option<PathBuf>,
    /// The largest pack that is taken, in bytes.
    #[arg(long, env = "GITSYNC_MAX_PACK_BYTES", default_value = "4294967296", value_name = "BYTES")]
    pub max_pack_bytes: u64,
    /// User for the repository.
    #[arg(long, env = "GITSYNC_USERNAME", value_name = "NAME")]
    pub username: Option<String>,
    /// Password or token for the repository; a file is better.
    #[arg(long, env = "GITSYNC_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    pub password: Option<String>,
    /// File that holds the password or token; it is read at each look.
    #[arg(long, env = "GITSYNC_PASSWORD_FILE", value_name = "FILE", conflicts_with = "password")]
    pub password_file: Option<PathBuf>,
    /// Certificate authorities for https, in PEM [default: the system's].
    #[arg(long, env = "GITSYNC_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Asked after each change, with the commit in the header `Gitsync-Hash`, until it succeeds.
    #[arg(long, env = "GITSYNC_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<http::Uri>,
    /// The webhook's method.
    #[arg(long, env = "GITSYNC_WEBHOOK_METHOD", default_value = "POST", value_name = "METHOD")]
    pub webhook_method: Method,
    /// The status by which the webhook tells success; 0 for any.
    #[arg(long, env = "GITSYNC_WEBHOOK_SUCCESS_STATUS", default_value = "200", value_name = "STATUS")]
    pub webhook_success_status: u16,
    /// The most that a call of the webhook may take.
    #[arg(long, env = "GITSYNC_WEBHOOK_TIMEOUT", default_value = "1s", value_name = "TIME")]
    pub webhook_timeout: Span,
    /// Time before a failed webhook is asked again.
    #[arg(long, env = "GITSYNC_WEBHOOK_BACKOFF", default_value = "3s", value_name = "TIME")]
    pub webhook_backoff: Span,
    /// Run after each change in the new files' directory, with the commit in `GITSYNC_HASH`, until it succeeds.
    #[arg(long, env = "GITSYNC_EXECHOOK_COMMAND", value_name = "PATH")]
    pub exechook_command: Option<PathBuf>,
    /// The most that the command may take.
    #[arg(long, env = "GITSYNC_EXECHOOK_TIMEOUT", default_value = "30s", value_name = "TIME")]
    pub exechook_timeout: Span,
    /// Time before a failed command is run again.
    #[arg(long, env = "GITSYNC_EXECHOOK_BACKOFF", default_value = "3s", value_name = "TIME")]
    pub exechook_backoff: Span,
    #[command(flatten)]
    serving: Flags,
}

/// Runs until it is told to end, fails too often, or has synced once where that is all.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    let flags = arguments.serving.clone();
    serving::run(&MANUAL, flags, |serving| async move { Ok(run(arguments, serving).await?) })
}

/// Why syncing ended.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The repository.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The files.
    #[error(transparent)]
    Worktree(#[from] WorktreeError),
    /// The password's file.
    #[error("{0}: {1}")]
    Password(PathBuf, std::io::Error),
    /// What runs beside broke.
    #[error("{0}")]
    Broken(String),
}

/// Syncs until the serving stops.
///
/// # Errors
/// When more failures came in a row than are borne.
pub async fn run(arguments: Arguments, serving: Serving) -> Result<(), SyncError> {
    let trust = arguments.ca_file.clone().map_or(Trust::System, Trust::File);
    let client = Client::new(Names::default(), trust);
    // An address that is none is told at once.
    let named = |error: SyncError| SyncError::Broken(format!("--repo (GITSYNC_REPO): {error}"));
    let remote = arguments.remote(&client).map_err(named)?;
    let link = arguments.link.clone().unwrap_or_else(|| repository_name(remote.url()).into());
    let worktrees = Worktrees::open(&arguments.root, &link)?;
    let state = Arc::new(Mutex::new(State { commit: worktrees.shown(), ..State::default() }));
    let metrics = Metrics::register(&serving);
    let look = Arc::new(Notify::new());
    announce(&serving, &arguments, remote.url(), &state, &look);
    let hooks = arguments.hooks(&client);
    let mut failures = 0;
    // The hooks hear of what an earlier run left as well: whether they did then is not known.
    let mut told = None;
    loop {
        let synced = serving.stopping().run_until_cancelled(sync(&arguments, &client, &worktrees)).await;
        let Some(synced) = synced else { return Ok(()) };
        match synced {
            Ok(commit) => {
                failures = 0;
                metrics.synced("success");
                *state.lock() = State { commit: Some(commit), last: Some(jiff::Timestamp::now()), error: None };
                serving.ready();
                if told != Some(commit) {
                    tracing::info!(%commit, reference = arguments.reference, "the files are this commit's");
                    metrics.changes.inc();
                    arguments.touch();
                    let context = notice::Context {
                        header: ("gitsync-hash", commit.to_string()),
                        variable: ("GITSYNC_HASH", commit.to_string()),
                        directory: worktrees.path(&commit),
                    };
                    if arguments.one_time {
                        notice::once(&hooks, &context).await.map_err(SyncError::Broken)?;
                    } else {
                        hooks.iter().for_each(|hook| hook.tell(context.clone()));
                    }
                    told = Some(commit);
                }
                if arguments.one_time {
                    return Ok(());
                }
            }
            Err(error) => {
                failures += 1;
                metrics.synced("error");
                tracing::error!(%error, failures, "the sync failed");
                state.lock().error = Some(error.to_string());
                if arguments.max_failures >= 0 && failures > arguments.max_failures {
                    return Err(error);
                }
            }
        }
        tokio::select! {
            () = serving.stopping().cancelled() => return Ok(()),
            () = look.notified() => {}
            () = tokio::time::sleep(arguments.period.0) => {}
        }
    }
}

/// One look, and a new worktree if there is a new commit.
async fn sync(arguments: &Arguments, client: &Client, worktrees: &Worktrees) -> Result<Oid, SyncError> {
    let remote = arguments.remote(client)?;
    let commit = remote.resolve(&arguments.reference).await?;
    let before = worktrees.shown();
    let pack = if before == Some(commit) || worktrees.path(&commit).is_dir() {
        None
    } else {
        Some(remote.fetch(&commit, worktrees.directory(), arguments.max_pack_bytes).await?)
    };
    let (worktrees, after) = (worktrees.clone(), arguments.stale_worktree_timeout.0);
    let write = tokio::task::spawn_blocking(move || {
        if let Some(mut pack) = pack {
            worktrees.make(pack.as_mut(), &commit)?;
        }
        if before != Some(commit) {
            worktrees.show(&commit)?;
            if let Some(before) = before {
                worktrees.retire(&before);
            }
        }
        worktrees.collect(&commit, after)?;
        Ok(commit)
    });
    write.await.map_err(|error| SyncError::Broken(error.to_string()))?
}

impl Arguments {
    fn remote(&self, client: &Client) -> Result<Remote, SyncError> {
        let password = match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| SyncError::Password(file.clone(), error))?;
                Some(text.trim_end().to_owned())
            }
            None => self.password.clone(),
        };
        let login = match (&self.username, password) {
            (None, None) => None,
            (user, password) => Some((user.clone().unwrap_or_else(|| "git".into()), password.unwrap_or_default())),
        };
        Ok(Remote::new(client.clone(), &self.repo, login, self.sync_timeout.0)?)
    }

    fn hooks(&self, client: &Client) -> Vec<Hook> {
        let webhook = self.webhook_url.clone().map(|url| {
            let accepts = (self.webhook_success_status != 0).then_some(self.webhook_success_status);
            let kind = notice::Kind::Web { client: client.clone(), url, method: self.webhook_method.clone(), accepts };
            Hook::new(kind, self.webhook_timeout.0, self.webhook_backoff.0)
        });
        let command = self.exechook_command.clone().map(|command| {
            let kind = notice::Kind::Command(vec![command.to_string_lossy().into_owned()]);
            Hook::new(kind, self.exechook_timeout.0, self.exechook_backoff.0)
        });
        webhook.into_iter().chain(command).collect()
    }

    fn touch(&self) {
        let Some(path) = &self.touch_file else { return };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|file| file.set_modified(std::time::SystemTime::now())) {
            tracing::warn!(%error, file = %path.display(), "the file cannot be touched");
        }
    }
}

#[derive(Default)]
struct State {
    commit: Option<Oid>,
    last: Option<jiff::Timestamp>,
    error: Option<String>,
}

fn announce(serving: &Serving, arguments: &Arguments, url: &str, state: &Arc<Mutex<State>>, look: &Arc<Notify>) {
    let (url, reference, state) = (url.to_owned(), arguments.reference.clone(), state.clone());
    serving.admin().route(Method::GET, "/api/v1/sync", move |_| {
        let state = state.lock();
        let body = serde_json::json!({
            "kind": "Sync", "apiVersion": "v1", "repo": url, "ref": reference,
            "commit": state.commit.map(|commit| commit.to_string()),
            "lastSync": state.last.map(|at| at.to_string()),
            "error": state.error,
        });
        async move { http_ends::json(StatusCode::OK, body.to_string()) }
    });
    crate::look::when_asked(serving, "/api/v1/sync", look);
}

/// The last part of the address, without `.git`.
fn repository_name(url: &str) -> String {
    let name = url.rsplit('/').find(|part| !part.is_empty()).unwrap_or("repository");
    name.strip_suffix(".git").unwrap_or(name).to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

struct Metrics {
    syncs: Family<ByResult, Counter>,
    changes: Counter,
    last: Gauge,
}

impl Metrics {
    fn register(serving: &Serving) -> Self {
        let metrics = Self { syncs: Family::default(), changes: Counter::default(), last: Gauge::default() };
        serving.admin().metrics(|registry| {
            registry.register("hythe_git_sync_looks", "Looks at the repository by result", metrics.syncs.clone());
            registry.register("hythe_git_sync_changes", "Commits that were shown", metrics.changes.clone());
            registry.register(
                "hythe_git_sync_last_success_timestamp_seconds",
                "When the last look succeeded, since the epoch",
                metrics.last.clone(),
            );
        });
        metrics
    }

    fn synced(&self, result: &'static str) {
        self.syncs.get_or_create(&ByResult { result }).inc();
        if result == "success" {
            self.last.set(jiff::Timestamp::now().as_second());
        }
    }
}
