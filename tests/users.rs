//! Pods whose users are not the host's: `hostUsers: false` (KEP-127).

use std::os::unix::fs::MetadataExt;

use crate::cluster::Cluster;

const PODS: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: t0p-s3cret}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: m}
data: {key: value}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: secret, secret: {secretName: s, defaultMode: 0400}}
  - {name: map, configMap: {name: m}}
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, 'busybox id -u; cat /secret/password /map/key /one; echo; echo via > /dev/stdout; trap "exit 0" TERM; while true; do busybox sleep 0.1; done']
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: secret, mountPath: /secret}
    - {name: map, mountPath: /map}
    - {name: secret, mountPath: /one, subPath: password}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  hostUsers: false
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: busybox:1, command: [sleep, "1000"], securityContext: {runAsUser: 7}}
"#;

/// The host's user that the process of a pod's container is, by what the container itself says of its mapping.
fn first_id(cluster: &Cluster, pod: &str) -> u32 {
    let map = cluster.kubectl(&["exec", pod, "--", "cat", "/proc/self/uid_map"]);
    let fields: Vec<u32> = map.split_whitespace().map(|field| field.parse().unwrap()).collect();
    assert_eq!((fields[0], fields[2]), (0, 65_536), "{map}");
    fields[1]
}

/// Owners of the host's processes with that command line.
fn owners(command: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let said = |path: &std::path::Path| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
    let named = entries.filter(|entry| said(&entry.path()).replace('\0', " ").trim() == command);
    named.filter_map(|entry| std::fs::metadata(entry.path()).ok()).map(|metadata| metadata.uid()).collect()
}

#[test]
fn pods_with_users_of_their_own_are_root_inside_and_nobody_outside() {
    let cluster = Cluster::up();
    let features = "jsonpath={.items[0].status.runtimeHandlers[0].features.userNamespaces}";
    assert_eq!(cluster.kubectl(&["get", "nodes", "-o", features]), "true");
    cluster.apply(PODS);
    cluster.wait_ready("pod/a");
    cluster.wait_ready("pod/b");
    assert_eq!(cluster.kubectl(&["logs", "a"]), "0\nt0p-s3cretvaluet0p-s3cret\nvia\n");
    let (a, b) = (first_id(&cluster, "a"), first_id(&cluster, "b"));
    assert!(a >= 65_536 && b >= 65_536 && a.abs_diff(b) >= 65_536, "{a} and {b}");
    assert!(owners("sleep 1000").contains(&(b + 7)), "{:?}", owners("sleep 1000"));
    let sh = |script: &str| cluster.kubectl(&["exec", "a", "--", "sh", "-c", script]);
    // Files of the image, of volumes and new ones are root's; the pod's network is its own.
    assert_eq!(
        sh("busybox stat -c %u /bin/busybox /disk /memory /secret/password; echo x > /new; busybox stat -c %u /new"),
        "0\n0\n0\n0\n0\n"
    );
    sh("echo kept > /disk/f; echo kept > /memory/f; busybox ping -c 1 127.0.0.1");
    let uid = cluster.jsonpath("pod/a", "{.metadata.uid}");
    let volume = cluster.data_dir().join(format!("agent/pods/{uid}/volumes/kubernetes.io~empty-dir/disk/f"));
    assert_eq!(std::fs::metadata(volume).unwrap().uid(), 0);
    // A new daemon adopts them, with the ids they have.
    cluster.kill_daemon();
    cluster.start();
    assert_eq!(sh("cat /disk/f /memory/f"), "kept\nkept\n");
    assert_eq!((first_id(&cluster, "a"), first_id(&cluster, "b")), (a, b));
    assert_eq!(cluster.jsonpath("pod/a", "{.status.containerStatuses[0].restartCount}"), "0");
    cluster.apply("---\n{apiVersion: v1, kind: Pod, metadata: {name: later}, spec: {hostUsers: false, containers: [{name: c, image: 'busybox:1', command: [sleep, '1000']}]}}");
    cluster.wait_ready("pod/later");
    let later = first_id(&cluster, "later");
    assert!(later != a && later != b, "{later} is taken");
    // Whose ids are free again once it is gone.
    cluster.kubectl(&["delete", "pod", "a", "b", "--wait"]);
    let ids = || std::fs::read_dir(cluster.data_dir().join("agent/ids")).unwrap().count();
    crate::cluster::eventually("the ids are free", || ids() == 1);
    let refused = cluster.pipe(&["apply", "-f", "-"], "---\n{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {hostUsers: false, hostPID: true, containers: [{name: c, image: 'busybox:1'}]}}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"), "{said}");
}
