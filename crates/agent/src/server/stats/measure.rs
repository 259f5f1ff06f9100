//! One measurement of all pods of the node.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;

use super::fill::{self, Fill};
use crate::{
    agent::Agent,
    context::Context,
    pods::{ContainerRecord, Current, PodView, container, root_id, storage::tree_size},
    runtime::{Detail, Traffic, Usage},
    spec::resources::{self, CgroupResources},
};

/// How much is looked at. Files are counted one by one, which takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    CpuAndMemory,
    Volumes,
    Files,
    All,
}

/// The pods that have a sandbox, at one moment.
pub(super) struct Measured {
    pub at: Timestamp,
    pub pods: Vec<MeasuredPod>,
}

pub(super) struct MeasuredPod {
    pub view: Arc<PodView>,
    pub sandbox: String,
    /// What it uses as a whole, ended containers included.
    pub usage: Usage,
    pub containers: Vec<MeasuredContainer>,
    pub traffic: Vec<Traffic>,
    pub volumes: Vec<(Volume, Fill)>,
}

pub(super) struct MeasuredContainer {
    pub record: ContainerRecord,
    pub usage: Usage,
    /// At the greatest depth alone.
    pub detail: Option<Detail>,
    /// What it was granted.
    pub granted: CgroupResources,
    /// Bytes and files of the writable layer.
    pub root: (u64, u64),
    /// Those of the logs.
    pub logs: (u64, u64),
}

/// A pod's volume.
pub(super) struct Volume {
    pub name: String,
    /// The claim behind it.
    pub claim: Option<String>,
    /// It lives and dies with the pod on the node's own disk.
    pub is_local: bool,
}

impl MeasuredContainer {
    /// Since when it runs.
    pub fn started(&self) -> Option<Timestamp> {
        match &self.record.current {
            Current::Running { started_at, .. } => Some(*started_at),
            _ => None,
        }
    }
}

impl MeasuredPod {
    pub fn namespace(&self) -> String {
        self.view.pod.namespace().unwrap_or_default()
    }

    pub fn name(&self) -> String {
        self.view.pod.name_any()
    }
}

pub(super) async fn measure(agent: &Agent, depth: Depth) -> Measured {
    let at = Timestamp::now();
    let views = agent.pods.all();
    let pods = join_all(views.into_iter().map(|view| pod(&agent.context, view, depth))).await;
    let mut pods: Vec<MeasuredPod> = pods.into_iter().flatten().collect();
    pods.sort_by_key(|pod| (pod.namespace(), pod.name()));
    Measured { at, pods }
}

async fn pod(context: &Arc<Context>, view: Arc<PodView>, depth: Depth) -> Option<MeasuredPod> {
    let sandbox = view.sandbox.clone()?;
    let usage = context.runtime.usage(&sandbox).await.unwrap_or_default();
    let mut usage: BTreeMap<String, Usage> = usage
        .into_iter()
        .map(|usage| {
            // Runtime ids are NAME.ATTEMPT.
            let name = usage.container.rsplit_once('.').map_or(usage.container.as_str(), |(name, _)| name);
            (name.to_owned(), usage)
        })
        .collect();
    let mut containers = Vec::new();
    let granted = view.granted();
    for (_, declared) in granted.spec.iter().flat_map(container::of) {
        let Some(record) = view.containers.iter().find(|r| r.name == declared.name) else { continue };
        // As upstream, what has ended is left out.
        let Current::Running { .. } = &record.current else { continue };
        let Some(usage) = usage.remove(&record.name) else { continue };
        let (root, logs) = if depth >= Depth::Files { files(context, &view, record).await } else { Default::default() };
        let detail = if depth == Depth::All { context.runtime.detail(&sandbox, &usage.container).await } else { None };
        let granted = resources::of(declared, context.config.pod_pids_limit);
        containers.push(MeasuredContainer { record: record.clone(), usage, detail, granted, root, logs });
    }
    let usage = context.runtime.usage_of_all(&sandbox).await;
    let usage = usage.unwrap_or_else(|| together(&containers));
    let traffic = if depth >= Depth::Files { context.runtime.traffic(&sandbox).await } else { Vec::new() };
    let volumes = if depth == Depth::CpuAndMemory { Vec::new() } else { fill::of_pod(context, &view, &sandbox).await };
    Some(MeasuredPod { view, sandbox, usage, containers, traffic, volumes })
}

/// What containers use that nobody counts as a whole.
fn together(containers: &[MeasuredContainer]) -> Usage {
    containers.iter().fold(Usage::default(), |sum, c| Usage {
        cpu_nanoseconds: sum.cpu_nanoseconds + c.usage.cpu_nanoseconds,
        memory: sum.memory + c.usage.memory,
        working_set: sum.working_set + c.usage.working_set,
        rss: sum.rss + c.usage.rss,
        swap: sum.swap + c.usage.swap,
        page_faults: (sum.page_faults.0 + c.usage.page_faults.0, sum.page_faults.1 + c.usage.page_faults.1),
        pids: sum.pids + c.usage.pids,
        ..sum
    })
}

async fn files(context: &Arc<Context>, view: &PodView, record: &ContainerRecord) -> ((u64, u64), (u64, u64)) {
    let uid = view.pod.uid().unwrap_or_default();
    let root = context.images.root_usage(&root_id(&uid, &record.name, record.restart_count)).await;
    let logs = context.paths(&view.pod).logs.join(&record.name);
    (root, tokio::task::spawn_blocking(move || tree_size(&logs)).await.unwrap_or_default())
}
