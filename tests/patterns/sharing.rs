//! memcached in shards behind a router that many share.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::{apply, software, wait_for};
use crate::cluster::{Cluster, eventually};

/// Sends lines of the text protocol and reads until `end`.
fn tell(address: &str, request: &str, end: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&all).ends_with(end) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => all.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8(all).ok()
}

#[test]
fn memcached_is_sharded_behind_a_router_that_many_share() {
    let cluster = Cluster::up();
    software::import_programs(&cluster, "memcached:1", &[software::installed(&["/usr/bin/memcached"])]);
    apply(
        &cluster,
        "apiVersion: patterns.hythe.dev/v1
kind: ShardedService
metadata: {name: sessions}
spec:
  protocol: Memcached
  hash: murmur
  shards:
    template:
      replicas: 3
      template:
        spec:
          containers:
          - name: memcached
            image: memcached:1
            command: [/usr/bin/memcached, -u, nobody, -m, '16', -l, 0.0.0.0]
            ports: [{containerPort: 11211}]
  tier: {replicas: 2, serviceType: NodePort}
",
    );
    wait_for(&cluster, "shardedservice/sessions", "Ready");
    cluster.kubectl(&["rollout", "status", "deployment/sessions", "--timeout=90s"]);
    cluster.kubectl(&["rollout", "status", "statefulset/sessions-shard", "--timeout=90s"]);
    let node = cluster.jsonpath("service/sessions", "{.spec.ports[0].nodePort}");
    let router = format!("127.0.0.1:{node}");
    eventually("the first answer", || {
        tell(&router, "set first 0 0 1\r\n1\r\n", "\r\n").as_deref() == Some("STORED\r\n")
    });
    // Every request has a connection of its own, so both routers are asked: what one stored the other finds.
    let keys: Vec<String> = (0..60).map(|n| format!("session-{n}-of-user")).collect();
    for key in &keys {
        let stored = tell(&router, &format!("set {key} 7 0 {}\r\n{key}\r\n", key.len()), "\r\n");
        assert_eq!(stored.as_deref(), Some("STORED\r\n"), "{key}");
    }
    for key in &keys {
        let found = tell(&router, &format!("get {key}\r\n"), "END\r\n").unwrap();
        assert_eq!(found, format!("VALUE {key} 7 {}\r\n{key}\r\nEND\r\n", key.len()));
    }
    // One request for keys of all shards has one answer.
    let all = tell(&router, &format!("get {}\r\n", keys.join(" ")), "END\r\n").unwrap();
    let found: HashSet<&str> = all.lines().filter_map(|line| line.strip_prefix("VALUE ")?.split(' ').next()).collect();
    assert_eq!(found, keys.iter().map(String::as_str).collect());
    assert_eq!(
        tell(&router, "mg session-1-of-user v\r\n", "user\r\n").as_deref(),
        Some("VA 17\r\nsession-1-of-user\r\n")
    );
    // Each shard holds a part, and no key is at two of them.
    let pods: Vec<String> = (0..3).map(|shard| format!("sessions-shard-{shard}")).collect();
    let items: Vec<u64> = pods
        .iter()
        .map(|pod| {
            let ip = cluster.jsonpath(&format!("pod/{pod}"), "{.status.podIP}");
            let stats = tell(&format!("{ip}:11211"), "stats\r\n", "END\r\n").unwrap();
            let items = stats.lines().find_map(|line| line.strip_prefix("STAT curr_items ")).unwrap();
            items.trim().parse().unwrap()
        })
        .collect();
    assert_eq!(items.iter().sum::<u64>(), 61, "{items:?}");
    assert!(items.iter().all(|items| *items > 0), "{items:?}");
    // A shard that is lost takes its own keys and no others.
    let uid = || cluster.jsonpath("pods", "{.items[?(@.metadata.name=='sessions-shard-1')].metadata.uid}");
    let first = uid();
    cluster.kubectl(&["delete", "pod", "sessions-shard-1", "--grace-period=0", "--force"]);
    eventually("its successor", || !["", &first].contains(&uid().as_str()));
    wait_for(&cluster, "pod/sessions-shard-1", "Ready");
    let left = || {
        let found = |key: &&String| tell(&router, &format!("get {key}\r\n"), "END\r\n").is_some_and(|a| a.len() > 5);
        keys.iter().filter(found).count() as u64
    };
    eventually("the others' keys are served", || left() >= 60 - items[1]);
    assert!(left() < 60, "the lost shard's keys are gone");
    eventually("the new shard takes keys", || {
        keys.iter()
            .all(|key| tell(&router, &format!("set {key} 0 0 1\r\n1\r\n"), "\r\n").as_deref() == Some("STORED\r\n"))
    });
}
