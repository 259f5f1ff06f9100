//! Redis, with real redis-servers as shards.

use std::collections::HashSet;
use std::sync::Arc;

use crate::support::{Client, ONE, Process, Proxy, alone, directory, eventually, resp};

const THREE: &str = "db:\n  listen: DIR/proxy.sock\n  hash: murmur\n  hash_tag: \"{}\"\n  distribution: ketama\n  redis: true\n  \
                     timeout: 20000\n  servers:\n   - DIR/a.sock:1 db-0\n   - DIR/b.sock:1 db-1\n   - DIR/c.sock:1 db-2\n";

fn three(directory: &Arc<tempfile::TempDir>, more: &[&str]) -> [Process; 3] {
    ["a", "b", "c"].map(|name| Process::redis(directory.path(), name, more))
}

#[test]
fn keys_are_spread_and_commands_of_many_keys_are_split_and_joined() {
    let directory = directory();
    let shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let mut client = proxy.client();
    let keys: Vec<String> = (0..100).map(|index| format!("key:{index}")).collect();
    let pairs: Vec<String> = keys.iter().map(|key| format!("{key} v-{key}")).collect();
    assert_eq!(client.ask(&format!("MSET {}", pairs.join(" "))), "+OK\r\n");
    let sizes = shards.each_ref().map(|shard| shard.client().ask("DBSIZE"));
    assert!(sizes.iter().all(|size| size != ":0\r\n"), "all shards have some: {sizes:?}");

    let values = client.ask(&format!("mget {} none", keys.join(" ")));
    let expected: String = keys.iter().map(|key| format!("${}\r\nv-{key}\r\n", key.len() + 2)).collect();
    assert_eq!(values, format!("*101\r\n{expected}$-1\r\n"));
    assert_eq!(client.ask(&format!("EXISTS {} none", keys.join(" "))), ":100\r\n");
    assert_eq!(client.ask(&format!("TOUCH {}", keys[..50].join(" "))), ":50\r\n");
    assert_eq!(client.ask(&format!("UNLINK {}", keys[..20].join(" "))), ":20\r\n");
    assert_eq!(client.ask(&format!("DEL {}", keys.join(" "))), ":80\r\n");
    assert_eq!(client.ask("MGET only"), "*1\r\n$-1\r\n");
    // A shard's error is the answer as a whole.
    client.ask("LPUSH key:1 x");
    assert!(client.ask("MSET a").starts_with("-ERR wrong number of arguments for 'mset'"));
    assert!(client.ask("GET").starts_with("-ERR wrong number of arguments for 'get'"));
}

#[test]
fn tags_keep_keys_together() {
    let directory = directory();
    let _shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let mut client = proxy.client();
    for user in 0..20 {
        client.ask(&format!("SET {{user{user}}}.name x"));
        assert_eq!(client.ask(&format!("RENAME {{user{user}}}.name {{user{user}}}.old")), "+OK\r\n");
        assert_eq!(client.ask(&format!("MSETNX {{user{user}}}.one 1 {{user{user}}}.two 2")), ":1\r\n");
        assert_eq!(client.ask(&format!("MSETNX {{user{user}}}.two 1 {{user{user}}}.three 2")), ":0\r\n");
        let both = client.ask(&format!("EVAL return{{KEYS[1],KEYS[2]}} 2 {{user{user}}}a {{user{user}}}b"));
        assert!(both.starts_with("*2\r\n") && both.contains(&format!("{{user{user}}}b")), "{both}");
    }
    let refused: HashSet<String> = (0..20)
        .map(|index| client.ask(&format!("RENAME a{index} b{index}")))
        .filter(|reply| reply.contains("shards"))
        .collect();
    assert_eq!(refused.len(), 1, "keys of different shards cannot be renamed into each other");
    let apart = (0..20).map(|index| client.ask(&format!("MSETNX a{index} 1 b{index} 2")));
    assert!(apart.into_iter().any(|reply| reply.contains("shards")));
    assert!(client.ask("TIME").starts_with("*2\r\n"));
}

#[test]
fn a_script_is_loaded_into_all_shards_and_then_runs_by_its_digest_wherever_its_keys_are() {
    let directory = directory();
    let shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let mut client = proxy.client();
    let digest = client.ask("SCRIPT LOAD return{KEYS[1]}");
    assert!(digest.starts_with("$40\r\n"), "{digest}");
    let digest = digest[5..45].to_owned();
    for key in 0..20 {
        let answer = client.ask(&format!("EVALSHA {digest} 1 key-{key}"));
        assert!(answer.ends_with(&format!("key-{key}\r\n")), "{answer}");
    }
    assert_eq!(client.ask(&format!("SCRIPT EXISTS {digest} {}", "0".repeat(40))), "*2\r\n:1\r\n:0\r\n");
    shards[1].client().ask("SCRIPT FLUSH");
    assert_eq!(client.ask(&format!("script exists {digest}")), "*1\r\n:0\r\n", "one of them has forgotten it");
    assert_eq!(client.ask("SCRIPT FLUSH"), "+OK\r\n");
    assert!(client.ask(&format!("EVALSHA {digest} 1 key-1")).starts_with("-NOSCRIPT"));
    assert!(client.ask("SCRIPT LOAD return(").starts_with("-ERR Error compiling script"));
    assert!(client.ask("SCRIPT KILL").starts_with("-ERR SCRIPT KILL is not supported"));
    assert!(client.ask("SCRIPT").starts_with("-ERR wrong number of arguments for 'script'"));
}

#[test]
fn answers_come_in_the_order_of_the_requests_however_they_are_pipelined() {
    let directory = directory();
    let _shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let mut requests = Vec::new();
    let mut expected = String::new();
    for index in 0..5000 {
        requests.extend(resp(&format!("SET k{index} value-{index}")));
        requests.extend(resp("PING"));
        requests.extend(resp(&format!("MGET k{index} k{} nothing", index / 2)));
        requests.extend(format!("ECHO inline-{index}\r\n").bytes());
        let (one, other) = (format!("value-{index}"), format!("value-{}", index / 2));
        expected.push_str(&format!(
            "+OK\r\n+PONG\r\n*3\r\n${}\r\n{one}\r\n${}\r\n{other}\r\n$-1\r\n${}\r\ninline-{index}\r\n",
            one.len(),
            other.len(),
            one.len() + 1
        ));
    }
    // Written beside the reading: the proxy stops reading while it owes too many answers.
    let path = proxy.directory.path().join("proxy.sock");
    let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut sending, &requests).unwrap());
    let mut reader = Client::over(stream);
    assert_eq!(reader.read(expected.len()), expected);
    sender.join().unwrap();
}

#[test]
fn large_values_pass() {
    let directory = directory();
    let _shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let mut client = proxy.client();
    let large = "x".repeat(20 << 20);
    assert_eq!(client.ask(&format!("SET large {large}")), "+OK\r\n");
    assert_eq!(client.ask("GET large").len(), large.len() + 13);
    assert_eq!(client.ask("MGET large a large").len(), 4 + 2 * (large.len() + 13) + 5);
    assert_eq!(client.ask("PING"), "+PONG\r\n");
}

#[test]
fn resp3_is_spoken_with_those_who_ask_for_it() {
    let directory = directory();
    let _shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let (mut new, mut old) = (proxy.client(), proxy.client());
    let hello = new.ask("HELLO 3 SETNAME test");
    assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n") && hello.contains("proto\r\n:3\r\n"), "{hello}");
    assert_eq!(new.ask("CLIENT GETNAME"), "$4\r\ntest\r\n");
    let own = new.ask("CLIENT ID");
    assert!(hello.contains(&format!("id\r\n{own}")), "{hello} {own}");
    assert_eq!(new.ask("HSET h f v"), ":1\r\n");
    assert_eq!(new.ask("HGETALL h"), "%1\r\n$1\r\nf\r\n$1\r\nv\r\n");
    assert_eq!(new.ask("GET nothing"), "_\r\n");
    assert_eq!(new.ask("MGET nothing1 nothing2 nothing3 nothing4"), "*4\r\n_\r\n_\r\n_\r\n_\r\n");
    assert_eq!(old.ask("HGETALL h"), "*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
    assert!(old.ask("HELLO 4").starts_with("-NOPROTO"));
    assert!(old.ask("HELLO x").starts_with("-ERR Protocol version is not an integer"));
    assert!(old.ask("HELLO").starts_with("*14\r\n"));
}

#[test]
fn what_concerns_no_single_shard_is_answered_here_or_refused() {
    let directory = directory();
    let _shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let mut client = proxy.client();
    assert_eq!(client.ask("PING"), "+PONG\r\n");
    assert_eq!(client.ask("PING hello"), "$5\r\nhello\r\n");
    assert_eq!(client.ask("SELECT 0"), "+OK\r\n");
    assert!(client.ask("SELECT 1").starts_with("-ERR this pool is database 0"));
    assert!(client.ask("SELECT").starts_with("-ERR wrong number of arguments"));
    assert!(client.ask("LOLWUT").contains("Redis ver. "), "a shard's own answer");
    assert_eq!(client.ask("COMMAND DOCS"), "*0\r\n");
    assert_eq!(client.ask("CLIENT GETNAME"), "$-1\r\n");
    assert_eq!(client.ask("CLIENT SETNAME x"), "+OK\r\n");
    assert_eq!(client.ask("CLIENT GETNAME"), "$1\r\nx\r\n");
    client.send("*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$3\r\na b\r\n");
    assert!(client.reply().starts_with("-ERR Client names cannot contain spaces"));
    assert!(client.ask("CLIENT SETNAME").starts_with("-ERR wrong number of arguments"));
    assert_eq!(client.ask("CLIENT GETNAME"), "$1\r\nx\r\n");
    assert!(client.ask("AUTH secret").starts_with("-ERR Client sent AUTH"));
    for refused in
        ["SUBSCRIBE news", "MULTI", "KEYS *", "BLPOP q 0", "FLUSHALL", "XREAD BLOCK 0 STREAMS s $", "EVAL s 0"]
    {
        let reply = client.ask(refused);
        assert!(reply.starts_with("-ERR "), "{refused}: {reply}");
    }
    assert!(proxy.metric("hythe_shard_pool_refused_total") >= 10.0);
    client.send("QUIT\r\n");
    assert_eq!(client.read_to_end(), "+OK\r\n");
}

#[test]
fn the_password_and_the_database_of_the_pool_hold() {
    let directory = directory();
    let shards = three(&directory, &["--requirepass", "secret"]);
    let proxy =
        Proxy::start(&directory, &THREE.replace("redis: true", "redis: true\n  redis_auth: secret\n  redis_db: 3"));
    let mut client = proxy.client();
    assert!(client.ask("GET a").starts_with("-NOAUTH"));
    assert!(client.ask("AUTH wrong").starts_with("-WRONGPASS"));
    assert_eq!(client.ask("AUTH default secret"), "+OK\r\n");
    assert_eq!(client.ask("SELECT 3"), "+OK\r\n");
    assert_eq!(client.ask("SELECT 0"), "+OK\r\n", "as twemproxy's pools do, it shows itself as database 0");
    assert!(client.ask("SELECT 1").starts_with("-ERR this pool is database 3"));
    assert_eq!(client.ask("SET a 1"), "+OK\r\n");
    let mut found = Vec::new();
    for shard in &shards {
        let mut direct = shard.client();
        direct.ask("AUTH secret");
        direct.ask("SELECT 3");
        found.push(direct.ask("GET a"));
    }
    found.sort();
    assert_eq!(found, ["$-1\r\n", "$-1\r\n", "$1\r\n1\r\n"]);
    let mut hello = proxy.client();
    assert!(hello.ask("HELLO 3").starts_with("-NOAUTH"));
    assert!(hello.ask("HELLO 3 AUTH default secret").starts_with("%7"));
    assert_eq!(hello.ask("GET a"), "$1\r\n1\r\n");
    // Before the password, nobody may make the proxy hold much.
    let mut stranger = proxy.client();
    stranger.send("*2\r\n$3\r\nGET\r\n$100000\r\n");
    assert!(stranger.read_to_end().starts_with("-ERR Protocol error"));
}

#[test]
fn twemproxy_finds_what_was_stored_here_and_the_other_way_round() {
    let directory = directory();
    let _shards = three(&directory, &[]);
    let _alone = alone("127.87.0.1:22223");
    let pool = THREE.replace("hash: murmur", "hash: fnv1a_64");
    let proxy = Proxy::start(&directory, &pool);
    let socket = directory.path().join("nutcracker.sock");
    let configuration = pool.replace("DIR/proxy.sock", "DIR/nutcracker.sock");
    let configuration = configuration.replace("DIR", directory.path().to_str().unwrap());
    let nutcracker = Process::nutcracker(directory.path(), &configuration, socket);
    let (mut ours, mut theirs) = (proxy.client(), nutcracker.client());
    for index in 0..300 {
        assert_eq!(ours.ask(&format!("SET ours{{{index}}}x {index}")), "+OK\r\n");
        assert_eq!(theirs.ask(&format!("SET theirs{index} {index}")), "+OK\r\n");
    }
    for index in 0..300 {
        let value = format!("${}\r\n{index}\r\n", index.to_string().len());
        assert_eq!(theirs.ask(&format!("GET ours{{{index}}}x")), value);
        assert_eq!(ours.ask(&format!("GET theirs{index}")), value);
    }
}

#[test]
fn hot_keys_and_the_load_of_shards_are_told_of() {
    let directory = directory();
    let _shards = three(&directory, &[]);
    let proxy = Proxy::start(&directory, THREE);
    let mut requests = Vec::new();
    for index in 0..4000 {
        requests.extend(resp("GET hot"));
        requests.extend(resp(&format!("GET cold:{index}")));
    }
    let stream = std::os::unix::net::UnixStream::connect(proxy.directory.path().join("proxy.sock")).unwrap();
    let mut client = Client::over(stream.try_clone().unwrap());
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut &stream, &requests).unwrap());
    (0..8000).for_each(|_| assert_eq!(client.reply(), "$-1\r\n"));
    sender.join().unwrap();
    let (_, keys) = proxy.admin("GET", "/v1/hot-keys");
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    assert_eq!(keys["pools"][0]["keys"][0]["key"], "hot", "{keys}");
    assert_eq!(proxy.metric("hythe_shard_responses_total"), 8000.0);
    assert_eq!(proxy.metric("hythe_shard_latency_seconds_count"), 8000.0);
    assert_eq!(proxy.metric("hythe_shard_waiting"), 0.0);
    let (_, place) = proxy.admin("GET", "/v1/where?key=hot");
    let place: serde_json::Value = serde_json::from_str(&place).unwrap();
    let shard = place["shard"].as_str().unwrap();
    assert!(proxy.metric(&format!("hythe_shard_requests_total{{pool=\"db\",shard=\"{shard}\"}}")) >= 4000.0);
    assert_eq!(proxy.admin("GET", "/v1/where").0, 400);
    assert_eq!(proxy.admin("GET", "/v1/where?key=a&pool=none").0, 404);
}

#[test]
fn replicas_answer_reads_also_while_the_primary_does_not_answer() {
    let directory = directory();
    let _alone = alone("127.88.1.200:6399");
    let primary = Process::redis(directory.path(), "a", &["--bind", "127.88.1.1", "--port", "6399"]);
    let replica = Process::redis(directory.path(), "b", &["--replicaof", "127.88.1.1 6399"]);
    let proxy = Proxy::start(
        &directory,
        "db:\n  listen: DIR/proxy.sock\n  redis: true\n  reads: replicas\n  servers: ['DIR/a.sock:1 db-0']\n  \
         replicas: {db-0: [DIR/b.sock]}\n",
    );
    let mut client = proxy.client();
    assert_eq!(client.ask("MSET a 1 b 2"), "+OK\r\n");
    let mut direct = replica.client();
    eventually("the copy on the replica", || (direct.ask("MGET a b") == "*2\r\n$1\r\n1\r\n$1\r\n2\r\n").then_some(()));
    primary.signal("STOP");
    assert_eq!(client.ask("MGET a b"), "*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    assert_eq!(client.ask("GET a"), "$1\r\n1\r\n");
    client.send(resp("INCR a"));
    primary.signal("CONT");
    assert_eq!(client.reply(), ":2\r\n", "writes go to the primary");
    drop(replica);
    eventually("reads from the primary while no replica is there", || {
        (client.ask("GET a") == "$1\r\n2\r\n").then_some(())
    });
}

#[test]
fn what_monitors_twemproxy_reads_its_numbers() {
    let directory = directory();
    let _redis = Process::redis(directory.path(), "a", &[]);
    let _alone = alone("127.87.0.22:22221");
    let proxy = Proxy::start_with(&directory, ONE, &["--stats", "127.87.0.22:22222"]);
    let mut client = proxy.client();
    for _ in 0..10 {
        client.ask("SET k 1");
    }
    client.ask("NONSENSE");
    let told = || {
        let mut stream = std::net::TcpStream::connect("127.87.0.22:22222").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let numbers = told();
    assert_eq!(numbers["service"], "nutcracker");
    assert_eq!((&numbers["curr_connections"], &numbers["total_connections"]), (&1.into(), &1.into()));
    let pool = &numbers["db"];
    assert_eq!((&pool["client_connections"], &pool["client_err"]), (&1.into(), &1.into()), "{numbers}");
    let shard = pool.as_object().unwrap().values().find(|value| value.is_object()).unwrap();
    assert_eq!((&shard["requests"], &shard["responses"], &shard["out_queue"]), (&10.into(), &10.into(), &0.into()));
}
