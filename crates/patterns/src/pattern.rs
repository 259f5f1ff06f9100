//! One way for all patterns: look at the object, plan, write what is planned, say in the status how it stands.

use std::{fmt::Debug, time::Duration};

use controllers::{
    Error,
    informer::{Informer, untouched},
    ownership::is_controlled_by,
    queue::{Key, Queue},
};
use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use pattern_kinds::patterns::{PatternStatus, Tier};
use recording::Recorder;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    MANAGER, Settings, apply,
    apply::Refused,
    conditions::{Said, conditions, transitions},
    plan::{Plan, Refusal, peers_name, selector_text},
    world::{Touched, Watched, World},
};

/// A kind whose objects are wired by a plan.
pub trait Pattern:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// What `kubectl describe` shows as the source of events.
    const CONTROLLER: &'static str;

    /// The Services that it depends on.
    fn services(&self) -> Vec<&str>;

    /// The StatefulSet that it depends on.
    fn stateful_set(&self) -> Option<&str> {
        None
    }

    /// Its Deployment.
    fn tier(&self) -> Option<&Tier>;

    /// What is known of it.
    fn status(&self) -> Option<&PatternStatus>;

    /// What it needs. A pure function of what is there now.
    fn plan(&self, watched: &Watched, settings: &Settings, now: Timestamp) -> Result<Plan, Refusal>;
}

/// Begins to watch a kind and to work on its objects.
pub fn start<K: Pattern>(world: &World, tasks: &mut JoinSet<()>) {
    let objects: Informer<K> = Informer::start(world.client(), untouched, tasks);
    let queue = Queue::default();
    let world = world.clone();
    let (listening, queued) = (objects.clone(), queue.clone());
    world.listen(move |touched| {
        let key = match touched {
            Touched::Owned { kind, owner } => {
                if *kind == K::kind(&()) {
                    queued.add(owner.clone());
                }
                return;
            }
            Touched::Service(key) | Touched::StatefulSet(key) => key,
            Touched::Deployment(_) => return,
        };
        for object in listening.in_namespace(&key.namespace) {
            let depends = match touched {
                Touched::Service(_) => object.services().contains(&key.name.as_str()),
                _ => object.stateful_set() == Some(key.name.as_str()),
            };
            if depends {
                queued.add(Key::of(&*object));
            }
        }
    });
    tasks.spawn(async move {
        objects.synced().await;
        let queued = queue.clone();
        objects.listen(move |change| queued.add(Key::of(&**change.object())));
        let recorder = Recorder::start(world.client(), K::CONTROLLER);
        let again = queue.clone();
        let work = |key| reconcile(world.clone(), objects.clone(), recorder.clone(), again.clone(), key);
        queue.work(K::CONTROLLER, 2, work).await;
    });
}

async fn reconcile<K: Pattern>(
    world: World,
    objects: Informer<K>,
    recorder: Recorder,
    queue: Queue,
    key: Key,
) -> Result<(), Error> {
    // What it owns goes with it: the garbage collector sees to that.
    let Some(object) = objects.get(&key).filter(|o| o.meta().deletion_timestamp.is_none()) else { return Ok(()) };
    let watched = world.watched().await;
    let now = Timestamp::now();
    let planned = match refusal(&*object) {
        Some(refusal) => Err(refusal),
        None => object.plan(watched, world.settings(), now),
    };
    let again = planned.as_ref().ok().and_then(|plan| plan.waits.as_ref()?.until);
    let (standing, result) = match planned {
        Ok(plan) => match write(&world, watched, &*object, &plan).await {
            Ok(()) => (standing(&*object, &plan, watched), Ok(())),
            Err(Refused::Taken(message)) => (refused(&Refusal { reason: "NameTaken", message }), Ok(())),
            Err(Refused::Rejected(message)) => (refused(&Refusal { reason: "Rejected", message }), Ok(())),
            Err(Refused::Later(error)) => return Err(error),
        },
        Err(refusal) => (refused(&refusal), Ok(())),
    };
    say(&world, &*object, &recorder, standing).await?;
    if let Some(until) = again {
        queue.add_after(key, Duration::try_from(until.duration_since(now)).unwrap_or_default());
    }
    result
}

/// What is wrong with an object by its kind's own rules. Other clusters know those of its schema only.
fn refusal<K: Pattern>(object: &K) -> Option<Refusal> {
    let entry = ::api::catalogue::by_kind(pattern_kinds::patterns::GROUP, "v1", &K::kind(&()))?;
    let mut value = serde_json::to_value(object).ok()?;
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    let causes = (entry.strategy.validate)(&value);
    let all: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    (!all.is_empty()).then(|| Refusal { reason: "Invalid", message: all.join("; ") })
}

async fn write<K: Pattern>(world: &World, watched: &Watched, object: &K, plan: &Plan) -> Result<(), Refused> {
    let client = world.client();
    for wanted in plan.objects(object, object.tier(), world.settings()) {
        apply::owned(&client, object, &wanted).await?;
    }
    // What its replicas reached each other by, when they no longer need to.
    let (namespace, name) = (object.namespace().unwrap_or_default(), peers_name(object));
    let left = watched.services.get(&Key::new(&namespace, &name)).filter(|_| plan.peers.is_none());
    if left.is_some_and(|service| is_controlled_by(&*service, object)) {
        apply::remove(&client, &namespace, "v1", "Service", &name).await.map_err(Refused::Later)?;
    }
    Ok(())
}

struct Standing {
    said: Vec<Said>,
    replicas: Option<i32>,
    ready: Option<i32>,
    backends: Option<i32>,
    port: Option<i32>,
}

fn refused(refusal: &Refusal) -> Standing {
    let said = vec![
        Said::no("Accepted", refusal.reason, &refusal.message),
        Said::no("Programmed", refusal.reason, "the configuration is not written"),
        Said::no("Ready", refusal.reason, "it can't be done as it is asked for"),
    ];
    Standing { said, replicas: None, ready: None, backends: None, port: None }
}

fn standing<K: Pattern>(object: &K, plan: &Plan, watched: &Watched) -> Standing {
    let deployment = watched.deployments.get(&Key::of(object));
    let ready = deployment.and_then(|d| d.status.as_ref().and_then(|s| s.ready_replicas)).unwrap_or(0);
    let replicas = plan.replicas(object.tier());
    let is_ready = if !plan.missing.is_empty() {
        Said::no("Ready", "BackendNotFound", plan.missing.join("; "))
    } else if ready == 0 {
        Said::no("Ready", "NoPodReady", format!("0 of {replicas} pods are ready"))
    } else {
        Said::yes("Ready", "Serving", format!("{ready} of {replicas} pods are ready"))
    };
    let written = match &plan.waits {
        None => "the configuration is written".to_owned(),
        Some(waits) => format!("the configuration is written; {}", waits.message),
    };
    let said = vec![
        Said::yes("Accepted", "Accepted", "it can be done as it is asked for"),
        Said::yes("Programmed", "Programmed", written),
        is_ready,
    ];
    Standing {
        said,
        replicas: Some(replicas),
        ready: Some(ready),
        backends: Some(plan.backends),
        port: Some(plan.port.port),
    }
}

async fn say<K: Pattern>(world: &World, object: &K, recorder: &Recorder, standing: Standing) -> Result<(), Error> {
    let none = PatternStatus::default();
    let before = object.status().unwrap_or(&none);
    let known = before.conditions.as_deref().unwrap_or_default();
    let generation = object.meta().generation;
    let now = conditions(&standing.said, known, generation, jiff::Timestamp::now());
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let status = PatternStatus {
        observed_generation: generation,
        replicas: standing.replicas,
        selector: standing.replicas.map(|_| selector_text(object)),
        ready_replicas: standing.ready,
        backends: standing.backends,
        address: standing.port.map(|port| format!("{name}.{namespace}.svc:{port}")),
        conditions: Some(now),
    };
    if status == *before {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(world.client(), &namespace);
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
    match api.patch_status(&name, &parameters, &Patch::Merge(whole(&status))).await.map_err(Error::from) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    for condition in transitions(status.conditions.as_deref().unwrap_or_default(), known) {
        event(recorder, object, condition);
    }
    Ok(())
}

/// A status as a patch after which nothing of the one before is left.
fn whole(status: &PatternStatus) -> serde_json::Value {
    let mut status = json!(status);
    for field in ["replicas", "selector", "readyReplicas", "backends", "address"] {
        if status.get(field).is_none() {
            status[field] = serde_json::Value::Null;
        }
    }
    json!({"status": status})
}

/// Tells of a condition that changed.
pub(crate) fn event<K: Resource<DynamicType = ()>>(recorder: &Recorder, object: &K, condition: &Condition) {
    // That something new isn't ready yet is no news.
    if condition.status == "True" {
        recorder.normal(object, &condition.reason, condition.message.clone());
    } else if condition.reason != "NoPodReady" {
        recorder.warning(object, &condition.reason, condition.message.clone());
    }
}

#[cfg(test)]
mod tests {
    use pattern_kinds::patterns::{RateLimit, ScatterGather};

    use super::*;

    #[test]
    fn a_status_that_says_less_takes_back_what_was_said() {
        let before = PatternStatus { replicas: Some(2), address: Some("a.b.svc:80".to_owned()), ..Default::default() };
        let mut object = whole(&before);
        let after = PatternStatus { observed_generation: Some(2), ..Default::default() };
        for (field, value) in whole(&after)["status"].as_object().into_iter().flatten() {
            object["status"][field] = value.clone();
        }
        let merged: PatternStatus = serde_json::from_value(object["status"].clone()).expect("a status");
        assert_eq!(merged, after);
    }

    #[test]
    fn what_only_the_kinds_own_rules_forbid_is_refused_wherever_it_was_written() {
        let parse = |spec: serde_json::Value| json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        let gathered: ScatterGather =
            serde_json::from_value(parse(json!({"leaves": [{"name": "x"}], "merge": "TopK"})))
                .expect("a ScatterGather");
        let refused = refusal(&gathered).expect("it is refused");
        assert_eq!(refused.reason, "Invalid");
        assert!(refused.message.contains("spec.top: Required value"), "{}", refused.message);
        let limited = |by: &str| -> RateLimit {
            let spec = json!({"service": {"name": "x"}, "by": by, "limit": {"requests": 1}});
            serde_json::from_value(parse(spec)).expect("a RateLimit")
        };
        assert!(refusal(&limited("Header")).expect("it is refused").message.contains("spec.header"));
        assert_eq!(refusal(&limited("Path")), None);
    }
}
