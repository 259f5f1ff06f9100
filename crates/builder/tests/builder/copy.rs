//! `COPY`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use builder::{BuildRequest, Context};

use crate::world::World;

fn mode(path: &std::path::Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_follow_dockers_rules() {
    let world = World::new().await;
    world.file("a.txt", "a");
    world.file("b.txt", "b");
    world.file("d/e/f", "f");
    let built = world
        .build(
            "FROM base\nWORKDIR /w\nCOPY a.txt .\nCOPY a.txt renamed\nCOPY a.txt new/\nCOPY *.txt many/\nCOPY d under\nCOPY d/e /tmp/\nCOPY [\"a.txt\", \"with blank\"]\nCOPY . /all\nCOPY d/../b.txt ../up",
        )
        .await;
    for (path, text) in [
        ("w/a.txt", "a"),
        ("w/renamed", "a"),
        ("w/new/a.txt", "a"),
        ("w/many/b.txt", "b"),
        ("w/under/e/f", "f"),
        ("tmp/f", "f"),
        ("w/with blank", "a"),
        ("all/d/e/f", "f"),
        ("up", "b"),
    ] {
        assert_eq!(world.read(&built.image, path), text, "{path}");
    }
    // A directory that was there keeps its mode, also in the layer above.
    assert_eq!(mode(&world.find(&built.image, "tmp").unwrap()), 0o1777);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_are_not_there_are_named() {
    let world = World::new().await;
    world.file("a", "a");
    world.file("secret/key", "k");
    world.file(".dockerignore", "secret\n");
    for (text, message) in [
        (
            "COPY nope /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nope: file does not exist",
        ),
        (
            "COPY secret /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat secret: file does not exist",
        ),
        (
            "ADD secret/key /",
            "ADD failed: file not found in build context or excluded by .dockerignore: stat secret/key: file does not exist",
        ),
        (
            "COPY a .dockerignore /x",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        ("COPY a /etc/motd/", "COPY failed: cannot copy to non-directory: /etc/motd"),
        ("COPY --chown=nobody a /", "can't find uid for user nobody: no such user: nobody"),
        ("COPY --chmod=999 a /", "invalid chmod parameter: '999'. it should be octal string and between 0 and 07777"),
        ("COPY --from=base nope /", "COPY failed: stat nope: file does not exist"),
    ] {
        let (error, _) = world.fail(&format!("FROM base\nENV x=1\n{text}")).await;
        assert_eq!(error.to_string(), message);
        assert_eq!(error.lines, Some((3, 3)), "{text}");
    }
    let nothing = "FROM base\nCOPY x* /made/\n";
    let classic = builder::BuildRequest { classic: true, ..world.request(nothing) };
    let (refused, _) = world.try_build(classic).await;
    assert_eq!(refused.unwrap_err().to_string(), "COPY failed: no source files were specified");
    // BuildKit is content with nothing.
    let built = world.build(nothing).await;
    assert!(world.find(&built.image, "made").unwrap().is_dir());
    for classic in [true, false] {
        let some = builder::BuildRequest { classic, ..world.request("FROM base\nCOPY a x* /some/\n") };
        let built = world.build_with(some).await;
        assert_eq!(world.read(&built.image, "some/a"), "a", "one that fits is enough");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_and_modes_are_as_asked_for() {
    let world = World::new().await;
    let file = world.file("d/run", "x");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&file, Some(1234), Some(1234)).unwrap();
    let built = world
        .build(
            "FROM base AS one\nCOPY d /plain\nCOPY --chown=web d /web\nCOPY --chown=web:logs d/run /logs/run\nCOPY --chown=7 d/run /seven\nCOPY --chmod=751 d /modes\nCOPY --chmod=u=rwX,go=rX d /symbolic\nFROM one\nCOPY --from=one /web /again\nCOPY --from=one --chown=0:0 /web /root-again",
        )
        .await;
    let of = |path: &str| {
        let metadata = fs::metadata(world.find(&built.image, path).unwrap()).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    assert_eq!(of("plain/run"), (0, 0, 0o640));
    assert_eq!(of("web/run"), (33, 34, 0o640));
    assert_eq!(of("web"), (33, 34, 0o755));
    assert_eq!(of("logs/run"), (33, 50, 0o640));
    assert_eq!(of("seven"), (7, 7, 0o640));
    assert_eq!(of("modes/run"), (0, 0, 0o751));
    assert_eq!(of("symbolic/run"), (0, 0, 0o644));
    assert_eq!(of("symbolic"), (0, 0, 0o755));
    assert_eq!(of("again/run"), (33, 34, 0o640));
    assert_eq!(of("root-again/run"), (0, 0, 0o640));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_can_not_lead_out_of_the_context_or_the_image() {
    let world = World::new().await;
    world.file("inside", "mine");
    let outside = world.path("outside");
    fs::write(&outside, "theirs").unwrap();
    symlink(&outside, world.path("context/absolute")).unwrap();
    symlink("../outside", world.path("context/relative")).unwrap();
    symlink("/inside", world.path("context/good")).unwrap();
    // Resolved with the context as root: `/…/outside` is not in it.
    for name in ["absolute", "relative", "../outside"] {
        let (error, _) = world.fail(&format!("FROM base\nCOPY {name} /x")).await;
        assert!(error.to_string().contains("file does not exist"), "{error}");
    }
    let built = world.build("FROM base\nCOPY good /x\nCOPY . /all\nCOPY ../../inside /y\nADD d/../../ins* /z").await;
    for name in ["x", "y", "z"] {
        assert_eq!(world.read(&built.image, name), "mine", "{name}");
    }
    assert_eq!(fs::read_link(world.find(&built.image, "all/absolute").unwrap()).unwrap(), outside);
    // In an image: what is copied to a link lands below the image's root.
    let target = world.path("escaped");
    fs::create_dir(&target).unwrap();
    let text = format!(
        "FROM base\nRUN ln -s {} /way && mkdir -p {}\nCOPY inside /way/file",
        target.display(),
        target.display()
    );
    let built = world.build(&text).await;
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    let below = target.strip_prefix("/").unwrap().join("file");
    assert_eq!(world.read(&built.image, below.to_str().unwrap()), "mine");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerignore_hides_and_takes_back() {
    let world = World::new().await;
    for name in ["a.md", "README.md", "src/main.rs", "src/deep/x.tmp", "target/big", "keep/only/this", "keep/other"] {
        world.file(name, name);
    }
    world.file(".dockerignore", "*.md\n!README.md\n**/*.tmp\ntarget\nkeep\n!keep/only\n.dockerignore\n");
    let built = world.build("FROM scratch\nCOPY . /").await;
    let top = world.top(&built.image);
    let there = |path: &str| top.join(path).exists();
    assert!(there("README.md") && there("src/main.rs") && there("src/deep") && there("keep/only/this"));
    assert!(
        !there("a.md")
            && !there("src/deep/x.tmp")
            && !there("target")
            && !there("keep/other")
            && !there(".dockerignore")
    );
    // The Dockerfile's own rules come first.
    world.file("app.Dockerfile", "FROM scratch\nCOPY . /\n");
    world.file("app.Dockerfile.dockerignore", "*\n!a.md\n");
    let request = BuildRequest { dockerfile: builder::Source::Path("app.Dockerfile".into()), ..world.request("") };
    let built = world.build_with(request).await;
    let names: Vec<_> = fs::read_dir(world.top(&built.image)).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["a.md"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn excluded_files_stay_behind_and_parents_come_along() {
    let world = World::new().await;
    for name in ["d/a.rs", "d/a.md", "d/e/b.rs", "d/e/b.md"] {
        world.file(name, name);
    }
    let built = world
        .build("FROM scratch\nCOPY --exclude=**/*.md d /code/\nCOPY --parents d/e/b.rs d/a.md /with/\nCOPY --parents d/./e/b.rs /pivot/")
        .await;
    let there = |path: &str| world.find(&built.image, path).is_some();
    assert!(there("code/a.rs") && there("code/e/b.rs") && !there("code/a.md") && !there("code/e/b.md"));
    assert!(there("with/d/e/b.rs") && there("with/d/a.md") && there("pivot/e/b.rs"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inline_files_come_from_the_dockerfile() {
    let world = World::new().await;
    let text = "FROM base\nARG name=world\nCOPY <<a.txt <<\"b.txt\" /to/\nhello $name\na.txt\nhello $name\nb.txt\nCOPY --chmod=755 <<-EOF /run.sh\n\techo hi\nEOF\nRUN /run.sh > /out || sh /run.sh > /out\n";
    let built = world.build(text).await;
    assert_eq!(world.read(&built.image, "to/a.txt"), "hello world\n");
    assert_eq!(world.read(&built.image, "to/b.txt"), "hello $name\n");
    assert_eq!(mode(&world.find(&built.image, "run.sh").unwrap()), 0o755);
    assert_eq!(world.read(&built.image, "out"), "hi\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_links_holes_and_attributes_survive() {
    let world = World::new().await;
    let one = world.file("d/one", "same");
    fs::hard_link(&one, world.path("context/d/two")).unwrap();
    let holes = fs::File::create(world.path("context/d/holes")).unwrap();
    holes.set_len(8 << 20).unwrap();
    use std::os::unix::fs::FileExt;
    holes.write_all_at(b"middle", 4 << 20).unwrap();
    drop(holes);
    let built = world.build("FROM scratch\nCOPY d /d").await;
    let top = world.top(&built.image);
    let (a, b) = (fs::metadata(top.join("d/one")).unwrap(), fs::metadata(top.join("d/two")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    let holes = fs::metadata(top.join("d/holes")).unwrap();
    assert_eq!(holes.len(), 8 << 20);
    assert!(holes.blocks() * 512 < 1 << 20, "{} blocks", holes.blocks());
    assert!(built.image.size < 1 << 20, "the blob holds the zeros: {}", built.image.size);
    // And it is what another machine unpacks.
    let (mut bytes, mut archive) = (Vec::new(), world.path("again.tar"));
    let request = BuildRequest {
        output: builder::Output::Oci(Box::new(fs::File::create(&archive).unwrap())),
        ..world.request("FROM scratch\nCOPY d /d")
    };
    world.build_with(request).await;
    let other = engine::content::Content::open(world.path("other")).unwrap();
    let image = other.import(&archive, Some("again")).unwrap().remove(0);
    let layer = other.layer_directory(&image.config.rootfs.diff_ids[0]).unwrap();
    assert_eq!(fs::metadata(layer.join("d/holes")).unwrap().len(), 8 << 20);
    std::io::Read::read_to_end(&mut fs::File::open(layer.join("d/holes")).unwrap(), &mut bytes).unwrap();
    assert_eq!(&bytes[4 << 20..(4 << 20) + 6], b"middle");
    assert_eq!(fs::metadata(layer.join("d/one")).unwrap().nlink(), 2);
    archive.clear();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_may_come_as_an_archive_and_can_not_escape() {
    let world = World::new().await;
    let entry = |path: &str, kind: tar::EntryType, body: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if link {
            header.as_gnu_mut().unwrap().linkname[..body.len()].copy_from_slice(body.as_bytes());
        }
        let data = if link { "" } else { body };
        header.set_size(data.len() as u64);
        header.set_cksum();
        (header, data.to_owned())
    };
    let archive = |entries: Vec<(tar::Header, String)>| {
        let mut builder = tar::Builder::new(Vec::new());
        for (header, data) in &entries {
            builder.append(header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let request = |bytes: Vec<u8>| BuildRequest {
        context: Context::Tar(Box::new(std::io::Cursor::new(bytes))),
        ..BuildRequest::default()
    };
    let regular = tar::EntryType::Regular;
    let good = archive(vec![entry("Dockerfile", regular, "FROM base\nCOPY a /a\n"), entry("a", regular, "text")]);
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut zipped, &good).unwrap();
    for bytes in [good, zipped.finish().unwrap()] {
        let built = world.build_with(request(bytes)).await;
        assert_eq!(world.read(&built.image, "a"), "text");
    }
    // What leads above the context stays in it, under a name or behind a link.
    let unclean = archive(vec![
        entry("Dockerfile", regular, "FROM base\nCOPY foo bar inner /\nCOPY ../../foo /up\n"),
        entry("../../foo", regular, "clamped"),
        entry("/bar", regular, "absolute"),
        entry("d/../../inner", regular, "both"),
        entry("alias", tar::EntryType::Link, "../foo"),
    ]);
    let built = world.build_with(request(unclean)).await;
    for (name, text) in [("foo", "clamped"), ("bar", "absolute"), ("inner", "both"), ("up", "clamped")] {
        assert_eq!(world.read(&built.image, name), text);
    }
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    let bad = archive(vec![
        entry("way", tar::EntryType::Symlink, outside.to_str().unwrap()),
        entry("way/escaped", regular, "x"),
        entry("Dockerfile", regular, "FROM base\n"),
    ]);
    let (result, _) = world.try_build(request(bad)).await;
    assert!(result.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let large = archive(vec![entry("Dockerfile", regular, "FROM base\n"), entry("big", regular, &"x".repeat(5000))]);
    let (result, _) = world.try_build(BuildRequest { max_bytes: Some(1000), ..request(large) }).await;
    assert!(result.unwrap_err().to_string().contains("the archive is too large"));
    let (result, _) = world.try_build(request(archive(Vec::new()))).await;
    assert_eq!(result.unwrap_err().to_string(), "Cannot locate specified Dockerfile: Dockerfile");
    world.end().await;
}
