//! What lies in volumes, where it lies, and what becomes of it.

use std::{fs, path::Path};

use crate::cluster::{Cluster, busybox, eventually};

/// File systems in memory that are mounted on the host below the instance's directories.
fn in_memory(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

#[test]
fn secrets_and_tokens_never_reach_a_disk_and_go_with_their_pod() {
    let cluster = Cluster::up();
    cluster.apply(
        r#"
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: t0p-s3cret, other: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: m}
data: {key: value}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {who: p}}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {name: secret, secret: {secretName: s, defaultMode: 0440, items: [{key: password, path: deep/pass, mode: 0400}]}}
  - {name: none, secret: {secretName: missing, optional: true}}
  - name: all
    projected:
      sources:
      - {secret: {name: s, items: [{key: other, path: other}]}}
      - {configMap: {name: m}}
      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
      - {serviceAccountToken: {path: token, audience: vault}}
  containers:
  - name: c
    image: busybox:1
    command: [sleep, "1000"]
    volumeMounts:
    - {name: secret, mountPath: /secret}
    - {name: none, mountPath: /none}
    - {name: all, mountPath: /all}
    - {name: secret, mountPath: /one, subPath: deep/pass}
"#,
    );
    cluster.wait_ready("pod/p");
    let sh = |script: &str| cluster.kubectl(&["exec", "p", "--", "sh", "-c", script]);
    assert_eq!(sh("cat /secret/deep/pass /one; busybox ls /none | busybox wc -l"), "t0p-s3crett0p-s3cret0\n");
    assert!(sh("busybox ls -lL /secret/deep/pass").starts_with("-r--------"));
    assert_eq!(
        sh("cat /all/other /all/key /all/labels; echo; busybox wc -c < /all/token").lines().next(),
        Some("xvaluewho=\"p\"")
    );
    assert!(
        sh("busybox mount | busybox grep -E ' /(secret|all|one) '")
            .lines()
            .all(|l| l.contains("tmpfs") && l.contains("ro,"))
    );
    assert!(sh("touch /all/x 2>&1; true").contains("Read-only"));
    // On the host: in one memory file system, and nowhere below the data directory.
    let found = std::process::Command::new("grep")
        .args(["-rlsF", "t0p-s3cret"])
        .arg(cluster.data_dir().join("agent"))
        .output()
        .unwrap();
    assert_eq!(crate::cluster::text(&found.stdout), "");
    let uid = cluster.jsonpath("pod/p", "{.metadata.uid}");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let secrets = table
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|m| Path::new(m).join(&uid))
        .find(|p| p.exists() && p.ends_with(format!("secrets/{uid}")))
        .expect("a memory file system with the pod's secrets");
    assert!(in_memory(&secrets));
    // They outlive the daemon, and follow the API under the next one.
    cluster.kill_daemon();
    cluster.start();
    cluster.wait_ready("pod/p");
    assert_eq!(cluster.jsonpath("pod/p", "{.status.containerStatuses[0].restartCount}"), "0");
    cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {password: changed, other: why}}");
    eventually("the new secret", || sh("cat /secret/deep/pass /all/other") == "changedwhy");
    cluster.kubectl(&["delete", "pod", "p"]);
    eventually("the end of the secrets", || !secrets.exists());
    cluster.hythe(&["down", "--purge"]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(secrets.parent().unwrap().to_str().unwrap()), "{table}");
}

#[test]
fn a_sub_path_stays_in_its_volume_and_a_volumes_end_follows_no_link() {
    let cluster = Cluster::up();
    let outside = cluster.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    cluster.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: good}}
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - {{name: v, emptyDir: {{}}}}
  - {{name: m, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
  - {{name: i, image: {{reference: "busybox:1"}}}}
  initContainers:
  - name: says
    image: busybox:1
    command: [sh, -c, "echo \"A='from a file'\" > /m/a.env"]
    volumeMounts: [{{name: m, mountPath: /m}}]
  containers:
  - name: c
    image: busybox:1
    env:
    - {{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: A, valueFrom: {{fileKeyRef: {{volumeName: m, path: a.env, key: A}}}}}}
    command: [sh, -c, "echo data > /part/file; echo mem > /mpart/file; ln -s {0} /whole/escape; sleep 1000"]
    volumeMounts:
    - {{name: v, mountPath: /whole}}
    - {{name: v, mountPath: /part, subPathExpr: deep/$(NAME)}}
    - {{name: m, mountPath: /mem}}
    - {{name: m, mountPath: /mpart, subPath: part}}
    - {{name: i, mountPath: /image}}
    - {{name: i, mountPath: /programs, subPath: bin}}
---
apiVersion: v1
kind: Pod
metadata: {{name: evil}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: v, emptyDir: {{}}}}]
  initContainers:
  - {{name: plant, image: "busybox:1", command: [ln, -s, {0}, /v/link], volumeMounts: [{{name: v, mountPath: /v}}]}}
  containers:
  - {{name: c, image: "busybox:1", command: [sleep, "1000"], volumeMounts: [{{name: v, mountPath: /v, subPath: link}}]}}
"#,
        outside.display()
    ));
    cluster.wait_ready("pod/good");
    let sh = |script: &str| cluster.kubectl(&["exec", "good", "--", "sh", "-c", script]);
    eventually("the files", || sh("cat /whole/deep/good/file /mem/part/file") == "data\nmem\n");
    assert_eq!(
        sh("echo $A; /image/bin/busybox echo all of it; /programs/busybox echo a part"),
        "from a file\nall of it\na part\n"
    );
    assert!(sh("busybox touch /image/x 2>&1; true").contains("Read-only file system"));
    let full = cluster.try_kubectl(&["exec", "good", "--", "dd", "if=/dev/zero", "of=/mem/big", "bs=64k", "count=64"]);
    assert!(crate::cluster::text(&full.stderr).contains("No space left"), "{full:?}");
    cluster.until("pod/evil", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError");
    let message = cluster.jsonpath("pod/evil", "{.status.containerStatuses[0].state.waiting.message}");
    assert_eq!(message, "failed to prepare subPath for volumeMount \"v\" of container \"c\"");
    cluster.kubectl(&["delete", "pod", "good", "evil"]);
    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
}

#[test]
fn a_pod_that_fills_its_volume_beyond_the_limit_is_evicted() {
    let cluster = Cluster::up();
    cluster.apply("{apiVersion: v1, kind: Pod, metadata: {name: greedy}, spec: {terminationGracePeriodSeconds: 0, volumes: [{name: v, emptyDir: {sizeLimit: 1Mi}}], containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'dd if=/dev/zero of=/v/big bs=1M count=4; sleep 1000'], volumeMounts: [{name: v, mountPath: /v}]}]}}");
    cluster.until("pod/greedy", "{.status.phase}/{.status.reason}", "Failed/Evicted");
    let message = cluster.jsonpath("pod/greedy", "{.status.message}");
    assert_eq!(message, "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
}

#[test]
fn a_volume_that_no_container_names_is_not_waited_for_until_one_does() {
    let cluster = Cluster::up();
    let pod =
        busybox("p", "sleep 1000").replace("containers:", "volumes: [{name: v, configMap: {name: late}}], containers:");
    cluster.apply(&pod);
    cluster.wait_ready("pod/p");
    cluster.kubectl(&["create", "configmap", "late", "--from-literal=key=read"]);
    let debugger = r#"{"spec":{"ephemeralContainers":[{"name":"d","image":"busybox:1","command":["cat","/v/key"],
        "volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}"#;
    cluster.kubectl(&["patch", "pod", "p", "--subresource=ephemeralcontainers", "--type=strategic", "-p", debugger]);
    cluster.until("pod/p", "{.status.ephemeralContainerStatuses[0].state.terminated.reason}", "Completed");
    assert_eq!(cluster.kubectl(&["logs", "p", "-c", "d"]), "read");
}
