//! The data plane: threads that accept connections and carry what comes over them.
//!
//! Each thread has a runtime of its own, its own sockets on the same addresses (SO_REUSEPORT), and its own unused
//! connections to endpoints: a request touches one thread only. What threads share is counters and the site in force.

mod answers;
mod caching;
mod connection;
mod datagram;
mod dated;
mod deliver;
mod exchange;
mod forwarded;
mod heads;
mod listen;
mod mirroring;
mod one;
mod purging;
mod reply;
mod senders;
mod tcp;
mod tunnel;
mod two;
mod upstream;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serving::{AccessLog, Serving};
use tokio::sync::watch;

use crate::config::{Config, Problem};
use crate::site::Site;

/// What all threads share.
pub struct Shared {
    site: RwLock<Arc<Site>>,
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    log: AccessLog,
    serving: Serving,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

/// A proxy at work.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

/// Why a proxy could not begin, or not take up a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[from] Problem),
    /// An address cannot be listened on.
    #[error("{address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
}

impl Proxy {
    /// Begins to serve. Must be called within a runtime, where look-ups and health checks run from then on.
    ///
    /// # Errors
    /// When the configuration cannot be used, or an address cannot be listened on.
    pub fn start(config: Config, serving: &Serving) -> Result<Self, StartError> {
        let threads = match config.threads {
            0 => serving.flags().threads(),
            threads => threads,
        };
        let log = if config.access_log { serving.access_log().clone() } else { AccessLog::off() };
        let mut site = Site::new(config, None)?;
        let sockets = listen::open(&mut site, threads)?;
        site.start(None);
        let site = Arc::new(site);
        site.limits.start(serving, &site.names);
        let (changed, _) = watch::channel(0);
        let shared = Arc::new(Shared {
            site: RwLock::new(site),
            generation: AtomicU64::new(0),
            changed,
            log,
            serving: serving.clone(),
            threads: Mutex::default(),
        });
        for (i, sockets) in sockets.into_iter().enumerate() {
            let thread_shared = Arc::clone(&shared);
            let run = move || listen::thread(thread_shared, sockets);
            let thread =
                std::thread::Builder::new().name(format!("proxy-{i}")).spawn(run).map_err(StartError::Thread)?;
            shared.threads.lock().push(thread);
        }
        Ok(Self { shared })
    }

    /// Takes up a new configuration. Connections go on; listeners that are gone are closed, new ones opened.
    ///
    /// # Errors
    /// When it cannot be used: then nothing changes.
    pub fn reload(&self, config: Config) -> Result<(), StartError> {
        let former = self.shared.site();
        let mut site = Site::new(config, Some(&former))?;
        listen::probe(&mut site, &former)?;
        site.start(Some(&former));
        if !Arc::ptr_eq(&site.limits, &former.limits) {
            site.limits.start(&self.shared.serving, &site.names);
        }
        self.shared.replace(site);
        Ok(())
    }

    /// Reads certificates again that changed.
    ///
    /// # Errors
    /// The listener and the reason, where files cannot be used: the old ones go on.
    pub fn refresh_certificates(&self) -> Result<bool, String> {
        let mut changed = false;
        for listener in &self.shared.site().listeners {
            if let Some((_, certificates)) = &listener.tls {
                changed |= certificates.refresh().map_err(|error| format!("{}: {error}", listener.name))?;
            }
        }
        Ok(changed)
    }

    /// Tells of certificates that do not hold, will soon hold no more, or are for none of the names that routes serve, each
    /// once. Returns how long it stays at that.
    pub fn report_certificates(&self, now: std::time::SystemTime) -> Option<std::time::Duration> {
        let site = self.shared.site();
        let each = site.listeners.iter().filter_map(|listener| {
            let (_, certificates) = listener.tls.as_ref()?;
            certificates.report(&listener.name, now)
        });
        each.min()
    }

    /// Where it listens, listener by listener.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.site().listeners.iter().map(|l| l.address).collect()
    }

    /// What it is doing.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until its threads have ended: after the container was told to stop, and connections have ended or were given up.
    pub async fn ended(&self) {
        let threads = std::mem::take(&mut *self.shared.threads.lock());
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A thread that panicked has said so.
                let _ = thread.join();
            }
        })
        .await;
    }
}

impl Shared {
    /// The site in force.
    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read())
    }

    /// Tells when another site is in force.
    pub fn replaced(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn replace(&self, site: Site) {
        *self.site.write() = Arc::new(site);
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.changed.send_replace(generation);
    }
}

/// One thread's view.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    current: RefCell<(u64, Arc<Site>)>,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Rc<Self> {
        let generation = shared.generation.load(Ordering::Acquire);
        let current = RefCell::new((generation, shared.site()));
        Rc::new(Self { shared, current })
    }

    /// The site in force; asking costs one load while it stays.
    pub(crate) fn site(&self) -> Arc<Site> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let mut current = self.current.borrow_mut();
        if current.0 != generation {
            *current = (generation, self.shared.site());
        }
        Arc::clone(&current.1)
    }
}
