//! Logs, exec and port-forward over the streaming server.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::cluster::{Node, container};

fn connect(node: &Node) -> tokio::io::DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 16);
    let agent = node.agent.clone();
    tokio::spawn(async move { agent.serve_connection(server).await });
    client
}

async fn get(node: &Node, path: &str) -> String {
    let mut stream = connect(node);
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn socket(node: &Node, path: &str, protocol: &str) -> WebSocketStream<tokio::io::DuplexStream> {
    let mut request = format!("ws://node{path}").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("a value"));
    let (socket, response) = tokio_tungstenite::client_async(request, connect(node)).await.expect("a handshake");
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    socket
}

#[tokio::test]
async fn what_became_of_probes_is_counted() {
    let node = Node::start();
    let uid = node.declare("web", |pod| {
        let probe = serde_json::json!({"exec": {"command": ["well?"]}, "periodSeconds": 1, "failureThreshold": 9});
        pod["spec"]["containers"][0]["readinessProbe"] = probe.clone();
        pod["spec"]["containers"][0]["livenessProbe"] = probe;
    });
    node.ready("web").await;
    node.fake.exec_exits_with(1);
    node.event("Unhealthy").await;
    let counted = |kind: &str, result: &str| {
        format!(
            "prober_probe_total{{container=\"c\",namespace=\"default\",pod=\"web\",pod_uid=\"{uid}\",\
             probe_type=\"{kind}\",result=\"{result}\"}} "
        )
    };
    let answer = get(&node, "/metrics/probes").await;
    assert!(answer.contains("# TYPE prober_probe_total counter\n"), "{answer}");
    let took = "prober_probe_duration_seconds_bucket{container=\"c\",namespace=\"default\",pod=\"web\",probe_type=\"Readiness\",le=\"10\"} ";
    assert!(answer.contains(took), "{answer}");
    assert!(answer.contains(&counted("Readiness", "successful")), "{answer}");
    let failed = ["Readiness", "Liveness"].map(|kind| answer.contains(&counted(kind, "failed")));
    assert!(failed.contains(&true), "{answer}");
    assert!(!answer.contains("unknown") && !answer.contains("Startup"), "{answer}");
}

#[tokio::test]
async fn logs_are_read_and_their_absence_is_explained() {
    let node = Node::start();
    let uid = node.declare("web", |_| {});
    node.ready("web").await;
    let log = node.fake.spec(&format!("{uid}.0"), "c.0").and_then(|s| s.log).expect("a log");
    std::fs::create_dir_all(log.path.parent().expect("a parent")).expect("made");
    std::fs::write(&log.path, "2024-01-01T00:00:01Z stdout F one\n2024-01-01T00:00:02Z stderr F two\n")
        .expect("written");
    let answer = get(&node, "/containerLogs/default/web/c?tailLines=1").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("two\n") && !answer.contains("one\n"), "{answer}");
    let answer = get(&node, "/containerLogs/default/web/c?previous=true").await;
    assert!(
        answer.starts_with("HTTP/1.1 400")
            && answer.ends_with("previous terminated container \"c\" in pod \"web\" not found"),
        "{answer}"
    );
    assert!(get(&node, "/containerLogs/default/none/c").await.starts_with("HTTP/1.1 404"));
    assert!(get(&node, "/healthz").await.ends_with("ok"));
    assert!(get(&node, "/pods").await.contains("\"kind\":\"PodList\""));
    let slis = get(&node, "/metrics/slis").await;
    let counted = "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 2\n";
    assert!(slis.contains(counted) && slis.contains("kubernetes_healthcheck{name=\"syncloop\",type=\"healthz\"} 1\n"));
}

#[tokio::test]
async fn logs_are_carried_by_web_sockets_as_bytes_or_as_base64() {
    let node = Node::start();
    let uid = node.declare("web", |_| {});
    node.ready("web").await;
    let log = node.fake.spec(&format!("{uid}.0"), "c.0").and_then(|s| s.log).expect("a log");
    std::fs::create_dir_all(log.path.parent().expect("a parent")).expect("made");
    std::fs::write(&log.path, "2024-01-01T00:00:01Z stdout F one\n2024-01-01T00:00:02Z stdout F:E two\n")
        .expect("written");
    for (protocol, wanted) in [
        ("binary.k8s.io", vec![Message::Binary(Bytes::new()), Message::Binary("one\ntwo".into())]),
        ("base64.binary.k8s.io", vec![Message::Text("".into()), Message::Text("b25lCnR3bw==".into())]),
    ] {
        let mut socket = socket(&node, "/containerLogs/default/web/c", protocol).await;
        let mut messages = Vec::new();
        let close = loop {
            match socket.next().await.expect("a close comes first").expect("a message") {
                Message::Close(frame) => break frame,
                message => messages.push(message),
            }
        };
        assert_eq!(close.map(|frame| u16::from(frame.code)), Some(1000));
        assert_eq!(messages, wanted);
    }
}

#[tokio::test]
async fn exec_carries_streams_sizes_and_the_exit_code() {
    let node = Node::start();
    node.declare("web", |_| {});
    node.ready("web").await;
    node.fake.exec_exits_with(3);
    let path = "/exec/default/web/c?command=sh&command=-c&input=1&output=1&error=1";
    let mut socket = socket(&node, path, "v5.channel.k8s.io").await;
    let resize = b"\x04{\"Width\":80,\"Height\":24}\n".to_vec();
    socket.send(Message::Binary(resize.into())).await.expect("sent");
    socket.send(Message::Binary(b"\x00typed".to_vec().into())).await.expect("sent");
    socket.send(Message::Binary(vec![255, 0].into())).await.expect("sent");
    let mut channels: [Vec<u8>; 4] = Default::default();
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
    }
    assert_eq!((channels[1].as_slice(), channels[2].as_slice()), (&b"sh -ctyped"[..], &b"err"[..]));
    let status: Value = serde_json::from_slice(&channels[3]).expect("a status");
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["message"]),
        (&Value::from("NonZeroExitCode"), &Value::from("3"))
    );
    node.fake.until("the size arrives", |f| f.journal().contains(&"resize 80x24".to_owned())).await;
}

#[tokio::test]
async fn exec_speaks_base64_with_clients_that_send_text_alone() {
    let node = Node::start();
    node.declare("web", |_| {});
    node.ready("web").await;
    let path = "/exec/default/web/c?command=cat&input=1&output=1&tty=1";
    let mut socket = socket(&node, path, "v4.base64.channel.k8s.io").await;
    socket.send(Message::text(format!("4{}", STANDARD.encode(r#"{"Width":80,"Height":24}"#)))).await.expect("sent");
    socket.send(Message::text("not base64")).await.expect("sent");
    node.fake.until("the size arrives", |f| f.journal().contains(&"resize 80x24".to_owned())).await;
    let mut output = Vec::new();
    while output != b"cat" {
        let Some(Ok(Message::Text(text))) = socket.next().await else { panic!("{output:?}") };
        assert_eq!(&text[..1], "1");
        output.extend(STANDARD.decode(&text[1..]).expect("base64"));
    }
}

#[tokio::test]
async fn ports_are_forwarded_over_channels_and_refusals_are_told() {
    let node = Node::start();
    node.declare("web", |_| {});
    assert_eq!(container(&node.ready("web").await)["ready"], true);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut word = [0; 4];
            let _ = stream.read_exact(&mut word).await;
            let _ = stream.write_all(b"pong").await;
        }
    });
    let mut socket = socket(&node, &format!("/portForward/default/web?port={port}"), "v4.channel.k8s.io").await;
    socket.send(Message::Binary(b"\x00ping".to_vec().into())).await.expect("sent");
    let mut data = Vec::new();
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        if bytes[0] == 0 {
            data.extend_from_slice(&bytes[1..]);
        }
        if data.len() >= 6 {
            break;
        }
    }
    assert_eq!(data, [&port.to_le_bytes()[..], b"pong"].concat());
}
