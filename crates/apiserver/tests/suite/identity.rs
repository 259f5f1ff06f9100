use std::{collections::HashMap, sync::Arc};

use apiserver::{Action, Authorizer, Config, Decision, User};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::client::Api;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_service_account_lives_as_long_as_the_account() {
    let api = Api::new().await;
    let account = api.made(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).await;
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 900}});
    let (code, answer) = api.post(&format!("{ACCOUNTS}/robot/token"), &request).await;
    assert_eq!(code, 201, "{answer}");
    let review = |token: &serde_json::Value| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, good) = api.post(reviews, &review(&answer["status"]["token"])).await;
    assert_eq!(good["status"]["authenticated"], true, "{good}");
    assert_eq!(good["status"]["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(good["status"]["user"]["uid"], account["metadata"]["uid"]);
    let id = &good["status"]["user"]["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(id.as_str().is_some_and(|id| id.starts_with("JTI=") && id.len() == "JTI=".len() + 36), "{id}");
    let text = answer["status"]["token"].as_str().expect("a token");
    // The first letter of the signature: of the last one not all bits count.
    let (signed, signature) = text.rsplit_once('.').expect("three parts");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    for bad in [json!(forged), json!("nonsense"), json!("a.b.c")] {
        let (_, answer) = api.post(reviews, &review(&bad)).await;
        assert_ne!(answer["status"]["authenticated"], true, "{bad}");
    }
    api.delete(&format!("{ACCOUNTS}/robot"), &serde_json::Value::Null).await;
    api.made(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).await;
    let (_, gone) = api.post(reviews, &review(&answer["status"]["token"])).await;
    assert_ne!(gone["status"]["authenticated"], true, "the account is another one now");
    let short = json!({"spec": {"expirationSeconds": 10}});
    assert_eq!(api.post(&format!("{ACCOUNTS}/robot/token"), &short).await.0, 422);
    let (code, other) = api.post(&format!("{ACCOUNTS}/robot/token"), &json!({"metadata": {"name": "other"}})).await;
    let words = "TokenRequest.authentication.k8s.io \"robot\" is invalid: metadata.name: Invalid value: \"other\": must \
                 match the service account name if specified";
    assert_eq!((code, other["message"].as_str()), (422, Some(words)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_secret_is_good_while_that_secret_holds_it() {
    let api = Api::new().await;
    let account = api.made(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).await;
    let uid = account["metadata"]["uid"].as_str().expect("a uid");
    let token = api.server.secret_token("default", "robot", uid, "key").expect("the key signs");
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let (_, early) = api.post(reviews, &review).await;
    assert_ne!(early["status"]["authenticated"], true, "no Secret holds it");
    let secrets = "/api/v1/namespaces/default/secrets";
    let annotations = json!({"kubernetes.io/service-account.name": "robot"});
    let secret = json!({
        "metadata": {"name": "key", "annotations": annotations},
        "type": "kubernetes.io/service-account-token",
        "stringData": {"token": token},
    });
    api.made(secrets, &secret).await;
    // A read waits for what was written; credentials are looked at as they are known.
    api.get(&format!("{secrets}/key")).await;
    let (_, good) = api.post(reviews, &review).await;
    assert_eq!(good["status"]["authenticated"], true, "{good}");
    assert_eq!(good["status"]["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(good["status"]["user"]["uid"], uid);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string();
    let label = "kubernetes.io/legacy-token-last-used";
    let mut changes = api.watch(&format!("{secrets}?watch=true&fieldSelector=metadata.name%3Dkey")).await;
    loop {
        let seen = changes.next().await.expect("the day of the use is noted");
        // A night may have begun meanwhile.
        if seen["object"]["metadata"]["labels"][label].as_str().is_some_and(|day| day >= today.as_str()) {
            break;
        }
    }
    let since = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    assert!(api.get(since).await.1["data"]["since"].is_string());
    let withdrawn = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}});
    assert_eq!(api.patch("merge", &format!("{secrets}/key"), &withdrawn).await.0, 200);
    api.get(&format!("{secrets}/key")).await;
    let (_, gone) = api.post(reviews, &review).await;
    assert_ne!(gone["status"]["authenticated"], true, "it was withdrawn");
}

struct OnlyReads;

impl Authorizer for OnlyReads {
    fn authorize(&self, user: &User, action: &Action<'_>) -> Decision {
        let admin = user.groups.iter().any(|g| g == "system:masters");
        if admin || matches!(action.verb, "get" | "list" | "watch") {
            Decision::Allow
        } else {
            Decision::Deny(String::new())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_authorizer_denies_is_forbidden_in_upstreams_words() {
    let mut api = Api::with(Config { authorizer: Arc::new(OnlyReads), ..Config::default() }).await;
    api.as_user(User::new("jane", &["dev"]));
    let (code, status) = api.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "a"}})).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "configmaps is forbidden: User \"jane\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(api.get("/api/v1/namespaces/default/configmaps").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_acts_as_someone_else() {
    let mut api = Api::with(Config { authorizer: Arc::new(OnlyReads), ..Config::default() }).await;
    let who = async |api: &Api, headers: &[(&str, &str)]| {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let response = api.send(Method::POST, reviews, &headers, "{}").await;
        let bytes = response.into_body().collect().await.expect("bodies end well").to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).expect("it is JSON");
        if answer["kind"] == "Status" { answer["message"].clone() } else { answer["status"]["userInfo"].clone() }
    };
    api.as_user(User::admin("root"));
    let masters = ("impersonate-group", "system:masters");
    let jane = [
        ("impersonate-user", "jane"),
        ("impersonate-uid", "abc"),
        masters,
        ("impersonate-group", ",,,chameleon"),
        ("impersonate-extra-example.com%2fscope", "one"),
        ("impersonate-extra-example.com%2fscope", "two"),
    ];
    let expected = json!({
        "username": "jane",
        "uid": "abc",
        "groups": ["system:masters", ",,,chameleon", "system:authenticated"],
        "extra": {"example.com/scope": ["one", "two"]},
    });
    assert_eq!(who(&api, &jane).await, expected);
    let nobody = who(&api, &[("impersonate-user", "system:anonymous"), masters]).await;
    assert_eq!(nobody["groups"], json!(["system:masters", "system:unauthenticated"]));
    let words = "selfsubjectreviews.authentication.k8s.io is forbidden: User \"system:serviceaccount:default:robot\" cannot \
                 create resource \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope";
    assert_eq!(who(&api, &[("impersonate-user", "system:serviceaccount:default:robot")]).await, words);
    let words = "Internal error occurred: requested a uid, groups or extra without impersonating a user";
    assert_eq!(who(&api, &[masters]).await, words);
    api.as_user(User::new("joe", &["dev"]));
    let words = "users \"jane\" is forbidden: User \"joe\" cannot impersonate resource \"users\" in API group \"\" at the \
                 cluster scope";
    assert_eq!(who(&api, &jane).await, words);
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_say_who_one_is_and_what_one_may() {
    let mut api =
        Api::with(Config { authorizer: Arc::new(OnlyReads), tokens: HashMap::new(), ..Config::default() }).await;
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    for (verb, allowed) in [("get", true), ("delete", false)] {
        let review = json!({"spec": {"user": "jane", "resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "default"}}});
        let (code, answer) = api.post(path, &review).await;
        assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(allowed)), "{answer}");
    }
    api.as_user(User::admin("root"));
    let (_, me) = api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await;
    assert_eq!(
        me["status"]["userInfo"],
        json!({"username": "root", "groups": ["system:masters", "system:authenticated"]})
    );
    let mine = json!({"spec": {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}});
    let (_, answer) = api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &mine).await;
    assert_eq!(answer["status"]["allowed"], true);
}
