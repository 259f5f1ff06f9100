//! A pod's sandbox: network, namespaces, memory file systems, and the files in `/etc`.

use std::{collections::BTreeMap, sync::Arc};

use engine::{Ipc, Namespace, PidMode, SandboxSpec};
use k8s_openapi::api::{
    core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    node::v1::RuntimeClass,
};
use kube::Api;

use super::{container_spec, etc_files};
use crate::{
    context::Context,
    net::{AttachRequest, HostPort},
    spec::{
        qos::{self, QosClass},
        resources,
    },
    volumes,
};

/// A sandbox that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxUp {
    /// The runtime's id.
    pub id: String,
    /// The pod's addresses, the primary one first; the node's for pods on its network.
    pub pod_ips: Vec<String>,
}

/// The id of a pod's sandbox.
pub fn id(uid: &str, attempt: u32) -> String {
    format!("{uid}.{attempt}")
}

/// Makes it; `whole` is what all containers together may have. Errors are the text of the `FailedCreatePodSandBox` event.
pub async fn create(
    context: &Arc<Context>,
    pod: &Pod,
    attempt: u32,
    whole: &ResourceRequirements,
) -> Result<SandboxUp, String> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let paths = context.paths(pod);
    let id = id(&uid, attempt);
    let host_network = spec.host_network == Some(true);
    check_runtime_class(context, spec).await?;
    let hostname =
        (!host_network).then(|| etc_files::kernel_hostname(pod, &context.config.cluster_domain)).transpose()?;
    let users = user_ids(context, spec, &uid)
        .map_err(|e| format!("rpc error: code = Unknown desc = failed to allocate ids for sandbox \"{id}\": {e}"))?;
    let (network, pod_ips) = if host_network {
        (Namespace::Host, context.host_ips())
    } else {
        let request = AttachRequest { pod_uid: uid.clone(), host_ports: host_ports(spec), users };
        let attachment = context.network.attach(request).await.map_err(|e| {
            format!("rpc error: code = Unknown desc = failed to setup network for sandbox \"{id}\": {e}")
        })?;
        let ips = attachment.addresses.iter().map(ToString::to_string).collect();
        (Namespace::Path(attachment.namespace), ips)
    };
    let failed =
        |what: &str, e: &dyn std::fmt::Display| format!("rpc error: code = Unknown desc = {what} \"{id}\": {e}");
    etc_files::write(context, pod, &paths, &pod_ips).map_err(|e| failed("failed to write the files of sandbox", &e))?;
    let tmpfs = volumes::memory_file_systems(pod, &paths)
        .map_err(|e| failed("failed to prepare memory volumes of sandbox", &e))?;
    let sandbox = SandboxSpec {
        id: id.clone(),
        network,
        ipc: if spec.host_ipc == Some(true) { Ipc::Host } else { Ipc::New },
        hostname,
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => PidMode::Host,
            (_, Some(true)) => PidMode::Shared,
            _ => PidMode::PerContainer,
        },
        sysctls: sysctls(spec),
        user_ids: users,
        cgroup_parent: match qos::of(pod) {
            QosClass::Guaranteed => String::new(),
            QosClass::Burstable => "burstable".to_owned(),
            QosClass::BestEffort => "besteffort".to_owned(),
        },
        resources: of_whole(whole),
        tmpfs,
        labels: BTreeMap::from([
            ("io.kubernetes.pod.name".to_owned(), pod.metadata.name.clone().unwrap_or_default()),
            ("io.kubernetes.pod.namespace".to_owned(), pod.metadata.namespace.clone().unwrap_or_default()),
            ("io.kubernetes.pod.uid".to_owned(), uid),
        ]),
        log_dir: Some(paths.logs.clone()),
        ..SandboxSpec::default()
    };
    let memory: Vec<_> = sandbox.tmpfs.iter().map(|t| t.path.clone()).collect();
    context
        .runtime
        .create_sandbox(sandbox)
        .await
        .map_err(|e| failed("failed to create containerd task for sandbox", &e))?;
    let group = spec.security_context.as_ref().and_then(|c| c.fs_group);
    for volume in memory {
        let path = context.runtime.host_path(&id, &volume).await;
        volumes::give_to_group(&path, group).map_err(|e| failed("failed to prepare memory volumes of sandbox", &e))?;
    }
    Ok(SandboxUp { id, pod_ips })
}

/// What a RuntimeClass may call the only runtime that there is.
const HANDLERS: &[&str] = &["hythe", "runc", "crun"];

/// Refuses pods that want another runtime, with containerd's words: a pod that asks for more isolation must not run with
/// less.
async fn check_runtime_class(context: &Context, spec: &PodSpec) -> Result<(), String> {
    let Some(name) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) else { return Ok(()) };
    let classes: Api<RuntimeClass> = Api::all(context.client.clone());
    let class = classes.get(name).await.map_err(|e| match e {
        kube::Error::Api(status) if status.code == 404 => status.message,
        other => format!("failed to lookup RuntimeClass {name}: {other}"),
    })?;
    match class.handler {
        handler if HANDLERS.contains(&handler.as_str()) => Ok(()),
        handler => Err(format!(
            "rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for \"{handler}\" is configured"
        )),
    }
}

/// `hostUsers: false`: ids that no other pod has (KEP-127).
fn user_ids(context: &Context, spec: &PodSpec, uid: &str) -> std::io::Result<Option<engine::IdRange>> {
    match spec.host_users {
        Some(false) => {
            let ids = context.ids.as_ref().ok_or_else(|| std::io::Error::other("they can't be recorded"))?;
            ids.range(uid).map(Some)
        }
        _ => Ok(None),
    }
}

/// `spec.resources` (KEP-2837): what all containers together may have.
pub fn of_whole(whole: &ResourceRequirements) -> engine::Resources {
    if *whole == ResourceRequirements::default() {
        return engine::Resources::default();
    }
    let like_one = Container { resources: Some(whole.clone()), ..Container::default() };
    let limits = container_spec::limits(&resources::of(&like_one, None));
    // A container that takes too much ends; the others go on.
    engine::Resources { unified: BTreeMap::new(), ..limits }
}

fn sysctls(spec: &PodSpec) -> BTreeMap<String, String> {
    let list = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    list.map(|s| (s.name.clone(), s.value.clone())).collect()
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|port| {
            Some(HostPort {
                host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
                host_port: u16::try_from(port.host_port?).ok().filter(|p| *p > 0)?,
                container_port: u16::try_from(port.container_port).ok()?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pod_declares_as_a_whole_limits_its_sandbox() {
        let of = |resources: serde_json::Value| of_whole(&serde_json::from_value(resources).expect("resources"));
        let whole = of(json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "64Mi"}}));
        assert_eq!((whole.cpu_shares, whole.cpu_quota), (Some(512), Some(100_000)));
        assert_eq!((whole.memory_limit, whole.unified.len()), (Some(64 << 20), 0));
        assert_eq!(of(json!({})), engine::Resources::default());
    }
}
