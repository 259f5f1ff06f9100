//! A Job's pod from its template. Pure.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};
use kube::ResourceExt;

use super::{
    decide::Wanted,
    facts::{FAILURES, FINALIZER, IGNORED_FAILURES, INDEX},
};
use crate::pod_control;

const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Room that the server's random suffix leaves in a name that is a DNS label.
const PREFIX: usize = 63 - 5;

/// The pod that is wanted.
pub fn build(job: &Job, spec: &JobSpec, wanted: &Wanted) -> Pod {
    let mut pod = pod_control::from_template(job, &spec.template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    let Some(index) = wanted.index else { return pod };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if let Some((counted, ignored)) = wanted.failures {
        annotations.insert(FAILURES.into(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.into(), ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let (name, suffix) = (job.name_any(), format!("-{index}-"));
    let room = PREFIX.saturating_sub(suffix.len());
    pod.metadata.generate_name = Some(format!("{}{suffix}", &name[..name.len().min(room)]));
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            let env = container.env.get_or_insert_default();
            if env.iter().all(|v| v.name != VARIABLE) {
                env.push(variable());
            }
        }
    }
    pod
}

fn variable() -> EnvVar {
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    EnvVar {
        name: VARIABLE.into(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    }
}
