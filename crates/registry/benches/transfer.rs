//! Push and pull over loopback, beside Debian's docker-registry: the same client, the same bytes, one run.
//!
//! `cargo bench -p registry` (package docker-registry; without it only ours is measured, and it says so). Rates in MB/s,
//! the median of the rounds; then the servers' memory at its highest, in MiB.

#![allow(missing_docs)] // a benchmark has no public interface

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::content::Digest;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

/// An image of a few large layers, and one of many small ones.
const SHAPES: [(&str, usize, usize); 2] = [("4 blobs of 64 MB", 4, 64 << 20), ("200 blobs of 64 kB", 200, 64 << 10)];
const ROUNDS: usize = 5;
/// Blobs under way at a time, as clients have it.
const PARALLEL: usize = 4;

struct Server {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours() -> Server {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-serve"));
    let mut child = command.arg(dir.path()).stdout(Stdio::piped()).spawn().expect("our own server");
    let mut line = String::new();
    let out = child.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut line).expect("its address");
    Server { child, address: line.trim().parse().expect("an address"), _dir: dir }
}

fn docker_registry() -> Option<Server> {
    let dir = tempfile::tempdir().ok()?;
    let address = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
    let config = dir.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, \
         delete: {{enabled: true}}, cache: {{blobdescriptor: inmemory}}}}\nhttp: {{addr: {address}}}\n",
        dir.path().join("data").display()
    );
    std::fs::File::create(&config).ok()?.write_all(text.as_bytes()).ok()?;
    let mut command = Command::new("docker-registry");
    let child = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let server = Server { child, address, _dir: dir };
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(server)
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr) -> Sender {
    let stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket has that option");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

/// One request; returns the location and the length of the body, which is thrown away.
async fn ask(sender: &mut Sender, address: SocketAddr, method: Method, uri: &str, body: Bytes) -> (String, u64) {
    let path = uri.strip_prefix(&format!("http://{address}")).unwrap_or(uri);
    let request = Request::builder().method(method).uri(path).header("host", address.to_string());
    let request = request.header("content-type", "application/octet-stream").body(Full::new(body));
    sender.ready().await.expect("the connection stays");
    let response = sender.send_request(request.expect("a fine request")).await.expect("an answer");
    assert!(response.status().is_success(), "{path}: {}", response.status());
    let location = response.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (mut body, mut length) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        length += frame.expect("the body is whole").data_ref().map_or(0, |d| d.len() as u64);
    }
    (location, length)
}

async fn push(address: SocketAddr, repository: &str, blobs: &[(Digest, Bytes)]) {
    let tasks: Vec<_> = split(blobs)
        .map(|mine| {
            let repository = repository.to_owned();
            tokio::spawn(async move {
                let mut sender = connect(address).await;
                for (digest, bytes) in mine {
                    let begin = format!("/v2/{repository}/blobs/uploads/");
                    let (location, _) = ask(&mut sender, address, Method::POST, &begin, Bytes::new()).await;
                    let joint = if location.contains('?') { '&' } else { '?' };
                    let finish = format!("{location}{joint}digest={digest}");
                    ask(&mut sender, address, Method::PUT, &finish, bytes).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no push fails");
    }
}

async fn pull(address: SocketAddr, repository: &str, blobs: &[(Digest, Bytes)]) {
    let tasks: Vec<_> = split(blobs)
        .map(|mine| {
            let repository = repository.to_owned();
            tokio::spawn(async move {
                let mut sender = connect(address).await;
                for (digest, bytes) in mine {
                    let path = format!("/v2/{repository}/blobs/{digest}");
                    let (_, length) = ask(&mut sender, address, Method::GET, &path, Bytes::new()).await;
                    assert_eq!(length, bytes.len() as u64);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no pull fails");
    }
}

/// A share of the blobs for each connection.
fn split(blobs: &[(Digest, Bytes)]) -> impl Iterator<Item = Vec<(Digest, Bytes)>> + '_ {
    (0..PARALLEL.min(blobs.len())).map(|worker| blobs.iter().skip(worker).step_by(PARALLEL).cloned().collect())
}

fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// The most memory a process ever had, in MiB.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let mut servers = vec![("hythe", ours())];
    match docker_registry() {
        Some(server) => servers.push(("docker-registry", server)),
        None => println!("docker-registry is not installed: no comparison"),
    }
    for (shape, count, size) in SHAPES {
        let total = (count * size) as f64 / 1e6;
        let mut rates = vec![(Vec::new(), Vec::new()); servers.len()];
        for round in 0..ROUNDS {
            let blobs: Vec<_> = (0..count)
                .map(|i| {
                    let bytes = noise(size, (round * 1000 + i + 1) as u64);
                    (Digest::of(&bytes), bytes)
                })
                .collect();
            for (i, (_, server)) in servers.iter().enumerate() {
                let begin = Instant::now();
                push(server.address, "bench/image", &blobs).await;
                rates[i].0.push(total / begin.elapsed().as_secs_f64());
                let begin = Instant::now();
                pull(server.address, "bench/image", &blobs).await;
                rates[i].1.push(total / begin.elapsed().as_secs_f64());
            }
        }
        println!("{shape}");
        let medians: Vec<_> = rates.into_iter().map(|(push, pull)| (median(push), median(pull))).collect();
        for ((name, server), (push, pull)) in servers.iter().zip(&medians) {
            println!("  {name:16} push {push:7.0} MB/s   pull {pull:7.0} MB/s   peak memory {:4} MiB", peak(server));
        }
        if let [(push, pull), (other_push, other_pull)] = medians[..] {
            println!("  ratio            push {:7.2}        pull {:7.2}", push / other_push, pull / other_pull);
        }
    }
}
