//! memcached, with real memcached processes as shards; one alone tells what the answers should be.

use std::sync::Arc;

use crate::support::{Process, Proxy, directory};

const THREE: &str = "cache:\n  listen: DIR/proxy.sock\n  hash: murmur\n  distribution: ketama\n  timeout: 20000\n  servers:\n   \
                     - DIR/a.sock:1 cache-0\n   - DIR/b.sock:1 cache-1\n   - DIR/c.sock:1 cache-2\n";

fn three(directory: &Arc<tempfile::TempDir>) -> [Process; 3] {
    ["a", "b", "c"].map(|name| Process::memcached(directory.path(), name))
}

/// What clients say; `mn` closes each group, so that its answer has an end.
const SCRIPT: &[&str] = &[
    "set a 5 0 3\r\nabc\r\nset b 0 0 0\r\n\r\nset c 0 0 5 noreply\r\nx\r\ny\r\r\nget c\r\n",
    "add a 0 0 1\r\nx\r\nadd d 0 0 1\r\n1\r\nreplace d 0 0 2\r\n41\r\nincr d 1\r\ndecr d 2\r\nincr nothing 1\r\n",
    "append a 0 0 1\r\nd\r\nprepend a 0 0 1\r\n_\r\nget a\r\n",
    "touch a 100\r\ntouch nothing 100\r\ndelete d\r\ndelete d\r\ndelete d noreply\r\ndelete nothing noreply\r\n",
    "gat 100 a\r\nincr a 1\r\n",
    "mg a v f t\r\nmg nothing v\r\nmg a\r\nmg a k O77 v q\r\nmg nothing v q k\r\nmg YQ== b k v\r\n",
    "ms m 2 T0 F9\r\nhi\r\nms m 2 q\r\nho\r\nms m 2 ME q\r\nno\r\nmg m v f q\r\nmd m q\r\nmd m q\r\n",
    "ma n N0 J10 v\r\nma n v\r\nma n q\r\nma n v D5\r\nma nothing\r\nma nothing q\r\n",
    "version\r\nverbosity 1\r\nverbosity 1 noreply\r\nverbosity\r\nverbosity noreply\r\nverbosity loud\r\nverbosity a b c\r\nverbosity 1 2\r\nstats noreply\r\n",
    "get\r\nnonsense\r\n\r\nmg\r\nms x\r\n",
];

#[test]
fn answers_are_those_of_a_single_memcached() {
    let directory = directory();
    let _shards = three(&directory);
    let alone = Process::memcached(directory.path(), "alone");
    let proxy = Proxy::start(&directory, THREE);
    for group in SCRIPT {
        let (mut ours, mut theirs) = (proxy.client(), alone.client());
        // What cannot be told from data ends our connection; the answer before that is the same.
        let fatal = group.ends_with("ms x\r\n");
        let script = if fatal { (*group).to_owned() } else { format!("{group}mn\r\n") };
        ours.send(&script);
        theirs.send(&script);
        let (ours, theirs) = if fatal {
            let said = ours.read_to_end();
            (said.clone(), theirs.read(said.len()))
        } else {
            (ours.read_until("MN\r\n"), theirs.read_until("MN\r\n"))
        };
        assert_eq!(ours, theirs, "{group:?}");
    }
}

#[test]
fn retrievals_of_many_keys_are_split_and_joined() {
    let directory = directory();
    let shards = three(&directory);
    let proxy = Proxy::start(&directory, THREE);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..60).map(|index| format!("key{index}")).collect();
    for key in &keys {
        client.send(format!("set {key} 0 0 {} noreply\r\n{key}\r\n", key.len()));
    }
    client.send(format!("get {} nothing\r\n", keys.join(" ")));
    let values = client.read_until("END\r\n");
    for key in &keys {
        assert!(values.contains(&format!("VALUE {key} 0 {}\r\n{key}\r\n", key.len())), "{key} in {values}");
    }
    assert_eq!(values.matches("VALUE ").count(), 60);
    assert_eq!(values.matches("END\r\n").count(), 1);
    client.send(format!("gets {}\r\n", keys[..10].join(" ")));
    assert_eq!(client.read_until("END\r\n").matches("VALUE ").count(), 10);
    for shard in &shards {
        let mut direct = shard.client();
        direct.send("stats\r\n");
        let stats = direct.read_until("END\r\n");
        assert!(!stats.contains("STAT curr_items 0\r\n"), "all shards have some");
    }
    // cas over shards.
    client.send("gets key7\r\n");
    let unique = client.read_until("END\r\n").split_whitespace().nth(4).unwrap().to_owned();
    client.send(format!("cas key7 0 0 3 {unique}\r\nnew\r\ncas key7 0 0 3 {unique}\r\nold\r\n"));
    assert_eq!(client.read_until("EXISTS\r\n"), "STORED\r\nEXISTS\r\n");
}

#[test]
fn a_value_larger_than_may_be_held_is_refused_as_memcached_does_and_nothing_of_it_is_kept() {
    let directory = directory();
    let _shards = three(&directory);
    // A memcached whose own limit is as low: what it says is what the proxy should say.
    let alone = Process::memcached_with(directory.path(), "alone", &["-I", "1m"]);
    let proxy = Proxy::start(&directory, &THREE.replace("timeout", "held_bytes: 1048576\n  timeout"));
    let (mut ours, mut theirs) = (proxy.client(), alone.client());
    // `get x` in the data is no request, wherever the pieces are cut.
    let data = "get x\r\n".repeat(300_000);
    for line in
        ["set k 0 0 N", "set k 0 0 N noreply", "add k 0 0 N", "append k 0 0 N", "ms k N", "ms k N q", "ms aw== N b"]
    {
        let line = line.replace('N', &data.len().to_string());
        let script = format!("set k 0 0 1\r\n1\r\n{line}\r\n{data}\r\nget k\r\nset k 0 0 1\r\n2\r\nmn\r\n");
        ours.send(&script);
        theirs.send(&script);
        assert_eq!(ours.read_until("MN\r\n"), theirs.read_until("MN\r\n"), "{line}");
    }
    // Far more than the proxy may hold goes by, and one that is not whole yet is answered already.
    ours.send("set k 0 0 268435456\r\n");
    assert_eq!(ours.read_until("\r\n"), "SERVER_ERROR object too large for cache\r\n");
    let piece = vec![b'x'; 1 << 20];
    (0..256).for_each(|_| ours.send(&piece));
    ours.send("\r\nget k\r\n");
    assert_eq!(ours.read_until("END\r\n"), "END\r\n");
}

#[test]
fn writes_reach_all_replicas_and_reads_are_answered_by_them() {
    let directory = directory();
    let [primary, one, other] = three(&directory);
    let proxy = Proxy::start(
        &directory,
        "cache:\n  listen: DIR/proxy.sock\n  timeout: 5000\n  reads: replicas\n  writes: all\n  servers: ['DIR/a.sock:1 c0']\n  \
         replicas: {c0: [DIR/b.sock, DIR/c.sock]}\n",
    );
    let mut client = proxy.client();
    client.send("set a 0 0 1\r\n1\r\nmn\r\n");
    assert_eq!(client.read_until("MN\r\n"), "STORED\r\nMN\r\n");
    for server in [&primary, &one, &other] {
        let mut direct = server.client();
        crate::support::eventually("the copy", || {
            direct.send("get a\r\n");
            direct.read_until("END\r\n").contains("VALUE a").then_some(())
        });
        direct.send("cache_memlimit 64\r\n");
        direct.read_until("\r\n");
    }
    let mut direct = primary.client();
    direct.send("set a 0 0 1\r\nP\r\n");
    direct.read_until("STORED\r\n");
    for _ in 0..10 {
        client.send("get a\r\n");
        assert_eq!(client.read_until("END\r\n"), "VALUE a 0 1\r\n1\r\nEND\r\n", "the primary is not asked");
    }
    drop(one);
    drop(other);
    crate::support::eventually("the primary's answer", || {
        client.send("get a\r\nmn\r\n");
        client.read_until("MN\r\n").contains("\r\nP\r\n").then_some(())
    });
}

#[test]
fn all_shards_are_emptied_or_it_is_said_that_they_are_not() {
    let directory = directory();
    let [a, b, c] = three(&directory);
    let proxy = Proxy::start(&directory, THREE);
    let mut client = proxy.client();
    let keys = (0..60).map(|index| format!("key{index}")).collect::<Vec<_>>();
    let fill = keys.iter().map(|key| format!("set {key} 0 0 1 noreply\r\nx\r\n")).collect::<String>();
    let get = format!("get {}\r\n", keys.join(" "));
    for flush in ["flush_all\r\n", "flush_all 0\r\n"] {
        client.send(&fill);
        client.send(format!("{get}{flush}{get}"));
        assert_eq!(client.read_until("END\r\n").matches("VALUE ").count(), 60);
        assert_eq!(client.read_until("END\r\n"), "OK\r\nEND\r\n");
    }
    client.send(format!("{fill}flush_all noreply\r\n{get}"));
    assert_eq!(client.read_until("END\r\n"), "END\r\n");
    client.send("flush_all nonsense\r\n");
    assert_eq!(client.read_until("\r\n"), "CLIENT_ERROR invalid exptime argument\r\n", "as a server says it");
    client.send("stats\r\n");
    let stats = client.read_until("END\r\n");
    assert!(stats.contains("STAT curr_connections 1\r\n") && stats.contains("STAT shards 3\r\n"), "{stats}");
    drop(b);
    client.send("flush_all\r\n");
    assert!(client.read_until("\r\n").starts_with("SERVER_ERROR "));
    drop((a, c));
}
