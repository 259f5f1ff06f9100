use serde_json::{Value, json};

use super::client::{Api, brief, revision};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_a_revision_shows_what_came_after_it() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "before"}})).await;
    let (_, list) = api.get(MAPS).await;
    api.made(MAPS, &json!({"metadata": {"name": "after"}})).await;
    let mut events = api.watch(&format!("{MAPS}?watch=1&resourceVersion={}", revision(&list))).await;
    assert_eq!(events.brief().await, brief("ADDED", "after"));
    let (_, changed) = api.patch("merge", &format!("{MAPS}/after"), &json!({"data": {"a": "b"}})).await;
    let event = events.next().await.expect("the watch goes on");
    assert_eq!(event["type"], "MODIFIED");
    assert_eq!(event["object"], changed);
    api.delete(&format!("{MAPS}/after"), &Value::Null).await;
    let event = events.next().await.expect("the watch goes on");
    assert_eq!(event["type"], "DELETED");
    assert!(revision(&event["object"]) > revision(&changed));
    assert_eq!(event["object"]["data"]["a"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_without_a_revision_begins_with_what_is_there() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let mut events = api.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(events.brief().await, brief("ADDED", "a"));
    api.made(MAPS, &json!({"metadata": {"name": "b"}})).await;
    assert_eq!(events.brief().await, brief("ADDED", "b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn initial_events_end_with_a_bookmark_that_says_so() {
    let api = Api::new().await;
    for name in ["a", "b"] {
        api.made(MAPS, &json!({"metadata": {"name": name}})).await;
    }
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = api.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.brief().await, brief("ADDED", "a"));
    assert_eq!(events.brief().await, brief("ADDED", "b"));
    let bookmark = events.next().await.expect("the watch goes on");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "ConfigMap");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let mut resumed = api.watch(&format!("{MAPS}?watch=1&resourceVersion={}", revision(&bookmark["object"]))).await;
    api.made(MAPS, &json!({"metadata": {"name": "c"}})).await;
    assert_eq!(resumed.brief().await, brief("ADDED", "c"));
    assert_eq!(events.brief().await, brief("ADDED", "c"));
    let (code, status) = api.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(code, 422, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_begins_with_a_list_is_no_table() {
    let api = Api::new().await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (accept, code) in [(TABLE.to_owned(), 406), (format!("{TABLE},application/json"), 200)] {
        let path = format!("{MAPS}?{query}&timeoutSeconds=1");
        let answer = api.send(http::Method::GET, &path, &[("accept", &accept)], "").await;
        assert_eq!(answer.status().as_u16(), code, "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_enter_and_leave_a_selection_are_added_and_deleted() {
    let api = Api::new().await;
    let (_, list) = api.get(MAPS).await;
    let mut events =
        api.watch(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes&resourceVersion={}", revision(&list))).await;
    api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    let set = |value: Value| json!({"metadata": {"labels": {"on": value}}});
    let path = format!("{MAPS}/a");
    api.patch("merge", &path, &set(json!("yes"))).await;
    api.patch("merge", &path, &json!({"data": {"k": "v"}})).await;
    let (_, left) = api.patch("merge", &path, &set(json!(null))).await;
    api.patch("merge", &path, &set(json!("yes"))).await;
    api.delete(&path, &Value::Null).await;
    assert_eq!(events.brief().await, brief("ADDED", "a"));
    assert_eq!(events.brief().await, brief("MODIFIED", "a"));
    let gone = events.next().await.expect("the watch goes on");
    assert_eq!(gone["type"], "DELETED");
    assert_eq!(revision(&gone["object"]), revision(&left));
    assert_eq!(gone["object"]["metadata"]["labels"]["on"], "yes");
    assert_eq!(events.brief().await, brief("ADDED", "a"));
    assert_eq!(events.brief().await, brief("DELETED", "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_its_time_is_over_with_a_last_bookmark() {
    let api = Api::new().await;
    let (_, list) = api.get(MAPS).await;
    let mut events = api
        .watch(&format!("{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1&resourceVersion={}", revision(&list)))
        .await;
    assert_eq!(events.next().await.map(|e| e["type"].clone()), Some(json!("BOOKMARK")));
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_namespaces_do_not_show() {
    let api = Api::new().await;
    api.made("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await;
    let (_, list) = api.get(MAPS).await;
    let mut here = api.watch(&format!("{MAPS}?watch=1&resourceVersion={}", revision(&list))).await;
    // The server's own may come at any time.
    let others = "fieldSelector=metadata.namespace!%3Dkube-system";
    let path = format!("/api/v1/configmaps?watch=1&{others}&resourceVersion={}", revision(&list));
    let mut everywhere = api.watch(&path).await;
    api.made("/api/v1/namespaces/other/configmaps", &json!({"metadata": {"name": "x"}})).await;
    api.made(MAPS, &json!({"metadata": {"name": "y"}})).await;
    assert_eq!(here.brief().await, brief("ADDED", "y"));
    assert_eq!(everywhere.brief().await, brief("ADDED", "x"));
    assert_eq!(everywhere.brief().await, brief("ADDED", "y"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_further_back_than_the_cache_reads_the_stores_past() {
    let api = Api::new().await;
    let first = api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    // More changes than the cache keeps.
    for round in 0..90 {
        let patches = (0..50).map(|n| {
            let (api, name) = (&api, format!("{MAPS}/p{n}?fieldManager=t"));
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("p{n}")}, "data": {"r": round.to_string()}});
            async move { api.patch("apply", &name, &object).await }
        });
        futures::future::join_all(patches).await;
    }
    let (_, list) = api.get(MAPS).await;
    assert!(revision(&list) - revision(&first) >= 4500);
    let mut events = api.watch(&format!("{MAPS}?watch=1&resourceVersion={}", revision(&first))).await;
    let (mut seen, mut last) = (0, revision(&first));
    while seen < 4500 {
        let event = events.next().await.expect("the watch goes on");
        assert!(revision(&event["object"]) > last, "{event} after {last}");
        last = revision(&event["object"]);
        seen += 1;
    }
    let made = api.made(MAPS, &json!({"metadata": {"name": "z"}})).await;
    let event = events.next().await.expect("the watch goes on");
    assert_eq!(event["object"], made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_compacted_revision_is_told_that_it_expired() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let store = store::Embedded::open(store::EmbeddedConfig::new(dir.path())).expect("an empty store opens");
    let server = apiserver::ApiServer::new(apiserver::Config::default(), store.clone()).await.expect("it starts");
    let api_of = |server: &std::sync::Arc<apiserver::ApiServer>| server.in_process();
    drop(server.in_process());
    let before = store::Store::revision(&*store);
    use store::Store;
    for n in 0..10 {
        let value = store::Value { bytes: format!("{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"n{n}\",\"namespace\":\"default\",\"resourceVersion\":\"\"}}}}").into(), stamp_at: None };
        let txn = store::Txn {
            compares: vec![],
            changes: vec![store::Change::Put(format!("/registry/configmaps/default/n{n}").into(), value)],
        };
        store.txn(txn).await.expect("it commits");
    }
    store.compact(store.revision()).await.expect("it compacts");
    drop(server);
    // A new server's cache begins after the compaction.
    let server = apiserver::ApiServer::new(apiserver::Config::default(), store.clone()).await.expect("it starts");
    let request = http::Request::get(format!("{MAPS}?watch=1&resourceVersion={before}"))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("valid");
    let response = tower::ServiceExt::oneshot(api_of(&server), request).await.expect("never fails");
    let text = response.into_body().collect_bytes().await.expect("the watch ends");
    let event: Value = serde_json::from_slice(&text).expect("one event");
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired")),
        "{event}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_see_every_change() {
    let api = Api::new().await;
    let (_, list) = api.get(MAPS).await;
    let path = format!("{MAPS}?watch=1&resourceVersion={}", revision(&list));
    let mut watchers = Vec::new();
    for _ in 0..1000 {
        watchers.push(api.watch(&path).await);
    }
    for n in 0..5 {
        api.made(MAPS, &json!({"metadata": {"name": format!("m{n}")}})).await;
    }
    for watcher in &mut watchers {
        for n in 0..5 {
            assert_eq!(watcher.brief().await, brief("ADDED", &format!("m{n}")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lists_and_then_watches_hears_of_the_end_of_what_was_seen_though_the_name_is_taken_at_once() {
    let api = Api::new().await;
    let named = format!("{MAPS}?fieldSelector=metadata.name%3Da");
    let over = std::sync::atomic::AtomicBool::new(false);
    let churn = async {
        for _ in 0..300 {
            api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
            api.delete(&format!("{MAPS}/a"), &Value::Null).await;
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    // As `kubectl delete` waits.
    let follow = async || {
        let mut heard = 0;
        loop {
            let (_, list) = api.get(&named).await;
            let Some(uid) = list["items"][0]["metadata"]["uid"].as_str() else {
                if over.load(std::sync::atomic::Ordering::SeqCst) {
                    return heard;
                }
                tokio::task::yield_now().await;
                continue;
            };
            let mut events = api.watch(&format!("{named}&watch=1&resourceVersion={}", revision(&list))).await;
            loop {
                let event = events.next().await.expect("the watch goes on");
                if event["type"] == "DELETED" && event["object"]["metadata"]["uid"] == uid {
                    break;
                }
            }
            heard += 1;
        }
    };
    let all = async { tokio::join!(churn, follow(), follow(), follow(), follow()) };
    let ((), a, b, c, d) =
        tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("every end is heard of");
    assert!(a + b + c + d > 0, "none was seen");
}
