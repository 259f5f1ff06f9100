//! What programs written against dockerd rely on: details of its answers that other suites look at.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::wire::ask;
use super::world::World;

/// The whole answer to a request with a JSON body.
fn post(world: &World, path: &str, body: &str) -> String {
    ask_with(world, "POST", path, body)
}

fn ask_with(world: &World, method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// This moment, as `--until` takes it.
fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// The context of a build with this Dockerfile alone.
fn context(dockerfile: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "Dockerfile", dockerfile.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn a_builds_last_messages_are_those_for_people_and_its_id_comes_before() {
    let world = World::new();
    let archive = context("FROM busybox\nLABEL a=b\n");
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    let length = archive.len();
    write!(
        stream,
        "POST /build?t=made HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/x-tar\r\nContent-Length: {length}\r\n\r\n"
    )
    .unwrap();
    stream.write_all(&archive).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let messages: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with('{')).collect();
    let [.., aux, built, tagged] = messages[..] else { panic!("{text}") };
    assert!(aux.starts_with(r#"{"aux":{"ID":"sha256:"#), "{text}");
    assert!(built.contains("Successfully built ") && tagged.contains("Successfully tagged made:latest"), "{text}");
    let events = world.docker(&["events", "--until", &now(), "--filter", "type=image", "--filter", "event=tag"]).ok();
    assert!(events.contains("name=made:latest"), "{events}");
}

#[test]
fn a_dockerfile_from_stdin_goes_with_a_context() {
    let world = World::new();
    let context = world.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("file"), "there\n").unwrap();
    let arguments = ["build", "-t", "made", "-f", "-", context.to_str().unwrap()];
    world.docker_with(&arguments, b"FROM busybox\nCOPY file /file\n").ok();
    assert_eq!(world.docker(&["run", "--rm", "made", "cat", "/file"]).ok(), "there");
    // A context that breaks off is none.
    let archive = self::context("FROM busybox\nLABEL a=b\n");
    let broken = world.docker_with(&["build", "-"], &archive[..520]).fails(1);
    assert!(broken.contains("tar"), "{broken}");
}

#[test]
fn steps_of_other_images_count_as_done_where_a_build_names_some() {
    let world = World::new();
    let build = |extra: &[&str]| {
        let arguments = [&["build", "-t", "again"], extra, &["-"]].concat();
        world.docker_with(&arguments, b"FROM busybox\nENV A=b\nRUN touch /made\n").ok().matches("Using cache").count()
    };
    assert_eq!(build(&["-t", "first"]), 0);
    assert_eq!(build(&[]), 2);
    assert_eq!(build(&["--cache-from", "first"]), 2);
    assert_eq!(build(&["--cache-from", "nobody"]), 0);
    assert_eq!(build(&["--cache-from", "busybox"]), 0);
}

#[test]
fn what_cannot_be_built_is_told_in_dockers_words() {
    let world = World::new();
    let build = |dockerfile: &str| world.docker_with(&["build", "-t", "made", "-"], dockerfile.as_bytes());
    let empty = build("FROM scratch\n").fails(1);
    assert!(empty.contains("No image was generated. Is your Dockerfile empty?"), "{empty}");
    let missing = build("FROM busybox\nRUN [\"/nowhere\"]\n").fails(1);
    assert!(missing.contains("unable to start container process") && missing.contains("/nowhere"), "{missing}");
    build("FROM busybox\nRUN ln -s /far/away /link\nWORKDIR /work/\nADD https://nowhere.invalid/x /link/\n").fails(1);
    build("FROM busybox\nRUN ln -s /far/away /link\nRUN echo 1 > /f\nCOPY --from=0 /f /link/\n");
    build("FROM busybox AS one\nRUN echo 1 > /f\nFROM busybox\nRUN ln -s /far/away /link\nWORKDIR /work/\nCOPY --from=one /f /link/\n").ok();
    assert_eq!(world.docker(&["run", "--rm", "made", "sh", "-c", "pwd; cat /far/away/f"]).ok(), "/work\n1");
}

#[test]
fn an_exec_speaks_as_its_start_says_whatever_it_was_made_with() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "up", "-t", "busybox", "sleep", "1000"]).ok();
    let said = |made: bool, started: bool| {
        let made = post(
            &world,
            "/containers/up/exec",
            &format!(r#"{{"Tty":{made},"AttachStdout":true,"Cmd":["echo","hello"]}}"#),
        );
        let id = made.split("\"Id\":\"").nth(1).and_then(|rest| rest.get(..64)).expect("an id");
        let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
        let body = format!(r#"{{"Detach":false,"Tty":{started}}}"#);
        write!(stream, "POST /exec/{id}/start HTTP/1.1\r\nHost: docker\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut bytes = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&bytes));
        let at = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        bytes.split_off(at)
    };
    assert_eq!(said(true, false), b"\x01\0\0\0\0\0\0\x07hello\r\n");
    assert_eq!(said(false, true), b"hello\n");
    // The container has a terminal, the exec has none.
    assert_eq!(world.docker(&["exec", "up", "sh", "-c", "echo [$TERM]"]).ok(), "[]");
}

#[test]
fn a_wait_ends_with_each_run_even_if_a_policy_begins_the_next() {
    let world = World::new();
    world
        .docker(&["run", "-d", "--restart", "always", "--name", "again", "busybox", "sh", "-c", "sleep 1; exit 3"])
        .ok();
    assert_eq!(world.docker(&["wait", "again"]).ok(), "3");
    world.until(&["inspect", "-f", "{{.State.Restarting}}", "again"], "true");
    world.docker(&["kill", "again"]).ok();
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.Status}}", "again"]).ok(), "exited");
}

#[test]
fn events_until_a_moment_are_those_since_the_beginning() {
    let world = World::new();
    world.docker(&["create", "--name", "one", "busybox", "true"]).ok();
    let told = world.docker(&["events", "--until", &now(), "--filter", "type=container"]).ok();
    assert!(told.contains("container create"), "{told}");
    let refused = world.docker(&["events", "--since", "20", "--until", "10"]).fails(1);
    assert!(refused.contains("time (20) cannot be after"), "{refused}");
}

#[test]
fn a_list_tells_of_links_descendants_and_names_that_moved() {
    let world = World::new();
    let id = world.docker(&["inspect", "-f", "{{.Id}}", "busybox"]).ok();
    world.docker(&["run", "-d", "--name", "db", "--hostname", "store", "busybox", "sleep", "1000"]).ok();
    world.docker(&["run", "-d", "--name", "web", "--link", "db:base", "busybox", "sleep", "1000"]).ok();
    let shown = world.docker(&["inspect", "-f", "{{index .HostConfig.Links 0}}", "web"]).ok();
    assert_eq!(shown, "/db:/web/base");
    let names = world.docker(&["ps", "--no-trunc", "--filter", "name=db", "--format", "{{.Names}}"]).ok();
    assert_eq!(names, "db,web/base");
    assert!(world.docker(&["exec", "web", "cat", "/etc/hosts"]).ok().contains("base store db"));
    assert!(ask(&world, "DELETE /containers/web/base?link=1 HTTP/1.1").starts_with("HTTP/1.1 204"));
    assert_eq!(world.docker(&["ps", "--filter", "name=db", "--format", "{{.Names}}"]).ok(), "db");
    world.docker(&["commit", "db", "child"]).ok();
    world.docker(&["run", "-d", "--name", "of-child", "child", "sleep", "1000"]).ok();
    let descendants = ["ps", "--filter", "ancestor=busybox", "--format", "{{.Names}}"];
    assert_eq!(world.docker(&descendants).ok(), "of-child\nweb\ndb");
    assert_eq!(world.docker(&["ps", "--filter", "ancestor=child", "--format", "{{.Names}}"]).ok(), "of-child");
    world.docker(&["tag", "child", "busybox"]).ok();
    let images = world.docker(&["ps", "--no-trunc", "--filter", "name=db", "--format", "{{.Image}}"]).ok();
    assert_eq!(images, id);
    assert_eq!(world.docker(&["inspect", "-f", "{{.Id}}", &id[..10]]).ok(), id);
}

#[test]
fn what_is_asked_of_a_container_is_kept_and_checked_as_by_dockerd() {
    let world = World::new();
    world.docker(&["create", "--name", "first", "-e", "Foo", "-e", "Bar=1", "busybox", "true"]).ok();
    let created = post(&world, "/containers/create?name=second", r#"{"Image":"busybox","Env":["Foo"],"Cmd":"env"}"#);
    assert!(created.starts_with("HTTP/1.1 201"), "{created}");
    let env = world.docker(&["inspect", "-f", "{{index .Config.Env 0}} {{.Config.Cmd}}", "second"]).ok();
    assert_eq!(env, "Foo [env]");
    assert!(!world.docker(&["start", "-a", "second"]).ok().contains("Foo"));
    for (body, why) in [
        (r#"{"HostConfig":{"ShmSize":-1}}"#, "SHM size can not be less than 0"),
        (r#"{"HostConfig":{"OomScoreAdj":1001}}"#, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
        (r#"{"HostConfig":{"CpusetCpus":"1-42,,"}}"#, "Invalid value 1-42,, for cpuset cpus"),
        (r#"{"HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":-2}}}"#, "cannot be negative"),
        (r#"{"HostConfig":{"NetworkMode":"container:first","Links":["first:a"]}}"#, "can't be used with links"),
        (r#"{"HostConfig":{"NetworkMode":"container:first","Dns":["1.1.1.1"]}}"#, "dns and the network mode"),
        (r#"{"Env":["=foo"]}"#, "invalid environment variable: =foo"),
        (r#"{"HostConfig":{"Tmpfs":{"foo":""}}}"#, "mount path must be absolute"),
        (r#"{"HostConfig":{"Tmpfs":{"//":""}}}"#, "destination can't be '/'"),
        (r#"{"HostConfig":{"VolumesFrom":["nobody"]}}"#, "No such container: nobody"),
        (r#"{"HostConfig":{"PidMode":"container"}}"#, "invalid PID mode: container"),
        (r#"{"HostConfig":{"UTSMode":"invalid"}}"#, "invalid UTS mode: invalid"),
        (r#"{"HostConfig":{"Annotations":{"":"a"}}}"#, "not permitted as an annotation key"),
        (r#"{"HostConfig":{"ExtraHosts":["a:b"]}}"#, r#"invalid IP address in add-host: \"b\""#),
        (r#"{"Healthcheck":{"Interval":500000}}"#, "Interval in Healthcheck cannot be less than 1ms"),
        (r#"{invalid}"#, "invalid JSON: invalid character 'i' looking for beginning of object key string"),
        (r#"{} more"#, "unexpected content after JSON"),
    ] {
        let whole = serde_json::from_str::<serde_json::Value>(body).is_ok();
        let body = if whole { body.replacen('{', r#"{"Image":"busybox","Cmd":["true"],"#, 1) } else { body.to_owned() };
        let answer = post(&world, "/containers/create", &body);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(why), "{body}: {answer}");
    }
    world.docker(&["create", "--name", "alone", "--network", "none", "busybox", "true"]).ok();
    world.docker(&["network", "create", "net"]).ok();
    let refused = world.docker(&["network", "connect", "net", "alone"]).fails(1);
    assert!(refused.contains("one of the networks in private (none) mode"), "{refused}");
    let mounted = world.docker(&["run", "--rm", "--shm-size", "1m", "busybox", "mount"]).ok();
    assert!(mounted.contains("shm on /dev/shm type tmpfs") && mounted.contains("size=1024k"), "{mounted}");
    let groups = ["run", "--rm", "-u", "0:0", "busybox", "sh", "-c", "id -G"];
    assert_eq!(world.docker(&groups).ok(), "0");
}

#[test]
fn a_networks_gateway_and_addresses_of_others_are_the_users_choice() {
    let world = World::new();
    let (subnet, _) = world.subnet();
    let base = subnet.rsplit_once('.').expect("an address").0.to_owned();
    let gateway = format!("{base}.250");
    let auxiliary = format!("printer={base}.129");
    let arguments =
        ["network", "create", "--subnet", &subnet, "--gateway", &gateway, "--aux-address", &auxiliary, "net"];
    world.docker(&arguments).ok();
    let shown = "{{(index .IPAM.Config 0).Gateway}} {{(index .IPAM.Config 0).AuxiliaryAddresses.printer}}";
    let told = world.docker(&["network", "inspect", "-f", shown, "net"]).ok();
    assert_eq!(told, format!("{gateway} {base}.129"));
    let routes = world.docker(&["run", "--rm", "--network", "net", "busybox", "ip", "route"]).ok();
    assert!(routes.contains(&format!("default via {gateway}")), "{routes}");
    let address = ["run", "--rm", "--network", "net", "busybox", "ip", "-o", "-4", "addr", "show", "eth0"];
    assert!(world.docker(&address).ok().contains(&format!("{base}.13")));
    let ipam = format!(r#"{{"Name":"far","IPAM":{{"Config":[{{"Subnet":"{subnet}","Gateway":"10.9.9.9"}}]}}}}"#);
    let outside = post(&world, "/networks/create", &ipam);
    assert!(outside.contains("invalid gateway 10.9.9.9: parent subnet"), "{outside}");
}

#[test]
fn a_volume_takes_over_whose_the_images_directory_is() {
    let world = World::new();
    let dockerfile =
        "FROM busybox\nRUN mkdir /data && echo 1 > /data/f && chown -R 7:8 /data && chmod 0750 /data\nVOLUME /data\n";
    world.docker_with(&["build", "-t", "made", "-"], dockerfile.as_bytes()).ok();
    let looked = world.docker(&["run", "--rm", "-v", "own:/data", "made", "ls", "-ldn", "/data"]).ok();
    let fields: Vec<&str> = looked.split_whitespace().collect();
    assert_eq!((fields[0], fields[2], fields[3]), ("drwxr-x---", "7", "8"), "{looked}");
    let copied = world.path("copied");
    std::fs::write(&copied, "x").unwrap();
    world.docker(&["create", "--name", "read-only", "-v", "own:/data:ro", "made", "true"]).ok();
    let refused = world.docker(&["cp", copied.to_str().unwrap(), "read-only:/data/"]).fails(1);
    assert!(refused.contains("mounted volume is marked read-only"), "{refused}");
    // A link of a volume leads to what may not be written to; the client follows links itself, others do not.
    let link = [
        "run",
        "--name",
        "linked",
        "--read-only",
        "-v",
        "links:/v",
        "busybox",
        "busybox",
        "ln",
        "-s",
        "/etc",
        "/v/out",
    ];
    world.docker(&link).ok();
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    let request = "PUT /containers/linked/archive?path=/v/out HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
                   Content-Type: application/x-tar\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("container rootfs is marked read-only"), "{answer}");
}

#[test]
fn a_log_shows_the_details_it_was_asked_for() {
    let world = World::new();
    let options = ["--label", "foo=bar", "-e", "baz=q x", "--log-opt", "labels=foo", "--log-opt", "env=baz"];
    let arguments = [&["run", "--name", "told"], &options[..], &["busybox", "echo", "hello"]].concat();
    world.docker(&arguments).ok();
    assert_eq!(world.docker(&["logs", "--details", "told"]).ok(), "baz=q+x,foo=bar hello");
    let options =
        ["--log-opt", "labels-regex=^fo", "--log-opt", "env-regex=z$", "--log-opt", "tag={{.Name}}/{{.ImageName}}"];
    let arguments =
        [&["run", "--name", "tagged"], &["--label", "foo=1", "-e", "baz=2"][..], &options, &["busybox", "echo", "x"]];
    world.docker(&arguments.concat()).ok();
    assert_eq!(world.docker(&["logs", "--details", "tagged"]).ok(), "baz=2,foo=1,tag=tagged%2Fbusybox x");
}

#[test]
fn a_name_is_filtered_by_an_expression() {
    let world = World::new();
    for name in ["web1", "web2", "db1"] {
        world.docker(&["create", "--name", name, "busybox", "true"]).ok();
        world.docker(&["volume", "create", name]).ok();
    }
    let names = |pattern: &str| {
        let filter = format!("name={pattern}");
        let listed = world.docker(&["ps", "-a", "-f", &filter, "--format", "{{.Names}}"]).ok();
        let mut listed: Vec<String> = listed.lines().map(str::to_owned).collect();
        listed.sort();
        assert_eq!(world.docker(&["volume", "ls", "-q", "-f", &filter]).ok(), listed.join("\n"), "{pattern}");
        listed.join(" ")
    };
    assert_eq!(names("^(web|db)1$"), "db1 web1");
    assert_eq!(names("web[2-9]"), "web2");
    assert_eq!(world.docker(&["ps", "-aq", "-f", "name=^/db"]).ok().lines().count(), 1);
}

#[test]
fn what_cannot_be_started_is_refused_in_runcs_words() {
    let world = World::new();
    let run = |args: &[&str]| world.docker(&[&["run", "--rm"][..], args, &["busybox", "true"]].concat()).fails(125);
    let refused = run(&["--network", "host", "--sysctl", "net.ipv4.ip_forward=1"]);
    assert!(refused.contains("OCI runtime create failed: sysctl \"net.ipv4.ip_forward\" not allowed in host network"));
    assert!(run(&["-v", "/tmp:/x:ro,rw"]).contains("invalid mode: ro,rw"));
    assert!(run(&["--link", "nobody"]).contains("could not get container for nobody: No such container: nobody"));
}

#[test]
fn what_is_no_archive_of_images_is_told_in_the_stream() {
    let world = World::empty();
    let answer = ask_with(&world, "POST", "/images/load", "abc");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"errorDetail\""), "{answer}");
    let blank = ask(&world, "DELETE /images/%20 HTTP/1.1");
    assert!(blank.starts_with("HTTP/1.1 400") && blank.contains("image name cannot be blank"), "{blank}");
}

#[test]
fn an_image_others_are_made_of_is_not_removed_by_its_id() {
    let world = World::new();
    let id = world.docker(&["inspect", "-f", "{{.Id}}", "busybox"]).ok();
    world.docker_with(&["build", "-t", "child", "-"], b"FROM busybox\nLABEL a=b\n").ok();
    let refused = world.docker(&["rmi", "-f", &id]).fails(1);
    assert!(refused.contains("(cannot be forced) - image has dependent child images"), "{refused}");
    world.docker(&["rmi", "child"]).ok();
    world.docker(&["tag", "busybox", "other"]).ok();
    world.docker(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).ok();
    let used = world.docker(&["rmi", &id]).fails(1);
    assert!(used.contains("(cannot be forced) - image is being used by running container"), "{used}");
    world.docker(&["rm", "-f", "up"]).ok();
    let several = world.docker(&["rmi", &id]).fails(1);
    assert!(several.contains("(must be forced) - image is referenced in multiple repositories"), "{several}");
}

#[test]
fn an_unprivileged_container_does_not_set_its_own_limits() {
    let world = World::new();
    let script =
        "for d in /sys/fs/cgroup /sys/fs/cgroup/memory /sys/fs/cgroup/pids; do mkdir $d/inner && echo $d; done; true";
    let made = world.docker(&["run", "--rm", "busybox", "sh", "-c", script]).ok();
    // The directory that holds the hierarchies of v1 is the container's own, and sets nothing.
    assert!(!made.contains("memory") && !made.contains("pids"), "{made}");
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert_eq!(made, "");
    }
    world
        .docker(&[
            "run",
            "--rm",
            "--privileged",
            "busybox",
            "sh",
            "-c",
            "d=/sys/fs/cgroup; [ -d $d/memory ] && d=$d/memory; mkdir $d/inner && rmdir $d/inner",
        ])
        .ok();
}

#[test]
fn a_container_is_told_by_the_last_part_of_its_cgroups_path_and_limited_there() {
    let world = World::new();
    let run = ["run", "-d", "--name", "up", "--cgroupns", "host", "--cgroup-parent", "/some/parent", "--memory", "64m"];
    let id = world.docker(&[&run[..], &["busybox", "sleep", "1000"]].concat()).ok();
    for command in [&["exec", "up", "cat", "/proc/self/cgroup"][..], &["exec", "up", "cat", "/proc/1/cgroup"]] {
        let groups = world.docker(command).ok();
        // On v1 each controller has a line; on v2 there is one.
        let line = groups.lines().find(|line| line.contains(":memory:")).or_else(|| groups.lines().last());
        let path = line.and_then(|line| line.splitn(3, ':').nth(2)).expect("three fields");
        assert!(path.ends_with(&format!("/some/parent/{id}")), "{groups}");
        let limit = match groups.contains(":memory:") {
            true => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
            false => format!("/sys/fs/cgroup{path}/memory.max"),
        };
        assert_eq!(std::fs::read_to_string(&limit).expect(&limit).trim(), (64 << 20).to_string());
    }
    let run = ["run", "--rm", "--cgroupns", "host", "--cgroup-parent", "../../else", "--cidfile"];
    let file = world.path("cid");
    let rest = [file.to_str().unwrap(), "busybox", "cat", "/proc/self/cgroup"];
    let groups = world.docker(&[&run[..], &rest].concat()).ok();
    let id = std::fs::read_to_string(&file).unwrap();
    assert!(groups.lines().any(|line| line.ends_with(&format!("/else/{id}"))), "{groups}");
}

#[test]
fn mounts_have_their_places_whatever_they_are_mounted_on() {
    let world = World::new();
    world.docker(&["run", "--rm", "-v", "etc:/etc", "busybox", "cat", "/etc/hosts"]).ok();
    let shm = world.path("shm");
    std::fs::create_dir(&shm).unwrap();
    let own = format!("{}:/dev/shm:ro", shm.display());
    assert_ne!(world.docker(&["run", "--rm", "-v", &own, "busybox", "touch", "/dev/shm/x"]).code, 0);
    let proc = world.docker(&["run", "--rm", "-v", "some:/proc/sys", "busybox", "true"]).fails(125);
    assert!(proc.contains("cannot be mounted because it is inside /proc"), "{proc}");
    let shared = world.docker(&["run", "--rm", "-v", "some:/data:shared", "busybox", "true"]).fails(125);
    assert!(shared.contains("field BindOptions must not be specified"), "{shared}");
    let dockerfile = "FROM busybox\nRUN mkdir -p /etc && chown 7:8 /etc\n";
    world.docker_with(&["build", "-t", "made", "-"], dockerfile.as_bytes()).ok();
    let looked = world.docker(&["run", "--name", "used", "made", "ls", "-ldn", "/etc"]).ok();
    let fields: Vec<&str> = looked.split_whitespace().collect();
    assert_eq!((fields[2], fields[3]), ("7", "8"), "{looked}");
    assert_eq!(world.docker(&["diff", "used"]).ok(), "");
    world.docker(&["run", "--name", "parent", "-v", "/data", "busybox", "true"]).ok();
    world.docker(&["run", "--name", "child", "--volumes-from", "parent", "busybox", "true"]).ok();
    world.docker(&["rm", "parent"]).ok();
    let before = world.docker(&["volume", "ls", "-q"]).ok().lines().count();
    world.docker(&["rm", "-v", "child"]).ok();
    assert_eq!(world.docker(&["volume", "ls", "-q"]).ok().lines().count(), before - 1);
}

#[test]
fn names_and_variables_are_as_in_dockers_containers() {
    let world = World::new();
    let hosts = world.docker(&["run", "--rm", "-h", "foo.example.com", "busybox", "cat", "/etc/hosts"]).ok();
    assert!(hosts.contains("\tfoo.example.com foo"), "{hosts}");
    let env = world.docker(&["run", "--rm", "-e", "HOME=", "busybox", "env"]).ok();
    assert_eq!(env.matches("HOME=").count(), 1, "{env}");
    let own =
        world.docker(&["run", "--rm", "--name", "own", "--network", "container:own", "busybox", "true"]).fails(125);
    assert!(own.contains("cannot join own network"), "{own}");
    let nobody = world.docker(&["run", "--rm", "--network", "container:nobody", "busybox", "true"]).fails(125);
    assert!(nobody.contains("No such container: nobody"), "{nobody}");
    world.docker(&["network", "create", "net"]).ok();
    world.docker(&["run", "-d", "--name", "up", "--network", "net", "busybox", "sleep", "1000"]).ok();
    assert_eq!(world.docker(&["network", "inspect", "-f", "{{len .Options}}", "net"]).ok(), "0");
    for (flag, why) in [
        ("--expose=80", "port exposing and the container type network mode"),
        ("--mac-address=92:d0:c6:0a:29:33", "mac-address and the network mode"),
    ] {
        let refused = world.docker(&["run", "--rm", flag, "--network", "container:up", "busybox", "true"]).fails(125);
        assert!(refused.contains(why), "{flag}: {refused}");
    }
    let far = world.docker(&["run", "--rm", "--cpuset-cpus", "7000", "busybox", "true"]).fails(125);
    assert!(far.contains("Requested CPUs are not available - requested 7000, available: "), "{far}");
}

#[test]
fn volumes_tell_of_their_use_and_are_filled_once() {
    let world = World::new();
    world.docker_with(&["build", "-t", "filled", "-"], b"FROM busybox\nRUN mkdir /foo && touch /foo/bar\n").ok();
    world.docker(&["run", "--name", "plain", "-v", "own:/foo", "busybox", "true"]).ok();
    assert_eq!(world.docker(&["run", "--rm", "--volumes-from", "plain", "filled", "ls", "/foo"]).ok(), "");
    let told = world.docker(&["events", "--until", &now(), "--filter", "type=volume", "--format", "{{.Action}}"]).ok();
    assert_eq!(told, "create\nmount\nunmount\nmount\nunmount");
    for (flag, mode) in [("/srv:/foo:nocopy", "nocopy"), ("/srv:/foo:copy", "copy")] {
        let refused = world.docker(&["run", "--rm", "-v", flag, "busybox", "true"]).fails(125);
        assert!(refused.contains(&format!("invalid mode: {mode}")), "{refused}");
    }
    for (flags, why) in [
        (["--user", "2147483648"], "uids and gids must be in range 0-2147483647"),
        (["--cpu-period", "900"], "CPU cfs period can not be less than 1ms"),
        (["--memory-reservation", "1k"], "Minimum memory reservation allowed is 6MB"),
    ] {
        let arguments = [&["run", "--rm"], &flags[..], &["busybox", "true"]].concat();
        assert!(world.docker(&arguments).stderr.contains(why), "{flags:?}");
    }
    world.docker(&["run", "-d", "--name", "up", "--cpus", "0.5", "busybox", "sleep", "1000"]).ok();
    for (flags, why) in [
        (["--cpu-quota", "80000"], "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (["--memory", "2m"], "Minimum memory limit allowed is 6MB"),
    ] {
        let arguments = [&["update"], &flags[..], &["up"]].concat();
        assert!(world.docker(&arguments).fails(1).contains(why), "{flags:?}");
    }
}

#[test]
fn a_link_made_with_a_further_network_is_a_name() {
    let world = World::new();
    for network in ["one", "two"] {
        world.docker(&["network", "create", network]).ok();
    }
    world.docker(&["run", "-d", "--name", "first", "--network", "one", "busybox", "sleep", "1000"]).ok();
    world.docker(&["run", "-d", "--name", "second", "--network", "one", "busybox", "sleep", "1000"]).ok();
    world.docker(&["network", "connect", "two", "first"]).ok();
    world.docker(&["network", "connect", "--link", "first:FirstInTwo", "two", "second"]).ok();
    world.docker(&["exec", "second", "ping", "-c", "1", "-W", "2", "FirstInTwo"]).ok();
    let refused = world.docker(&["network", "connect", "--alias", "any", "bridge", "first"]).fails(1);
    assert!(refused.contains("only supported for user-defined networks"), "{refused}");
}

#[test]
fn output_comes_after_the_head_was_read() {
    let world = World::new();
    world.docker(&["run", "--name", "over", "busybox", "echo", "hello"]).ok();
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    write!(stream, "POST /containers/over/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n").unwrap();
    // As a client that takes whatever comes with the head for a part of it.
    let mut buffer = [0; 8192];
    let read = stream.read(&mut buffer).unwrap();
    assert!(buffer[..read].ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&buffer[..read]));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"\x01\0\0\0\0\0\0\x06hello\n");
}

#[test]
fn clients_that_do_not_leave_http_attach_too() {
    let world = World::new();
    world.docker(&["create", "--name", "one", "-i", "busybox", "sh", "-c", "cat; echo over"]).ok();
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    write!(stream, "POST /containers/one/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: 6\r\n\r\n").unwrap();
    world.docker(&["start", "one"]).ok();
    stream.write_all(b"given\n").unwrap();
    let mut text = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("application/vnd.docker.raw-stream"), "{text}");
    // What comes at once may be one piece.
    assert!(text.contains("\u{1}\0\0\0\0\0\0") && text.contains("given\n") && text.contains("over\n"), "{text}");
}
