//! Admission: what a request must pass, and what it is given on the way. A row of a table says which requests a step
//! is about; the step itself is a function in a file of its own.

mod certificate_request;
mod default_class;
mod in_use_protection;
mod limit_ranger;
mod namespace_lifecycle;
mod node_taint;
mod pod_resize;
mod pod_security;
mod priority;
mod runtime_class;
pub(crate) mod service_account;
mod sidecar;
mod toleration;
mod topology_labels;
mod volume_claim_resize;

use std::{sync::Arc, time::Instant};

use api::{resource::Resource, status::Status};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{cache::Cached, config::User, failure::Outcome, server::ApiServer};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

use Operation::{Create, Delete, Update};

/// The request as steps see it.
pub(crate) struct Attributes<'a> {
    pub server: &'a Arc<ApiServer>,
    pub operation: Operation,
    pub resource: &'static Resource,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// Empty for cluster scope.
    pub namespace: &'a str,
    pub name: &'a str,
    pub user: &'a User,
    /// The object before the change.
    pub old: Option<&'a Value>,
    /// What is said besides the answer.
    pub warnings: &'a Mutex<Vec<String>>,
}

impl Attributes<'_> {
    /// 403 for the object of the request.
    fn forbidden(&self, why: impl AsRef<str>) -> Status {
        Status::forbidden(self.resource.group, self.resource.plural, self.name, why)
    }

    /// Adds a `Warning` header; a step that runs again says nothing twice.
    fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// All objects of a storage prefix in a namespace (all of them if it is empty), in order of their names.
    fn objects(&self, storage: &str, namespace: &str) -> Vec<Arc<Cached>> {
        self.server.cache.kind(storage).snapshot(namespace, None, 0, |_| true).objects
    }
}

/// Changes the object or refuses the request. For a delete the object is null.
type Run = fn(&Attributes<'_>, &mut Value) -> Outcome<()>;

/// One row: what upstream calls a plugin.
struct Step {
    /// Upstream's name of it.
    name: &'static str,
    /// Whether it only looks at what others have changed.
    judges: bool,
    /// The operations it is about.
    on: &'static [Operation],
    /// The resources it is about as (group, resource or resource/subresource); `*` is every resource.
    of: &'static [(&'static str, &'static str)],
    run: Run,
}

const PODS: &[(&str, &str)] = &[("", "pods")];

/// The built-in steps in upstream's order: first those that change objects, then those that only judge. Quotas come
/// last of all, in the transaction of the write itself: see [`crate::allocate`].
const STEPS: &[Step] = &[
    Step {
        name: "NamespaceLifecycle",
        judges: false,
        on: &[Create, Delete],
        of: &[("", "*")],
        run: namespace_lifecycle::judge,
    },
    Step {
        name: "CertificateRequester",
        judges: false,
        on: &[Create],
        of: &[("certificates.k8s.io", "certificatesigningrequests")],
        run: certificate_request::name_requester,
    },
    Step { name: "Sidecar", judges: false, on: &[Create], of: PODS, run: sidecar::inject },
    Step { name: "LimitRanger", judges: false, on: &[Create], of: PODS, run: limit_ranger::fill_in },
    Step { name: "ServiceAccount", judges: false, on: &[Create], of: PODS, run: service_account::give },
    Step { name: "TaintNodesByCondition", judges: false, on: &[Create], of: &[("", "nodes")], run: node_taint::add },
    Step { name: "Priority", judges: false, on: &[Create, Update], of: PODS, run: priority::of_pod },
    Step { name: "DefaultTolerationSeconds", judges: false, on: &[Create, Update], of: PODS, run: toleration::give },
    Step {
        name: "DefaultStorageClass",
        judges: false,
        on: &[Create],
        of: &[("", "persistentvolumeclaims")],
        run: default_class::of_claim,
    },
    Step {
        name: "StorageObjectInUseProtection",
        judges: false,
        on: &[Create],
        of: &[("", "persistentvolumeclaims"), ("", "persistentvolumes"), ("storage.k8s.io", "volumeattributesclasses")],
        run: in_use_protection::finalize,
    },
    Step { name: "RuntimeClass", judges: false, on: &[Create], of: PODS, run: runtime_class::give },
    Step {
        name: "DefaultIngressClass",
        judges: false,
        on: &[Create],
        of: &[("networking.k8s.io", "ingresses")],
        run: default_class::of_ingress,
    },
    Step { name: "PodTopologyLabels", judges: false, on: &[Create], of: PODS, run: topology_labels::give },
    Step {
        name: "PodTopologyLabels",
        judges: false,
        on: &[Update],
        of: &[("", "pods/binding")],
        run: topology_labels::give,
    },
    Step {
        name: "LimitRanger",
        judges: true,
        on: &[Create],
        of: &[("", "pods"), ("", "persistentvolumeclaims")],
        run: limit_ranger::judge,
    },
    Step {
        name: "LimitRanger",
        judges: true,
        on: &[Update],
        of: &[("", "pods/resize"), ("", "persistentvolumeclaims")],
        run: limit_ranger::judge,
    },
    Step { name: "PodSecurity", judges: true, on: &[Create, Update], of: &[("", "*")], run: pod_security::judge },
    Step {
        name: "Priority",
        judges: true,
        on: &[Create, Update],
        of: &[("scheduling.k8s.io", "priorityclasses")],
        run: priority::judge_class,
    },
    Step {
        name: "PodResizeValidator",
        judges: true,
        on: &[Update],
        of: &[("", "pods/resize")],
        run: pod_resize::judge,
    },
    Step {
        name: "PersistentVolumeClaimResize",
        judges: true,
        on: &[Update],
        of: &[("", "persistentvolumeclaims")],
        run: volume_claim_resize::judge,
    },
];

impl Step {
    fn is_about(&self, request: &Attributes<'_>) -> bool {
        self.on.contains(&request.operation)
            && self.of.iter().any(|(group, name)| {
                let (plural, subresource) = name.split_once('/').unwrap_or((name, ""));
                plural == "*"
                    || (*group == request.resource.group
                        && plural == request.resource.plural
                        && subresource == request.subresource)
            })
    }
}

/// Whether steps judge a new object of this kind by objects other than its namespace, which must be up to date then.
pub(crate) fn looks_at_others(resource: &Resource) -> bool {
    let others = STEPS.iter().filter(|step| step.on.contains(&Create)).flat_map(|step| step.of);
    others.into_iter().any(|(group, plural)| *group == resource.group && *plural == resource.plural)
}

/// Runs all steps that are about the request.
pub(crate) fn admit(request: &Attributes<'_>, object: &mut Value) -> Outcome<()> {
    let families = &request.server.metrics.families;
    let operation = match request.operation {
        Create => "CREATE",
        Update => "UPDATE",
        Delete => "DELETE",
    };
    let rejected = |outcome: &Outcome<()>| if outcome.is_err() { "true" } else { "false" };
    for (judges, phase) in [(false, "admit"), (true, "validate")] {
        let begin = Instant::now();
        let mut steps = STEPS.iter().filter(|step| step.judges == judges && step.is_about(request));
        let outcome = steps.try_for_each(|step| {
            let begin = Instant::now();
            let outcome = (step.run)(request, object);
            let labels = [step.name, operation, rejected(&outcome), phase];
            families.plugins.observe(&labels, begin.elapsed().as_secs_f64());
            outcome
        });
        families.admission.observe(&[operation, rejected(&outcome), phase], begin.elapsed().as_secs_f64());
        outcome?;
    }
    Ok(())
}
