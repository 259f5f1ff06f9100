//! Metrics of the software itself.

use adapters::{
    metrics::{Arguments, From, Scraper, exposition::Metrics, serve},
    wire::{Address, WireError, mysql::MySql, postgres::Postgres},
};
use clap::{Parser, ValueEnum};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_ends::{Client, Names, Trust};

use crate::software::{LONG, certify, memcached, page, postgres, redis, redis_with_tls, serving};

fn arguments(told: &[&str]) -> Arguments {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: Arguments,
    }
    Cli::parse_from(["metrics", "--timeout", "30s"].iter().chain(told)).arguments
}

async fn scrape(from: &str, target: &str, more: &[&str]) -> (Metrics, Option<String>) {
    let arguments = arguments(&[&["--from", from, "--target", target], more].concat());
    Scraper::new(&arguments, None).unwrap().scrape().await
}

#[tokio::test]
async fn redis_tells_its_metrics_behind_a_password() {
    let server = redis(&["--requirepass", "secret", "--slowlog-log-slower-than", "0"]);
    let target = format!("redis://:secret@127.0.0.1:{}", server.port);
    let (metrics, error) = scrape("redis", &target, &[]).await;
    assert_eq!(error, None);
    assert_eq!(metrics.value("redis_up", &[]), Some(1.0));
    assert!(metrics.value("redis_memory_used_bytes", &[]).unwrap() > 100_000.0);
    assert!(
        metrics.value("redis_commands_total", &[("cmd", "info")]).is_some()
            || metrics.value("redis_commands_total", &[("cmd", "auth")]).is_some()
    );
    assert!(metrics.value("redis_config_maxclients", &[]).unwrap() > 1.0);
    assert!(metrics.value("redis_slowlog_length", &[]).unwrap() >= 1.0);
    let file = server.directory.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let bare = format!("redis://127.0.0.1:{}", server.port);
    let (metrics, _) = scrape("redis", &bare, &["--password-file", file.to_str().unwrap()]).await;
    assert_eq!(metrics.value("redis_up", &[]), Some(1.0));
    let (metrics, error) = scrape("redis", &bare, &[]).await;
    assert_eq!(metrics.value("redis_up", &[]), Some(0.0));
    assert!(error.unwrap().contains("NOAUTH"));
}

#[tokio::test]
async fn databases_are_asked_over_tls_and_only_those_that_are_who_they_say() {
    let server = redis_with_tls();
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    let ca = |directory: &std::path::Path| directory.join("tls.crt").display().to_string();
    let target = |more: &str| format!("rediss://127.0.0.1:{}?{more}", server.port);
    let (metrics, error) = scrape("redis", &target(&format!("ca={}", ca(server.directory.path()))), &[]).await;
    assert_eq!((metrics.value("redis_up", &[]), error), (Some(1.0), None));
    for wrong in [
        String::new(),
        format!("ca={}", ca(other.path())),
        format!("ca={}&servername=redis.example.com", ca(server.directory.path())),
    ] {
        let (metrics, error) = scrape("redis", &target(&wrong), &[]).await;
        assert_eq!(metrics.value("redis_up", &[]), Some(0.0), "{wrong}");
        assert!(error.unwrap().contains("TLS with 127.0.0.1"), "{wrong}");
    }
    let server = postgres("scram-sha-256");
    let secured = |more: &str| -> Address {
        format!("postgres://me:se'cret@127.0.0.1:{}/postgres?{more}", server.port).parse().unwrap()
    };
    let names = Names::default();
    for (more, expected) in [
        (format!("sslmode=verify-full&sslrootcert={}", ca(server.directory.path())), "t"),
        ("sslmode=disable".to_owned(), "f"),
    ] {
        let mut postgres = Postgres::connect(&names, &secured(&more), LONG).await.unwrap();
        let rows = postgres.ask("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", LONG).await.unwrap();
        assert_eq!(rows.rows, [[Some(expected.to_owned())]]);
    }
    let refused = Postgres::connect(&names, &secured(&format!("tls&ca={}", ca(other.path()))), LONG).await;
    assert!(matches!(refused, Err(WireError::Tls(..))));
    let plain = memcached();
    let address = format!("mysql://127.0.0.1:{}?tls", plain.port).parse().unwrap();
    assert!(MySql::connect(&names, &address, std::time::Duration::from_secs(1)).await.is_err());
}

#[tokio::test]
async fn memcached_tells_its_metrics() {
    let server = memcached();
    let (metrics, error) = scrape("memcached", &format!("memcached://127.0.0.1:{}", server.port), &[]).await;
    assert_eq!(error, None);
    assert_eq!(metrics.value("memcached_up", &[]), Some(1.0));
    assert!(metrics.value("memcached_max_connections", &[]).unwrap() > 0.0);
    assert_eq!(metrics.value("memcached_commands_total", &[("command", "get"), ("status", "hit")]), Some(0.0));
}

#[tokio::test]
async fn postgres_tells_its_metrics_however_it_wants_the_password() {
    for way in ["scram-sha-256", "md5", "password"] {
        let server = postgres(way);
        let target = format!("postgres://me:se%27cret@127.0.0.1:{}/postgres", server.port);
        let (metrics, error) = scrape("postgres", &target, &[]).await;
        assert_eq!(error, None, "{way}");
        assert_eq!(metrics.value("pg_up", &[]), Some(1.0), "{way}");
        assert!(metrics.value("pg_database_size_bytes", &[("datname", "postgres")]).unwrap() > 1e6);
        assert_eq!(metrics.value("pg_replication_is_replica", &[]), Some(0.0));
        assert!(metrics.value("pg_settings_max_connections", &[]).unwrap() >= 1.0);
        assert!(metrics.families().iter().any(|family| family.name == "pg_stat_database_xact_commit"));
        assert!(
            metrics
                .families()
                .iter()
                .any(|family| family.name == "pg_static" && family.samples[0].0[0].1.contains("PostgreSQL"))
        );
        let wrong = format!("postgres://me:wrong@127.0.0.1:{}/postgres", server.port);
        let (metrics, error) = scrape("postgres", &wrong, &[]).await;
        assert_eq!(metrics.value("pg_up", &[]), Some(0.0));
        assert!(error.unwrap().contains("28P01"), "{way}");
    }
}

#[tokio::test]
async fn pages_are_mapped_and_served_in_both_formats() {
    let directory = tempfile::tempdir().unwrap();
    let mapping = directory.path().join("mapping.yaml");
    std::fs::write(&mapping, "metrics: [{name: app_jobs_total, type: counter, value: /jobs, help: Jobs}]\n").unwrap();
    let target = format!("http://{}/status", page(200, r#"{"jobs": 3}"#).await);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: http::Uri = format!("http://{}/metrics", listener.local_addr().unwrap()).parse().unwrap();
    let serving = serving();
    let told = arguments(&["--from", "json", "--target", &target, "--mapping", mapping.to_str().unwrap()]);
    let server = tokio::spawn(serve(told, listener, serving.clone()));
    let client = Client::new(Names::default(), Trust::System);
    let plain = client.get(&url, HeaderMap::new(), 1 << 20, LONG).await.unwrap();
    assert_eq!(plain.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(plain.body().to_vec()).unwrap();
    assert!(text.contains("# TYPE app_jobs_total counter\napp_jobs_total 3\n"), "{text}");
    let mut headers = HeaderMap::new();
    headers.insert("accept", HeaderValue::from_static("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
    let open = client.get(&url, headers, 1 << 20, LONG).await.unwrap();
    let text = String::from_utf8(open.body().to_vec()).unwrap();
    assert!(text.contains("# TYPE app_jobs counter\n") && text.ends_with("# EOF\n"), "{text}");
    let missing =
        client.get(&url.to_string().replace("/metrics", "/").parse().unwrap(), HeaderMap::new(), 1 << 20, LONG).await;
    assert_eq!(missing.unwrap().status(), StatusCode::NOT_FOUND);
    serving.stopping().cancel();
    tokio::time::timeout(LONG, server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn pages_of_servers_are_read_and_others_are_a_failed_scrape() {
    let nginx = "Active connections: 1 \nserver accepts handled requests\n 1 1 1 \nReading: 0 Writing: 1 Waiting: 0 \n";
    let (metrics, _) = scrape("nginx", &format!("http://{}/", page(200, nginx).await), &[]).await;
    assert_eq!(metrics.value("nginx_up", &[]), Some(1.0));
    for (from, up) in [("nginx", "nginx_up"), ("haproxy", "haproxy_up")] {
        for answer in [page(200, "<html>").await, page(503, nginx).await] {
            let (metrics, error) = scrape(from, &format!("http://{answer}/"), &[]).await;
            assert_eq!(metrics.value(up, &[]), Some(0.0));
            assert_eq!(metrics.value("hythe_adapter_scrape_error", &[]), Some(1.0));
            assert!(error.is_some());
        }
    }
}

#[test]
fn a_target_of_another_kind_is_refused() {
    for from in From::value_variants() {
        let name = from.to_possible_value().unwrap().get_name().to_owned();
        let told = arguments(&["--from", &name, "--target", "ftp://me:secret@host"]);
        let refused = Scraper::new(&told, None).err().unwrap().to_string();
        assert!(
            !refused.contains("secret") || matches!(from, From::Json | From::Text | From::Nginx | From::Haproxy),
            "{refused}"
        );
    }
}
