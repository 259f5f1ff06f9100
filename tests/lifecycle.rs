//! Starting, stopping and leaving no trace.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::cluster::{Cluster, busybox, eventually, text};

/// Processes whose command line or environment speaks of the instance: the daemon, its shims, and what runs in
/// cgroups that bear its name.
pub fn processes_of(cluster: &Cluster) -> Vec<i32> {
    let data = cluster.data_dir().to_string_lossy().into_owned();
    let name = instance_name(cluster);
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let zombie = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "));
        !zombie
            && (text(&command).contains(&data)
                || text(&command).contains(&format!("/run/hythe/{name}"))
                || cgroups.contains(&name))
    })
    .collect()
}

pub fn instance_name(cluster: &Cluster) -> String {
    let bytes = cluster.data_dir().into_os_string().into_encoded_bytes();
    let hash = bytes.iter().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    format!("hythe-{hash:08x}")
}

fn links() -> String {
    text(&Command::new("cat").arg("/proc/net/dev").output().unwrap().stdout)
        .lines()
        .filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned() + "\n"))
        .collect()
}

#[test]
fn down_purge_leaves_no_process_mount_link_rule_cgroup_or_file() {
    let cluster = Cluster::up();
    let name = instance_name(&cluster);
    cluster.apply(&busybox("one", "sleep 1000"));
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: two}, spec: {volumes: [{name: m, emptyDir: {medium: Memory}}, {name: d, emptyDir: {}}], containers: \
         [{name: c, image: 'busybox:1', command: [sleep, '1000'], volumeMounts: [{name: m, mountPath: /m}, {name: d, mountPath: /d}]}]}}",
    );
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {selector: {app: one}, ports: [{port: 80}]}}",
    );
    cluster.wait_ready("pod/one");
    cluster.wait_ready("pod/two");
    let bridge = links().lines().filter(|l| l.starts_with("hy")).count();
    assert!(bridge > 0, "the test would not see a link that is left");
    let log = cluster.log();
    cluster.hythe(&["down", "--purge"]);
    assert_eq!(processes_of(&cluster), Vec::<i32>::new());
    assert!(!cluster.data_dir().exists());
    assert!(!Path::new("/run/hythe").join(&name).exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&name) && !mounts.contains(cluster.data_dir().to_str().unwrap()), "{mounts}");
    let unified = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&unified).unwrap().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([unified]) {
        assert!(!hierarchy.join(&name).exists(), "{}", hierarchy.join(&name).display());
    }
    let rules = fs::read_to_string("/proc/net/nf_conntrack").unwrap_or_default();
    assert!(!rules.contains(&cluster.service_cidr()), "{log}");
    eventually("the end of the links", || {
        let routes = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
        !routes.contains(cluster.pod_cidr().trim_end_matches("/16"))
    });
}

#[test]
fn down_keeps_the_data_and_the_next_up_restores_what_was_declared() {
    let cluster = Cluster::up();
    cluster.apply("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: 'busybox:1', command: [sleep, '1000']}]}}}}");
    cluster.kubectl(&["rollout", "status", "deployment/d", "--timeout=90s"]);
    cluster.hythe(&["down"]);
    assert_eq!(processes_of(&cluster), Vec::<i32>::new());
    assert_eq!(cluster.try_hythe(&["status"]).status.code(), Some(3));
    cluster.start();
    cluster.until("deployment/d", "{.status.readyReplicas}", "2");
    assert_eq!(cluster.try_hythe(&["status"]).status.code(), Some(0));
}

#[test]
fn secrets_on_disk_are_readable_by_root_alone() {
    let cluster = Cluster::up();
    for file in ["admin.kubeconfig", "admin.token", "pki/ca.key"] {
        let mode = fs::metadata(cluster.data_dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_second_up_on_one_directory_and_a_port_that_is_taken_are_told_plainly() {
    let cluster = Cluster::up();
    let error = cluster.try_start(&[]);
    assert!(!error.status.success());
    assert!(text(&error.stderr).contains(&format!("process {}", cluster.pid())), "{}", text(&error.stderr));
    cluster.kubectl(&["get", "nodes"]);

    let other = Cluster::prepare();
    let _taken = TcpListener::bind(("0.0.0.0", other.port())).unwrap();
    let error = other.try_start(&[]);
    assert!(!error.status.success());
    assert!(text(&error.stderr).contains("--port"), "{}", text(&error.stderr));
}

#[test]
fn without_root_up_says_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let binary = dir.path().join("hythe");
    fs::copy(env!("CARGO_BIN_EXE_hythe"), &binary).unwrap();
    use std::os::unix::process::CommandExt;
    let output = Command::new(&binary)
        .args(["up", "--data-dir"])
        .arg(dir.path().join("d"))
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("root"), "{}", text(&output.stderr));
}

#[test]
fn two_instances_run_beside_each_other() {
    let (one, two) = (Cluster::up(), Cluster::up());
    for cluster in [&one, &two] {
        cluster.apply(&busybox("web", "echo hi > /tmp/index.html; httpd -f -p 80 -h /tmp"));
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, nodePort: {}}}]}}}}",
            cluster.node_port(1)
        ));
    }
    for cluster in [&one, &two] {
        cluster.wait_ready("pod/web");
        let address = format!("127.0.0.1:{}", cluster.node_port(1));
        eventually("the web server's answer", || {
            crate::cluster::http_get(&address, "/index.html").is_ok_and(|b| b == "hi\n")
        });
    }
    one.hythe(&["down", "--purge"]);
    assert!(crate::cluster::http_get(&format!("127.0.0.1:{}", two.node_port(1)), "/index.html").is_ok());
}
