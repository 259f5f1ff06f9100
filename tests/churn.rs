//! Pods that come and go leave nothing behind.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cluster::{Cluster, eventually},
    lifecycle::{instance_name, processes_of},
    nft,
};

/// Runs so many pods to their end, ten at a time, behind a Service, and removes them.
fn churn(cluster: &Cluster, name: &str, pods: usize) {
    cluster.apply(&format!(
        "---\n{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}}}, spec: {{completions: {pods}, parallelism: 10, template: {{metadata: {{labels: {{churned: 'yes'}}}}, spec: {{restartPolicy: Never, \
         volumes: [{{name: d, emptyDir: {{}}}}], containers: [{{name: c, image: 'busybox:1', command: [sleep, '0.3'], volumeMounts: [{{name: d, mountPath: /d}}]}}]}}}}}}}}"
    ));
    cluster.kubectl(&["wait", "--for=condition=Complete", &format!("job/{name}"), "--timeout=180s"]);
    assert_eq!(cluster.jsonpath(&format!("job/{name}"), "{.status.succeeded}"), pods.to_string());
    cluster.kubectl(&["delete", "job", name]);
    eventually("the end of its pods", || cluster.kubectl(&["get", "pods", "-o", "name"]).is_empty());
}

/// What the instance holds of the machine, by its kind.
fn holdings(cluster: &Cluster) -> Vec<(&'static str, usize)> {
    let name = instance_name(cluster);
    let data = cluster.data_dir();
    let run = Path::new("/run/hythe").join(&name);
    let entries = |path: PathBuf| fs::read_dir(path).map_or(0, Iterator::count);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_instance = |line: &&str| line.contains(&name) || line.contains(data.to_str().unwrap());
    // The bridge's name: FNV-1a of the instance's in 64 bits, folded.
    let wide = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let hash = (wide >> 32) as u32 ^ wide as u32;
    let bridge = format!("/sys/class/net/hy-{hash:08x}/brif");
    assert!(Path::new(&bridge).exists(), "the test would not see a link that is left");
    let (rules, elements) = nft::size_of(&format!("hythe-{name}"));
    assert!(
        rules > 0 && elements > 0,
        "the test would not see rules that are left: {rules} rules, {elements} elements"
    );
    let unified = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&unified).unwrap().flatten().map(|entry| entry.path()).chain([unified]);
    vec![
        ("mounts", mounts.lines().filter(of_instance).count()),
        ("cgroups", hierarchies.map(|hierarchy| directories(&hierarchy.join(&name))).sum()),
        ("links", entries(bridge.into())),
        ("rules", rules),
        ("elements of maps", elements),
        ("processes", processes_of(cluster).len()),
        ("run directories", directories(&run)),
        ("pods' directories", entries(data.join("agent/pods"))),
        ("logs", entries(data.join("agent/logs"))),
    ]
}

fn directories(path: &Path) -> usize {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let inner = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    1 + inner.map(|entry| directories(&entry.path())).sum::<usize>()
}

#[test]
fn pods_that_come_and_go_leave_nothing_behind() {
    let cluster = Cluster::up();
    cluster.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: churned}, spec: {selector: {churned: 'yes'}, ports: [{port: 80}]}}",
    );
    churn(&cluster, "first", 10);
    eventually("an end of the first", || processes_of(&cluster).len() == 1);
    let before = holdings(&cluster);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", cluster.pid())).unwrap().count();
    let open = descriptors();
    churn(&cluster, "many", 100);
    eventually("nothing more than before", || {
        let now = holdings(&cluster);
        // What of the first was still there when they were counted may be gone.
        let no_more = now.iter().zip(&before).all(|(now, before)| now.1 <= before.1);
        if !no_more {
            let endpoints =
                cluster.jsonpath("endpointslices", "{range .items[*]}{.metadata.name} {.endpoints}{'\\n'}{end}");
            eprintln!("{before:?} became {now:?} with the endpoints\n{endpoints}");
        }
        no_more
    });
    // Some are connections of clients, which come and go.
    eventually("no more descriptors than before", || descriptors() <= open + 8);
}
