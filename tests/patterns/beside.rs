//! What stands beside an application in its pod: topz, the configuration manager, git-sync, adapters of logs, metrics and health.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::apply;
use crate::cluster::{Cluster, eventually, http_get, text};

/// Runs git without anyone's configuration.
pub fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=Someone", "-c", "user.email=someone@example.com"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", text(&output.stderr));
}

#[test]
fn a_pod_has_its_files_from_git_its_configuration_from_a_config_map_and_tells_of_its_processes_and_logs() {
    let cluster = Cluster::up();
    let repository = cluster.scratch().join("repository");
    fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q", "-b", "main", "."]);
    let commit = |content: &str| {
        fs::write(repository.join("index.html"), content).unwrap();
        git(&repository, &["add", "-A"]);
        git(&repository, &["commit", "-q", "-m", "a change"]);
    };
    commit("one\n");
    let yaml = format!(
        r#"---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{app.conf: "colour = red\n"}}
---
apiVersion: v1
kind: Pod
metadata: {{name: site}}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 2
  volumes:
  - {{name: repository, hostPath: {{path: "{}", type: Directory}}}}
  - {{name: site, emptyDir: {{}}}}
  - {{name: source, configMap: {{name: settings}}}}
  - {{name: conf, emptyDir: {{}}}}
  - {{name: logs, emptyDir: {{}}}}
  containers:
  - name: web
    image: busybox:1
    command: [httpd, -f, -p, "8080", -h, /site]
    volumeMounts: [{{name: site, mountPath: /site}}]
  - name: worker
    image: busybox:1
    command: [sh, -c, "echo $$$$ > /conf/worker.pid; trap 'cat /conf/app.conf >> /conf/seen' HUP; printf '2026-03-04 05:06:07 ERROR it failed\\n  at a\\n  at b\\n2026-03-04 05:06:08 INFO well again\\n' > /logs/app.log; while :; do sleep 1000 & wait $!; done"]
    volumeMounts: [{{name: conf, mountPath: /conf}}, {{name: logs, mountPath: /logs}}]
  - name: git-sync
    image: hythe.dev/patterns:0.1.0
    args: [sidecar, git-sync, "--repo=file:///repository", --ref=main, --root=/site, --link=current, --period=500ms, --admin, ":9911"]
    volumeMounts: [{{name: site, mountPath: /site}}, {{name: repository, mountPath: /repository, readOnly: true}}]
  - name: config
    image: hythe.dev/patterns:0.1.0
    securityContext: {{runAsUser: 0}}
    args: [sidecar, config, "--source=dir:/source", --target=/conf, "--notify=signal:HUP@pidfile:/conf/worker.pid", "--validate-regex=colour", --admin, ":9912"]
    volumeMounts: [{{name: source, mountPath: /source}}, {{name: conf, mountPath: /conf}}]
  - name: topz
    image: hythe.dev/patterns:0.1.0
    args: [sidecar, topz, "--addr=0.0.0.0:8090", --admin, ":9913"]
  - name: logs
    image: hythe.dev/patterns:0.1.0
    args:
    - adapter
    - logs
    - --file=/logs/app.log
    - --format=regex
    - "--pattern=^%{{TIMESTAMP_ISO8601:time}} %{{LOGLEVEL:level}} %{{GREEDYDATA:message}}$"
    - "--multiline-start=^\\d{{4}}-"
    - --positions=/logs/positions.json
    - --admin=:9914
    volumeMounts: [{{name: logs, mountPath: /logs}}]
"#,
        repository.display()
    );
    // The image is there before many want it at once.
    apply(
        &cluster,
        "{apiVersion: v1, kind: Pod, metadata: {name: first}, spec: {restartPolicy: Never, containers: [{name: c, image: 'hythe.dev/patterns:0.1.0', args: [sidecar, topz, --help]}]}}",
    );
    cluster.until("pod/first", "{.status.phase}", "Succeeded");
    apply(&cluster, &yaml);
    cluster.wait_ready("pod/site");
    let ip = cluster.jsonpath("pod/site", "{.status.podIP}");
    let get = |port: u16, path: &str| http_get(&format!("{ip}:{port}"), path);
    // git-sync: what is pushed is served, and only whole.
    eventually("the first commit", || get(8080, "/current/index.html").as_deref() == Ok("one\n"));
    commit("two\n");
    eventually("the second commit", || get(8080, "/current/index.html").as_deref() == Ok("two\n"));
    assert!(get(9911, "/readyz").is_ok());
    let sync: Value = serde_json::from_str(&get(9911, "/api/v1/sync").unwrap()).unwrap();
    assert_eq!((sync["ref"].as_str(), sync["error"].is_null()), (Some("main"), true), "{sync}");
    // The configuration manager: a change of the ConfigMap reaches the process as a signal; one that is wrong does not.
    let seen = || text(&cluster.try_kubectl(&["exec", "site", "-c", "worker", "--", "cat", "/conf/seen"]).stdout);
    let colour = |word: &str| {
        let patch = format!("{{\"data\": {{\"app.conf\": \"{word}\\n\"}}}}");
        cluster.kubectl(&["patch", "configmap", "settings", "--type=merge", "-p", &patch]);
    };
    eventually("the first configuration", || {
        text(&cluster.try_kubectl(&["exec", "site", "-c", "worker", "--", "cat", "/conf/app.conf"]).stdout)
            == "colour = red\n"
    });
    colour("colour = blue");
    eventually("the worker hears of blue", || seen().ends_with("colour = blue\n"));
    colour("no such thing");
    eventually("it is refused", || {
        get(9912, "/metrics").is_ok_and(|metrics| {
            metrics.lines().any(|l| l.starts_with("hythe_config_looks_total{result=\"refused\"}") && !l.ends_with(" 0"))
        })
    });
    assert!(seen().ends_with("colour = blue\n"));
    colour("colour = green");
    eventually("the worker hears of green", || seen().ends_with("colour = blue\ncolour = green\n"));
    // topz: the processes of all containers of the pod.
    let top: Value = serde_json::from_str(&get(8090, "/topz?sort=memory").unwrap()).unwrap();
    let commands: Vec<&str> = top["items"].as_array().unwrap().iter().filter_map(|p| p["command"].as_str()).collect();
    for word in ["httpd -f -p 8080", "sidecar git-sync", "sidecar topz", "adapter logs"] {
        assert!(commands.iter().any(|command| command.contains(word)), "{word}: {commands:?}");
    }
    assert!(get(8090, "/topz?format=html").unwrap().contains("<table"));
    // The log adapter: one line of JSON a record, on its own output.
    let log = || text(&cluster.try_kubectl(&["logs", "site", "-c", "logs"]).stdout);
    let records = || -> Vec<Value> {
        let lines = log();
        let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["source"] == "files").collect()
    };
    eventually("two records", || records().len() == 2);
    let first = &records()[0];
    assert_eq!(first["time"], "2026-03-04T05:06:07Z");
    assert_eq!(
        (first["level"].as_str(), first["message"].as_str()),
        (Some("error"), Some("it failed\n  at a\n  at b"))
    );
}

/// Prometheus' text format, read strictly: what is not of it is a fault. Returns samples by name and labels.
fn samples(exposition: &str) -> Vec<(String, f64)> {
    let name = |word: &str| {
        !word.is_empty()
            && !word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    let (mut all, mut kinds) = (Vec::new(), Vec::new());
    assert!(exposition.ends_with('\n'), "the last line ends");
    for line in exposition.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("HELP"), Some(of), Some(_)) => assert!(name(of), "{line}"),
                (Some("TYPE"), Some(of), Some(kind)) => {
                    assert!(name(of), "{line}");
                    assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{line}");
                    assert!(!kinds.contains(&of.to_owned()), "{of} has two types");
                    kinds.push(of.to_owned());
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = match line.split_once('}') {
            Some((series, rest)) => (format!("{series}}}"), rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"))),
            None => line.split_once(' ').map(|(n, v)| (n.to_owned(), v)).unwrap_or_else(|| panic!("{line}")),
        };
        let (metric, labels) = series.split_once('{').unwrap_or((&series, "}"));
        assert!(name(metric), "{line}");
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(name(key) && !key.contains(':') && !value.trim_end_matches('"').contains('\n'), "{line}");
        }
        let of =
            ["_total", "_sum", "_count", "_bucket"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
        assert!(kinds.iter().any(|kind| kind == of || kind == metric), "{metric} has no type");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(!all.iter().any(|(known, _)| *known == series), "{series} twice");
        all.push((series, value));
    }
    all
}

#[test]
fn redis_tells_prometheus_by_an_adapter_in_its_pod() {
    let cluster = Cluster::up();
    cluster.import("redis-7", "redis:7");
    apply(
        &cluster,
        "---
apiVersion: v1
kind: Pod
metadata: {name: cache, annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '9121'}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: redis, image: 'redis:7', command: [redis-server, --save, '']}
  - name: metrics
    image: hythe.dev/patterns:0.1.0
    args: [adapter, metrics, --from=redis, '--target=redis://localhost:6379']
    ports: [{name: metrics, containerPort: 9121}]
    readinessProbe: {httpGet: {path: /readyz, port: 9901}}
",
    );
    cluster.wait_ready("pod/cache");
    let ip = cluster.jsonpath("pod/cache", "{.status.podIP}");
    for key in ["a", "b", "c"] {
        cluster.kubectl(&["exec", "cache", "-c", "redis", "--", "redis-cli", "set", key, "1"]);
    }
    let scrape = || samples(&http_get(&format!("{ip}:9121"), "/metrics").unwrap());
    let value = |samples: &[(String, f64)], series: &str| samples.iter().find(|(s, _)| s == series).map(|(_, v)| *v);
    let told = scrape();
    assert_eq!(value(&told, "redis_up"), Some(1.0));
    assert_eq!(value(&told, "redis_db_keys{db=\"db0\"}"), Some(3.0), "{told:?}");
    assert!(value(&told, "redis_memory_used_bytes").unwrap() > 100_000.0);
    assert!(told.len() > 40, "{}", told.len());
    // A counter counts, and a server that is gone is told of.
    let commands = |samples: &[(String, f64)]| value(samples, "redis_commands_processed_total").unwrap();
    let before = commands(&told);
    cluster.kubectl(&["exec", "cache", "-c", "redis", "--", "redis-cli", "get", "a"]);
    assert!(commands(&scrape()) > before);
    cluster.try_kubectl(&["exec", "cache", "-c", "redis", "--", "redis-cli", "shutdown", "nosave"]);
    eventually("it is told to be down, or is up again and empty", || {
        let told = scrape();
        value(&told, "redis_up") == Some(0.0) || value(&told, "redis_db_keys{db=\"db0\"}").is_none()
    });
    eventually("it is up again", || value(&scrape(), "redis_up") == Some(1.0));
}
