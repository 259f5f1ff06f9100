//! What instructions make of the configuration, and what is printed.

use builder::{BuildRequest, Context, Source};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_says_what_the_dockerfile_says() {
    let world = World::new().await;
    let built = world
        .build("FROM base\nMAINTAINER me\nENV A=1\nENV A=2 B=$A\nLABEL k=\"v w\" other=x\nEXPOSE 80 53/udp 8000-8001\nVOLUME /data /more\nWORKDIR /a\nWORKDIR b\nUSER web\nSTOPSIGNAL SIGQUIT\nHEALTHCHECK --interval=5s --retries=2 CMD true\nENTRYPOINT [\"/bin/echo\"]\nCMD hello\nONBUILD RUN echo later")
        .await;
    let config = &built.image.config.config;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(config.env, [path, "A=2", "B=1"]);
    assert_eq!(config.labels.get("k").map(String::as_str), Some("v w"));
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
    assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/data", "/more"]);
    assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/a/b", "web"));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    let health = config.healthcheck.as_ref().unwrap();
    assert_eq!(
        (health.test.clone(), health.interval, health.retries),
        (vec!["CMD-SHELL".to_owned(), "true".to_owned()], 5_000_000_000, 2)
    );
    assert_eq!(config.entrypoint, ["/bin/echo"]);
    assert_eq!(config.cmd, ["/bin/sh", "-c", "hello"]);
    assert_eq!(config.on_build, ["RUN echo later"]);
    assert_eq!(built.image.config.author.as_deref(), Some("me"));
    let layers = built.image.config.history.iter().filter(|entry| !entry.empty_layer).count();
    assert_eq!(layers, built.image.config.rootfs.diff_ids.len());
    assert!(built.history().contains(&"/bin/sh -c #(nop)  ENV A=2 B=1".to_owned()), "{:?}", built.history());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entrypoint_takes_the_inherited_command_away() {
    let world = World::new().await;
    let mut request = world.request("FROM base\nCMD [\"inherited\"]");
    request.tags = vec!["parent".into()];
    world.build_with(request).await;
    assert!(world.build("FROM parent\nENTRYPOINT [\"x\"]").await.image.config.config.cmd.is_empty());
    assert_eq!(world.build("FROM parent\nCMD [\"own\"]\nENTRYPOINT [\"x\"]").await.image.config.config.cmd, ["own"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_run_in_the_child_and_are_gone_then() {
    let world = World::new().await;
    world.file("app", "code");
    let mut request = world.request("FROM base\nONBUILD COPY app /app\nONBUILD RUN cat /app > /built");
    request.tags = vec!["runtime".into()];
    let parent = world.build_with(request).await;
    assert_eq!(parent.image.config.config.on_build.len(), 2);
    let child = world.build("FROM runtime\nRUN cat /built").await;
    assert_eq!(child.said(), "code");
    assert!(child.image.config.config.on_build.is_empty());
    assert!(child.classic().contains("# Executing 2 build triggers\n"), "{}", child.classic());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_have_scopes() {
    let world = World::new().await;
    let text = "ARG G=global\nARG BASE=base\nFROM $BASE AS one\nRUN echo \"[$G]\"\nARG G\nRUN echo \"[$G]\"\nARG G=own\nRUN echo \"[$G]\"\nARG LATE=$G-x\nENV E=$LATE\nRUN echo \"[$E]\"\nFROM one\nRUN echo \"[$G][$E]\"\nARG TARGETARCH\nRUN echo $TARGETARCH";
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(world.build(text).await.said(), format!("[]\n[global]\n[own]\n[own-x]\n[][own-x]\n{arch}\n"));
    let mut request = BuildRequest { no_cache: true, ..world.request(text) };
    request.args.insert("G".into(), "given".into());
    assert_eq!(
        world.build_with(request).await.said(),
        format!("[]\n[given]\n[given]\n[given-x]\n[][given-x]\n{arch}\n")
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_build_on_and_copy_from_each_other_and_unused_ones_are_left() {
    let world = World::new().await;
    let text = "FROM base AS unused\nRUN exit 1\nFROM base AS make\nRUN echo made > /made\nFROM base AS other\nRUN echo other > /other\nFROM make AS final\nCOPY --from=other /other /o/\nCOPY --from=1 /made /m\nCOPY --from=base /etc/motd /from-image\n";
    let built = world.build(text).await;
    assert_eq!(world.read(&built.image, "o/other"), "other\n");
    assert_eq!(world.read(&built.image, "m"), "made\n");
    assert_eq!(world.read(&built.image, "from-image"), "hello\n");
    let target = BuildRequest { target: Some("other".into()), ..world.request(text) };
    assert_eq!(world.read(&world.build_with(target).await.image, "other"), "other\n");
    let (result, _) = world.try_build(BuildRequest { target: Some("nope".into()), ..world.request(text) }).await;
    assert_eq!(result.unwrap_err().to_string(), "target stage \"nope\" could not be found");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_stages_run_at_the_same_time() {
    let world = World::new().await;
    // Each waits for the other's file in a cache that both see: one after the other would hang.
    let wait = |mine: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/meet touch /meet/{mine}; while ! test -e /meet/{other}; do sleep 0.01; done; echo {mine} > /{mine}\n"
        )
    };
    let text = format!(
        "FROM base AS a\n{}FROM base AS b\n{}FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        wait("a", "b"),
        wait("b", "a")
    );
    let built = world.build(&text).await;
    assert_eq!(world.read(&built.image, "a") + &world.read(&built.image, "b"), "a\nb\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_reads_as_dockers() {
    let world = World::new().await;
    world.file("f", "x");
    let text = "ARG V=latest\nFROM base:$V\nRUN echo hi\nCOPY f /f\nENV A=1\n";
    let mut request = world.request(text);
    request.tags = vec!["todo".into(), "localhost:5000/todo:v1".into()];
    request.labels.insert("k".into(), "v".into());
    let first = world.build_with(request).await;
    let base = world.content.image("base").unwrap().id;
    let id = |event: usize| {
        let done: Vec<_> = first
            .events
            .iter()
            .filter_map(|e| match e {
                builder::Event::Done { image: Some(image), .. } => Some(builder::short(image).to_owned()),
                _ => None,
            })
            .collect();
        done[event].clone()
    };
    let running: Vec<_> = first
        .events
        .iter()
        .filter_map(|e| match e {
            builder::Event::Running { container, .. } => Some(container.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(id(0), builder::short(base.as_str()));
    let expected = format!(
        "Step 1/6 : ARG V=latest\nStep 2/6 : FROM base:$V\n ---> {}\nStep 3/6 : RUN echo hi\n ---> Running in {}\nhi\n ---> Removed intermediate container {}\n ---> {}\nStep 4/6 : COPY f /f\n ---> {}\nStep 5/6 : ENV A=1\n ---> Running in {}\n ---> Removed intermediate container {}\n ---> {}\nStep 6/6 : LABEL \"k\"=\"v\"\n ---> Running in {}\n ---> Removed intermediate container {}\n ---> {}\nSuccessfully built {}\nSuccessfully tagged todo:latest\nSuccessfully tagged localhost:5000/todo:v1\n",
        id(0),
        running[0],
        running[0],
        id(1),
        id(2),
        running[1],
        running[1],
        id(3),
        running[2],
        running[2],
        id(4),
        id(4),
    );
    assert_eq!(first.classic(), expected);
    assert_eq!(builder::short(&first.output.image), id(4));
    assert_eq!(first.image.config.config.labels.get("k").map(String::as_str), Some("v"));
    assert_eq!(first.output.tags, ["docker.io/library/todo:latest", "localhost:5000/todo:v1"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_can_not_be_served_say_why() {
    let world = World::new().await;
    world.file("empty", "");
    world.file("blank", " \n");
    for (dockerfile, message) in [
        (Source::Path("none".into()), "Cannot locate specified Dockerfile: none"),
        (Source::Path("empty".into()), "The Dockerfile (empty) cannot be empty"),
        (Source::Path("blank".into()), "failed to parse Dockerfile: file with no instructions"),
        (Source::Text("FROM base\nFOO".into()), "dockerfile parse error on line 2: unknown instruction: FOO"),
        (Source::Text("FROM base\nEXPOSE x".into()), "invalid containerPort: x"),
        (Source::Text("FROM base\nSTOPSIGNAL NOPE".into()), "invalid signal: NOPE"),
        (Source::Text("FROM base\nENV a=${b?needed}".into()), "failed to process \"${b?needed}\": b: needed"),
    ] {
        let (result, _) = world.try_build(BuildRequest { dockerfile, ..world.request("") }).await;
        assert_eq!(result.unwrap_err().to_string(), message);
    }
    let (result, _) =
        world.try_build(BuildRequest { context: Context::None, ..world.request("FROM base\nCOPY a b") }).await;
    assert_eq!(result.unwrap_err().to_string(), "COPY failed: no build context for a");
    let (result, _) =
        world.try_build(BuildRequest { tags: vec!["Bad Tag".into()], ..world.request("FROM base") }).await;
    assert!(result.unwrap_err().to_string().contains("invalid reference format"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_step_the_result_is_the_base_itself() {
    let world = World::new().await;
    let base = world.content.image("base").unwrap();
    let built = world.build_with(BuildRequest { tags: vec!["same".into()], ..world.request("FROM base") }).await;
    assert_eq!(built.output.image, base.id.to_string());
    assert_eq!(world.content.image("same").unwrap().manifest, base.manifest);
    let staged = world.build("FROM base AS one\nFROM one").await;
    assert_eq!(staged.output.image, base.id.to_string());
    let empty = world.build("FROM scratch\nENV A=1").await;
    assert!(empty.image.config.rootfs.diff_ids.is_empty());
    world.end().await;
}
