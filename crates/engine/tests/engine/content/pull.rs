//! Pulling from a registry that misbehaves.

use std::sync::atomic::Ordering;

use engine::content::{Content, ContentError, Credentials, PullOptions};
use tar::EntryType::Regular;

use super::{
    archive,
    registry::{Fault, serve},
};

fn layers() -> Vec<Vec<u8>> {
    // Bytes that do not compress, so that a layer can break off in the middle.
    let noise: String = (0..200_000u64)
        .map(|i| char::from(33 + (i.wrapping_mul(6_364_136_223_846_793_005).rotate_left(31) % 90) as u8))
        .collect();
    vec![archive(&[(Regular, "bin/run", &noise)]), archive(&[(Regular, "etc/x", "x")])]
}

fn world() -> (tempfile::TempDir, Content) {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    (dir, content)
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_this_machine() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::None);
    let image = content.pull(&format!("{}/app:1", registry.address), &PullOptions::default()).await.unwrap();
    assert_eq!(image.tags, [format!("{}/app:1", registry.address)]);
    assert_eq!(image.manifest, registry.manifest);
    let snapshot = content.prepare_snapshot("c", &image).unwrap();
    assert_eq!(std::fs::read_to_string(snapshot.lower[0].join("etc/x")).unwrap(), "x");
    let by_digest = format!("{}/app@{}", registry.address, registry.manifest);
    assert_eq!(content.pull(&by_digest, &PullOptions::default()).await.unwrap().id, image.id);
}

#[tokio::test]
async fn what_is_here_is_not_fetched_again() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::None);
    let name = format!("{}/app:1", registry.address);
    content.pull(&name, &PullOptions::default()).await.unwrap();
    let before = registry.requests.load(Ordering::SeqCst);
    content.pull(&name, &PullOptions::default()).await.unwrap();
    // Only the manifests were asked for, in case the tag has moved.
    assert_eq!((before, registry.requests.load(Ordering::SeqCst)), (3, 3));
}

#[tokio::test]
async fn a_download_that_breaks_off_is_taken_up_where_it_was() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::BreaksOff);
    content.pull(&format!("{}/app:1", registry.address), &PullOptions::default()).await.unwrap();
    assert_eq!(registry.resumed.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn corrupt_content_is_refused_and_not_kept() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::Corrupt);
    let error = content.pull(&format!("{}/app:1", registry.address), &PullOptions::default()).await.unwrap_err();
    assert!(matches!(error, ContentError::Mismatch { .. }), "{error}");
    assert!(content.images().unwrap().is_empty());
}

#[tokio::test]
async fn credentials_are_tried_and_the_lack_of_them_is_said() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::WantsPassword);
    let name = format!("{}/app:1", registry.address);
    let error = content.pull(&name, &PullOptions::default()).await.unwrap_err();
    assert!(matches!(error, ContentError::Denied { .. }), "{error}");
    let credentials = |password: &str| Credentials::Basic {
        username: "user".into(),
        password: engine::content::Secret(password.into()),
    };
    let options = PullOptions { credentials: vec![credentials("wrong"), credentials("secret")], ..Default::default() };
    assert!(!format!("{:?}", options.credentials).contains("secret"), "passwords never show");
    content.pull(&name, &options).await.unwrap();
}

#[tokio::test]
async fn an_image_that_is_not_there_and_a_registry_that_is_not_there_are_told_apart() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::None);
    let error = content.pull(&format!("{}/app:2", registry.address), &PullOptions::default()).await.unwrap_err();
    assert!(matches!(error, ContentError::NotInRegistry { .. }), "{error}");
    let error = content.pull("127.0.0.1:1/app:1", &PullOptions::default()).await.unwrap_err();
    assert!(matches!(error, ContentError::Registry { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn pulls_of_one_image_at_a_time_share_the_work() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::None);
    let name = format!("{}/app:1", registry.address);
    let all = futures::future::join_all((0..8).map(|_| {
        let (content, name) = (content.clone(), name.clone());
        async move { content.pull(&name, &PullOptions::default()).await.unwrap().id }
    }))
    .await;
    assert!(all.windows(2).all(|w| w[0] == w[1]));
    assert_eq!(registry.requests.load(Ordering::SeqCst), 3, "a configuration and two layers, once");
}

#[tokio::test]
async fn images_of_docker_hub_come_from_the_first_mirror_that_has_them() {
    let (_dir, content) = world();
    let (nobody, empty) = ("127.0.0.1:1".to_owned(), serve(&layers()[..1], Fault::WantsPassword).address);
    let registry = serve(&layers(), Fault::None);
    let mirrors = [nobody, empty, registry.address].map(|address| format!("http://{address}/"));
    let options = PullOptions { mirrors: mirrors.to_vec(), ..Default::default() };
    let image = content.pull("app:1", &options).await.unwrap();
    assert_eq!(image.tags, ["docker.io/library/app:1"], "named as it was asked for");
    assert_eq!(image.manifest, registry.manifest);
}

#[tokio::test]
async fn logins_are_for_their_registry_alone() {
    let (_dir, content) = world();
    let registry = serve(&layers(), Fault::WantsPassword);
    let name = format!("{}/app:1", registry.address);
    let credentials =
        Credentials::Basic { username: "user".into(), password: engine::content::Secret("secret".into()) };
    let of = |host: &str| PullOptions { logins: vec![(host.to_owned(), credentials.clone())], ..Default::default() };
    let error = content.pull(&name, &of("other.example")).await.unwrap_err();
    assert!(matches!(error, ContentError::Denied { .. }), "{error}");
    content.pull(&name, &of(&registry.address)).await.unwrap();
}
