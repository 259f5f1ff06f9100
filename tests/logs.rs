//! What `kubectl logs` can be asked.

use crate::cluster::{Cluster, busybox, eventually};

#[test]
fn logs_are_chosen_by_container_time_and_attempt() {
    let cluster = Cluster::up();
    cluster.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: many, labels: {app: many}}
spec:
  terminationGracePeriodSeconds: 0
  initContainers:
  - {name: first, image: "busybox:1", command: [echo, from first]}
  - {name: side, image: "busybox:1", restartPolicy: Always, command: [sh, -c, "echo from side; sleep 1000"]}
  containers:
  - {name: a, image: "busybox:1", command: [sh, -c, "echo from a; sleep 1000"]}
  - {name: b, image: "busybox:1", command: [sh, -c, "echo old b; sleep 4; echo new b; sleep 1000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: crasher}
spec:
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: c
    image: busybox:1
    volumeMounts: [{name: v, mountPath: /v}]
    command: [sh, -c, "if [ -e /v/f ]; then echo second life; sleep 1000; fi; touch /v/f; echo first life; exit 1"]
---
apiVersion: v1
kind: Pod
metadata: {name: waits}
spec:
  initContainers: [{name: i, image: "busybox:1", command: [sleep, "1000"]}]
  containers: [{name: c, image: "busybox:1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: no-image}
spec:
  containers: [{name: c, image: "127.0.0.1:1/none:1"}]
"#,
    );
    cluster.wait_ready("pod/many");
    eventually("the last line", || cluster.kubectl(&["logs", "many", "-c", "b"]) == "old b\nnew b\n");
    assert_eq!(cluster.kubectl(&["logs", "many", "-c", "first"]), "from first\n");
    assert_eq!(cluster.kubectl(&["logs", "many", "-c", "side"]), "from side\n");
    let default = cluster.try_kubectl(&["logs", "many"]);
    if default.status.success() {
        assert_eq!(crate::cluster::text(&default.stdout), "from a\n");
    } else {
        // kubectl before 1.22 does not choose the first container by itself.
        let complaint = crate::cluster::text(&default.stderr);
        assert!(complaint.contains("a container name must be specified for pod many"), "{complaint}");
    }
    let all = cluster.kubectl(&["logs", "many", "--all-containers", "--prefix"]);
    // kubectl asks for the containers in any order.
    for lines in [
        "[pod/many/first] from first\n",
        "[pod/many/side] from side\n",
        "[pod/many/a] from a\n",
        "[pod/many/b] old b\n[pod/many/b] new b\n",
    ] {
        assert!(all.contains(lines), "{all}");
    }
    assert_eq!(all.lines().count(), 5);
    assert_eq!(cluster.kubectl(&["logs", "-l", "app=many", "--all-containers", "--tail=1"]).lines().count(), 4);
    // Time: between the two lines of b.
    let stamped = cluster.kubectl(&["logs", "many", "-c", "b", "--timestamps"]);
    let new = stamped.lines().last().unwrap().split(' ').next().unwrap();
    let second = &new[..19];
    assert_eq!(cluster.kubectl(&["logs", "many", "-c", "b", &format!("--since-time={second}Z")]), "new b\n");
    assert_eq!(cluster.kubectl(&["logs", "many", "-c", "b", "--since-time=2100-01-01T00:00:00Z"]), "");
    assert_eq!(cluster.kubectl(&["logs", "many", "-c", "b", "--since=1h"]), "old b\nnew b\n");
    // Attempts.
    eventually("the second life", || cluster.try_kubectl(&["logs", "crasher"]).stdout == b"second life\n");
    assert_eq!(cluster.kubectl(&["logs", "crasher", "--previous"]), "first life\n");
    let error = cluster.kubectl_fails(&["logs", "many", "-c", "a", "--previous"]);
    assert!(error.contains("previous terminated container \"a\" in pod \"many\" not found"), "{error}");
    // What has no log yet says so.
    let error = cluster.kubectl_fails(&["logs", "waits", "-c", "c"]);
    assert!(error.contains("container \"c\" in pod \"waits\" is waiting to start: PodInitializing"), "{error}");
    eventually("the failed pull", || {
        cluster
            .kubectl_fails(&["logs", "no-image"])
            .contains("container \"c\" in pod \"no-image\" is waiting to start: trying and failing to pull image")
    });
    let error = cluster.kubectl_fails(&["logs", "many", "-c", "nobody"]);
    assert!(error.contains("container nobody is not valid for pod many"), "{error}");
}

#[test]
fn a_followed_log_is_whole_over_its_rotations() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("talker", "until [ -e /go ]; do sleep 0.05; done; seq 1 600000; echo end; sleep 1000"));
    cluster.wait_ready("pod/talker");
    let mut follow = cluster.spawn(&["logs", "-f", "talker"]);
    let out = follow.0.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        use std::io::BufRead;
        let mut expected = 1u32;
        for line in std::io::BufReader::new(out).lines() {
            let line = line.unwrap();
            if line == "end" {
                return expected - 1;
            }
            assert_eq!(line, expected.to_string());
            expected += 1;
        }
        panic!("the log ended at {expected}");
    });
    cluster.kubectl(&["exec", "talker", "--", "touch", "/go"]);
    assert_eq!(reader.join().unwrap(), 600_000);
    let files = walk(&cluster.data_dir().join("agent/log/pods"));
    assert!(files.iter().any(|f| f.ends_with("0.log.1")), "nothing was rotated: {files:?}");
    // Over the files: the end of the log reaches back into a rotated one.
    let tail = cluster.kubectl(&["logs", "talker", "--tail=400000"]);
    assert_eq!(tail.lines().next(), Some("200002"));
    assert_eq!(tail.lines().count(), 400_000);
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => out.extend(walk(&path)),
            path => out.push(path.display().to_string()),
        }
    }
    out
}
