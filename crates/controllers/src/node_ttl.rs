//! The annotation `node.alpha.kubernetes.io/ttl`: for how many seconds a kubelet may go on using the ConfigMaps and
//! Secrets it has; the more nodes there are the longer.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    Error, Shared,
    error::gone_is_fine,
    informer::Change,
    queue::{Key, Queue},
};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Upstream's steps: the fewest nodes, the most, and the seconds. They overlap, so that a node more or less changes
/// nothing back and forth.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step for that many nodes, coming from `step`.
fn next(step: usize, nodes: usize) -> usize {
    let mut step = step;
    while nodes > STEPS[step].1 {
        step += 1;
    }
    while nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

pub(crate) async fn run(shared: Shared) {
    let queue = Queue::default();
    shared.nodes.synced().await;
    // How many nodes there are, and the step.
    let count = Arc::new(Mutex::new((0_usize, 0_usize)));
    let (on_node, counted) = (queue.clone(), count.clone());
    shared.nodes.listen(move |change| {
        let mut count = counted.lock();
        match &change {
            Change::Applied { old: None, .. } => count.0 += 1,
            Change::Deleted(_) => count.0 = count.0.saturating_sub(1),
            Change::Applied { .. } => {}
        }
        count.1 = next(count.1, count.0);
        // Upstream, too, looks at a node when that changes, not when another comes.
        let node = change.object();
        if !matches!(change, Change::Deleted(_)) && !says(node, STEPS[count.1].2) {
            on_node.add(Key::new("", node.name_any()));
        }
    });
    queue.work("ttl", 2, |key| reconcile(shared.clone(), STEPS[count.lock().1].2, key)).await;
}

fn says(node: &Node, seconds: u32) -> bool {
    node.annotations().get(ANNOTATION).is_some_and(|found| *found == seconds.to_string())
}

async fn reconcile(shared: Shared, seconds: u32, key: Key) -> Result<(), Error> {
    if shared.nodes.get(&key).is_none_or(|node| says(&node, seconds)) {
        return Ok(());
    }
    let api: Api<Node> = Api::all(shared.client.clone());
    let patch = Patch::Strategic(json!({"metadata": {"annotations": {ANNOTATION: seconds.to_string()}}}));
    gone_is_fine(api.patch(&key.name, &PatchParams::default(), &patch).await)
}

#[cfg(test)]
mod tests {
    use super::{STEPS, next};

    #[test]
    fn more_nodes_wait_longer_and_the_edges_overlap() {
        let seconds = |step: usize, nodes: usize| STEPS[next(step, nodes)].2;
        assert_eq!([seconds(0, 0), seconds(0, 100), seconds(0, 101), seconds(0, 5000)], [0, 0, 15, 300]);
        assert_eq!([seconds(1, 90), seconds(1, 89), seconds(4, 1800), seconds(4, 1799)], [15, 0, 300, 60]);
    }
}
