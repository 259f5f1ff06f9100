//! The sample application, from apply to recovery.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::cluster::{Cluster, eventually, http_get};

fn guestbook(cluster: &Cluster) -> String {
    let yaml = include_str!("../examples/guestbook.yaml");
    // Only the node port differs, because tests run beside each other.
    yaml.replace("nodePort: 30080", &format!("nodePort: {}", cluster.node_port(80)))
}

fn up() -> (Cluster, String) {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    cluster.import("redis-7", "redis:7");
    cluster.import("python-3-slim", "python:3-slim");
    cluster.start();
    cluster.apply(&guestbook(&cluster));
    cluster.kubectl(&["rollout", "status", "deployment/redis", "--timeout=90s"]);
    cluster.kubectl(&["rollout", "status", "deployment/frontend", "--timeout=90s"]);
    let address = format!("127.0.0.1:{}", cluster.node_port(80));
    (cluster, address)
}

fn sign(cluster: &Cluster, entry: &str) {
    let pod = cluster.jsonpath("pod -l tier=frontend", "{.items[0].metadata.name}");
    let script = format!("import urllib.request as u; u.urlopen('http://frontend/', data={entry:?}.encode())");
    cluster.kubectl(&["exec", &pod, "--", "python3", "-c", &script]);
}

#[test]
fn the_guestbook_lives_through_scaling_updates_and_failures() {
    let (cluster, address) = up();
    let page = http_get(&address, "/").unwrap();
    assert!(page.contains("<h1>Guestbook</h1>"), "{page}");

    // By DNS name from another pod, and kept in Redis.
    sign(&cluster, "hello");
    assert!(http_get(&address, "/entries").unwrap().contains("hello"));

    cluster.kubectl(&["scale", "deployment/frontend", "--replicas=5"]);
    cluster.until("deployment/frontend", "{.status.readyReplicas}", "5");
    cluster.kubectl(&["scale", "deployment/frontend", "--replicas=3"]);
    cluster.until("deployment/frontend", "{.status.replicas}", "3");

    // A deleted pod is replaced.
    let victim = cluster.jsonpath("pod -l tier=frontend", "{.items[0].metadata.name}");
    cluster.kubectl(&["delete", "pod", &victim]);
    cluster.until("deployment/frontend", "{.status.readyReplicas}", "3");
    assert!(!cluster.kubectl(&["get", "pods", "-o", "name"]).contains(&victim));

    rolling_update_loses_no_request(&cluster, &address);
    bad_image_is_rolled_back(&cluster, &address);

    // A crash of the platform stops no container.
    eventually("the end of the pods that were replaced", || {
        cluster.kubectl(&["get", "pods", "-o", "name"]).lines().count() == 4
    });
    let before = cluster
        .jsonpath("pod", "{range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID}{\"\\n\"}{end}");
    cluster.kill_daemon();
    assert!(http_get(&address, "/healthz").is_ok(), "traffic flows without the daemon");
    cluster.start();
    let after = cluster
        .jsonpath("pod", "{range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID}{\"\\n\"}{end}");
    assert_eq!(before, after, "nothing was started twice");
    assert!(http_get(&address, "/entries").unwrap().contains("hello"));
}

fn rolling_update_loses_no_request(cluster: &Cluster, address: &str) {
    let stop = Arc::new(AtomicBool::new(false));
    let (good, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, good, bad, address) = (stop.clone(), good.clone(), bad.clone(), address.to_owned());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match http_get(&address, "/") {
                        Ok(_) => drop(good.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => bad.lock().unwrap().push(error),
                    }
                }
            })
        })
        .collect();
    cluster.kubectl(&["set", "env", "deployment/frontend", "TITLE=Second edition"]);
    cluster.kubectl(&["rollout", "status", "deployment/frontend", "--timeout=90s"]);
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|c| c.join().unwrap());
    let bad = bad.lock().unwrap();
    assert!(
        bad.is_empty(),
        "{} of {} requests failed: {:?}",
        bad.len(),
        bad.len() + good.load(Ordering::Relaxed),
        bad.first()
    );
    assert!(good.load(Ordering::Relaxed) > 20);
    assert!(http_get(address, "/").unwrap().contains("Second edition"));
}

fn bad_image_is_rolled_back(cluster: &Cluster, address: &str) {
    cluster.kubectl(&["set", "image", "deployment/frontend", "web=127.0.0.1:1/no/such:image"]);
    eventually("a pod that waits for its image", || {
        let reasons =
            cluster.jsonpath("pod -l tier=frontend", "{.items[*].status.containerStatuses[*].state.waiting.reason}");
        reasons.contains("ImagePullBackOff") || reasons.contains("ErrImagePull")
    });
    assert!(http_get(address, "/").is_ok(), "the old pods go on serving");
    cluster.kubectl(&["rollout", "undo", "deployment/frontend"]);
    cluster.kubectl(&["rollout", "status", "deployment/frontend", "--timeout=90s"]);
    assert!(http_get(address, "/").unwrap().contains("Second edition"));
    let history = cluster.kubectl(&["rollout", "history", "deployment/frontend"]);
    assert!(history.contains('4'), "{history}");
}

#[test]
fn after_a_loss_of_power_the_declared_state_comes_back() {
    let (cluster, address) = up();
    let pods = cluster.jsonpath("pod", "{.items[*].metadata.uid}");
    // Everything at once: the daemon, the shims and their containers.
    cluster.kill_daemon();
    for pid in crate::lifecycle::processes_of(&cluster) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    eventually("the end of all processes", || crate::lifecycle::processes_of(&cluster).is_empty());
    assert!(http_get(&address, "/").is_err());
    cluster.start();
    eventually("the guestbook's return", || http_get(&address, "/entries").is_ok());
    cluster.kubectl(&["rollout", "status", "deployment/frontend", "--timeout=90s"]);
    assert_eq!(cluster.jsonpath("pod", "{.items[*].metadata.uid}"), pods, "the same pods, started again");
    let restarts = cluster.jsonpath("pod -l tier=frontend", "{.items[*].status.containerStatuses[*].restartCount}");
    assert!(restarts.split(' ').all(|n| n != "0"), "restarts are counted: {restarts}");
}
