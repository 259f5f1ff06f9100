//! How a container starts, serves and ends.

use std::{error::Error, future::Future, net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::{AccessLog, Activity, Admin, ConfigError, Manual, admin};

/// The flags of every pattern container.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Address of the admin port, or `off`.
    #[arg(long, env = "HYTHE_ADMIN", default_value = "0.0.0.0:9901", value_name = "ADDR")]
    pub admin: AdminAddress,
    /// Access log on standard output.
    #[arg(long, env = "HYTHE_ACCESS_LOG", default_value = "json", value_name = "FORMAT")]
    pub access_log: AccessLogFormat,
    /// Seconds that work under way is given after SIGTERM.
    #[arg(long, env = "HYTHE_DRAIN", default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub drain: Duration,
    /// Seconds that listeners stay open after SIGTERM, not ready any more: as long as others take to learn of it.
    #[arg(long, env = "HYTHE_LINGER", default_value = "0", value_name = "SECONDS", value_parser = seconds)]
    pub linger: Duration,
    /// Threads that serve [default: one a core; `proxy shard`: one for two cores].
    #[arg(long, env = "HYTHE_THREADS", value_name = "N")]
    pub threads: Option<std::num::NonZero<usize>>,
}

impl Flags {
    /// How many threads serve.
    pub fn threads(&self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, Into::into)
    }

    /// How many event loops serve that win by doing much in one turn: unless told otherwise, one for two cores. Then each
    /// writes more at once to a server, and servers and clients on the same machine keep cores of their own.
    pub fn event_loops(&self) -> usize {
        if self.threads.is_some() { self.threads() } else { self.threads().div_ceil(2) }
    }
}

/// Where the admin port listens, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminAddress(pub Option<SocketAddr>);

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = text.strip_prefix(':').map_or_else(|| text.to_owned(), |port| format!("0.0.0.0:{port}"));
        address.parse().map(|address| Self(Some(address))).map_err(|_| "must be ADDRESS:PORT, :PORT or off".to_owned())
    }
}

/// What the access log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// None.
    Off,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "must be a number of seconds".to_owned())
}

/// What a container has while it runs.
#[derive(Clone)]
pub struct Serving {
    flags: Flags,
    admin: Admin,
    access_log: AccessLog,
    activity: Activity,
    leaving: CancellationToken,
    stopping: CancellationToken,
    work: TaskTracker,
}

/// Work under way: the process does not end before it is dropped, as long as [`Flags::drain`] allows.
pub struct Guard(#[allow(dead_code, reason = "held for its drop")] TaskTrackerToken);

impl Serving {
    /// The flags that all containers have.
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// The admin port.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The access log.
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// Says that listeners are open and configuration is in force. What only the start has needed of memory is given back.
    pub fn ready(&self) {
        self.admin.set_ready(true);
        resident::give_back();
    }

    /// Cancelled as soon as the container is told to end, while listeners stay open for [`Flags::linger`]: who is
    /// answered from then on is told to come back by a new connection, which others take by and by.
    pub fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// Cancelled when listeners must close; work under way goes on. It may be awaited in any runtime.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Announces work under way: a connection, a request.
    pub fn guard(&self) -> Guard {
        self.activity.note();
        Guard(self.work.token())
    }

    /// Where work is told of that needs no guard.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// One that is in no process of its own, for tests: nothing listens, nothing is logged, no signal is awaited.
    pub fn detached(flags: Flags) -> Self {
        Self {
            flags,
            admin: Admin::new(),
            access_log: AccessLog::off(),
            activity: Activity::default(),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            work: TaskTracker::new(),
        }
    }
}

/// Runs a container in this process until it ends by itself or by SIGTERM or SIGINT. SIGHUP reads the configuration anew.
///
/// `container` sets itself up, calls [`Serving::ready`], serves, and returns once [`Serving::stopping`] is cancelled and its
/// listeners are closed. It runs on the thread that calls; threads for the data path are its own. Exit codes: 0 after an
/// orderly end, 2 for a configuration that cannot be used, 1 for anything else.
pub fn run<F>(manual: &'static Manual, flags: Flags, container: impl FnOnce(Serving) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // Whoever runs several containers in one process, as tests do, has set up its log already.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(manual, &error),
    };
    let code = runtime.block_on(async {
        match serve(flags, container).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(manual, error.as_ref()),
        }
    });
    runtime.shutdown_background();
    code
}

async fn serve<F>(flags: Flags, container: impl FnOnce(Serving) -> F) -> Result<(), Box<dyn Error + Send + Sync>>
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    let admin = Admin::new();
    let activity = Activity::default();
    if let AdminAddress(Some(address)) = flags.admin {
        let listener =
            admin::listen(address).map_err(|error| format!("the admin port cannot listen on {address}: {error}"))?;
        tokio::spawn(admin.clone().serve(listener, activity.clone()));
    }
    tokio::spawn(activity.clone().follow());
    let access_log = match flags.access_log {
        AccessLogFormat::Json => AccessLog::stdout(&admin),
        AccessLogFormat::Off => AccessLog::off(),
    };
    let (drain, linger) = (flags.drain, flags.linger);
    let serving = Serving {
        flags,
        admin: admin.clone(),
        access_log,
        activity,
        leaving: CancellationToken::new(),
        stopping: CancellationToken::new(),
        work: TaskTracker::new(),
    };
    let (leaving, stopping, work) = (serving.leaving.clone(), serving.stopping.clone(), serving.work.clone());

    let (mut terminate, mut interrupt, mut hangup) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    let reloading = admin.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reloading.reload();
        }
    });

    let mut container = std::pin::pin!(container(serving));
    tokio::select! {
        ended = &mut container => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    admin.set_ready(false);
    leaving.cancel();
    tracing::info!("ending: not ready any more");
    let orderly = async {
        tokio::select! {
            ended = &mut container => return ended,
            () = tokio::time::sleep(linger) => {}
        }
        stopping.cancel();
        // Listeners close first: until then, new work may begin.
        let ended = (&mut container).await;
        work.close();
        work.wait().await;
        ended
    };
    tokio::select! {
        ended = tokio::time::timeout(linger + drain, orderly) => ended.unwrap_or_else(|_| {
            tracing::warn!("some work was still under way after {} s", (linger + drain).as_secs_f64());
            Ok(())
        }),
        // Who asks twice is in a hurry.
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn fail(manual: &Manual, error: &(dyn Error + 'static)) -> ExitCode {
    eprintln!("hythe {}: {error}", manual.name);
    if error.downcast_ref::<ConfigError>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
}
