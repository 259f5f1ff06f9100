//! What is wrong is refused with a reason and a place, and changes nothing.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::cluster::{Cluster, busybox, text};

#[test]
fn each_fault_is_named() {
    let cluster = Cluster::up();
    let refused = |yaml: &str, words: &[&str]| {
        let output = cluster.pipe(&["apply", "-f", "-"], yaml);
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{yaml} was taken");
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    };
    let container = "containers: [{name: c, image: x}]";
    refused(
        &format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{colour: red, {container}}}}}"),
        // Old clients check it themselves, in words of their own.
        &["unknown field", "spec", "colour"],
    );
    refused(
        &format!("{{apiVersion: v1, kind: Pod, metadata: {{name: Upper}}, spec: {{{container}}}}}"),
        &["metadata.name", "RFC 1123"],
    );
    refused(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}",
        &["spec.containers: Required value"],
    );
    refused(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}]}}",
        &["spec.containers[0].image: Required value"],
    );
    refused(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: many, selector: {}, template: {}}}",
        &["replicas"],
    );
    refused(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: x}]}}}}",
        &["`selector` does not match template `labels`"],
    );
    refused("{apiVersion: v1, kind: Nonsense, metadata: {name: nn}}", &["no matches for kind \"Nonsense\""]);
    refused(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: nowhere}, spec: {containers: [{name: c, image: x}]}}",
        &["namespaces \"nowhere\" not found"],
    );
    refused("a: b: c", &["error"]);
    refused(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: NodePort, ports: [{port: 80, nodePort: 80}]}}",
        &["nodePort", "30000-32767"],
    );
    let big =
        format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: big}}, data: {{k: {}}}}}", "x".repeat(1_100_000));
    let output = cluster.pipe(&["create", "-f", "-"], &big);
    assert!(
        text(&output.stderr).contains("Too long") || text(&output.stderr).contains("must have at most"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(cluster.kubectl(&["get", "pods,deployments", "-o", "name"]), "");
}

#[test]
fn immutable_fields_and_lost_updates_are_refused() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("p", "sleep 1000"));
    let error = cluster.kubectl_fails(&["patch", "pod", "p", "-p", "{\"spec\":{\"restartPolicy\":\"Never\"}}"]);
    assert!(error.contains("pod updates may not change fields other than"), "{error}");
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {a: one}}");
    let old = cluster.kubectl(&["get", "configmap", "m", "-o", "json"]);
    cluster.kubectl(&["patch", "configmap", "m", "-p", "{\"data\":{\"a\":\"two\"}}"]);
    let output = cluster.pipe(&["replace", "-f", "-"], &old);
    assert!(text(&output.stderr).contains("the object has been modified"), "{}", text(&output.stderr));
    assert_eq!(cluster.jsonpath("configmap/m", "{.data.a}"), "two");
    let first = cluster.pipe(
        &["apply", "--server-side", "--field-manager=one", "-f", "-"],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: s}, data: {a: one}}",
    );
    assert!(first.status.success(), "{}", text(&first.stderr));
    let second = cluster.pipe(
        &["apply", "--server-side", "--field-manager=two", "-f", "-"],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: s}, data: {a: two}}",
    );
    assert!(text(&second.stderr).contains("conflict with \"one\""), "{}", text(&second.stderr));
}

#[test]
fn strangers_get_nothing_but_health() {
    let cluster = Cluster::up();
    let ask = |path: &str, token: Option<&str>| {
        let mut command = std::process::Command::new("curl");
        command.args(["--noproxy", "*"]);
        command.args([
            "-sk",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &format!("https://127.0.0.1:{}{path}", cluster.port()),
        ]);
        if let Some(token) = token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        text(&command.output().unwrap().stdout)
    };
    assert_eq!(ask("/healthz", None), "200");
    assert_eq!(ask("/readyz", None), "200");
    assert!(["401", "403"].contains(&ask("/api/v1/secrets", None).as_str()));
    assert_eq!(ask("/api/v1/secrets", Some("wrong")), "401");
    assert_eq!(ask("/api/v1/secrets", Some(cluster.token().trim())), "200");
}

#[test]
fn random_bytes_and_idle_connections_do_not_disturb() {
    let cluster = Cluster::up();
    let address = format!("127.0.0.1:{}", cluster.port());
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..300 {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let bytes: Vec<u8> = (0..noise() % 2_000).map(|_| noise() as u8).collect();
        let _ = stream.write_all(&bytes);
    }
    // As many as the limit on open files of this test allows, up to 10,000.
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard);
    let wanted = 10_000.min(hard.max(soft) as usize - 500);
    let idle: Vec<TcpStream> = (0..wanted).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert_eq!(idle.len(), wanted);
    cluster.kubectl(&["get", "nodes"]);
    drop(idle);
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    plain.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _ = plain.read_to_end(&mut answer);
    cluster.kubectl(&["get", "nodes"]);
}
