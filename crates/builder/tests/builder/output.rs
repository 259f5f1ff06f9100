//! What becomes of the result.

use std::fs;
use std::process::Command;

use builder::{BuildRequest, Output};
use engine::content::Content;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn under_one_clock_two_builds_give_one_image() {
    let (one, two) = (World::new().await, World::new().await);
    let text = "FROM base\nWORKDIR /w\nRUN echo x > a; mkdir d; echo y > d/b; ln a hard\nCOPY f .\nCMD [\"x\"]";
    let mut ids = Vec::new();
    for world in [&one, &two] {
        let file = world.file("f", "f");
        // What was there before the clock's time stays as it is.
        fs::File::options().write(true).open(file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        // The bases are equal but for the time of their files.
        let base = world.path("context/base");
        fs::create_dir_all(base.join("bin")).unwrap();
        fs::copy("/bin/busybox", base.join("bin/sh")).unwrap();
        for name in ["mkdir", "ln"] {
            fs::copy("/bin/busybox", base.join("bin").join(name)).unwrap();
        }
        let epoch = |text: &str, tag: &str| BuildRequest {
            source_date_epoch: Some(1_500_000_000),
            tags: vec![tag.into()],
            no_cache: true,
            ..world.request(text)
        };
        world.build_with(epoch("FROM scratch\nCOPY base /", "fixed")).await;
        let built = world.build_with(epoch(&text.replace("base", "fixed"), "out")).await;
        assert_eq!(built.image.config.created.as_deref(), Some("2017-07-14T02:40:00Z"));
        let modified = fs::metadata(world.find(&built.image, "w/a").unwrap()).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_500_000_000);
        ids.push((built.output.image, built.output.manifest));
    }
    assert_eq!(ids[0], ids[1]);
    one.end().await;
    two.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oci_archive_is_the_same_image_elsewhere() {
    let world = World::new().await;
    let archive = world.path("out.oci");
    let request = BuildRequest {
        tags: vec!["app:1".into()],
        output: Output::Oci(Box::new(fs::File::create(&archive).unwrap())),
        ..world.request("FROM base\nRUN rm /etc/motd; echo x > /x")
    };
    let built = world.build_with(request).await;
    let other = Content::open(world.path("other")).unwrap();
    let image = other.import(&archive, None).unwrap().remove(0);
    assert_eq!((image.id.to_string(), image.manifest.to_string()), (built.output.image.clone(), built.output.manifest));
    assert_eq!(image.tags, ["docker.io/library/app:1"]);
    // Unpacked from the archive, the layer is what the container wrote.
    let layer = other.layer_directory(image.config.rootfs.diff_ids.last().unwrap()).unwrap();
    assert_eq!(fs::read_to_string(layer.join("x")).unwrap(), "x\n");
    if Command::new("skopeo").arg("--version").output().is_ok() {
        let output =
            Command::new("skopeo").arg("inspect").arg(format!("oci-archive:{}", archive.display())).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_gets_the_files_of_the_last_stage() {
    let world = World::new().await;
    let target = world.path("out");
    let request = BuildRequest {
        output: Output::Local(target.clone()),
        ..world.request("FROM base AS make\nRUN mkdir -p /out/d && echo x > /out/d/x && ln -s d/x /out/l\nFROM scratch\nCOPY --from=make /out /")
    };
    world.build_with(request).await;
    assert_eq!(fs::read_to_string(target.join("l")).unwrap(), "x\n");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_on_leaves_an_untagged_image() {
    let world = World::new().await;
    let with = |text: &str| BuildRequest { tags: vec!["app".into()], ..world.request(text) };
    let first = world.build_with(with("FROM base\nENV V=1")).await;
    let second = world.build_with(with("FROM base\nENV V=2")).await;
    let old = world.content.image(&first.output.image).unwrap();
    assert!(old.tags.is_empty() && old.digests.is_empty(), "{old:?}");
    assert_eq!(world.content.image("app").unwrap().id.to_string(), second.output.image);
    // Named again, it is untagged no more.
    world.build_with(with("FROM base\nENV V=1")).await;
    assert_eq!(world.content.image(&first.output.image).unwrap().tags, ["docker.io/library/app:latest"]);
    assert!(world.content.image(&second.output.image).unwrap().tags.is_empty());
    world.end().await;
}
