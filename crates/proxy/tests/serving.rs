//! Reload, end, and what is told of it.

use std::time::Duration;

use proxy::config::Config;

use crate::stage::*;

fn yaml(address: &str, app: std::net::SocketAddr) -> String {
    format!(
        "listeners: [{{address: '{address}', routes: [{{to: [{{pool: app}}]}}]}}]\npools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]"
    )
}

#[test]
fn a_new_configuration_is_in_force_at_once_and_drops_no_connection() {
    let ((old, _), (new, _)) = (named("old"), named("new"));
    let stage = Stage::new(&yaml("127.0.0.1:0", old));
    let mut client = Client::new(stage.address());
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").text(), "old");
    stage.reload(&yaml(&stage.address().to_string(), new));
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").text(), "new");
    assert_eq!(get(stage.address(), "/").text(), "new");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broken = Config::parse(&yaml(&taken.local_addr().unwrap().to_string(), old)).unwrap();
    assert!(stage.runtime.block_on(async { stage.proxy.reload(broken) }).is_err(), "the address is taken");
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").text(), "new");
}

#[test]
fn a_broken_configuration_is_refused_with_its_line_and_reason() {
    let error = Config::parse("listeners:\n- address: ':80'\n  routes:\n  - to: [{pool: nowhere}]\n").unwrap_err();
    assert!(
        error.to_string().contains("there is no pool \"nowhere\"") && error.field.starts_with("listeners[0].routes[0]"),
        "{error}"
    );
    let error = Config::parse("listeners:\n- address: ':80'\n  rutes: []\n").unwrap_err();
    assert!(error.line.is_some() && error.to_string().contains("rutes"), "{error}");
}

#[test]
fn who_is_answered_before_the_listeners_close_is_told_to_come_back_by_another_connection() {
    let (app, _) = named("x");
    let stage = Stage::new(&yaml("127.0.0.1:0", app));
    let mut client = Client::new(stage.address());
    assert_eq!(client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").header("connection"), None);
    stage.serving.leaving().cancel();
    let answer = client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "no request is lost");
    assert_eq!(client.rest(), b"");
    let late = get(stage.address(), "/");
    assert_eq!((late.status, late.header("connection")), (200, Some("close")), "it still listens");
}

#[test]
fn what_is_under_way_is_finished_when_the_end_comes() {
    let (begun, begins) = std::sync::mpsc::channel();
    let begun = std::sync::Mutex::new(begun);
    let app = app(move |_, _| {
        begun.lock().unwrap().send(()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        ok("done")
    });
    let stage = Stage::new(&yaml("127.0.0.1:0", app));
    let mut idle = Client::new(stage.address());
    let mut busy = Client::new(stage.address());
    busy.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    begins.recv_timeout(DEADLINE).unwrap();
    stage.serving.stopping().cancel();
    assert_eq!(idle.rest(), b"", "who waits is let go");
    let answer = busy.receive().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    stage.runtime.block_on(stage.proxy.ended());
    assert!(std::net::TcpStream::connect(stage.address()).is_err());
}

#[test]
fn metrics_tell_of_routes_pools_and_endpoints() {
    let (app, _) = named("x");
    let stage = Stage::new(&yaml("127.0.0.1:0", app));
    let collector = proxy::metrics::SiteCollector(stage.proxy.shared().clone());
    stage.serving.admin().metrics(|registry| registry.register_collector(Box::new(collector)));
    assert_eq!(get(stage.address(), "/").status, 200);
    until("it is counted", || {
        stage
            .serving
            .admin()
            .encode()
            .contains("hythe_proxy_requests_total{listener=\"127.0.0.1:0\",route=\"0\",code=\"2xx\"} 1")
    });
    let text = stage.serving.admin().encode();
    assert!(
        text.contains(&format!("hythe_proxy_endpoint_requests_total{{pool=\"app\",endpoint=\"{app}\"}} 1")),
        "{text}"
    );
    assert!(text.contains("hythe_proxy_duration_seconds_count{") && text.ends_with("# EOF\n"), "{text}");
}
