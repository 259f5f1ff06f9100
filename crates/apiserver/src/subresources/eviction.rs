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
/// Upstream's bound on evictions that the budget's controller has not seen yet.
const MOST_DISRUPTED: usize = 2000;

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
        delete::check_preconditions(call.resource, &call.path.name, &options, &pod)?;
        if !needs_budget(&pod) || take_budget(call, &pod, options.dry_run).await? {
            if !options.dry_run {
                mark(call).await?;
                call.server.cache.fresh().await;
            }
            // The mark has changed the version that the caller asked for and got.
            let options = DeleteOptions { resource_version: None, ..options };
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

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Sets a condition of a status; its time stays if its value does.
fn set_condition(status: &mut Value, mut condition: Value) {
    let Some(list) = status["conditions"].as_array_mut() else {
        status["conditions"] = json!([condition]);
        return;
    };
    match list.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(present) => {
            if present["status"] == condition["status"] && present["lastTransitionTime"].is_string() {
                condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            *present = condition;
        }
        None => list.push(condition),
    }
}

/// Tells those who own the pod why it goes.
async fn mark(call: &Call<'_>) -> Outcome<()> {
    for _ in 0..ATTEMPTS {
        let Some(stored) = call.kind.get(&call.key()) else { return Ok(()) };
        let mut pod = stored.parse();
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null,
            "lastTransitionTime": rfc3339(Timestamp::now()), "observedGeneration": pod["metadata"]["generation"]});
        set_condition(&mut pod["status"], condition);
        let txn = Txn {
            compares: vec![Compare { key: stored.key.clone(), mod_revision: stored.revision }],
            changes: vec![Change::Put(stored.key.clone(), encode::encode(&pod))],
        };
        if let store::Outcome::Committed(_) = call.txn(txn).await? {
            return Ok(());
        }
        call.server.cache.fresh().await;
    }
    Err(call.conflict())
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
            return Err(Status::new(500, "", message));
        }
    };
    let name = tree["metadata"]["name"].as_str().unwrap_or("");
    let status = &tree["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if !is_ready(pod) {
        // A pod that serves nobody disrupts nobody, unless the budget needs each pod that may yet come up.
        let always = tree["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
        let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
        if always || healthy {
            return Ok(true);
        }
    }
    if number("observedGeneration") < tree["metadata"]["generation"].as_i64().unwrap_or(0) {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        return Err(too_many(Cause { reason: "DisruptionBudget".into(), message, field: String::new() }, 10));
    }
    let refuse = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudgets", name, why));
    if number("disruptionsAllowed") < 0 {
        return refuse("pdb disruptions allowed is negative");
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return refuse("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if number("disruptionsAllowed") == 0 {
        let message = why_none(name, status);
        return Err(too_many(Cause { reason: "DisruptionBudget".into(), message, field: String::new() }, 0));
    }
    if dry_run {
        return Ok(true);
    }
    let mut new = tree.clone();
    let (left, now) = (number("disruptionsAllowed") - 1, rfc3339(Timestamp::now()));
    new["status"]["disruptionsAllowed"] = left.into();
    new["status"]["disruptedPods"][&call.path.name] = now.as_str().into();
    if left == 0 {
        let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "", "lastTransitionTime": now, "observedGeneration": status["observedGeneration"]});
        set_condition(&mut new["status"], condition);
    }
    let txn = Txn {
        compares: vec![Compare { key: budget.key.clone(), mod_revision: budget.revision }],
        changes: vec![Change::Put(budget.key.clone(), encode::encode(&new))],
    };
    Ok(matches!(call.txn(txn).await?, store::Outcome::Committed(_)))
}

/// Why the budget lets no pod go, by what its controller said last.
fn why_none(name: &str, status: &Value) -> String {
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let allowed = conditions.find(|condition| condition["type"] == "DisruptionAllowed");
    let refusal = allowed.filter(|condition| condition["status"] == "False");
    let said = refusal.and_then(|c| Some((c["message"].as_str()?, c["reason"] == "SyncFailed")));
    let (has, needs) = (number("currentHealthy"), number("desiredHealthy"));
    match said.filter(|(message, _)| !message.is_empty()) {
        // Its numbers are of no use then.
        Some((message, true)) => {
            format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
            )
        }
        _ if has <= needs => format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently"),
        Some((message, _)) => format!("The disruption budget {name} does not allow evicting pods currently: {message}"),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

fn too_many(cause: Cause, retry_after_seconds: u32) -> Status {
    let causes = if cause == Cause::default() { Vec::new() } else { vec![cause] };
    Status::new(429, "TooManyRequests", REFUSED).details(Details { causes, retry_after_seconds, ..Details::default() })
}
