//! `pods/eviction`: a delete that asks the disruption budgets first.

use std::sync::Arc;

use api::{
    selector::LabelSelector,
    status::{Cause, Details, Status},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{Change, Compare, Txn};

use crate::{
    cache::Cached,
    call::{Call, Reply},
    decode, encode,
    failure::Outcome,
    verbs::{
        create::rfc3339,
        delete::{self, DeleteOptions},
    },
};

const BUDGETS: &str = "poddisruptionbudgets.policy";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
const ATTEMPTS: usize = 8;

pub(super) async fn evict(call: &Call<'_>) -> Outcome<Reply> {
    let eviction =
        if call.body.is_empty() { json!({}) } else { decode::document(call, "io.k8s.api.policy.v1.Eviction")? };
    if let Some(name) = eviction["metadata"]["name"].as_str().filter(|name| !name.is_empty() && *name != call.path.name)
    {
        let _ = name;
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = match &eviction["deleteOptions"] {
        Value::Null => {
            DeleteOptions { dry_run: call.query.all("dryRun").any(|v| v == "All"), ..DeleteOptions::default() }
        }
        tree => DeleteOptions::of_tree(tree, call)?,
    };
    call.server.cache.fresh().await;
    for _ in 0..ATTEMPTS {
        let pod = call.kind.get(&call.key()).ok_or_else(|| call.not_found())?.parse();
        if !needs_budget(&pod) || take_budget(call, &pod, options.dry_run).await? {
            delete::delete_named(call, &call.path.name, &call.key(), &options).await?;
            return Ok(Reply::Tree {
                code: 201,
                tree: json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
            });
        }
        call.server.cache.fresh().await;
    }
    Err(too_many(Cause::default(), 10))
}

/// A pod that has ended or never began disrupts nothing.
fn needs_budget(pod: &Value) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or("");
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && !pod["metadata"]["deletionTimestamp"].is_string()
}

/// Whether the pod may go; takes one disruption from its budget. `false`: someone else changed the budget.
async fn take_budget(call: &Call<'_>, pod: &Value, dry_run: bool) -> Outcome<bool> {
    let budgets = call.server.cache.kind(BUDGETS).snapshot(&call.path.namespace, None, 0, |_| true).objects;
    let matching: Vec<(Arc<Cached>, Value)> = budgets
        .into_iter()
        .map(|budget| (budget.clone(), budget.parse()))
        .filter(|(_, tree)| LabelSelector::from_object(&tree["spec"]["selector"]).is_ok_and(|s| s.matches_object(pod)))
        .collect();
    let (budget, tree) = match matching.as_slice() {
        [] => return Ok(true),
        [one] => one,
        _ => {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal_error(message));
        }
    };
    let name = tree["metadata"]["name"].as_str().unwrap_or("");
    let status = &tree["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if number("observedGeneration") < tree["metadata"]["generation"].as_i64().unwrap_or(0) {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many(Cause { reason: "DisruptionBudget".into(), message, field: String::new() }, 10));
    }
    if number("disruptionsAllowed") < 1 {
        let message = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("desiredHealthy"),
            number("currentHealthy")
        );
        return Err(too_many(Cause { reason: "DisruptionBudget".into(), message, field: String::new() }, 0));
    }
    if dry_run {
        return Ok(true);
    }
    let mut new = tree.clone();
    new["status"]["disruptionsAllowed"] = (number("disruptionsAllowed") - 1).into();
    new["status"]["disruptedPods"][&call.path.name] = rfc3339(Timestamp::now()).into();
    let txn = Txn {
        compares: vec![Compare { key: budget.key.clone(), mod_revision: budget.revision }],
        changes: vec![Change::Put(budget.key.clone(), encode::encode(&new))],
    };
    Ok(matches!(call.txn(txn).await?, store::Outcome::Committed(_)))
}

fn too_many(cause: Cause, retry_after_seconds: u32) -> Status {
    let causes = if cause == Cause::default() { Vec::new() } else { vec![cause] };
    Status::new(429, "TooManyRequests", REFUSED).details(Details { causes, retry_after_seconds, ..Details::default() })
}
