//! What goes over the socket, where the stock client does not look.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::world::World;

/// The whole answer to a request whose first line (and headers) are given.
pub fn ask(world: &World, request: &str) -> String {
    ask_with(world, request, b"")
}

/// As [`ask`], with a body, whose length the headers tell.
pub fn ask_with(world: &World, request: &str, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(world.path("docker.sock")).unwrap();
    write!(stream, "{request}\r\nHost: docker\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn versions_are_negotiated_and_errors_have_dockers_shape() {
    let world = World::empty();
    let pong = ask(&world, "GET /_ping HTTP/1.1");
    assert!(pong.starts_with("HTTP/1.1 200") && pong.ends_with("OK"), "{pong}");
    for header in ["api-version: 1.51", "ostype: linux", "builder-version: 2", "docker-experimental: false"] {
        assert!(pong.to_ascii_lowercase().contains(header), "{pong}");
    }
    assert!(ask(&world, "GET /v1.24/version HTTP/1.1").contains("\"ApiVersion\":\"1.51\""));
    let refused = ask(&world, "GET /v1.99/version HTTP/1.1");
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    assert!(refused.contains(r#"{"message":"client version 1.99 is too new. Maximum supported API version is 1.51"}"#));
    let missing = ask(&world, "GET /v1.41/containers/nobody/json HTTP/1.1");
    assert!(
        missing.starts_with("HTTP/1.1 404") && missing.contains(r#"{"message":"No such container: nobody"}"#),
        "{missing}"
    );
    assert!(ask(&world, "GET /nowhere HTTP/1.1").contains(r#"{"message":"page not found"}"#));
}

#[test]
fn starting_what_runs_is_no_change() {
    let world = World::new();
    world.docker(&["run", "-d", "--name", "up", "busybox", "sleep", "1000"]).ok();
    assert!(ask(&world, "POST /containers/up/start HTTP/1.1\r\nContent-Length: 0").starts_with("HTTP/1.1 304"));
    world.docker(&["stop", "-t", "0", "up"]).ok();
    assert!(ask(&world, "POST /containers/up/stop HTTP/1.1\r\nContent-Length: 0").starts_with("HTTP/1.1 304"));
}
