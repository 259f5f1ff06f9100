//! Debian's own skopeo, buildah and podman: images go from each tool to the others by way of the registry.

use std::{
    fs,
    process::{Command, Output},
};

use crate::{
    cluster::{Cluster, eventually, text},
    docker::{Guarded, docker, succeed},
};

/// A cluster with the Docker API and a registry, and where that is.
fn up() -> (Cluster, String) {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    let (socket, port) = (cluster.scratch().join("docker.sock"), cluster.node_port(60).to_string());
    let output = cluster.try_start(&["--docker-socket", socket.to_str().unwrap(), "--registry-port", &port]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    eventually("the socket", || socket.exists());
    (cluster, format!("127.0.0.1:{port}"))
}

/// The peers keep what they make below the test's own directory.
fn peer(cluster: &Cluster, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command.env("HOME", cluster.scratch()).env("TMPDIR", cluster.scratch());
    let (root, run) = (cluster.scratch().join("peer/root"), cluster.scratch().join("peer/run"));
    match program {
        "skopeo" => drop(command.arg("--insecure-policy")),
        _ => {
            command.arg("--root").arg(root).arg("--runroot").arg(run).args(["--storage-driver", "vfs"]);
        }
    }
    if program == "podman" {
        command.args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc"]);
    }
    command.args(arguments).output().unwrap_or_else(|e| panic!("{program} (scripts/deps.sh test installs it): {e}"))
}

fn peer_succeeds(cluster: &Cluster, program: &str, arguments: &[&str]) -> String {
    let output = peer(cluster, program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs an image under podman, without a network.
fn podman_run(cluster: &Cluster, image: &str, command: &[&str]) -> String {
    let fixed =
        ["run", "--rm", "--network", "none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000", image];
    peer_succeeds(cluster, "podman", &[&fixed[..], command].concat())
}

#[test]
fn an_image_built_here_runs_under_podman() {
    let (cluster, registry) = up();
    let context = cluster.scratch().join("context");
    fs::create_dir(&context).unwrap();
    let dockerfile = "FROM busybox:1\nENV GREETING=hello\nRUN echo built > /made && chown 7:8 /made && ln /made /linked\nWORKDIR /work\nCMD [\"sh\", \"-c\", \"echo $GREETING; pwd; cat /linked; stat -c '%u %g %h' /made\"]\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let name = format!("{registry}/app:1");
    succeed(&cluster, &["build", "-q", "-t", &name, context.to_str().unwrap()]);
    // The registry has the engine's blobs: not a byte of them is sent.
    let said = succeed(&cluster, &["push", &name]);
    assert!(said.contains(": Layer already exists") && !said.contains(": Pushed"), "{said}");
    let expected = "hello\n/work\nbuilt\n7 8 2\n";
    assert_eq!(succeed(&cluster, &["run", "--rm", "--network", "none", &name]), expected);
    peer_succeeds(&cluster, "podman", &["pull", "-q", "--tls-verify=false", &name]);
    assert_eq!(podman_run(&cluster, &name, &[]), expected);
    // And by way of an archive, as docker save writes it.
    let archive = cluster.scratch().join("saved.tar");
    succeed(&cluster, &["save", "-o", archive.to_str().unwrap(), &name]);
    peer_succeeds(&cluster, "podman", &["rmi", "-f", &name]);
    peer_succeeds(&cluster, "podman", &["load", "-q", "-i", archive.to_str().unwrap()]);
    assert_eq!(podman_run(&cluster, &name, &[]), expected);
    // podman pushes it back under another name.
    let again = format!("{registry}/again:1");
    peer_succeeds(&cluster, "podman", &["push", "-q", "--tls-verify=false", &name, &again]);
    succeed(&cluster, &["pull", &again]);
    assert_eq!(succeed(&cluster, &["run", "--rm", "--network", "none", &again]), expected);
}

#[test]
fn an_image_built_by_buildah_runs_here_and_in_a_pod() {
    let (cluster, registry) = up();
    let base = format!("{registry}/base:1");
    succeed(&cluster, &["tag", "busybox:1", &base]);
    succeed(&cluster, &["push", &base]);
    let context = cluster.scratch().join("context");
    fs::create_dir(&context).unwrap();
    let dockerfile = format!(
        "FROM {base}\nRUN echo run > /made; rm -r /tmp; mkdir /tmp; mkdir /made-too\nCOPY --chown=3:4 file /copied\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"cat /made /copied; stat -c '%u %g' /copied; sleep 1000\"]\n"
    );
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    fs::write(context.join("file"), "copied\n").unwrap();
    for format in ["oci", "docker"] {
        let name = format!("{registry}/by-buildah:{format}");
        let build = ["bud", "-q", "--tls-verify=false", "--isolation", "chroot", "--format", format, "-t", &name];
        peer_succeeds(&cluster, "buildah", &[&build[..], &[context.to_str().unwrap()]].concat());
        peer_succeeds(&cluster, "buildah", &["push", "-q", "--tls-verify=false", &name]);
        succeed(&cluster, &["pull", &name]);
        let command = "cat /made /copied; stat -c '%u %g' /copied; test -d /made-too && ls /tmp";
        assert_eq!(succeed(&cluster, &["run", "--rm", "--network", "none", &name, command]), "run\ncopied\n3 4\n");
    }
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: b}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{registry}/by-buildah:oci'}}]}}}}"
    ));
    cluster.wait_ready("pod/b");
    assert_eq!(cluster.kubectl(&["logs", "b"]), "run\ncopied\n3 4\n");
}

#[test]
fn skopeo_copies_between_the_registry_and_other_places() {
    let (cluster, registry) = up();
    let name = format!("{registry}/app:1");
    succeed(&cluster, &["tag", "busybox:1", &name]);
    succeed(&cluster, &["push", &name]);
    let layout = format!("oci:{}:app", cluster.scratch().join("layout").display());
    let remote = format!("docker://{name}");
    peer_succeeds(&cluster, "skopeo", &["copy", "-q", "--src-tls-verify=false", &remote, &layout]);
    let moved = format!("{registry}/moved:1");
    let target = format!("docker://{moved}");
    peer_succeeds(&cluster, "skopeo", &["copy", "-q", "--dest-tls-verify=false", &layout, &target]);
    let digest = |image: &str| succeed(&cluster, &["inspect", "-f", "{{.Id}}", image]);
    succeed(&cluster, &["pull", &moved]);
    assert_eq!(digest(&moved), digest("busybox:1"));
    peer_succeeds(&cluster, "skopeo", &["delete", "--tls-verify=false", &target]);
    succeed(&cluster, &["rmi", &moved]);
    let missing = docker(&cluster, &["pull", &moved]);
    assert!(!missing.status.success() && text(&missing.stderr).contains("manifest unknown"), "{missing:?}");
}

#[test]
fn a_registry_with_tls_and_passwords_serves_every_stock_client() {
    let (cluster, _) = up();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let file = |name: &str, text: &str| {
        let path = cluster.scratch().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (chain, key) = (file("certs/ca.crt", &made.cert.pem()), file("tls.key", &made.signing_key.serialize_pem()));
    let passwords = file("htpasswd", &format!("ann:{}\n", registry::hash_password("secret")));
    let guarded = Guarded::serve(&cluster, 62, &["--tls-cert", &chain, "--tls-key", &key, "--htpasswd", &passwords]);
    let name = |app: &str| format!("{}/{app}:1", guarded.address);

    // docker: what is on this machine may have any certificate, as with dockerd.
    succeed(&cluster, &["tag", "busybox:1", &name("docker")]);
    let refused = docker(&cluster, &["push", &name("docker")]);
    assert!(!refused.status.success(), "{refused:?}");
    let wrong = docker(&cluster, &["login", "-u", "ann", "-p", "guess", &guarded.address]);
    let expected = format!("login attempt to https://{}/v2/ failed with status: 401 Unauthorized", guarded.address);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains(&expected), "{wrong:?}");
    succeed(&cluster, &["login", "-u", "ann", "-p", "secret", &guarded.address]);
    succeed(&cluster, &["push", &name("docker")]);
    succeed(&cluster, &["rmi", &name("docker")]);
    succeed(&cluster, &["pull", &name("docker")]);
    succeed(&cluster, &["rmi", &name("docker")]);
    // A build logs in as its client did.
    let context = cluster.scratch().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), format!("FROM {}\nRUN echo built > /made\n", name("docker"))).unwrap();
    succeed(&cluster, &["build", "-q", "-t", &name("built"), context.to_str().unwrap()]);
    succeed(&cluster, &["push", &name("built")]);

    // The others look at the certificate.
    let certificates = cluster.scratch().join("certs").to_str().unwrap().to_owned();
    let from = format!("docker://{}", name("built"));
    let strangers = peer(&cluster, "skopeo", &["inspect", "--creds", "ann:secret", &from]);
    assert!(text(&strangers.stderr).contains("certificate"), "{strangers:?}");
    let to = format!("docker://{}", name("skopeo"));
    let (from_dir, to_dir) = (format!("--src-cert-dir={certificates}"), format!("--dest-cert-dir={certificates}"));
    let creds = ["--src-creds", "ann:secret", "--dest-creds", "ann:secret"];
    peer_succeeds(&cluster, "skopeo", &[&["copy", "-q", &from_dir, &to_dir], &creds[..], &[&from, &to]].concat());
    let certificates = format!("--cert-dir={certificates}");
    for (program, source) in [("buildah", "skopeo"), ("podman", "buildah")] {
        let access = [&certificates, "--creds", "ann:secret"];
        peer_succeeds(&cluster, program, &[&["pull", "-q"], &access[..], &[&name(source)]].concat());
        let to = format!("docker://{}", name(program));
        peer_succeeds(&cluster, program, &[&["push", "-q"], &access[..], &[&name(source), &to]].concat());
    }
    succeed(&cluster, &["pull", &name("podman")]);
    assert_eq!(succeed(&cluster, &["run", "--rm", "--network", "none", &name("podman"), "cat", "/made"]), "built\n");
}

#[test]
fn images_of_docker_hub_come_by_way_of_a_mirror_also_when_it_is_alone() {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    let upstream = Guarded::serve(&cluster, 62, &[]);
    let mirror = Guarded::serve(&cluster, 63, &["--mirror", &format!("http://{}", upstream.address)]);
    let socket = cluster.scratch().join("docker.sock");
    let url = format!("http://{}", mirror.address);
    // The first has nothing and is nobody.
    let mirrors = ["--registry-mirror", "http://127.0.0.1:1", "--registry-mirror", &url];
    let output = cluster.try_start(&[&["--docker-socket", socket.to_str().unwrap()], &mirrors[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    eventually("the socket", || socket.exists());
    assert!(succeed(&cluster, &["info", "-f", "{{.RegistryConfig.Mirrors}}"]).contains(&format!("{url}/")));
    let there = format!("{}/library/busybox:1", upstream.address);
    succeed(&cluster, &["tag", "busybox:1", &there]);
    succeed(&cluster, &["push", &there]);
    succeed(&cluster, &["rmi", "busybox:1", &there]);
    succeed(&cluster, &["pull", "busybox:1"]);
    assert_eq!(succeed(&cluster, &["run", "--rm", "--network", "none", "busybox:1", "echo", "here"]), "here\n");
    succeed(&cluster, &["rmi", "busybox:1"]);
    drop(upstream);
    // What the mirror has it gives without upstream, to pods as well.
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:1', imagePullPolicy: Always, command: [sleep, '1000']}]}}",
    );
    cluster.wait_ready("pod/p");
}
