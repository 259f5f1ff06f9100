//! The container: reads its file, starts the event loops, keeps them informed, ends them.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use names::Names;
use parking_lot::RwLock;
use serving::{Endpoint, Flags, Live, Manual, Port, Serving, Variable};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::admin;
use crate::config::{Config, Discovery, Server};
use crate::listen::Sockets;
use crate::plan::{Plan, PoolPlan};
use crate::resolve::{Found, discover as look};
use crate::statistics_port;
use crate::stats::{Stats, StatsCollector};
use crate::worker::{Core, Handle, Order, Question, Start};

/// What its user must know.
pub static MANUAL: Manual = Manual {
    name: "proxy shard",
    about: "Spreads keys over Redis or memcached servers, as twemproxy does and from its file",
    version: "v1",
    ports: &[Port { number: 6379, protocol: "tcp", about: "Redis or memcached, as `listen` of each pool says" }],
    endpoints: &[
        Endpoint { method: "GET", path: "/v1/shards", about: "each pool's shards with their load, as JSON" },
        Endpoint { method: "GET", path: "/v1/hot-keys", about: "each pool's most used keys, as JSON" },
        Endpoint { method: "GET", path: "/v1/where?pool={pool}&key={key}", about: "the shard that a key belongs to" },
    ],
    variables: &[
        Variable { name: "HYTHE_CONFIG", default: "", about: "path of the configuration file, a nutcracker.yaml" },
        Variable { name: "HYTHE_NAMESERVER", default: "", about: "name server to ask instead of the system's" },
        Variable { name: "HYTHE_STATS", default: "", about: "address of a statistics port such as twemproxy's" },
    ],
};

/// The command line of `hythe proxy shard`.
#[derive(Args, Clone, Debug)]
#[command(after_help = MANUAL.after_help())]
pub struct Arguments {
    /// The configuration: a nutcracker.yaml of twemproxy, as it is.
    #[arg(long, short = 'c', env = "HYTHE_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Name server to ask instead of the system's.
    #[arg(long, env = "HYTHE_NAMESERVER", value_name = "ADDR")]
    pub nameserver: Option<SocketAddr>,
    /// Tell whoever connects here what twemproxy's statistics port (22222) tells, as JSON.
    #[arg(long, short = 's', env = "HYTHE_STATS", value_name = "ADDR")]
    pub stats: Option<SocketAddr>,
    /// What all containers have.
    #[command(flatten)]
    pub flags: Flags,
}

/// Runs the container until it is told to end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    serving::run(&MANUAL, arguments.flags.clone(), |serving| serve(arguments, serving))
}

/// Why the container cannot go on.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Tells when all event loops have ended, and how.
type Ended = JoinHandle<Result<(), Failure>>;

/// How long after a failed discovery the next one waits.
const DISCOVER_AGAIN: Duration = Duration::from_secs(1);

/// Serves until [`Serving::stopping`] is cancelled and all clients have their answers.
///
/// # Errors
/// When the configuration cannot be used, or an event loop fails.
pub async fn serve(arguments: Arguments, serving: Serving) -> Result<(), Failure> {
    let live = Live::open(&arguments.config, Config::parse)?;
    let stats = Arc::new(Stats::default());
    let (questions, asked) = unbounded_channel();
    let (handles, threads) = start(&serving, &stats, &questions)?;
    let names = Names::new(arguments.nameserver);
    tokio::spawn(resolve(asked, names.clone(), handles.clone()));

    let (found, discovered) = unbounded_channel();
    let mut shards = Shards {
        handles,
        sockets: Sockets::default(),
        plan: Arc::default(),
        discovered: HashMap::new(),
        discoveries: HashMap::new(),
        names,
        found,
    };
    shards.follow(&live.current())?;
    let admin = serving.admin();
    admin.metrics(|registry| registry.register_collector(Box::new(StatsCollector(stats.clone()))));
    admin::add_routes(admin, &stats, &shards.plan);
    if let Some(address) = arguments.stats {
        let listening = statistics_port::serve(address, stats.clone(), shards.plan.clone()).await;
        listening.map_err(|error| format!("--stats {address}: {error}"))?;
    }
    live.follow(&serving);
    serving.ready();
    shards.keep(&serving, &live, discovered, threads).await
}

/// Starts the event loops, each on a thread of its own.
fn start(
    serving: &Serving,
    stats: &Arc<Stats>,
    questions: &UnboundedSender<Question>,
) -> Result<(Vec<Handle>, Ended), Failure> {
    let mut handles = Vec::new();
    let mut threads = Vec::new();
    for number in 0..serving.flags().event_loops() {
        let start = Start {
            number,
            stats: stats.clone(),
            questions: questions.clone(),
            access_log: serving.access_log().clone(),
            activity: serving.activity().clone(),
        };
        let (core, handle) = Core::new(start)?;
        handles.push(handle);
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
            // The container may be gone before its last loop.
            let _ = tell.send(core.run());
        })?;
        threads.push(told);
    }
    let ended = tokio::spawn(async move {
        // A loop ends early only by an error, and then the container cannot go on.
        for ended in futures::future::join_all(threads).await {
            ended.map_err(|_| "an event loop has panicked")??;
        }
        Ok(())
    });
    Ok((handles, ended))
}

/// Answers the loops' questions about names.
async fn resolve(mut asked: UnboundedReceiver<Question>, names: Names, handles: Vec<Handle>) {
    while let Some(Question { worker, host }) = asked.recv().await {
        let (names, handle) = (names.clone(), handles[worker].clone());
        tokio::spawn(async move {
            let answer = names.addresses(&host).await;
            let answer = answer.map(|found| (found.records, found.until)).map_err(|error| error.reason);
            handle.order(Order::Resolved(host, answer));
        });
    }
}

/// The plan in force, and all that it follows.
struct Shards {
    handles: Vec<Handle>,
    sockets: Sockets,
    plan: Arc<RwLock<Plan>>,
    discovered: HashMap<String, Vec<Server>>,
    discoveries: HashMap<String, (Discovery, JoinHandle<()>)>,
    names: Names,
    found: UnboundedSender<(String, Vec<Server>)>,
}

impl Shards {
    /// Follows the file and DNS until the process is to end; then ends the loops.
    async fn keep(
        mut self,
        serving: &Serving,
        live: &Live<Config>,
        mut discovered: UnboundedReceiver<(String, Vec<Server>)>,
        mut threads: Ended,
    ) -> Result<(), Failure> {
        let mut versions = live.subscribe();
        loop {
            tokio::select! {
                Ok(()) = versions.changed() => {}
                Some((pool, servers)) = discovered.recv() => {
                    if self.discovered.get(&pool) == Some(&servers) {
                        continue;
                    }
                    let names: Vec<_> = servers.iter().map(Server::ring_name).collect();
                    tracing::info!(pool, shards = names.join(" "), "DNS tells of these shards");
                    self.discovered.insert(pool, servers);
                }
                () = serving.stopping().cancelled() => break,
                ended = &mut threads => return ended?,
            }
            let config = versions.borrow_and_update().clone();
            if let Err(error) = self.follow(&config) {
                tracing::error!(%error, "the new configuration cannot be put in force, the old one goes on");
            }
        }
        self.handles.iter().for_each(|handle| handle.order(Order::Stop));
        threads.await?
    }

    /// Puts a configuration in force.
    fn follow(&mut self, config: &Config) -> Result<(), Failure> {
        self.discovered.retain(|pool, _| config.pools.contains_key(pool));
        let plan = Plan::new(config, &self.discovered, &self.plan.read());
        let opened = self.sockets.follow(&plan)?;
        for handle in &self.handles {
            let mut pools = Vec::with_capacity(plan.pools.len());
            for pool in &plan.pools {
                let socket = if opened.contains(&pool.name) { self.sockets.share(&pool.name)? } else { None };
                pools.push((pool.clone(), socket));
            }
            handle.order(Order::Pools(pools));
        }
        self.follow_discoveries(&plan);
        *self.plan.write() = plan;
        Ok(())
    }

    /// Starts the discoveries that are new, and ends those that are no more.
    fn follow_discoveries(&mut self, plan: &Plan) {
        self.discoveries.retain(|name, (discovery, task)| {
            let same =
                plan.pools.iter().any(|pool| *pool.name == **name && pool.pool.discover.as_ref() == Some(discovery));
            if !same {
                task.abort();
            }
            same
        });
        for pool in &plan.pools {
            if let Some(discovery) = &pool.pool.discover {
                self.discoveries.entry(pool.name.to_string()).or_insert_with(|| {
                    let task = discover(pool.clone(), discovery.clone(), self.names.clone(), self.found.clone());
                    (discovery.clone(), tokio::spawn(task))
                });
            }
        }
    }
}

/// Looks for a pool's shards; again once what was found is old and somebody asks the pool for something.
async fn discover(
    pool: Arc<PoolPlan>,
    discovery: Discovery,
    names: Names,
    found: UnboundedSender<(String, Vec<Server>)>,
) {
    let mut told = false;
    loop {
        match look(&names, &discovery).await {
            Ok(Found { servers, until }) => {
                told = false;
                if found.send((pool.name.to_string(), servers)).is_err() {
                    return;
                }
                tokio::time::sleep_until(until.into()).await;
                pool.shared.due.store(true, Ordering::Release);
                pool.shared.asked.notified().await;
            }
            Err(reason) => {
                // The shards that are known go on: a name server that is away takes none of them away.
                if !told {
                    tracing::warn!(pool = %pool.name, %reason, "DNS does not tell of the pool's shards");
                }
                told = true;
                tokio::time::sleep(DISCOVER_AGAIN).await;
            }
        }
    }
}
