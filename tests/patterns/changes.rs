//! Every kind is edited while clients ask all the time: what they see changes, and no request fails.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{apply, software, wait_for};
use crate::cluster::{Cluster, eventually};

/// Two Services of one pod, whose answers fit what leaves of a search say.
const BACKENDS: &str = r#"---
apiVersion: v1
kind: ConfigMap
metadata: {name: named}
data:
  config.yaml: |
    listeners:
    - {address: ':8001', routes: [{filters: {respond: {status: 200, body: '{"items":["one"]}'}}}]}
    - {address: ':8002', routes: [{filters: {respond: {status: 200, body: '{"items":["two"]}'}}}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: named}
spec:
  selector: {matchLabels: {app: named}}
  template:
    metadata: {labels: {app: named}}
    spec:
      containers:
      - name: hythe
        image: hythe.dev/patterns
        imagePullPolicy: IfNotPresent
        args: [proxy, http, --config, /etc/hythe/config.yaml]
        # It goes on listening until everybody has learnt that it goes, as any server should.
        env: [{name: HYTHE_LINGER, value: '3'}]
        readinessProbe: {httpGet: {path: /readyz, port: 9901}, periodSeconds: 1}
        volumeMounts: [{name: config, mountPath: /etc/hythe}]
      volumes: [{name: config, configMap: {name: named}}]
---
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {selector: {app: named}, ports: [{name: http, port: 80, targetPort: 8001}]}
---
apiVersion: v1
kind: Service
metadata: {name: two}
spec: {selector: {app: named}, ports: [{name: http, port: 80, targetPort: 8002}]}
"#;

/// The kinds that have a tier, the object of each, and its specification before and after.
const TIERS: [(&str, &str, &str, &str); 5] = [
    ("RequestSplit", "split", "backends: [{name: one}]", "backends: [{name: two, weight: 1}]"),
    (
        "CacheTier",
        "cache",
        "service: {name: one}, memory: 4Mi",
        "service: {name: two}, memory: 4Mi, maxObjectSize: 64Ki",
    ),
    (
        "RateLimit",
        "limit",
        "service: {name: one}, limit: {requests: 100000}",
        "service: {name: two}, limit: {requests: 200000}, shared: false",
    ),
    (
        "ScatterGather",
        "search",
        "leaves: [{name: one}], deadlineMilliseconds: 20000",
        "leaves: [{name: two}], merge: Intersection, deadlineMilliseconds: 19000",
    ),
    (
        "ShardedService",
        "pages",
        "protocol: HTTP, shards: {services: [{name: one}]}",
        "protocol: HTTP, shards: {services: [{name: two}]}",
    ),
];

fn tiers(after: bool, tier: &str) -> String {
    let object = |(kind, name, first, second): (&str, &str, &str, &str)| {
        let spec = if after { second } else { first };
        format!(
            "---\napiVersion: patterns.hythe.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n\
             spec: {{{spec}, tier: {{serviceType: NodePort, {tier}}}}}\n"
        )
    };
    TIERS.map(object).concat()
}

/// Redis in shards, and an Ingress to a backend.
fn others(shards: u8, backend: &str) -> String {
    format!(
        "---
apiVersion: patterns.hythe.dev/v1
kind: ShardedService
metadata: {{name: keys}}
spec:
  shards:
    template:
      replicas: {shards}
      template:
        spec:
          terminationGracePeriodSeconds: 1
          containers:
          - name: redis
            image: redis:7
            readinessProbe: {{tcpSocket: {{port: 6379}}, periodSeconds: 1}}
  tier: {{serviceType: NodePort, replicas: 1}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web}}
spec:
  ingressClassName: hythe
  rules: [{{http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {backend}, port: {{number: 80}}}}}}}}]}}}}]
---
apiVersion: patterns.hythe.dev/v1
kind: Sidecar
metadata: {{name: beside}}
spec:
  selector: {{matchLabels: {{app: named}}}}
  containers: [{{name: beside, args: [sidecar, topz, '--addr=0.0.0.0:80{shards}0', '--admin=off']}}]
"
    )
}

/// One client of one address, that asks until it is told to stop.
struct Client {
    name: &'static str,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
    failed: Arc<Mutex<Vec<String>>>,
}

/// One request over a connection of its own, as what changes decides on new ones.
fn get(address: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = "GET /api/v1/x HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| format!("read: {error} after {answer:?}"))?;
    if answer.starts_with("HTTP/1.1 200 ") { Ok(answer) } else { Err(format!("{answer:?}")) }
}

/// Stores keys of all shards, over a connection that stays as applications' do.
fn store(address: &str, kept: &mut Option<TcpStream>, turn: usize) -> Result<String, String> {
    // Every fiftieth request has a new connection.
    if turn.is_multiple_of(50) {
        *kept = None;
    }
    let stream = match kept {
        Some(stream) => stream,
        None => kept.insert(TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?),
    };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("SET key:{} value\r\n", turn % 97);
    stream.write_all(request.as_bytes()).map_err(|error| format!("write: {error}"))?;
    let mut answer = [0; 256];
    let length = stream.read(&mut answer).map_err(|error| format!("read: {error}"))?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    if answer == "+OK\r\n" { Ok(answer) } else { Err(format!("{answer:?}")) }
}

#[test]
fn no_request_fails_while_any_kind_is_edited() {
    let cluster = Cluster::up();
    software::import_redis(&cluster);
    apply(&cluster, &(BACKENDS.to_owned() + &tiers(false, "replicas: 1") + &others(2, "one")));
    wait_for(&cluster, "deployment/named", "Available");
    cluster.kubectl(&["rollout", "status", "statefulset/keys-shard", "--timeout=90s"]);
    let names: Vec<&'static str> = TIERS.iter().map(|(_, name, ..)| *name).chain(["keys"]).collect();
    let rolled = || {
        for name in &names {
            cluster.kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=90s"]);
        }
    };
    rolled();
    let stop = Arc::new(AtomicBool::new(false));
    let mut addresses: Vec<(&'static str, String)> = names
        .iter()
        .map(|name| {
            let port = cluster.jsonpath(&format!("service/{name}"), "{.spec.ports[0].nodePort}");
            (*name, format!("127.0.0.1:{port}"))
        })
        .collect();
    addresses.push(("edge", format!("127.0.0.1:{}", cluster.edge_http())));
    for (name, address) in &addresses {
        eventually(name, || if *name == "keys" { store(address, &mut None, 0) } else { get(address) }.is_ok());
    }
    let mut threads = Vec::new();
    let clients: Vec<Client> = addresses
        .into_iter()
        .map(|(name, address)| {
            let client = Client { name, asked: Arc::default(), last: Arc::default(), failed: Arc::default() };
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&client.asked));
            let (last, failed) = (Arc::clone(&client.last), Arc::clone(&client.failed));
            threads.push(thread::spawn(move || {
                let mut kept = None;
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = if name == "keys" { store(&address, &mut kept, turn) } else { get(&address) };
                    asked.fetch_add(1, Ordering::Relaxed);
                    match answer {
                        Ok(answer) => *last.lock().unwrap() = answer,
                        Err(error) => {
                            kept = None;
                            failed.lock().unwrap().push(format!("request {turn}: {error}"));
                        }
                    }
                    // A bounded stream: this is about losing none, not about many.
                    thread::sleep(Duration::from_millis(10));
                }
            }));
            client
        })
        .collect();
    let well = |after: &str| {
        for client in &clients {
            let before = client.asked.load(Ordering::Relaxed);
            eventually("more requests", || client.asked.load(Ordering::Relaxed) > before + 3);
            let failed = client.failed.lock().unwrap();
            assert!(failed.is_empty(), "{} after {after}: {failed:#?}", client.name);
        }
    };
    let all_say = |word: &str| {
        for client in clients.iter().filter(|client| client.name != "keys") {
            eventually(client.name, || client.last.lock().unwrap().contains(word));
        }
    };
    let ring = |shards: &str| cluster.until("shardedservice/keys", "{.status.backends}", shards);
    well("nothing yet");
    all_say("[\"one\"]");
    // What only the configuration says: other backends, other merges, other limits, a shard more.
    apply(&cluster, &(tiers(true, "replicas: 1") + &others(3, "two")));
    all_say("[\"two\"]");
    ring("3");
    well("the edit of the configurations");
    // What the pods are made of.
    apply(&cluster, &tiers(true, "replicas: 2, resources: {requests: {memory: 17Mi}}"));
    for (_, name, ..) in TIERS {
        cluster.until(&format!("deployment/{name}"), "{.status.updatedReplicas}", "2");
    }
    rolled();
    well("the rollout of the tiers");
    // Fewer again, and everything as it was.
    apply(&cluster, &(tiers(false, "replicas: 1") + &others(2, "one")));
    all_say("[\"one\"]");
    ring("2");
    cluster.until("statefulset/keys-shard", "{.status.replicas}", "2");
    rolled();
    well("the way back");
    // A Sidecar's edit is for new pods, which come before the old ones go.
    cluster.kubectl(&["rollout", "restart", "deployment/named"]);
    cluster.kubectl(&["rollout", "status", "deployment/named", "--timeout=90s"]);
    well("the rollout of what a sidecar stands beside");
    let beside = cluster.jsonpath("pods -l app=named", "{.items[*].spec.containers[?(@.name==\"beside\")].args}");
    assert!(beside.contains("--addr=0.0.0.0:8020"), "{beside}");
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let asked: Vec<_> = clients.iter().map(|client| (client.name, client.asked.load(Ordering::Relaxed))).collect();
    eprintln!("asked and answered: {asked:?}");
}
