//! Each key of twemproxy's file does what it does there, seen from outside.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{Client, Process, Proxy, directory, eventually};

const ONE: &str = "db:\n  listen: DIR/proxy.sock\n  redis: true\n  timeout: 20000\n  servers: ['DIR/a.sock:1 a']\n";

/// How many connections a Redis has beside the one that asks it.
fn connections(redis: &Process) -> usize {
    redis.client().ask("CLIENT LIST").lines().filter(|line| line.starts_with("id=")).count() - 1
}

#[test]
fn pools_of_one_file_are_apart_and_their_sockets_have_the_permissions_that_are_asked_for() {
    let directory = directory();
    let _shards = (Process::redis(directory.path(), "a", &[]), Process::memcached(directory.path(), "b"));
    let second = "cache:\n  listen: DIR/cache.sock 0666\n  timeout: 20000\n  servers: ['DIR/b.sock:1 b']\n";
    let proxy = Proxy::start(&directory, &format!("{}{second}", ONE.replace("proxy.sock", "proxy.sock 0600")));
    let mode = |socket: &str| directory.path().join(socket).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("proxy.sock"), mode("cache.sock")), (0o600, 0o666));
    assert_eq!(proxy.client().ask("SET k redis"), "+OK\r\n");
    let mut cache = proxy.client_of("cache.sock");
    cache.send("get k\r\nset k 0 0 1\r\nm\r\n");
    assert_eq!(cache.read_until("STORED\r\n"), "END\r\nSTORED\r\n");
    assert_eq!(proxy.client().ask("GET k"), "$5\r\nredis\r\n");
    // A pool that listens elsewhere from now on leaves nothing behind where it was.
    proxy.reload(&ONE.replace("proxy.sock", "other.sock 0640")).unwrap();
    assert_eq!(proxy.client_of("other.sock").ask("GET k"), "$5\r\nredis\r\n");
    assert_eq!(mode("other.sock"), 0o640);
    for gone in ["proxy.sock", "cache.sock"] {
        assert!(!directory.path().join(gone).exists(), "{gone}");
    }
    // By another name it may go on at the same place, with the same clients.
    let mut stays = proxy.client_of("other.sock");
    assert_eq!(stays.ask("PING"), "+PONG\r\n");
    proxy.reload(&ONE.replace("proxy.sock", "other.sock 0640").replace("db:", "renamed:")).unwrap();
    assert_eq!(proxy.client_of("other.sock").ask("GET k"), "$5\r\nredis\r\n");
    eventually("all event loops know it by its name", || {
        assert_eq!(stays.ask("GET k"), "$5\r\nredis\r\n");
        (proxy.metric("hythe_shard_pool_clients{pool=\"renamed\"") == 1.0).then_some(())
    });
    assert_eq!(proxy.metric("hythe_shard_pool_clients{pool=\"db\""), 0.0);
}

#[test]
fn connections_to_servers_are_as_many_as_asked_for_and_made_when_asked_for() {
    let directory = directory();
    let redis = Process::redis(directory.path(), "a", &[]);
    let file = |more: &str| format!("{ONE}  server_connections: 3\n{more}");
    let proxy = Proxy::start_with(&directory, &file(""), &["--threads", "1"]);
    assert_eq!(connections(&redis), 0, "nobody has asked yet");
    let mut clients: Vec<Client> = (0..9).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("GET nothing"), "$-1\r\n");
    }
    assert_eq!(connections(&redis), 3, "nine clients share three");
    drop((clients, proxy));
    eventually("they end with the proxy", || (connections(&redis) == 0).then_some(()));
    let _proxy = Proxy::start_with(&directory, &file("  preconnect: true\n"), &["--threads", "1"]);
    eventually("they are there before anybody asks", || (connections(&redis) == 3).then_some(()));
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let proxy = Proxy::start(&directory, &format!("{ONE}  client_connections: 2\n"));
    let (mut first, mut second) = (proxy.client(), proxy.client());
    assert_eq!((first.ask("PING"), second.ask("PING")), ("+PONG\r\n".to_owned(), "+PONG\r\n".to_owned()));
    assert_eq!(proxy.client().read_to_end(), "-ERR max number of clients reached\r\n");
    drop(second);
    eventually("there is room again", || {
        let mut client = proxy.client();
        client.send("PING\r\n");
        let mut said = [0; 7];
        client.stream.read_exact(&mut said).ok()?;
        (&said == b"+PONG\r\n").then_some(())
    });
}

#[test]
fn the_kernel_probes_idle_clients_where_it_is_asked_to() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |keeps: bool| ONE.replace("DIR/proxy.sock", &format!("127.0.0.1:{port}\n  tcpkeepalive: {keeps}"));
    for keeps in [true, false] {
        let proxy = Proxy::start(&directory, &file(keeps));
        let ping = || {
            let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            client.write_all(b"PING\r\n").unwrap();
            let mut said = [0; 7];
            client.read_exact(&mut said).unwrap();
            assert_eq!(&said, b"+PONG\r\n");
            client
        };
        // Once it is answered it is accepted: the kernel shows it before that, too.
        let client = ping();
        let own = client.local_addr().unwrap().port();
        // `01` runs until the answer is acknowledged.
        let timer = eventually("the connection at rest", || timer(port, own).filter(|timer| timer != "01"));
        assert_eq!(timer == "02", keeps, "the connection's timer is {timer}");
        // A pool by another name at the same address takes it over.
        proxy.reload(&file(keeps).replace("db:", "renamed:")).unwrap();
        ping();
    }
}

/// Which timer runs on the connection between two ports of this machine: `02` is that of the probes.
fn timer(local: u16, remote: u16) -> Option<String> {
    let table = std::fs::read_to_string(Path::new("/proc/net/tcp")).unwrap();
    let of = |port: u16| format!("0100007F:{port:04X}");
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)? == &of(local) && fields.get(2)? == &of(remote);
        is_it.then(|| fields[5][..2].to_owned())
    })
}
