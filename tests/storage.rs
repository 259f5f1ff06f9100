//! Claims and volumes: made, bound, mounted, grown, kept and removed.

use std::path::{Path, PathBuf};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::cluster::{Cluster, busybox, eventually};

fn claim(name: &str, extra: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{accessModes: \
         [ReadWriteOnce], storageClassName: hythe-local, resources: {{requests: {{storage: 10Mi}}}}{extra}}}}}\n---\n"
    )
}

/// A pod that runs a script with a claim at `/data`.
fn user(name: &str, claim: &str, script: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, \
         volumes: [{{name: v, persistentVolumeClaim: {{claimName: {claim}}}}}], containers: [{{name: c, image: \
         'busybox:1', command: [sh, -c, {script:?}], volumeMounts: [{{name: v, mountPath: /data}}]}}]}}}}\n---\n"
    )
}

fn reasons(cluster: &Cluster, object: &str) -> String {
    let field = format!("--field-selector=involvedObject.name={object}");
    cluster.kubectl(&["get", "events", &field, "-o", "jsonpath={.items[*].reason}"])
}

fn path_of(cluster: &Cluster, claim: &str) -> (String, PathBuf) {
    let volume = cluster.jsonpath(&format!("pvc/{claim}"), "{.spec.volumeName}");
    let path = cluster.jsonpath(&format!("pv/{volume}"), "{.spec.local.path}");
    (volume, PathBuf::from(path))
}

#[test]
fn a_claim_is_provisioned_for_its_first_pod_outlives_it_grows_and_goes_with_its_data() {
    let cluster = Cluster::up();
    let classes = cluster.kubectl(&["get", "storageclass"]);
    assert!(classes.contains("hythe-local (default)") && classes.contains("WaitForFirstConsumer"), "{classes}");
    cluster.apply(&claim("data", ""));
    eventually("the event", || reasons(&cluster, "data").contains("WaitForFirstConsumer"));
    assert_eq!(cluster.jsonpath("pvc/data", "{.status.phase}"), "Pending");
    cluster.apply(&user("one", "data", "echo kept > /data/file; sleep 1000"));
    cluster.wait_ready("pod/one");
    assert_eq!(cluster.jsonpath("pvc/data", "{.status.phase} {.status.capacity.storage}"), "Bound 10Mi");
    assert_eq!(cluster.jsonpath("pvc/data", "{.metadata.annotations.volume\\.kubernetes\\.io/selected-node}"), "node");
    eventually("the event", || reasons(&cluster, "data").contains("ProvisioningSucceeded"));
    let (volume, path) = path_of(&cluster, "data");
    assert!(path.starts_with(cluster.data_dir()), "{path:?}");
    eventually("the file", || std::fs::read_to_string(path.join("file")).is_ok_and(|s| s == "kept\n"));

    // In use, it stays until its pod has gone; a new pod can't have it.
    cluster.kubectl(&["delete", "pvc", "data", "--wait=false"]);
    assert!(cluster.kubectl(&["get", "pvc", "data"]).contains("Terminating"));
    cluster.apply(&user("late", "data", "sleep 1000"));
    cluster.until(
        "pod/late",
        "{.status.conditions[0].message}",
        "0/1 nodes are available: persistentvolumeclaim \"data\" is being deleted. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    cluster.kubectl(&["delete", "pod", "late", "one"]);
    cluster.until_gone("pvc/data");
    cluster.until_gone(&format!("pv/{volume}"));
    assert!(!path.exists(), "reclaimed");

    // Growth, and what is too much.
    cluster.apply(&claim("more", ""));
    cluster.apply(&user("two", "more", "sleep 1000"));
    cluster.wait_ready("pod/two");
    let ask = |size: &str| {
        let patch = format!("{{\"spec\":{{\"resources\":{{\"requests\":{{\"storage\":\"{size}\"}}}}}}}}");
        cluster.kubectl(&["patch", "pvc", "more", "-p", &patch]);
    };
    ask("20Mi");
    cluster.until("pvc/more", "{.status.capacity.storage}", "20Mi");
    let (volume, _) = path_of(&cluster, "more");
    assert_eq!(cluster.jsonpath(&format!("pv/{volume}"), "{.spec.capacity.storage}"), "20Mi");
    ask("900Ti");
    cluster.until("pvc/more", "{.status.conditions[0].type}", "Resizing");
    eventually("the event", || reasons(&cluster, "more").contains("VolumeResizeFailed"));
    let state =
        "{.status.capacity.storage} {.status.allocatedResources.storage} {.status.allocatedResourceStatuses.storage}";
    cluster.until("pvc/more", state, "20Mi 900Ti ControllerResizeInfeasible");
    assert_eq!(cluster.jsonpath("pvc/more", "{.status.conditions[1].type}"), "ControllerResizeError");
    ask("30Mi");
    cluster.until("pvc/more", state, "30Mi 30Mi ");
    let attributed = claim("attributed", ", volumeAttributesClassName: gold");
    cluster.apply(&(attributed + &user("four", "attributed", "sleep 1000")));
    eventually("the event", || reasons(&cluster, "attributed").contains("ProvisioningFailed"));
    cluster.apply(&claim("huge", "").replace("10Mi", "900Ti"));
    cluster.apply(&user("three", "huge", "sleep 1000"));
    eventually("the event", || reasons(&cluster, "huge").contains("ProvisioningFailed"));
    assert_eq!(cluster.jsonpath("pvc/huge", "{.status.phase}"), "Pending");
}

#[test]
fn volumes_made_by_hand_are_matched_kept_released_and_refused() {
    let cluster = Cluster::up();
    let dir = cluster.scratch().join("disk");
    std::fs::create_dir(&dir).unwrap();
    let path = dir.to_string_lossy().into_owned();
    let volume = |name: &str, size: &str, node: &str, policy: &str, extra: &str| {
        format!(
            "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: {name}, labels: {{n: {name}}}}}, spec: \
             {{capacity: {{storage: {size}}}, accessModes: [ReadWriteOnce], storageClassName: '', \
             persistentVolumeReclaimPolicy: {policy}, local: {{path: '{path}{extra}'}}, nodeAffinity: {{required: \
             {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: \
             [{node}]}}]}}]}}}}}}}}\n---\n"
        )
    };
    let by_hand = |name: &str, extra: &str| claim(name, extra).replace("hythe-local", "''");
    cluster.apply(&(volume("big", "50Mi", "node", "Retain", "") + &volume("small", "10Mi", "node", "Recycle", "")));
    cluster.until("pv/big", "{.status.phase}", "Available");
    cluster.until("pv/small", "{.status.phase}", "Available");
    cluster.apply(&by_hand("a", ""));
    cluster.until("pvc/a", "{.status.phase}", "Bound");
    assert_eq!(cluster.jsonpath("pvc/a", "{.spec.volumeName}"), "small", "the smallest that does");
    cluster.apply(&by_hand("b", ", selector: {matchLabels: {n: big}}"));
    cluster.until("pvc/b", "{.spec.volumeName} {.status.capacity.storage}", "big 50Mi");
    cluster.apply(&by_hand("c", ""));
    eventually("the event", || reasons(&cluster, "c").contains("FailedBinding"));

    // Mounted with a group of its own, read-only where asked, and below a part of it.
    let pod = user("p", "b", "echo x > /data/file; busybox ls -ln /data /part; id -G; sleep 1000")
        .replace("volumes:", "securityContext: {runAsUser: 1000, fsGroup: 4321}, volumes:")
        .replace("mountPath: /data}", "mountPath: /data}, {name: v, mountPath: /part, subPath: deep/er}");
    cluster.apply(&pod);
    cluster.wait_ready("pod/p");
    eventually("the group's file", || cluster.kubectl(&["logs", "p"]).contains("4321"));
    assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "x\n");
    assert!(dir.join("deep/er").is_dir());
    let reader = user("r", "b", "if echo y > /data/file; then sleep 1000; else echo refused; sleep 1000; fi")
        .replace("claimName: b", "claimName: b, readOnly: true");
    cluster.apply(&reader);
    cluster.wait_ready("pod/r");
    eventually("the refusal", || cluster.kubectl(&["logs", "r"]).contains("refused"));
    cluster.kubectl(&["delete", "pod", "p", "r"]);

    cluster.kubectl(&["delete", "pvc", "a", "b"]);
    cluster.until("pv/big", "{.status.phase}", "Released");
    cluster.until("pv/small", "{.status.phase} {.status.message}", "Failed No recycler plugin found for the volume!");
    assert!(dir.join("file").exists(), "what is retained keeps its data");
    // Claim c still waits: a volume that comes is its own.
    cluster.apply(&volume("late", "11Mi", "node", "Retain", "/none"));
    cluster.until("pvc/c", "{.spec.volumeName}", "late");
    // Its directory is missing: the pod waits, says why, and starts when it is there.
    cluster.apply(&user("w", "c", "sleep 1000"));
    eventually("the event", || {
        let notes = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
        notes.contains(&format!("MountVolume.SetUp failed for volume \"late\" : path \"{path}/none\" does not exist"))
    });
    cluster.until("pod/w", "{.status.containerStatuses[0].state.waiting.reason}", "ContainerCreating");
    std::fs::create_dir(dir.join("none")).unwrap();
    cluster.wait_ready("pod/w");
    // A volume of another node keeps its pod from this one.
    cluster.apply(&(volume("far", "12Mi", "other", "Retain", "") + &by_hand("d", ", volumeName: far")));
    cluster.until("pvc/d", "{.status.phase}", "Bound");
    cluster.apply(&user("x", "d", "sleep 1000"));
    cluster.until(
        "pod/x",
        "{.status.conditions[0].message}",
        "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity. no new claims to deallocate, \
         preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
}

/// Bytes of the loop device that shows a file, if there is one.
fn device_size(file: &Path) -> Option<u64> {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path());
    let shows = |device: &PathBuf| {
        std::fs::read_to_string(device.join("loop/backing_file")).is_ok_and(|shown| Path::new(shown.trim_end()) == file)
    };
    let sectors = std::fs::read_to_string(devices.into_iter().find(shows)?.join("size")).ok()?;
    Some(sectors.trim_end().parse::<u64>().unwrap() * 512)
}

#[test]
fn a_block_volume_is_a_device_that_grows_in_use_outlives_a_crash_and_is_given_back() {
    let cluster = Cluster::up();
    cluster.apply(&claim("raw", ", volumeMode: Block"));
    let pod = |name: &str, script: &str| {
        let devices = "volumeDevices: [{name: v, devicePath: /dev/raw}]";
        user(name, "raw", script).replace("volumeMounts: [{name: v, mountPath: /data}]", devices)
    };
    cluster.apply(&pod("one", "echo kept | dd of=/dev/raw conv=fsync && sleep 1000"));
    cluster.wait_ready("pod/one");
    let (volume, file) = path_of(&cluster, "raw");
    let read = |pod: &str| cluster.kubectl(&["exec", pod, "--", "dd", "if=/dev/raw", "bs=5", "count=1"]);
    eventually("what the pod wrote", || read("one") == "kept\n");
    assert_eq!(cluster.jsonpath(&format!("pv/{volume}"), "{.spec.volumeMode} {.spec.capacity.storage}"), "Block 10Mi");
    assert_eq!(device_size(&file), Some(10 << 20));
    let larger = r#"{"spec":{"resources":{"requests":{"storage":"20Mi"}}}}"#;
    cluster.kubectl(&["patch", "pvc", "raw", "-p", larger]);
    cluster.until("pvc/raw", "{.status.capacity.storage}", "20Mi");
    assert_eq!(device_size(&file), Some(20 << 20), "while the pod has it");
    let metrics = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node/proxy/metrics"]);
    let of_claims: Vec<&str> = metrics.lines().filter(|line| line.contains("persistentvolumeclaim=\"raw\"")).collect();
    let size = "kubelet_volume_stats_capacity_bytes{namespace=\"default\",persistentvolumeclaim=\"raw\"} 20971520";
    assert_eq!(of_claims, [size], "of a device no more is known");
    // The next daemon finds whose it is; a second pod gets the same device, which stays when the first one goes.
    cluster.kill_daemon();
    cluster.start();
    cluster.apply(&pod("two", "sleep 1000"));
    cluster.wait_ready("pod/two");
    cluster.kubectl(&["delete", "pod", "one"]);
    assert_eq!((read("two").as_str(), device_size(&file)), ("kept\n", Some(20 << 20)));
    cluster.kubectl(&["delete", "pod", "two"]);
    eventually("the end of the device", || device_size(&file).is_none());
    // A pod that runs when everything ends leaves no device behind either, and has its data afterwards.
    cluster.apply(&pod("three", "sleep 1000"));
    cluster.wait_ready("pod/three");
    cluster.hythe(&["down"]);
    assert_eq!(device_size(&file), None);
    cluster.start();
    eventually("the pod's return", || {
        cluster.jsonpath("pod/three", "{.status.containerStatuses[0].restartCount}") != "0"
    });
    cluster.wait_ready("pod/three");
    assert_eq!(read("three"), "kept\n");
    cluster.kubectl(&["delete", "pod", "three"]);
    cluster.kubectl(&["delete", "pvc", "raw"]);
    cluster.until_gone(&format!("pv/{volume}"));
    assert!(!file.exists() && device_size(&file).is_none());
}

#[test]
fn a_generic_ephemeral_volume_comes_and_goes_with_its_pod() {
    let cluster = Cluster::up();
    let pod = busybox("p", "echo x > /data/file && sleep 1000").replace(
        "containers:",
        "volumes: [{name: scratch, ephemeral: {volumeClaimTemplate: {metadata: {labels: {of: p}}, spec: {accessModes: \
         [ReadWriteOnce], storageClassName: hythe-local, resources: {requests: {storage: 1Mi}}}}}}], containers:",
    );
    let pod = pod.replace("command:", "volumeMounts: [{name: scratch, mountPath: /data}], command:");
    cluster.apply(&pod);
    cluster.wait_ready("pod/p");
    assert_eq!(cluster.jsonpath("pvc/p-scratch", "{.metadata.ownerReferences[0].kind} {.metadata.labels.of}"), "Pod p");
    let (_, path) = path_of(&cluster, "p-scratch");
    eventually("the file", || path.join("file").exists());
    cluster.kubectl(&["delete", "pod", "p"]);
    eventually("the end of claim, volume and directory", || {
        cluster.kubectl(&["get", "pvc,pv", "-o", "name"]).is_empty() && !path.exists()
    });
}

const REDIS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: redis}
spec:
  serviceName: redis
  replicas: 2
  selector: {matchLabels: {app: redis}}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
  template:
    metadata: {labels: {app: redis}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: redis
        image: redis:7
        command: [redis-server, --appendonly, 'yes', --appendfsync, always, --dir, /data]
        readinessProbe: {exec: {command: [redis-cli, ping]}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], storageClassName: hythe-local, resources: {requests: {storage: 10Mi}}}
";

#[test]
fn a_database_keeps_its_data_through_updates_deletions_crashes_and_the_loss_of_everything() {
    let cluster = Cluster::prepare();
    cluster.import("redis-7", "redis:7");
    cluster.start();
    cluster.apply(REDIS);
    let rolled_out = || drop(cluster.kubectl(&["rollout", "status", "statefulset/redis", "--timeout=90s"]));
    let redis = |pod: &str, command: &str| {
        let words: Vec<&str> = ["exec", pod, "--", "redis-cli"].into_iter().chain(command.split(' ')).collect();
        cluster.kubectl(&words)
    };
    let keeps = |what: &str| {
        for pod in ["redis-0", "redis-1"] {
            assert_eq!(redis(pod, "get name"), format!("{pod}\n"), "{pod} after {what}");
        }
    };
    rolled_out();
    for pod in ["redis-0", "redis-1"] {
        assert_eq!(redis(pod, &format!("set name {pod}")), "OK\n");
    }
    cluster.kubectl(&["set", "env", "statefulset/redis", "EDITION=2"]);
    rolled_out();
    keeps("a rolling update");
    cluster.kubectl(&["delete", "pod", "redis-0", "redis-1"]);
    rolled_out();
    keeps("a deletion of all pods");
    cluster.kill_daemon();
    cluster.start();
    rolled_out();
    keeps("a crash of the daemon");
    cluster.kill_daemon();
    for pid in crate::lifecycle::processes_of(&cluster) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    eventually("the end of all processes", || crate::lifecycle::processes_of(&cluster).is_empty());
    cluster.start();
    let ready = || cluster.jsonpath("pod -l app=redis", "{.items[*].status.containerStatuses[*].restartCount}");
    eventually("both pods' return", || !ready().split(' ').any(|n| n == "0"));
    rolled_out();
    keeps("the loss of everything");

    // Scaled down, a claim is retained; with the set, all go.
    cluster.kubectl(&["scale", "statefulset/redis", "--replicas=1"]);
    eventually("the smaller set", || cluster.kubectl(&["get", "pods", "-o", "name"]) == "pod/redis-0\n");
    cluster.kubectl(&["scale", "statefulset/redis", "--replicas=2"]);
    rolled_out();
    keeps("a scaling down and up");
    cluster.kubectl(&["delete", "statefulset", "redis"]);
    eventually("the end of claims and volumes", || cluster.kubectl(&["get", "pvc,pv", "-o", "name"]).is_empty());
    let left = std::fs::read_dir(cluster.data_dir().join("agent/volumes")).unwrap().count();
    assert_eq!(left, 0, "directories");
}
