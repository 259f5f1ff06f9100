//! Images from a real registry.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::cluster::{Cluster, Running, eventually, images, text};

/// Debian's `docker-registry`, with busybox pushed to it by skopeo.
fn registry(cluster: &Cluster) -> (Running, String) {
    registry_with(cluster, "", &[])
}

/// The same, open only to `keeper` with the password `open sesame`.
fn closed_registry(cluster: &Cluster) -> (Running, String) {
    let users = cluster.scratch().join("htpasswd");
    fs::write(&users, "keeper:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n").unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
    registry_with(cluster, &auth, &["--dest-creds", "keeper:open sesame"])
}

fn registry_with(cluster: &Cluster, auth: &str, credentials: &[&str]) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = cluster.scratch().join("registry.yml");
    let root = cluster.scratch().join("registry");
    fs::write(
        &config,
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{auth}",
            root.display()
        ),
    )
    .unwrap();
    let server = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(server);
    let address = format!("127.0.0.1:{port}");
    // It answers, be it that it does not let us in.
    eventually("the registry", || match crate::cluster::http_get(&address, "/v2/") {
        Ok(_) => true,
        Err(error) => error.contains("401"),
    });
    // skopeo takes an OCI layout: one layer, one configuration.
    let layout = cluster.scratch().join("layout");
    write_layout(&layout, &fs::read(images().join("busybox.tar")).unwrap());
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
        .args(credentials)
        .args([&format!("oci:{}:busybox", layout.display()), &format!("docker://{address}/tools/busybox:1")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    (running, address)
}

fn write_layout(dir: &std::path::Path, layer: &[u8]) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = engine::content::Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let (layer, layer_size) = put(layer);
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Env":["PATH=/bin","FROM=registry"],"Cmd":["sleep","1000"]}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#,
        if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
    );
    let (config, config_size) = put(config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{layer_size}}}]}}"#
    );
    let (manifest, manifest_size) = put(manifest.as_bytes());
    fs::write(dir.join("index.json"), format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{manifest_size},"annotations":{{"org.opencontainers.image.ref.name":"busybox"}}}}]}}"#)).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn a_pod_pulls_its_image_and_runs_what_it_says() {
    let cluster = Cluster::up();
    let (_registry, address) = registry(&cluster);
    cluster.apply(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: pulled}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{address}/tools/busybox:1'}}]}}}}"));
    cluster.wait_ready("pod/pulled");
    assert_eq!(cluster.kubectl(&["exec", "pulled", "--", "sh", "-c", "echo $FROM"]), "registry\n");
    let id = cluster.jsonpath("pod/pulled", "{.status.containerStatuses[0].imageID}");
    assert!(id.contains(&format!("{address}/tools/busybox@sha256:")), "{id}");
    let events = cluster.kubectl(&["get", "events"]);
    assert!(events.contains("Successfully pulled image"), "{events}");
    cluster.apply(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: by-digest}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{id}'}}]}}}}"));
    cluster.wait_ready("pod/by-digest");
    assert!(cluster.hythe(&["image", "ls"]).contains("tools/busybox:1"));
}

#[test]
fn an_image_that_cannot_be_had_is_told_and_tried_again() {
    let cluster = Cluster::up();
    let (registry, address) = registry(&cluster);
    let pod = |name: &str, image: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{image}'}}]}}}}\n---\n"
        )
    };
    cluster.apply(
        &(pod("missing", &format!("{address}/tools/none:1"))
            + &pod("bad-name", "UPPER")
            + &pod("unreachable", "127.0.0.1:1/x:1")),
    );
    for (name, reason) in
        [("missing", "ErrImagePull"), ("bad-name", "InvalidImageName"), ("unreachable", "ErrImagePull")]
    {
        eventually(reason, || {
            let waiting =
                cluster.jsonpath(&format!("pod/{name}"), "{.status.containerStatuses[0].state.waiting.reason}");
            waiting == reason || (waiting == "ImagePullBackOff" && reason == "ErrImagePull")
        });
    }
    let events = cluster.kubectl(&["get", "events"]);
    assert!(events.contains("Failed to pull image") && events.contains("not found"), "{events}");
    drop(registry);
}

#[test]
fn a_closed_registry_opens_to_the_pods_secret() {
    let cluster = Cluster::up();
    let (_registry, address) = closed_registry(&cluster);
    let pod = |name: &str, more: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, {more} containers: [{{name: c, image: '{address}/tools/busybox:1', imagePullPolicy: Always}}]}}}}\n---\n"
        )
    };
    cluster.apply(&(pod("stranger", "") + &pod("misled", "imagePullSecrets: [{name: nobody}],")));
    for name in ["stranger", "misled"] {
        eventually("the refusal", || {
            let path = "{.status.containerStatuses[0].state.waiting.reason}";
            ["ErrImagePull", "ImagePullBackOff"].contains(&cluster.jsonpath(&format!("pod/{name}"), path).as_str())
        });
    }
    let events = || cluster.kubectl(&["get", "events"]);
    eventually("its words", || events().contains("Failed to pull image"));
    eventually("the missing secret", || {
        events().contains(
            "Unable to retrieve some image pull secrets (nobody); attempting to pull the image may not succeed.",
        )
    });
    eventually("the back-off", || {
        let events = events();
        events.contains(&format!("Back-off pulling image \"{address}/tools/busybox:1\""))
            && events.contains("Error: ImagePullBackOff")
    });
    assert!(!events().contains("open sesame") && !cluster.log().contains("open sesame"));
    let server = format!("--docker-server={address}");
    let arguments = [
        "create",
        "secret",
        "docker-registry",
        "key",
        &server,
        "--docker-username=keeper",
        "--docker-password=open sesame",
    ];
    cluster.kubectl(&arguments);
    cluster.apply(&pod("friend", "imagePullSecrets: [{name: key}],"));
    cluster.wait_ready("pod/friend");
    // Through the ServiceAccount, which lends its secrets to pods that name none.
    cluster.kubectl(&["patch", "serviceaccount", "default", "-p", r#"{"imagePullSecrets": [{"name": "key"}]}"#]);
    cluster.apply(&pod("guest", ""));
    cluster.wait_ready("pod/guest");
}

#[test]
fn the_pull_policy_decides_whether_the_registry_is_asked() {
    let cluster = Cluster::up();
    let (registry, address) = registry(&cluster);
    let pod = |name: &str, image: &str, policy: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: '{image}', imagePullPolicy: {policy}, command: [sleep, '1000']}}]}}}}\n---\n"
        )
    };
    let image = format!("{address}/tools/busybox:1");
    cluster.apply(&pod("never", &image, "Never"));
    cluster.until("pod/never", "{.status.containerStatuses[0].state.waiting.reason}", "ErrImageNeverPull");
    assert_eq!(
        cluster.jsonpath("pod/never", "{.status.containerStatuses[0].state.waiting.message}"),
        format!("Container image \"{image}\" is not present with pull policy of Never")
    );
    cluster.apply(&pod("present", "busybox:1", "IfNotPresent"));
    cluster.wait_ready("pod/present");
    cluster.apply(&pod("always", &image, "Always"));
    cluster.wait_ready("pod/always");
    // What is here now will do for `never`, which looks again.
    cluster.wait_ready("pod/never");
    drop(registry);
    cluster.apply(&(pod("again", &image, "Always") + &pod("here", &image, "IfNotPresent")));
    cluster.wait_ready("pod/here");
    eventually("the failure", || {
        cluster.jsonpath("pod/again", "{.status.containerStatuses[0].state.waiting.reason}").contains("Pull")
    });
    let events = cluster.kubectl(&["get", "events"]);
    assert!(
        events.contains("Container image \"busybox:1\" already present on machine and can be accessed by the pod"),
        "{events}"
    );
    assert!(events.contains("Error: ErrImageNeverPull"), "{events}");
}
