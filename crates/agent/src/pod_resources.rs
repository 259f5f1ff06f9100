//! The PodResources API (`k8s.io/kubelet/pkg/apis/podresources/v1`): which container has which devices, for programs of
//! this machine that watch hardware. No CPU or memory belongs to one container alone, so those lists are empty.

use std::{path::Path, sync::Arc};

use grpc::{Call, Message, Reply, Status};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::{context::Context, pods::phase::is_over};

/// Serves `kubelet.sock` in the directory of the configuration until `stop`.
pub async fn serve(context: Arc<Context>, stop: CancellationToken) {
    let Some(directory) = context.config.pod_resources.clone() else { return };
    match listen(&directory) {
        Ok(listener) => {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let context = Arc::clone(&context);
                let answers = grpc::connection(stream, move |call: Call| {
                    let context = Arc::clone(&context);
                    async move { answer(&context, call).await }
                });
                tokio::spawn(stop.clone().run_until_cancelled_owned(answers));
            }
        }
        Err(error) => tracing::warn!(%error, dir = %directory.display(), "nobody can ask which pod has which device"),
    }
}

fn listen(directory: &Path) -> std::io::Result<UnixListener> {
    std::fs::create_dir_all(directory)?;
    let socket = directory.join("kubelet.sock");
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(socket),
    }
}

async fn answer(context: &Context, mut call: Call) -> Result<Reply, Status> {
    match call.method.as_str() {
        // What the first version told is the beginning of what this one does.
        "v1.PodResourcesLister/List" | "v1alpha1.PodResourcesLister/List" => {
            let views = context.pods.all();
            let pods = views.iter().map(|view| &view.pod).filter(|pod| !is_over(pod));
            Ok(Reply::One(Message::default().messages(1, pods.map(|pod| resources_of(context, pod)))))
        }
        "v1.PodResourcesLister/GetAllocatableResources" => {
            Ok(Reply::One(Message::default().messages(1, context.devices.healthy().iter().map(device))))
        }
        "v1.PodResourcesLister/Get" => {
            let message = call.message().await?;
            let asked = grpc::Fields::read(&message);
            let (name, namespace) = (asked.text(1), asked.text(2));
            let found = context.pods.named(&namespace, &name).ok_or_else(|| {
                Status::new(Status::UNKNOWN, format!("pod {name} in namespace {namespace} not found"))
            })?;
            if is_over(&found.pod) {
                let text = format!("pod {name} in namespace {namespace} is not active");
                return Err(Status::new(Status::UNKNOWN, text));
            }
            Ok(Reply::One(Message::default().message(1, &resources_of(context, &found.pod))))
        }
        other => {
            let (service, method) = other.split_once('/').unwrap_or((other, ""));
            Err(Status::new(Status::UNIMPLEMENTED, format!("unknown method {method} for service {service}")))
        }
    }
}

/// `PodResources`
fn resources_of(context: &Context, pod: &Pod) -> Message {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    let meta = &pod.metadata;
    let uid = text(&meta.uid);
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).filter(is_sidecar);
    let containers = sidecars.chain(pod.spec.iter().flat_map(|s| &s.containers)).map(|container| {
        let devices = context.devices.held_by(&uid, &container.name);
        Message::default().text(1, &container.name).messages(2, devices.iter().map(device))
    });
    Message::default().text(1, &text(&meta.name)).text(2, &text(&meta.namespace)).messages(3, containers)
}

/// `ContainerDevices`: each device has one of its own, as upstream's.
fn device((resource, id, nodes): &(String, String, Vec<u64>)) -> Message {
    let message = Message::default().text(1, resource).texts(2, [id.as_str()]);
    let nodes: Vec<Message> = nodes.iter().map(|node| Message::default().number(1, *node)).collect();
    if nodes.is_empty() { message } else { message.message(3, &Message::default().messages(1, nodes)) }
}
