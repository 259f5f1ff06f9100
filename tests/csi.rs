//! CSI drivers over the standard sockets.

use crate::{
    cluster::{Cluster, busybox, eventually},
    csi_driver::{Driver, NAME},
    loop_device::LoopDevice,
};

const VOLUME: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ''
  csi: {driver: disks.example.com, volumeHandle: vol-1, volumeAttributes: {tier: gold}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], storageClassName: '', volumeName: disk, resources: {requests: {storage: 1Gi}}}
---
";

fn driver_object(attach: bool) -> String {
    format!(
        "{{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {{name: {NAME}}}, spec: {{attachRequired: {attach}, \
         podInfoOnMount: true, volumeLifecycleModes: [Persistent, Ephemeral]}}}}\n---\n"
    )
}

fn with_volume(pod: &str, source: &str) -> String {
    let mounts = "volumeMounts: [{name: v, mountPath: /data}], command:";
    pod.replace("command:", mounts).replace("containers:", &format!("volumes: [{{name: v, {source}}}], containers:"))
}

#[test]
fn a_driver_registers_and_its_volumes_are_attached_staged_and_published_and_all_that_is_taken_back() {
    let cluster = Cluster::up();
    let agent = cluster.data_dir().join("agent");
    eventually("the registry's directory", || agent.join("plugins").exists());
    cluster.apply(&driver_object(true));
    let pod =
        with_volume(&busybox("p", "echo kept > /data/file && sleep 1000"), "persistentVolumeClaim: {claimName: disk}");
    cluster.apply(&(VOLUME.to_owned() + &pod));
    eventually("an attachment", || !cluster.kubectl(&["get", "volumeattachments", "-o", "name"]).is_empty());
    let attachment = cluster.kubectl(&["get", "volumeattachments", "-o", "name"]).trim().to_owned();
    assert_eq!(cluster.jsonpath(&attachment, "{.spec.attacher} {.spec.nodeName}"), format!("{NAME} node"));
    // The part of the driver's attacher.
    let name = attachment.rsplit('/').next().unwrap();
    let path = format!("/apis/storage.k8s.io/v1/volumeattachments/{name}");
    cluster.merge_part(&path, "status", &serde_json::json!({"status": {"attached": true}}));
    eventually("the missing driver's event", || {
        let notes = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
        notes.contains("driver name disks.example.com not found in the list of registered CSI drivers")
    });

    let driver = Driver::start(&agent, &cluster.scratch().join("backing"));
    cluster.until("csinode/node", "{.spec.drivers[0].name} {.spec.drivers[0].nodeID}", &format!("{NAME} id-of-node"));
    cluster.until(
        "csinode/node",
        "{.spec.drivers[0].topologyKeys[0]} {.spec.drivers[0].allocatable.count}",
        "disks.example.com/rack 16",
    );
    assert_eq!(cluster.jsonpath("node/node", "{.metadata.labels.disks\\.example\\.com/rack}"), "r7");
    cluster.wait_ready("pod/p");
    eventually("the file", || driver.volume("vol-1").join("file").exists());
    eventually("the word of its registration", || driver.called("NotifyRegistrationStatus") == 1);
    assert_eq!((driver.called("NodeStageVolume vol-1"), driver.called("NodePublishVolume vol-1")), (1, 1));
    let context = driver.context();
    assert_eq!((context["tier"].as_str(), context["csi.storage.k8s.io/pod.name"].as_str()), ("gold", "p"));

    // A second pod shares what is staged; it leaves without the first one's noticing.
    let second = with_volume(&busybox("q", "cat /data/file && sleep 1000"), "persistentVolumeClaim: {claimName: disk}");
    cluster.apply(&second);
    cluster.wait_ready("pod/q");
    eventually("the first pod's file", || cluster.kubectl(&["logs", "q"]) == "kept\n");
    cluster.kubectl(&["delete", "pod", "q"]);
    assert_eq!(driver.called("NodeUnstageVolume"), 0);
    let in_use = "{.status.volumesInUse} {.status.volumesAttached[*].name}";
    let name = "kubernetes.io/csi/disks.example.com^vol-1";
    assert_eq!(cluster.jsonpath("node/node", in_use), format!("[\"{name}\"] {name}"));

    // The part of the driver's resizer; the rest is the node's.
    let larger = r#"{"spec":{"capacity":{"storage":"2Gi"}}}"#;
    cluster.kubectl(&["patch", "pv", "disk", "-p", larger]);
    cluster.until("pvc/disk", "{.status.capacity.storage}", "2Gi");
    assert_eq!(driver.called("NodeExpandVolume vol-1"), 1);
    eventually("the event", || cluster.told().contains("MountVolume.NodeExpandVolume succeeded for volume \"disk\""));

    // The daemon's crash changes nothing, and its next run takes back what it did not publish itself.
    cluster.kill_daemon();
    cluster.start();
    cluster.kubectl(&["exec", "p", "--", "cat", "/data/file"]);
    cluster.kubectl(&["delete", "pod", "p"]);
    assert!(driver.called("NodeUnpublishVolume vol-1") >= 2);
    eventually("the unstaging", || driver.called("NodeUnstageVolume vol-1") >= 1);
    cluster.until("node/node", in_use, " ");
    eventually("the detachment", || cluster.kubectl(&["get", "volumeattachments", "-o", "name"]).is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let data = cluster.data_dir().to_string_lossy().into_owned();
    let left: Vec<&str> = mounts.lines().filter(|l| l.contains(&data) && l.contains("csi")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(driver.volume("vol-1").join("file").exists(), "the data stays");

    // The driver may have room for another number of volumes by now.
    driver.limit(7);
    let seconds = r#"{"spec":{"nodeAllocatableUpdatePeriodSeconds":10}}"#;
    cluster.kubectl(&["patch", "csidriver", NAME, "-p", seconds]);
    cluster.until("csinode/node", "{.spec.drivers[0].allocatable.count}", "7");

    // A volume of the pod's own.
    let source = format!("csi: {{driver: {NAME}, volumeAttributes: {{size: small}}}}");
    cluster.apply(&with_volume(&busybox("e", "echo x > /data/mine && sleep 1000"), &source));
    cluster.wait_ready("pod/e");
    let context = driver.context();
    assert_eq!((context["size"].as_str(), context["csi.storage.k8s.io/ephemeral"].as_str()), ("small", "true"));
    cluster.kubectl(&["delete", "pod", "e"]);

    drop(driver);
    cluster.until("csinode/node", "{.spec.drivers}", "[]");
}

#[test]
fn a_driver_that_does_not_attach_needs_no_attachment_and_one_that_fails_is_quoted() {
    let cluster = Cluster::up();
    let agent = cluster.data_dir().join("agent");
    cluster.apply(&driver_object(false));
    eventually("the registry's directory", || agent.join("plugins").exists());
    let driver = Driver::start(&agent, &cluster.scratch().join("backing"));
    cluster.until("csinode/node", "{.spec.drivers[0].name}", NAME);
    let claim = "persistentVolumeClaim: {claimName: disk}";
    cluster.apply(&(VOLUME.replace("vol-1", "broken") + &with_volume(&busybox("p", "sleep 1000"), claim)));
    eventually("the driver's words", || {
        let notes = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
        notes.contains(
            "MountVolume.MountDevice failed for volume \"disk\" : rpc error: code = Internal desc = no such disk",
        )
    });
    assert_eq!(cluster.kubectl(&["get", "volumeattachments", "-o", "name"]), "");
    cluster.kubectl(&["delete", "pod", "p"]);
    // It surely has done nothing, so there is nothing to be undone.
    assert_eq!((driver.called("NodeUnpublishVolume"), driver.called("NodeUnstageVolume")), (0, 0));
}

#[test]
fn what_a_driver_answers_decides_what_is_undone_and_no_pod_waits_for_that() {
    let cluster = Cluster::up();
    let agent = cluster.data_dir().join("agent");
    cluster.apply(&driver_object(false));
    eventually("the registry's directory", || agent.join("plugins").exists());
    let driver = Driver::start(&agent, &cluster.scratch().join("backing"));
    cluster.until("csinode/node", "{.spec.drivers[0].name}", NAME);
    let disk = |name: &str| {
        VOLUME
            .replace("vol-1", name)
            .replace("name: disk", &format!("name: {name}"))
            .replace("volumeName: disk", &format!("volumeName: {name}"))
    };
    let pod = |name: &str, claim: &str| {
        with_volume(&busybox(name, "sleep 1000"), &format!("persistentVolumeClaim: {{claimName: {claim}}}"))
    };
    let called = |call: &str| driver.calls().iter().filter(|c| *c == call).count();
    // INVALID_ARGUMENT is final, DEADLINE_EXCEEDED is not: the driver may still be at it.
    driver.fail("NodeStageVolume final", 3);
    driver.fail("NodeStageVolume late", 4);
    driver.fail("NodeStageVolume settled", 4);
    driver.fail("NodePublishVolume refused", 3);
    for name in ["final", "late", "refused"] {
        cluster.apply(&(disk(name) + &pod(name, name)));
    }
    for what in [
        "MountDevice failed for volume \"final\"",
        "MountDevice failed for volume \"late\"",
        "SetUp failed for volume \"refused\"",
    ] {
        eventually("the event", || cluster.told().contains(&format!("MountVolume.{what} : rpc error: code = ")));
    }
    // The last word counts: by now it is known that nothing was staged.
    cluster.apply(&(disk("settled") + &pod("settled", "settled")));
    eventually("the first word", || called("NodeStageVolume settled code=4") >= 1);
    driver.fail("NodeStageVolume settled", 3);
    eventually("the last word", || called("NodeStageVolume settled code=3") >= 1);
    cluster.kubectl(&["delete", "pod", "final", "late", "refused", "settled"]);
    eventually("the unstaging", || called("NodeUnstageVolume late") == 1 && called("NodeUnstageVolume refused") == 1);
    let unstaged = ["final", "settled"].map(|name| called(&format!("NodeUnstageVolume {name}")));
    assert_eq!((unstaged, driver.called("NodeUnpublishVolume")), ([0, 0], 0), "{:?}", driver.calls());

    // What can't be unstaged keeps neither its pod nor the next one.
    cluster.apply(&(disk("vol-1") + &pod("first", "vol-1")));
    cluster.wait_ready("pod/first");
    driver.fail("NodeUnstageVolume vol-1", 3);
    cluster.kubectl(&["delete", "pod", "first"]);
    eventually("the try", || called("NodeUnstageVolume vol-1 code=3") >= 1);
    cluster.apply(&pod("second", "vol-1"));
    cluster.wait_ready("pod/second");
    assert_eq!(called("NodeStageVolume vol-1"), 2, "it is not known to be staged any more");
    driver.fail("NodeUnstageVolume vol-1", 0);
    cluster.kubectl(&["delete", "pod", "second"]);
    eventually("the unstaging", || called("NodeUnstageVolume vol-1") == 1);

    // A volume that is there already is not published again while the pod waits for another.
    driver.fail("NodeStageVolume late", 14);
    let both = pod("both", "vol-1")
        .replace("volumes: [", "volumes: [{name: w, persistentVolumeClaim: {claimName: late}}, ")
        .replace("volumeMounts: [", "volumeMounts: [{name: w, mountPath: /late}, ");
    let (tried, published) = (driver.called("NodeStageVolume late"), called("NodePublishVolume vol-1"));
    cluster.apply(&both);
    eventually("three tries", || driver.called("NodeStageVolume late") >= tried + 3);
    driver.fail("NodeStageVolume late", 0);
    cluster.wait_ready("pod/both");
    assert_eq!(called("NodePublishVolume vol-1"), published + 1);
    cluster.kubectl(&["delete", "pod", "both"]);
}

#[test]
fn a_growth_that_the_node_can_not_do_is_told_and_may_be_asked_for_anew() {
    let cluster = Cluster::up();
    let agent = cluster.data_dir().join("agent");
    cluster.apply(&driver_object(false));
    cluster.apply(&format!(
        "{{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {{name: disks}}, provisioner: {NAME}, \
         allowVolumeExpansion: true}}\n---\n"
    ));
    eventually("the registry's directory", || agent.join("plugins").exists());
    let driver = Driver::start(&agent, &cluster.scratch().join("backing"));
    cluster.until("csinode/node", "{.spec.drivers[0].name}", NAME);
    let pod = with_volume(&busybox("p", "sleep 1000"), "persistentVolumeClaim: {claimName: disk}");
    cluster.apply(&(VOLUME.replace("storageClassName: ''", "storageClassName: disks") + &pod));
    cluster.wait_ready("pod/p");
    // The part of the driver's resizer.
    let resize = |size: &str, node: &str| {
        let part = serde_json::json!({"status": {"allocatedResources": {"storage": size},
            "allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"}}});
        let path = "/api/v1/namespaces/default/persistentvolumeclaims/disk";
        cluster.merge_part(path, "status", &part);
        let volume = format!("{{\"spec\":{{\"capacity\":{{\"storage\":\"{size}\"}}}}}}");
        cluster.kubectl(&["patch", "pv", "disk", "-p", &volume]);
        let part = serde_json::json!({"status": {"allocatedResourceStatuses": {"storage": node}}});
        cluster.merge_part(path, "status", &part);
    };
    let ask = |size: &str| {
        let claim = format!("{{\"spec\":{{\"resources\":{{\"requests\":{{\"storage\":\"{size}\"}}}}}}}}");
        cluster.kubectl(&["patch", "pvc", "disk", "-p", &claim]);
    };
    // OUT_OF_RANGE: it is of no use to ask for the same again.
    driver.fail("NodeExpandVolume vol-1", 11);
    ask("9Gi");
    resize("9Gi", "NodeResizePending");
    cluster.until("pvc/disk", "{.status.allocatedResourceStatuses.storage}", "NodeResizeInfeasible");
    cluster.until("pvc/disk", "{.status.conditions[0].type} {.status.capacity.storage}", "NodeResizeError 1Gi");
    let told = "NodeExpandVolume.NodeExpandVolume failed for volume \"disk\" : Expander.NodeExpand failed to expand the \
                volume : rpc error: code = OutOfRange desc = fake error";
    eventually("the event", || cluster.told().contains(told));
    let asked = driver.called("NodeExpandVolume");
    driver.fail("NodeExpandVolume vol-1", 0);
    ask("5Gi");
    resize("10Gi", "NodeResizePending");
    cluster.until("pvc/disk", "{.status.capacity.storage}", "10Gi");
    assert_eq!((asked, driver.called("NodeExpandVolume")), (1, 2));
    assert_eq!(cluster.jsonpath("pvc/disk", "{.status.conditions} {.status.allocatedResourceStatuses}"), " ");
    cluster.kubectl(&["delete", "pod", "p"]);
}

#[test]
fn a_block_volume_is_a_device_in_its_containers_and_a_late_driver_or_disk_is_waited_for() {
    let cluster = Cluster::up();
    let (agent, backing) = (cluster.data_dir().join("agent"), cluster.scratch().join("backing"));
    std::fs::create_dir(&backing).unwrap();
    let (first, second) = (backing.join("first"), backing.join("second"));
    let (csi, local) = (LoopDevice::over(&first, 1 << 20), LoopDevice::over(&second, 1 << 20));
    std::os::unix::fs::symlink(&csi.path, backing.join("device")).unwrap();
    cluster.apply(&driver_object(false));
    let block = VOLUME
        .replace("accessModes:", "volumeMode: Block, accessModes:")
        .replace("  volumeMode: Block, access", "  volumeMode: Block\n  access");
    let pod = |name: &str, claim: &str| {
        busybox(name, "echo written by $0 | dd of=/dev/disk conv=fsync && sleep 1000")
            .replace("command:", "volumeDevices: [{name: v, devicePath: /dev/disk}], command:")
            .replace(
                "containers:",
                &format!("volumes: [{{name: v, persistentVolumeClaim: {{claimName: {claim}}}}}], containers:"),
            )
    };
    // Nothing is there yet: not the driver of one, not the claim of the other.
    cluster.apply(&(block + &pod("one", "disk") + &pod("two", "late")));
    eventually("the missing driver's event", || {
        cluster.told().contains("not found in the list of registered CSI drivers")
    });
    eventually("the registry's directory", || agent.join("plugins").exists());
    let driver = Driver::start(&agent, &backing);
    cluster.wait_ready("pod/one");
    eventually("what the first has written", || std::fs::read(&first).unwrap().starts_with(b"written by sh\n"));
    let path = local.path.display();
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: late}}, spec: {{capacity: {{storage: 1Mi}}, volumeMode: Block, \
         accessModes: [ReadWriteOnce], storageClassName: '', local: {{path: {path}}}, nodeAffinity: {{required: {{nodeSelectorTerms: \
         [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node]}}]}}]}}}}}}}}\n---\n\
         {{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: late}}, spec: {{volumeMode: Block, accessModes: [ReadWriteOnce], \
         storageClassName: '', volumeName: late, resources: {{requests: {{storage: 1Mi}}}}}}}}\n---\n"
    ));
    cluster.wait_ready("pod/two");
    eventually("what the second has written", || std::fs::read(&second).unwrap().starts_with(b"written by sh\n"));
    // A device is not to be mounted.
    let mounted = pod("three", "late").replace("volumeDevices", "volumeMounts").replace("devicePath", "mountPath");
    cluster.apply(&mounted);
    let told = "volume v has volumeMode Block, but is specified in volumeMounts";
    eventually("the refusal", || cluster.told().contains(told));
    cluster.kubectl(&["delete", "pod", "one", "two", "three"]);
    eventually("the unstaging", || driver.called("NodeUnstageVolume vol-1") == 1);
    assert_eq!(driver.called("NodeUnpublishVolume vol-1"), 1);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("volumeDevices"), "{mounts}");
}

#[test]
fn a_driver_gets_tokens_is_asked_again_and_tells_how_full_its_volumes_are() {
    let cluster = Cluster::up();
    let agent = cluster.data_dir().join("agent");
    eventually("the registry's directory", || agent.join("plugins").exists());
    let driver = Driver::start(&agent, &cluster.scratch().join("backing"));
    cluster.apply(&format!(
        "{{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {{name: {NAME}}}, spec: {{attachRequired: false, \
         requiresRepublish: true, tokenRequests: [{{audience: vault, expirationSeconds: 1200}}, {{audience: ''}}]}}}}\n---\n"
    ));
    let pod = with_volume(&busybox("p", "sleep 1000"), "persistentVolumeClaim: {claimName: disk}");
    cluster.apply(&(VOLUME.to_owned() + &pod));
    cluster.wait_ready("pod/p");
    let tokens = || -> serde_json::Value {
        let context = driver.context();
        serde_json::from_str(&context["csi.storage.k8s.io/serviceAccount.tokens"]).unwrap()
    };
    let first = tokens();
    for audience in ["vault", ""] {
        let token = first[audience]["token"].as_str().unwrap();
        assert_eq!(token.split('.').count(), 3, "{first}");
        assert!(first[audience]["expirationTimestamp"].as_str().unwrap().ends_with('Z'), "{first}");
    }
    let summary = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node/proxy/stats/summary"]);
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let pods = summary["pods"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["podRef"]["name"] == "p").unwrap();
    let volume = pod["volume"].as_array().unwrap().iter().find(|volume| volume["name"] == "v").unwrap();
    assert_eq!(volume["pvcRef"], serde_json::json!({"name": "disk", "namespace": "default"}));
    let told =
        ["availableBytes", "capacityBytes", "usedBytes", "inodesFree", "inodes", "inodesUsed"].map(|f| &volume[f]);
    assert_eq!(told.map(|n| n.as_u64().unwrap()), [70, 100, 30, 9, 10, 1]);
    let metrics = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/node/proxy/metrics"]);
    let line = "kubelet_volume_stats_available_bytes{namespace=\"default\",persistentvolumeclaim=\"disk\"} 70\n";
    assert!(metrics.contains(line), "{metrics}");
    eventually("the second publishing", || driver.called("NodePublishVolume vol-1") >= 2);
    assert_eq!(tokens()["vault"]["token"], first["vault"]["token"], "with the same token while it is young");
    cluster.kubectl(&["delete", "pod", "p"]);
    assert_eq!(driver.called("NodeUnpublishVolume vol-1"), 1);
}
