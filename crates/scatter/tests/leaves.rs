//! Leaves of every temper, on loopback.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_ends::{Client, Names, Trust};
use scatter::{Incoming, Metrics, Outgoing, Root, config::Config};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a leaf does with a request.
#[derive(Clone)]
pub enum Temper {
    /// Answers this.
    Says(Value),
    /// Answers with another status.
    Status(u16),
    /// Tells which request it saw.
    Echo,
    /// Takes the request and never answers.
    Hangs,
    /// Bytes that are no HTTP, or only begin to be.
    Raw(&'static [u8]),
}

/// A leaf that ends with the test.
pub struct Leaf {
    pub address: SocketAddr,
    _end: DropGuard,
}

pub async fn leaf(temper: Temper) -> Leaf {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    if let Temper::Raw(bytes) = temper {
        tokio::spawn(async move {
            while let Some(Ok((mut stream, _))) = stopping.run_until_cancelled(listener.accept()).await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(bytes).await;
            }
        });
    } else {
        tokio::spawn(http_ends::serve(listener, stopping, move |request, _| {
            let temper = temper.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = http_ends::whole(body, 1 << 20).await.unwrap();
                match temper {
                    Temper::Says(value) => http_ends::json(StatusCode::OK, value.to_string()),
                    Temper::Status(status) => {
                        http_ends::json(StatusCode::from_u16(status).unwrap(), r#"{"message":"no"}"#)
                    }
                    Temper::Hangs => std::future::pending().await,
                    Temper::Echo | Temper::Raw(_) => {
                        let headers: serde_json::Map<String, Value> = head
                            .headers
                            .iter()
                            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
                            .collect();
                        let seen = serde_json::json!({"items": [{
                            "method": head.method.as_str(), "uri": head.uri.to_string(), "headers": headers,
                            "body": String::from_utf8_lossy(&body),
                        }]});
                        http_ends::json(StatusCode::OK, seen.to_string())
                    }
                }
            }
        }));
    }
    Leaf { address, _end: stop.drop_guard() }
}

pub async fn leaves(tempers: impl IntoIterator<Item = Temper>) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    for temper in tempers {
        leaves.push(leaf(temper).await);
    }
    leaves
}

/// A root over leaves named `a`, `b`, …; `more` is further configuration.
pub fn root(leaves: &[Leaf], more: &str) -> Root {
    let addresses: Vec<String> = leaves.iter().map(|leaf| leaf.address.to_string()).collect();
    root_over(&addresses, more)
}

pub fn config_over(addresses: &[String], more: &str) -> Config {
    let mut text = String::from("leaves:\n");
    for (at, address) in addresses.iter().enumerate() {
        let name = char::from(b'a' + u8::try_from(at).unwrap());
        text += &format!("- {{name: {name}, replicas: [\"{address}\"]}}\n");
    }
    Config::parse(&(text + more)).unwrap()
}

pub fn root_over(addresses: &[String], more: &str) -> Root {
    let names = Names::default();
    let client = Client::new(names.clone(), Trust::System);
    Root::new(config_over(addresses, more), None, client, names, Metrics::default())
}

pub fn get(uri: &str) -> Incoming {
    Incoming {
        method: Method::GET,
        uri: uri.parse().unwrap(),
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        trace: None,
    }
}

/// Every answer comes before this, or the test fails.
pub async fn ask(root: &Root, incoming: Incoming) -> Outgoing {
    tokio::time::timeout(Duration::from_secs(30), root.answer(incoming)).await.expect("the root answers")
}
