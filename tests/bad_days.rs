//! Crashes and full disks.

use std::{fs, process::Command};

use crate::cluster::{Cluster, busybox, eventually, text};

#[test]
fn a_crash_loses_no_log_line_and_no_exit_code() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("talker", "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.01; done"));
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: ender}, spec: {restartPolicy: Never, containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'sleep 2; exit 42']}]}}");
    cluster.wait_ready("pod/talker");
    cluster.until("pod/ender", "{.status.phase}", "Running");
    let before = cluster.jsonpath("pod/talker", "{.status.containerStatuses[0].containerID}");
    cluster.kill_daemon();
    // It ends while nobody watches.
    eventually("the end of a container without the daemon", || {
        !crate::lifecycle::processes_of(&cluster)
            .iter()
            .any(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| text(&c).contains("exit 42")))
    });
    cluster.start();
    cluster.until("pod/ender", "{.status.containerStatuses[0].state.terminated.exitCode}", "42");
    cluster.until("pod/ender", "{.status.phase}", "Failed");
    assert_eq!(cluster.jsonpath("pod/talker", "{.status.containerStatuses[0].containerID}"), before);
    assert_eq!(cluster.jsonpath("pod/talker", "{.status.containerStatuses[0].restartCount}"), "0");
    let log = cluster.kubectl(&["logs", "talker"]);
    assert!(log.lines().enumerate().all(|(i, l)| l == format!("line {i}")), "a line is missing or doubled");
    cluster.kubectl(&["exec", "talker", "--", "true"]);
}

#[test]
fn pods_deleted_and_declared_during_an_outage_are_dealt_with_at_the_next_start() {
    let cluster = Cluster::up();
    cluster.apply("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:1', command: [sleep, '1000']}]}}}}");
    cluster.kubectl(&["rollout", "status", "deployment/d", "--timeout=90s"]);
    for _ in 0..3 {
        cluster.kubectl(&["delete", "pods", "-l", "a=b", "--wait=false"]);
        cluster.kill_daemon();
        cluster.start();
        cluster.until("deployment/d", "{.status.readyReplicas}", "3");
    }
    eventually("three pods and no more", || cluster.kubectl(&["get", "pods", "-o", "name"]).lines().count() == 3);
    eventually("three sleeps and no more", || {
        let sleeps = crate::lifecycle::processes_of(&cluster)
            .into_iter()
            .filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == b"sleep\x001000\x00"));
        sleeps.count() == 3
    });
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let cluster = Cluster::prepare_on("64m");
    cluster.start();
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: before}, data: {a: b}}");
    let ballast = cluster.data_dir().join("ballast");
    let _ = Command::new("dd").args(["if=/dev/zero", &format!("of={}", ballast.display()), "bs=1M"]).output().unwrap();
    let mut refused = None;
    for i in 0..400 {
        let yaml = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m{i}}}, data: {{k: {}}}}}",
            "x".repeat(100_000)
        );
        let output = cluster.pipe(&["create", "-f", "-"], &yaml);
        if !output.status.success() {
            refused = Some(text(&output.stderr));
            break;
        }
    }
    let refused = refused.expect("a disk that is full refuses");
    assert!(refused.contains("Error from server"), "{refused}");
    assert_eq!(cluster.jsonpath("configmap/before", "{.data.a}"), "b");
    fs::remove_file(&ballast).unwrap();
    eventually("writes again", || {
        cluster
            .pipe(&["apply", "-f", "-"], "{apiVersion: v1, kind: ConfigMap, metadata: {name: after}, data: {a: b}}")
            .status
            .success()
    });
    cluster.hythe(&["down"]);
    cluster.start();
    assert_eq!(cluster.jsonpath("configmap/after", "{.data.a}"), "b");
}
