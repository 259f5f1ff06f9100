//! The builder's events become steps that begin, speak and end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use builder::Event;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::{Journal, StepNames};
use crate::wire::{Log, Report, StatusLine, Vertex, Warning};

/// Bytes of output that are shown of one step.
const MAX_LOG: usize = 2 << 20;
/// What a step says that another's failure ended.
const CANCELED: &str = "context canceled";

/// Where a build's progress is told. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Board {
    journal: Arc<Journal>,
    steps: Arc<Mutex<Steps>>,
}

impl Board {
    /// For the build of that name.
    pub fn new(journal: Arc<Journal>, build: &str) -> Self {
        Self { journal, steps: Arc::new(Mutex::new(Steps::new(build))) }
    }

    /// Announces the steps that are to come.
    pub fn plan(&self, names: StepNames) {
        self.tell(|steps| steps.plan(names));
    }

    /// Something the builder tells.
    pub fn event(&self, event: Event) {
        let now = SystemTime::now();
        self.tell(|steps| steps.event(event, now));
    }

    /// Begins a step that is none of the Dockerfile's.
    pub fn task(&self, name: impl Into<String>) -> Task {
        let name = name.into();
        let started = SystemTime::now();
        let mut vertex = Vertex { name, started: Some(started), ..Vertex::default() };
        self.tell(|steps| {
            vertex.digest = steps.digest(&vertex.name, usize::MAX);
            Report { vertexes: vec![vertex.clone()], ..Report::default() }
        });
        Task { journal: self.journal.clone(), vertex, open: true, last: None }
    }

    /// The Dockerfile's steps that are open end: where it failed with that error, elsewhere as canceled.
    pub fn fail(&self, error: &str) {
        let now = SystemTime::now();
        self.tell(|steps| steps.fail(error, now));
    }

    fn tell(&self, change: impl FnOnce(&mut Steps) -> Report) {
        let mut steps = self.steps.lock();
        let report = change(&mut steps);
        // Under the lock, or reports of one step could overtake each other.
        self.journal.add(&report);
    }
}

/// A step that is none of the Dockerfile's. Dropped before its end, it was canceled.
pub(crate) struct Task {
    journal: Arc<Journal>,
    vertex: Vertex,
    open: bool,
    /// The amount that was last told, and when.
    last: Option<SystemTime>,
}

/// Not every packet is news.
const BETWEEN_LINES: std::time::Duration = std::time::Duration::from_millis(100);

impl Task {
    /// A line below it that is done.
    pub fn note(&self, text: impl Into<String>) {
        let now = SystemTime::now();
        self.lines(text.into(), 0, now, now, Some(now));
    }

    /// A line below it whose amount grows; said at most ten times a second.
    pub fn amount(&mut self, text: &str, bytes: u64) {
        let now = SystemTime::now();
        let since = self.vertex.started.unwrap_or(now);
        let due = |last: SystemTime| now.duration_since(last).is_ok_and(|since| since >= BETWEEN_LINES);
        if self.last.is_none_or(due) {
            self.last = Some(now);
            self.lines(text.to_owned(), bytes, since, now, None);
        }
    }

    /// The same line, done.
    pub fn amount_done(&self, text: &str, bytes: u64) {
        let now = SystemTime::now();
        self.lines(text.to_owned(), bytes, self.vertex.started.unwrap_or(now), now, Some(now));
    }

    fn lines(&self, id: String, current: u64, started: SystemTime, now: SystemTime, completed: Option<SystemTime>) {
        let vertex = self.vertex.digest.clone();
        let line = StatusLine { id, vertex, current, total: 0, timestamp: now, started, completed };
        self.journal.add(&Report { statuses: vec![line], ..Report::default() });
    }

    /// It is done.
    pub fn done(mut self) {
        self.close("");
    }

    /// It failed.
    pub fn fail(mut self, error: &str) {
        self.close(error);
    }

    /// It ended so.
    pub fn ended<T, E: std::fmt::Display>(self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.done(),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn close(&mut self, error: &str) {
        if std::mem::take(&mut self.open) {
            let vertex = Vertex { completed: Some(SystemTime::now()), error: error.to_owned(), ..self.vertex.clone() };
            self.journal.add(&Report { vertexes: vec![vertex], ..Report::default() });
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.close(CANCELED);
    }
}

/// The Dockerfile's steps. Pure.
struct Steps {
    build: String,
    counter: usize,
    names: StepNames,
    stages: BTreeMap<usize, Stage>,
    /// Where it failed.
    failed: Option<usize>,
    /// Remarks that came before any step.
    warnings: Vec<String>,
}

#[derive(Default)]
struct Stage {
    /// Instructions that have begun.
    at: usize,
    open: Option<Vertex>,
    logged: usize,
}

impl Steps {
    fn new(build: &str) -> Self {
        Self {
            build: build.to_owned(),
            counter: 0,
            names: StepNames::default(),
            stages: BTreeMap::new(),
            failed: None,
            warnings: Vec::new(),
        }
    }

    /// Equal names are different steps where their places differ.
    fn digest(&mut self, name: &str, place: usize) -> String {
        let place = if place == usize::MAX {
            self.counter += 1;
            format!("task {}", self.counter)
        } else {
            place.to_string()
        };
        let sum = Sha256::digest(format!("{}\n{place}\n{name}", self.build));
        format!("sha256:{}", hex::encode(sum))
    }

    fn vertex(&mut self, stage: usize, at: usize) -> Option<Vertex> {
        let name = self.names.stages.get(&stage)?.get(at)?.clone()?;
        let digest = self.digest(&name, stage * 100_000 + at);
        Some(Vertex { digest, name, ..Vertex::default() })
    }

    fn plan(&mut self, names: StepNames) -> Report {
        let places: Vec<(usize, usize)> =
            names.stages.iter().flat_map(|(stage, names)| (0..names.len()).map(|at| (*stage, at))).collect();
        self.names = names;
        let vertexes = places.into_iter().filter_map(|(stage, at)| self.vertex(stage, at)).collect();
        Report { vertexes, ..Report::default() }
    }

    fn event(&mut self, event: Event, now: SystemTime) -> Report {
        match event {
            Event::Step { stage, number, .. } if number > self.names.global => {
                let own = self.stages.entry(stage).or_default();
                let at = own.at;
                (own.at, own.logged) = (at + 1, 0);
                let Some(vertex) = self.vertex(stage, at) else { return Report::default() };
                let vertex = Vertex { started: Some(now), ..vertex };
                self.stages.entry(stage).or_default().open = Some(vertex.clone());
                Report { vertexes: vec![vertex], ..Report::default() }
            }
            Event::Cached { stage } => {
                if let Some(vertex) = self.open(stage) {
                    vertex.cached = true;
                }
                Report::default()
            }
            Event::Pulling { stage, line } => {
                let Some(vertex) = self.open(stage) else { return Report::default() };
                let id = line.trim_end().to_owned();
                let status = StatusLine {
                    id,
                    vertex: vertex.digest.clone(),
                    current: 0,
                    total: 0,
                    timestamp: now,
                    started: now,
                    completed: Some(now),
                };
                Report { statuses: vec![status], ..Report::default() }
            }
            Event::Output { stage, error, bytes } => self.output(stage, error, bytes, now),
            Event::Done { stage, .. } => {
                let Some(vertex) = self.stages.get_mut(&stage).and_then(|own| own.open.take()) else {
                    return Report::default();
                };
                Report { vertexes: vec![Vertex { completed: Some(now), ..vertex }], ..Report::default() }
            }
            Event::Failed { stage } => {
                self.failed = Some(stage);
                Report::default()
            }
            Event::Warning(text) => self.warn(text),
            _ => Report::default(),
        }
    }

    fn open(&mut self, stage: usize) -> Option<&mut Vertex> {
        self.stages.get_mut(&stage)?.open.as_mut()
    }

    fn output(&mut self, stage: usize, error: bool, mut bytes: Vec<u8>, now: SystemTime) -> Report {
        let Some(own) = self.stages.get_mut(&stage) else { return Report::default() };
        let Some(vertex) = own.open.as_ref().map(|vertex| vertex.digest.clone()) else { return Report::default() };
        if own.logged > MAX_LOG {
            return Report::default();
        }
        own.logged += bytes.len();
        if own.logged > MAX_LOG {
            bytes.truncate(bytes.len() - (own.logged - MAX_LOG));
            own.logged = MAX_LOG + 1;
            bytes.extend(b"\n[output clipped, log limit 2MiB reached]\n");
        }
        let log = Log { vertex, timestamp: now, stream: if error { 2 } else { 1 }, bytes };
        Report { logs: vec![log], ..Report::default() }
    }

    /// Remarks belong to a step; those that have none belong to the first.
    fn warn(&mut self, text: String) -> Report {
        let first =
            self.names.stages.iter().find_map(|(stage, names)| Some((*stage, names.iter().position(Option::is_some)?)));
        self.warnings.push(text);
        let Some(vertex) = first.and_then(|(stage, at)| self.vertex(stage, at)) else { return Report::default() };
        let warnings = self.warnings.drain(..).map(|text| Warning { vertex: vertex.digest.clone(), text }).collect();
        Report { warnings, ..Report::default() }
    }

    fn fail(&mut self, error: &str, now: SystemTime) -> Report {
        let failed = self.failed;
        let open = self.stages.iter_mut().filter_map(|(stage, own)| Some((*stage, own.open.take()?)));
        let vertexes = open.map(|(stage, vertex)| {
            let error = if failed == Some(stage) { error } else { CANCELED };
            Vertex { completed: Some(now), error: error.to_owned(), ..vertex }
        });
        Report { vertexes: vertexes.collect(), ..Report::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Steps {
        let some = |text: &str| Some(text.to_owned());
        let stages =
            [(0, vec![some("[a 1/2] FROM x"), None, some("[a 2/2] RUN y")]), (1, vec![None, some("[b 1/1] RUN z")])];
        let mut steps = Steps::new("build");
        let planned = steps.plan(StepNames { stages: stages.into(), global: 1 });
        let names: Vec<&str> = planned.vertexes.iter().map(|vertex| vertex.name.as_str()).collect();
        assert_eq!(names, ["[a 1/2] FROM x", "[a 2/2] RUN y", "[b 1/1] RUN z"]);
        assert!(planned.vertexes.iter().all(|vertex| vertex.started.is_none()));
        steps
    }

    fn step(stage: usize, number: usize) -> Event {
        Event::Step { stage, number, total: 6, text: String::new() }
    }

    /// `name:state` of the vertices in a report.
    fn told(report: &Report) -> Vec<String> {
        let state = |vertex: &Vertex| match (vertex.completed.is_some(), vertex.cached, vertex.error.as_str()) {
            (false, ..) => "begun".to_owned(),
            (true, true, _) => "cached".to_owned(),
            (true, false, "") => "done".to_owned(),
            (true, false, error) => error.to_owned(),
        };
        report.vertexes.iter().map(|vertex| format!("{}: {}", vertex.name, state(vertex))).collect()
    }

    #[test]
    fn steps_begin_and_end_and_those_that_touch_no_file_are_not_shown() {
        let (mut steps, now) = (steps(), SystemTime::UNIX_EPOCH);
        let done = |stage| Event::Done { stage, image: None };
        let mut all = Vec::new();
        for event in [
            step(0, 1), // the global ARG
            step(0, 2),
            done(0),
            step(0, 3),
            done(0),
            step(0, 4),
            step(1, 5),
            done(1),
            Event::Cached { stage: 0 },
            done(0),
        ] {
            all.extend(told(&steps.event(event, now)));
        }
        let wanted = ["[a 1/2] FROM x: begun", "[a 1/2] FROM x: done", "[a 2/2] RUN y: begun", "[a 2/2] RUN y: cached"];
        assert_eq!(all, wanted);
    }

    #[test]
    fn a_failure_is_told_where_it_happened_and_cancels_the_rest() {
        let (mut steps, now) = (steps(), SystemTime::UNIX_EPOCH);
        for event in [step(0, 2), step(1, 5), step(1, 6), Event::Failed { stage: 1 }] {
            steps.event(event, now);
        }
        assert_eq!(told(&steps.fail("no", now)), ["[a 1/2] FROM x: context canceled", "[b 1/1] RUN z: no"]);
        assert!(steps.fail("no", now).is_empty());
    }

    #[test]
    fn a_step_that_talks_without_end_is_cut_short() {
        let (mut steps, now) = (steps(), SystemTime::UNIX_EPOCH);
        steps.event(step(0, 2), now);
        let mut say = |count: usize| {
            let report = steps.event(Event::Output { stage: 0, error: true, bytes: vec![b'x'; count] }, now);
            report.logs.first().map(|log| (log.stream, log.bytes.len()))
        };
        assert_eq!(say(MAX_LOG), Some((2, MAX_LOG)));
        assert_eq!(say(10), Some((2, "\n[output clipped, log limit 2MiB reached]\n".len())));
        assert_eq!(say(10), None);
    }
}
