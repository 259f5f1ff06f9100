//! Containers: run, exec, logs, and how they end.

use std::process::Stdio;

use super::world::World;

#[test]
fn a_container_runs_to_its_end_and_its_code_is_the_clients() {
    let world = World::new();
    assert_eq!(world.docker(&["run", "--rm", "busybox", "echo", "hello"]).ok(), "hello");
    let outcome = world.docker(&["run", "--name", "three", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (3, "out\n", "err\n"));
    assert!(world.docker(&["ps", "-a", "--format", "{{.Status}}"]).ok().starts_with("Exited (3) "));
    assert_eq!(world.docker(&["wait", "three"]).ok(), "3");
    world.docker(&["rm", "three"]).ok();
    assert_eq!(world.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn a_program_that_cannot_be_started_is_told_by_the_clients_code() {
    let world = World::new();
    let text = world.docker(&["run", "--rm", "busybox", "nosuch"]).fails(127);
    assert!(text.contains("exec: \"nosuch\": executable file not found in $PATH"), "{text}");
    let outcome = world.docker(&["run", "--rm", "busybox", "/etc"]);
    assert!(outcome.stderr.contains("exec: \"/etc\": is a directory"), "{outcome:?}");
    // Clients before 23.0 don't know the words of today's runtimes.
    assert!(matches!(outcome.code, 125 | 126), "{outcome:?}");
    world.docker(&["run", "--memory", "1m", "busybox", "true"]).fails(125);
    assert_eq!(world.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn input_goes_in_and_its_end_too() {
    let world = World::new();
    assert_eq!(world.docker_with(&["run", "-i", "--rm", "busybox", "cat"], b"a\nb\n").ok(), "a\nb");
    world.docker(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).ok();
    assert_eq!(world.docker_with(&["exec", "-i", "up", "cat"], b"c\n").ok(), "c");
}

#[test]
fn exec_has_the_containers_surroundings_and_its_own_code() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "up", "-e", "A=1", "-w", "/tmp", "busybox", "sleep", "1000"]).ok();
    let outcome = world.docker(&["exec", "-e", "B=2", "up", "sh", "-c", "echo $A $B $PWD; exit 7"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "1 2 /tmp\n"));
    assert!(
        world.docker(&["exec", "-u", "me", "up", "id"]).ok().contains("uid=1000(me) gid=1000 groups=77(crew),1000")
    );
    assert_eq!(world.docker(&["exec", "-t", "up", "sh", "-c", "test -t 1 && echo terminal"]).ok().trim(), "terminal");
    let outcome = world.docker(&["exec", "up", "nosuch"]);
    assert_eq!(outcome.code, 127, "{outcome:?}");
    assert!(format!("{}{}", outcome.stdout, outcome.stderr).contains("executable file not found in $PATH"));
    world.docker(&["stop", "-t", "0", "up"]).ok();
    assert!(world.docker(&["exec", "up", "true"]).fails(1).contains("is not running"));
}

#[test]
fn logs_are_kept_followed_and_cut() {
    let world = World::new();
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "talk",
            "busybox",
            "sh",
            "-c",
            "echo one; echo two; echo three >&2; sleep 1; echo four",
        ])
        .ok();
    // Following ends with the container.
    let outcome = world.docker(&["logs", "-f", "talk"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("one\ntwo\nfour\n", "three\n"));
    assert_eq!(world.docker(&["logs", "--tail", "1", "talk"]).ok(), "four");
    let stamped = world.docker(&["logs", "-t", "--tail", "1", "talk"]).ok();
    let (moment, text) = stamped.split_once(' ').unwrap();
    assert_eq!(text, "four");
    assert_eq!(world.docker(&["logs", "--since", moment, "talk"]).ok(), "four");
    assert_eq!(world.docker(&["logs", "--until", moment, "--tail", "2", "talk"]).ok(), "four");
}

#[test]
fn a_stopped_container_starts_again_with_its_files() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "up", "busybox", "sh", "-c", "echo x >> /f; sleep 1000"]).ok();
    world.docker(&["exec", "up", "test", "-f", "/f"]).ok();
    world.docker(&["stop", "-t", "0", "up"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "up"]).ok(), "exited 137");
    world.docker(&["start", "up"]).ok();
    world.until(&["exec", "up", "cat", "/f"], "x\nx");
    world.docker(&["restart", "-t", "0", "up"]).ok();
    world.until(&["exec", "up", "cat", "/f"], "x\nx\nx");
    assert!(
        world
            .docker(&["rm", "up"])
            .fails(1)
            .contains("container is running: stop the container before removing or force remove")
    );
    world.docker(&["rm", "-f", "up"]).ok();
}

#[test]
fn a_signal_reaches_the_program_and_a_pause_holds_it() {
    let world = World::new();
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "up",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 130' INT; while true; do sleep 0.1; done",
        ])
        .ok();
    world.docker(&["pause", "up"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.Status}}", "up"]).ok(), "paused");
    assert!(world.docker(&["exec", "up", "true"]).fails(1).contains("is paused"));
    world.docker(&["unpause", "up"]).ok();
    world.docker(&["kill", "-s", "INT", "up"]).ok();
    assert_eq!(world.docker(&["wait", "up"]).ok(), "130");
    assert!(world.docker(&["ps", "-a", "--format", "{{.Status}}"]).ok().starts_with("Exited (130)"));
}

#[test]
fn an_attached_client_sees_what_follows() {
    let world = World::new();
    world.docker(&["create", "-i", "--name", "echo", "busybox", "sh", "-c", "read line; echo got $line"]).ok();
    let outcome = world.docker_with(&["start", "-ai", "echo"], b"this\n");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "got this\n"));
    let mut child = world
        .client(&["run", "--name", "ticks", "busybox", "sh", "-c", "sleep 1; echo late"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    world.until(&["inspect", "-f", "{{.State.Status}}", "ticks"], "running");
    assert_eq!(world.docker(&["attach", "ticks"]).ok(), "late");
    assert!(child.wait().unwrap().success());
}

#[test]
fn limits_and_privileges_are_those_asked_for() {
    let world = World::new();
    let status = world
        .docker(&[
            "run",
            "--rm",
            "--cap-drop",
            "ALL",
            "--cap-add",
            "NET_RAW",
            "--security-opt",
            "no-new-privileges",
            "busybox",
            "grep",
            "-E",
            "CapEff|NoNewPrivs|Seccomp:",
            "/proc/self/status",
        ])
        .ok();
    assert_eq!(
        status.split_whitespace().collect::<Vec<_>>().join(" "),
        "CapEff: 0000000000002000 NoNewPrivs: 1 Seccomp: 2"
    );
    assert_eq!(
        world
            .docker(&["run", "--rm", "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn"])
            .ok(),
        "100\n200"
    );
    let text = world
        .docker(&["run", "--rm", "--read-only", "--tmpfs", "/t", "busybox", "sh", "-c", "touch /t/x && touch /x"])
        .fails(1);
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(world.docker(&["run", "--rm", "--init", "busybox", "sh", "-c", "echo $$"]).ok() != "1");
    assert_eq!(world.docker(&["run", "--rm", "-h", "harbour", "busybox", "hostname"]).ok(), "harbour");
    world.docker(&["run", "-d", "--name", "up", "--memory", "64m", "busybox", "sleep", "1000"]).ok();
    world.docker(&["update", "--memory", "32m", "--memory-swap", "64m", "up"]).ok();
    let stats = world.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "up"]).ok();
    assert!(stats.ends_with("/ 32MiB"), "{stats}");
    let refused = world.docker(&["update", "--memory", "1g", "up"]).fails(1);
    assert!(refused.contains("smaller than already set memoryswap limit"), "{refused}");
    world.docker(&["update", "--pids-limit", "-1", "--restart", "on-failure:3", "up"]).ok();
    let kept = "{{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy}}";
    assert_eq!(world.docker(&["inspect", "-f", kept, "up"]).ok(), "0 {on-failure 3}");
    let refused = world.docker(&["update", "--restart", "always:3", "up"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let refused = world.docker(&["exec", "-u", "stranger", "up", "true"]).fails(1);
    assert!(refused.contains("daemon: unable to find user stranger: no matching entries in passwd file"), "{refused}");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(world.path("profile.json"), profile).unwrap();
    let option = format!("seccomp={}", world.path("profile.json").display());
    // Of a privileged container, too, if it has one of its own.
    let refused = world.docker(&["run", "--rm", "--privileged", "--security-opt", &option, "busybox", "mkdir", "/d"]);
    assert!(refused.code != 0 && refused.stderr.contains("not permitted"), "{refused:?}");
    // A working directory is made where there is none, in a volume as well.
    let made = ["run", "--rm", "-v", "v:/v", "-w", "/v/new/dir", "busybox", "sh", "-c", "pwd; ls -nd ."];
    assert!(world.docker(&made).ok().starts_with("/v/new/dir\ndrwxr-xr-x    2 0        0"));
    assert_eq!(world.docker(&["run", "--rm", "-w", "/some/where", "-u", "me", "busybox", "pwd"]).ok(), "/some/where");
    let refused = world.docker(&["run", "--rm", "busybox", "/etc"]).fails(126);
    assert!(refused.contains("is a directory"), "{refused}");
    world.docker(&["create", "--name", "off", "busybox", "true"]).ok();
    assert!(
        world
            .docker(&["stats", "--no-stream", "--format", "{{.CPUPerc}} {{.PIDs}}", "off"])
            .ok()
            .starts_with("0.00% 0")
    );
    assert_eq!(
        world.docker(&["top", "up", "-o", "pid,args"]).ok().lines().nth(1).unwrap().split_once(' ').unwrap().1.trim(),
        "sleep 1000"
    );
}

#[test]
fn health_is_checked_and_restarts_follow_their_policy() {
    let world = World::new();
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "well",
            "--health-cmd",
            "test -f /ok",
            "--health-interval",
            "200ms",
            "--health-retries",
            "1",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let health = ["inspect", "-f", "{{.State.Health.Status}}", "well"];
    world.until(&health, "unhealthy");
    world.docker(&["exec", "well", "touch", "/ok"]).ok();
    world.until(&health, "healthy");
    // What a check says beyond what is kept of it is read all the same.
    let long = "head -c 200000 /dev/zero && exit 0";
    let chatty = ["--health-cmd", long, "--health-interval", "100ms", "--health-retries", "1"];
    world.docker(&[&["run", "-d", "--name", "chatty"], &chatty[..], &["busybox", "sleep", "1000"]].concat()).ok();
    world.until(&["inspect", "-f", "{{.State.Health.Status}}", "chatty"], "healthy");
    let slow = ["--health-cmd", "echo so far; sleep 9", "--health-interval", "50ms", "--health-timeout", "100ms"];
    world.docker(&[&["run", "-d", "--name", "slow"], &slow[..], &["busybox", "sleep", "1000"]].concat()).ok();
    let said = "{{with .State.Health.Log}}{{json (index . 0).Output}}{{end}}";
    world.until(&["inspect", "-f", said, "slow"], r#""Health check exceeded timeout (100ms): so far\n""#);
    // A check is an exec to whoever looks.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // What has happened by now is in the answer, whatever happens until its end.
    let soon = (now + 1).to_string();
    let shown = "{{.Action}} {{.Actor.Attributes.exitCode}}";
    let events = ["events", "--since", "1", "--until", &soon, "--filter", "container=slow", "--format", shown];
    let seen = world.docker(&events).ok();
    for line in ["exec_create: /bin/sh -c echo so far; sleep 9", "exec_start: /bin/sh -c echo so far; sleep 9"] {
        assert!(seen.lines().any(|seen| seen.starts_with(line)), "{seen}");
    }
    assert!(seen.contains("exec_die 137"), "{seen}");
    world.docker(&["run", "-d", "--name", "again", "--restart", "on-failure:2", "busybox", "false"]).ok();
    world.until(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "again"], "2 exited");
}

#[test]
fn names_are_unique_and_generated_when_missing() {
    let world = World::new();
    let id = world.docker(&["create", "busybox", "true"]).ok();
    let name = world.docker(&["inspect", "-f", "{{.Name}}", &id]).ok();
    let (adjective, surname) = name.trim_start_matches('/').split_once('_').unwrap();
    assert!(!adjective.is_empty() && !surname.is_empty());
    world.docker(&["rename", &id, "mine"]).ok();
    let text = world.docker(&["create", "--name", "mine", "busybox", "true"]).fails(1);
    assert!(
        text.contains(&format!("Conflict. The container name \"/mine\" is already in use by container \"{id}\"")),
        "{text}"
    );
    assert!(world.docker(&["inspect", "nobody"]).fails(1).contains("No such object: nobody"));
    assert!(world.docker(&["start", "nobody"]).fails(1).contains("No such container: nobody"));
}

#[test]
fn a_log_keeps_the_size_and_the_files_it_was_given() {
    let world = World::new();
    let script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done";
    let options = ["--log-opt", "max-size=1k", "--log-opt", "max-file=3"];
    world.docker(&[&["run", "--name", "much"], &options[..], &["busybox", "sh", "-c", script]].concat()).ok();
    let id = world.docker(&["inspect", "-f", "{{.Id}}", "much"]).ok();
    let mut files: Vec<(String, u64)> = std::fs::read_dir(world.path("data/docker/containers").join(id))
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .filter(|(name, _)| name.starts_with("container.log"))
        .collect();
    files.sort();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["container.log", "container.log.1", "container.log.2"]);
    assert!(files.iter().all(|(_, size)| *size <= 1024), "{files:?}");
    let kept = world.docker(&["logs", "much"]).ok();
    let lines: Vec<&str> = kept.lines().collect();
    assert!(lines.len() < 100 && lines.last() == Some(&"line 199"), "{kept}");
    for (option, words) in [
        ("max-size=some", "invalid size: 'some'"),
        ("max-file=0", "max-file cannot be less than 1"),
        ("colour=red", "unknown log opt 'colour' for json-file log driver"),
    ] {
        let text = world.docker(&["run", "--rm", "--log-opt", option, "busybox", "true"]).fails(125);
        assert!(text.contains(words), "{text}");
    }
}
