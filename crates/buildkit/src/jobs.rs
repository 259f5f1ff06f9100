//! The builds under way, by the names that clients give them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use grpc::Status;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, oneshot, watch};

use crate::progress::Journal;
use crate::session::Session;
use crate::wire::{FrontendRequest, Returned};

/// How long somebody waits for a build that is just being begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// Builds that have ended whose progress can still be read: a client may ask for it a moment late.
const ENDED: usize = 8;
/// What a client may ask a build's gateway at a time.
const REQUESTS: usize = 1000;

/// One build.
pub(crate) struct Job {
    pub journal: Arc<Journal>,
    gateway: Mutex<Gateway>,
    /// The client's session, once it is known.
    pub session: std::sync::OnceLock<Session>,
}

/// The client's side of a build that it drives itself.
struct Gateway {
    /// What was asked for, by the reference that was handed out for it.
    requests: BTreeMap<String, Request>,
    /// What it came to: both ends are there from the beginning, since the client may be done before the build waits.
    giving: Option<oneshot::Sender<Returned>>,
    taking: Option<oneshot::Receiver<Returned>>,
}

impl Default for Gateway {
    fn default() -> Self {
        let (giving, taking) = oneshot::channel();
        Self { requests: BTreeMap::new(), giving: Some(giving), taking: Some(taking) }
    }
}

/// Something that was asked for, and the image it came to where that was needed before its end.
#[derive(Clone)]
pub(crate) struct Request {
    pub frontend: FrontendRequest,
    pub image: Arc<OnceCell<String>>,
}

/// All of them.
pub(crate) struct Jobs {
    all: Mutex<All>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct All {
    running: BTreeMap<String, Arc<Job>>,
    ended: VecDeque<(String, Arc<Job>)>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { all: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

/// A build under way; it ends when this is dropped.
pub(crate) struct Running<'a> {
    jobs: &'a Jobs,
    name: String,
    pub job: Arc<Job>,
}

impl Jobs {
    /// Begins a build of that name.
    pub fn begin(&self, name: &str) -> Result<Running<'_>, Status> {
        let job =
            Arc::new(Job { journal: Journal::new(), gateway: Mutex::default(), session: std::sync::OnceLock::new() });
        {
            let mut all = self.all.lock();
            if all.running.contains_key(name) {
                return Err(Status::new(Status::UNKNOWN, format!("job ID {name} exists")));
            }
            all.ended.retain(|(ended, _)| ended != name);
            all.running.insert(name.to_owned(), job.clone());
        }
        self.changed.send_replace(());
        Ok(Running { jobs: self, name: name.to_owned(), job })
    }

    /// The build of that name, or that which has just ended.
    pub async fn get(&self, name: &str) -> Result<Arc<Job>, Status> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                {
                    let all = self.all.lock();
                    let ended = || all.ended.iter().find(|(ended, _)| ended == name).map(|(_, job)| job);
                    if let Some(job) = all.running.get(name).or_else(ended) {
                        return job.clone();
                    }
                }
                // The sender lives as long as this table.
                let _ = changed.changed().await;
            }
        };
        let missing = |_| Status::new(Status::NOT_FOUND, format!("no such job {name}"));
        tokio::time::timeout(PATIENCE, found).await.map_err(missing)
    }

    /// The build that handed out a reference. It lasts as long as those that use it: clients see to that.
    pub fn of_reference(&self, reference: &str) -> Option<Arc<Job>> {
        let all = self.all.lock();
        let job = all.running.values().find(|job| job.gateway.lock().requests.contains_key(reference));
        job.cloned()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.job.journal.end();
        let mut all = self.jobs.all.lock();
        all.running.remove(&self.name);
        all.ended.push_back((std::mem::take(&mut self.name), self.job.clone()));
        if all.ended.len() > ENDED {
            all.ended.pop_front();
        }
    }
}

impl Job {
    /// What the client's side of the build comes to, or has come to; for the one who waits for it.
    pub fn returned(&self) -> oneshot::Receiver<Returned> {
        self.gateway.lock().taking.take().unwrap_or_else(|| oneshot::channel().1)
    }

    /// The client's side has come to that.
    pub fn give_back(&self, returned: Returned) -> Result<(), Status> {
        let sender = self.gateway.lock().giving.take();
        let nobody = || Status::new(Status::UNKNOWN, "no build waits for this result");
        sender.and_then(|sender| sender.send(returned).ok()).ok_or_else(nobody)
    }

    /// Keeps a request and hands out a reference for it.
    pub fn keep(&self, request: FrontendRequest) -> Result<String, Status> {
        let mut gateway = self.gateway.lock();
        if gateway.requests.len() >= REQUESTS {
            return Err(Status::new(Status::UNKNOWN, "too many requests of one build"));
        }
        let reference = uuid::Uuid::new_v4().simple().to_string();
        gateway.requests.insert(reference.clone(), Request { frontend: request, image: Arc::default() });
        Ok(reference)
    }

    /// The images that requests came to before the end.
    pub fn images(&self) -> Vec<String> {
        self.gateway.lock().requests.values().filter_map(|request| request.image.get().cloned()).collect()
    }

    /// The request of a reference.
    pub fn request(&self, reference: &str) -> Result<Request, Status> {
        let missing = || Status::new(Status::UNKNOWN, format!("return reference {reference} could not be found"));
        self.gateway.lock().requests.get(reference).cloned().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_is_done_before_its_build_waits_is_heard() {
        let jobs = Jobs::default();
        let running = jobs.begin("b").expect("the first of that name");
        running.job.give_back(Returned::Result(String::new())).expect("it will be waited for");
        assert!(running.job.returned().await.is_ok());
        assert!(running.job.give_back(Returned::Result(String::new())).is_err(), "once");

        let other = jobs.begin("c").expect("the first of that name");
        drop(other.job.returned());
        assert!(other.job.give_back(Returned::Result(String::new())).is_err(), "nobody waits any more");
    }
}
