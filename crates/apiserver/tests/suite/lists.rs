use http::Method;
use serde_json::{Value, json};

use super::client::{Api, revision};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn with_maps(count: usize) -> Api {
    let api = Api::new().await;
    for n in 0..count {
        let labels = json!({"parity": if n % 2 == 0 { "even" } else { "odd" }});
        api.made(MAPS, &json!({"metadata": {"name": format!("m{n:03}"), "labels": labels}})).await;
    }
    api
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_one_moment_even_if_objects_come_and_go() {
    let api = with_maps(10).await;
    let (_, first) = api.get(&format!("{MAPS}?limit=4")).await;
    assert_eq!(names(&first), ["m000", "m001", "m002", "m003"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 6);
    api.made(MAPS, &json!({"metadata": {"name": "m004x"}})).await;
    api.delete(&format!("{MAPS}/m005"), &Value::Null).await;
    let mut seen = names(&first);
    let mut page = first.clone();
    while let Some(token) = page["metadata"]["continue"].as_str() {
        let (code, next) = api.get(&format!("{MAPS}?limit=4&continue={token}")).await;
        assert_eq!(code, 200, "{next}");
        assert_eq!(revision(&next), revision(&first));
        seen.extend(names(&next));
        page = next;
    }
    assert_eq!(seen, (0..10).map(|n| format!("m{n:03}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_hand_comes_whole() {
    let api = with_maps(3).await;
    // What is at hand is all there is once the newest has been asked for.
    assert_eq!(names(&api.get(MAPS).await.1).len(), 3);
    let (_, list) = api.get(&format!("{MAPS}?resourceVersion=0&limit=2")).await;
    assert_eq!(names(&list), ["m000", "m001", "m002"]);
    assert!(list["metadata"].get("continue").is_none(), "{}", list["metadata"]);
    let (_, page) = api.get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=NotOlderThan&limit=2")).await;
    assert_eq!(names(&page), ["m000", "m001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_but_the_last_tells_how_many_are_left() {
    let api = with_maps(7).await;
    api.made("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await;
    api.made("/api/v1/namespaces/other/configmaps", &json!({"metadata": {"name": "m000"}})).await;
    for disturbed in [false, true] {
        let (mut query, mut left) = (format!("{MAPS}?limit=2"), Vec::new());
        loop {
            let (_, page) = api.get(&query).await;
            left.push(page["metadata"]["remainingItemCount"].clone());
            let Some(token) = page["metadata"]["continue"].as_str() else { break };
            query = format!("{MAPS}?limit=2&continue={token}");
            if disturbed {
                // From here on, pages come from the past.
                api.patch("merge", &format!("{MAPS}/m000"), &json!({"data": {"k": token}})).await;
            }
        }
        assert_eq!(left, [json!(5), json!(3), json!(1), Value::Null], "disturbed: {disturbed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_choose_by_label_and_field() {
    let api = with_maps(6).await;
    for (query, wanted) in [
        ("labelSelector=parity%3Deven", vec!["m000", "m002", "m004"]),
        ("labelSelector=parity%20in%20(odd)&limit=2", vec!["m001", "m003"]),
        ("labelSelector=!parity", vec![]),
        ("fieldSelector=metadata.name%3Dm003", vec!["m003"]),
        ("fieldSelector=metadata.name!%3Dm003&labelSelector=parity%3Dodd", vec!["m001", "m005"]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
    ] {
        let (code, list) = api.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(code, 200, "{query}: {list}");
        assert_eq!(names(&list), wanted, "{query}");
    }
    for query in
        ["labelSelector=%3D%3D", "fieldSelector=spec.nope%3Dx", "limit=x", "continue=%21", "resourceVersionMatch=Exact"]
    {
        let (code, status) = api.get(&format!("{MAPS}?{query}")).await;
        assert!(matches!(code, 400 | 422), "{query}: {code} {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_be_had_as_of_an_earlier_revision() {
    let api = with_maps(3).await;
    let (_, before) = api.get(MAPS).await;
    api.delete(&format!("{MAPS}/m001"), &Value::Null).await;
    let at = revision(&before);
    let (_, exact) = api.get(&format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=Exact")).await;
    assert_eq!(names(&exact), ["m000", "m001", "m002"]);
    // Without a version it is the newest, and nothing that is read later is older.
    assert_eq!(names(&api.get(MAPS).await.1), ["m000", "m002"]);
    // "Not older" than before the deletion may still show it; not older than after may not.
    let at = revision(&api.get(MAPS).await.1);
    let (_, newer) = api.get(&format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=NotOlderThan")).await;
    assert_eq!(names(&newer), ["m000", "m002"]);
    let (code, status) = api.get(&format!("{MAPS}?resourceVersion=1000000")).await;
    assert_eq!(code, 504);
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_namespaces_are_listed_together() {
    let api = with_maps(1).await;
    api.made("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await;
    api.made("/api/v1/namespaces/other/configmaps", &json!({"metadata": {"name": "x"}})).await;
    // The system keeps one of its own.
    let (_, all) = api.get("/api/v1/configmaps?fieldSelector=metadata.namespace!%3Dkube-system").await;
    assert_eq!(names(&all), ["m000", "x"]);
    let (_, one) = api.get(MAPS).await;
    assert_eq!(names(&one), ["m000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_lists_are_compressed_for_those_who_can_read_it() {
    let api = Api::new().await;
    for n in 0..4 {
        api.made(MAPS, &json!({"metadata": {"name": format!("big{n}")}, "data": {"k": "x".repeat(60_000)}})).await;
    }
    let plain = api.send(Method::GET, MAPS, &[], "").await;
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.into_body().collect_bytes().await.expect("bodies end well");
    let packed = api.send(Method::GET, MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.into_body().collect_bytes().await.expect("bodies end well");
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut unpacked).expect("it is gzip");
    assert_eq!(unpacked, plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_as_metadata_alone_if_asked() {
    let api = with_maps(2).await;
    let accept = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json")];
    let list =
        api.send(Method::GET, MAPS, &accept, "").await.into_body().collect_bytes().await.expect("bodies end well");
    let list: Value = serde_json::from_slice(&list).expect("a list");
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][1]["kind"], "PartialObjectMetadata");
    assert_eq!(names(&list), ["m000", "m001"]);
    let unknown = [("accept", "application/json;as=PartialObjectMetadataList;v=v1alpha1;g=meta.k8s.io")];
    assert_eq!(api.send(Method::GET, MAPS, &unknown, "").await.status(), 406);
}
