//! Configurations that change, shards that come and go in DNS, and the end.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Process, Proxy, alone, directory, eventually, resp};

#[path = "../../../names/tests/server/mod.rs"]
mod server;

use server::NameServer;

fn pool(shards: usize) -> String {
    let servers: String = (0..shards).map(|index| format!("   - DIR/s{index}.sock:1 db-{index}\n")).collect();
    format!("db:\n  listen: DIR/proxy.sock\n  redis: true\n  hash: murmur\n  timeout: 20000\n  servers:\n{servers}")
}

#[test]
fn a_new_shard_takes_its_share_of_the_keys_and_no_client_is_dropped() {
    let directory = directory();
    let _shards: Vec<Process> =
        (0..5).map(|index| Process::redis(directory.path(), &format!("s{index}"), &[])).collect();
    let proxy = Proxy::start(&directory, &pool(4));
    let mut client = proxy.client();
    for index in 0..1000 {
        assert_eq!(client.ask(&format!("SET key{index} x")), "+OK\r\n");
    }
    // Requests of another client run through the change without one failing.
    let mut busy = proxy.client();
    let ended = Arc::new(AtomicUsize::new(0));
    let seen = ended.clone();
    let worker = std::thread::spawn(move || {
        let mut answered = 0;
        while seen.load(Ordering::Acquire) == 0 || answered == 0 {
            assert_eq!(busy.ask("INCR counter").as_bytes()[0], b':');
            answered += 1;
        }
    });
    proxy.reload(&pool(5)).unwrap();
    eventually("the fifth shard", || proxy.admin("GET", "/v1/shards").1.contains("db-4").then_some(()));
    // The loops learn of it a moment later than the admin port.
    eventually("a key that has moved", || {
        (0..50).any(|index| client.ask(&format!("GET key{index}")) == "$-1\r\n").then_some(())
    });
    let moved = (0..1000).filter(|index| client.ask(&format!("GET key{index}")) == "$-1\r\n").count();
    assert!((100..=300).contains(&moved), "about a fifth of the keys has moved: {moved}");
    ended.store(1, Ordering::Release);
    worker.join().unwrap();
    assert_eq!(client.ask("PING"), "+PONG\r\n", "the connection is still the first one");
}

#[test]
fn a_broken_file_is_refused_with_line_and_reason_and_the_old_one_goes_on() {
    let directory = directory();
    let _shard = Process::redis(directory.path(), "s0", &[]);
    let proxy = Proxy::start(&directory, &pool(1));
    let mut client = proxy.client();
    let reason = proxy.reload(&pool(1).replace("redis: true", "redis: maybe")).unwrap_err();
    assert!(reason.contains("nutcracker.yaml:3: db.redis") && reason.contains("maybe"), "{reason}");
    let reason = proxy.reload(&pool(1).replace(":1 db-0", " db-0")).unwrap_err();
    assert!(reason.contains("nutcracker.yaml:7: db.servers[0]"), "{reason}");
    assert_eq!(client.ask("SET a 1"), "+OK\r\n");
    assert_eq!(proxy.client().ask("GET a"), "$1\r\n1\r\n");
    proxy.reload(&(pool(1) + "more:\n  listen: DIR/more.sock\n  redis: true\n  servers: ['DIR/s0.sock:1']\n")).unwrap();
    assert_eq!(proxy.client_of("more.sock").ask("GET a"), "$1\r\n1\r\n", "a pool may come");
    proxy.reload(&pool(1)).unwrap();
    eventually("the pool's end", || (!directory.path().join("more.sock").exists()).then_some(()));
    assert_eq!(client.ask("GET a"), "$1\r\n1\r\n");
}

#[test]
fn at_the_end_what_was_asked_is_still_answered() {
    let directory = directory();
    let shard = Process::redis(directory.path(), "s0", &[]);
    let proxy = Proxy::start(&directory, &pool(1));
    let mut client = proxy.client();
    client.ask("SET a 1");
    shard.signal("STOP");
    client.send(resp("GET a"));
    eventually("the request at the shard", || (proxy.metric("hythe_shard_waiting") >= 1.0).then_some(()));
    let idle = proxy.client();
    proxy.serving.stopping().cancel();
    let mut idle = idle;
    assert_eq!(idle.read_to_end(), "", "who asks nothing is let go");
    shard.signal("CONT");
    assert_eq!(client.read_to_end(), "$1\r\n1\r\n");
}

/// Has the name server know so many pods of a StatefulSet, each at an address of its own, moved on by so many.
fn pods(names: &NameServer, count: u8, moved: u8) {
    let mut zone = names.zone();
    let name = |pod: u8| format!("db-{pod}.db.test");
    zone.addresses = (0..count).map(|pod| (name(pod), vec![Ipv4Addr::new(127, 88, 0, pod + 1 + moved)])).collect();
    let records = (0..count).map(|pod| (0, 0, 6399, name(pod))).collect();
    zone.services = [("_redis._tcp.db.test".to_owned(), records)].into();
}

#[test]
fn shards_are_found_in_dns_and_followed_there() {
    let directory = directory();
    let _alone = alone("127.88.0.200:6399");
    let names = NameServer::start();
    pods(&names, 2, 0);
    let _shards: Vec<Process> = (0..3)
        .map(|pod| {
            let address = format!("127.88.0.{}", pod + 1);
            // The socket only tells when it is ready.
            Process::redis(directory.path(), &format!("pod{pod}"), &["--bind", &address, "--port", "6399"])
        })
        .collect();
    let nameserver = names.address.to_string();
    let proxy = Proxy::start_with(
        &directory,
        "db:\n  listen: DIR/proxy.sock\n  redis: true\n  hash: murmur\n  timeout: 5000\n  discover: {srv: _redis._tcp.db.test}\n",
        &["--nameserver", &nameserver],
    );
    let mut client = proxy.client();
    eventually("the first two shards", || {
        (0..20).all(|index| client.ask(&format!("SET key{index} x")) == "+OK\r\n").then_some(())
    });
    let shards = || proxy.admin("GET", "/v1/shards").1;
    assert!(shards().contains("\"db-1\"") && !shards().contains("\"db-2\""), "{}", shards());
    pods(&names, 3, 0);
    // Requests are what has DNS asked again: an idle proxy asks nobody.
    eventually("the third shard", || {
        client.ask("GET key0");
        shards().contains("\"db-2\"").then_some(())
    });
    pods(&names, 1, 0);
    eventually("one shard alone", || {
        assert!(!client.ask("SET key0 x").starts_with("-ERR"), "no request fails meanwhile");
        (!shards().contains("\"db-1\"")).then_some(())
    });
}

#[test]
fn a_shard_that_moves_to_another_address_is_followed_there() {
    let directory = directory();
    let _alone = alone("127.88.0.200:6399");
    let names = NameServer::start();
    pods(&names, 1, 0);
    let shards: Vec<Process> = (0..2)
        .map(|at| {
            let address = format!("127.88.0.{}", at + 1);
            Process::redis(directory.path(), &format!("at{at}"), &["--bind", &address, "--port", "6399"])
        })
        .collect();
    for (at, shard) in shards.iter().enumerate() {
        assert_eq!(shard.client().ask(&format!("SET place {at}")), "+OK\r\n");
    }
    let nameserver = names.address.to_string();
    let proxy = Proxy::start_with(
        &directory,
        "db:\n  listen: DIR/proxy.sock\n  redis: true\n  timeout: 5000\n  servers: ['db-0.db.test:6399:1 db-0']\n",
        &["--nameserver", &nameserver],
    );
    let mut client = proxy.client();
    assert_eq!(client.ask("GET place"), "$1\r\n0\r\n");
    pods(&names, 1, 1);
    eventually("the answer from the new address", || {
        let place = client.ask("GET place");
        assert!(!place.starts_with("-ERR"), "no request fails meanwhile: {place}");
        (place == "$1\r\n1\r\n").then_some(())
    });
}
