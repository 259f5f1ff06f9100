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

#[test]
fn every_field_of_the_file_is_on_its_page() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/patterns/proxy-file.md");
    let page = std::fs::read_to_string(file).unwrap();
    let route = "listeners: [{address: ':1', routes: [{to: [{pool: p, X}]}]}]";
    let places = [
        "X".to_owned(),
        "listeners: [{X}]".to_owned(),
        "listeners: [{tls: {X}}]".to_owned(),
        "listeners: [{tls: {certificates: [{X}]}}]".to_owned(),
        "listeners: [{limits: {X}}]".to_owned(),
        "listeners: [{routes: [{X}]}]".to_owned(),
        "listeners: [{routes: [{matches: [{X}]}]}]".to_owned(),
        "listeners: [{routes: [{retry: {X}}]}]".to_owned(),
        route.to_owned(),
    ];
    let filters =
        ["X", "request_headers: {X}", "redirect: {X}", "rewrite: {X}", "mirrors: [{X}]", "respond: {X}", "cors: {X}"]
            .map(|at| format!("listeners: [{{routes: [{{filters: {{{at}}}}}]}}]"));
    let pools = [
        "X",
        "endpoints: [{X}]",
        "discovery: {binding: {X}}",
        "ring: {X}",
        "sticky: {X}",
        "health: {X}",
        "outlier: {X}",
        "tls: {X}",
    ]
    .map(|at| format!("pools: [{{{at}}}]"));
    let others =
        ["caches: [{X}]", "caches: [{disk: {X}}]", "rate_limits: [{X}]", "rate_limits: [{tiers: [{X}]}]", "peers: {X}"]
            .map(str::to_owned);
    let mut seen = 0;
    for place in places.into_iter().chain(filters).chain(pools).chain(others) {
        // Who refuses a field tells the ones there are.
        let said = proxy::config::Config::parse(&place.replace('X', "no_such_field: 1")).unwrap_err().to_string();
        let known = said.split_once("expected ").unwrap_or_else(|| panic!("{place}: {said}")).1;
        for field in known.split('`').skip(1).step_by(2) {
            assert!(page.contains(&format!("`{field}`")), "{field} of {place}");
            seen += 1;
        }
    }
    assert!(seen > 120, "{seen} fields");
}
