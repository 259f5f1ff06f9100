//! `RUN`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use builder::{BuildRequest, Kind, RunNetwork};

use crate::world::{World, said};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_changes_is_a_layer_and_what_it_removes_a_whiteout() {
    let world = World::new().await;
    let built = world
        .build("FROM base\nRUN mkdir -p /a/b && echo x > /a/b/x && mkfifo /a/p && ln -s x /a/b/l && ln /a/b/x /a/hard\nRUN rm -r /a/b /etc/motd && mkdir /a/b && echo y > /a/b/y")
        .await;
    let layers = world.layers(&built.image);
    let below = &layers[1];
    assert_eq!(fs::read_to_string(below.join("a/b/x")).unwrap(), "x\n");
    assert_eq!(fs::metadata(below.join("a/hard")).unwrap().nlink(), 2);
    assert!(fs::metadata(below.join("a/p")).unwrap().file_type().is_fifo());
    assert_eq!(fs::metadata(layers[0].join("etc/motd")).unwrap().rdev(), 0);
    assert!(fs::metadata(layers[0].join("etc/motd")).unwrap().file_type().is_char_device());
    // As another machine sees it.
    let archive = world.path("out.tar");
    let request = BuildRequest {
        output: builder::Output::Tar(Box::new(fs::File::create(&archive).unwrap())),
        ..world.request("FROM base\nRUN mkdir -p /a/b && echo x > /a/b/x && mkfifo /a/p && ln -s x /a/b/l && ln /a/b/x /a/hard\nRUN rm -r /a/b /etc/motd && mkdir /a/b && echo y > /a/b/y")
    };
    world.build_with(request).await;
    let mut names = Vec::new();
    for entry in tar::Archive::new(fs::File::open(&archive).unwrap()).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert!(names.contains(&"a/b/y".to_owned()) && names.contains(&"a/hard".to_owned()));
    assert!(
        !names.iter().any(|name| name.contains("motd") || name == "a/b/x" || name == "a/b/l" || name.contains(".wh."))
    );
    let blob = world.content.blob_path(&built.image.config.rootfs.diff_ids[2]);
    let mut whiteouts = Vec::new();
    for entry in tar::Archive::new(fs::File::open(blob).unwrap()).entries().unwrap() {
        let name = entry.unwrap().path().unwrap().display().to_string();
        whiteouts.extend(name.contains(".wh.").then_some(name));
    }
    whiteouts.sort();
    assert_eq!(whiteouts, ["a/b/.wh..wh..opq", "etc/.wh.motd"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_its_own_changes_is_in_the_layer() {
    let world = World::new().await;
    // An image without /proc, /sys, /dev, /etc/hosts and /etc/resolv.conf.
    let built = world.build("FROM base\nRUN --mount=type=cache,target=/var/cache/x --mount=type=tmpfs,target=/scratch cat /etc/hosts /etc/resolv.conf > /dev/null && touch /var/cache/x/y /scratch/z").await;
    let top = world.top(&built.image);
    let names: Vec<_> = fs::read_dir(&top).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_user_directory_and_shell_are_those_of_the_image() {
    let world = World::new().await;
    let built = world
        .build("FROM base\nENV A=1 B=\"x y\"\nARG C=arg\nARG A=hidden\nUSER web\nWORKDIR /home/web/sub\nRUN id -u > out; id -G >> out; pwd >> out; echo \"$A $B $C\" >> out; echo $HOME >> out\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN false || echo e > e\nUSER 7:8\nRUN id -u; id -g\nRUN [\"/bin/echo\", \"$A\"]")
        .await;
    assert_eq!(world.read(&built.image, "home/web/sub/out"), "33\n34 50\n/home/web/sub\n1 x y arg\n/home/web\n");
    let sub = fs::metadata(world.find(&built.image, "home/web/sub").unwrap()).unwrap();
    assert_eq!((sub.uid(), sub.gid()), (33, 34));
    assert_eq!(built.said(), "7\n8\n$A\n");
    assert_eq!(built.image.config.config.user, "7:8");
    assert_eq!(built.image.config.config.working_dir, "/home/web/sub");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_ends_the_build_with_its_code_and_its_line() {
    let world = World::new().await;
    let (error, events) = world.fail("FROM base\nRUN echo out; echo err >&2; exit 3\nRUN touch /never").await;
    assert_eq!(
        error.to_string(),
        "The command '/bin/sh -c echo out; echo err >&2; exit 3' returned a non-zero code: 3"
    );
    assert!(matches!(error.kind, Kind::Exit { code: 3, .. }));
    assert_eq!(error.lines, Some((2, 2)));
    assert!(error.excerpt.unwrap().contains("   2 | >>> RUN echo out"));
    let all = said(&events);
    assert!(all.contains("out\n") && all.contains("err\n"), "{all}");
    for (dockerfile, program) in [("FROM base\nRUN [\"/no/such\"]", "/no/such"), ("FROM scratch\nRUN true", "/bin/sh")]
    {
        let (error, _) = world.fail(dockerfile).await;
        let why = format!("exec: \"{program}\": stat {program}: no such file or directory");
        assert!(error.to_string().contains(&why), "what can't be started is no exit code, as dockerd has it: {error}");
    }
    assert!(world.content.images().unwrap().iter().all(|image| image.tags == ["docker.io/library/base:latest"]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn here_documents_are_scripts() {
    let world = World::new().await;
    let built = world
        .build("FROM base\nENV V=env\nRUN <<EOF\necho \"one $V\" > /a\necho two >> /a\nEOF\nRUN cat <<ONE > /b && cat <<-\"TWO\" >> /b\nx $V\nONE\n\ty $V\n\tTWO\nRUN <<EOF\n#!/bin/cat\nprinted\nEOF\n")
        .await;
    assert_eq!(world.read(&built.image, "a"), "one env\ntwo\n");
    assert_eq!(world.read(&built.image, "b"), "x env\ny $V\n");
    assert_eq!(built.said(), "#!/bin/cat\nprinted\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_seen_while_the_command_runs_and_nowhere_after() {
    let world = World::new().await;
    let text = "FROM base\nRUN --mount=type=secret,id=token cat /run/secrets/token | wc -c > /length && stat -c %a /run/secrets/token\nRUN --mount=type=secret,id=token,env=TOKEN printf %s \"$TOKEN\" | wc -c\nRUN --mount=type=secret,id=absent test ! -e /run/secrets/absent";
    let mut request = world.request(text);
    request.secrets.insert("token".into(), b"hunter2-hunter2".to_vec());
    request.tags = vec!["s".into()];
    let built = world.build_with(request).await;
    assert_eq!((world.read(&built.image, "length").trim(), built.said().as_str()), ("15", "400\n15\n"));
    let mut open = vec![world.directory.path().to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap();
                assert!(!bytes.windows(15).any(|w| w == b"hunter2-hunter2"), "{}", entry.path().display());
            }
        }
    }
    let (error, _) = world.fail("FROM base\nRUN --mount=type=secret,id=absent,required true").await;
    assert_eq!(error.to_string(), "secret absent: not found");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_outlive_builds_and_are_in_no_layer() {
    let world = World::new().await;
    let text = |n: u32| {
        format!(
            "FROM base\nRUN --mount=type=cache,target=/c,id=counter,mode=0700,uid=33 echo {n} >> /c/log; cat /c/log; stat -c %u-%a /c"
        )
    };
    assert_eq!(world.build(&text(1)).await.said(), "1\n33-700\n");
    let second = world.build(&text(2)).await;
    assert_eq!(second.said(), "1\n2\n33-700\n");
    assert!(world.find(&second.image, "c").is_none());
    // Its contents don't make it another step.
    assert_eq!(world.build(&text(2)).await.cached().len(), 1);
    let seeded = world.build("FROM base AS seed\nRUN mkdir /s && echo seed > /s/f\nFROM base\nRUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/f").await;
    assert_eq!(seeded.said(), "seed\n");
    let mounts =
        |world: &World| world.builder.cache().iter().filter(|entry| entry.description == "cache mount").count();
    assert_eq!(mounts(&world), 2);
    world.builder.prune(std::time::Duration::from_secs(3600), 0).unwrap();
    assert_eq!(mounts(&world), 2);
    world.builder.prune(std::time::Duration::ZERO, 0).unwrap();
    assert_eq!(mounts(&world), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_files_are_seen_count_and_are_not_changed() {
    let world = World::new().await;
    let file = world.file("src/a", "1\n");
    let text = "FROM base AS other\nRUN mkdir /o && echo other > /o/f\nFROM base\nRUN --mount=type=bind,source=src,target=/s cat /s/a > /out; touch /s/b 2>/dev/null || echo read-only\nRUN --mount=target=/s,source=src,rw echo changed > /s/a\nRUN --mount=from=other,source=/o/f,target=/f cat /f";
    let built = world.build(text).await;
    assert_eq!(world.read(&built.image, "out"), "1\n");
    assert_eq!(built.said(), "read-only\nother\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
    assert_eq!(world.build(text).await.cached().len(), 4);
    world.file("src/a", "2\n");
    let changed = world.build(text).await;
    assert_eq!(world.read(&changed.image, "out"), "2\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_the_hosts_or_none() {
    let world = World::new().await;
    let text = "FROM base\nRUN ls /sys/class/net | tr '\\n' ' '; echo\nRUN --network=none ls /sys/class/net | tr '\\n' ' '; echo";
    let all = world.build(text).await.said();
    let lines: Vec<&str> = all.lines().collect();
    let mut host: Vec<String> =
        fs::read_dir("/sys/class/net").unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    host.sort();
    assert!(lines[0].contains("lo") && lines[0].split_whitespace().count() >= host.len().min(2), "{lines:?} {host:?}");
    assert_eq!(lines[1].trim(), "lo");
    let none =
        BuildRequest { network: RunNetwork::None, no_cache: true, ..world.request("FROM base\nRUN ls /sys/class/net") };
    assert_eq!(world.build_with(none).await.said(), "lo\n");
    let mut request = world.request("FROM base\nRUN cat /etc/hosts | grep special; cat /etc/resolv.conf");
    request.extra_hosts = vec![("special".into(), "10.1.2.3".into())];
    request.resolv_conf = Some("nameserver 192.0.2.1\n".into());
    assert_eq!(world.build_with(request).await.said(), "10.1.2.3\tspecial\nnameserver 192.0.2.1\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_change_nothing_are_one_layer_and_the_image_still_runs() {
    let world = World::new().await;
    let built = world.build("FROM base\nRUN true\nRUN echo x > /x\nRUN true; true\nRUN cat /x").await;
    assert_eq!(built.said(), "x\n");
    let ids = &built.image.config.rootfs.diff_ids;
    assert_eq!((ids.len(), &ids[1]), (5, &ids[3]));
    let snapshot = world.content.prepare_snapshot("c", &built.image).unwrap();
    assert_eq!(snapshot.lower.len(), 3);
    world.content.remove_snapshot("c").unwrap();
    world.end().await;
}
