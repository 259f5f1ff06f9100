//! Controllers that are ended between any two of their writes, or between a write and its answer, and started anew,
//! or whose write takes effect while they hear of a failure: the end is the one that they reach undisturbed.

mod normal;
mod scenarios;
mod stage;

use std::time::Duration;

use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    failpoint::{Failpoint, Side},
    world::World,
};
use stage::Stage;

/// No step takes longer, however busy the machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// A state that nobody writes to for so long is what the undisturbed controllers wanted.
const QUIET: Duration = Duration::from_millis(700);

/// What a user does, and how it is known that the controllers have done their part. Steps follow each other.
struct Step {
    act: for<'s> fn(&'s Stage) -> futures::future::BoxFuture<'s, ()>,
    done: fn(&Value) -> bool,
}

/// Ends the controllers at each of their writes in turn.
async fn walk(nodes: &[&str], steps: &[Step]) {
    walk_with(nodes, steps, controllers::Config::new("CA").node_grace).await;
}

/// The same; nodes are taken for lost after a silence of `grace`.
async fn walk_with(nodes: &[&str], steps: &[Step], grace: Duration) {
    let world = World::without_controllers(nodes).await;
    let stage = Stage::new(&world, "undisturbed").await;
    let never = Failpoint::new("undisturbed", 0, Side::Before);
    let mut controllers = start(&world, &never, grace);
    stage.furnished().await;
    never.arm();
    let mut wanted = Vec::new();
    for step in steps {
        (step.act)(&stage).await;
        wanted.push(settled(&stage, step.done).await);
    }
    controllers.shutdown().await;
    let mut walked = 0;
    for at in 1.. {
        let mut tripped = false;
        for side in [Side::Before, Side::After, Side::Lost] {
            tripped |= disturbed(&world, steps, &wanted, (at, side), grace).await;
        }
        if !tripped {
            break;
        }
        walked = at;
    }
    println!("{walked} writes walked, {} when undisturbed", never.writes());
    assert!(walked > 0, "no write was ever seen");
}

/// One run, ended at that write; whether it came so far.
async fn disturbed(
    world: &World,
    steps: &[Step],
    wanted: &[Value],
    (at, side): (usize, Side),
    grace: Duration,
) -> bool {
    let name = format!("at-{at}-{side:?}").to_lowercase();
    let stage = Stage::new(world, &name).await;
    let failpoint = Failpoint::new(&name, at, side);
    let mut controllers = start(world, &failpoint, grace);
    stage.furnished().await;
    failpoint.arm();
    let mut tripped = false;
    for (number, (step, wanted)) in steps.iter().zip(wanted).enumerate() {
        (step.act)(&stage).await;
        loop {
            tokio::select! {
                () = failpoint.tripped(), if !tripped => {
                    tripped = true;
                    if failpoint.is_end() {
                        controllers.shutdown().await;
                        failpoint.quiet().await;
                        controllers = start(world, &Failpoint::new("", 0, Side::Before), grace);
                    }
                }
                reached = reached(&stage, wanted) => match reached {
                    Ok(()) => break,
                    Err(found) => panic!(
                        "ended {side:?} write {at}, step {}: the end differs in\n{}", number + 1, normal::difference(wanted, &found)
                    ),
                }
            }
        }
    }
    controllers.shutdown().await;
    stage.leave().await;
    tripped
}

fn start(world: &World, failpoint: &std::sync::Arc<Failpoint>, grace: Duration) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let config = controllers::Config {
        autoscaler_period: Duration::from_millis(1500),
        node_grace: grace,
        ..controllers::Config::new("CA")
    };
    tasks.spawn(controllers::run(failpoint.client(world.service()), config));
    tasks
}

/// Waits for this state; else what it was at the deadline.
async fn reached(stage: &Stage, wanted: &Value) -> Result<(), Value> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut writes = stage.writes();
    loop {
        writes.borrow_and_update();
        let found = stage.state().await;
        if found == *wanted {
            return Ok(());
        }
        if tokio::time::timeout_at(deadline, writes.changed()).await.is_err() {
            return Err(found);
        }
    }
}

/// The state once it is as it should be and nobody writes any more.
async fn settled(stage: &Stage, done: fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut writes: watch::Receiver<u64> = stage.writes();
    loop {
        writes.borrow_and_update();
        let found = stage.state().await;
        let is_done = done(&found);
        let pause = if is_done { tokio::time::Instant::now() + QUIET } else { deadline };
        if tokio::time::timeout_at(pause, writes.changed()).await.is_err() {
            assert!(is_done, "undisturbed controllers did not get there: {found:#}");
            return found;
        }
    }
}
