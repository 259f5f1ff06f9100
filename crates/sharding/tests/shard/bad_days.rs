//! Servers that die, stall or talk nonsense; clients that do the same.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::support::{Client, ONE, Process, Proxy, Puppet, directory, eventually, resp};

#[test]
fn who_waits_for_a_server_that_dies_mid_reply_is_told_and_the_next_one_is_served() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    one.send(resp("GET a"));
    let mut server = puppet.next();
    server.read_until("a\r\n");
    other.send(resp("GET b"));
    server.read_until("b\r\n");
    server.send("$5\r\nhello\r\n$100\r\nhalf of it");
    assert_eq!(one.reply(), "$5\r\nhello\r\n");
    drop(server);
    assert_eq!(other.reply(), "-ERR Connection closed by the server\r\n");
    other.send(resp("GET b"));
    let mut server = puppet.next();
    server.read_until("b\r\n");
    server.send("$1\r\nb\r\n");
    assert_eq!(other.reply(), "$1\r\nb\r\n");
    assert_eq!(proxy.metric("hythe_shard_errors_total"), 1.0);
}

#[test]
fn garbage_and_answers_to_nothing_cost_the_connection_to_the_server_and_nothing_else() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let mut client = proxy.client();
    for garbage in ["HTTP/1.1 400 Bad Request\r\n\r\n", "$abc\r\n", "*4294967296\r\n", "$3\r\nabcdefg", "+OK\n"] {
        client.send(resp("GET a"));
        let mut server = puppet.next();
        server.read_until("a\r\n");
        server.send(garbage);
        assert!(client.reply().starts_with("-ERR "), "{garbage:?}");
        assert_eq!(server.read_to_end(), "");
    }
    client.send(resp("GET a"));
    let mut server = puppet.next();
    server.read_until("a\r\n");
    server.send("+OK\r\n+OK\r\n");
    assert_eq!(client.reply(), "+OK\r\n");
    assert_eq!(server.read_to_end(), "", "an answer to nothing ends the connection");
    assert_eq!(client.ask("PING"), "+PONG\r\n");
}

#[test]
fn a_stalled_server_is_given_up_in_time_and_the_others_never_wait_for_it() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let _other = Process::redis(directory.path(), "b", &[]);
    let proxy = Proxy::start(
        &directory,
        "db:\n  listen: DIR/proxy.sock\n  redis: true\n  hash: murmur\n  timeout: 2000\n  servers: ['DIR/a.sock:1 a', 'DIR/b.sock:1 b']\n",
    );
    let (mut client, mut fresh) = (proxy.client(), proxy.client());
    let of = |shard: &str| {
        (0..1000)
            .map(|index| format!("key{index}"))
            .find(|key| {
                proxy.admin("GET", &format!("/v1/where?key={key}")).1.contains(&format!("\"shard\":\"{shard}\""))
            })
            .unwrap()
    };
    let (stalled, good) = (of("a"), of("b"));
    client.send(resp(&format!("SET {stalled} 1")));
    client.send(resp(&format!("MGET {good} {stalled}")));
    client.send(resp(&format!("SET {good} 1")));
    let _server = puppet.next();
    assert_eq!(fresh.ask(&format!("SET {good} 1")), "+OK\r\n", "the other shard answers meanwhile");
    assert_eq!(client.reply(), "-ERR Connection timed out\r\n");
    assert_eq!(client.reply(), "-ERR Connection timed out\r\n");
    assert_eq!(client.reply(), "+OK\r\n");
    assert!(proxy.metric("hythe_shard_timeouts_total") >= 1.0);
}

#[test]
fn a_failing_shard_is_ejected_and_comes_back() {
    let directory = directory();
    let servers = ["a", "b", "c"].map(|name| Process::redis(directory.path(), name, &[]));
    let proxy = Proxy::start(
        &directory,
        "db:\n  listen: DIR/proxy.sock\n  redis: true\n  hash: murmur\n  timeout: 2000\n  auto_eject_hosts: true\n  server_failure_limit: 2\n  \
         server_retry_timeout: 300\n  servers: ['DIR/a.sock:1 a', 'DIR/b.sock:1 b', 'DIR/c.sock:1 c']\n",
    );
    let mut client = proxy.client();
    let [a, b, c] = servers;
    drop(b);
    let mut errors = 0;
    eventually("a round without an error", || {
        let round: Vec<String> = (0..50).map(|index| client.ask(&format!("SET key{index} x"))).collect();
        errors += round.iter().filter(|reply| reply.starts_with("-ERR")).count();
        round.iter().all(|reply| reply == "+OK\r\n").then_some(())
    });
    assert!(errors > 0, "the first requests to a dead shard fail");
    assert!(proxy.metric("hythe_shard_ejections_total") >= 1.0);
    let b = Process::redis(directory.path(), "b", &[]);
    let mut direct = b.client();
    eventually("keys on the shard that came back", || {
        (0..50).for_each(|index| drop(client.ask(&format!("SET key{index} x"))));
        (direct.ask("DBSIZE") != ":0\r\n").then_some(())
    });
    drop((a, c));
}

#[test]
fn a_shard_that_cannot_be_reached_is_said_to_be_so() {
    let directory = directory();
    let text = "db:\n  listen: DIR/proxy.sock\n  redis: true\n  servers: ['127.87.0.2:1:1']\n\
                cache:\n  listen: DIR/cache.sock\n  servers: ['127.87.0.2:1:1']\n\
                name:\n  listen: DIR/name.sock\n  redis: true\n  servers: ['no.such.name.invalid:1:1']\n";
    // A name server that is not there.
    let proxy = Proxy::start_with(&directory, text, &["--nameserver", "127.87.0.2:53"]);
    let mut client = proxy.client();
    assert_eq!(client.ask("GET a"), "-ERR Connection refused\r\n");
    assert_eq!(client.ask("MGET a b c"), "-ERR Connection refused\r\n");
    let mut cache = proxy.client_of("cache.sock");
    cache.send("get a\r\nset a 0 0 1\r\nx\r\n");
    assert_eq!(cache.read(2 * 33), "SERVER_ERROR Connection refused\r\n".repeat(2));
    let mut name = proxy.client_of("name.sock");
    assert!(name.ask("GET a").starts_with("-ERR no.such.name.invalid cannot be resolved"));
}

#[test]
fn clients_that_break_the_protocol_are_told_and_closed() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let proxy =
        Proxy::start(&directory, &format!("{ONE}cache:\n  listen: DIR/cache.sock\n  servers: ['DIR/a.sock:1']\n"));
    for hostile in [
        "*3\r\n$999999999999\r\n".to_owned(),
        "*2000000\r\n".to_owned(),
        "*1\r\n*1\r\n*1\r\n".to_owned(),
        "*-99999999999999999999\r\n".to_owned(),
        format!("*1\r\n${}\r\n", "9".repeat(1000)),
        "a".repeat(70_000),
    ] {
        let mut client = proxy.client();
        client.send(&hostile);
        assert!(client.read_to_end().starts_with("-ERR Protocol error"), "{:.40}", hostile);
    }
    for hostile in [
        "set a 0 0 99999999999\r\n".to_owned(),
        "set a 0 0 1\r\nxyz\r\n".to_owned(),
        "get ".to_owned() + &"k".repeat(2 << 20),
    ] {
        let mut client = proxy.client_of("cache.sock");
        // The proxy may close before all of it is written.
        let _ = client.stream.write_all(hostile.as_bytes());
        assert!(client.read_to_end().contains("ERROR"), "{:.40}", hostile);
    }
    assert_eq!(proxy.client().ask("PING"), "+PONG\r\n");
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let proxy = Proxy::start(&directory, ONE);
    let value = "v".repeat(100_000);
    assert_eq!(proxy.client().ask(&format!("SET big {value}")), "+OK\r\n");
    let stream = UnixStream::connect(directory.path().join("proxy.sock")).unwrap();
    stream.set_nonblocking(true).unwrap();
    let requests = resp("GET big").repeat(1000);
    let mut sent = 0;
    // It takes as many requests as it is willing to owe answers for, and no more.
    let mut quiet = 0;
    while sent < 200 << 20 && quiet < 2000 {
        match (&stream).write(&requests[sent % requests.len()..]) {
            Ok(count) => (sent, quiet) = (sent + count, 0),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                quiet += 1;
                assert_eq!(proxy.client().ask("PING"), "+PONG\r\n", "others are served meanwhile");
            }
            Err(_) => break,
        }
    }
    assert!(sent < 10 << 20, "{sent} bytes of requests were taken");
    drop(stream);
    assert_eq!(proxy.client().ask("GET big").len(), value.len() + 11);
}

/// A shard that keeps a value of 96 MiB.
fn with_a_huge_value(directory: &std::sync::Arc<tempfile::TempDir>) -> Process {
    let redis = Process::redis(directory.path(), "a", &[]);
    let last = (96 << 20) - 1;
    assert_eq!(redis.client().ask(&format!("SETRANGE huge {last} x")), format!(":{}\r\n", last + 1));
    redis
}

#[test]
fn a_huge_answer_is_passed_on_no_faster_than_its_client_reads() {
    let directory = directory();
    let _redis = with_a_huge_value(&directory);
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let mut slow = proxy.client();
    slow.send(resp("GET huge"));
    let taken = || proxy.metric("hythe_shard_response_bytes");
    // What the proxy has taken of it stands still once the client has enough to read.
    let mut before = -1.0;
    eventually("the proxy waits", || {
        let now = taken();
        (std::mem::replace(&mut before, now) == now && now > 0.0).then_some(())
    });
    assert!(taken() < (24 << 20) as f64, "{} bytes are kept for it", taken());
    assert_eq!(slow.reply().len(), "$100663296\r\n".len() + (96 << 20) + 2);
    assert_eq!(proxy.client().ask("STRLEN huge"), format!(":{}\r\n", 96 << 20));
}

#[test]
fn a_client_that_stops_reading_a_huge_answer_is_given_up_for_those_behind_it() {
    let directory = directory();
    let _redis = with_a_huge_value(&directory);
    let impatient = ONE.replace("  redis: true\n", "  redis: true\n  timeout: 1000\n");
    let proxy = Proxy::start_with(&directory, &impatient, &["--threads", "1"]);
    let mut stalled = proxy.client();
    stalled.send(resp("GET huge"));
    eventually("it is begun", || (proxy.metric("hythe_shard_response_bytes") > 1e6).then_some(()));
    assert_eq!(proxy.client().ask("STRLEN huge"), format!(":{}\r\n", 96 << 20));
    assert!(stalled.read_to_end().len() < 96 << 20, "it is closed, rather than told something in between");
    assert_eq!(proxy.client().ask("SET a 1"), "+OK\r\n");
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_huge_answer_ends_the_client_too() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let mut client = proxy.client();
    client.send(resp("GET huge"));
    let mut server = puppet.next();
    server.read_until("huge\r\n");
    server.send(format!("$9000000\r\n{}", "x".repeat(1 << 20)));
    eventually("a part is passed on", || (proxy.metric("hythe_shard_response_bytes") > 1e6).then_some(()));
    drop(server);
    let got = client.read_to_end();
    assert!(got.starts_with("$9000000\r\nxxx") && got.ends_with('x'), "no error is mixed into it");
}

#[test]
fn a_large_value_of_memcached_is_passed_on_as_it_comes() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let one = ONE.replace("  redis: true\n", "  held_bytes: 300000\n");
    let proxy = Proxy::start_with(&directory, &one, &["--threads", "1"]);
    let mut client = proxy.client();
    client.send("get large\r\n");
    let mut server = puppet.next();
    server.read_until("large\r\n");
    // More than may be kept: it need not be, since the client waits for it next.
    server.send(format!("VALUE large 0 1200000\r\n{}", "x".repeat(600_000)));
    let begun = client.read(400_000);
    assert!(begun.starts_with("VALUE large 0 1200000\r\nxxx"), "{}", &begun[..40]);
    server.send(format!("{}\r\nEND\r\n", "x".repeat(600_000)));
    assert!(client.read_until("END\r\n").len() > 800_000);
    // A meta command with the quiet flag, whose answer ends with what is ours alone.
    client.send("mg large v q\r\nget next\r\n");
    server.read_until("mn\r\n");
    server.send(format!("VA 500000\r\n{}\r\nMN\r\n", "y".repeat(500_000)));
    server.read_until("next\r\n");
    server.send("END\r\n");
    let said = client.read_until("END\r\n");
    assert!(said.ends_with("yy\r\nEND\r\n") && !said.contains("MN"), "{}", &said[said.len() - 40..]);
}

#[test]
fn what_would_be_kept_beyond_its_limit_is_an_error_and_the_client_goes_on() {
    let directory = directory();
    let _shards = ["a", "b"].map(|name| Process::redis(directory.path(), name, &[]));
    let two = "db:\n  listen: DIR/proxy.sock\n  redis: true\n  hash_tag: '{}'\n  distribution: modula\n  hash: crc32a\n  held_bytes: 2000000\n  servers: ['DIR/a.sock:1 a', 'DIR/b.sock:1 b']\n";
    let proxy = Proxy::start_with(&directory, two, &["--threads", "1"]);
    let mut client = proxy.client();
    let shard = |key: &str| {
        let (_, said) = proxy.admin("GET", &format!("/v1/where?pool=db&key={key}"));
        said.contains("\"a\"")
    };
    let keys: Vec<String> = (0..100).map(|i| format!("key{i}")).collect();
    let (here, there): (Vec<&String>, Vec<&String>) = keys.iter().partition(|key| shard(key));
    let value = "v".repeat(700_000);
    for key in [here[0], here[1], there[0], there[1]] {
        assert_eq!(client.ask(&format!("SET {key} {value}")), "+OK\r\n");
    }
    // Two of them may be kept until they are joined, four may not; one shard's alone are passed on.
    let length = |client: &mut Client, words: &str| {
        client.send(resp(words));
        client.reply().len()
    };
    assert!(length(&mut client, &format!("MGET {} {}", here[0], there[0])) > 1_400_000);
    let all = format!("MGET {} {} {} {}", here[0], there[0], here[1], there[1]);
    client.send(resp(&all));
    let refused = client.reply();
    assert!(refused.starts_with("-ERR") && refused.contains("held_bytes"), "{}", &refused[..60]);
    assert!(length(&mut client, &format!("MGET {} {}", here[0], here[1])) > 1_400_000);
    // Nothing is left of what was kept.
    assert!(length(&mut client, &format!("MGET {} {}", here[0], there[0])) > 1_400_000);
    assert_eq!(client.ask("PING"), "+PONG\r\n");
}

#[test]
fn one_answer_too_large_to_be_kept_is_an_error_too() {
    let directory = directory();
    let puppets = ["a", "b"].map(|name| Puppet::listen(&directory, &format!("{name}.sock")));
    let two = "db:\n  listen: DIR/proxy.sock\n  redis: true\n  hash: murmur\n  held_bytes: 1000000\n  servers: ['DIR/a.sock:1 a', 'DIR/b.sock:1 b']\n";
    let proxy = Proxy::start_with(&directory, two, &["--threads", "1"]);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..20).map(|i| format!("key{i}")).collect();
    client.send(resp(&format!("DEL {}", keys.join(" "))));
    let mut servers = puppets.each_ref().map(Puppet::next);
    for server in &mut servers {
        server.read_until("DEL");
    }
    // A server that says far more than anybody asked for.
    servers[0].send(format!("$8000000\r\n{}", "x".repeat(4_000_000)));
    servers[1].send(":3\r\n");
    let refused = client.reply();
    assert!(refused.starts_with("-ERR") && refused.contains("held_bytes"), "{refused:.60}");
    servers[0].send(format!("{}\r\n", "x".repeat(4_000_000)));
    assert_eq!(client.ask("PING"), "+PONG\r\n");
}

#[test]
fn a_client_that_leaves_takes_nobody_elses_answer_with_it() {
    let directory = directory();
    let puppet = Puppet::listen(&directory, "a.sock");
    let proxy = Proxy::start_with(&directory, ONE, &["--threads", "1"]);
    let mut leaving = proxy.client();
    leaving.send(resp("GET leaving"));
    let mut server = puppet.next();
    server.read_until("leaving\r\n");
    drop(leaving);
    // The next one may get the place of the one that left.
    let mut staying = proxy.client();
    staying.send(resp("GET staying"));
    server.read_until("staying\r\n");
    server.send("$7\r\nleaving\r\n$7\r\nstaying\r\n");
    assert_eq!(staying.reply(), "$7\r\nstaying\r\n");
}

#[test]
fn half_closed_clients_get_their_answers() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let proxy = Proxy::start(&directory, ONE);
    let mut stream = UnixStream::connect(proxy.directory.path().join("proxy.sock")).unwrap();
    stream.write_all(&resp("SET a 1").repeat(100)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "+OK\r\n".repeat(100));
}

#[test]
fn whoever_breaks_the_protocol_can_read_why_it_is_closed_however_much_it_goes_on_sending() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    // A port that is free now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = Proxy::start(&directory, &ONE.replace("DIR/proxy.sock", &format!("127.0.0.1:{port}")));
    for _ in 0..20 {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream.write_all(b"*1\r\n$-5\r\n").unwrap();
        let rest = vec![b'x'; 300_000];
        stream.write_all(&rest).expect("it is still read");
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("no reset takes the answer away");
        assert_eq!(said, "-ERR Protocol error: invalid bulk length\r\n");
    }
    drop(proxy);
}
