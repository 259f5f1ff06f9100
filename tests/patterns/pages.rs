//! The examples of docs/patterns, run as they are printed but for ports, files and addresses of the internet.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::Value;

use super::apply;
use crate::cluster::{Cluster, eventually, http_get, text};

/// A page's code in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/patterns").join(page);
    let text = fs::read_to_string(&file).unwrap();
    let begin = format!("```{language}\n");
    text.split(begin.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// The first block that is to be applied to a cluster.
fn objects(page: &str) -> String {
    let found = blocks(page, "yaml").into_iter().find(|block| block.contains("apiVersion"));
    found.unwrap_or_else(|| panic!("{page} has no example"))
}

/// A shell script and all that it started.
struct Script {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Script {
    /// Runs a page's first script with ports of this test's own.
    fn of(page: &str, scratch: &Path, ports: &[&str]) -> Self {
        Self::with(page, scratch, ports, &[])
    }

    /// The same with an environment.
    fn with(page: &str, scratch: &Path, ports: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut script = blocks(page, "sh").remove(0).replace("/tmp/", &format!("{}/", scratch.display()));
        // All are held until all are chosen, so that they differ.
        let free: Vec<TcpListener> = ports.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut metrics = String::new();
        for (port, free) in ports.iter().zip(&free) {
            let free = free.local_addr().unwrap().port().to_string();
            script = script.replace(port, &free);
            if *port == "9121" {
                // Where the page leaves the adapter to its default.
                metrics = format!("127.0.0.1:{free}");
            }
        }
        drop(free);
        // Not every program ends what it prints with a line. Whoever ends this test, in whatever way, ends all that the
        // script has started: its standard input is then at its end.
        let script = format!("exec 3<&0 </dev/null\n(cat <&3; kill -KILL 0) >/dev/null 2>&1 &\n{script}\necho\n");
        let programs = Path::new(env!("CARGO_BIN_EXE_hythe")).parent().unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .args(["-ec", &script])
            .env("PATH", path)
            .env("HYTHE_ADMIN", "off")
            .env("METRICS_LISTEN", metrics)
            .env("no_proxy", "*")
            .env("NO_PROXY", "*")
            .envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// The next line that `wanted` wants.
    fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "the script ended before it said what it must");
            if wanted(&line) {
                return line;
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn printed(page: &str) -> Value {
    serde_json::from_str(blocks(page, "json").first().unwrap_or_else(|| panic!("{page} prints nothing"))).unwrap()
}

#[test]
fn the_scripts_of_the_pages_say_what_the_pages_print() {
    let scratch = tempfile::tempdir().unwrap();
    let mut script = Script::of("scatter-gather.md", scratch.path(), &["9001", "9002", "8080"]);
    // The answer has no line end of its own: a line of the access log may follow on it.
    let line = script.line(|line| line.starts_with("{\"kind\":\"GatherResult\""));
    let answer = serde_json::Deserializer::from_str(&line).into_iter::<Value>().next().unwrap().unwrap();
    assert_eq!(answer, printed("scatter-gather.md"));
    let mut script = Script::of("log-adapter.md", scratch.path(), &[]);
    let mut record: Value = serde_json::from_str(&script.line(|line| line.starts_with("{\"time\""))).unwrap();
    record["file"] =
        record["file"].as_str().unwrap().replace(&format!("{}/", scratch.path().display()), "/tmp/").into();
    assert_eq!(record, printed("log-adapter.md"));
    let mut script = Script::of("metrics-adapter.md", scratch.path(), &["6379", "9121"]);
    assert_eq!(script.line(|line| line.starts_with("redis_up")), "redis_up 1\n");
}

#[test]
fn what_a_script_has_started_ends_with_who_started_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mut script = Script::of("scatter-gather.md", scratch.path(), &["9001", "9002", "8080"]);
    script.line(|line| line.starts_with("{\"kind\":\"GatherResult\""));
    let group = Pid::from_raw(script.child.id().cast_signed());
    // As when the process of this test is killed: nobody drops anything, but its pipes are closed.
    drop(script.child.stdin.take());
    eventually("the end of all of them", || {
        let _ = script.child.try_wait();
        killpg(group, None).is_err() || all_are_dead(group)
    });
}

/// Whether nobody of a group runs: the dead may wait for somebody to look at them.
fn all_are_dead(group: Pid) -> bool {
    let stats = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| fs::read_to_string(e.path().join("stat")).ok());
    let mut members = stats.filter_map(|stat| {
        let rest: Vec<String> = stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
        (rest.get(2)?.parse::<i32>().ok()? == group.as_raw()).then(|| rest[0].clone())
    });
    members.all(|state| state == "Z" || state == "X")
}

#[test]
fn topz_shows_the_processes_of_another_container_as_the_page_says() {
    let cluster = Cluster::prepare();
    let socket = cluster.scratch().join("docker.sock");
    let output = cluster.try_start(&["--docker-socket", socket.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    cluster.import("busybox", "busybox:latest");
    eventually("the socket", || socket.exists());
    let host = format!("unix://{}", socket.display());
    let mut script = Script::with("topz.md", cluster.scratch(), &["8080"], &[("DOCKER_HOST", &host)]);
    let list: Value = serde_json::from_str(&script.line(|line| line.starts_with('{'))).unwrap();
    let printed = printed("topz.md");
    assert_eq!((&list["kind"], &list["apiVersion"]), (&printed["kind"], &printed["apiVersion"]));
    let items = list["items"].as_array().unwrap();
    let sleep = items.iter().find(|item| item["command"] == printed["items"][0]["command"]);
    let sleep = sleep.unwrap_or_else(|| panic!("sleep is among them: {list}"));
    for field in printed["items"][0].as_object().unwrap().keys().filter(|field| *field != "limits") {
        assert!(sleep.get(field).is_some(), "{field}: {sleep}");
    }
}

#[test]
fn a_web_server_shows_what_git_sync_has_fetched_as_the_page_says() {
    let cluster = Cluster::up();
    let repository = cluster.scratch().join("repository");
    fs::create_dir(&repository).unwrap();
    let commit = |content: &str| {
        fs::write(repository.join("README.md"), content).unwrap();
        super::beside::git(&repository, &["add", "-A"]);
        super::beside::git(&repository, &["commit", "-q", "-m", "a change"]);
    };
    super::beside::git(&repository, &["init", "-q", "-b", "master", "."]);
    commit("one\n");
    // The repository on the internet is one on the disk here.
    let printed = objects("git-sync.md");
    let (volumes, mount) = ("  volumes:\n", "volumeMounts: [{name: site, mountPath: /site}]\n");
    let there =
        format!("{volumes}  - {{name: repository, hostPath: {{path: '{}', type: Directory}}}}\n", repository.display());
    let at = printed.rfind(mount).unwrap();
    let mounts = "volumeMounts: [{name: site, mountPath: /site}, {name: repository, mountPath: /repository}]\n";
    let local = format!("{}{mounts}{}", &printed[..at], &printed[at + mount.len()..])
        .replace(volumes, &there)
        .replace("https://github.com/kubernetes/git-sync", "file:///repository")
        .replace("image: busybox\n", "image: busybox:1\n");
    assert!(local.contains("file:///repository") && local.contains("busybox:1"), "{local}");
    apply(&cluster, &local);
    cluster.wait_ready("pod/site");
    let address = format!("{}:8080", cluster.jsonpath("pod/site", "{.status.podIP}"));
    let page = || http_get(&address, "/current/README.md");
    eventually("the first commit", || page().as_deref() == Ok("one\n"));
    commit("two\n");
    eventually("the second commit", || page().as_deref() == Ok("two\n"));
}

#[test]
fn a_probe_asks_the_health_adapter_as_the_page_says() {
    let cluster = Cluster::up();
    super::software::import_redis(&cluster);
    apply(&cluster, &objects("health-adapter.md"));
    cluster.wait_ready("pod/cache");
    let ip = cluster.jsonpath("pod/cache", "{.status.podIP}");
    let adapter = format!("{ip}:8086");
    eventually("it is well", || http_get(&adapter, "/healthz").is_ok());
    // Redis runs and listens, and yet nobody can use it: only who really asks can tell.
    let redis =
        |words: &[&str]| cluster.kubectl(&[&["exec", "cache", "-c", "redis", "--", "redis-cli"], words].concat());
    redis(&["config", "set", "requirepass", "forgotten"]);
    eventually("the adapter says why", || {
        let answer = super::curl(&[&format!("http://{adapter}/api/v1/health")]);
        let health: Value = serde_json::from_str(&answer.0).unwrap_or_default();
        answer.1 == "500" && health["reason"].as_str().is_some_and(|reason| reason.contains("NOAUTH"))
    });
    cluster.until("pod/cache", "{.status.containerStatuses[?(@.name==\"redis\")].restartCount}", "1");
    assert_eq!(cluster.jsonpath("pod/cache", "{.status.containerStatuses[?(@.name==\"health\")].restartCount}"), "0");
    eventually("it is well again", || http_get(&adapter, "/healthz").is_ok());
    let events = cluster.kubectl(&["get", "events", "--field-selector", "reason=Unhealthy"]);
    assert!(events.contains("Liveness probe failed: HTTP probe failed with statuscode: 500"), "{events}");
}

#[test]
fn the_router_before_three_redis_servers_works_as_the_page_says() {
    let cluster = Cluster::up();
    super::software::import_redis(&cluster);
    apply(&cluster, &objects("sharding.md"));
    cluster.kubectl(&["rollout", "status", "statefulset/db", "--timeout=90s"]);
    cluster.wait_ready("pod/router");
    let ip = cluster.jsonpath("pod/router", "{.status.podIP}");
    let redis = |words: &[&str]| {
        let output = Command::new("redis-cli").args(["-h", &ip]).args(words).output().unwrap();
        text(&output.stdout).trim().to_owned()
    };
    eventually("the first answer", || redis(&["set", "user-0", "0"]) == "OK");
    (0..30).for_each(|n| assert_eq!(redis(&["set", &format!("user-{n}"), &n.to_string()]), "OK"));
    (0..30).for_each(|n| assert_eq!(redis(&["get", &format!("user-{n}")]), n.to_string()));
    let sizes: Vec<u32> = (0..3)
        .map(|n| cluster.kubectl(&["exec", &format!("db-{n}"), "--", "redis-cli", "dbsize"]).trim().parse().unwrap())
        .collect();
    assert!(sizes.iter().sum::<u32>() == 30 && sizes.iter().all(|size| *size > 0), "{sizes:?}");
}

#[test]
fn nginx_follows_its_config_map_as_the_page_says() {
    let cluster = Cluster::up();
    super::software::import_nginx(&cluster);
    // Without a tag it would be looked for on the internet each time.
    let printed = objects("config.md").replace("image: nginx\n", "image: nginx:1\n");
    apply(&cluster, &printed);
    cluster.wait_ready("pod/site");
    let ip = cluster.jsonpath("pod/site", "{.status.podIP}");
    let address = format!("{ip}:8080");
    eventually("the first page", || http_get(&address, "/").as_deref() == Ok("one\n"));
    let change = printed.replace("'one", "'two");
    let map = change.split("---").next().unwrap();
    apply(&cluster, map);
    eventually("the second page", || http_get(&address, "/").as_deref() == Ok("two\n"));
    assert_eq!(cluster.jsonpath("pod/site", "{.status.containerStatuses[*].restartCount}"), "0 0", "it was a signal");
}
