//! One stage: its instructions, one after the other, each from the cache or done.

mod configure;
mod files;
mod running;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::content::{Digest, History, Layer, encoded_config};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::cache::{self, Key, Record};
use crate::contexts;
use crate::dockerfile::{Command, Expander, Form, Instruction};
use crate::error::{BuildError, Kind};
use crate::event::Event;
use crate::plan::{Base, From, PlannedStage, platform_args, resolve};
use crate::request::NamedContext;
use crate::work::{Built, Origin, Work};

/// A stage's result, to be waited for by several others.
pub(crate) type Future = Shared<BoxFuture<'static, Result<Arc<Built>, BuildError>>>;

/// Arguments that every `RUN` gets without `ARG`, and that neither cache nor history sees.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds one stage. `earlier` are the stages before it that are needed, by number.
pub(crate) fn build(
    work: Arc<Work>,
    planned: PlannedStage,
    earlier: BTreeMap<usize, Future>,
    labels: BTreeMap<String, String>,
) -> Future {
    async move {
        let index = planned.index;
        let mut stage = Stage {
            work,
            index,
            earlier,
            built: Built::default(),
            args: Vec::new(),
            command_set: false,
            step: planned.first_step,
        };
        if let Err((error, own)) = stage.run(&planned, labels).await {
            if own {
                stage.work.tell(Event::Failed { stage: index });
            }
            return Err(error);
        }
        stage.work.tell(Event::StageDone { stage: index });
        Ok(Arc::new(stage.built))
    }
    .boxed()
    .shared()
}

struct Stage {
    work: Arc<Work>,
    index: usize,
    earlier: BTreeMap<usize, Future>,
    built: Built,
    /// Declared arguments with their values, in order.
    args: Vec<(String, Option<String>)>,
    /// `CMD` was set in this stage: `ENTRYPOINT` then leaves it.
    command_set: bool,
    step: usize,
}

impl Stage {
    async fn run(&mut self, planned: &PlannedStage, labels: BTreeMap<String, String>) -> Result<(), Located> {
        let work = self.work.clone();
        let stage = &work.dockerfile.stages[self.index];
        self.announce(&stage.from.original);
        let lines = (stage.from.line, stage.from.end);
        let triggers = self.from(&planned.base).await.map_err(|error| located(error, lines))?;
        self.done();
        if !triggers.is_empty() {
            self.work.tell(Event::Triggers { stage: self.index, count: triggers.len() });
            for trigger in triggers {
                let instruction = Instruction::parse_one(&trigger).map_err(|e| located(Kind::Parse(e), lines))?;
                self.instruction(&instruction).await.map_err(|kind| located(kind, lines))?;
                self.done();
            }
        }
        for instruction in &stage.instructions {
            self.announce(&instruction.original);
            let lines = (instruction.line, instruction.end);
            self.instruction(instruction).await.map_err(|error| located(error, lines))?;
            self.done();
        }
        if !labels.is_empty() {
            // As if the Dockerfile ended with them.
            let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{}={}", quoted(k), quoted(v))).collect();
            let text = format!("LABEL {}", pairs.join(" "));
            self.announce(&text);
            let all: Vec<(String, String)> = labels.into_iter().collect();
            let note = format!("LABEL {}", joined(&all));
            self.metadata(&note, |process| process.labels.extend(all)).await.map_err(|kind| (kind.into(), true))?;
            self.done();
        }
        Ok(())
    }

    fn announce(&mut self, text: &str) {
        let step = Event::Step { stage: self.index, number: self.step, total: self.work.steps, text: text.to_owned() };
        self.work.tell(step);
        self.step += 1;
    }

    fn done(&self) {
        self.work.tell(Event::Done { stage: self.index, image: self.id() });
    }

    /// The id of the image as it is; `None` while there is nothing at all.
    fn id(&self) -> Option<String> {
        if let Some(origin) = &self.built.origin {
            return Some(origin.to_string());
        }
        let nothing = self.built.config.history.is_empty() && self.built.layers.is_empty();
        (!nothing).then(|| Digest::of(&encoded_config(&self.built.config)).to_string())
    }

    /// Begins on the base; returns the triggers it brings.
    async fn from(&mut self, base: &Base) -> Result<Vec<String>, Failure> {
        match base {
            Base::Scratch => {
                let mut parts = self.work.settings.platform.split('/');
                let config = &mut self.built.config;
                config.os = parts.next().unwrap_or_default().to_owned();
                config.architecture = parts.next().unwrap_or_default().to_owned();
                config.rootfs.kind = "layers".into();
            }
            Base::Stage(index) => self.built = (*self.stage(*index).await?).clone(),
            Base::Image(name) => {
                let name = match contexts::named(&self.work.settings.contexts, name) {
                    Some(NamedContext::Image(image)) => image,
                    Some(NamedContext::Directory(_)) => {
                        return Err(
                            Kind::invalid(format!("the context {name} is a directory: no stage stands on it")).into()
                        );
                    }
                    None => name,
                };
                let (image, layers) = self.work.image(self.index, name).await?;
                self.built = Built { config: image.config, layers, origin: Some(image.id) };
                self.built.config.rootfs.kind = "layers".into();
            }
        }
        let process = &mut self.built.config.config;
        if !process.env.iter().any(|entry| entry.starts_with("PATH=")) {
            process.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        Ok(std::mem::take(&mut process.on_build))
    }

    async fn stage(&self, index: usize) -> Result<Arc<Built>, Failure> {
        let future = self.earlier.get(&index).cloned();
        let future = future.ok_or_else(|| Kind::invalid(format!("stage {index} is not built before this one")))?;
        future.await.map_err(Failure::Elsewhere)
    }

    /// What `--from` names.
    async fn origin(&self, name: &str) -> Result<Origin, Failure> {
        let image = match contexts::named(&self.work.settings.contexts, name) {
            Some(NamedContext::Directory(path)) => return Ok(Origin::Directory(path.clone())),
            Some(NamedContext::Image(image)) => image.clone(),
            None => match resolve(&self.work.dockerfile.stages, self.index, name) {
                From::Stage(index) => return Ok(Origin::Layers(self.stage(index).await?.layers.clone())),
                From::Image(name) => name,
            },
        };
        Ok(Origin::Layers(self.work.image(self.index, &image).await?.1))
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let env = self.built.config.config.env.iter().rev();
        let in_env = env.filter_map(|entry| entry.split_once('=')).find(|(own, _)| *own == name);
        match in_env {
            Some((_, value)) => Some(value.to_owned()),
            None => self.args.iter().rev().find(|(own, _)| own == name).and_then(|(_, value)| value.clone()),
        }
    }

    fn expand(&self, text: &str) -> Result<String, Kind> {
        let lookup = |name: &str| self.lookup(name);
        let expander = Expander::new(self.work.dockerfile.escape, &lookup);
        expander.word(text).map_err(|error| Kind::invalid(error.to_string()))
    }

    fn expand_option(&self, text: &Option<String>) -> Result<Option<String>, Kind> {
        text.as_ref().map(|text| self.expand(text)).transpose()
    }

    fn expand_words(&self, texts: &[String]) -> Result<Vec<String>, Kind> {
        let lookup = |name: &str| self.lookup(name);
        let expander = Expander::new(self.work.dockerfile.escape, &lookup);
        let mut words = Vec::new();
        for text in texts {
            words.extend(expander.words(text).map_err(|error| Kind::invalid(error.to_string()))?);
        }
        Ok(words)
    }

    async fn instruction(&mut self, instruction: &Instruction) -> Result<(), Failure> {
        match &instruction.command {
            Command::Run { form, heredocs, mounts, network } => {
                self.run_command(form, heredocs, mounts, network.clone()).await
            }
            Command::Copy(copying) => self.copy("COPY", copying).await,
            Command::Add(copying) => self.copy("ADD", copying).await,
            Command::Workdir(path) => {
                let path = self.absolute(&self.expand(path)?);
                let path = format!("/{}", crate::pattern::clean(&path));
                self.workdir(path).await
            }
            other => self.configure(other).await,
        }
    }

    /// A path as seen from the working directory; a slash at its end stays.
    fn absolute(&self, path: &str) -> String {
        let base = &self.built.config.config.working_dir;
        let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
        let clean = crate::pattern::clean(&whole);
        let slash = !clean.is_empty() && (path.ends_with('/') || path.ends_with("/.") || path == ".");
        format!("/{clean}{}", if slash { "/" } else { "" })
    }

    fn key(&self) -> Key {
        Key::new(self.id().as_deref(), self.work.settings.clamp)
    }

    /// The record of a step, if it was done. `created_by` is what history says of it, where that says it all.
    fn find(&self, key: &Key, created_by: Option<&str>) -> Option<Record> {
        let known = || {
            let settings = &self.work.settings;
            let theirs = |record: &Record| settings.cache_from.iter().any(|image| self.is_step_of(image, record));
            let own = cache::find(&self.work.content, key).filter(|own| !settings.only_cache_from || theirs(own));
            own.or_else(|| self.work.settings.cache_from.iter().find_map(|image| self.found_in(image, created_by?)))
        };
        let settings = &self.work.settings;
        let anew = settings.no_cache || {
            let own = self.work.dockerfile.stages[self.index].name.as_deref();
            own.is_some_and(|own| settings.no_cache_stages.iter().any(|name| name.eq_ignore_ascii_case(own)))
        };
        let found = if anew { None } else { known() };
        if let Some(record) = &found {
            self.work.records.add(key.id(), record.clone());
            self.work.cached.fetch_add(1, Ordering::Relaxed);
            self.work.tell(Event::Cached { stage: self.index });
        }
        found
    }

    /// Whether an image that has been built alike so far goes on with this very step.
    fn is_step_of(&self, image: &Built, record: &Record) -> bool {
        let Some(step) = self.next_step(image) else { return false };
        let layer = || image.layers.get(self.built.layers.len()).map(|layer| &layer.diff_id);
        step.created.as_ref() == Some(&record.created)
            && step.empty_layer == record.layer.is_none()
            && record.layer.as_ref().is_none_or(|own| layer() == Some(&own.diff_id))
    }

    /// What an image that has been built alike so far did next.
    fn next_step<'a>(&self, image: &'a Built) -> Option<&'a History> {
        let (own, theirs) = (&self.built.config.history, &image.config.history);
        let step = theirs.get(own.len())?;
        let alike = |a: &History, b: &History| {
            (&a.created, &a.created_by, a.empty_layer) == (&b.created, &b.created_by, b.empty_layer)
        };
        let so_far = own.iter().zip(theirs).all(|(own, theirs)| alike(own, theirs))
            && image.layers.iter().zip(&self.built.layers).all(|(a, b)| a.diff_id == b.diff_id);
        so_far.then_some(step)
    }

    /// The same step in the history of an image that has been built alike so far.
    fn found_in(&self, image: &Built, created_by: &str) -> Option<Record> {
        let step = self.next_step(image).filter(|step| step.created_by.as_deref() == Some(created_by))?;
        let layer = match step.empty_layer {
            true => None,
            false => Some(image.layers.get(self.built.layers.len())?.clone()),
        };
        Some(Record { created: step.created.clone()?, layer, step: created_by.to_owned() })
    }

    /// A step that made this layer (or none) is done now: keeps it for later builds.
    fn keep(&self, key: &Key, note: &str, layer: Option<Layer>) -> Result<Record, Kind> {
        let record = Record { created: self.work.now(), layer, step: note.to_owned() };
        cache::keep(&self.work.content, key, &record)?;
        self.work.records.add(key.id(), record.clone());
        Ok(record)
    }

    /// Adds a step to the image.
    fn commit(&mut self, record: Record, created_by: String) {
        self.built.origin = None;
        let config = &mut self.built.config;
        config.created = Some(record.created.clone());
        config.history.push(History {
            created: Some(record.created),
            created_by: Some(created_by),
            author: config.author.clone(),
            comment: None,
            empty_layer: record.layer.is_none(),
        });
        if let Some(layer) = record.layer {
            config.rootfs.diff_ids.push(layer.diff_id.clone());
            self.built.layers.push(layer);
        }
    }

    /// A step that changes the configuration and no file.
    async fn metadata(
        &mut self,
        note: &str,
        change: impl FnOnce(&mut engine::content::ProcessConfig),
    ) -> Result<(), Kind> {
        let created_by = format!("{} #(nop)  {note}", self.shell().join(" "));
        let key = self.key().text(&created_by);
        let record = match self.find(&key, Some(&created_by)) {
            Some(record) => record,
            None => {
                self.stand_in();
                self.keep(&key, note, None)?
            }
        };
        change(&mut self.built.config.config);
        self.commit(record, created_by);
        Ok(())
    }

    /// Docker commits even metadata from a container, and says so.
    fn stand_in(&self) {
        let container = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        self.work.tell(Event::Running { stage: self.index, container: container.clone() });
        self.work.tell(Event::Removed { stage: self.index, container });
    }

    fn shell(&self) -> Vec<String> {
        match self.built.config.config.shell.as_slice() {
            [] => vec!["/bin/sh".into(), "-c".into()],
            shell => shell.to_vec(),
        }
    }

    fn command_line(&self, form: &Form) -> Vec<String> {
        match form.shell {
            true => [self.shell(), form.args.clone()].concat(),
            false => form.args.clone(),
        }
    }

    /// The value of an argument that is declared now.
    fn argument(&self, name: &str, default: Option<&str>) -> Result<Option<String>, Kind> {
        self.work.used_args.add(name);
        if let Some(given) = self.work.settings.args.get(name) {
            return Ok(Some(given.clone()));
        }
        if let Some(default) = default {
            return self.expand(default).map(Some);
        }
        let global = self.work.global.get(name).cloned();
        Ok(global.or_else(|| platform_args(&self.work.settings.platform).get(name).cloned()))
    }
}

/// A failure of this stage's own, or of one that it waits for, which has its place already.
pub(crate) enum Failure {
    Own(Kind),
    Elsewhere(BuildError),
}

impl<E: Into<Kind>> std::convert::From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Own(error.into())
    }
}

/// A failure with its place, and whether it is this stage's own.
type Located = (BuildError, bool);

fn located(failure: impl Into<Failure>, lines: (usize, usize)) -> Located {
    match failure.into() {
        Failure::Own(kind) => (kind.at(lines), true),
        Failure::Elsewhere(error) => (error, false),
    }
}

/// `"k"="v" …`, as notes have them.
fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}
