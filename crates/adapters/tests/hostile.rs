//! Servers and texts that mean harm.

use std::{net::SocketAddr, time::Duration};

use adapters::{
    logs::{config::Kind, format::Format, lines::Records},
    metrics::{haproxy, memcached, nginx, redis},
    wire::{Address, memcached::stats, mysql::MySql, postgres::Postgres, redis::Redis},
};
use clap::ValueEnum;
use http_ends::Names;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[path = "../../http-ends/tests/hostile/mod.rs"]
mod harm;

use harm::each_mutation;

/// A server that says these bytes to everyone, then listens, and closes when told nothing more for a moment.
async fn says(bytes: Vec<u8>, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let _ = stream.write_all(&bytes).await;
                let mut buffer = [0; 1024];
                while !closes && stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

/// None of the clients may answer, hang or take memory for what is not there.
async fn refused_by_all(bytes: &[u8], closes: bool) {
    let address = says(bytes.to_vec(), closes).await;
    let names = Names::default();
    let time = Duration::from_millis(if closes { 20_000 } else { 300 });
    let at = |scheme: &str| -> Address { format!("{scheme}://me:x@{address}/1").parse().unwrap() };
    let shown = String::from_utf8_lossy(bytes).into_owned();
    let (redis_at, postgres_at, mysql_at, memcached_at) = (at("redis"), at("postgres"), at("mysql"), at("memcached"));
    let (redis, postgres, mysql, memcached) = tokio::join!(
        Redis::connect(&names, &redis_at, time),
        Postgres::connect(&names, &postgres_at, time),
        MySql::connect(&names, &mysql_at, time),
        stats(&names, &memcached_at, &[""], time),
    );
    assert!(redis.is_err(), "redis: {shown:?}");
    assert!(postgres.is_err(), "postgres: {shown:?}");
    assert!(mysql.is_err(), "mysql: {shown:?}");
    assert!(memcached.is_err(), "memcached: {shown:?}");
}

#[tokio::test]
async fn servers_that_lie_or_stop_in_the_middle_are_refused() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$999999999999\r\nx",
        b"*999999999\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        b"-ERR no\r\n",
        b"R\xff\xff\xff\xff",
        b"R\0\0\0\x04",
        b"R\0\0\0\x0c\0\0\0\x0a\0\0\0\0",
        b"R\0\0\0\x08\0\0\0\x63",
        b"\xff\xff\xff\0\x0a",
        b"\x05\0\0\0\xff\x15\x04no",
        b"\x01\0\0\0\x0a",
        b"STAT a",
        b"ERROR\r\n",
    ] {
        refused_by_all(bytes, true).await;
    }
    refused_by_all(b"", false).await;
    refused_by_all(b"S", false).await;
}

#[test]
fn no_mutation_of_a_log_or_a_page_does_worse_than_to_stay_unread() {
    let formats: Vec<Format> = Kind::value_variants()
        .iter()
        .map(|kind| {
            let pattern = (*kind == Kind::Regex).then_some("%{IP:a} %{QS:b} %{NUMBER:c}");
            Format::new(*kind, pattern, None, None, Some("Europe/Berlin")).unwrap()
        })
        .collect();
    let now = "2026-03-04T05:06:07Z".parse().unwrap();
    each_mutation(
        env!("CARGO_MANIFEST_DIR"),
        7,
        b"\"\\[]{}=: \n-0\xff",
        |original| original,
        |bytes| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let mut records = Vec::new();
            let mut lines = Records::new(Kind::Cri, None, 0).unwrap();
            lines.push(&bytes, &mut records);
            lines.flush(&mut records);
            for line in text.lines() {
                for format in &formats {
                    let record = format.read(line, now);
                    assert!(
                        record.message.is_some()
                            || !record.fields.is_empty()
                            || record.time.is_some()
                            || line.is_empty()
                            || !record.unparsed
                    );
                }
            }
            let _ = (nginx::metrics(&text), haproxy::metrics(&text));
            let answers = redis::Answers { info: text.clone(), max_clients: None, slow_log: None };
            let _ = redis::metrics(&answers).open_metrics();
            let pairs: Vec<(String, String)> = text
                .lines()
                .filter_map(|line| line.split_once(' '))
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            let _ = memcached::metrics(&pairs, &pairs, &pairs).text();
            let _ = text.parse::<Address>();
        },
    );
}
