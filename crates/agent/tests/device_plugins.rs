//! Hardware by way of programs that know it.

use std::{convert::Infallible, path::Path};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};

use grpc::{Fields, Message, Target};

use crate::cluster::{Node, container};

/// `DevicePluginOptions` with `get_preferred_allocation_available`.
const PREFERS: &[u8] = &[2 << 3, 1];

/// A length-delimited field.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(value.len()).expect("short")];
    out.extend_from_slice(value);
    out
}

fn frame(message: &[u8]) -> Bytes {
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
    out.extend_from_slice(message);
    out.into()
}

/// Devices by id, each healthy or not.
fn list(devices: &[(&str, bool)]) -> Vec<u8> {
    let one = |(id, healthy): &(&str, bool)| {
        let health: &[u8] = if *healthy { b"Healthy" } else { b"Unhealthy" };
        field(1, &[field(1, id.as_bytes()), field(2, health)].concat())
    };
    devices.iter().flat_map(one).collect()
}

/// A plugin on `dir/gpu.sock` that tells what `devices` holds and, asked for a device, names it in a variable.
fn plugin(dir: &Path, devices: watch::Receiver<Vec<u8>>) -> tokio::task::JoinHandle<()> {
    plugin_that_needs(dir, devices, &[])
}

/// The same; `more` is at the end of what a container needs.
fn plugin_that_needs(dir: &Path, devices: watch::Receiver<Vec<u8>>, more: &[u8]) -> tokio::task::JoinHandle<()> {
    let more = more.to_vec();
    let listener = UnixListener::bind(dir.join("gpu.sock")).expect("bound");
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let (devices, more) = (devices.clone(), more.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (devices, more) = (devices.clone(), more.clone());
                async move { Ok::<_, Infallible>(answer(request, devices, &more).await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    devices: watch::Receiver<Vec<u8>>,
    more: &[u8],
) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    if request.uri().path().ends_with("GetDevicePluginOptions") {
        return answered(&[]);
    }
    if request.uri().path().ends_with("ListAndWatch") {
        let told = futures::stream::unfold((devices, true), |(mut devices, first)| async move {
            if !first {
                devices.changed().await.ok()?;
            }
            let list = devices.borrow_and_update().clone();
            Some((Ok(Frame::data(frame(&list))), (devices, false)))
        });
        return Response::new(StreamBody::new(told).boxed_unsync());
    }
    let prefers = request.uri().path().ends_with("GetPreferredAllocation");
    let asked = request.into_body().collect().await.expect("a body").to_bytes();
    if prefers {
        // PreferredAllocationRequest { container_requests { available, must include, size } }: the last of the free ones.
        let ids: Vec<&[u8]> = asked[8..].split(|b| *b == 0x0a).map(|id| &id[1..3]).collect();
        return answered(&field(1, &field(1, ids.last().expect("a free one"))));
    }
    // AllocateRequest { container_requests { devicesIDs } }
    let id = String::from_utf8_lossy(&asked[9..]).into_owned();
    let env = field(1, &[field(1, b"GPU"), field(2, id.as_bytes())].concat());
    let mount = field(2, &[field(1, b"/gpu"), field(2, b"/opt/gpu"), vec![0x18, 1]].concat());
    let device = field(3, &[field(1, b"/dev/gpu"), field(2, b"/dev/null"), field(3, b"rw")].concat());
    let annotation = field(4, &[field(1, b"gpu"), field(2, b"yes")].concat());
    let response = field(1, &[&env, &mount, &device, &annotation, more].concat());
    answered(&response)
}

fn answered(response: &[u8]) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(frame(response))), Ok(Frame::trailers(trailers))];
    Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync())
}

/// Registers with `DevicePluginOptions`; gives the status.
async fn register(dir: &Path, version: &str, options: &[u8]) -> String {
    let socket = dir.join("kubelet.sock");
    let connect = async {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let stream = tokio::time::timeout(std::time::Duration::from_secs(20), connect).await.expect("the agent listens");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let message =
        [field(1, version.as_bytes()), field(2, b"gpu.sock"), field(3, b"example.com/gpu"), field(4, options)].concat();
    let request = Request::post("http://localhost/v1beta1.Registration/Register")
        .header("content-type", "application/grpc")
        .body(Full::new(frame(&message)))
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer").into_body().collect().await.expect("a body");
    let trailers = answer.trailers().expect("trailers");
    trailers["grpc-status"].to_str().expect("text").to_owned()
}

fn amounts(node: Option<&Value>) -> Option<(String, String)> {
    let status = &node?["status"];
    let of = |what: &str| Some(status[what]["example.com/gpu"].as_str()?.to_owned());
    Some((of("capacity")?, of("allocatable")?))
}

async fn until(node: &Node, capacity: &str, allocatable: &str) {
    let wanted = (capacity.to_owned(), allocatable.to_owned());
    node.api.until("/api/v1/nodes/node", |n| (amounts(n)? == wanted).then_some(())).await;
}

fn declare(node: &Node, name: &str) -> String {
    node.declare(name, |pod| {
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"example.com/gpu": "1"}});
    })
}

#[tokio::test]
async fn a_plugins_devices_are_the_nodes_and_go_to_one_container_each() {
    let node = Node::start();
    let dir = node.directory.path().join("device-plugins");
    assert_eq!(register(&dir, "v1alpha9", &[]).await, "2", "another version is refused");
    let (devices, told) = watch::channel(list(&[("g0", true), ("g1", false)]));
    let serving = plugin(&dir, told);
    assert_eq!(register(&dir, "v1beta1", &[]).await, "0");
    until(&node, "2", "1").await;
    let uid = declare(&node, "one");
    node.ready("one").await;
    let spec = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container");
    assert!(spec.env.contains(&"GPU=g0".to_owned()), "{:?}", spec.env);
    let mount = spec.mounts.iter().find(|m| m.destination == "/gpu").expect("its mount");
    assert!(mount.source == "/opt/gpu" && mount.options.contains(&"ro".to_owned()));
    assert_eq!((spec.devices.len(), spec.devices[0].permissions.as_str()), (1, "rw"));
    assert_eq!(spec.annotations.get("gpu").map(String::as_str), Some("yes"));
    declare(&node, "two");
    let refused = node.pod("two", |p| (p["status"]["phase"] == "Failed").then(|| p.clone())).await;
    assert_eq!(refused["status"]["reason"], "UnexpectedAdmissionError");
    assert_eq!(
        refused["status"]["message"],
        "Pod was rejected: Allocate failed due to requested number of devices unavailable for example.com/gpu. Requested: 1, Available: 0, which is unexpected"
    );
    devices.send_replace(list(&[("g0", true), ("g1", true)]));
    until(&node, "2", "2").await;
    // The next agent knows who holds what, and asks the plugin to come again.
    serving.abort();
    let _ = serving.await;
    let node = node.restart(|_, _| {}).await;
    node.ready("one").await;
    let told = devices.subscribe();
    // Its socket is made anew once the agent has cleared the directory.
    let socket = dir.join("kubelet.sock");
    let cleared = async {
        while dir.join("gpu.sock").exists() || !socket.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), cleared).await.expect("the agent clears the directory");
    let serving = plugin(&dir, told);
    assert_eq!(register(&dir, "v1beta1", PREFERS).await, "0");
    devices.send_replace(list(&[("g0", true), ("g1", true), ("g2", true), ("g3", false)]));
    until(&node, "4", "3").await;
    // It prefers the last of those that are free and healthy; g0 is held by another.
    for (name, expected) in [("three", "GPU=g2"), ("four", "GPU=g1")] {
        let uid = declare(&node, name);
        node.ready(name).await;
        let spec = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container");
        assert!(spec.env.contains(&expected.to_owned()), "{name}: {:?}", spec.env);
    }
    serving.abort();
}

/// What the node's programs are told: each device as (pod, container, resource, id).
async fn who_has_what(node: &Node) -> Vec<[String; 4]> {
    let told = ask(node, "List", &Message::default()).await.expect("an answer");
    let mut out = Vec::new();
    for pod in Fields::read(&told).all(1).map(Fields::read) {
        for container in pod.all(3).map(Fields::read) {
            for device in container.all(2).map(Fields::read) {
                out.push([pod.text(1), container.text(1), device.text(1), device.texts(2).concat()]);
            }
        }
    }
    out
}

async fn ask(node: &Node, method: &str, message: &Message) -> Result<Bytes, String> {
    let socket = node.directory.path().join("pod-resources/kubelet.sock");
    let stream = UnixStream::connect(socket).await.expect("connected");
    let method = &format!("v1.PodResourcesLister/{method}");
    let target = Target { authority: "localhost", method, user_agent: "test" };
    grpc::call(stream, target, message).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_container_keeps_its_devices_without_their_plugin_and_programs_are_told_of_them() {
    let node = Node::start();
    let dir = node.directory.path().join("device-plugins");
    // It answers once it has cleared the directory.
    assert_eq!(register(&dir, "v1alpha9", &[]).await, "2");
    // Near to the second NUMA node.
    let near = field(3, &field(1, &[1 << 3, 1]));
    let list = field(1, &[field(1, b"g0"), field(2, b"Healthy"), near].concat());
    let (devices, told) = watch::channel(list);
    let serving = plugin(&dir, told);
    assert_eq!(register(&dir, "v1beta1", &[]).await, "0");
    until(&node, "1", "1").await;
    let uid = declare(&node, "one");
    node.ready("one").await;
    let held = [["one", "c", "example.com/gpu", "g0"].map(str::to_owned)];
    assert_eq!(who_has_what(&node).await, held);
    let told = ask(&node, "GetAllocatableResources", &Message::default()).await.expect("an answer");
    let device = Fields::read(&told);
    let device = device.message(1).expect("a device");
    let topology = device.message(3).expect("a topology");
    assert_eq!((device.texts(2), topology.message(1).expect("a node").number(1)), (vec!["g0".to_owned()], 1));
    let named = |name: &str| Message::default().text(1, name).text(2, "default");
    let told = ask(&node, "Get", &named("one")).await.expect("an answer");
    assert_eq!(Fields::read(&told).message(1).expect("the pod").text(1), "one");
    let refused = ask(&node, "Get", &named("none")).await.expect_err("there is none");
    assert_eq!(refused, "rpc error: code = Unknown desc = pod none in namespace default not found");
    // The plugin goes: its devices stay the node's for a while, and nobody gets them.
    serving.abort();
    let _ = serving.await;
    drop(devices);
    until(&node, "1", "0").await;
    node.fake.exit(&format!("{uid}.0"), "c.0", 3);
    node.pod("one", |p| (container(p)["restartCount"] == 1 && container(p)["ready"] == true).then_some(())).await;
    let spec = node.fake.spec(&format!("{uid}.0"), "c.1").expect("a container");
    assert!(spec.env.contains(&"GPU=g0".to_owned()), "{:?}", spec.env);
    declare(&node, "two");
    let refused = node.pod("two", |p| (p["status"]["phase"] == "Failed").then(|| p.clone())).await;
    assert_eq!(
        refused["status"]["message"],
        "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices example.com/gpu, which is unexpected"
    );
    assert_eq!(who_has_what(&node).await, held, "a pod that was refused has nothing");
}

#[tokio::test]
async fn a_plugin_may_register_by_a_socket_of_its_own_and_name_devices_of_cdi() {
    let cdi = tempfile::tempdir().expect("a directory");
    let files = cdi.path().to_path_buf();
    let node = Node::start_as(move |config| config.cdi = vec![files.clone()]);
    let dir = node.directory.path().join("device-plugins");
    let registry = node.directory.path().join("plugins_registry");
    let wait = async {
        while !registry.exists() || !dir.join("kubelet.sock").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("the agent looks");
    let (_devices, told) = watch::channel(list(&[("g0", true)]));
    let _serving = plugin_that_needs(&dir, told, &field(5, &field(1, b"vendor.com/gpu=0")));
    let socket = registry.join("gpu-reg.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    let endpoint = dir.join("gpu.sock").to_string_lossy().into_owned();
    let (notified, mut registered) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (endpoint, notified) = (endpoint.clone(), notified.clone());
            tokio::spawn(grpc::connection(stream, move |mut call: grpc::Call| {
                let (endpoint, notified) = (endpoint.clone(), notified.clone());
                async move {
                    let message = call.message().await?;
                    if call.method.ends_with("NotifyRegistrationStatus") {
                        notified.send_replace(Fields::read(&message).number(1) == 1);
                        return Ok(grpc::Reply::One(Message::default()));
                    }
                    let info = Message::default().text(1, "DevicePlugin").text(2, "example.com/gpu");
                    Ok(grpc::Reply::One(info.text(3, &endpoint).texts(4, ["v1beta1"])))
                }
            }));
        }
    });
    registered.wait_for(|registered| *registered).await.expect("told");
    until(&node, "1", "1").await;
    let uid = declare(&node, "one");
    let waiting = |p: &Value| {
        let waiting = &container(p)["state"]["waiting"];
        (waiting["reason"] == "CreateContainerError").then(|| waiting["message"].clone())
    };
    let unknown = "CDI device injection failed: unresolvable CDI devices vendor.com/gpu=0";
    assert_eq!(node.pod("one", waiting).await, unknown);
    let spec = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "devices": [{"name": "0", "containerEdits":
        {"env": ["BY_CDI=yes"], "deviceNodes": [{"path": "/dev/by-cdi", "hostPath": "/dev/null"}]}}]}"#;
    std::fs::write(cdi.path().join("vendor.json"), spec).expect("written");
    node.ready("one").await;
    let spec = node.fake.spec(&format!("{uid}.0"), "c.0").expect("a container");
    assert!(spec.env.contains(&"BY_CDI=yes".to_owned()), "{:?}", spec.env);
    assert!(spec.devices.iter().any(|d| d.container_path == Path::new("/dev/by-cdi")), "{:?}", spec.devices);
    // Its socket goes, and the plugin with it, though it still runs.
    std::fs::remove_file(&socket).expect("removed");
    until(&node, "1", "0").await;
}
