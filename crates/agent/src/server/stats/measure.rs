//! One measurement of all pods of the node.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;

use super::fill::{self, Fill};
use crate::{
    agent::Agent,
    context::Context,
    pods::{ContainerRecord, Current, PodView, root_id, storage::tree_size},
    runtime::{Traffic, Usage},
};

/// How much is looked at. Files are counted one by one, which takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    CpuAndMemory,
    Volumes,
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
    pub containers: Vec<MeasuredContainer>,
    pub traffic: Vec<Traffic>,
    pub volumes: Vec<(Volume, Fill)>,
}

pub(super) struct MeasuredContainer {
    pub record: ContainerRecord,
    pub usage: Usage,
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

    /// What one number is, of all containers together.
    pub fn sum(&self, number: impl Fn(&Usage) -> u64) -> u64 {
        self.containers.iter().map(|c| number(&c.usage)).sum()
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
    for record in &view.containers {
        let Some(usage) = usage.remove(&record.name) else { continue };
        let (root, logs) = if depth == Depth::All { files(context, &view, record).await } else { Default::default() };
        containers.push(MeasuredContainer { record: record.clone(), usage, root, logs });
    }
    let traffic = if depth == Depth::All { context.runtime.traffic(&sandbox).await } else { Vec::new() };
    let volumes = if depth == Depth::CpuAndMemory { Vec::new() } else { fill::of_pod(context, &view, &sandbox).await };
    Some(MeasuredPod { view, sandbox, containers, traffic, volumes })
}

async fn files(context: &Arc<Context>, view: &PodView, record: &ContainerRecord) -> ((u64, u64), (u64, u64)) {
    let uid = view.pod.uid().unwrap_or_default();
    let root = context.images.root_usage(&root_id(&uid, &record.name, record.restart_count)).await;
    let logs = context.paths(&view.pod).logs.join(&record.name);
    ((root, 0), tokio::task::spawn_blocking(move || tree_size(&logs)).await.unwrap_or_default())
}
