//! TLS, a cache, and three replicas of a server that starts slowly and ends abruptly: nobody notices what happens to them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::{CertificateDer, ServerName};

use super::{apply, software, wait_for};
use crate::cluster::{Cluster, eventually};

const APPLICATION: &str = r#"
# It takes its time to begin.
time.sleep(3)
def get(self):
    fields = {'cache_control': 'max-age=1'} if self.path.startswith('/cached') else {'cache_control': 'no-store'}
    self.answer(f'{self.path} by {socket.gethostname()}', **fields)
serve(get)
"#;

const TIERS: &str = "---
apiVersion: patterns.hythe.dev/v1
kind: CacheTier
metadata: {name: shop-cache}
spec: {service: {name: shop}, memory: 16Mi}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: hythe
  tls: [{hosts: [shop.example.com], secretName: shop-tls}]
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop-cache, port: {number: 80}}}}]}
";

/// Clients that ask all the time, over connections that they keep, until they are told to stop.
struct Clients {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    hits: Arc<AtomicUsize>,
    errors: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Clients {
    fn start(count: usize, address: SocketAddr, certificate: &CertificateDer<'static>) -> Self {
        let clients = Self {
            stop: Arc::default(),
            asked: Arc::default(),
            hits: Arc::default(),
            errors: Arc::default(),
            threads: Vec::new(),
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let threads = (0..count).map(|number| {
            let config = Arc::clone(&config);
            let (stop, asked) = (Arc::clone(&clients.stop), Arc::clone(&clients.asked));
            let (hits, errors) = (Arc::clone(&clients.hits), Arc::clone(&clients.errors));
            std::thread::spawn(move || {
                let mut connection = None;
                for turn in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let path = format!("/{}/{number}-{}", if turn % 3 == 0 { "plain" } else { "cached" }, turn % 50);
                    let begun = std::time::Instant::now();
                    // Every hundredth request has a connection of its own.
                    if turn % 100 == 0 {
                        connection = None;
                    }
                    let answer = match &mut connection {
                        Some(open) => ask(open, &path),
                        None => connect(&config, address).and_then(|open| ask(connection.insert(open), &path)),
                    };
                    asked.fetch_add(1, Ordering::SeqCst);
                    match answer {
                        Ok((hit, closes)) => {
                            hits.fetch_add(usize::from(hit), Ordering::SeqCst);
                            if closes {
                                connection = None;
                            }
                        }
                        Err(error) => {
                            connection = None;
                            errors.lock().unwrap().push(format!("{path} after {:?}: {error}", begun.elapsed()));
                        }
                    }
                    std::thread::sleep(Duration::from_millis(3));
                }
            })
        });
        Self { threads: threads.collect(), ..clients }
    }

    /// What is asked from now on has an answer: waits for some, and for none that failed.
    fn go_on(&self, what: &str) {
        let before = self.asked.load(Ordering::SeqCst);
        eventually(what, || self.asked.load(Ordering::SeqCst) > before + 200);
        let errors = self.errors.lock().unwrap();
        assert!(
            errors.is_empty(),
            "{what}: {} failed, of {}: {:#?}",
            errors.len(),
            before + 200,
            &errors[..errors.len().min(20)]
        );
    }

    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let errors = self.errors.lock().unwrap();
        assert!(errors.is_empty(), "{errors:#?}");
        (self.asked.load(Ordering::SeqCst), self.hits.load(Ordering::SeqCst))
    }
}

type Open = BufReader<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>;

fn connect(config: &Arc<rustls::ClientConfig>, address: SocketAddr) -> Result<Open, String> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(30)).map_err(|e| format!("connect: {e}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let name = ServerName::try_from("shop.example.com").unwrap();
    let connection = rustls::ClientConnection::new(Arc::clone(config), name).map_err(|e| e.to_string())?;
    Ok(BufReader::new(rustls::StreamOwned::new(connection, stream)))
}

/// One request. Returns whether the cache answered, and whether the connection ends.
fn ask(open: &mut Open, path: &str) -> Result<(bool, bool), String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n\r\n");
    open.get_mut().write_all(request.as_bytes()).map_err(|e| format!("write: {e}"))?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        match open.read_line(&mut head) {
            Ok(0) => return Err(format!("the connection ended: {head:?}")),
            Ok(_) => {}
            Err(error) => return Err(format!("read: {error}")),
        }
    }
    let field = |name: &str| {
        head.lines()
            .find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()))
    };
    let length = field("content-length").and_then(|l| l.parse().ok()).ok_or_else(|| format!("no length: {head}"))?;
    let mut body = vec![0; length];
    open.read_exact(&mut body).map_err(|e| format!("body: {e}"))?;
    let body = String::from_utf8_lossy(&body);
    if !head.starts_with("HTTP/1.1 200 ") || !body.starts_with(&format!("{path} by shop-")) {
        return Err(format!("{head}{body}"));
    }
    let hit = field("cache-status").is_some_and(|status| status.contains("; hit"));
    Ok((hit, field("connection") == Some("close")))
}

#[test]
fn no_request_fails_while_each_of_three_tiers_is_replaced_or_lost() {
    let cluster = Cluster::up();
    cluster.import("python-3-slim", "python:3-slim");
    let made = rcgen::generate_simple_self_signed(["shop.example.com".to_owned()]).unwrap();
    let (key, certificate) = (cluster.scratch().join("tls.key"), cluster.scratch().join("tls.crt"));
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    let (key, file) = (format!("--key={}", key.display()), format!("--cert={}", certificate.display()));
    cluster.kubectl(&["create", "secret", "tls", "shop-tls", &key, &file]);
    apply(&cluster, &(software::python("shop", 3, &format!("{}{APPLICATION}", software::SERVER)) + TIERS));
    wait_for(&cluster, "cachetier/shop-cache", "Ready");
    wait_for(&cluster, "deployment/shop", "Available");
    cluster.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"]);
    cluster.kubectl(&["rollout", "status", "deployment/shop-cache", "--timeout=90s"]);
    eventually("the edge", || !cluster.jsonpath("ingress/shop", "{.status.loadBalancer.ingress[0].ip}").is_empty());
    cluster.kubectl(&["rollout", "status", "deployment/hythe-edge", "-n", "hythe-system", "--timeout=90s"]);
    let address: SocketAddr = format!("127.0.0.1:{}", cluster.edge_https()).parse().unwrap();
    let https = format!("https://shop.example.com:{}/plain/x", cluster.edge_https());
    let resolve = format!("shop.example.com:{}:127.0.0.1", cluster.edge_https());
    let ca = certificate.to_str().unwrap();
    eventually("the first answer", || super::curl(&["--cacert", ca, "--resolve", &resolve, &https]).1 == "200");

    let clients = Clients::start(4, address, made.cert.der());
    clients.go_on("all is well");
    // The application rolls, each replica slow to start and quick to end.
    cluster.kubectl(&["rollout", "restart", "deployment/shop"]);
    cluster.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"]);
    clients.go_on("after the application's rollout");
    // A cache crashes, and is started again in its pod.
    let caches = || -> Vec<String> {
        let path = "{.items[*].metadata.name}";
        let selector = "pods -l app.kubernetes.io/instance=shop-cache";
        cluster.jsonpath(selector, path).split_whitespace().map(str::to_owned).collect()
    };
    software::kill_container(&cluster, &caches()[0]);
    clients.go_on("after a cache's crash");
    cluster.until(&format!("pod/{}", caches()[0]), "{.status.containerStatuses[0].restartCount}", "1");
    cluster.kubectl(&["rollout", "status", "deployment/shop-cache", "--timeout=90s"]);
    // A cache is gone with its pod, without a word.
    cluster.kubectl(&["delete", "pod", &caches()[1], "--grace-period=0", "--force"]);
    clients.go_on("after a cache's loss");
    cluster.kubectl(&["rollout", "status", "deployment/shop-cache", "--timeout=90s"]);
    // The caches roll.
    cluster.kubectl(&["rollout", "restart", "deployment/shop-cache"]);
    cluster.kubectl(&["rollout", "status", "deployment/shop-cache", "--timeout=90s"]);
    clients.go_on("after the caches' rollout");
    // The node's daemon crashes, and a replica of the application with it; then it comes back.
    cluster.kill_daemon();
    clients.go_on("without the daemon");
    cluster.start();
    clients.go_on("with the daemon again");
    cluster.kubectl(&["rollout", "restart", "deployment/shop"]);
    cluster.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"]);
    clients.go_on("after a rollout by the new daemon");
    let (asked, hits) = clients.end();
    eprintln!("{asked} requests, {hits} of them answered by the caches, and none failed");
    assert!(hits > asked / 10, "{hits} of {asked}");
}
