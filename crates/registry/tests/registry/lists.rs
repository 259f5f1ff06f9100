//! Tags, the catalogue and referrers.

use engine::content::Digest;
use serde_json::json;

use crate::world::{OCI_MANIFEST, world};

/// Follows `Link` to the end.
async fn all_pages(client: &crate::world::Client, first: &str, field: &str) -> (Vec<String>, usize) {
    let (mut path, mut found, mut pages) = (first.to_owned(), Vec::new(), 0);
    loop {
        let reply = client.get(&path).await.is(200);
        found.extend(reply.json()[field].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()));
        pages += 1;
        let Some(link) = reply.headers.get("link") else { return (found, pages) };
        let link = link.to_str().unwrap();
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
}

#[tokio::test]
async fn tags_come_in_order_and_page_by_page() {
    let world = world().await;
    let image = world.client.image("x", "b", "text").await;
    for tag in ["C", "a", "B", "_1", "d.e-f"] {
        world.client.put(&format!("/v2/x/manifests/{tag}"), OCI_MANIFEST, image.manifest.clone()).await.is(201);
    }
    let expected: Vec<String> = ["_1", "a", "B", "b", "C", "d.e-f"].map(String::from).into();
    let listed = world.client.get("/v2/x/tags/list").await.is(200).json();
    assert_eq!(listed, json!({"name": "x", "tags": expected}));
    assert_eq!(all_pages(&world.client, "/v2/x/tags/list?n=2", "tags").await, (expected.clone(), 3));
    assert_eq!(all_pages(&world.client, "/v2/x/tags/list?n=4", "tags").await, (expected.clone(), 2));
    assert_eq!(all_pages(&world.client, "/v2/x/tags/list?n=6", "tags").await, (expected.clone(), 1));
    // `last` need not be one of them.
    let after = world.client.get("/v2/x/tags/list?last=az").await.json();
    assert_eq!(after["tags"], json!(["B", "b", "C", "d.e-f"]));
    assert_eq!(world.client.get("/v2/x/tags/list?n=0").await.is(200).json()["tags"], json!([]));
    for bad in ["-1", "x", ""] {
        world.client.get(&format!("/v2/x/tags/list?n={bad}")).await.fails(400, "PAGINATION_NUMBER_INVALID");
    }
    world.client.get("/v2/none/tags/list").await.fails(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn the_catalogue_lists_repositories_within_repositories() {
    let world = world().await;
    assert_eq!(world.client.get("/v2/_catalog").await.is(200).json(), json!({"repositories": []}));
    let names = ["a", "a/b", "a/b/c", "b", "tags/list"];
    for name in names {
        world.client.image(name, "1", "text").await;
    }
    assert_eq!(world.client.get("/v2/_catalog").await.json(), json!({"repositories": names}));
    let (found, pages) = all_pages(&world.client, "/v2/_catalog?n=2", "repositories").await;
    assert_eq!((found, pages), (names.map(String::from).to_vec(), 3));
}

#[tokio::test]
async fn referrers_are_found_by_their_subject_and_filtered_by_type() {
    let world = world().await;
    let image = world.client.image("x", "v1", "text").await;
    let empty = world.client.blob("x", b"{}").await;
    let refer = |kind: &str, note: &str| {
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
               "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2}, "layers": [],
               "subject": {"mediaType": OCI_MANIFEST, "digest": image.digest, "size": image.manifest.len()},
               "annotations": {"note": note}})
        .to_string()
    };
    let list = async |query: &str| world.client.get(&format!("/v2/x/referrers/{}{query}", image.digest)).await.is(200);
    assert_eq!(list("").await.json()["manifests"], json!([]));
    for (kind, note) in [("a/signature", "1"), ("a/sbom", "2"), ("a/signature", "3")] {
        let body = refer(kind, note);
        let reply =
            world.client.put(&format!("/v2/x/manifests/{}", Digest::of(body.as_bytes())), OCI_MANIFEST, body).await;
        assert_eq!(reply.is(201).header("oci-subject"), image.digest.as_str());
    }
    let reply = list("").await;
    assert_eq!(reply.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert!(!reply.headers.contains_key("oci-filters-applied"));
    let body = reply.json();
    assert_eq!((body["schemaVersion"].as_u64(), body["manifests"].as_array().unwrap().len()), (Some(2), 3));
    let reply = list("?artifactType=a%2Fsbom").await;
    assert_eq!(reply.header("oci-filters-applied"), "artifactType");
    let body = reply.json();
    let found = body["manifests"].as_array().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["artifactType"], &found[0]["annotations"]), (&json!("a/sbom"), &json!({"note": "2"})));
    let digest = found[0]["digest"].as_str().unwrap();
    assert_eq!(found[0]["size"], world.client.get(&format!("/v2/x/manifests/{digest}")).await.is(200).body.len());
    world.client.delete(&format!("/v2/x/manifests/{digest}")).await.is(202);
    assert_eq!(list("").await.json()["manifests"].as_array().unwrap().len(), 2);
    // Its subject may come later, or never.
    let unknown = Digest::of(b"?");
    let body = refer("a/b", "4").replace(image.digest.as_str(), unknown.as_str());
    world.client.put("/v2/x/manifests/loose", OCI_MANIFEST, body).await.is(201);
    let found = world.client.get(&format!("/v2/x/referrers/{unknown}")).await.is(200).json();
    assert_eq!(found["manifests"].as_array().unwrap().len(), 1);
    world.client.get("/v2/x/referrers/sha256:1").await.fails(400, "DIGEST_INVALID");
}

#[tokio::test]
async fn many_referrers_come_in_pages() {
    let world = world().await;
    let empty = world.client.blob("x", b"{}").await;
    let subject = Digest::of(b"subject");
    let note = "n".repeat(1 << 20);
    let mut pushed = std::collections::BTreeSet::new();
    for i in 0..5 {
        let body = json!({"schemaVersion": 2, "config": {"mediaType": "a/b", "digest": empty, "size": 2}, "layers": [],
            "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}, "annotations": {"note": format!("{note}{i}")}});
        let reply = world.client.put(&format!("/v2/x/manifests/{i}"), OCI_MANIFEST, body.to_string()).await.is(201);
        pushed.insert(reply.header("docker-content-digest").to_owned());
    }
    let mut found = std::collections::BTreeSet::new();
    let mut path = format!("/v2/x/referrers/{subject}?artifactType=a%2Fb");
    loop {
        let reply = world.client.get(&path).await.is(200);
        assert!(reply.body.len() < 4 << 20);
        for manifest in reply.json()["manifests"].as_array().unwrap() {
            assert!(found.insert(manifest["digest"].as_str().unwrap().to_owned()));
        }
        let Some(link) = reply.headers.get("link") else { break };
        path = link.to_str().unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!(found, pushed);
}
