//! The actor of one pod: hears of changes, decides by the pure functions beside it, starts what takes time as
//! tasks that report back, and writes the status. It sleeps until the next message or deadline.

mod ending;
mod failures;
mod message;
mod mirror;
mod report;
mod resize;
mod slot;
mod steps;
mod together;

use std::{sync::Arc, time::Duration};

use engine::{ContainerState, SandboxState, SandboxStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

pub use message::{Eviction, Message};
pub use mirror::remove as remove_mirror;

use self::{ending::Ending, mirror::Mirror, resize::Resize, slot::Slot};
use super::{
    admission::Refusal,
    container::{self, ContainerRecord, Current, Ended},
    launch::{public_id, runtime_id},
    phase,
    record::{Left, PodRecord, RecordFile, Whole},
    sandbox::SandboxUp,
    status_writer::StatusWriter,
    teardown,
};
use crate::{context::Context, device_plugins::Held, paths::PodPaths, volumes::PodVolumes};

/// What others may know of a pod (logs, exec, port-forward, statistics).
#[derive(Clone, Debug)]
pub struct PodView {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its sandbox, if it is up.
    pub sandbox: Option<String>,
    /// Its containers.
    pub containers: Vec<ContainerRecord>,
    /// It has failed as a whole and takes nothing of the node.
    pub failed: bool,
    /// What it was granted as a whole, where that is known.
    pub whole: Option<ResourceRequirements>,
}

impl PodView {
    /// The pod with the resources that its containers were granted, which may be other than it asks for by now.
    pub fn granted(&self) -> Arc<Pod> {
        let differs = |container: &Container| {
            let record = self.containers.iter().find(|r| r.name == container.name);
            record.and_then(|r| r.allocated.as_ref()).filter(|granted| container.resources.as_ref() != Some(granted))
        };
        let none = ResourceRequirements::default();
        let declared = self.pod.spec.as_ref().and_then(|s| s.resources.as_ref()).unwrap_or(&none);
        let whole = self.whole.as_ref().filter(|granted| *granted != declared);
        let spec = self.pod.spec.iter();
        if whole.is_none() && !spec.flat_map(container::of).any(|(_, c)| differs(c).is_some()) {
            return Arc::clone(&self.pod);
        }
        let mut pod = (*self.pod).clone();
        if let Some(spec) = &mut pod.spec {
            if let Some(granted) = whole {
                spec.resources = Some(granted.clone()).filter(|r| *r != ResourceRequirements::default());
            }
            for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
                if let Some(granted) = differs(container).cloned() {
                    container.resources = Some(granted);
                }
            }
        }
        Arc::new(pod)
    }
}

/// Something the pod needs one of: its sandbox, its volumes.
enum Need<T> {
    Absent,
    UnderWay,
    Up(T),
    Failed { at: Instant },
}

/// Between a change of what volumes wait for and the next try: such changes come in twos and threes.
const SETTLE: Duration = Duration::from_millis(50);

impl<T> Need<T> {
    /// What has failed is tried again no later than that.
    fn hasten(&mut self, by: Instant) {
        if let Self::Failed { at } = self {
            *at = by.min(*at);
        }
    }

    fn up(&self) -> Option<&T> {
        match self {
            Self::Up(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is to be begun now (it is noted as under way then); otherwise `wake` hears when it will be.
    fn begin(&mut self, wake: &mut Option<Instant>) -> bool {
        match self {
            Self::Failed { at } if *at > Instant::now() => {
                *wake = Some(wake.map_or(*at, |wake| wake.min(*at)));
                false
            }
            Self::Absent | Self::Failed { .. } => {
                *self = Self::UnderWay;
                true
            }
            Self::UnderWay | Self::Up(_) => false,
        }
    }
}

pub(super) struct Actor {
    context: Arc<Context>,
    pod: Arc<Pod>,
    pods: watch::Sender<Arc<Pod>>,
    uid: String,
    paths: PodPaths,
    record: PodRecord,
    file: RecordFile,
    slots: Vec<Slot>,
    sandbox: Need<SandboxUp>,
    sandbox_delay: Duration,
    volumes: Need<Arc<PodVolumes>>,
    volumes_delay: Duration,
    /// The volumes that could be had when not all could.
    some_volumes: PodVolumes,
    /// What was known of claims, volumes and drivers when the volumes were last tried.
    storage_seen: Option<(watch::Receiver<u64>, Option<AbortOnDropHandle<()>>)>,
    ending: Option<Ending>,
    gone: bool,
    resize: Resize,
    writer: StatusWriter,
    mirror: Mirror,
    first_report_at: Option<Instant>,
    seen_at: Instant,
    wake: Option<Instant>,
    inbox: mpsc::UnboundedReceiver<Message>,
    outbox: mpsc::UnboundedSender<Message>,
    view: watch::Sender<Arc<PodView>>,
}

/// How long the first report of a new pod waits for its containers: most start sooner, and one write tells it all.
const FIRST_REPORT: Duration = Duration::from_millis(100);

impl Actor {
    /// For a pod; `refusal` says why a new one is not taken.
    pub(super) fn new(
        context: Arc<Context>,
        pod: Arc<Pod>,
        left: Left,
        refusal: Option<Refusal>,
        (outbox, inbox): (mpsc::UnboundedSender<Message>, mpsc::UnboundedReceiver<Message>),
        view: watch::Sender<Arc<PodView>>,
    ) -> Self {
        let paths = context.paths(&pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let fresh = left.record.is_none();
        let mut record = left.record.unwrap_or_else(|| new_record(&pod));
        for (record, (_, declared)) in record.containers.iter_mut().zip(pod.spec.iter().flat_map(container::of)) {
            if record.allocated.is_none() {
                record.allocated = Some(declared.resources.clone().unwrap_or_default());
                record.applied.clone_from(&record.allocated);
            }
        }
        let declared = pod.spec.as_ref().and_then(|s| s.resources.clone()).unwrap_or_default();
        record.whole.get_or_insert_with(|| Whole { allocated: declared.clone(), applied: declared });
        for container in &mut record.containers {
            if fresh {
                let held = context.devices.held(&uid, &container.name);
                (container.devices, container.device_needs) = (held.devices, held.needs);
            } else {
                let held = Held { devices: container.devices.clone(), needs: container.device_needs.clone() };
                context.devices.restore(&uid, &container.name, held);
            }
        }
        let writer = StatusWriter::new(&pod);
        let mut actor = Self {
            pods: watch::channel(Arc::clone(&pod)).0,
            slots: record.containers.iter().map(|c| Slot::new(never_launched(c))).collect(),
            context,
            pod,
            uid,
            file: RecordFile::new(paths.record()),
            paths,
            record,
            sandbox: Need::Absent,
            sandbox_delay: Duration::ZERO,
            volumes: Need::Absent,
            volumes_delay: Duration::ZERO,
            some_volumes: PodVolumes::default(),
            storage_seen: None,
            ending: None,
            gone: false,
            resize: Resize::default(),
            writer,
            mirror: Mirror::default(),
            first_report_at: fresh.then(|| Instant::now() + FIRST_REPORT),
            seen_at: Instant::now(),
            wake: None,
            inbox,
            outbox,
            view,
        };
        actor.take_ephemeral();
        actor.adopt(left.sandbox);
        if let Some(refusal) = refusal {
            actor.refuse(&refusal);
        }
        actor
    }

    /// Lives until the pod is gone from the API and from the node.
    pub(super) async fn run(mut self) {
        loop {
            self.wake = None;
            self.step();
            self.save();
            self.report();
            if self.gone && matches!(&self.ending, Some(e) if e.torn_down) {
                break;
            }
            let wake = self.wake;
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            while let Ok(message) = self.inbox.try_recv() {
                self.hear(message);
            }
        }
        teardown::forget(self.paths.clone()).await;
    }

    fn hear(&mut self, message: Message) {
        tracing::trace!(pod = self.record.name, message = message.name(), since_seen = ?self.seen_at.elapsed());
        match message {
            Message::Pod(pod) => self.observe(pod),
            Message::Gone => self.gone = true,
            Message::Mirror(pod) => self.mirrored(Some(pod)),
            Message::MirrorGone(uid) => {
                let known = self.mirror.uid();
                if uid.is_none() || uid == known {
                    self.mirrored(None);
                }
            }
            Message::MirrorKept(result) => self.mirror_kept(result),
            Message::Sandbox(result) => self.sandbox_done(result),
            Message::Volumes(up, failed) => self.volumes_done(up, failed),
            Message::Evict(eviction) => self.evicted(&eviction),
            Message::Prepared { slot, result } => self.prepared(slot, *result),
            Message::Launched { slot, attempt, result } => self.launched(slot, attempt, result),
            Message::Ended { slot, attempt, exit } => self.ended(slot, attempt, exit),
            Message::PostStarted { slot, attempt, result } => self.post_started(slot, attempt, result),
            Message::Probe { slot, attempt, kind, passes } => self.probed(slot, attempt, kind, passes),
            Message::WholeResized { resources, result } => self.whole_resized(*resources, result),
            Message::Resized { slot, attempt, resources, result } => self.resized(slot, attempt, *resources, result),
            Message::Storage => self.volumes.hasten(Instant::now() + SETTLE),
            Message::Room => self.resize.waits_for_room = false,
            Message::Written(result) => self.status_written(&result),
            Message::TornDown(result) => self.torn_down(result),
            Message::Deleted(result) => self.deleted(result),
        }
    }

    fn observe(&mut self, pod: Arc<Pod>) {
        // The answer to a patch may overtake the watch, and be what it tells then.
        let known = revision(&self.pod);
        if revision(&pod) > known || known == u64::MAX {
            self.writer.observe(&pod);
            self.adopt_version(pod);
        }
    }

    fn adopt_version(&mut self, pod: Arc<Pod>) {
        self.pod = pod;
        self.pods.send_replace(Arc::clone(&self.pod));
        self.take_ephemeral();
    }

    /// Notes the ephemeral containers that have come since.
    fn take_ephemeral(&mut self) {
        for declared in self.pod.spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten()) {
            if !self.record.containers.iter().any(|r| r.name == declared.name) {
                let container = container::ephemeral(declared);
                self.record.containers.push(ContainerRecord::new(&container, container::Role::Ephemeral));
                self.slots.push(Slot::new(true));
            }
        }
    }

    /// Takes over what an earlier agent left: what runs goes on as it is.
    fn adopt(&mut self, found: Option<SandboxStatus>) {
        // Without addresses the record was not written after the sandbox was made: nothing has run in it.
        let complete = !self.record.pod_ips.is_empty();
        let own = |status: &SandboxStatus| self.record.sandbox.as_deref() == Some(status.id.as_str());
        let Some(status) = found.filter(|status| own(status) && complete) else {
            self.lose_sandbox();
            return;
        };
        if status.state == SandboxState::Dead {
            for slot in 0..self.slots.len() {
                self.adopt_container(slot, &status);
            }
            self.lose_sandbox();
            return;
        }
        for slot in 0..self.slots.len() {
            self.adopt_container(slot, &status);
        }
        self.sandbox = Need::Up(SandboxUp { id: status.id, pod_ips: self.record.pod_ips.clone() });
    }

    fn adopt_container(&mut self, slot: usize, sandbox: &SandboxStatus) {
        let record = &mut self.record.containers[slot];
        // A start that was under way has the next number; it is not in the record yet.
        let next = if self.slots[slot].never_launched { record.restart_count } else { record.restart_count + 1 };
        let find = |attempt: u32| sandbox.containers.iter().find(|c| c.id == runtime_id(&record.name, attempt));
        let (attempt, container) = match (find(next), find(record.restart_count)) {
            (Some(container), _) => (next, container),
            (None, Some(container)) => (record.restart_count, container),
            (None, None) => {
                if record.running() {
                    let id = record.running_id().unwrap_or_default().to_owned();
                    record.end(vanished(id));
                }
                return;
            }
        };
        let id = public_id(&sandbox.id, &record.name, attempt);
        let started_at = container.started_at.and_then(|t| Timestamp::try_from(t).ok());
        match container.state {
            ContainerState::Running | ContainerState::Paused if sandbox.state == SandboxState::Ready => {
                if record.running_id() != Some(id.as_str()) {
                    record.run(id, started_at.unwrap_or_else(Timestamp::now));
                    record.restart_count = attempt;
                }
                self.slots[slot].never_launched = false;
                self.watch_container(slot, sandbox.id.clone());
                self.resume_probes(slot);
            }
            // Made but never started: made again.
            ContainerState::Created => {
                let (context, sandbox, container) =
                    (Arc::clone(&self.context), sandbox.id.clone(), container.id.clone());
                tokio::spawn(async move { context.runtime.remove(&sandbox, &container).await });
            }
            _ => {
                let already = matches!(&record.current, Current::Ended(e) if e.id == id)
                    || matches!(&record.current, Current::Waiting { .. })
                        && record.last.as_ref().is_some_and(|e| e.id == id);
                if !already {
                    if record.running_id() != Some(id.as_str()) {
                        record.run(id, started_at.unwrap_or_else(Timestamp::now));
                        record.restart_count = attempt;
                    }
                    self.slots[slot].never_launched = false;
                    self.ended(slot, attempt, container.exit);
                }
            }
        }
    }

    /// The sandbox is gone with all that ran in it.
    fn lose_sandbox(&mut self) {
        for record in &mut self.record.containers {
            if let Some(id) = record.running_id() {
                let id = id.to_owned();
                record.end(vanished(id));
            }
        }
        if let Some(old) = self.record.sandbox.take() {
            let context = Arc::clone(&self.context);
            tokio::spawn(async move { context.runtime.destroy_sandbox(&old).await });
            let attempt = self.record.sandbox_attempt;
            self.record.sandbox_attempt = attempt + 1;
            if !self.finished_for_good() {
                self.record.initialized = false;
                for record in self.record.containers.iter_mut().filter(|r| r.role == container::Role::Init) {
                    if let Current::Ended(ended) = &record.current {
                        record.last = Some(ended.clone());
                        record.current = Current::Waiting { reason: None, message: None };
                    }
                }
            }
        }
        self.sandbox = Need::Absent;
    }

    fn finished_for_good(&self) -> bool {
        phase::is_over(&self.pod)
    }

    fn save(&mut self) {
        if self.gone {
            return;
        }
        if let Err(error) = self.file.save(&self.record) {
            tracing::warn!(pod = self.record.name, %error, "a pod's record can't be written; a restart may forget backoffs")
        }
    }

    fn spec(&self) -> Spec {
        Spec(Arc::clone(&self.pod))
    }

    fn declared(&self, slot: usize) -> Container {
        let record = &self.record.containers[slot];
        let Some(spec) = self.pod.spec.as_ref() else { return Container::default() };
        if record.role == container::Role::Ephemeral {
            let found = spec.ephemeral_containers.iter().flatten().find(|c| c.name == record.name);
            return found.map(container::ephemeral).unwrap_or_default();
        }
        let mut declared =
            container::of(spec).find(|(_, c)| c.name == record.name).map(|(_, c)| c.clone()).unwrap_or_default();
        // What it asks for now may be more than the node has granted.
        if record.allocated.is_some() {
            declared.resources.clone_from(&record.allocated);
        }
        declared
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn wake_at_time(&mut self, at: Timestamp) {
        let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
        self.wake_at(Instant::now() + wait);
    }

    fn spawn(&self, work: impl Future<Output = Message> + Send + 'static) {
        // Boxed as it comes: it is large, and a task moves what it is made of several times.
        let (outbox, work) = (self.outbox.clone(), Box::pin(work));
        tokio::spawn(async move {
            // An actor that is gone needs no answer.
            let _ = outbox.send(work.await);
        });
    }
}

/// The spec of a pod as it is now.
struct Spec(Arc<Pod>);

impl std::ops::Deref for Spec {
    type Target = PodSpec;

    fn deref(&self) -> &PodSpec {
        static NONE: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.0.spec.as_ref().unwrap_or(&NONE)
    }
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

fn new_record(pod: &Pod) -> PodRecord {
    let status = pod.status.as_ref();
    let reported = |name: &str| {
        let lists = status.into_iter().flat_map(|s| {
            [&s.container_statuses, &s.init_container_statuses, &s.ephemeral_container_statuses].into_iter().flatten()
        });
        lists.flatten().find(|c| c.name == name)
    };
    let ephemeral = pod.spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten());
    let ephemeral = ephemeral.map(|c| (container::Role::Ephemeral, container::ephemeral(c)));
    let all = pod.spec.iter().flat_map(container::of).map(|(role, declared)| (role, declared.clone())).chain(ephemeral);
    let containers = all.map(|(role, declared)| {
        let mut record = ContainerRecord::new(&declared, role);
        // After a power loss the API is all that remembers.
        if let Some(old) = reported(&record.name) {
            record.restart_count = old.restart_count.max(0).unsigned_abs();
            record.image_id.clone_from(&old.image_id);
            let state = old.state.as_ref();
            if let Some(ended) = state.and_then(|s| s.terminated.as_ref()) {
                record.current = Current::Ended(ended_of(ended));
            } else if state.is_some_and(|s| s.running.is_some()) {
                let id = old.container_id.as_deref().unwrap_or_default().trim_start_matches("hythe://").to_owned();
                record.current = Current::Ended(vanished(id));
            }
            record.last = old.last_state.as_ref().and_then(|s| s.terminated.as_ref()).map(ended_of);
        }
        record
    });
    PodRecord {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        start_time: Some(Timestamp::now()),
        containers: containers.collect(),
        ..PodRecord::default()
    }
}

fn ended_of(state: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> Ended {
    Ended {
        id: state.container_id.as_deref().unwrap_or_default().trim_start_matches("hythe://").to_owned(),
        exit_code: state.exit_code,
        signal: state.signal,
        reason: state.reason.clone().unwrap_or_default(),
        message: state.message.clone(),
        started_at: state.started_at.as_ref().map(|t| t.0),
        finished_at: state.finished_at.as_ref().map_or_else(Timestamp::now, |t| t.0),
    }
}

/// The end of a container that nobody saw.
fn vanished(id: String) -> Ended {
    Ended {
        id,
        exit_code: 255,
        signal: None,
        reason: "Unknown".to_owned(),
        message: None,
        started_at: None,
        finished_at: Timestamp::now(),
    }
}

fn never_launched(record: &ContainerRecord) -> bool {
    record.restart_count == 0 && matches!(record.current, Current::Waiting { .. }) && record.last.is_none()
}
