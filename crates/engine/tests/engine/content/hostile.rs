//! Layers that try what a layer must not.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use engine::content::{Content, ContentError, Image};
use tar::EntryType::{Directory, Fifo, Link, Regular, Symlink};

use super::archive;

struct World {
    dir: tempfile::TempDir,
    content: Content,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("victim"), "untouched").unwrap();
    let content = Content::open(dir.path().join("content")).unwrap();
    World { dir, content }
}

fn import(world: &World, entries: &[(tar::EntryType, &str, &str)]) -> Result<Image, ContentError> {
    let path = world.dir.path().join("rootfs.tar");
    fs::write(&path, archive(entries)).unwrap();
    world.content.import(&path, Some("t:1")).map(|mut images| images.remove(0))
}

fn root(world: &World, image: &Image) -> std::path::PathBuf {
    world.content.prepare_snapshot("c", image).unwrap().lower[0].clone()
}

fn nothing_escaped(world: &World) {
    assert_eq!(fs::read_to_string(world.dir.path().join("victim")).unwrap(), "untouched");
    assert!(!Path::new("/hythe-escaped").exists());
    let leftovers = fs::read_dir(world.dir.path().join("content/layers")).unwrap().count();
    assert_eq!(leftovers, 0, "a failed unpacking leaves nothing");
}

#[test]
fn a_path_with_dot_dot_is_refused() {
    for path in ["../victim", "a/../../victim", "a/.."] {
        let world = world();
        let error = import(&world, &[(Regular, path, "evil")]).unwrap_err();
        assert!(matches!(error, ContentError::Unpack { .. }), "{error}");
        nothing_escaped(&world);
    }
}

#[test]
fn an_absolute_path_lands_inside() {
    let world = world();
    let image = import(&world, &[(Regular, "/hythe-escaped", "x")]).unwrap();
    assert_eq!(fs::read_to_string(root(&world, &image).join("hythe-escaped")).unwrap(), "x");
    assert!(!Path::new("/hythe-escaped").exists());
}

#[test]
fn writing_through_a_symbolic_link_stays_inside() {
    let world = world();
    let image = import(
        &world,
        &[
            (Directory, "tmp", ""),
            (Symlink, "out", "/tmp"),
            (Symlink, "up", "../../../../tmp"),
            (Regular, "out/a", "1"),
            (Regular, "up/b", "2"),
        ],
    )
    .unwrap();
    let root = root(&world, &image);
    assert_eq!(fs::read_to_string(root.join("tmp/a")).unwrap(), "1");
    assert_eq!(fs::read_to_string(root.join("tmp/b")).unwrap(), "2");
    assert!(!Path::new("/tmp/a").exists() || fs::read_to_string("/tmp/a").unwrap() != "1");
}

#[test]
fn a_file_replaces_a_link_of_its_name_and_is_not_written_through_it() {
    let world = world();
    let victim = world.dir.path().join("victim");
    let image = import(&world, &[(Symlink, "f", victim.to_str().unwrap()), (Regular, "f", "mine")]).unwrap();
    assert_eq!(fs::read_to_string(root(&world, &image).join("f")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}

#[test]
fn a_hard_link_reaches_only_what_is_inside() {
    let world = world();
    let victim = world.dir.path().join("victim").to_str().unwrap().to_owned();
    assert!(import(&world, &[(Link, "f", &victim)]).is_err());
    assert!(import(&world, &[(Link, "f", "../victim")]).is_err());
    nothing_escaped(&world);
    let image = import(&world, &[(Regular, "a", "x"), (Link, "b", "a")]).unwrap();
    let root = root(&world, &image);
    assert_eq!(fs::metadata(root.join("a")).unwrap().ino(), fs::metadata(root.join("b")).unwrap().ino());
}

#[test]
fn a_dangling_link_as_a_parent_is_an_error_and_not_a_loop() {
    let world = world();
    assert!(import(&world, &[(Symlink, "d", "nowhere"), (Regular, "d/f", "x")]).is_err());
    assert!(import(&world, &[(Symlink, "a", "b"), (Symlink, "b", "a"), (Regular, "a/f", "x")]).is_err());
    nothing_escaped(&world);
}

#[test]
fn whiteouts_hide_and_do_not_reach_out() {
    let world = world();
    let image =
        import(&world, &[(Directory, "d", ""), (Regular, "d/.wh.gone", ""), (Regular, "d/.wh..wh..opq", "")]).unwrap();
    let root = root(&world, &image);
    let gone = fs::symlink_metadata(root.join("d/gone")).unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(root.join("d"), "trusted.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
    assert!(import(&world, &[(Regular, ".wh...", "")]).is_err());
    assert!(import(&world, &[(Regular, ".wh.", "")]).is_err());
}

#[test]
fn a_damaged_archive_is_an_error_and_leaves_nothing() {
    let world = world();
    let whole = archive(&[(Regular, "a", &"x".repeat(5_000)), (Fifo, "p", "")]);
    let path = world.dir.path().join("cut.tar");
    for cut in [100, 512, 700, 3_000, 5_000] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(world.content.import(&path, Some("t:1")).is_err(), "cut at {cut}");
    }
    fs::write(&path, "not an archive at all").unwrap();
    assert!(world.content.import(&path, Some("t:1")).is_err());
    nothing_escaped(&world);
    assert!(world.content.images().unwrap().is_empty());
}

#[test]
fn owners_modes_and_times_are_kept() {
    let world = world();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_path("bin/su").unwrap();
    header.set_mode(0o4755);
    header.set_uid(1234);
    header.set_gid(99);
    header.set_mtime(1_000_000);
    header.set_size(2);
    header.set_cksum();
    builder.append(&header, &b"hi"[..]).unwrap();
    let path = world.dir.path().join("rootfs.tar");
    fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let image = world.content.import(&path, Some("t:1")).unwrap().remove(0);
    let file = fs::metadata(root(&world, &image).join("bin/su")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.mtime()), (0o4755, 1234, 99, 1_000_000));
}
