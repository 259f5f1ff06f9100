//! What the node itself does: static pods, its own limits, its end.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
};

use crate::{
    cluster::{Cluster, busybox, eventually, text},
    lifecycle::instance_name,
};

#[test]
fn a_manifest_on_the_node_runs_whatever_the_api_does() {
    let cluster = Cluster::up();
    let dir = cluster.data_dir().join("manifests");
    let manifest = |message: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: c, image: 'busybox:1', command: [sh, -c, 'echo {message}; exec sleep 999']}}\n"
        )
    };
    fs::write(dir.join("web.yaml"), manifest("first")).unwrap();
    eventually("the mirror", || cluster.try_kubectl(&["get", "pod", "web-node"]).status.success());
    cluster.wait_ready("pod/web-node");
    // It is ready once it runs, which may be before it has said anything.
    eventually("what it says", || cluster.kubectl(&["logs", "web-node"]) == "first\n");
    assert_eq!(cluster.kubectl(&["exec", "web-node", "--", "echo", "in"]), "in\n");
    // Deleting the mirror ends nothing, and is over although another one has its name at once.
    for _ in 0..5 {
        let uid = cluster.jsonpath("pod/web-node", "{.metadata.uid}");
        cluster.kubectl(&["delete", "pod", "web-node", "--timeout=60s"]);
        eventually("the mirror again", || {
            let found = cluster.try_kubectl(&["get", "pod", "web-node", "-o", "jsonpath={.metadata.uid}"]);
            found.status.success() && text(&found.stdout) != uid
        });
    }
    cluster.until("pod/web-node", "{.status.containerStatuses[0].restartCount}", "0");
    fs::write(dir.join("web.yaml"), manifest("second")).unwrap();
    eventually("the change", || text(&cluster.try_kubectl(&["logs", "web-node"]).stdout) == "second\n");
    // It outlives the daemon, as all pods do.
    cluster.wait_ready("pod/web-node");
    let id = cluster.jsonpath("pod/web-node", "{.status.containerStatuses[0].containerID}");
    cluster.kill_daemon();
    cluster.start();
    cluster.wait_ready("pod/web-node");
    assert_eq!(cluster.jsonpath("pod/web-node", "{.status.containerStatuses[0].containerID}"), id);
    fs::remove_file(dir.join("web.yaml")).unwrap();
    eventually("its end", || !cluster.try_kubectl(&["get", "pod", "web-node"]).status.success());
}

#[test]
fn the_nodes_own_port_answers_whom_the_api_knows() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("web", "echo said; exec sleep 999"));
    cluster.wait_ready("pod/web");
    let port = cluster.kubelet_port().to_string();
    assert_eq!(cluster.jsonpath("node/node", "{.status.daemonEndpoints.kubeletEndpoint.Port}"), port);
    let server = format!("--server=https://127.0.0.1:{port}");
    // With the administrator's certificate, by the cluster's own authority.
    let ask = |path: &str| cluster.kubectl(&[&server, "get", "--raw", path]);
    assert_eq!(ask("/healthz"), "ok");
    eventually("what it says", || ask("/containerLogs/default/web/c") == "said\n");
    assert!(ask("/pods").contains("\"web\""), "{}", ask("/pods"));
    for (path, series) in [
        ("/metrics", "kubelet_running_pods"),
        ("/metrics/cadvisor", "container_memory_working_set_bytes"),
        ("/metrics/resource", "pod_memory_working_set_bytes"),
        ("/metrics/resource", "container_swap_usage_bytes{"),
        ("/stats/summary", "\"podRef\""),
    ] {
        assert!(ask(path).contains(series), "{path}: {}", ask(path));
    }
    let annotation = r"{.metadata.annotations.volumes\.kubernetes\.io/controller-managed-attach-detach}";
    assert_eq!(cluster.jsonpath("node/node", annotation), "true");
    let summary: serde_json::Value = serde_json::from_str(&ask("/stats/summary")).unwrap();
    for name in ["kubelet", "pods"] {
        let all = summary["node"]["systemContainers"].as_array().unwrap();
        let one = all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {all:?}"));
        let used = one["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap();
        assert!(used > 0 && one["memory"]["workingSetBytes"].as_u64().unwrap() > 0, "{one}");
    }
    // The API server's own have those of the roles that share its process.
    let told = cluster.kubectl(&["get", "--raw", "/metrics"]);
    for series in [
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1\n",
        "scheduler_scheduling_attempt_duration_seconds_count{profile=\"default-scheduler\",result=\"scheduled\"} 1\n",
        "scheduler_pod_scheduling_attempts_bucket{le=\"1\"} 1\n",
        "scheduler_pending_pods{queue=\"active\"} 0\n",
        "scheduler_queue_incoming_pods_total{event=\"PodAdd\",queue=\"active\"} 1\n",
        "workqueue_adds_total{name=\"namespace\"} ",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"ServiceAccount\",operation=\"CREATE\",rejected=\"false\",type=\"admit\"} ",
        "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} ",
    ] {
        assert!(told.contains(series), "{series} is not in {told}");
    }
    let asked = cluster.kubectl(&["get", "--raw", "/metrics/resources"]);
    assert!(asked.contains("# TYPE kube_pod_resource_request gauge\n"), "{asked}");
    // What upstream's suite asks of cAdvisor's metrics.
    let of_container = [
        "blkio_device_usage_total",
        "cpu_system_seconds_total",
        "cpu_usage_seconds_total",
        "cpu_user_seconds_total",
        "file_descriptors",
        "fs_reads_bytes_total",
        "fs_reads_total",
        "fs_usage_bytes",
        "fs_writes_bytes_total",
        "fs_writes_total",
        "last_seen",
        "memory_cache",
        "memory_failcnt",
        "memory_failures_total",
        "memory_mapped_file",
        "memory_max_usage_bytes",
        "memory_rss",
        "memory_swap",
        "memory_usage_bytes",
        "oom_events_total",
        "processes",
        "sockets",
        "spec_cpu_period",
        "spec_cpu_shares",
        "spec_memory_limit_bytes",
        "spec_memory_reservation_limit_bytes",
        "spec_memory_swap_limit_bytes",
        "start_time_seconds",
        "threads",
        "threads_max",
        "ulimits_soft",
    ];
    let of_pod = [
        "receive_packets_total",
        "receive_packets_dropped_total",
        "transmit_packets_total",
        "transmit_packets_dropped_total",
    ];
    let of_pod = of_pod.map(|name| format!("container_network_{name}{{container=\"\","));
    let told = ask("/metrics/cadvisor");
    for series in of_container.map(|name| format!("container_{name}{{container=\"c\",")).iter().chain(&of_pod) {
        assert!(told.lines().any(|line| line.starts_with(series.as_str())), "{series}: {told}");
    }
    let value = |name: &str| {
        let line = told.lines().find(|line| line.starts_with(&format!("container_{name}{{container=\"c\","))).unwrap();
        line.split("} ").nth(1).unwrap().split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    for line in ["kubelet_started_containers_total{container_type=\"container\"} 1", "kubelet_started_pods_total 1"] {
        assert!(ask("/metrics").lines().any(|told| told == line), "{line}: {}", ask("/metrics"));
    }
    assert_eq!((value("processes"), value("spec_cpu_shares")), (1.0, 2.0), "{told}");
    assert!(value("file_descriptors") >= 3.0 && value("ulimits_soft") > 100.0, "{told}");
    eventually("CPU used between two questions", || ask("/stats/summary").contains("usageNanoCores"));
    let health = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", cluster.healthz_port())).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(health("/healthz").ends_with("\r\n\r\nok"), "{}", health("/healthz"));
    assert!(health("/pods").starts_with("HTTP/1.0 404"), "nothing else without a name: {}", health("/pods"));
    // With a token, as what scrapes nodes from a pod; and without any.
    let token = format!("--token={}", cluster.kubectl(&["create", "token", "default"]).trim());
    let bare = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", &server, "get", "--raw", "/metrics"];
    let with_token = [&bare[..], &[&token]].concat();
    assert!(cluster.kubectl(&with_token).contains("kubelet_running_pods"));
    // Refused without credentials, kubectl asks for a name.
    for (more, word) in [(&[][..], "Username"), (&["--token=made-up"], "must be logged in")] {
        let refused = cluster.try_kubectl(&[&bare[..], more].concat());
        let told = format!("{}{}", text(&refused.stdout), text(&refused.stderr));
        assert!(!refused.status.success() && told.contains(word), "{told}");
    }
    // A port that is taken keeps nobody from working.
    cluster.hythe(&["down"]);
    let _taken = std::net::TcpListener::bind(("0.0.0.0", cluster.kubelet_port())).unwrap();
    cluster.start();
    cluster.wait_ready("pod/web");
    assert!(cluster.log().contains("--kubelet-port"), "{}", cluster.log());
}

#[test]
fn a_kubelets_configuration_is_kept_and_a_wrong_one_refused() {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    let file = cluster.scratch().join("kubelet.yaml");
    let write = |more: &str| {
        fs::write(&file, format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{more}"))
            .unwrap();
    };
    write("maxPods: many\n");
    let refused = cluster.try_start(&["--kubelet-config", file.to_str().unwrap()]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("invalid type"), "{refused:?}");
    let logs = cluster.scratch().join("logs");
    write(&format!(
        "podLogsDir: {}\nmaxPods: 2\nsystemReserved: {{cpu: 500m, memory: 64Mi}}\nallowedUnsafeSysctls: ['kernel.msg*']\nevictionHard: {{memory.available: 1Mi}}\n",
        logs.display()
    ));
    let started = cluster.try_start(&["--kubelet-config", file.to_str().unwrap()]);
    assert!(started.status.success(), "{started:?}");
    assert_eq!(cluster.jsonpath("node/node", "{.status.capacity.pods}"), "2");
    let (capacity, allocatable) = (
        cluster.jsonpath("node/node", "{.status.capacity.cpu}"),
        cluster.jsonpath("node/node", "{.status.allocatable.cpu}"),
    );
    assert_eq!(allocatable, format!("{}m", capacity.parse::<u32>().unwrap() * 1000 - 500));
    // All pods together get no more memory than that, and the node says so.
    eventually("the event", || cluster.told().contains("Updated Node Allocatable limit across pods"));
    let memory = cluster.jsonpath("node/node", "{.status.capacity.memory}");
    let promised = (memory.trim_end_matches("Ki").parse::<u64>().unwrap() << 10) - (64 << 20);
    let name = instance_name(&cluster);
    let limits = [format!("memory/{name}/memory.limit_in_bytes"), format!("{name}/memory.max")];
    let limits = limits.map(|file| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).unwrap_or_default());
    assert!(limits.iter().any(|limit| limit.trim() == promised.to_string()), "{promised}: {limits:?}");
    let storage = cluster.jsonpath("node/node", "{.status.capacity.ephemeral-storage}");
    assert!(storage.trim_end_matches("Ki").parse::<u64>().unwrap() > 0, "{storage}");
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: tuned}, spec: {securityContext: {sysctls: [{name: kernel.msgmax, value: '9000'}]}, \
         containers: [{name: c, image: 'busybox:1', command: [sh, '-c', 'echo said; exec sleep 999']}]}}",
    );
    cluster.wait_ready("pod/tuned");
    assert_eq!(cluster.kubectl(&["exec", "tuned", "--", "cat", "/proc/sys/kernel/msgmax"]), "9000\n");
    // Collectors of logs find them where upstream has them, with their pod in the name.
    let uid = cluster.jsonpath("pod/tuned", "{.metadata.uid}");
    let log = logs.join(format!("default_tuned_{uid}/c/0.log"));
    let link = || {
        let mut links = fs::read_dir("/var/log/containers").into_iter().flatten().flatten().map(|entry| entry.path());
        links.find(|link| fs::read_link(link).is_ok_and(|target| target == log))
    };
    eventually("a line in the log", || fs::read_to_string(&log).is_ok_and(|text| text.ends_with(" stdout F said\n")));
    let name = link().expect("a link").file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("tuned_default_c-") && name.ends_with(".log"), "{name}");
    cluster.kubectl(&["delete", "pod", "tuned", "--now"]);
    eventually("the log and its link go", || !log.exists() && link().is_none());
}

#[test]
fn down_with_drain_ends_pods_in_order_and_the_next_up_brings_them_back() {
    let cluster = Cluster::up();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {terminationGracePeriodSeconds: 5, containers: \
         [{name: c, image: 'busybox:1', command: [sh, -c, 'trap \"echo bye; exit 0\" TERM; echo up; while true; do sleep 0.1; done']}]}}",
    );
    cluster.wait_ready("pod/web");
    eventually("its trap", || cluster.kubectl(&["logs", "web"]) == "up\n");
    cluster.hythe(&["down", "--drain"]);
    cluster.start();
    cluster.until("pod/web", "{.status.phase} {.status.reason}", "Failed Terminated");
    let message = cluster.jsonpath("pod/web", "{.status.message}");
    assert_eq!(message, "Pod was terminated in response to imminent node shutdown.");
    assert_eq!(cluster.jsonpath("pod/web", "{.status.containerStatuses[0].state.terminated.exitCode}"), "0");
}

#[test]
fn what_an_image_calls_a_volume_can_be_written_under_a_read_only_root() {
    let cluster = Cluster::up();
    let context = cluster.scratch().join("context");
    fs::create_dir(&context).unwrap();
    let dockerfile =
        "FROM busybox:1\nRUN mkdir /store && echo seed > /store/file && chown 7:7 /store\nVOLUME /store /none\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    cluster.hythe(&["build", "-t", "volume:1", context.to_str().unwrap()]);
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Never, containers: [{name: c, image: 'volume:1', \
         securityContext: {readOnlyRootFilesystem: true}, command: [sh, -c, \
         'cat /store/file; stat -c %u /store; echo more > /store/file; touch /none/x && cat /store/file; touch /y || echo read-only']}]}}",
    );
    cluster.until("pod/p", "{.status.phase}", "Succeeded");
    let log = cluster.kubectl(&["logs", "p"]);
    for line in ["seed\n7\nmore\n", "read-only\n"] {
        assert!(log.contains(line), "{log}");
    }
}

#[test]
fn a_container_that_writes_beyond_its_storage_limit_is_evicted() {
    let cluster = Cluster::up();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 'busybox:1', \
         resources: {limits: {ephemeral-storage: 1Mi}}, command: [sh, -c, 'dd if=/dev/zero of=/big bs=64k count=64; exec sleep 999']}]}}",
    );
    cluster.until("pod/p", "{.status.reason}", "Evicted");
    let message = cluster.jsonpath("pod/p", "{.status.message}");
    assert_eq!(message, "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ");
}

#[test]
fn the_node_filters_system_calls_by_default_if_told_to() {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    let started = cluster.try_start(&["--seccomp-default"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    cluster.apply(&busybox("p", "grep Seccomp: /proc/self/status; exec sleep 1000"));
    cluster.wait_ready("pod/p");
    assert_eq!(cluster.kubectl(&["logs", "p"]), "Seccomp:\t2\n");
}

#[test]
fn what_pods_are_refused_or_told_has_upstreams_words() {
    let cluster = Cluster::up();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let profiles = cluster.data_dir().join("agent/seccomp/profiles");
    fs::create_dir_all(&profiles).unwrap();
    fs::write(profiles.join("no-mkdir.json"), profile).unwrap();
    let pod = |name: &str, pod: &str, container: &str, script: &str| {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, {pod} containers: \
             [{{name: c, image: 'busybox:1', {container} command: [sh, -c, {script:?}]}}]}}}}"
        ));
    };
    pod("root", "", "securityContext: {runAsNonRoot: true},", "true");
    pod("zero", "securityContext: {runAsNonRoot: true, runAsUser: 0},", "", "true");
    pod(
        "filtered",
        "",
        "securityContext: {seccompProfile: {type: Localhost, localhostProfile: profiles/no-mkdir.json}},",
        "mkdir /x || echo refused",
    );
    pod("missing", "", "securityContext: {seccompProfile: {type: Localhost, localhostProfile: none.json}},", "true");
    pod(
        "strict",
        "securityContext: {runAsUser: 1000, supplementalGroups: [4000], supplementalGroupsPolicy: Strict},",
        "",
        "id -G",
    );
    pod("words", "", "terminationMessagePolicy: FallbackToLogsOnError,", "echo last words; exit 1");
    pod("labelled", "securityContext: {seLinuxOptions: {level: 's0:c1,c2'}},", "", "true");
    let waiting = |name: &str| {
        let what = format!("pod/{name}");
        cluster.until(&what, "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerConfigError");
        cluster.jsonpath(&what, "{.status.containerStatuses[0].state.waiting.message}")
    };
    let uid = cluster.jsonpath("pod/root", "{.metadata.uid}");
    assert_eq!(
        waiting("root"),
        format!("container has runAsNonRoot and image will run as root (pod: \"root_default({uid})\", container: c)")
    );
    assert!(waiting("zero").starts_with("container's runAsUser breaks non-root policy (pod: \"zero_default("));
    cluster.until("pod/filtered", "{.status.phase}", "Succeeded");
    // What mkdir complains of comes by another stream, before it or after.
    assert!(cluster.kubectl(&["logs", "filtered"]).lines().any(|line| line == "refused"));
    cluster.until("pod/strict", "{.status.phase}", "Succeeded");
    let user = cluster.jsonpath("pod/strict", "{.status.containerStatuses[0].user.linux}");
    assert_eq!(user, r#"{"gid":0,"supplementalGroups":[0,4000],"uid":1000}"#);
    assert_eq!(cluster.kubectl(&["logs", "strict"]), "0 4000\n");
    cluster.until("pod/words", "{.status.containerStatuses[0].state.terminated.message}", "last words\n");
    cluster.until("pod/labelled", "{.status.phase}", "Succeeded");
    eventually("a word about SELinux", || cluster.kubectl(&["get", "events"]).contains("SELinux"));
    cluster.until("pod/missing", "{.status.containerStatuses[0].state.waiting.reason}", "CreateContainerError");
}

#[test]
fn a_node_short_of_memory_gives_up_what_was_promised_least_and_takes_no_more_until_it_is_over() {
    let cluster = Cluster::prepare();
    cluster.import("busybox", "busybox:1");
    cluster.start();
    let pod = |name: &str, resources: &str| {
        busybox(name, "exec sleep 1000").replace("command:", &format!("resources: {{{resources}}}, command:"))
    };
    cluster.apply(&(pod("promised", "limits: {cpu: 10m, memory: 64Mi}") + &pod("best-effort", "")));
    ["pod/promised", "pod/best-effort"].iter().for_each(|p| cluster.wait_ready(p));
    let config = cluster.scratch().join("kubelet.yaml");
    // More than the machine has: whatever is free is too little.
    fs::write(
        &config,
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nevictionHard: {memory.available: '4Ti'}\n\
         evictionPressureTransitionPeriod: 1s\n",
    )
    .unwrap();
    cluster.kill_daemon();
    let started = cluster.try_start(&["--kubelet-config", config.to_str().unwrap()]);
    assert!(started.status.success(), "{started:?}");
    cluster.until("pod/best-effort", "{.status.phase} {.status.reason}", "Failed Evicted");
    let message = cluster.jsonpath("pod/best-effort", "{.status.message}");
    assert!(
        message.starts_with("The node was low on resource: memory. Threshold quantity: 4Ti, available: "),
        "{message}"
    );
    assert!(message.contains("Container c was using ") && message.contains("request is 0"), "{message}");
    cluster.until(
        "pod/best-effort",
        "{.status.conditions[?(@.type==\"DisruptionTarget\")].reason}",
        "TerminationByKubelet",
    );
    let condition = "{.status.conditions[?(@.type==\"MemoryPressure\")].status}";
    cluster.until("node/node", condition, "True");
    let taint = "{.spec.taints[?(@.key==\"node.kubernetes.io/memory-pressure\")].effect}";
    cluster.until("node/node", taint, "NoSchedule");
    cluster.apply(&pod("late", ""));
    let told = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
    eventually("why the late one waits", || cluster.told().contains(told));
    // With a threshold that can be kept, it is over.
    cluster.kill_daemon();
    cluster.start();
    cluster.until("node/node", condition, "False");
    cluster.until("node/node", taint, "");
    cluster.wait_ready("pod/late");
}

/// Ends what a test has mounted, the innermost first.
struct Mounted(Vec<std::path::PathBuf>);

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

#[test]
fn mounts_made_on_one_side_show_on_the_other_where_propagation_says() {
    use nix::mount::{MsFlags, mount};
    let cluster = Cluster::up();
    let shared = cluster.scratch().join("shared");
    fs::create_dir(&shared).unwrap();
    // Propagation needs a shared mount to begin with.
    mount(Some(&shared), &shared, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let mut mounted = Mounted(vec![shared.clone()]);
    mount(None::<&str>, &shared, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    let made = shared.join("made");
    fs::create_dir(&made).unwrap();
    let dir = shared.display();
    for (name, more) in [
        ("none", ""),
        ("to-container", ", mountPropagation: HostToContainer"),
        ("both", ", mountPropagation: Bidirectional"),
    ] {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, \
             volumes: [{{name: v, hostPath: {{path: {dir}}}}}], containers: [{{name: c, image: 'busybox:1', \
             securityContext: {{privileged: true}}, command: [sleep, '999'], volumeMounts: [{{name: v, mountPath: /v{more}}}]}}]}}}}"
        ));
    }
    ["none", "to-container", "both"].iter().for_each(|pod| cluster.wait_ready(&format!("pod/{pod}")));
    mount(Some("none"), &made, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    mounted.0.push(made.clone());
    fs::write(made.join("here"), "").unwrap();
    let sees = |pod: &str, file: &str| cluster.try_kubectl(&["exec", pod, "--", "ls", file]).status.success();
    assert!(sees("to-container", "/v/made/here") && sees("both", "/v/made/here"));
    assert!(!sees("none", "/v/made/here"));
    // The other way: what containers mount.
    for pod in ["none", "to-container", "both"] {
        let script = format!("mkdir /v/{pod} && mount -t tmpfs none /v/{pod} && touch /v/{pod}/inside");
        cluster.kubectl(&["exec", pod, "--", "sh", "-c", &script]);
        mounted.0.push(shared.join(pod));
    }
    let inside = |pod: &str| shared.join(pod).join("inside").exists();
    assert_eq!([inside("none"), inside("to-container"), inside("both")], [false, false, true]);
    assert!(sees("to-container", "/v/both/inside") && !sees("none", "/v/both/inside"));
    cluster.kubectl(&["delete", "pod", "none", "to-container", "both"]);
    assert!(inside("both"), "what is on the host stays there");

    // What is on no shared mount can't be shared; where nothing can be received, the container hears of it and runs.
    let alone = cluster.scratch().join("alone");
    fs::create_dir(&alone).unwrap();
    mount(Some(&alone), &alone, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    mounted.0.push(alone.clone());
    mount(None::<&str>, &alone, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    for (pod, propagation) in [("unshared", "Bidirectional"), ("unreached", "HostToContainer")] {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {pod}}}, spec: {{terminationGracePeriodSeconds: 0, \
             volumes: [{{name: v, hostPath: {{path: {0}}}}}], containers: [{{name: c, image: 'busybox:1', \
             securityContext: {{privileged: true}}, command: [sleep, '999'], volumeMounts: [{{name: v, mountPath: /v, \
             mountPropagation: {propagation}}}]}}]}}}}",
            alone.display()
        ));
    }
    let told = format!("path \"{0}\" is mounted on \"{0}\" but it is not a shared mount", alone.display());
    eventually("the refusal", || cluster.told().contains(&told));
    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    cluster.until("pod/unshared", reason, "CreateContainerError");
    cluster.wait_ready("pod/unreached");
    let told = format!("path \"{}\" of mount /v is not on a shared or slave mount", alone.display());
    eventually("the warning", || cluster.told().contains(&told));
    cluster.kubectl(&["delete", "pod", "unshared", "unreached"]);
}

/// What the daemon and the machine hold: descriptors, mounts, cgroups, directories, shims.
fn holdings(cluster: &Cluster) -> [usize; 4] {
    let pid = cluster.pid();
    let name = cluster.data_dir().display().to_string();
    let count = |dir: String| fs::read_dir(dir).map(|d| d.count()).unwrap_or(0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let instance = instance_name(cluster);
    let run = format!("/run/hythe/{instance}");
    let mounts = mounts.lines().filter(|l| l.contains(&name) || l.contains(&run)).count();
    let groups: BTreeSet<String> = fs::read_to_string("/proc/self/mounts")
        .unwrap()
        .lines()
        .filter(|l| l.contains(" cgroup"))
        .filter_map(|l| l.split(' ').nth(1).map(str::to_owned))
        .collect();
    let cgroups = groups.iter().map(|root| walk(&format!("{root}/{instance}"))).sum();
    [count(format!("/proc/{pid}/fd")), mounts, cgroups, count(format!("{name}/agent/pods"))]
}

fn walk(dir: &str) -> usize {
    let below = fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
    below.map(|e| 1 + walk(&e.path().display().to_string())).sum()
}

#[test]
fn pods_that_come_and_go_leave_nothing_behind() {
    let cluster = Cluster::up();
    let round = |round: usize, pods: usize| {
        let all: String = (0..pods).map(|i| busybox(&format!("p{round}-{i}"), "exec sleep 999")).collect();
        cluster.apply(&format!("---\n{all}"));
        cluster.kubectl(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=90s"]);
        cluster.kubectl(&["delete", "pods", "--all", "--grace-period=0", "--force"]);
        eventually("their end", || holdings(&cluster)[3] == 0);
    };
    round(0, 20);
    let settled = |before: Option<[usize; 4]>| {
        let mut last = holdings(&cluster);
        eventually("quiet", || {
            last = holdings(&cluster);
            before.is_none_or(|b| last[0] <= b[0] + 10 && last[1..] == b[1..])
        });
        last
    };
    let before = settled(None);
    for i in 1..6 {
        round(i, 20);
    }
    settled(Some(before));
}
