//! Secrets that are to hold a service account's token.

use controllers::{Config, TokenSigner};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::world::World;

async fn world() -> World {
    let signer = TokenSigner::new(|namespace, account, uid, secret| {
        if uid.is_empty() { Err("no uid".into()) } else { Ok(format!("{namespace}/{account}/{secret}")) }
    });
    World::configured(&["node-a"], Config { tokens: Some(signer), ..Config::new("CA") }).await
}

fn secret(name: &str, account: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token",
    })
}

fn holds(secret: &Secret, key: &str, value: &str) -> bool {
    secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|found| found.0 == value.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gets_its_accounts_token_back_and_goes_with_the_account() {
    let world = world().await;
    let account: ServiceAccount = world.create(json!({"metadata": {"name": "robot"}})).await;
    let _: Secret = world.create(secret("key", "robot")).await;
    let is_full = |s: &Secret| {
        holds(s, "token", "default/robot/key") && holds(s, "ca.crt", "CA") && holds(s, "namespace", "default")
    };
    let full = world.until_one("key", "the token", is_full).await;
    assert_eq!(full.annotations().get("kubernetes.io/service-account.uid"), account.uid().as_ref());
    let _: Secret = world.merge("key", json!({"data": {"token": null, "ca.crt": null}})).await;
    world.until_one("key", "the token again", is_full).await;
    world.delete::<ServiceAccount>("robot", DeleteParams::default()).await;
    world.until("the Secret to be gone", |all: &[Secret]| all.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_no_account_and_of_another_than_there_is_goes() {
    let world = world().await;
    let _: Secret = world.create(secret("nobodys", "nobody")).await;
    let mut formers = secret("formers", "default");
    formers["metadata"]["annotations"]["kubernetes.io/service-account.uid"] = json!("the uid of another");
    let _: Secret = world.create(formers).await;
    let _: Secret = world.create(json!({"metadata": {"name": "plain"}})).await;
    let left = world.until("both to be gone", |all: &[Secret]| all.len() == 1).await;
    assert_eq!(left[0].name_any(), "plain");
}
