//! Each pattern container by `docker run`: it starts, says that it is well, ends when it is told to, and tells of itself.

use std::{fs, net::SocketAddr};

use serde_json::Value;

use crate::{
    cluster::{Cluster, eventually, http_get, text},
    docker,
};

/// Every command, with what it needs to start. Files are below `/given`.
const COMMANDS: &[(&str, &[&str])] = &[
    ("proxy http", &["--to", "127.0.0.1:9"]),
    ("proxy split", &["--to", "90=127.0.0.1:9,10=127.0.0.1:10"]),
    ("proxy tee", &["--production", "127.0.0.1:9", "--experiment", "127.0.0.1:10"]),
    ("proxy broker", &["--listen", "127.0.0.1:3306", "--to", "localhost:9"]),
    ("proxy cache", &["--to", "127.0.0.1:9", "--disk", "/tmp/cache", "--disk-size", "1MiB"]),
    ("proxy limit", &["--to", "127.0.0.1:9"]),
    ("proxy tcp", &["--to", "127.0.0.1:9"]),
    ("proxy udp", &["--to", "127.0.0.1:9"]),
    ("proxy shard", &["--config", "/given/nutcracker.yaml"]),
    ("scatter", &["--leaf", "a=127.0.0.1:9"]),
    ("sidecar topz", &[]),
    ("sidecar config", &["--source", "dir:/given/source", "--target", "/tmp/target"]),
    ("sidecar git-sync", &["--repo", "file:///given/repository", "--root", "/tmp/site", "--max-failures", "-1"]),
    ("adapter metrics", &["--from", "redis", "--target", "redis://127.0.0.1:9"]),
    ("adapter logs", &["--file", "/given/app.log"]),
    ("adapter health", &["--check", "tcp://127.0.0.1:9"]),
];

#[test]
fn every_pattern_container_starts_says_that_it_is_well_and_ends_when_it_is_told_to() {
    let cluster = Cluster::prepare();
    let socket = cluster.scratch().join("docker.sock");
    let output = cluster.try_start(&["--docker-socket", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    eventually("the socket", || socket.exists());
    let given = cluster.scratch().join("given");
    fs::create_dir_all(given.join("source")).unwrap();
    fs::write(given.join("source/app.conf"), "x\n").unwrap();
    fs::write(given.join("app.log"), "a line\n").unwrap();
    fs::write(
        given.join("nutcracker.yaml"),
        "a:\n  listen: 127.0.0.1:22121\n  redis: true\n  servers:\n  - 127.0.0.1:9:1\n",
    )
    .unwrap();
    let volume = format!("{}:/given:ro", given.display());
    let inspected = docker::succeed(&cluster, &["run", "--rm", "hythe.dev/patterns", "--version"]);
    assert!(!inspected.is_empty());
    let inspected = docker::succeed(&cluster, &["image", "inspect", "hythe.dev/patterns"]);
    let image: Value = serde_json::from_str(&inspected).unwrap();
    let config = &image[0]["Config"];
    let environment: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in ["HYTHE_ADMIN", "HYTHE_DRAIN"] {
        let told = environment.iter().any(|v| v.starts_with(&format!("{name}=")));
        let labelled =
            config["Labels"].as_object().unwrap().values().any(|l| l.as_str().is_some_and(|l| l.contains(name)));
        assert!(told || labelled, "{name} is nowhere told: {config}");
    }
    let mut running = Vec::new();
    for (command, arguments) in COMMANDS {
        let name = command.replace(' ', "-");
        let words: Vec<&str> = command.split(' ').collect();
        let all = [
            &["run", "-d", "--tmpfs", "/tmp", "-v", &volume, "--name", &name, "hythe.dev/patterns"],
            &words[..],
            arguments,
        ];
        docker::succeed(&cluster, &all.concat());
        let label = format!("dev.hythe.patterns.{}.about", command.replace(' ', "."));
        assert!(config["Labels"][&label].is_string(), "{label}: {}", config["Labels"]);
        running.push(name);
    }
    for ((command, _), name) in COMMANDS.iter().zip(&running) {
        let ip = docker::succeed(&cluster, &["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]);
        let admin = format!("{}:9901", ip.trim());
        admin.parse::<SocketAddr>().unwrap_or_else(|_| panic!("{name} has no address: {}", docker_log(&cluster, name)));
        eventually(&format!("{command} is well: {}", docker_log(&cluster, name)), || {
            http_get(&admin, "/healthz").is_ok()
        });
        let metrics = http_get(&admin, "/metrics").unwrap();
        assert!(metrics.ends_with("# EOF\n"), "{command}: {metrics}");
        // The manual names what the image opens, and every flag with its variable.
        let words: Vec<&str> = command.split(' ').collect();
        let help =
            docker::succeed(&cluster, &[&["run", "--rm", "hythe.dev/patterns"], &words[..], &["--help"]].concat());
        for word in ["--admin", "[env: HYTHE_ADMIN=", "0.0.0.0:9901"] {
            assert!(help.contains(word), "{command} --help lacks {word:?}:\n{help}");
        }
    }
    for name in &running {
        docker::succeed(&cluster, &["stop", "-t", "25", name]);
        let state = docker::succeed(&cluster, &["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", name]);
        assert_eq!(state.trim(), "0 false", "{name} did not end by itself: {}", docker_log(&cluster, name));
    }
}

fn docker_log(cluster: &Cluster, name: &str) -> String {
    let output = docker::docker(cluster, &["logs", name]);
    text(&output.stdout) + &text(&output.stderr)
}
