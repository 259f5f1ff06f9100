//! Health checks and the parts of the control plane.

use apiserver::{CONTROLLER_MANAGER, Components, Config, SCHEDULER};
use http::Method;
use serde_json::{Value, json};

use super::client::Api;

async fn text(api: &Api, path: &str) -> (u16, String) {
    let response = api.send(Method::GET, path, &[], "").await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.expect("bodies end well");
    (code, String::from_utf8(bytes.to_vec()).expect("it is text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_bear_upstreams_names() {
    let api = Api::new().await;
    for endpoint in ["healthz", "livez", "readyz"] {
        let (code, said) = text(&api, &format!("/{endpoint}?verbose")).await;
        assert_eq!(code, 200, "{said}");
        for check in ["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles", "poststarthook/crd-informer-synced"]
        {
            assert!(said.contains(&format!("[+]{check} ok\n")), "{check} is not in\n{said}");
            assert_eq!(text(&api, &format!("/{endpoint}/{check}")).await, (200, "ok".to_owned()));
        }
        assert!(said.ends_with(&format!("\n{endpoint} check passed\n")), "{said}");
        let of_readiness = ["etcd-readiness", "informer-sync", "shutdown"];
        assert!(of_readiness.iter().all(|check| said.contains(&format!("[+]{check} ok")) == (endpoint == "readyz")));
        assert_eq!(text(&api, &format!("/{endpoint}")).await, (200, "ok".to_owned()));
    }
    assert_eq!(text(&api, "/livez/informer-sync").await.0, 404);
    let (_, said) = text(&api, "/livez?verbose&exclude=etcd&exclude=nonsense").await;
    assert!(said.contains("[+]etcd excluded: ok\n"), "{said}");
    assert!(said.contains("warn: some health checks cannot be excluded: no matches for \"nonsense\"\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_whose_object_is_missing_fails() {
    let api = Api::new().await;
    let class = "/apis/scheduling.k8s.io/v1/priorityclasses/system-cluster-critical";
    assert_eq!(api.delete(class, &Value::Null).await.0, 200);
    const CHECK: &str = "poststarthook/scheduling/bootstrap-system-priority-classes";
    let (code, said) = text(&api, "/readyz").await;
    assert_eq!(code, 500, "{said}");
    assert!(said.contains(&format!("[-]{CHECK} failed: reason withheld\n")), "{said}");
    assert!(said.ends_with("\nreadyz check failed\n"), "{said}");
    assert_eq!(text(&api, &format!("/readyz?exclude={CHECK}")).await.0, 200);
    let (code, said) = text(&api, &format!("/readyz/{CHECK}")).await;
    assert_eq!(code, 500);
    assert!(said.starts_with("internal server error: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn components_are_healthy_as_long_as_they_run() {
    let components = Components::default();
    let api = Api::with(Config { components: components.clone(), ..Config::default() }).await;
    let scheduler = components.running(SCHEDULER);
    let _controllers = components.running(CONTROLLER_MANAGER);
    let (code, list) = api.get("/api/v1/componentstatuses").await;
    assert_eq!((code, &list["kind"], &list["metadata"]), (200, &json!("ComponentStatusList"), &json!({})));
    let shown: Vec<(&Value, &Value)> = list["items"]
        .as_array()
        .expect("a list has items")
        .iter()
        .map(|item| (&item["metadata"]["name"], &item["conditions"][0]))
        .collect();
    let ok = json!({"type": "Healthy", "status": "True", "message": "ok"});
    let names = ["scheduler", "controller-manager", "etcd-0"].map(Value::from);
    assert_eq!(shown, names.iter().map(|name| (name, &ok)).collect::<Vec<_>>());
    drop(scheduler);
    let (_, gone) = api.get("/api/v1/componentstatuses/scheduler").await;
    assert_eq!(gone["conditions"][0]["status"], "False", "{gone}");
    let (code, missing) = api.get("/api/v1/componentstatuses/nobody").await;
    assert_eq!((code, &missing["message"]), (500, &json!("Component not found: nobody")));
    let (_, one) = api.get("/api/v1/componentstatuses?fieldSelector=metadata.name%3Detcd-0").await;
    assert_eq!(one["items"].as_array().map(Vec::len), Some(1), "{one}");
}
