//! The root as a server: headers, reload, end.

use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, Request, StatusCode};
use http_ends::{Client, Names, Trust};
use scatter::{Arguments, config::Config};
use serde_json::{Value, json};
use serving::{Live, Serving};

use crate::leaves::{Temper, leaf, leaves};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

fn serving() -> Serving {
    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: serving::Flags,
    }
    Serving::detached(Only::parse_from(["root"]).flags)
}

async fn get(client: &Client, uri: &str) -> (StatusCode, HeaderMap, Value) {
    let answer = client.get(&uri.parse().unwrap(), HeaderMap::new(), 1 << 20, Duration::from_secs(20)).await.unwrap();
    (answer.status(), answer.headers().clone(), serde_json::from_slice(answer.body()).unwrap())
}

#[test]
fn flags_alone_make_a_root() {
    let told = ["root", "--leaf", "a=h:1|i:2,b=[::1]:3", "--deadline", "2s", "--merge", "{kind: topK, k: 3, by: /s}"];
    let config = Cli::parse_from(told).arguments.config().unwrap();
    assert_eq!(config.leaves[0].replicas, ["h:1", "i:2"]);
    assert_eq!(config.leaves[1].name, "b");
    assert_eq!(config.deadline, serving::Span::seconds(2));
    assert!(Cli::try_parse_from(["root"]).is_err(), "without leaves there is no root");
    assert!(Cli::try_parse_from(["root", "--leaf", "a"]).is_err());
}

#[tokio::test]
async fn a_partial_result_is_marked_a_new_file_is_taken_up_and_a_broken_one_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("root.yaml");
    let shards = leaves([Temper::Says(json!([1])), Temper::Status(500)]).await;
    let third = leaf(Temper::Says(json!([3]))).await;
    let write = |leaves: &[(&str, std::net::SocketAddr)]| {
        let leaves: Vec<Value> =
            leaves.iter().map(|(name, address)| json!({"name": name, "replicas": [address.to_string()]})).collect();
        std::fs::write(&file, json!({"leaves": leaves, "limits": {"requestBytes": 10}}).to_string()).unwrap();
    };
    write(&[("a", shards[0].address), ("b", shards[1].address)]);
    let live = Live::open(&file, Config::parse).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/v1/x", listener.local_addr().unwrap());
    let serving = serving();
    let config = (*live.current()).clone();
    let server = tokio::spawn(scatter::serve(config, Some(live.clone()), listener, serving.clone()));

    let client = Client::new(Names::default(), Trust::System);
    let (status, headers, body) = get(&client, &base).await;
    assert_eq!((status, &body["items"]), (StatusCode::OK, &json!([1])));
    assert_eq!(headers["x-partial-result"], "true");
    assert_eq!(headers["x-missing-leaves"], "b");

    std::fs::write(&file, "leaves: 7\n").unwrap();
    assert_eq!(live.reload().unwrap_err().line, Some(1));
    assert_eq!(get(&client, &base).await.2["items"], json!([1]), "the old configuration goes on");

    write(&[("a", shards[0].address), ("c", third.address)]);
    let _ = live.reload();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let (_, headers, body) = get(&client, &base).await;
        if body["items"] == json!([1, 3]) {
            assert!(!headers.contains_key("x-partial-result"));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the new leaf is asked: {body}");
        tokio::task::yield_now().await;
    }
    let large = Request::post(&base).body(Bytes::from_static(b"eleven byte")).unwrap();
    let refused = client.send(large, 1 << 20, Duration::from_secs(20)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let metrics = serving.admin().encode();
    assert!(metrics.contains("hythe_scatter_leaf_calls_total{leaf=\"b\",result=\"Status\"}"), "{metrics}");
    let leaves = serving.admin().answer(Request::get("/api/v1/leaves").body(Bytes::new()).unwrap()).await;
    assert_eq!(leaves.status(), StatusCode::OK);

    serving.stopping().cancel();
    tokio::time::timeout(Duration::from_secs(20), server).await.expect("the server ends").unwrap();
    assert!(client.get(&base.parse().unwrap(), HeaderMap::new(), 10, Duration::from_secs(5)).await.is_err());
}
