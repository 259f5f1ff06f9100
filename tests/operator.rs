//! `hythe operator`: the controllers in a process of their own, against Hythe's API and against upstream's.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::cluster::{Cluster, eventually, text};

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn terminate(&mut self) -> bool {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().success()
    }
}

/// A cluster as its administrator sees it.
struct Remote {
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Remote {
    fn try_kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn apply(&self, yaml: &str) {
        let file = self.home.join("applied.yaml");
        fs::write(&file, yaml).unwrap();
        self.kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()]);
    }

    fn jsonpath(&self, what: &str, path: &str) -> String {
        let output = self.try_kubectl(&["get", what, "-o", &format!("jsonpath={path}")]);
        text(&output.stdout)
    }

    fn wait_for(&self, what: &str, condition: &str) {
        self.kubectl(&["wait", &format!("--for=condition={condition}"), what, "--timeout=60s"]);
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Starts an operator; what it says goes to a file.
fn operator(kubeconfig: &Path, log: &Path, arguments: &[&str]) -> Process {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hythe"));
    command.args(["operator", "--kubeconfig", kubeconfig.to_str().unwrap()]).args(arguments).stdin(Stdio::null());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    Process(command.env("HYTHE_LOG", "warn").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
}

fn says(log: &Path, word: &str) -> usize {
    fs::read_to_string(log).unwrap_or_default().matches(word).count()
}

const ALL_SIX: &str = r#"---
apiVersion: v1
kind: Service
metadata: {name: backend}
spec: {selector: {app: backend}, ports: [{port: 80, protocol: TCP}]}
---
apiVersion: patterns.hythe.dev/v1
kind: ShardedService
metadata: {name: sharded}
spec: {protocol: Memcached, shards: {services: [{name: backend, port: 80}]}}
---
apiVersion: patterns.hythe.dev/v1
kind: RequestSplit
metadata: {name: split}
spec: {backends: [{name: backend}]}
---
apiVersion: patterns.hythe.dev/v1
kind: CacheTier
metadata: {name: cached}
spec: {service: {name: backend}}
---
apiVersion: patterns.hythe.dev/v1
kind: RateLimit
metadata: {name: limited}
spec: {service: {name: backend}, limit: {requests: 10}}
---
apiVersion: patterns.hythe.dev/v1
kind: ScatterGather
metadata: {name: gathered}
spec: {leaves: [{name: backend}]}
---
apiVersion: patterns.hythe.dev/v1
kind: Sidecar
metadata: {name: beside}
spec: {selector: {matchLabels: {app: chosen}}, containers: [{name: beside, args: [sidecar, topz]}]}
"#;

const KINDS: [(&str, &str); 5] = [
    ("shardedservice", "sharded"),
    ("requestsplit", "split"),
    ("cachetier", "cached"),
    ("ratelimit", "limited"),
    ("scattergather", "gathered"),
];

const CHOSEN: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: chosen, labels: {app: chosen}}\nspec: {automountServiceAccountToken: false, containers: [{name: own, image: 'busybox:1', command: [sleep, '1000']}]}\n";

#[test]
fn an_operator_wires_patterns_injects_sidecars_and_takes_over() {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    let output = cluster.try_start(&["--no-patterns"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let remote = Remote { kubeconfig: cluster.kubeconfig(), home: cluster.scratch().to_owned() };
    remote.apply(ALL_SIX);
    let (first_log, second_log) = (cluster.scratch().join("first.log"), cluster.scratch().join("second.log"));
    let port = free_port();
    let (listen, url) = (format!("127.0.0.1:{port}"), format!("https://127.0.0.1:{port}"));
    let mut first = operator(&cluster.kubeconfig(), &first_log, &["--webhook", &listen, "--webhook-url", &url]);
    for (kind, name) in KINDS {
        eventually("what it made", || !remote.jsonpath(&format!("deployment/{name}"), "{.metadata.uid}").is_empty());
        remote.wait_for(&format!("{kind}/{name}"), "Ready");
        cluster.until(&format!("{kind}/{name}"), "{.status.readyReplicas}", "2");
    }
    remote.wait_for("sidecar/beside", "Ready");
    eventually("the webhook", || {
        remote.try_kubectl(&["get", "mutatingwebhookconfiguration", "hythe-operator"]).status.success()
    });
    remote.apply(CHOSEN);
    assert_eq!(cluster.jsonpath("pod/chosen", "{.spec.containers[*].name}"), "own beside");
    // Of two one works; when it goes, the other need not wait until the lease has run out.
    let _second = operator(&cluster.kubeconfig(), &second_log, &["--webhook", "none"]);
    eventually("the second's start", || says(&second_log, "kinds are installed") == 1);
    assert_eq!(says(&second_log, "leads"), 0);
    assert!(first.terminate(), "{}", fs::read_to_string(&first_log).unwrap());
    eventually("the second's turn", || says(&second_log, "leads") == 1);
    // The API server is away for a while; what changes after it came back is seen.
    cluster.kill_daemon();
    let output = cluster.try_start(&["--no-patterns"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    cluster.kubectl(&["scale", "requestsplit/split", "--replicas=1"]);
    cluster.until("deployment/split", "{.spec.replicas}", "1");
    // What it made goes with the objects.
    for (kind, name) in KINDS {
        cluster.kubectl(&["delete", kind, name]);
    }
    eventually("the end of what was made", || {
        let left = cluster.kubectl(&["get", "deployments,services,configmaps", "-o", "name"]);
        KINDS.iter().all(|(_, name)| !left.contains(&format!("/{name}")))
    });
}

/// Upstream's API server with its etcd, and no node: what it runs is only written down.
struct Upstream {
    remote: Remote,
    directory: tempfile::TempDir,
    etcd: u16,
    port: u16,
    server: PathBuf,
    process: Option<Process>,
    _etcd: Process,
}

impl Upstream {
    fn start(server: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (etcd, peer, port) = (free_port(), free_port(), free_port());
        let log = |name: &str| File::create(path(name)).unwrap();
        let (client, peer) = (format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{peer}"));
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(path("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdin(Stdio::null())
            .stdout(log("etcd.out"))
            .stderr(log("etcd.log"))
            .spawn()
            .expect("etcd is installed (Debian's etcd-server)");
        let process = Process(process);
        eventually("etcd", || TcpStream::connect(("127.0.0.1", etcd)).is_ok());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        fs::write(path("tls.crt"), made.cert.pem()).unwrap();
        fs::write(path("tls.key"), made.signing_key.serialize_pem()).unwrap();
        let tokens = "admin,admin,admin,system:masters\noperator,system:serviceaccount:hythe-system:hythe-operator,operator,\"system:serviceaccounts,system:authenticated\"\n";
        fs::write(path("tokens.csv"), tokens).unwrap();
        for name in ["admin", "operator"] {
            let kubeconfig = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: '{}'}}}}]\nusers: [{{name: u, user: {{token: {name}}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
                path("tls.crt").display()
            );
            fs::write(path(name), kubeconfig).unwrap();
        }
        let remote = Remote { kubeconfig: path("admin"), home: directory.path().to_owned() };
        let mut upstream = Self { remote, directory, etcd, port, server, process: None, _etcd: process };
        upstream.serve();
        upstream
    }

    fn serve(&mut self) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let log = File::options().create(true).append(true).open(path("api.log")).unwrap();
        let process = Command::new(&self.server)
            .args([format!("--etcd-servers=http://127.0.0.1:{}", self.etcd), format!("--secure-port={}", self.port)])
            .args(["--bind-address=127.0.0.1", "--service-cluster-ip-range=10.99.0.0/16"])
            .args([
                format!("--tls-cert-file={}", path("tls.crt")),
                format!("--tls-private-key-file={}", path("tls.key")),
            ])
            .args([format!("--service-account-key-file={}", path("tls.crt"))])
            .args([format!("--service-account-signing-key-file={}", path("tls.key"))])
            .args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"])
            .args([format!("--token-auth-file={}", path("tokens.csv"))])
            // Without controllers there is no service account in any namespace.
            .args(["--disable-admission-plugins=ServiceAccount"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(Process(process));
        eventually("upstream's API server", || self.remote.try_kubectl(&["get", "--raw", "/readyz"]).status.success());
    }
}

#[test]
fn an_operator_works_on_upstreams_api_server_with_the_rights_that_its_manifests_grant() {
    let Some(server) = std::env::var_os("HYTHE_KUBE_APISERVER").map(PathBuf::from) else {
        eprintln!(
            "SKIPPED: name upstream's kube-apiserver in HYTHE_KUBE_APISERVER to run this (etcd must be on the PATH)"
        );
        return;
    };
    let mut upstream = Upstream::start(server);
    let home = upstream.directory.path().to_owned();
    let manifests = Command::new(env!("CARGO_BIN_EXE_hythe"))
        .args(["operator", "--print-manifests", "--operator-image", "registry.example/operator:1"])
        .output()
        .unwrap();
    assert!(manifests.status.success());
    upstream.remote.apply(&text(&manifests.stdout));
    let log = home.join("operator.log");
    let port = free_port();
    let (listen, url) = (format!("127.0.0.1:{port}"), format!("https://127.0.0.1:{port}"));
    let arguments = ["--webhook", &listen, "--webhook-url", &url];
    let mut running = operator(&home.join("operator"), &log, &arguments);
    eventually("its turn", || says(&log, "leads") == 1);
    let remote = &upstream.remote;
    remote.apply(ALL_SIX);
    remote.apply(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\nspec:\n  ingressClassName: hythe\n  defaultBackend: {service: {name: backend, port: {number: 80}}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web}\nspec:\n  gatewayClassName: hythe\n  listeners: [{name: http, port: 8080, protocol: HTTP}]\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\nspec:\n  parentRefs: [{name: web}]\n  rules: [{backendRefs: [{group: '', name: backend, port: 80}]}]\n",
    );
    for (kind, name) in KINDS {
        let object = format!("{kind}/{name}");
        remote.wait_for(&object, "Programmed");
        let reason = "{.status.conditions[?(@.type==\"Ready\")].reason}";
        assert_eq!(remote.jsonpath(&object, reason), "NoPodReady", "{object}");
        // Nobody runs pods here: what their controller would say is said for it.
        let ready =
            r#"{"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1}}"#;
        remote.kubectl(&["patch", "deployment", name, "--subresource=status", "--type=merge", "-p", ready]);
        remote.wait_for(&object, "Ready");
        let generation = remote.jsonpath(&object, "{.metadata.generation}");
        assert_eq!(remote.jsonpath(&object, "{.status.observedGeneration}"), generation);
        let owner = remote.jsonpath(&format!("deployment/{name}"), "{.metadata.ownerReferences[0].name}");
        assert_eq!(owner, name);
        assert!(!remote.kubectl(&["explain", &format!("{kind}.spec.tier")]).is_empty());
        let events = remote.kubectl(&["get", "events", "--field-selector", &format!("involvedObject.name={name}")]);
        assert!(events.contains("Programmed"), "{events}");
    }
    remote.wait_for("sidecar/beside", "Ready");
    remote.wait_for("gatewayclass/hythe", "Accepted");
    let accepted = "{.status.parents[0].conditions[?(@.type==\"Accepted\")].status}";
    eventually("the route's status", || remote.jsonpath("httproute/web", accepted) == "True");
    eventually("the edge", || {
        remote.try_kubectl(&["-n", "hythe-system", "get", "deployment", "hythe-edge"]).status.success()
    });
    // Columns as clients show them.
    let table = remote.kubectl(&["get", "shardedservices"]);
    let heads: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(heads, ["NAME", "PROTOCOL", "SHARDS", "TIER", "READY", "ADDRESS", "AGE"]);
    // The webhook.
    remote.apply(CHOSEN);
    assert_eq!(remote.jsonpath("pod/chosen", "{.spec.containers[*].name}"), "own beside");
    // A field that is wrong is named.
    let bad = home.join("bad.yaml");
    let wrong = "apiVersion: patterns.hythe.dev/v1\nkind: RateLimit\nmetadata: {name: bad}\nspec: {service: {name: backend, port: 70000}, limit: {requests: 0}}\n";
    fs::write(&bad, wrong).unwrap();
    let refused = text(&remote.try_kubectl(&["apply", "-f", bad.to_str().unwrap()]).stderr);
    assert!(refused.contains("spec.limit.requests") && refused.contains("spec.service.port"), "{refused}");
    // The API server is away for longer than the lease lasts, and the operator goes on when it is back.
    upstream.process = None;
    eventually("the loss of the lease", || says(&log, "the lease is lost") == 1);
    upstream.serve();
    eventually("its second turn", || says(&log, "leads") == 2);
    let remote = &upstream.remote;
    remote.kubectl(&["scale", "cachetier/cached", "--replicas=5"]);
    eventually("the change", || remote.jsonpath("deployment/cached", "{.spec.replicas}") == "5");
    assert!(running.terminate());
    let holder = remote.kubectl(&[
        "-n",
        "hythe-system",
        "get",
        "lease",
        "hythe-operator",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ]);
    assert_eq!(holder, "", "the lease is given up");
    let said = fs::read_to_string(&log).unwrap();
    assert!(!said.contains("orbidden"), "{said}");
}
