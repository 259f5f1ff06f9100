//! Asks a running nutcracker where keys go: behind it stand servers that answer every GET with their own letter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hash_ring::{Hash, HashTag, Member, Placement, twemproxy_name};

use crate::cases::{Case, Golden, keys, letter};

/// Where the answering servers listen: addresses of the loopback network that nothing else uses.
fn host(index: usize) -> String {
    format!("127.83.0.{}", index + 1)
}

fn socket(index: usize) -> String {
    format!("/tmp/hythe-placement-{index}.sock")
}

const SERVERS: usize = 10;

/// A case, and its servers as nutcracker is told of them.
struct Pool {
    case: Case,
    servers: Vec<String>,
}

pub fn cases() -> Vec<Case> {
    pools().into_iter().map(|pool| pool.case).collect()
}

fn pools() -> Vec<Pool> {
    let mut pools = Vec::new();
    let mut add = |name: &str, placement, hash, tag, servers: Vec<(Member, String)>| {
        let (members, servers) = servers.into_iter().unzip();
        pools.push(Pool { case: Case { name: name.to_owned(), placement, hash, tag, members }, servers });
    };
    let named = |index: usize, weight: u32, name: &str| {
        (Member::new(name, weight), format!("{}:6379:{weight} {name}", host(index)))
    };
    let unnamed = |index: usize, port: u16, weight: u32| {
        (Member::new(twemproxy_name(&host(index), port), weight), format!("{}:{port}:{weight}", host(index)))
    };
    for hash in Hash::ALL {
        let servers = (0..5).map(|index| named(index, 1, &format!("server{index}"))).collect();
        add(&format!("ketama-named-{hash}"), Placement::Ketama, hash, None, servers);
        let servers = [3, 1, 2].iter().enumerate().map(|(index, &weight)| unnamed(index, 6379, weight)).collect();
        add(&format!("modula-weighted-{hash}"), Placement::Modula, hash, None, servers);
    }
    let hash = Hash::Fnv1a64;
    let weighted = [1, 2, 3, 5, 7].iter().enumerate().map(|(index, &weight)| unnamed(index, 6379, weight)).collect();
    add("ketama-weighted", Placement::Ketama, hash, None, weighted);
    let uneven = [100_000, 1].iter().enumerate().map(|(index, &weight)| unnamed(index, 6379, weight)).collect();
    add("ketama-one-without-points", Placement::Ketama, hash, None, uneven);
    add("ketama-memcached-port", Placement::Ketama, Hash::Md5, None, (0..4).map(|i| unnamed(i, 11211, 1)).collect());
    let both = (0..4).map(|index| unnamed(index, if index % 2 == 0 { 11211 } else { 6379 }, 1)).collect();
    add("ketama-both-ports", Placement::Ketama, Hash::Md5, None, both);
    add("ketama-ten", Placement::Ketama, Hash::Murmur, None, (0..10).map(|i| unnamed(i, 6379, 1)).collect());
    let tag = Some(HashTag::new(b'{', b'}'));
    add("ketama-tagged", Placement::Ketama, hash, tag, (0..3).map(|i| unnamed(i, 6379, 1)).collect());
    let long: Vec<_> = (0..3).map(|index| named(index, 1, &format!("{}{index}", "long".repeat(67)))).collect();
    add("ketama-long-names", Placement::Ketama, hash, None, long);
    let unsorted = ["zeta", "a-much-longer-name", "alpha", "b"].iter().enumerate();
    add("modula-unsorted-names", Placement::Modula, hash, None, unsorted.map(|(i, name)| named(i, 1, name)).collect());
    let sockets = (0..3).map(|i| (Member::new(twemproxy_name(&socket(i), 0), 1), format!("{}:1", socket(i)))).collect();
    add("ketama-unix-sockets", Placement::Ketama, hash, None, sockets);
    pools
}

/// The configuration of all pools, and where each listens.
fn configuration(pools: &[Pool]) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut listens = Vec::new();
    for (index, pool) in pools.iter().enumerate() {
        let listen = format!("127.83.1.{}:22121", index + 1);
        text.push_str(&format!(
            "{}:\n  listen: {listen}\n  redis: true\n  hash: {}\n  distribution: {}\n",
            pool.case.name, pool.case.hash, pool.case.placement
        ));
        if let Some(tag) = pool.case.tag {
            text.push_str(&format!("  hash_tag: \"{}\"\n", String::from(tag)));
        }
        text.push_str("  servers:\n");
        for server in &pool.servers {
            text.push_str(&format!("   - {server}\n"));
        }
        listens.push(listen);
    }
    (text, listens)
}

/// Answers every request on a connection with the server's letter.
fn answer(stream: impl Read, mut out: impl Write, letter: char) {
    let mut requests = BufReader::new(stream);
    while let Some(()) = skip_request(&mut requests) {
        // In one write: a second one would wait for the first one's acknowledgement.
        if out.write_all(format!("$1\r\n{letter}\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads one array of bulk strings; `None` at the end of the stream.
fn skip_request(requests: &mut impl BufRead) -> Option<()> {
    for _ in 0..number(requests, '*')? {
        let length = number(requests, '$')?;
        requests.read_exact(&mut vec![0; length + 2]).ok()?;
    }
    Some(())
}

fn number(from: &mut impl BufRead, kind: char) -> Option<usize> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}

fn serve() {
    for index in 0..SERVERS {
        for port in [6379, 11211] {
            let listener = TcpListener::bind((host(index), port)).expect("the loopback address is free");
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || answer(&stream, &stream, letter(index)));
                }
            });
        }
        let _ = std::fs::remove_file(socket(index));
        let listener = UnixListener::bind(socket(index)).expect("the socket is free");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(&stream, &stream, letter(index)));
            }
        });
    }
}

struct Nutcracker(Child);

impl Drop for Nutcracker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        for index in 0..SERVERS {
            let _ = std::fs::remove_file(socket(index));
        }
    }
}

/// Waits for other runs of these tests on this machine: the addresses are fixed, since they are part of the names.
pub fn alone() -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match TcpListener::bind("127.83.2.1:22121") {
            Ok(mine) => return mine,
            Err(error) => assert!(Instant::now() < deadline, "another run does not end: {error}"),
        }
        std::thread::yield_now();
    }
}

/// Connects as soon as something listens.
pub fn connect(address: &str) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "nothing listens at {address}: {error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn the_kept_table_is_what_nutcracker_does() {
    let _alone = alone();
    serve();
    let pools = pools();
    let (text, listens) = configuration(&pools);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("nutcracker.yml");
    std::fs::write(&file, text).expect("the file can be written");
    let nutcracker = Command::new("nutcracker")
        .args(["-a", "127.83.0.1", "-s", "22222", "-c"])
        .arg(&file)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("nutcracker is installed (scripts/deps.sh test)");
    let _nutcracker = Nutcracker(nutcracker);
    let mut answers = Vec::new();
    for (pool, listen) in pools.iter().zip(&listens) {
        let stream = connect(listen);
        let mut replies = BufReader::new(&stream);
        let mut table = String::new();
        for key in keys() {
            let mut request = format!("*2\r\n$3\r\nGET\r\n${}\r\n", key.len()).into_bytes();
            request.extend(&key);
            request.extend(b"\r\n");
            (&stream).write_all(&request).expect("nutcracker reads");
            let length = number(&mut replies, '$').expect("a bulk reply");
            let mut reply = vec![0; length + 2];
            replies.read_exact(&mut reply).expect("a whole reply");
            table.push(char::from(reply[0]));
        }
        answers.push((pool.case.name.clone(), table));
    }
    Golden::of("nutcracker").check("nutcracker 0.5.0", &answers);
}
