//! Sidecar: injection happens at admission; here it is only said that the object is in force.

use controllers::{
    Error,
    informer::{Informer, untouched},
    queue::{Key, Queue},
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use pattern_kinds::patterns::Sidecar;
use recording::Recorder;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    MANAGER,
    conditions::{Said, conditions, transitions},
    pattern::event,
    world::World,
};

/// Begins to watch Sidecars.
pub fn start(world: &World, tasks: &mut JoinSet<()>) {
    let objects: Informer<Sidecar> = Informer::start(world.client(), untouched, tasks);
    let (world, queue) = (world.clone(), Queue::default());
    let recorder = Recorder::start(world.client(), "hythe-sidecar");
    tasks.spawn(async move {
        objects.synced().await;
        let queued = queue.clone();
        objects.listen(move |change| queued.add(Key::of(&**change.object())));
        queue.work("hythe-sidecar", 1, |key| reconcile(world.clone(), objects.clone(), recorder.clone(), key)).await;
    });
}

async fn reconcile(world: World, objects: Informer<Sidecar>, recorder: Recorder, key: Key) -> Result<(), Error> {
    let Some(object) = objects.get(&key).filter(|o| o.meta().deletion_timestamp.is_none()) else { return Ok(()) };
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let said = [
        Said::yes("Accepted", "Accepted", "new pods that it selects get its containers"),
        Said::yes("Ready", "Injecting", "new pods that it selects get its containers"),
    ];
    let known = before.conditions.as_deref().unwrap_or_default();
    let mut status = before.clone();
    status.observed_generation = generation;
    status.conditions = Some(conditions(&said, known, generation, jiff::Timestamp::now()));
    if status == before {
        return Ok(());
    }
    let api: Api<Sidecar> = Api::namespaced(world.client(), &key.namespace);
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
    match api.patch_status(&key.name, &parameters, &Patch::Merge(json!({"status": status}))).await.map_err(Error::from)
    {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    for condition in transitions(status.conditions.as_deref().unwrap_or_default(), known) {
        event(&recorder, &*object, condition);
    }
    Ok(())
}
