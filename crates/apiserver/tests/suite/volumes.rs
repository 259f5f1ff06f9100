//! What claims and volumes are given on their way in, and when they may grow.

use serde_json::json;

use super::client::Api;

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gets_the_default_class_and_is_held_while_in_use() {
    let api = Api::new().await;
    let claim = |name: &str| json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let made = api.made(CLAIMS, &claim("before")).await;
    assert!(made["spec"]["storageClassName"].is_null(), "there is no default class yet");
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    api.made(CLASSES, &json!({"metadata": {"name": "usual", "annotations": default}, "provisioner": "p"})).await;
    api.made(CLASSES, &json!({"metadata": {"name": "other"}, "provisioner": "p"})).await;
    let made = api.made(CLAIMS, &claim("after")).await;
    assert_eq!(made["spec"]["storageClassName"], "usual");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let mut none = claim("none");
    none["spec"]["storageClassName"] = "".into();
    assert_eq!(api.made(CLAIMS, &none).await["spec"]["storageClassName"], "");
    let volume = json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/d"}}});
    let made = api.made("/api/v1/persistentvolumes", &volume).await;
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_claim_grows_if_its_class_lets_it() {
    let api = Api::new().await;
    for (name, grows) in [("fixed", false), ("grows", true)] {
        api.made(CLASSES, &json!({"metadata": {"name": name}, "provisioner": "p", "allowVolumeExpansion": grows}))
            .await;
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": name, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "v"});
        api.made(CLAIMS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let (code, status) = api.patch("merge", &format!("{CLAIMS}/grows"), &more).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "persistentvolumeclaims \"grows\" is forbidden: Only bound persistent volume claims can be expanded"
            )
        )
    );
    for name in ["fixed", "grows"] {
        api.patch("merge", &format!("{CLAIMS}/{name}/status"), &json!({"status": {"phase": "Bound"}})).await;
    }
    let (code, answer) = api.patch("merge", &format!("{CLAIMS}/grows"), &more).await;
    assert_eq!(code, 200, "{answer}");
    let (code, status) = api.patch("merge", &format!("{CLAIMS}/fixed"), &more).await;
    assert_eq!(
        (code, &status["message"]),
        (
            403,
            &json!(
                "persistentvolumeclaims \"fixed\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            )
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_gets_the_default_class() {
    let api = Api::new().await;
    let default = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    let class =
        json!({"metadata": {"name": "front", "annotations": default}, "spec": {"controller": "example.com/front"}});
    api.made("/apis/networking.k8s.io/v1/ingressclasses", &class).await;
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "i"}, "spec": {"defaultBackend": backend}});
    let made = api.made("/apis/networking.k8s.io/v1/namespaces/default/ingresses", &ingress).await;
    assert_eq!(made["spec"]["ingressClassName"], "front");
}
