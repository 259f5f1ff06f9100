//! Creates the Node object, ready at once, and keeps its status true.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
        NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    runtime::WatchStreamExt,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    conditions::{self, Health},
    extended::Extended,
};
use crate::{config::AgentConfig, context::Context, csi, events::Severity, runtime::ImageInfo};

/// Between reports when nothing changed.
const REPORT_EVERY: Duration = Duration::from_secs(300);
/// Before a report that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Says that volumes are attached to the node by a controller, not by the node itself.
const MANAGED_ATTACHMENT: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Images listed in the status, as upstream limits them.
const IMAGES: usize = 50;

/// Creates the Node or brings the existing one up to date; retried until the API answers.
pub async fn register(context: &Arc<Context>, stop: &CancellationToken) -> Option<Node> {
    let api: Api<Node> = Api::all(context.client.clone());
    let name = context.config.node_name.clone();
    let mut delay = Duration::from_millis(20);
    loop {
        let images = context.images.list().await.unwrap_or_default();
        let wanted = node(context, &images, &[]);
        match create_or_adopt(&api, &name, &wanted).await {
            Ok((node, before)) => {
                // One that someone deleted is registered again, under another uid.
                let _ = context.node.set(node.clone());
                context.recorder.node(&node, Severity::Normal, "Starting", "Starting kubelet.");
                tell(context, &node, &before);
                return Some(node);
            }
            Err(error) => tracing::debug!(%error, "the node is not registered yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(delay) => delay = (delay * 2).min(Duration::from_secs(5)),
        }
    }
}

/// The node as it is in the API now, and the pressures that were told of it before.
async fn create_or_adopt(
    api: &Api<Node>,
    name: &str,
    wanted: &Node,
) -> Result<(Node, Vec<NodeCondition>), kube::Error> {
    match api.create(&PostParams::default(), wanted).await {
        Ok(created) => {
            // Status is dropped on create by a server that keeps it apart.
            let has = created.status.as_ref().and_then(|s| s.conditions.as_ref()).is_some_and(|c| !c.is_empty());
            let node = if has { created } else { write_status(api, name, &json!(wanted.status)).await? };
            Ok((node, Vec::new()))
        }
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let own =
                json!({"metadata": {"labels": wanted.metadata.labels, "annotations": wanted.metadata.annotations}});
            let known = api.patch(name, &PatchParams::default(), &Patch::Merge(own)).await?;
            let mut status = wanted.status.clone().unwrap_or_default();
            keep_transitions(&mut status, known.status.as_ref());
            let node = write_status(api, name, &json!(status)).await?;
            // Its start makes it ready again.
            let before = known.status.and_then(|s| s.conditions).unwrap_or_default();
            Ok((node, before.into_iter().filter(|condition| condition.type_ != "Ready").collect()))
        }
        Err(error) => Err(error),
    }
}

fn keep_transitions(status: &mut NodeStatus, known: Option<&NodeStatus>) {
    let old = known.and_then(|s| s.conditions.clone()).unwrap_or_default();
    for condition in status.conditions.iter_mut().flatten() {
        if let Some(same) = old.iter().find(|c| c.type_ == condition.type_ && c.status == condition.status) {
            condition.last_transition_time.clone_from(&same.last_transition_time);
        }
    }
}

async fn write_status(api: &Api<Node>, name: &str, status: &Value) -> Result<Node, kube::Error> {
    let patch = json!({"status": status});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await
}

/// Keeps the status true until `stop`: written when something changed, the resources that others declare included, and
/// every five minutes.
pub async fn keep(context: Arc<Context>, registered: Node, stop: CancellationToken) {
    let api: Api<Node> = Api::all(context.client.clone());
    let name = context.config.node_name.clone();
    let mut known = registered.status.unwrap_or_default();
    let mut changes = context.health.subscribe();
    let mut devices = context.devices.changes();
    let mut extended = Extended::after(&known);
    let mut nodes = watching::one(api.clone(), &name).applied_objects();
    let mut report_at = Instant::now() + REPORT_EVERY;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // Its conditions are Unknown by now, and its pods are on their way out.
            () = context.returned.notified() => {
                if let Ok(node) = api.get(&name).await {
                    known = node.status.unwrap_or_default();
                }
            }
            () = context.images_changed.notified() => {}
            () = tokio::time::sleep_until(report_at) => {}
            // The sender is in the context, so this cannot fail.
            _ = changes.changed() => {}
            _ = devices.changed() => {}
            seen = nodes.next() => {
                let Some(Ok(Node { status: Some(seen), .. })) = seen else { continue };
                if extended.amounts(&context.devices.amounts(), &seen).hold_in(&seen) {
                    continue;
                }
                (known.capacity, known.allocatable) = (seen.capacity, seen.allocatable);
            }
        }
        let health = *changes.borrow_and_update();
        report_at = Instant::now() + REPORT_EVERY;
        let images = context.images.list().await.unwrap_or_default();
        let old = known.conditions.clone().unwrap_or_default();
        let status = NodeStatus {
            conditions: Some(conditions::of(health, &old, Timestamp::now())),
            images: Some(image_list(&images)),
            ..NodeStatus::default()
        };
        let mut status = json!(status);
        extended.amounts(&context.devices.amounts(), &known).put_into(&mut status);
        match write_status(&api, &name, &status).await {
            Ok(node) => {
                extended.written();
                tell(&context, &node, known.conditions.as_deref().unwrap_or_default());
                known = node.status.unwrap_or_default();
            }
            Err(kube::Error::Api(error)) if error.code == 404 => {
                // Someone deleted the Node while it lives: it is registered again.
                if let Some(node) = register(&context, &stop).await {
                    known = node.status.unwrap_or_default();
                    csi::tell_again(&context).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the node's status could not be written yet");
                report_at = Instant::now() + RETRY;
            }
        }
    }
}

/// Records an event for each pressure that began or ended, and for a node that is ready again or no more.
fn tell(context: &Context, node: &Node, before: &[NodeCondition]) {
    let name = &context.config.node_name;
    for condition in node.status.iter().flat_map(|s| s.conditions.iter().flatten()) {
        let same = before.iter().any(|c| c.type_ == condition.type_ && c.status == condition.status);
        let reason = match (condition.type_.as_str(), condition.status.as_str()) {
            ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
            ("MemoryPressure", "False") => "NodeHasSufficientMemory",
            ("DiskPressure", "True") => "NodeHasDiskPressure",
            ("DiskPressure", "False") => "NodeHasNoDiskPressure",
            ("PIDPressure", "True") => "NodeHasInsufficientPID",
            ("PIDPressure", "False") => "NodeHasSufficientPID",
            ("Ready", "True") => "NodeReady",
            ("Ready", "False") => "NodeNotReady",
            _ => continue,
        };
        if !same {
            let text = format!("Node {name} status is now: {reason}");
            context.recorder.node(node, Severity::Normal, reason, text);
        }
    }
}

/// The whole Node object.
fn node(context: &Context, images: &[ImageInfo], old: &[NodeCondition]) -> Node {
    let config = &context.config;
    let machine = &context.machine;
    let allocatable = machine.allocatable();
    let amounts = |cpu: String, memory: i64, storage: i64| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu)),
            ("memory".to_owned(), Quantity(format!("{}Ki", memory / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", storage / 1024))),
            ("hugepages-1Gi".to_owned(), Quantity("0".to_owned())),
            ("hugepages-2Mi".to_owned(), Quantity("0".to_owned())),
            ("pods".to_owned(), Quantity(config.max_pods.to_string())),
        ])
    };
    let text = |s: &str| Some(s.to_owned()).filter(|s| !s.is_empty());
    let mut addresses: Vec<NodeAddress> = config
        .node_ips
        .iter()
        .map(|ip| NodeAddress { type_: "InternalIP".to_owned(), address: ip.to_string() })
        .collect();
    addresses.push(NodeAddress { type_: "Hostname".to_owned(), address: config.node_name.clone() });
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(context)),
            annotations: Some(BTreeMap::from([(MANAGED_ATTACHMENT.to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: text(&config.pod_cidr),
            pod_cidrs: text(&config.pod_cidr).map(|c| vec![c]),
            taints: Some(config.register_with_taints.clone()).filter(|taints| !taints.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            capacity: Some(amounts(machine.cpus.to_string(), machine.memory_bytes, machine.storage_bytes)),
            allocatable: Some(amounts(cpus(allocatable.cpu_milli), allocatable.memory, allocatable.ephemeral_storage)),
            conditions: Some(conditions::of(Health::default(), old, Timestamp::now())),
            addresses: Some(addresses),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
            }),
            node_info: Some(system_info(config, machine)),
            images: Some(image_list(images)),
            declared_features: Some(DECLARED.map(str::to_owned).to_vec()),
            features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
            runtime_handlers: Some(runtime_handlers(user_namespaces("/proc/sys/user/max_user_namespaces"))),
            ..NodeStatus::default()
        }),
    }
}

/// What pods and requests may want of a node and not all nodes of 1.36 have (KEP-5328), in alphabetical order.
const DECLARED: [&str; 4] = [
    "ExtendWebSocketsToKubelet",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
];

/// What the one runtime can do (KEP-127: who schedules pods of their own users looks here).
fn runtime_handlers(user_namespaces: bool) -> Vec<NodeRuntimeHandler> {
    let features =
        NodeRuntimeHandlerFeatures { recursive_read_only_mounts: Some(true), user_namespaces: Some(user_namespaces) };
    vec![NodeRuntimeHandler { name: Some(String::new()), features: Some(features) }]
}

/// Whether the kernel makes user namespaces; `limit` is the file that says how many.
fn user_namespaces(limit: &str) -> bool {
    let limit = std::fs::read_to_string(limit).unwrap_or_default();
    limit.trim().parse::<u64>().is_ok_and(|limit| limit > 0)
}

/// Thousandths of a CPU as a quantity.
fn cpus(milli: i64) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") }
}

fn labels(context: &Context) -> BTreeMap<String, String> {
    let arch = &context.machine.architecture;
    let usual = [
        ("kubernetes.io/hostname", context.config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch.as_str()),
    ];
    let usual = usual.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
    usual.chain(context.config.labels.iter().cloned()).collect()
}

fn system_info(config: &AgentConfig, machine: &crate::node::Machine) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!("hythe://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: config.version.clone(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..NodeSystemInfo::default()
    }
}

fn image_list(images: &[ImageInfo]) -> Vec<ContainerImage> {
    let mut images: Vec<&ImageInfo> = images.iter().collect();
    images.sort_by_key(|i| std::cmp::Reverse(i.size));
    images.truncate(IMAGES);
    images
        .into_iter()
        .map(|i| ContainerImage {
            names: Some(i.names.clone()),
            size_bytes: Some(i64::try_from(i.size).unwrap_or(i64::MAX)),
        })
        .collect()
}
