//! Rate limits, alone and shared.

use std::io::Write;
use std::net::SocketAddr;

use crate::stage::*;

#[test]
fn too_many_requests_are_told_when_to_come_back() {
    let (app, _) = named("x");
    let stage = Stage::simple(&[app], "rate_limits: [l]", "", "rate_limits: [{name: l, requests: 3, per: 1h}]");
    let mut client = Client::new(stage.address());
    for left in ["2", "1", "0"] {
        let allowed = client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!((allowed.status, allowed.header("x-ratelimit-remaining")), (200, Some(left)));
        assert_eq!((allowed.header("x-ratelimit-limit"), allowed.header("retry-after")), (Some("3"), None));
    }
    let refused = client.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(
        (refused.status, refused.header("x-ratelimit-limit"), refused.header("x-ratelimit-remaining")),
        (429, Some("3"), Some("0"))
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1000..=1200).contains(&wait), "{wait}");
    assert!(refused.header("x-ratelimit-reset").unwrap().parse::<u64>().unwrap() > 3000);
}

#[test]
fn of_several_limits_the_one_that_leaves_the_fewest_is_told_of_in_answers_of_all_kinds() {
    let (app, _) = named("x");
    let own = app_with_limits();
    let stage = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', routes: [{{matches: [{{path: {{exact: /fixed}}}}], filters: {{respond: {{body: hello}}}}, rate_limits: [many, few]}}, {{matches: [{{path: {{exact: /own}}}}], to: [{{pool: own}}], rate_limits: [many]}}, {{to: [{{pool: app}}], cache: c, rate_limits: [many, few]}}]}}]\npools: [{{name: app, endpoints: [{{address: '{app}'}}]}}, {{name: own, endpoints: [{{address: '{own}'}}]}}]\ncaches: [{{name: c, default_ttl: 1h}}]\nrate_limits: [{{name: many, requests: 100, per: 1h}}, {{name: few, requests: 9, per: 1h}}]"
    ));
    let told = |path: &str| {
        let answer = get(stage.address(), path);
        let all = answer.head.to_ascii_lowercase().matches("x-ratelimit-limit:").count();
        let one = |name| answer.header(name).map(str::to_owned);
        (all, one("x-ratelimit-limit"), one("x-ratelimit-remaining"))
    };
    let few = |left: &str| (1, Some("9".to_owned()), Some(left.to_owned()));
    assert_eq!(told("/fixed"), few("8"));
    // From the endpoint, and then from the cache, which has kept nothing of it.
    assert_eq!([told("/"), told("/")], [few("7"), few("6")]);
    assert_eq!(told("/own"), (1, Some("5".to_owned()), Some("4".to_owned())), "an endpoint's own limits stand");
}

fn app_with_limits() -> SocketAddr {
    app(|_, _| {
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nX-RateLimit-Limit: 5\r\nX-RateLimit-Remaining: 4\r\n\r\n".to_owned()
    })
}

#[test]
fn keys_and_tiers_are_counted_apart() {
    let (app, _) = named("x");
    let limit = "rate_limits: [{name: l, by: [identity, path], requests: 1, per: 1h, tiers: [{requests: 3}]}]";
    let stage = Stage::simple(&[app], "rate_limits: [l]", "", limit);
    let status =
        |path: &str, who: &str| ask(stage.address(), &format!("GET {path} HTTP/1.1\r\nhost: a\r\n{who}\r\n")).status;
    assert_eq!([status("/a", ""), status("/a", ""), status("/b", "")], [200, 429, 200]);
    let ann = "authorization: Bearer ann\r\n";
    assert_eq!([status("/a", ann), status("/a", ann), status("/a", ann), status("/a", ann)], [200, 200, 200, 429]);
    assert_eq!(status("/a", "authorization: Bearer bob\r\n"), 200);
}

#[test]
fn replicas_share_a_limit_and_go_on_alone_when_the_others_are_gone() {
    let (app, _) = named("x");
    let kept = [Kept::new(), Kept::new()];
    let peers = kept.each_ref().map(|one| one.address);
    let start = |own: usize, also: SocketAddr| {
        Stage::simple(
            &[app],
            "rate_limits: [l]",
            "",
            &format!(
                "rate_limits: [{{name: l, by: [{{header: k}}], requests: 10, per: 1h, shared: true}}]\npeers: {{address: '{}', own: '{}', members: ['{}', '{also}'], timeout: 2s}}",
                peers[own], peers[own], peers[own]
            ),
        )
    };
    let (a, b) = (start(0, peers[1]), start(1, peers[0]));
    until("both answer", || peers.iter().all(|p| std::net::TcpStream::connect(p).is_ok()));
    for key in 0..8 {
        let allowed = (0..20)
            .filter(|i| {
                let at = if i % 2 == 0 { a.address() } else { b.address() };
                ask(at, &format!("GET / HTTP/1.1\r\nhost: a\r\nk: {key}\r\n\r\n")).status == 200
            })
            .count();
        assert_eq!(allowed, 10, "key {key}");
    }
    drop(b);
    for key in 100..108 {
        assert_eq!(ask(a.address(), &format!("GET / HTTP/1.1\r\nhost: a\r\nk: {key}\r\n\r\n")).status, 200);
    }
}

/// A question as another replica would ask it; the answer's status, 0 if the connection is closed without one.
fn asked(address: SocketAddr, secret: &str) -> u16 {
    let mut client = Client::new(address);
    let authorization = if secret.is_empty() { String::new() } else { format!("authorization: Bearer {secret}\r\n") };
    let _ = client.stream.write_all(
        format!("POST /v1/take?limit=l&key=7&algorithm=token_bucket&requests=5&per=1000&burst=5 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n{authorization}\r\n").as_bytes(),
    );
    client.receive().map_or(0, |answer| answer.status)
}

#[test]
fn only_replicas_may_ask_a_replica() {
    let (app, _) = named("x");
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "opensesame\n").unwrap();
    let start = |members: &str, more: &str| {
        let kept = Kept::new();
        let peers = kept.address;
        let stage = Stage::simple(
            &[app],
            "rate_limits: [l]",
            "",
            &format!(
                "rate_limits: [{{name: l, requests: 5, per: 1h, shared: true}}]\npeers: {{address: '{peers}', own: '{peers}', members: [{members}]{more}}}"
            ),
        );
        until("it listens", || std::net::TcpStream::connect(peers).is_ok());
        ((stage, kept), peers)
    };
    let (_stage, peers) = start("'127.0.0.1:1'", "");
    assert_eq!(asked(peers, ""), 200, "a member's address");
    let (_stage, peers) = start("'127.0.0.9:1'", "");
    assert_eq!(asked(peers, ""), 0, "somebody else's");
    let (_stage, peers) = start("'127.0.0.9:1'", &format!(", secret: '{}'", secret.display()));
    assert_eq!((asked(peers, ""), asked(peers, "opensesamf"), asked(peers, "opensesame")), (401, 401, 200));
}
