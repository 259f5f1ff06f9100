//! Files as twemproxy's users have them.

use hash_ring::{Hash, HashTag, Placement};

use super::*;

/// All of twemproxy's keys, and its habits of spelling.
const WHOLE: &str = r#"
alpha:
  listen: 127.0.0.1:22121
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: true
  redis: true
  server_retry_timeout: 2000
  server_failure_limit: 1
  servers:
   - 127.0.0.1:6379:1
beta:
  listen: 0.0.0.0:22122
  hash: murmur
  hash_tag: "{}"
  distribution: modula
  auto_eject_hosts: false
  timeout: "400"
  backlog: 1024
  preconnect: true
  redis: true
  redis_auth: 123456
  redis_db: 3
  server_connections: 4
  client_connections: 16384
  tcpkeepalive: true
  reuseport: true
  servers:
   - 127.0.0.1:6380:1 server1
   - ::1:6381:10 server2
   - db-2.db.default.svc:6382:1
   - /run/redis.sock:2 server4
omega:
  listen: /tmp/gamma 0666
  hash: hsieh
  servers:
   - 127.0.0.1:11214:100000
   - 127.0.0.1:11211:1
"#;

#[test]
fn a_file_of_twemproxy_is_read_as_it_is() {
    let config = Config::parse(WHOLE).unwrap();
    assert_eq!(config.pools.keys().collect::<Vec<_>>(), ["alpha", "beta", "omega"]);
    let beta = &config.pools["beta"];
    assert_eq!((beta.hash, beta.distribution), (Hash::Murmur, Placement::Modula));
    assert_eq!(beta.hash_tag, Some(HashTag::new(b'{', b'}')));
    assert_eq!((beta.timeout, beta.backlog, beta.server_connections), (Some(400), 1024, 4));
    assert_eq!((beta.redis_auth.as_deref(), beta.redis_db), (Some("123456"), 3));
    assert!(beta.redis && beta.preconnect && beta.tcpkeepalive);
    let names: Vec<_> = beta.servers.iter().map(Server::ring_name).collect();
    assert_eq!(names, ["server1", "server2", "db-2.db.default.svc:6382", "server4"]);
    assert_eq!(beta.servers[1].address, Address::Tcp("::1".to_owned(), 6381));
    let omega = &config.pools["omega"];
    assert_eq!(omega.listen, Listen { address: Address::Unix("/tmp/gamma".into()), permissions: Some(0o666) });
    assert_eq!(omega.servers[1].ring_name(), "127.0.0.1");
    assert_eq!((omega.server_retry_timeout, omega.server_failure_limit), (30_000, 2));
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let config = Config::parse(WHOLE).unwrap();
    assert_eq!(Config::parse(&config.to_yaml().unwrap()).unwrap(), config);
    let short = Pool::new("0.0.0.0:6379".parse().unwrap(), vec!["db-0.db:6379:1 db-0".parse().unwrap()]);
    let config = Config { pools: [("db".to_owned(), short)].into() };
    assert_eq!(config.to_yaml().unwrap(), "db:\n  listen: 0.0.0.0:6379\n  servers:\n  - db-0.db:6379:1 db-0\n");
}

#[test]
fn an_error_names_the_line_and_the_key() {
    let pool = |rest: &str| format!("alpha:\n  listen: 127.0.0.1:22121\n{rest}");
    let servers = "  servers:\n   - 127.0.0.1:6379:1\n";
    for (text, line, words) in [
        (pool("  hash: sha1\n"), 3, vec!["alpha.hash", "sha1", "fnv1a_64"]),
        (pool("  distribution: chance\n"), 3, vec!["alpha.distribution", "chance"]),
        (pool("  timeout: soon\n"), 3, vec!["alpha.timeout", "soon"]),
        (pool("  timeout: -3\n"), 3, vec!["alpha.timeout", "-3"]),
        (pool("  redis: yes\n"), 3, vec!["alpha.redis", "yes"]),
        (pool("  hash_tag: \"{\"\n"), 3, vec!["alpha", "two characters"]),
        (pool("  server:\n   - a:1:1\n"), 3, vec!["alpha", "unknown field `server`"]),
        (pool("  servers:\n   - 127.0.0.1:6379\n"), 4, vec!["alpha.servers[0]", "host:port:weight"]),
        (pool("  servers:\n   - a:1:1\n   - b:1:0\n"), 5, vec!["alpha.servers[1]", "zero weight"]),
        (pool("  servers:\n   - a:99999:1\n"), 4, vec!["alpha.servers[0]", "port"]),
        (pool("  servers:\n   - a:1:1 x\n   - b:1:1 x\n"), 3, vec!["alpha.servers", "\"x\""]),
        (pool(""), 1, vec!["alpha.servers", "no servers"]),
        (pool(&format!("  server_connections: 0\n{servers}")), 3, vec!["server_connections", "0"]),
        (pool(&format!("{servers}  redis_auth: x\n")), 5, vec!["alpha.redis_auth", "redis pool"]),
        (pool(&format!("{servers}  listen: 127.0.0.1:1\n")), 2, vec!["duplicate field `listen`"]),
        (pool(&format!("{servers}alpha:\n  listen: 127.0.0.1:1\n{servers}")), 1, vec!["alpha", "two pools"]),
        (pool(&format!("{servers}beta:\n  listen: 127.0.0.1:22121\n{servers}")), 6, vec!["beta.listen", "already"]),
        ("alpha: [\n".to_owned(), 1, vec!["alpha", "sequence"]),
        (pool("  hash: [md5]\n"), 3, vec!["alpha.hash", "sequence"]),
        ("alpha:\n  listen: /tmp/x 999\n".to_owned(), 2, vec!["alpha.listen", "permission"]),
        (pool("  servers:\n   - a:1:1\n  replicas:\n    b: [c:1]\n"), 5, vec!["alpha.replicas", "\"b:1\"", "b"]),
    ] {
        let error = Config::parse(&text).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.line, Some(line), "{said}\n{text}");
        for word in words.iter().filter(|word| **word != "\"b:1\"") {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
    }
    assert_eq!(Config::parse("{}").unwrap_err().line, None);
}

#[test]
fn keys_beyond_twemproxys_are_read() {
    let config = Config::parse(
        "db:\n  listen: 0.0.0.0:6379\n  redis: true\n  discover: {srv: _redis._tcp.db.default.svc}\n  reads: replicas\n  \
         writes: all\n  hot_keys: 0\n  replicas:\n    db-0: [db-0-replica:6379, /run/r.sock]\n",
    )
    .unwrap();
    let pool = &config.pools["db"];
    assert_eq!((pool.reads, pool.writes, pool.hot_keys), (Reads::Replicas, Writes::All, 0));
    assert_eq!(pool.replicas["db-0"].len(), 2);
    assert_eq!(Config::parse(&config.to_yaml().unwrap()).unwrap(), config);
}
