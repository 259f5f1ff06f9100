//! A build's reports, for any number of watchers, each from the first.

use std::sync::Arc;

use grpc::Message;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::wire::Report;

/// Reports that are kept for watchers who come late, in bytes; after that, the earliest go.
const KEPT: usize = 16 << 20;

/// The reports of one build.
pub(crate) struct Journal {
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    reports: std::collections::VecDeque<Arc<Message>>,
    /// How many went.
    gone: usize,
    bytes: usize,
    ended: bool,
}

impl Journal {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), news: watch::Sender::new(()) })
    }

    /// Keeps a report.
    pub fn add(&self, report: &Report) {
        if report.is_empty() {
            return;
        }
        let message = Arc::new(report.message());
        let mut state = self.state.lock();
        state.bytes += message.0.len();
        state.reports.push_back(message);
        while state.bytes > KEPT {
            let Some(first) = state.reports.pop_front() else { break };
            state.bytes -= first.0.len();
            state.gone += 1;
        }
        drop(state);
        self.news.send_replace(());
    }

    /// Nothing more comes.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.news.send_replace(());
    }

    /// Follows it from the first report that is left.
    pub fn watch(self: &Arc<Self>) -> Watch {
        Watch { journal: self.clone(), next: 0, news: self.news.subscribe() }
    }
}

/// Somebody who follows a journal.
pub(crate) struct Watch {
    journal: Arc<Journal>,
    next: usize,
    news: watch::Receiver<()>,
}

impl Watch {
    /// The next report; `None` when the build has ended.
    pub async fn next(&mut self) -> Option<Arc<Message>> {
        loop {
            {
                let state = self.journal.state.lock();
                self.next = self.next.max(state.gone);
                if let Some(report) = state.reports.get(self.next - state.gone) {
                    self.next += 1;
                    return Some(report.clone());
                }
                if state.ended {
                    return None;
                }
            }
            self.news.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Vertex;

    fn report(name: &str) -> Report {
        Report { vertexes: vec![Vertex { name: name.into(), ..Vertex::default() }], ..Report::default() }
    }

    #[tokio::test]
    async fn every_watcher_sees_all_of_a_build_and_its_end() {
        let journal = Journal::new();
        let mut early = journal.watch();
        journal.add(&report("one"));
        journal.add(&Report::default());
        assert_eq!(*early.next().await.unwrap(), report("one").message());
        journal.add(&report("two"));
        journal.end();
        assert_eq!(*early.next().await.unwrap(), report("two").message());
        assert_eq!(early.next().await, None);
        let mut late = journal.watch();
        assert_eq!(*late.next().await.unwrap(), report("one").message());
    }

    #[tokio::test]
    async fn a_journal_without_end_forgets_its_beginning() {
        let journal = Journal::new();
        let mut watch = journal.watch();
        let large = "x".repeat(1 << 20);
        (0..20).for_each(|_| journal.add(&report(&large)));
        journal.end();
        let mut count = 0;
        while watch.next().await.is_some() {
            count += 1;
        }
        assert!((10..=16).contains(&count), "{count}");
    }
}
