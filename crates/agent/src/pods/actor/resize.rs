//! Other resources for containers that run: granted if the node has them, then put in force in place or by a restart.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Actor, Message};
use crate::{
    events::Severity,
    pods::{
        admission::{self, Offer, Resize as Verdict},
        conditions::Passing,
        container::{Role, of},
        container_spec,
        launch::runtime_id,
        record::Whole,
        sandbox,
    },
    spec::{
        quantity,
        resources::{self, Side, amount},
    },
};

/// How far a change of resources is, beyond what the records tell.
#[derive(Default)]
pub struct Resize {
    /// Why it is not granted: (`Deferred` or `Infeasible`, why, generation of the pod that was looked at).
    pending: Option<(&'static str, String, Option<i64>)>,
    /// Not looked at again until another pod goes.
    pub waits_for_room: bool,
    listening: bool,
    /// Why it could not be put in force yet.
    error: Option<String>,
    retry_at: Option<Instant>,
    delay: Duration,
    /// It was told that it began.
    begun: bool,
    /// The pod's limits as a whole are being changed.
    whole_under_way: bool,
}

const LONGEST_DELAY: Duration = Duration::from_secs(60);

impl Actor {
    /// Grants what was asked for since, and puts in force what was granted.
    pub(super) fn consider_resize(&mut self) {
        self.grant();
        self.put_in_force();
    }

    /// The containers' declared resources, where they are not those granted.
    fn asked(&self) -> Vec<(usize, ResourceRequirements)> {
        let declared = self.pod.spec.iter().flat_map(of);
        let records = self.record.containers.iter().enumerate();
        declared
            .zip(records)
            .filter(|((role, _), _)| *role != Role::Ephemeral)
            .filter_map(|((_, container), (slot, record))| {
                let wanted = container.resources.clone().unwrap_or_default();
                let granted = record.allocated.clone()?;
                (!resources::same(&granted, &wanted)).then_some((slot, wanted))
            })
            .collect()
    }

    /// What the pod declares as a whole, where that is not what was granted.
    fn asked_whole(&self) -> Option<ResourceRequirements> {
        let wanted = self.pod.spec.as_ref()?.resources.clone().unwrap_or_default();
        let whole = self.record.whole.as_ref()?;
        (!resources::same(&whole.allocated, &wanted)).then_some(wanted)
    }

    fn grant(&mut self) {
        let (asked, whole) = (self.asked(), self.asked_whole());
        if asked.is_empty() && whole.is_none() {
            self.resize.pending = None;
            self.resize.waits_for_room = false;
            return;
        }
        let generation = self.pod.metadata.generation;
        let same = self.resize.pending.as_ref().is_some_and(|(.., looked_at)| *looked_at == generation);
        let infeasible = matches!(self.resize.pending, Some(("Infeasible", ..)));
        if same && (infeasible || self.resize.waits_for_room) {
            return;
        }
        let views = self.context.pods.all();
        let others: Vec<Arc<Pod>> = views
            .iter()
            .filter(|v| !v.failed && v.pod.metadata.uid.as_deref() != Some(self.uid.as_str()))
            .map(|v| v.granted())
            .collect();
        let offer = Offer {
            name: &self.context.config.node_name,
            allocatable: self.context.machine.allocatable(),
            pods: i64::from(self.context.config.max_pods),
            node: None,
            unsafe_sysctls: &[],
        };
        let (reason, message) = match admission::resize(&self.spec(), &others, &offer) {
            Verdict::Granted => {
                for (slot, wanted) in asked {
                    self.record.containers[slot].allocated = Some(wanted);
                }
                if let (Some(wanted), Some(record)) = (whole, &mut self.record.whole) {
                    record.allocated = wanted;
                }
                self.resize = Resize {
                    listening: self.resize.listening,
                    whole_under_way: self.resize.whole_under_way,
                    ..Resize::default()
                };
                return;
            }
            Verdict::Deferred(why) => ("Deferred", why),
            Verdict::Infeasible(why) => ("Infeasible", why),
        };
        let known = self.resize.pending.as_ref().is_some_and(|(old, ..)| same && *old == reason);
        if !known {
            let event = if reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
            self.tell_of_resize(Severity::Warning, event, &format!("Pod resize {reason}"), Some(&message));
        }
        self.resize.pending = Some((reason, message, generation));
        if reason == "Deferred" {
            self.resize.waits_for_room = true;
            self.listen_for_room();
        }
    }

    fn listen_for_room(&mut self) {
        if std::mem::replace(&mut self.resize.listening, true) {
            return;
        }
        let mut room = self.context.room.subscribe();
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = room.changed() => if changed.is_err() || outbox.send(Message::Room).is_err() {
                        return;
                    },
                    () = outbox.closed() => return,
                }
            }
        });
    }

    fn put_in_force(&mut self) {
        let differing = self.differing();
        if differing.is_empty() && !self.whole_differs() {
            self.resize.error = None;
            if std::mem::take(&mut self.resize.begun) {
                self.resize.delay = Duration::ZERO;
                self.tell_of_resize(Severity::Normal, "ResizeCompleted", "Pod resize completed", None);
                self.context.room.send_modify(|n| *n += 1);
            }
            return;
        }
        if let Some(at) = self.resize.retry_at.filter(|at| *at > Instant::now()) {
            self.wake_at(at);
            return;
        }
        self.resize.retry_at = None;
        if !std::mem::replace(&mut self.resize.begun, true) {
            self.tell_of_resize(Severity::Normal, "ResizeStarted", "Pod resize started", None);
        }
        // The pod grows before its containers and shrinks after them, so that each fits at every moment.
        if let Some(next) = self.next_whole(!differing.is_empty()) {
            self.update_whole(next);
            return;
        }
        for slot in differing {
            let declared = self.declared(slot);
            let record = &self.record.containers[slot];
            let granted = record.allocated.clone().unwrap_or_default();
            let changed = resources::changed(&record.applied.clone().unwrap_or_default(), &granted);
            if self.slots[slot].resizing || self.slots[slot].stopping.is_some() {
                continue;
            }
            if restarts(&declared, &changed) {
                self.slots[slot].ends_for_resize = true;
                let text = format!("Container {} resize requires restart", declared.name);
                self.stop(slot, self.grace(), &text);
                continue;
            }
            self.update(slot, &declared, granted);
        }
    }

    /// Containers that run with other resources than they were granted.
    fn differing(&self) -> Vec<usize> {
        let records = self.record.containers.iter().enumerate();
        let of_age = records.filter(|(_, r)| r.role != Role::Ephemeral && r.running());
        of_age
            .filter(|(_, r)| match (&r.allocated, &r.applied) {
                (Some(granted), Some(applied)) => !resources::same(granted, applied),
                _ => false,
            })
            .map(|(slot, _)| slot)
            .collect()
    }

    fn whole_differs(&self) -> bool {
        let differs = |w: &Whole| !resources::same(&w.allocated, &w.applied);
        self.record.sandbox.is_some() && self.record.whole.as_ref().is_some_and(differs)
    }

    /// What the pod as a whole is given next, if it is something else than it has.
    fn next_whole(&self, containers_differ: bool) -> Option<ResourceRequirements> {
        let whole = self.record.whole.as_ref().filter(|_| self.whole_differs())?;
        let next = match containers_differ {
            true => resources::roomier(&whole.applied, &whole.allocated),
            false => whole.allocated.clone(),
        };
        (!resources::same(&whole.applied, &next)).then_some(next)
    }

    fn update_whole(&mut self, next: ResourceRequirements) {
        let Some(sandbox) = self.record.sandbox.clone() else { return };
        if std::mem::replace(&mut self.resize.whole_under_way, true) {
            return;
        }
        let limits = sandbox::of_whole(&next);
        let runtime = Arc::clone(&self.context.runtime);
        self.spawn(async move {
            let result = async {
                let usage = runtime.usage(&sandbox).await.map_err(|e| e.to_string())?;
                let used: u64 = usage.iter().map(|u| u.working_set).sum();
                if let Some(limit) = limits.memory_limit.filter(|l| l.unsigned_abs() < used) {
                    return Err(format!("attempting to set pod memory limit ({limit}) below current usage ({used})"));
                }
                runtime.limit(&sandbox, limits).await.map_err(|e| e.to_string())
            };
            let result = result.await;
            Message::WholeResized { resources: Box::new(next), result }
        });
    }

    pub(super) fn whole_resized(&mut self, resources: ResourceRequirements, result: Result<(), String>) {
        self.resize.whole_under_way = false;
        if let Err(error) = result {
            return self.resize_failed(error);
        }
        let Some(whole) = &mut self.record.whole else { return };
        let before = std::mem::replace(&mut whole.applied, resources);
        let limit = |of: &ResourceRequirements, name: &str| amount(Some(of), Side::Limits, name, quantity::milli_wide);
        let changed: Vec<&str> =
            ["cpu", "memory"].into_iter().filter(|n| limit(&before, n) != limit(&whole.applied, n)).collect();
        // A container without a limit of its own has the pod's: its policy says what a change of that means.
        for slot in 0..self.record.containers.len() {
            let (record, declared) = (&self.record.containers[slot], self.declared(slot));
            let inherits = |name: &&str| declared.resources.as_ref().is_none_or(|own| limit(own, name).is_none());
            let inherited: Vec<&str> = changed.iter().copied().filter(inherits).collect();
            let lasting = matches!(record.role, Role::App | Role::Sidecar) && record.running();
            if lasting && self.slots[slot].stopping.is_none() && restarts(&declared, &inherited) {
                self.slots[slot].ends_for_resize = true;
                let text = format!("Container {} resize requires restart", declared.name);
                self.stop(slot, self.grace(), &text);
            }
        }
    }

    fn update(&mut self, slot: usize, declared: &Container, granted: ResourceRequirements) {
        let Some(place) = self.place_of(slot) else { return };
        self.slots[slot].resizing = true;
        let cgroup = resources::of(declared, self.context.config.pod_pids_limit);
        let mut limits = container_spec::limits(&cgroup);
        limits.pids_limit = None;
        let attempt = self.record.containers[slot].restart_count;
        let name = self.record.containers[slot].name.clone();
        let runtime = Arc::clone(&self.context.runtime);
        self.spawn(async move {
            let id = runtime_id(&name, attempt);
            let result = async {
                let usage = runtime.usage(&place.sandbox).await.map_err(|e| e.to_string())?;
                let used = usage.iter().find(|u| u.container == id).map_or(0, |u| u.working_set);
                if let Some(limit) = limits.memory_limit.filter(|l| l.unsigned_abs() < used) {
                    return Err(format!("attempting to set pod memory limit ({limit}) below current usage ({used})"));
                }
                runtime.update(&place.sandbox, &id, limits).await.map_err(|e| e.to_string())
            };
            let result = result.await;
            Message::Resized { slot, attempt, resources: Box::new(granted), result }
        });
    }

    pub(super) fn resized(
        &mut self,
        slot: usize,
        attempt: u32,
        resources: ResourceRequirements,
        result: Result<(), String>,
    ) {
        self.slots[slot].resizing = false;
        let record = &mut self.record.containers[slot];
        if record.restart_count != attempt || !record.running() {
            return;
        }
        match result {
            Ok(()) => record.applied = Some(resources),
            Err(error) => self.resize_failed(error),
        }
    }

    fn resize_failed(&mut self, error: String) {
        if self.resize.error.as_ref() != Some(&error) {
            self.tell_of_resize(Severity::Warning, "ResizeError", "Pod resize error", Some(&error));
        }
        self.resize.error = Some(error);
        self.resize.delay = (self.resize.delay * 2).clamp(Duration::from_secs(1), LONGEST_DELAY);
        self.resize.retry_at = Some(Instant::now() + self.resize.delay);
    }

    /// The conditions that are only there while they hold.
    pub(super) fn passing_conditions(&self) -> Vec<Passing> {
        let mut passing = Vec::new();
        let mut add = |kind: &str, reason: &str, message: &str| {
            passing.push(Passing { kind: kind.to_owned(), reason: reason.to_owned(), message: message.to_owned() });
        };
        if self.ending.is_none() {
            if let Some((reason, message, _)) = &self.resize.pending {
                add("PodResizePending", reason, message);
            }
            match &self.resize.error {
                Some(error) => add("PodResizeInProgress", "Error", error),
                None if !self.differing().is_empty()
                    || self.whole_differs()
                    || self.slots.iter().any(|s| s.ends_for_resize) =>
                {
                    add("PodResizeInProgress", "", "");
                }
                None => {}
            }
        }
        if let Some(message) = &self.record.disruption {
            add("DisruptionTarget", "TerminationByKubelet", message);
        }
        passing
    }

    fn tell_of_resize(&self, severity: Severity, reason: &'static str, what: &str, error: Option<&str>) {
        let summary = summary(&self.spec(), self.pod.metadata.generation, error);
        self.context.recorder.pod(&self.pod, severity, reason, format!("{what}: {summary}"));
    }
}

/// Whether a change of those resources needs the container to start anew.
fn restarts(container: &Container, changed: &[&str]) -> bool {
    let policies = || container.resize_policy.iter().flatten();
    policies().any(|p| changed.contains(&p.resource_name.as_str()) && p.restart_policy == "RestartContainer")
}

/// What events say of the resources asked for.
fn summary(spec: &PodSpec, generation: Option<i64>, error: Option<&str>) -> Value {
    let list = |containers: Vec<&Container>| -> Vec<Value> {
        let given = |c: &&Container| c.resources.as_ref().is_some_and(|r| r.requests.is_some() || r.limits.is_some());
        containers.into_iter().filter(given).map(|c| json!({"name": c.name, "resources": c.resources})).collect()
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut out = Map::new();
    let init = list(sidecars.collect());
    if !init.is_empty() {
        out.insert("initContainers".to_owned(), init.into());
    }
    out.insert("containers".to_owned(), list(spec.containers.iter().collect()).into());
    out.insert("generation".to_owned(), generation.into());
    if let Some(error) = error {
        out.insert("error".to_owned(), error.into());
    }
    out.into()
}
