//! `/portForward/{namespace}/{pod}`: connections to ports inside a pod's network, over SPDY streams (plain or within
//! WebSocket messages) or over WebSocket channels.

use std::{collections::HashMap, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    channels::{Channels, Encoding},
    query::Query,
    respond::{Body, Refusal},
    tunnel,
    upgrade::{self, Kind},
};
use crate::{
    agent::Agent,
    runtime::Runtime,
    spdy::{Connection, Incoming as Stream, Writer},
};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PROTOCOLS: &[&str] = &[
    TUNNEL,
    "portforward.k8s.io",
    "v4.channel.k8s.io",
    "channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "base64.channel.k8s.io",
];
/// Requests whose second stream has not come yet.
const PENDING: usize = 128;

/// How long a client may still send after the pod has hung up.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

/// The pod's network.
#[derive(Clone)]
struct Target {
    runtime: Arc<dyn Runtime>,
    sandbox: String,
    pod: String,
    uid: String,
}

pub(super) async fn answer(
    agent: &Agent,
    namespace: &str,
    pod: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let view =
        agent.pods.named(namespace, pod).ok_or_else(|| Refusal::not_found(format!("pod does not exist: {pod}")))?;
    let sandbox = view.sandbox.clone().ok_or_else(|| Refusal::internal(format!("pod {pod} has no running sandbox")))?;
    let uid = view.pod.metadata.uid.clone().unwrap_or_default();
    let target =
        Target { runtime: Arc::clone(&agent.context.runtime), sandbox, pod: format!("{pod}_{namespace}"), uid };
    let upgrade = upgrade::choose(request.headers(), PROTOCOLS)?;
    let ports = ports(query)?;
    let (kind, protocol) = (upgrade.kind, upgrade.protocol.clone());
    if kind == Kind::WebSocket && protocol != TUNNEL && ports.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    upgrade::accept(&upgrade, request, move |io| async move {
        match kind {
            Kind::Spdy => streams(Connection::serve(io), target).await,
            Kind::WebSocket if protocol == TUNNEL => {
                streams(Connection::serve(tunnel::over(upgrade::socket(io).await)), target).await
            }
            Kind::WebSocket => {
                channels(upgrade::socket(io).await, ports, target, Encoding::of(&protocol)).await;
            }
        }
    })
}

fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let texts = query.all("port").chain(query.all("ports")).flat_map(|p| p.split(','));
    texts
        .map(|text| {
            text.parse::<u16>()
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(|| Refusal::bad_request(format!("invalid port {text:?}")))
        })
        .collect()
}

/// Pairs of an error and a data stream with the same request id.
async fn streams(mut connection: Connection, target: Target) {
    let mut pending: HashMap<String, Stream> = HashMap::new();
    while let Some(stream) = connection.accept().await {
        // Old clients send no request id: their streams come in pairs, one port after another.
        let id = stream.header("requestid").or_else(|| stream.header("port")).unwrap_or_default().to_owned();
        let kind = stream.header("streamtype").unwrap_or_default().to_owned();
        match pending.remove(&id) {
            Some(other) if other.header("streamtype") != Some(&kind) => {
                let (error, data) = if kind == "error" { (stream, other) } else { (other, stream) };
                tokio::spawn(forward_streams(error, data, target.clone()));
            }
            Some(_) | None if pending.len() < PENDING => {
                pending.insert(id, stream);
            }
            _ => {}
        }
    }
}

async fn forward_streams(error: Stream, data: Stream, target: Target) {
    let Stream { writer: mut complaint, .. } = error;
    let port = data.header("port").and_then(|p| p.parse().ok()).unwrap_or(0);
    let io = tokio::io::join(data.reader, data.writer);
    if let Err(text) = forward(io, port, &target).await {
        complain(&mut complaint, &text).await;
    }
    let _ = complaint.shutdown().await;
}

async fn complain(writer: &mut Writer, text: &str) {
    // A client that is gone does not want to know.
    let _ = writer.write_all(text.as_bytes()).await;
}

/// Two channels a port: data and error; each begins with the port's number, low byte first.
async fn channels(socket: upgrade::Socket, ports: Vec<u16>, target: Target, encoding: Encoding) {
    let numbers: Vec<(u8, u16)> =
        ports.iter().enumerate().filter_map(|(i, p)| Some((u8::try_from(i * 2).ok()?, *p))).collect();
    let inputs: Vec<u8> = numbers.iter().map(|(channel, _)| *channel).collect();
    let mut channels = Channels::serve(socket, &inputs, encoding);
    let mut all = Vec::new();
    for (channel, port) in numbers {
        let Some(reader) = channels.reader(channel) else { continue };
        let (mut data, mut error) = (channels.writer(channel), channels.writer(channel + 1));
        let target = target.clone();
        all.push(async move {
            let number = port.to_le_bytes();
            if data.write_all(&number).await.is_err() || error.write_all(&number).await.is_err() {
                return;
            }
            if let Err(text) = forward(tokio::io::join(reader, data), port, &target).await {
                let _ = error.write_all(text.as_bytes()).await;
            }
        });
    }
    drop(channels);
    futures::future::join_all(all).await;
}

async fn forward(io: impl AsyncRead + AsyncWrite + Unpin, port: u16, target: &Target) -> Result<(), String> {
    let inside = target.runtime.connect(&target.sandbox, port).await.map_err(|error| {
        format!(
            "error forwarding port {port} to pod {}, uid {}: failed to connect to localhost:{port} inside namespace: {error}",
            target.pod, target.uid
        )
    })?;
    carry(io, inside).await;
    Ok(())
}

/// Either side may hang up at any time; that is how a forwarded connection ends. Once the pod has, nothing more can
/// be answered: a client that waits for that before it closes its own half (kubectl before 1.23) is not waited for.
async fn carry(client: impl AsyncRead + AsyncWrite + Unpin, pod: impl AsyncRead + AsyncWrite + Unpin) {
    let ((mut from_client, mut to_client), (mut from_pod, mut to_pod)) =
        (tokio::io::split(client), tokio::io::split(pod));
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_pod).await;
        let _ = to_pod.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_pod, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::pin!(up, down);
    tokio::select! {
        () = &mut up => down.await,
        () = &mut down => drop(tokio::time::timeout(LINGER, up).await),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_hangs_up_ends_the_connection_though_the_client_waits() {
        let ((mut client, outside), (inside, mut pod)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let carried = tokio::spawn(carry(outside, inside));
        client.write_all(b"question").await.expect("sent");
        let mut question = [0; 8];
        pod.read_exact(&mut question).await.expect("received");
        pod.write_all(b"answer").await.expect("answered");
        drop(pod);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("read to the end");
        assert_eq!(answer, "answer");
        carried.await.expect("ended");
    }

    #[tokio::test]
    async fn a_client_that_has_asked_all_still_gets_its_answer() {
        let ((mut client, outside), (inside, mut pod)) = (tokio::io::duplex(64), tokio::io::duplex(64));
        let carried = tokio::spawn(carry(outside, inside));
        client.write_all(b"question").await.expect("sent");
        client.shutdown().await.expect("half closed");
        let mut question = String::new();
        pod.read_to_string(&mut question).await.expect("received to the end");
        pod.write_all(b"answer").await.expect("answered");
        drop(pod);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("read to the end");
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        carried.await.expect("ended");
    }
}
