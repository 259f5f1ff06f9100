//! What a root makes of its leaves' answers.

use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::leaves::{Temper, ask, config_over, get, leaf, leaves, root, root_over};

fn missing(body: &Value) -> Vec<(&str, &str)> {
    let missing = body["leaves"]["missing"].as_array().unwrap();
    missing.iter().map(|one| (one["name"].as_str().unwrap(), one["reason"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_query_goes_to_all_leaves_and_their_items_are_united() {
    let leaves = leaves([Temper::Says(json!([1, 2])), Temper::Says(json!({"items": [2, 3]}))]).await;
    let answer = ask(&root(&leaves, ""), get("/api/v1/search?q=x")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let expected = json!({
        "kind": "GatherResult", "apiVersion": "v1", "items": [1, 2, 3], "partial": false,
        "leaves": {"asked": 2, "answered": 2, "missing": []},
    });
    assert_eq!(answer.body, expected);
}

#[tokio::test]
async fn leaves_that_fail_in_any_way_are_named_and_the_others_answer() {
    let tempers = [
        Temper::Says(json!([1])),
        Temper::Hangs,
        Temper::Status(500),
        Temper::Status(404),
        Temper::Raw(b"this is no HTTP\r\n\r\n"),
        Temper::Raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
        Temper::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,"),
        Temper::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope"),
        Temper::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"),
        Temper::Says(json!({"items": "none"})),
    ];
    let mut leaves = leaves(tempers).await;
    // Nobody listens where a leaf has ended.
    leaves.push(leaf(Temper::Hangs).await);
    let mut addresses: Vec<String> = leaves.iter().map(|leaf| leaf.address.to_string()).collect();
    addresses[10] = "127.0.0.1:1".into();
    addresses.push("nobody.invalid:80".into());
    let answer = ask(&root_over(&addresses, "deadline: 1s\n"), get("/api/v1/x")).await;
    assert_eq!(
        (answer.status, &answer.body["items"], &answer.body["partial"]),
        (StatusCode::OK, &json!([1]), &json!(true))
    );
    assert_eq!(answer.body["leaves"]["answered"], 1);
    let named: Vec<(&str, &str)> = missing(&answer.body).into_iter().filter(|(name, _)| *name != "l").collect();
    assert_eq!(
        named,
        [
            ("b", "Deadline"),
            ("c", "Status"),
            ("d", "Status"),
            ("e", "Broken"),
            ("f", "Broken"),
            ("g", "Broken"),
            ("h", "Broken"),
            ("i", "Broken"),
            ("j", "Broken"),
            ("k", "Connect"),
        ]
    );
    // A name that does not exist: at once where a server says so, by the deadline where none answers.
    assert!(answer.missing.contains(&"l".to_owned()), "{:?}", answer.missing);
}

#[tokio::test]
async fn too_few_answers_are_a_failure_that_names_its_cause() {
    let hanging = leaves([Temper::Says(json!([])), Temper::Hangs]).await;
    let answer = ask(&root(&hanging, "deadline: 200ms\nminimumLeaves: 0\n"), get("/api/v1/x")).await;
    assert_eq!((answer.status, &answer.body["reason"]), (StatusCode::GATEWAY_TIMEOUT, &json!("Deadline")));
    assert_eq!(answer.missing, ["b"]);
    let failing = leaves([Temper::Status(500), Temper::Raw(b"?")]).await;
    let answer = ask(&root(&failing, ""), get("/api/v1/x")).await;
    assert_eq!((answer.status, &answer.body["reason"]), (StatusCode::BAD_GATEWAY, &json!("TooFewLeaves")));
    let refusing = leaves([Temper::Status(422), Temper::Status(422)]).await;
    let answer = ask(&root(&refusing, ""), get("/api/v1/x")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["answer"]), (422, &json!({"message": "no"})));
}

#[tokio::test]
async fn a_second_level_gets_less_time_and_tells_what_it_misses() {
    let below = leaves([Temper::Echo, Temper::Hangs]).await;
    let inner = std::sync::Arc::new(root(&below, "deadline: 10s\n"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(http_ends::serve(listener, Default::default(), move |request, _| {
        let inner = inner.clone();
        async move {
            let (head, _) = request.into_parts();
            let mut incoming = get(&head.uri.to_string());
            incoming.headers = head.headers;
            let answer = inner.answer(incoming).await;
            http_ends::json(answer.status, answer.body.to_string())
        }
    }));
    let outer = root_over(&[address.to_string()], "deadline: 10s\n");
    let mut incoming = get("/api/v1/x");
    incoming.headers.insert("x-request-timeout-ms", HeaderValue::from_static("500"));
    incoming.headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
    incoming.headers.insert("connection", HeaderValue::from_static("x-hop"));
    incoming.headers.insert("x-hop", HeaderValue::from_static("1"));
    incoming.trace = Some(HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let answer = ask(&outer, incoming).await;
    server.abort();
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let seen = &answer.body["items"][0]["headers"];
    let time: u64 = seen["x-request-timeout-ms"].as_str().unwrap().parse().unwrap();
    // Each level keeps 20 ms of so much; what passed in between comes off too.
    assert!(time <= 460, "{time}");
    assert_eq!(seen["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert!(seen.get("x-hop").is_none() && seen.get("accept-encoding").is_none(), "{seen}");
    assert_eq!(missing(&answer.body), [("a/b", "Deadline")]);
    assert_eq!(answer.body["partial"], true);
}

#[tokio::test]
async fn words_are_dealt_out_and_their_answers_intersected() {
    let echoes = leaves([Temper::Echo, Temper::Echo]).await;
    let more = "\
routes:
- path: /api/v1/search
  leafPath: /find
  spread: {kind: terms, parameter: q}
  merge: {kind: union}
- path: /api/v1/search/both
  spread: {kind: terms, parameter: q}
  merge: {kind: intersection, key: /method}
";
    let root = root(&echoes, more);
    let answer = ask(&root, get("/api/v1/search?q=cat+dog+fish")).await;
    let asked: Vec<&str> =
        answer.body["items"].as_array().unwrap().iter().map(|item| item["uri"].as_str().unwrap()).collect();
    assert_eq!(asked, ["/find?q=cat", "/find?q=dog", "/find?q=fish"]);
    let answer = ask(&root, get("/api/v1/search/both?q=cat+dog")).await;
    assert_eq!(answer.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(ask(&root, get("/api/v1/search?p=1")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ask(&root, get("/api/v1/other")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_users_function_merges_over_http() {
    let shards = leaves([Temper::Says(json!({"n": 1})), Temper::Says(json!({"n": 2})), Temper::Status(503)]).await;
    let function = leaf(Temper::Echo).await;
    let more = format!(
        "routes: [{{path: /api/v1/, merge: {{kind: function, url: \"http://{}/merge\"}}}}]\n",
        function.address
    );
    let answer = ask(&root(&shards, &more), get("/api/v1/x")).await;
    let seen = &answer.body["result"]["items"][0];
    assert_eq!((seen["method"].as_str(), seen["uri"].as_str()), (Some("POST"), Some("/merge")));
    let sent: Value = serde_json::from_str(seen["body"].as_str().unwrap()).unwrap();
    assert_eq!(sent["leaves"], json!([{"name": "a", "body": {"n": 1}}, {"name": "b", "body": {"n": 2}}]));
    assert_eq!(sent["missing"][0]["name"], "c");
    let more = "routes: [{path: /api/v1/, merge: {kind: function, url: \"http://127.0.0.1:1/\"}}]\n";
    let answer = ask(&root(&shards, more), get("/api/v1/x")).await;
    assert_eq!((answer.status, &answer.body["reason"]), (StatusCode::BAD_GATEWAY, &json!("FunctionFailed")));
}

#[tokio::test]
async fn bodies_and_methods_reach_every_leaf() {
    let echoes = leaves([Temper::Echo]).await;
    let mut incoming = get("/api/v1/x");
    incoming.method = Method::POST;
    incoming.body = "{\"q\": 1}".into();
    let answer = ask(&root(&echoes, ""), incoming).await;
    assert_eq!(
        (&answer.body["items"][0]["method"], &answer.body["items"][0]["body"]),
        (&json!("POST"), &json!("{\"q\": 1}"))
    );
}

#[tokio::test]
async fn more_requests_than_allowed_are_told_to_come_back() {
    let hanging = leaves([Temper::Hangs]).await;
    let root = root(&hanging, "deadline: 300ms\nlimits: {requests: 1}\n");
    let (first, second) = tokio::join!(ask(&root, get("/api/v1/x")), ask(&root, get("/api/v1/x")));
    assert_eq!((first.status, second.status), (StatusCode::GATEWAY_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(second.retry_after, Some(1));
    assert_eq!(ask(&root, get("/api/v1/x")).await.status, StatusCode::GATEWAY_TIMEOUT, "there is room again");
}

#[test]
fn a_configuration_that_cannot_be_used_names_its_field() {
    use scatter::config::Config;
    let leaf = "leaves: [{name: a, replicas: [\"h:1\"]}]\n";
    for (more, field) in [
        ("deadline: 0s", "deadline"),
        ("hedge: {percentile: 100}", "hedge.percentile"),
        ("minimumLeaves: 2", "minimumLeaves"),
        ("routes: [{path: /x}]", "routes[0].path"),
        ("routes: [{path: /api/v1/, merge: {kind: topK, k: 0, by: /s}}]", "routes[0].merge.k"),
        ("routes: [{path: /api/v1/, merge: {kind: union, items: x}}]", "routes[0].merge.items"),
        ("routes: [{path: /api/v1/, merge: {kind: function, url: \"ftp://h\"}}]", "routes[0].merge.url"),
        ("limits: {perLeaf: 0}", "limits.perLeaf"),
    ] {
        assert_eq!(Config::parse(&format!("{leaf}{more}\n")).unwrap_err().field, field, "{more}");
    }
    for text in [
        "leaves: []",
        "leaves: [{name: \"a b\", replicas: [\"h:1\"]}]",
        "leaves: [{name: a, replicas: [h]}]",
        "leaves: [{name: a, replicas: [\"::1:80\"]}]",
        "leaves: [{name: a, replicas: []}]",
        "leafs: []",
        "",
    ] {
        assert!(Config::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_configuration_reads_back_as_it_was_written() {
    let more = "\
deadline: 2s
leafDeadline: 1500ms
routes:
- {path: /api/v1/search, spread: {kind: terms, parameter: q}, merge: {kind: topK, k: 10, by: /score, kParameter: limit}}
- {path: /api/v1/count, leafPath: /n, merge: {kind: sum, value: /count}}
- {path: /api/v1/f, merge: {kind: function, url: \"http://localhost:1/\"}}
";
    let config = config_over(&["[::1]:80".into(), "shard-1.search:80".into()], more);
    let written = serde_yaml_ng::to_string(&config).unwrap();
    assert_eq!(scatter::config::Config::parse(&written).unwrap(), config, "{written}");
}
