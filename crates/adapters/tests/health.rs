//! Probes that ask something real.

use std::{sync::Arc, time::Duration};

use adapters::health::{Arguments, serve};
use clap::Parser;
use http::{HeaderMap, StatusCode};
use http_ends::{Client, Names, Trust};
use serde_json::Value;

use crate::software::{LONG, memcached, page, postgres, redis, serving};

fn arguments(checks: &[String], cache: &str) -> Arguments {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }
    let mut told = vec!["health".to_owned(), "--timeout".into(), "20s".into(), "--cache".into(), cache.into()];
    told.extend(checks.iter().flat_map(|check| ["--check".to_owned(), check.clone()]));
    Cli::parse_from(told).arguments
}

async fn probe(checks: &[String]) -> (StatusCode, Value) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/healthz", listener.local_addr().unwrap());
    let serving = serving();
    let server = tokio::spawn(serve(arguments(checks, "0s"), listener, serving.clone()));
    let client = Client::new(Names::default(), Trust::System);
    let answer = client.get(&url.parse().unwrap(), HeaderMap::new(), 1 << 20, LONG).await.unwrap();
    serving.stopping().cancel();
    server.await.unwrap();
    (answer.status(), serde_json::from_slice(answer.body()).unwrap())
}

#[tokio::test]
async fn real_questions_are_answered_200_or_500_with_the_reason() {
    let (redis, memcached, postgres) = (redis(&[]), memcached(), postgres("scram-sha-256"));
    let redis_at = format!("redis://127.0.0.1:{}", redis.port);
    let postgres_at = format!("postgres://me:se%27cret@127.0.0.1:{}/postgres", postgres.port);
    let well = [
        redis_at.clone(),
        format!("memcached://127.0.0.1:{}", memcached.port),
        postgres_at.clone(),
        format!("{postgres_at}?query=SELECT+count(*)+FROM+pg_database+WHERE+datname='postgres'&expect=1"),
        format!("tcp://127.0.0.1:{}", redis.port),
        format!("http://{}/", page(204, "").await),
        "exec:/bin/true".into(),
    ];
    let (status, body) = probe(&well).await;
    assert_eq!((status, &body["healthy"]), (StatusCode::OK, &Value::Bool(true)), "{body}");
    assert_eq!(body["checks"].as_array().unwrap().len(), well.len());
    assert!(!body.to_string().contains("cret"), "no password is told: {body}");
    for (check, reason) in [
        (format!("{redis_at}?command=GET+absent"), "there is nothing"),
        (format!("{redis_at}?command=NOSUCH"), "unknown command"),
        (format!("{redis_at}?command=ECHO+a&expect=b"), "instead of"),
        (format!("{postgres_at}?query=SELECT+1/0"), "division by zero"),
        (format!("{postgres_at}?query=SELECT+1+WHERE+false"), "found nothing"),
        (format!("{postgres_at}?query=SELECT+2&expect=1"), "instead of"),
        ("tcp://127.0.0.1:1".into(), "refused"),
        (format!("http://{}/", page(503, "").await), "status 503"),
        ("exec:/bin/sh /nonexistent".into(), "exit status"),
        ("exec:/no/such/program".into(), "No such file"),
    ] {
        let (status, body) = probe(&[check.clone(), "exec:/bin/true".into()]).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{check}");
        assert!(body["reason"].as_str().unwrap().contains(reason), "{check}: {body}");
    }
}

#[tokio::test]
async fn many_probes_at_once_are_one_question() {
    let directory = tempfile::tempdir().unwrap();
    let (count, script) = (directory.path().join("count"), directory.path().join("check.sh"));
    std::fs::write(&script, format!("echo x >> {}\n", count.display())).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Arc<http::Uri> = Arc::new(format!("http://{}/healthz", listener.local_addr().unwrap()).parse().unwrap());
    let serving = serving();
    let checks = [format!("exec:/bin/sh {}", script.display())];
    let server = tokio::spawn(serve(arguments(&checks, "1h"), listener, serving.clone()));
    let client = Client::new(Names::default(), Trust::System);
    let probes = (0..20).map(|_| {
        let (client, url) = (client.clone(), url.clone());
        async move { client.get(&url, HeaderMap::new(), 1 << 20, Duration::from_secs(30)).await.unwrap().status() }
    });
    let answers = futures::future::join_all(probes).await;
    assert!(answers.iter().all(|status| *status == StatusCode::OK));
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
    serving.stopping().cancel();
    server.await.unwrap();
}
