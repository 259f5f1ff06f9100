use futures::future::join_all;
use serde_json::{Value, json};

use super::client::{Api, revision};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn of_many_updates_from_one_version_one_wins() {
    let api = Api::new().await;
    let made = api.made(MAPS, &json!({"metadata": {"name": "a"}, "data": {}})).await;
    let path = format!("{MAPS}/a");
    let updates = (0..16).map(|n| {
        let mut mine = made.clone();
        mine["data"] = json!({"n": n.to_string()});
        let (api, path) = (&api, &path);
        async move { api.put(path, &mine).await }
    });
    let answers = join_all(updates).await;
    assert_eq!(answers.iter().filter(|(code, _)| *code == 200).count(), 1);
    for (code, status) in answers.iter().filter(|(code, _)| *code != 200) {
        assert_eq!(*code, 409);
        assert_eq!(status["reason"], "Conflict");
        assert_eq!(
            status["message"],
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_without_a_version_all_land() {
    let api = Api::new().await;
    api.made(MAPS, &json!({"metadata": {"name": "a"}, "data": {}})).await;
    let path = format!("{MAPS}/a");
    let patches = (0..12).map(|n| {
        let (api, path) = (&api, &path);
        async move { api.patch("merge", path, &json!({"data": {format!("k{n}"): "v"}})).await }
    });
    for (code, answer) in join_all(patches).await {
        assert_eq!(code, 200, "{answer}");
    }
    let (_, object) = api.get(&path).await;
    assert_eq!(object["data"].as_object().map(|d| d.len()), Some(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_changes_nothing_keeps_the_version() {
    let api = Api::new().await;
    let made = api.made(MAPS, &json!({"metadata": {"name": "a"}, "data": {"a": "b"}})).await;
    let (code, same) = api.put(&format!("{MAPS}/a"), &made).await;
    assert_eq!((code, revision(&same)), (200, revision(&made)));
    let (code, same) = api.patch("merge", &format!("{MAPS}/a"), &json!({"data": {"a": "b"}})).await;
    assert_eq!((code, revision(&same)), (200, revision(&made)));
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_names_are_free_ones() {
    let api = Api::new().await;
    let body = json!({"metadata": {"generateName": "g-"}});
    let made = join_all((0..20).map(|_| api.made(MAPS, &body))).await;
    let mut names: Vec<String> =
        made.iter().filter_map(|o| o["metadata"]["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
    assert!(names.iter().all(|n| n.len() == 7 && n.starts_with("g-")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_uid_is_a_conflict() {
    let api = Api::new().await;
    let mut made = api.made(MAPS, &json!({"metadata": {"name": "a"}})).await;
    made["metadata"]["uid"] = "other".into();
    let (code, status) = api.put(&format!("{MAPS}/a"), &made).await;
    assert_eq!(code, 409);
    assert!(
        status["message"].as_str().is_some_and(|m| m.contains("Precondition failed: UID in precondition: other")),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_what_it_wrote() {
    let api = Api::new().await;
    for n in 0..50 {
        let made = api.made(MAPS, &json!({"metadata": {"name": format!("m{n}")}})).await;
        let (code, got) = api.get(&format!("{MAPS}/m{n}")).await;
        assert_eq!((code, &got), (200, &made));
        let (_, list) = api.get(MAPS).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(n + 1));
        assert!(revision(&list) >= revision(&made));
    }
}

/// The protocol of client libraries' leader election: whoever writes an expired Lease first has it.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_take_an_expired_lease_one_has_it() {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let api = Api::new().await;
    let term = |holder: &str, transitions: u64, micros: u64| {
        json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": transitions,
            "acquireTime": "2026-01-01T00:00:00.000000Z", "renewTime": format!("2026-01-01T00:00:00.{micros:06}Z")})
    };
    // Nobody has one yet: of those who make it, one does.
    let lease = json!({"metadata": {"name": "leader"}, "spec": term("0", 0, 1)});
    let made = futures::future::join_all((0..5).map(|_| api.post(LEASES, &lease))).await;
    let codes = |answers: &[(u16, Value)], code: u16| answers.iter().filter(|(c, _)| *c == code).count();
    assert_eq!((codes(&made, 201), codes(&made, 409)), (1, 4));
    let path = format!("{LEASES}/leader");
    for round in 1..=20 {
        let (_, seen) = api.get(&path).await;
        assert_eq!(seen["spec"]["leaseTransitions"], round - 1);
        let take = |candidate: u64| {
            let mut lease = seen.clone();
            lease["spec"] = term(&candidate.to_string(), round, round * 10 + candidate);
            let (api, path) = (&api, &path);
            async move { (candidate, api.put(path, &lease).await) }
        };
        let answers = futures::future::join_all((0..5).map(take)).await;
        let won: Vec<u64> = answers.iter().filter(|(_, (code, _))| *code == 200).map(|(who, _)| *who).collect();
        let [winner] = won.as_slice() else { panic!("{won:?} have it") };
        assert!(answers.iter().all(|(_, (code, _))| [200, 409].contains(code)), "{answers:?}");
        let (_, now) = api.get(&path).await;
        assert_eq!(now["spec"]["holderIdentity"], winner.to_string());
        // Terms are told apart by the microsecond.
        assert_eq!(now["spec"]["renewTime"], format!("2026-01-01T00:00:00.{:06}Z", round * 10 + winner));
    }
}
