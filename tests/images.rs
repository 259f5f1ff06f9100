//! Images from a real registry.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::cluster::{Cluster, Running, eventually, images, text};

/// Debian's `docker-registry`, with busybox pushed to it by skopeo.
fn registry(cluster: &Cluster) -> (Running, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = cluster.scratch().join("registry.yml");
    let root = cluster.scratch().join("registry");
    fs::write(
        &config,
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
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
    eventually("the registry", || crate::cluster::http_get(&address, "/v2/").is_ok());
    // skopeo takes an OCI layout: one layer, one configuration.
    let layout = cluster.scratch().join("layout");
    write_layout(&layout, &fs::read(images().join("busybox.tar")).unwrap());
    let output = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            "--dest-tls-verify=false",
            &format!("oci:{}:busybox", layout.display()),
            &format!("docker://{address}/tools/busybox:1"),
        ])
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
