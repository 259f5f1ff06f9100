//! The examples of docs/patterns, run as they are printed but for their ports and files.

use std::path::Path;

use crate::stage::*;

/// The first YAML block of a page, with its endpoints replaced.
fn example(page: &str, endpoints: [std::net::SocketAddr; 2]) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/patterns").join(page);
    let text = std::fs::read_to_string(file).unwrap();
    let yaml = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    let yaml =
        yaml.replace("127.0.0.1:9001", &endpoints[0].to_string()).replace("127.0.0.1:9002", &endpoints[1].to_string());
    ["8080", "8443", "3306"].iter().fold(yaml, |yaml, port| yaml.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0"))
}

#[test]
fn the_examples_of_the_pages_work() {
    let (app, other) = (mirror_of_heads(), named("other").0);
    for (page, path, expected) in [
        ("edge.md", "/api/hello", "GET /hello HTTP/1.1"),
        ("split.md", "/x", ""),
        ("tee.md", "/x", "GET /x HTTP/1.1"),
        ("cache.md", "/x", "GET /x HTTP/1.1"),
        ("rate-limit.md", "/x", "GET /x HTTP/1.1"),
    ] {
        let stage = Stage::new(&example(page, if page == "edge.md" { [app, app] } else { [app, other] }));
        let answer = get(stage.address(), path);
        assert!(answer.status == 200 && answer.text().starts_with(expected), "{page}: {answer:?}");
    }
    for page in ["broker.md", "tls.md"] {
        proxy::config::Config::parse(&example(page, [app, other])).unwrap();
    }
}
