//! Large values on their way to Redis: in little memory, in the way of nobody, in the order of their client's requests.

use crate::support::{Client, ONE, Process, Proxy, Puppet, directory, eventually, resp};

const HUGE: usize = 96 << 20;

/// `SET key …` of a huge value, as far as before the value.
fn head(key: &str) -> String {
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${HUGE}\r\n", key.len())
}

/// Sends so much of a value on a thread of its own, and then what `end` says.
fn sending(mut client: Client, head: String, bytes: usize, end: String) -> std::thread::JoinHandle<Client> {
    std::thread::spawn(move || {
        client.send(head);
        (0..bytes >> 20).for_each(|_| client.send(vec![b'v'; 1 << 20]));
        client.send(end);
        client
    })
}

#[test]
fn a_huge_value_is_taken_no_faster_than_its_server_takes_it() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let client = sending(proxy.client(), head("huge"), HUGE, "\r\n".to_owned());
    let mut server = puppet.next();
    // What the proxy has taken of it stands still once the server has enough to take.
    let taken = || proxy.metric("hythe_shard_request_bytes");
    let mut before = -1.0;
    eventually("the proxy waits", || {
        let now = taken();
        (std::mem::replace(&mut before, now) == now && now > 0.0).then_some(())
    });
    assert!(taken() < (4 << 20) as f64, "{} bytes are kept for it", taken());
    assert_eq!(server.read(head("huge").len()), head("huge"));
    for _ in 0..HUGE >> 20 {
        assert!(server.read(1 << 20).bytes().all(|byte| byte == b'v'));
    }
    assert_eq!(server.read(2), "\r\n");
    server.send("+OK\r\n");
    let mut client = client.join().unwrap();
    assert_eq!(client.reply(), "+OK\r\n");
    assert_eq!(server.read_to_end(), "", "the connection was for this one request");
    client.send(resp("GET a"));
    puppet.next().read_until("a\r\n");
}

#[test]
fn requests_before_and_behind_a_huge_one_are_done_in_their_order() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let before = |text: &str| String::from_utf8(resp(text)).unwrap();
    let first = before("SET k small") + &before("STRLEN k") + &head("k");
    let behind = "\r\n".to_owned() + &before("STRLEN k") + &before("APPEND k x") + &before("PING");
    let mut client = sending(proxy.client(), first, HUGE, behind).join().unwrap();
    let length = |length: usize| format!(":{length}\r\n");
    for reply in ["+OK\r\n", &length(5), "+OK\r\n", &length(HUGE), &length(HUGE + 1), "+PONG\r\n"] {
        assert_eq!(client.reply(), reply);
    }
    // Arguments behind the value, and other commands; no key but its own is touched.
    let first = format!("*5\r\n$3\r\nSET\r\n$1\r\nk\r\n${HUGE}\r\n");
    let behind = format!("\r\n$2\r\nEX\r\n$4\r\n1000\r\n{}", before("TTL k"));
    let mut client = sending(client, first, HUGE, behind).join().unwrap();
    assert_eq!(client.reply(), "+OK\r\n");
    let left: u32 = client.reply().trim_matches([':', '\r', '\n']).parse().expect("a number");
    assert!((1..=1000).contains(&left), "{left} seconds are left");
    let first = format!("*4\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\nf\r\n${HUGE}\r\n");
    let mut client = sending(client, first, HUGE, "\r\n".to_owned()).join().unwrap();
    assert_eq!(client.reply(), ":1\r\n");
    assert_eq!(client.ask("HSTRLEN h f"), length(HUGE));
}

#[test]
fn nobody_waits_behind_a_client_that_sends_a_huge_value_slowly_and_leaves_in_the_middle() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let impatient = ONE.replace("  redis: true\n", "  redis: true\n  timeout: 5000\n");
    let proxy = Proxy::start_with(&directory, &impatient, &["--threads", "1"]);
    assert_eq!(proxy.client().ask("SET huge old"), "+OK\r\n");
    let slow = sending(proxy.client(), head("huge"), 4 << 20, "vvv".to_owned()).join().unwrap();
    eventually("it is begun", || (proxy.metric("hythe_shard_request_bytes") > 4e6).then_some(()));
    for _ in 0..100 {
        assert_eq!(proxy.client().ask("GET huge"), "$3\r\nold\r\n");
    }
    assert_eq!(proxy.metric("hythe_shard_connections"), 2.0);
    drop(slow);
    eventually("its connection is closed", || (proxy.metric("hythe_shard_connections") == 1.0).then_some(()));
    assert_eq!(proxy.client().ask("GET huge"), "$3\r\nold\r\n");
    assert_eq!(proxy.metric("hythe_shard_waiting"), 0.0);
    assert_eq!(proxy.metric("hythe_shard_errors_total"), 0.0, "the shard has done nothing wrong");
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_huge_request_costs_its_client_an_error_and_no_more() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let behind = "\r\n".to_owned() + &String::from_utf8(resp("PING")).unwrap();
    let client = sending(proxy.client(), head("huge"), HUGE, behind);
    let mut server = puppet.next();
    server.read(3 << 20);
    drop(server);
    let mut client = client.join().unwrap();
    let reply = client.reply();
    assert!(reply.starts_with("-ERR "), "{reply}");
    assert_eq!(client.reply(), "+PONG\r\n");
}

#[test]
fn what_breaks_the_protocol_in_the_middle_of_a_huge_request_ends_it() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let mut client = sending(proxy.client(), head("huge"), HUGE, "xx".to_owned()).join().unwrap();
    assert_eq!(client.read_to_end(), "-ERR Protocol error: a bulk string does not end where it should\r\n");
    assert_eq!(proxy.client().ask("EXISTS huge"), ":0\r\n");
    eventually("its connection is closed", || (proxy.metric("hythe_shard_connections") == 1.0).then_some(()));
}

#[test]
fn a_shard_that_fails_in_the_middle_of_huge_requests_is_ejected() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let _redis = Process::redis(directory.path(), "b", &[]);
    let proxy = Proxy::start_with(
        &directory,
        "db:\n  listen: DIR/proxy.sock\n  redis: true\n  hash: murmur\n  auto_eject_hosts: true\n  server_failure_limit: 2\n  \
         server_retry_timeout: 600000\n  servers: ['DIR/a.sock:1 a', 'DIR/b.sock:1 b']\n",
        &["--threads", "1"],
    );
    let key = (0..1000)
        .map(|index| format!("key{index}"))
        .find(|key| proxy.admin("GET", &format!("/v1/where?key={key}")).1.contains("\"shard\":\"a\""))
        .unwrap();
    for _ in 0..2 {
        let client = sending(proxy.client(), head(&key), HUGE, "\r\n".to_owned());
        let mut server = puppet.next();
        server.read(3 << 20);
        drop(server);
        assert!(client.join().unwrap().reply().starts_with("-ERR "));
    }
    assert_eq!(proxy.metric("hythe_shard_ejections_total"), 1.0);
    assert_eq!(proxy.client().ask(&format!("SET {key} x")), "+OK\r\n", "the other shard has its keys");
}

#[test]
fn a_request_that_must_be_whole_and_is_larger_than_may_be_held_is_refused_and_its_client_goes_on() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let held = ONE.replace("  redis: true\n", "  redis: true\n  held_bytes: 2000000\n");
    let proxy = Proxy::start_with(&directory, &held, &["--threads", "1"]);
    let before = |text: &str| String::from_utf8(resp(text)).unwrap();
    for begin in ["*3\r\n$4\r\nMSET\r\n$1\r\nk\r\n", "*3\r\n$4\r\nEVAL\r\n$1\r\n1\r\n", "*1\r\n"] {
        let head = format!("{}{begin}${HUGE}\r\n", before("SET before 1"));
        let mut client = sending(proxy.client(), head, HUGE, "\r\n".to_owned() + &before("EXISTS k")).join().unwrap();
        assert_eq!(client.reply(), "+OK\r\n");
        let refused = client.reply();
        assert!(refused.starts_with("-ERR ") && refused.contains("held_bytes (2000000)"), "{refused}");
        assert_eq!(client.reply(), ":0\r\n", "{begin}");
    }
}
