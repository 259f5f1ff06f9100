//! WebSockets, and requests written as Go's decoder takes them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use super::wire::ask;
use super::world::World;

/// A client's message: short, and masked with nothing.
fn message(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    [&[0x82, 0x80 | length, 0, 0, 0, 0], text].concat()
}

/// A server's message: its kind and what is in it.
fn receive(stream: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert!(head[1] < 126, "a short one, not masked");
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).unwrap();
    (head[0] & 0x0f, payload)
}

#[test]
fn a_browser_attaches_by_websocket() {
    let world = World::new();
    world.docker(&["create", "-i", "--name", "echo", "busybox", "cat"]).ok();
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    stream
        .write_all(
            b"GET /v1.44/containers/echo/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\n\
              Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    // RFC 6455, section 1.3.
    assert!(head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    world.docker(&["start", "echo"]).ok();
    stream.write_all(&message(b"hello\n")).unwrap();
    assert_eq!(receive(&mut stream), (2, b"hello\n".to_vec()));
    // An empty message of kind 8 closes.
    stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!(world.docker(&["wait", "echo"]).ok(), "0");
    let refused = ask(&world, "GET /v1.44/containers/echo/attach/ws?stream=1 HTTP/1.1");
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
}

#[test]
fn names_of_fields_are_taken_in_any_case() {
    let world = World::new();
    let body = r#"{"image":"busybox","CMD":["true"],"labels":{"aB":"c"},"hostconfig":{"networkmode":"none","memory":8000000}}"#;
    let length = body.len();
    let request = format!(
        "POST /v1.41/containers/create?name=any HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {length}"
    );
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    write!(stream, "{request}\r\nHost: docker\r\nConnection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let shown =
        "{{.Config.Image}} {{.Config.Cmd}} {{.Config.Labels.aB}} {{.HostConfig.NetworkMode}} {{.HostConfig.Memory}}";
    assert_eq!(world.docker(&["inspect", "-f", shown, "any"]).ok(), "busybox [true] c none 8000000");
}

/// Answers every request with these bytes.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
        }
    });
    format!("http://{address}/context")
}

#[test]
fn a_build_fetches_its_context_or_a_dockerfile_from_where_it_is_told() {
    let world = World::new();
    let build =
        |url: &str| ask(&world, &format!("POST /v1.41/build?remote={url}&t=fetched HTTP/1.1\r\nContent-Length: 0"));
    let text = build(&serve(b"FROM busybox\nLABEL from=text\n".to_vec()));
    assert!(text.contains("Successfully tagged fetched:latest"), "{text}");
    assert_eq!(world.docker(&["inspect", "-f", "{{.Config.Labels.from}}", "fetched"]).ok(), "text");
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [("Dockerfile", &b"FROM busybox\nCOPY file /\nLABEL from=archive\n"[..]), ("file", b"x")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    let text = build(&serve(archive.into_inner().unwrap()));
    assert!(text.contains("Successfully tagged fetched:latest"), "{text}");
    assert_eq!(world.docker(&["inspect", "-f", "{{.Config.Labels.from}}", "fetched"]).ok(), "archive");
    let text = build("http://127.0.0.1:9/nothing");
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("error downloading remote context"), "{text}");
}

/// The answer to a request with a body of this kind.
fn send(world: &World, path: &str, kind: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_body_is_json_and_may_be_null() {
    const JSON: &str = "Content-Type: application/json\r\n";
    let world = World::new();
    world.docker(&["create", "--name", "any", "busybox", "true"]).ok();
    let made = send(&world, "/v1.41/commit?container=any&repo=made", JSON, "null");
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let path = "/v1.41/containers/create";
    let body = r#"{"Image":"busybox","Cmd":["true"]}"#;
    for (kind, said) in [
        ("", "malformed Content-Type header (): mime: no media type"),
        ("Content-Type: text/plain\r\n", "unsupported Content-Type header (text/plain): must be 'application/json'"),
    ] {
        let refused = send(&world, path, kind, body);
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains(said), "{refused}");
    }
    let said = send(&world, path, JSON, "{}");
    assert!(said.contains(r#"{"message":"config cannot be empty in order to create a container"}"#), "{said}");
    let said = send(&world, path, JSON, r#"{"Tty":true}"#);
    assert!(said.contains(r#"{"message":"no command specified"}"#), "{said}");
    // A word of nothing is a word; it is the start that fails.
    let said = send(&world, path, JSON, r#"{"Image":"busybox","Cmd":[""]}"#);
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
    for ports in [r#"{"80/tcp":[{"HostPort":"aa80"}]}"#, r#"{"aa80":[]}"#] {
        let body = format!(r#"{{"Image":"busybox","Cmd":["true"],"HostConfig":{{"PortBindings":{ports}}}}}"#);
        let said = send(&world, path, JSON, &body);
        assert!(said.contains(r#"invalid port specification: \"aa80\""#), "{said}");
    }
    // No port is 0; it is the start that fails.
    let zero = r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"PortBindings":{"0/tcp":[{"HostPort":""}]}}}"#;
    let said = send(&world, "/v1.51/containers/create?name=zero", JSON, zero);
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
    let said = send(&world, "/v1.51/containers/zero/start", JSON, "");
    assert!(said.contains(r#"invalid port specification: \"0/tcp\""#), "{said}");
    for (mount, said) in [
        (r#"{"Type":"bind","Source":"/tmp","Target":"/m","VolumeOptions":{}}"#, "field VolumeOptions must not be"),
        (r#"{"Type":"tmpfs","Source":"/tmp","Target":"/m"}"#, "field Source must not be specified"),
        (r#"{"Type":"volume","Target":"/m","ReadOnly":true}"#, "must not set ReadOnly mode when using anonymous"),
        (r#"{"Type":"volume","Target":"/"}"#, "destination can't be '/'"),
    ] {
        let body = format!(r#"{{"Image":"busybox","Cmd":["true"],"HostConfig":{{"Mounts":[{mount}]}}}}"#);
        let answer = send(&world, path, JSON, &body);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(said), "{answer}");
    }
    assert!(send(&world, "/v1.41/containers/any/copy", JSON, "{}").starts_with("HTTP/1.1 404"));
    for (version, mode) in [("1.39", "shareable"), ("1.40", "private")] {
        let name = format!("of-{version}");
        let body = r#"{"Image":"busybox","Cmd":["true"]}"#;
        let made = send(&world, &format!("/v{version}/containers/create?name={name}"), JSON, body);
        assert!(made.starts_with("HTTP/1.1 201"), "{made}");
        assert_eq!(world.docker(&["inspect", "-f", "{{.HostConfig.IpcMode}}", &name]).ok(), mode);
    }
    for (version, old, firewall) in [("1.41", true, false), ("1.50", false, true)] {
        let info = ask(&world, &format!("GET /v{version}/info HTTP/1.1"));
        assert_eq!(info.contains(r#""BridgeNfIptables":false"#), old, "{info}");
        assert_eq!(info.contains(r#""FirewallBackend":{"Driver":"nftables"}"#), firewall, "{info}");
    }
    for (version, counted) in [("1.50", false), ("1.51", true)] {
        let images = ask(&world, &format!("GET /v{version}/images/json HTTP/1.1"));
        assert!(images.contains(r#""Containers":"#), "{version}: {images}");
        assert_ne!(images.contains(r#""Containers":-1"#), counted, "{version}: {images}");
    }
    assert!(ask(&world, "OPTIONS /v1.41/anything HTTP/1.1").starts_with("HTTP/1.1 200"));
}

#[test]
fn who_attached_stays_while_the_process_runs_though_it_closed_its_output() {
    let world = World::new();
    let script = "exec 1>&- 2>&-; cat > /kept; read word < /kept; test $word = hello";
    world.docker(&["create", "-i", "--name", "silent", "busybox", "sh", "-c", script]).ok();
    let mut child = std::process::Command::new("docker")
        .args(["-H", &format!("unix://{}", world.path("docker.sock").display()), "start", "-ai", "silent"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    assert!(child.wait().unwrap().success());
    world.docker(&["rm", "silent"]).ok();
}

#[test]
fn events_tell_of_copies_and_of_images_by_their_labels() {
    let world = World::new();
    world.docker_with(&["build", "-t", "labelled", "-"], b"FROM busybox\nLABEL kind=special\n").ok();
    world.docker(&["tag", "labelled", "again"]).ok();
    world.docker(&["save", "-o", world.path("saved.tar").to_str().unwrap(), "labelled"]).ok();
    world.docker(&["create", "--name", "any", "-w", "/made/at/once", "busybox", "true"]).ok();
    world.docker(&["cp", "any:/made/at/once", world.path("copy").to_str().unwrap()]).ok();
    world.docker(&["cp", world.path("copy").to_str().unwrap(), "any:/"]).ok();
    let seen = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|filter| ["--filter", filter]).collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let now = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let asked = [&["events", "--since", "1h", "--until", &now, "--format", "{{.Action}}"], &filters[..]].concat();
        world.docker(&asked).ok().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(seen(&["type=image", "label=kind=special"]), ["create", "tag", "tag", "save"]);
    assert_eq!(seen(&["container=any"]), ["create", "archive-path", "extract-to-dir"]);
    world.docker(&["commit", "-c", "LABEL kind=kept", "any", "kept"]).ok();
    assert_eq!(seen(&["type=image", "label=kind=kept"]), ["create", "tag"]);
}

#[test]
fn processes_and_lists_are_asked_for_as_with_ps() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).ok();
    let titles = |args: &[&str]| {
        let text = world.docker(&[&["top", "up"], args].concat()).ok();
        text.lines().next().unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(titles(&["axo", "pid,stat,comm", "--sort=-pid"]), "PID STAT COMMAND");
    assert_eq!(titles(&["-x"]), "PID TTY TIME CMD");
    assert!(world.docker(&["ps", "--filter", "exited=x"]).fails(1).contains("invalid syntax"));
    let text = world.docker(&["update", "--cpus", "9999", "up"]).fails(1);
    assert!(text.contains("range of CPUs is from 0.01 to"), "{text}");
}
