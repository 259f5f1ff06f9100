//! logs, exec, attach, port-forward and cp.

use std::{fs, io::Write, process::Stdio};

use crate::cluster::{Cluster, Running, busybox, eventually, http_get, text};

#[test]
fn exec_passes_streams_and_exit_codes() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("p", "sleep 1000"));
    cluster.wait_ready("pod/p");
    let output = cluster.try_kubectl(&["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("out\n", Some(7)));
    assert!(text(&output.stderr).starts_with("err\n"), "{}", text(&output.stderr));
    let output = cluster.pipe(&["exec", "-i", "p", "--", "sh", "-c", "cat; echo end"], "through\n");
    assert_eq!(text(&output.stdout), "through\nend\n");
    let error = cluster.kubectl_fails(&["exec", "p", "--", "/no/such"]);
    assert!(error.contains("no such file") || error.contains("not found"), "{error}");
    let error = cluster.kubectl_fails(&["exec", "p", "-c", "other", "--", "true"]);
    assert!(error.contains("other"), "{error}");
    // The container's own seccomp profile holds for what is run in it later; without one there is none.
    let filtered = "securityContext: {seccompProfile: {type: RuntimeDefault}}, command:";
    cluster.apply(&busybox("filtered", "sleep 1000").replacen("command:", filtered, 1));
    cluster.wait_ready("pod/filtered");
    for (pod, mode) in [("p", "Seccomp:\t0"), ("filtered", "Seccomp:\t2")] {
        let status = cluster.kubectl(&["exec", pod, "--", "cat", "/proc/self/status"]);
        assert!(status.contains(mode), "{pod}: {status}");
    }
}

#[test]
fn a_terminal_is_a_terminal() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("p", "sleep 1000"));
    cluster.wait_ready("pod/p");
    // script(1) gives kubectl a terminal of its own.
    let command = format!(
        "kubectl --kubeconfig {} exec -it p -- sh -c 'ls -l /proc/self/fd/0; exit 5'",
        cluster.kubeconfig().display()
    );
    let output = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("/dev/pts/"), "{}", text(&output.stdout));
}

#[test]
fn logs_are_whole_and_can_be_followed() {
    let cluster = Cluster::up();
    cluster.apply(&busybox(
        "counter",
        "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; sleep 2; echo end; sleep 1000",
    ));
    cluster.wait_ready("pod/counter");
    let mut follow = cluster.spawn(&["logs", "-f", "counter"]);
    let seen = follow.read_until("end\n");
    assert_eq!(seen.lines().count(), 301);
    assert!(seen.lines().take(300).enumerate().all(|(i, l)| l == format!("line {i}")));
    assert_eq!(cluster.kubectl(&["logs", "counter", "--tail=2"]), "line 299\nend\n");
    assert_eq!(cluster.kubectl(&["logs", "counter", "--limit-bytes=7"]), "line 0\n");
    let stamped = cluster.kubectl(&["logs", "counter", "--timestamps", "--tail=1"]);
    assert!(stamped.starts_with("20") && stamped.ends_with("Z end\n"), "{stamped}");
    assert!(cluster.kubectl_fails(&["logs", "nobody"]).contains("not found"));
}

#[test]
fn ports_are_forwarded() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("web", "echo hi > /tmp/index.html; httpd -f -p 8080 -h /tmp"));
    cluster.wait_ready("pod/web");
    let mut forward = cluster.spawn(&["port-forward", "pod/web", ":8080"]);
    let line = forward.read_until("-> 8080");
    let port: u16 = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    for _ in 0..20 {
        assert_eq!(http_get(&format!("127.0.0.1:{port}"), "/index.html").unwrap(), "hi\n");
    }
}

#[test]
fn files_are_copied_both_ways() {
    let cluster = Cluster::up();
    cluster.apply(&busybox("p", "sleep 1000"));
    cluster.wait_ready("pod/p");
    let (from, back) = (cluster.scratch().join("from"), cluster.scratch().join("back"));
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::File::create(&from).unwrap().write_all(&content).unwrap();
    cluster.kubectl(&["cp", from.to_str().unwrap(), "p:/tmp/there"]);
    cluster.kubectl(&["cp", "p:/tmp/there", back.to_str().unwrap()]);
    assert!(fs::read(&back).unwrap() == content);
}

#[test]
fn the_small_client_does_what_a_machine_without_kubectl_needs() {
    let cluster = Cluster::up();
    let file = cluster.scratch().join("pod.yaml");
    fs::write(&file, busybox("p", "echo said; sleep 1000")).unwrap();
    assert_eq!(cluster.hythe(&["apply", "-f", file.to_str().unwrap()]), "pod/p created\n");
    assert_eq!(cluster.hythe(&["apply", "-f", file.to_str().unwrap()]), "pod/p unchanged\n");
    cluster.wait_ready("pod/p");
    let table = cluster.hythe(&["get", "po"]);
    assert!(table.starts_with("NAME") && table.contains("Running"), "{table}");
    assert!(cluster.hythe(&["get", "pods", "-o", "yaml"]).contains("kind: Pod"));
    // Events are written when nothing else is.
    eventually("the event", || cluster.hythe(&["describe", "pod", "p"]).contains("Started"));
    eventually("its words", || cluster.hythe(&["logs", "p"]) == "said\n");
    let output = cluster.try_hythe(&["exec", "p", "--", "sh", "-c", "echo out; exit 4"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("out\n", Some(4)));
    assert_eq!(cluster.hythe(&["delete", "pod", "p"]), "pod/p deleted\n");
    assert!(!cluster.try_hythe(&["get", "pod", "p"]).status.success());
}

#[test]
fn clients_that_know_spdy_alone_are_served_as_well() {
    let cluster = Cluster::up();
    cluster.apply(
        &busybox("p", "echo hi > /tmp/index.html; httpd -p 8080 -h /tmp; while read line; do echo got $line; done")
            .replace("command:", "stdin: true, command:"),
    );
    cluster.wait_ready("pod/p");
    // What a newer kubectl would rather do is switched off; older ones do not know these.
    let spdy = |arguments: &[&str]| {
        let mut command = cluster.kubectl_command(arguments);
        for name in ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"] {
            command.env(name, "false");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let said = |arguments: &[&str], input: &[u8]| {
        let mut child = spdy(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    };
    let asked = said(&["-v=8", "exec", "-i", "p", "--", "cat"], b"x");
    assert!(text(&asked.stderr).contains("SPDY/3.1"), "{}", text(&asked.stderr));
    let output = said(&["exec", "-i", "p", "--", "sh", "-c", "cat; echo err >&2; exit 7"], b"through\n");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("through\n", Some(7)));
    assert!(text(&output.stderr).starts_with("err\n"), "{}", text(&output.stderr));
    let many: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(said(&["exec", "-i", "p", "--", "cat"], &many).stdout == many);

    let mut attached = Running(spdy(&["attach", "-i", "p"]).spawn().unwrap());
    attached.0.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    attached.read_until("got one\n");

    let mut forward = Running(spdy(&["port-forward", "pod/p", ":8080"]).spawn().unwrap());
    let line = forward.read_until("-> 8080");
    let port: u16 = line.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(http_get(&format!("127.0.0.1:{port}"), "/index.html").unwrap(), "hi\n"));
        }
    });
}
