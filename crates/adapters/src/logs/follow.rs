//! All sources of a configuration, followed.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::{Method, StatusCode};
use http_ends::Names;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use serving::Serving;
use tokio::time::{Instant, sleep_until};

use super::{
    config::{Config, Source},
    format::{Format, Record},
    line,
    lines::Text,
    positions::Positions,
    slow_log,
    tail::{Begin, Tail, files, parent},
    watch::Watch,
};

/// Positions are written this often at most.
const SAVE: Duration = Duration::from_millis(500);

/// Follows the sources until the serving stops or `changed` returns.
///
/// # Errors
/// If the output breaks, or the host has no watch to give.
pub async fn follow(
    config: &Config,
    output: &mut Box<dyn Write + Send>,
    serving: &Serving,
    state: &mut State,
    changed: impl Future<Output = ()>,
) -> io::Result<()> {
    let known = config.positions.is_some() || state.carried.is_some();
    let begin = if known { Begin::Start } else { Begin::End };
    let mut follower = Follower::new(config, output, state)?;
    let mut watch = Watch::new()?;
    let mut changed = std::pin::pin!(changed);
    let names = Names::default();
    follower.watch(&mut watch);
    follower.scan(begin, true);
    serving.ready();
    loop {
        follower.read_all()?;
        let wake = follower.wakes_at();
        tokio::select! {
            () = serving.stopping().cancelled() => break,
            () = &mut changed => break,
            happened = watch.changed() => {
                happened?;
                follower.watch(&mut watch);
                follower.scan(Begin::Start, false);
            }
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => follower.due(&names).await?,
        }
    }
    state.carried = Some(follower.end()?);
    Ok(())
}

/// What outlives one configuration.
pub struct State {
    counters: Counters,
    shown: Arc<Mutex<Positions>>,
    /// How far the configuration before had come.
    carried: Option<Positions>,
}

impl State {
    /// A beginning; what is counted and how far it went is shown on the admin port.
    pub fn new(serving: &Serving) -> Self {
        let state = Self { counters: Counters::of(serving), shown: Arc::default(), carried: None };
        announce(serving, &state.shown);
        state
    }
}

struct Follower<'a> {
    sources: Vec<Followed<'a>>,
    output: &'a mut Box<dyn Write + Send>,
    positions: Positions,
    saved: Positions,
    place: Option<&'a PathBuf>,
    save_at: Option<Instant>,
    counters: Counters,
    shown: Arc<Mutex<Positions>>,
}

struct Followed<'a> {
    source: &'a Source,
    format: Format,
    /// In the order in which they are told: what was rotated away before what took its name.
    tails: Vec<Tail>,
    /// When what is open counts as complete.
    flush_at: Option<Instant>,
    /// When the slow log is asked.
    ask_at: Option<Instant>,
}

impl<'a> Follower<'a> {
    fn new(config: &'a Config, output: &'a mut Box<dyn Write + Send>, state: &mut State) -> io::Result<Self> {
        let read = || config.positions.as_deref().map(Positions::read).unwrap_or_default();
        let positions = state.carried.take().unwrap_or_else(read);
        let sources = config.sources.iter().map(|source| {
            Ok(Followed {
                source,
                format: source.reader().map_err(io::Error::other)?,
                tails: Vec::new(),
                flush_at: None,
                ask_at: source.redis_slow_log.is_some().then(Instant::now),
            })
        });
        Ok(Self {
            sources: sources.collect::<io::Result<_>>()?,
            output,
            saved: positions.clone(),
            positions,
            place: config.positions.as_ref(),
            save_at: None,
            counters: state.counters.clone(),
            shown: state.shown.clone(),
        })
    }

    fn watch(&self, watch: &mut Watch) {
        for path in self.sources.iter().flat_map(|followed| &followed.source.files) {
            watch.add(&parent(path));
            // Behind a link the bytes come elsewhere.
            if let Ok(real) = path.canonicalize() {
                watch.add(&parent(&real));
            }
        }
    }

    /// Opens what has come. What comes while we look has never been read, even if it got the number of one that was.
    fn scan(&mut self, begin: Begin, is_first: bool) {
        let none = Positions::default();
        let positions = if is_first { &self.positions } else { &none };
        for followed in &mut self.sources {
            for path in files(followed.source) {
                if followed.tails.iter().any(|tail| tail.path == path && !tail.is_replaced()) {
                    continue;
                }
                // The rest of what bore the name before is read first, by the tail that holds it open or by this one.
                if followed.tails.iter().all(|tail| tail.path != path)
                    && let Some(rest) = Tail::rotated_away(&path, followed.source, positions)
                {
                    followed.tails.push(rest);
                }
                match Tail::open(&path, followed.source, positions, begin) {
                    Ok(tail) => followed.tails.push(tail),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => tracing::warn!(%error, file = %path.display(), "the log cannot be opened"),
                }
            }
        }
    }

    /// Reads all files as far as they go, and tells their records.
    fn read_all(&mut self) -> io::Result<()> {
        let mut again = true;
        while again {
            again = false;
            for at in 0..self.sources.len() {
                again |= self.read(at)?;
            }
        }
        self.output.flush()?;
        self.note_positions();
        Ok(())
    }

    fn read(&mut self, at: usize) -> io::Result<bool> {
        let mut again = false;
        let mut told: Vec<(PathBuf, Vec<Text>)> = Vec::new();
        let followed = &mut self.sources[at];
        let mut number = 0;
        while number < followed.tails.len() {
            let tail = &mut followed.tails[number];
            let mut found = Vec::new();
            // Asked before reading: what is written until the name changes is read, what comes later goes elsewhere.
            let is_replaced = tail.is_replaced();
            let more = tail.read(&mut found).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %tail.path.display(), "the log cannot be read");
                false
            });
            again |= more;
            let ended = is_replaced && !more;
            if ended {
                tail.flush(&mut found);
            }
            if !found.is_empty() {
                told.push((tail.path.clone(), found));
            }
            if ended {
                followed.tails.remove(number);
            } else {
                number += 1;
            }
        }
        let open = followed.tails.iter().any(Tail::is_open);
        let wait = followed.source.multiline.as_ref().map_or(Duration::from_secs(1), |multiline| multiline.wait.0);
        followed.flush_at = match (open, told.is_empty(), followed.flush_at) {
            (false, _, _) => None,
            (true, true, Some(at)) => Some(at),
            (true, _, _) => Some(Instant::now() + wait),
        };
        for (path, texts) in told {
            self.tell(at, &path, texts)?;
        }
        Ok(again)
    }

    fn tell(&mut self, at: usize, path: &std::path::Path, texts: Vec<Text>) -> io::Result<()> {
        let now = Timestamp::now();
        let file = path.to_string_lossy();
        for text in texts {
            if text.text.is_empty() {
                continue;
            }
            let record = self.sources[at].format.read(&text.text, now);
            self.write(at, Some(&file), record, text.cut, now)?;
        }
        Ok(())
    }

    fn write(&mut self, at: usize, file: Option<&str>, record: Record, cut: bool, now: Timestamp) -> io::Result<()> {
        let source = self.sources[at].source;
        self.counters.count(&source.name, record.unparsed);
        serde_json::to_writer(&mut *self.output, &line(source, file, record, cut, now))?;
        self.output.write_all(b"\n")
    }

    fn note_positions(&mut self) {
        for followed in &self.sources {
            // The last one with a name is the one that has it.
            for tail in &followed.tails {
                self.positions.files.insert(tail.path.clone(), tail.position());
            }
        }
        *self.shown.lock() = self.positions.clone();
        if self.positions != self.saved && self.place.is_some() {
            self.save_at.get_or_insert(Instant::now() + SAVE);
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        let of_sources = self.sources.iter().flat_map(|followed| [followed.flush_at, followed.ask_at]);
        of_sources.chain([self.save_at]).flatten().min()
    }

    /// Does what is due.
    async fn due(&mut self, names: &Names) -> io::Result<()> {
        let now = Instant::now();
        for at in 0..self.sources.len() {
            if self.sources[at].flush_at.is_some_and(|due| due <= now) {
                self.sources[at].flush_at = None;
                self.flush(at)?;
            }
            if self.sources[at].ask_at.is_some_and(|due| due <= now) {
                self.ask(at, names).await?;
            }
        }
        if self.save_at.is_some_and(|due| due <= now) {
            self.save_at = None;
            self.save();
        }
        Ok(())
    }

    fn flush(&mut self, at: usize) -> io::Result<()> {
        let mut told = Vec::new();
        for tail in &mut self.sources[at].tails {
            let mut found = Vec::new();
            tail.flush(&mut found);
            told.push((tail.path.clone(), found));
        }
        told.into_iter().try_for_each(|(path, texts)| self.tell(at, &path, texts))
    }

    async fn ask(&mut self, at: usize, names: &Names) -> io::Result<()> {
        let source = self.sources[at].source;
        let Some(asked) = &source.redis_slow_log else { return Ok(()) };
        let last = self.positions.slow_logs.get(&source.name).copied();
        match slow_log::ask(names, asked, last).await {
            Ok((records, newest)) => {
                for record in records {
                    self.write(at, None, record, false, Timestamp::now())?;
                }
                if let Some(newest) = newest {
                    self.positions.slow_logs.insert(source.name.clone(), newest);
                }
            }
            Err(error) => tracing::warn!(%error, source = source.name, "the slow log cannot be asked"),
        }
        self.sources[at].ask_at = Some(Instant::now() + asked.period.0);
        Ok(())
    }

    fn save(&mut self) {
        let Some(place) = self.place else { return };
        match self.positions.write(place) {
            Ok(()) => self.saved = self.positions.clone(),
            Err(error) => tracing::warn!(%error, file = %place.display(), "the positions cannot be written"),
        }
    }

    /// What is open stays untold: it is read again when it is known how it goes on.
    fn end(mut self) -> io::Result<Positions> {
        self.read_all()?;
        if self.place.is_none() {
            (0..self.sources.len()).try_for_each(|at| self.flush(at))?;
        }
        self.output.flush()?;
        self.save();
        Ok(self.positions)
    }
}

fn announce(serving: &Serving, positions: &Arc<Mutex<Positions>>) {
    let positions = positions.clone();
    serving.admin().route(Method::GET, "/api/v1/positions", move |_| {
        let positions = serde_json::to_value(&*positions.lock()).unwrap_or_default();
        let body = serde_json::json!({"kind": "Positions", "apiVersion": "v1", "positions": positions});
        async move { http_ends::json(StatusCode::OK, body.to_string()) }
    });
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: String,
}

#[derive(Clone)]
struct Counters {
    records: Family<BySource, Counter>,
    unparsed: Family<BySource, Counter>,
}

impl Counters {
    fn of(serving: &Serving) -> Self {
        let counters = Self { records: Family::default(), unparsed: Family::default() };
        serving.admin().metrics(|registry| {
            registry.register("hythe_log_records", "Records told", counters.records.clone());
            registry.register("hythe_log_unparsed", "Records that were not of their format", counters.unparsed.clone());
        });
        counters
    }

    fn count(&self, source: &str, unparsed: bool) {
        let label = BySource { source: source.to_owned() };
        if unparsed {
            self.unparsed.get_or_create(&label).inc();
        }
        self.records.get_or_create(&label).inc();
    }
}
