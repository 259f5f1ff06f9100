//! Stock docker beside the pods, on the same images.

use std::{
    fs,
    process::{Command, Output},
};

use crate::cluster::{Cluster, eventually, http_get, text};

/// Debian's or Docker's client; the Makefile sees to it that there is one.
pub fn docker(cluster: &Cluster, arguments: &[&str]) -> Output {
    let socket = format!("unix://{}", cluster.scratch().join("docker.sock").display());
    let mut command = Command::new("docker");
    command.env("DOCKER_HOST", socket).env("DOCKER_BUILDKIT", "0").env("HOME", cluster.scratch());
    command.args(arguments).output().unwrap()
}

/// A client's command that must succeed, and what it prints.
pub fn succeed(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = docker(cluster, arguments);
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}{}\n{}",
        text(&output.stdout),
        text(&output.stderr),
        cluster.log()
    );
    text(&output.stdout)
}

fn up() -> Cluster {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    let socket = cluster.scratch().join("docker.sock");
    let output = cluster.try_start(&["--docker-socket", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    eventually("the socket", || socket.exists());
    cluster
}

#[test]
fn containers_run_stop_and_are_compared() {
    let cluster = up();
    assert_eq!(succeed(&cluster, &["run", "--rm", "busybox:1", "echo", "hello"]), "hello\n");
    let output = docker(&cluster, &["run", "--rm", "busybox:1", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    let port = format!("127.0.0.1:{}:80", cluster.node_port(50));
    let script = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www";
    succeed(&cluster, &["run", "-d", "--name", "web", "-p", &port, "busybox:1", "sh", "-c", script]);
    let address = format!("127.0.0.1:{}", cluster.node_port(50));
    eventually("the published port", || http_get(&address, "/index.html").is_ok_and(|body| body == "served\n"));
    assert!(succeed(&cluster, &["ps"]).contains("web"));
    assert_eq!(succeed(&cluster, &["exec", "web", "cat", "/www/index.html"]), "served\n");
    assert!(succeed(&cluster, &["diff", "web"]).contains("A /www/index.html"));
    succeed(&cluster, &["stop", "-t", "1", "web"]);
    assert!(succeed(&cluster, &["ps", "-a"]).contains("Exited"));
    succeed(&cluster, &["start", "web"]);
    eventually("the port after a second start", || http_get(&address, "/index.html").is_ok());
    succeed(&cluster, &["rm", "-f", "web"]);
    assert!(!succeed(&cluster, &["ps", "-a"]).contains("web"));
}

#[test]
fn an_image_is_built_and_runs_in_a_pod() {
    let cluster = up();
    let context = cluster.scratch().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM busybox:1\nRUN echo built > /made\nCOPY file /file\nCMD [\"sh\", \"-c\", \"cat /made /file; sleep 1000\"]\n").unwrap();
    fs::write(context.join("file"), "copied\n").unwrap();
    let said = succeed(&cluster, &["build", "-t", "app:1", context.to_str().unwrap()]);
    assert!(said.contains("Step 2/4 : RUN echo built > /made") && said.contains("Successfully tagged app:1"), "{said}");
    let again = succeed(&cluster, &["build", "-t", "app:1", context.to_str().unwrap()]);
    assert_eq!(again.matches(" ---> Using cache").count(), 3, "{again}");
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: app}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'app:1'}]}}");
    cluster.wait_ready("pod/app");
    assert_eq!(cluster.kubectl(&["logs", "app"]), "built\ncopied\n");
}

#[test]
fn containers_of_docker_outlive_the_daemon() {
    let cluster = up();
    succeed(&cluster, &["run", "-d", "--name", "stays", "busybox:1", "sleep", "1000"]);
    let before = succeed(&cluster, &["inspect", "-f", "{{.State.Pid}}", "stays"]);
    cluster.kill_daemon();
    let socket = cluster.scratch().join("docker.sock");
    let output = cluster.try_start(&["--docker-socket", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    eventually("the API's return", || docker(&cluster, &["ps"]).status.success());
    assert_eq!(succeed(&cluster, &["inspect", "-f", "{{.State.Pid}}", "stays"]), before);
    assert_eq!(succeed(&cluster, &["exec", "stays", "echo", "here"]), "here\n");
}

/// A registry in a process of its own, on other data than the cluster's; gone when dropped.
pub struct Guarded {
    server: std::process::Child,
    pub address: String,
}

impl Guarded {
    /// Serves on one of the slot's ports, with more flags.
    pub fn serve(cluster: &Cluster, port: u16, flags: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", cluster.node_port(port));
        let mut command = Command::new(env!("CARGO_BIN_EXE_hythe"));
        command.arg("--data-dir").arg(cluster.scratch().join(format!("registry-{port}")));
        command.args(["registry", "--listen", &address]).args(flags);
        let server = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let guarded = Self { server, address };
        eventually("the registry", || std::net::TcpStream::connect(&guarded.address).is_ok());
        guarded
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_login_opens_a_registry_with_passwords_and_a_logout_closes_it() {
    let cluster = up();
    let passwords = cluster.scratch().join("htpasswd");
    fs::write(&passwords, format!("ann:{}\n", registry::hash_password("secret"))).unwrap();
    let guarded = Guarded::serve(&cluster, 61, &["--htpasswd", passwords.to_str().unwrap()]);
    let name = format!("{}/app:1", guarded.address);
    succeed(&cluster, &["tag", "busybox:1", &name]);
    let refused = docker(&cluster, &["push", &name]);
    assert!(!refused.status.success(), "{refused:?}");
    let wrong = docker(&cluster, &["login", "-u", "ann", "-p", "guess", &guarded.address]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("401 Unauthorized"), "{wrong:?}");
    let welcome = succeed(&cluster, &["login", "-u", "ann", "-p", "secret", &guarded.address]);
    assert!(welcome.contains("Login Succeeded"), "{welcome}");
    let said = succeed(&cluster, &["push", &name]);
    assert!(said.contains(": Pushed"), "{said}");
    // What the registry has under another name is not sent again.
    let other = format!("{}/team/other:1", guarded.address);
    succeed(&cluster, &["tag", "busybox:1", &other]);
    let said = succeed(&cluster, &["push", &other]);
    assert!(said.contains(": Mounted from app") && !said.contains(": Pushed"), "{said}");
    succeed(&cluster, &["rmi", &name]);
    succeed(&cluster, &["pull", &name]);
    succeed(&cluster, &["logout", &guarded.address]);
    let closed = docker(&cluster, &["pull", &name]);
    assert!(!closed.status.success() && text(&closed.stderr).contains("pull access denied"), "{closed:?}");
}

#[test]
fn containers_with_a_policy_come_back_after_the_machine() {
    let cluster = up();
    for (name, policy) in
        [("always", "always"), ("unless", "unless-stopped"), ("ended", "unless-stopped"), ("never", "no")]
    {
        succeed(
            &cluster,
            &["run", "-d", "--network", "none", "--name", name, "--restart", policy, "busybox:1", "sleep", "1000"],
        );
    }
    succeed(&cluster, &["stop", "-t", "0", "ended"]);
    let pid = |name: &str| succeed(&cluster, &["inspect", "-f", "{{.State.Pid}}", name]).trim().parse::<i32>().unwrap();
    let pids: Vec<i32> = ["always", "unless", "never"].map(pid).to_vec();
    cluster.kill_daemon();
    for pid in pids {
        // As a power cut would.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    let socket = cluster.scratch().join("docker.sock");
    let output = cluster.try_start(&["--docker-socket", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let running = || {
        let output = docker(&cluster, &["ps", "--format", "{{.Names}}"]);
        let mut names: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    eventually("those with a policy", || running() == ["always", "unless"]);
}
