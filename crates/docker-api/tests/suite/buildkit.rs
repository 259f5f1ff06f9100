//! `docker build` with buildx, as it comes with docker: BuildKit's API on the engine's socket.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::wire::ask;
use super::world::{Outcome, World};

/// The client with its plugin, which scripts/deps.sh installs.
fn buildx(world: &World, args: &[&str]) -> Command {
    let mut command = world.client(args);
    command.env("DOCKER_BUILDKIT", "1").env("BUILDKIT_PROGRESS", "plain").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
    command
}

fn build(world: &World, args: &[&str]) -> Outcome {
    world.finish(buildx(world, &[&["buildx", "build"], args].concat()), b"")
}

/// A directory with these files.
fn context(world: &World, name: &str, files: &[(&str, &str)]) -> String {
    let directory = world.path(name);
    for (file, text) in files {
        let path = directory.join(file);
        std::fs::create_dir_all(path.parent().expect("below the directory")).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory.to_str().unwrap().to_owned()
}

#[test]
fn a_build_with_buildx_shows_its_steps_and_makes_an_image() {
    let world = World::new();
    let dockerfile = "FROM busybox AS base\nARG WHO=nobody\nRUN echo by $WHO > /who && echo said\nFROM base\nWORKDIR /w\nCOPY . .\nCMD cat /who\n";
    let ignore = "*.o\n!keep.o\n";
    let files = [
        ("Dockerfile", dockerfile),
        (".dockerignore", ignore),
        ("a", "1"),
        ("sub/b", "2"),
        ("x.o", ""),
        ("keep.o", ""),
    ];
    let context = context(&world, "context", &files);
    let first = build(&world, &["-t", "made", "--build-arg", "WHO=me", "--label", "l=v", &context]);
    assert_eq!(first.code, 0, "{first:?}");
    for line in [
        "[internal] load build definition from Dockerfile",
        "[internal] load metadata for docker.io/library/busybox:latest",
        "[internal] load build context",
        "[base 1/2] FROM docker.io/library/busybox:latest",
        "[base 2/2] RUN echo by $WHO > /who && echo said",
        " said\n",
        "[stage-1 2/2] COPY . .",
        "exporting to image",
        "naming to docker.io/library/made:latest",
    ] {
        assert!(first.stderr.contains(line), "{line:?} is missing in {}", first.stderr);
    }
    assert!(!first.stderr.contains("CACHED"), "{}", first.stderr);
    assert_eq!(world.docker(&["run", "--rm", "made"]).ok(), "by me");
    let found = world.docker(&["run", "--rm", "made", "sh", "-c", "ls -A . sub"]).ok();
    assert_eq!(
        found.split_whitespace().collect::<Vec<_>>(),
        [".:", ".dockerignore", "Dockerfile", "a", "keep.o", "sub", "sub:", "b"]
    );
    let again = build(&world, &["-t", "made", "--build-arg", "WHO=me", "--label", "l=v", &context]);
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{}", again.stderr);
    // What programs are told.
    let (id, metadata) = (world.path("id"), world.path("metadata"));
    let quiet = world.finish(
        {
            let mut quiet = buildx(&world, &["buildx", "build", "-q", "--build-arg", "WHO=me", "--label", "l=v"]);
            quiet
                .arg("--iidfile")
                .arg(&id)
                .arg("--metadata-file")
                .arg(&metadata)
                .arg(&context)
                .env_remove("BUILDKIT_PROGRESS");
            quiet
        },
        b"",
    );
    let made = world.docker(&["image", "inspect", "-f", "{{.Id}} {{.Config.Labels.l}}", "made"]).ok();
    assert_eq!(format!("{} v", quiet.ok()), made);
    assert_eq!(format!("{} v", std::fs::read_to_string(&id).unwrap()), made);
    let metadata: serde_json::Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(format!("{} v", metadata["containerimage.config.digest"].as_str().unwrap()), made);
    // The classic way is still there, and makes the same of the same steps.
    assert!(world.docker(&["build", "--build-arg", "WHO=me", &context]).ok().contains("Using cache"));
    assert_eq!(scratch(&world), Vec::<String>::new());
}

#[test]
fn failures_show_the_dockerfiles_lines_and_buildkits_words() {
    let world = World::new();
    let failing = |dockerfile: &str, args: &[&str]| {
        let context = context(&world, "context", &[("Dockerfile", dockerfile)]);
        build(&world, &[args, &[&context]].concat()).fails(1)
    };
    let text = failing("FROM busybox\nRUN echo before; \\\n  exit 7\n", &[]);
    assert!(
        text.contains("process \"/bin/sh -c echo before;   exit 7\" did not complete successfully: exit code: 7"),
        "{text}"
    );
    assert!(text.contains("   2 | >>> RUN echo before; \\") && text.contains("   3 | >>>   exit 7"), "{text}");
    assert!(text.contains(" before\n"), "{text}");
    let text = failing("FROM busybox\nCOPY missing /\n", &[]);
    assert!(text.contains("\"/missing\": not found") && text.contains("   2 | >>> COPY missing /"), "{text}");
    let text = failing("FROM busybox\nRNU x\n", &[]);
    assert!(text.contains("dockerfile parse error on line 2: unknown instruction: RNU"), "{text}");
    assert!(failing("FROM busybox\n", &["--target", "x"]).contains("target stage \"x\" could not be found"));
    assert!(failing("FROM busybox\n", &["-f", "/nowhere/Dockerfile"]).contains("/nowhere"));
    assert!(failing("FROM busybox\n", &["--platform", "linux/arm64"]).contains("can't be built here"));
    assert!(failing("FROM 127.0.0.1:1/x\n", &[]).contains("Connection refused"));
    assert_eq!(world.docker(&["images", "-q"]).ok().lines().count(), 1);
}

#[test]
fn dockerfiles_and_contexts_come_from_standard_input_too() {
    let world = World::new();
    let dockerfile =
        world.finish(buildx(&world, &["buildx", "build", "-t", "one", "-"]), b"FROM busybox\nCMD echo one\n");
    assert_eq!(dockerfile.code, 0, "{dockerfile:?}");
    assert_eq!(world.docker(&["run", "--rm", "one"]).ok(), "one");
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [("sub/D", "FROM busybox\nCOPY file /\nCMD cat /file\n"), ("file", "two")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let archive = tar.into_inner().unwrap();
    let archived = world.finish(buildx(&world, &["buildx", "build", "-t", "two", "-f", "sub/D", "-"]), &archive);
    assert_eq!(archived.code, 0, "{archived:?}");
    assert_eq!(world.docker(&["run", "--rm", "two"]).ok(), "two");
    let context = context(&world, "context", &[("file", "three")]);
    let own = buildx(&world, &["buildx", "build", "-t", "three", "-f", "-", &context]);
    let own = world.finish(own, b"FROM busybox\nCOPY file /\nCMD cat /file\n");
    assert_eq!(own.code, 0, "{own:?}");
    assert_eq!(world.docker(&["run", "--rm", "three"]).ok(), "three");
}

#[test]
fn secrets_named_contexts_and_outputs_go_through_the_session() {
    let world = World::new();
    let dockerfile = "FROM busybox AS all\nRUN --mount=type=secret,id=s cat /run/secrets/s | grep -q hidden && touch /seen\nRUN --mount=type=secret,id=none test ! -e /run/secrets/none\nFROM scratch\nCOPY --from=all /seen /seen\nCOPY --from=extra file /extra\nCOPY --from=other /bin/busybox /b\n";
    let main = context(&world, "main", &[("Dockerfile", dockerfile), ("secret", "hidden")]);
    let extra = context(&world, "extra", &[("file", "from extra"), ("left-out", ""), (".dockerignore", "left-out")]);
    let secret = format!("id=s,src={main}/secret");
    let extra = format!("extra={extra}");
    let base = ["--secret", &secret, "--build-context", &extra, "--build-context", "other=docker-image://busybox"];
    let directory = world.path("out");
    let local = format!("type=local,dest={}", directory.display());
    let outcome = build(&world, &[&base[..], &["-o", &local, &main]].concat());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(std::fs::read_to_string(directory.join("extra")).unwrap(), "from extra");
    assert!(directory.join("seen").exists() && directory.join("b").exists());
    for kind in ["tar", "oci", "docker"] {
        let file = world.path(kind);
        let output = format!("type={kind},dest={}", file.display());
        let outcome = build(&world, &[&base[..], &["-t", "exported:1", "-o", &output, &main]].concat());
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let names = names(&file);
        let wanted = match kind {
            "tar" => "extra",
            "oci" => "oci-layout",
            _ => "manifest.json",
        };
        assert!(names.iter().any(|name| name == wanted), "{kind}: {names:?}");
    }
    // None of them stays here, until it is loaded.
    assert_eq!(world.docker(&["images", "-q"]).ok().lines().count(), 1);
    world.docker(&["load", "-i", world.path("docker").to_str().unwrap()]).ok();
    assert_eq!(world.docker(&["images", "-q", "exported:1"]).ok().lines().count(), 1);
    assert_eq!(scratch(&world), Vec::<String>::new());
}

#[test]
fn a_client_that_is_interrupted_ends_its_build() {
    let world = World::new();
    let context =
        context(&world, "context", &[("Dockerfile", "FROM busybox\nCOPY . /c\nRUN echo begun; sleep 1000\n")]);
    let mut client =
        buildx(&world, &["buildx", "build", &context]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(client.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" begun") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0, "it ended early");
    }
    assert_ne!(scratch(&world), Vec::<String>::new());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(client.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    assert!(!client.wait().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(20);
    let work = world.path("data/builder/work");
    while !scratch(&world).is_empty() || std::fs::read_dir(&work).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "something of the build stays: {:?}", scratch(&world));
        std::thread::yield_now();
    }
}

#[test]
fn a_kill_in_the_middle_of_a_build_leaves_nothing_after_the_next_start() {
    let mut world = World::new();
    let context =
        context(&world, "context", &[("Dockerfile", "FROM busybox\nCOPY . /c\nRUN echo begun; sleep 1000\n")]);
    let mut client = buildx(&world, &["buildx", "build", &context]);
    let mut client = client.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(client.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" begun") {
        line.clear();
        assert_ne!(std::io::BufRead::read_line(&mut said, &mut line).unwrap(), 0, "it ended early");
    }
    // Its files, its workspace, and its place in the network.
    assert_eq!(left(&world), 4);
    world.crash_and_restart();
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    assert!(!client.wait().unwrap().success());
    assert_eq!(left(&world), 0);
    std::fs::write(Path::new(&context).join("Dockerfile"), "FROM busybox\nCOPY . /c\nRUN echo again\n").unwrap();
    assert_eq!(build(&world, &[&context]).code, 0);
}

/// How much of a build is on the disk.
fn left(world: &World) -> usize {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let builds = |directory: &str, below: &str| {
        let networks =
            entries(&world.path(directory)).flat_map(|network| entries(&network.join(below)).collect::<Vec<_>>());
        networks.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("build-")).count()
    };
    scratch(world).len()
        + entries(&world.path("data/builder/work")).count()
        + builds("data/docker/networks", "leases")
        + builds("data/run/networks", "netns")
}

#[test]
fn buildx_finds_out_about_the_builder_and_its_cache() {
    let world = World::new();
    let run = |args: &[&str]| world.finish(buildx(&world, args), b"").ok();
    assert!(run(&["buildx", "ls"]).contains("running"));
    assert!(run(&["buildx", "inspect"]).contains("linux/"));
    let context = context(&world, "context", &[("Dockerfile", "FROM busybox\nRUN echo 1 > /1\n")]);
    build(&world, &[&context]).ok();
    assert!(run(&["buildx", "du", "--verbose"]).contains("RUN /bin/sh -c echo 1 > /1"));
    assert!(run(&["buildx", "prune", "-f"]).contains("Total:"));
    assert!(!run(&["buildx", "du", "--verbose"]).contains("echo 1"));
    assert!(!build(&world, &[&context]).stderr.contains("CACHED"));
}

#[test]
fn connections_become_http2_when_they_ask_for_it() {
    let world = World::empty();
    for path in ["/grpc", "/session"] {
        let plain = ask(&world, &format!("POST {path} HTTP/1.1\r\nContent-Length: 0"));
        assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("no upgrade proto in request"), "{plain}");
        let other = ask(&world, &format!("POST {path} HTTP/1.1\r\nUpgrade: tcp"));
        assert!(other.contains("protocol tcp not supported"), "{other}");
    }
    assert!(ask(&world, "POST /session HTTP/1.1\r\nUpgrade: h2c").contains("a session has an id"));
    let missing = ask(&world, "POST /build?version=2 HTTP/1.1\r\nContent-Length: 0");
    assert!(missing.starts_with("HTTP/1.1 400"), "{missing}");
}

#[test]
fn any_client_that_wants_buildkit_gets_it() {
    // One with the plugin hands over to that; one of before (20.10) asks in its own way.
    let world = World::new();
    let files =
        [("Dockerfile", "FROM busybox\nCOPY . /c\nRUN cat /c/file && echo run > /run\n"), ("file", "from a file\n")];
    let context = context(&world, "context", &files);
    let direct = |args: &[&str]| world.finish(buildx(&world, &[&["build"], args].concat()), b"");
    let first = direct(&["-t", "made", &context]);
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.stderr.contains("[2/3] COPY . /c") && first.stderr.contains(" from a file"), "{first:?}");
    assert_eq!(world.docker(&["run", "--rm", "made", "cat", "/run"]).ok(), "run");
    let output = world.path("out");
    direct(&["-o", output.to_str().unwrap(), &context]).ok();
    assert_eq!(std::fs::read_to_string(output.join("run")).unwrap(), "run\n");
    std::fs::write(Path::new(&context).join("Dockerfile"), "FROM busybox\nRUN exit 7\n").unwrap();
    let failed = direct(&[&context]);
    assert!(failed.code != 0 && failed.stderr.contains("did not complete successfully: exit code: 7"), "{failed:?}");
    assert_eq!(scratch(&world), Vec::<String>::new());
}

#[test]
fn an_image_is_pushed_as_the_user_that_the_client_is() {
    let world = World::new();
    let registry = ClosedRegistry::start(&world);
    let context = context(&world, "context", &[("Dockerfile", "FROM busybox\nRUN echo pushed > /pushed\n")]);
    let name = format!("{}/team/app:1", registry.address);
    let refused = build(&world, &["--push", "-t", &name, &context]).fails(1);
    assert!(
        refused.contains(&format!("failed to push {name}")) && refused.contains("no basic auth credentials"),
        "{refused}"
    );
    let login = serde_json::json!({"auths": {&registry.address: {"auth": "a2VlcGVyOm9wZW4gc2VzYW1l"}}});
    std::fs::create_dir_all(world.path("client")).unwrap();
    std::fs::write(world.path("client/config.json"), login.to_string()).unwrap();
    let pushed = build(&world, &["--push", "-t", &name, &context]);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    assert!(pushed.stderr.contains(&format!("pushing manifest for {name}@sha256:")), "{pushed:?}");
    world.docker(&["rmi", &name]).ok();
    // A base that only this user may have.
    let from = format!("FROM {name}\nCMD cat /pushed\n");
    std::fs::write(Path::new(&context).join("Dockerfile"), from).unwrap();
    let derived = build(&world, &["--pull", "-t", "derived", &context]);
    assert_eq!(derived.code, 0, "{derived:?}");
    assert_eq!(world.docker(&["run", "--rm", "derived"]).ok(), "pushed");
}

#[test]
fn a_target_of_a_bake_file_stands_on_another() {
    let world = World::new();
    let bake = r#"
target "base" {
  dockerfile-inline = "FROM busybox\nRUN head -c 16 /dev/urandom > /once\nENV WHO=base\n"
}
target "derived" {
  contexts = { base = "target:base" }
  dockerfile-inline = "FROM base\nCOPY --from=base /once /copy\nRUN test \"$WHO\" = base\nCMD cat /once /copy\n"
  tags = ["derived"]
}
group "default" { targets = ["base", "derived"] }
"#;
    let context = context(&world, "context", &[("docker-bake.hcl", bake)]);
    let mut command = buildx(&world, &["buildx", "bake", "--set", "base.tags=base"]);
    command.current_dir(&context);
    let baked = world.finish(command, b"");
    assert_eq!(baked.code, 0, "{baked:?}");
    // One random text: the base was made once, and both are of it.
    let sums = |name: &str, path: &str| world.docker(&["run", "--rm", name, "od", "-A", "n", "-t", "x1", path]).ok();
    let once = sums("base", "/once");
    assert!(!once.is_empty());
    assert_eq!((sums("derived", "/once"), sums("derived", "/copy")), (once.clone(), once));
    // No image of in between stays.
    assert_eq!(world.docker(&["images", "-q"]).ok().lines().count(), 3);
    assert_eq!(world.docker(&["images", "-q", "-f", "dangling=true"]).ok(), "");
}

#[test]
fn a_step_has_the_socket_of_the_users_agent() {
    let world = World::new();
    let agent = world.path("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let mount = "RUN --mount=type=ssh,mode=640,uid=7 test -S $SSH_AUTH_SOCK && ls -ln $SSH_AUTH_SOCK";
    let dockerfile = format!("FROM busybox\n{mount}\nRUN --mount=type=ssh,id=none test -z \"$SSH_AUTH_SOCK\"\n");
    let context = context(&world, "context", &[("Dockerfile", &dockerfile)]);
    let forwarded = build(&world, &["--ssh", &format!("default={}", agent.display()), &context]);
    assert_eq!(forwarded.code, 0, "{forwarded:?}");
    assert!(
        forwarded.stderr.contains("srw-r-----") && forwarded.stderr.contains("/run/buildkit/ssh_agent.0"),
        "{forwarded:?}"
    );
    let required = dockerfile.replace("id=none", "id=none,required");
    std::fs::write(Path::new(&context).join("Dockerfile"), required).unwrap();
    let missing = build(&world, &["--ssh", &format!("default={}", agent.display()), &context]).fails(1);
    assert!(missing.contains("none"), "{missing}");
}

#[test]
fn a_cache_is_kept_in_a_directory_or_at_a_registry_and_found_there_again() {
    let world = World::new();
    let registry = ClosedRegistry::start(&world);
    std::fs::create_dir_all(world.path("client")).unwrap();
    let login = serde_json::json!({"auths": {&registry.address: {"auth": "a2VlcGVyOm9wZW4gc2VzYW1l"}}});
    std::fs::write(world.path("client/config.json"), login.to_string()).unwrap();
    // Of two stages, one of which leaves nothing in the image but a random file.
    let dockerfile = "FROM busybox AS first\nRUN head -c 9 /dev/urandom > /r\nFROM busybox\nCOPY --from=first /r /r\n";
    let context = context(&world, "context", &[("Dockerfile", dockerfile)]);
    let place = world.path("cache").display().to_string();
    let name = format!("{}/team/app:cache", registry.address);
    let id = || world.docker(&["image", "inspect", "-f", "{{.Id}}", "made"]).ok();
    let forget = || {
        world.docker(&["rmi", "made"]).ok();
        world.finish(buildx(&world, &["buildx", "prune", "-af"]), b"").ok();
    };
    for (to, from) in [
        (format!("type=local,dest={place}"), format!("type=local,src={place}")),
        (format!("type=registry,ref={name}"), format!("type=registry,ref={name}")),
    ] {
        let first = build(&world, &["-t", "made", "--cache-to", &to, &context]);
        assert_eq!(first.code, 0, "{first:?}");
        let made = id();
        forget();
        // The cache itself is no image of this engine's.
        assert_eq!(world.docker(&["images", "-q"]).ok().lines().count(), 1);
        let again = build(&world, &["-t", "made", "--cache-from", &from, &context]);
        assert_eq!((again.code, again.stderr.matches("CACHED").count()), (0, 2), "{again:?}");
        assert_eq!(id(), made, "{to}");
        assert_eq!(world.docker(&["images", "-q"]).ok().lines().count(), 2);
        forget();
        let anew = build(&world, &["-t", "made", &context]);
        assert_eq!((anew.code, anew.stderr.matches("CACHED").count()), (0, 0), "{anew:?}");
        forget();
    }
    // None there: the build goes on without.
    let nothing = format!("type=local,src={}", world.path("nothing").display());
    build(&world, &["--cache-from", &nothing, &context]).ok();
    // Where it cannot go, the build fails or does without, as is wanted.
    let unreachable = "type=registry,ref=127.0.0.1:1/x";
    assert!(build(&world, &["--cache-to", unreachable, &context]).fails(1).contains("failed to push"));
    build(&world, &["--cache-to", &format!("{unreachable},ignore-error=true"), &context]).ok();
    assert_eq!(world.docker(&["images", "-q", "127.0.0.1:1/x"]).ok(), "");
    let said = build(&world, &["--cache-to", "type=else", &context]).fails(1);
    assert!(said.contains("cache export to else is not supported"), "{said}");
}

/// Debian's registry, open only to `keeper` with the password `open sesame`.
struct ClosedRegistry {
    address: String,
    server: std::process::Child,
}

impl ClosedRegistry {
    fn start(world: &World) -> Self {
        let users = world.path("htpasswd");
        std::fs::write(&users, "keeper:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (config, root) = (world.path("registry.yml"), world.path("registry"));
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            root.display(),
            users.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut server = Command::new("docker-registry");
        let server = server.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let registry =
            Self { address: format!("127.0.0.1:{port}"), server: server.expect("docker-registry is installed") };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&registry.address).is_err() {
            assert!(Instant::now() < deadline, "the registry does not answer");
            std::thread::yield_now();
        }
        registry
    }
}

impl Drop for ClosedRegistry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The names in an archive.
fn names(archive: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

/// What is under way in the engine's directory.
fn scratch(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("data/docker/tmp")).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A repository with two commits, the first of which is `v1`, and git's own server of it; its address.
fn repository(world: &World) -> String {
    let place = context(world, "repository", &[("Dockerfile", "FROM busybox\nCOPY f /f\n"), ("f", "first\n")]);
    context(world, "repository/sub", &[("Dockerfile", "FROM busybox\nCOPY g /g\n"), ("g", "part\n")]);
    let git = |args: &[&str]| {
        let own = ["-c", "user.name=me", "-c", "user.email=me@here", "-C", &place];
        let done = Command::new("git").args(own).args(args).output().expect("git is installed");
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "-q", "-b", "main", "."]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["tag", "v1"]);
    git(&["tag", "-a", "told", "-m", "with words"]);
    std::fs::write(Path::new(&place).join("f"), "second\n").unwrap();
    git(&["commit", "-q", "-a", "-m", "two"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = upload_pack(stream, &place);
        }
    });
    format!("http://{address}/app.git")
}

/// Answers one request as `git http-backend` does.
fn upload_pack(stream: std::net::TcpStream, repository: &str) -> std::io::Result<()> {
    use std::io::{BufRead, Read, Write};
    let mut reader = std::io::BufReader::new(stream.try_clone()?);
    let (mut first, mut length, mut protocol) = (String::new(), 0, String::new());
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "git-protocol" => value.clone_into(&mut protocol),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mode = if first.starts_with("GET") { "--http-backend-info-refs" } else { "--stateless-rpc" };
    let mut child = Command::new("git")
        .args(["-c", "uploadpack.allowAnySHA1InWant=true", "upload-pack", mode, repository])
        .env("GIT_PROTOCOL", protocol)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().expect("piped").write_all(&body)?;
    let output = child.wait_with_output()?.stdout;
    let kind = if first.starts_with("GET") { "advertisement" } else { "result" };
    let kind = format!("Content-Type: application/x-git-upload-pack-{kind}");
    let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", output.len());
    (&stream).write_all(&[head.as_bytes(), &output].concat())
}

#[test]
fn a_repository_is_a_context_and_may_be_added() {
    let world = World::new();
    let url = repository(&world);
    for (tag, fragment, file, text) in
        [("whole", "", "/f", "second"), ("old", "#v1", "/f", "first"), ("part", "#main:sub", "/g", "part")]
    {
        let built = build(&world, &["-t", tag, &format!("{url}{fragment}")]);
        assert_eq!(built.code, 0, "{built:?}");
        assert_eq!(world.docker(&["run", "--rm", tag, "cat", file]).ok(), text);
    }
    let said = build(&world, &[&format!("{url}#none")]).fails(1);
    assert!(said.contains("the repository has no reference \"none\""), "{said}");
    let said = build(&world, &[&format!("{url}#main:nowhere")]).fails(1);
    assert!(said.contains("there is no directory nowhere in it"), "{said}");
    let dockerfile = format!(
        "FROM busybox\nADD {url}#v1 /src/\nADD --exclude=f {url}#main:sub /sub\nCOPY --from=other f /other\n\
         RUN ls -A /src && ls -A /sub && cat /src/f /other\n"
    );
    let files = context(&world, "adding", &[("Dockerfile", &dockerfile)]);
    let built = build(&world, &["--build-context", &format!("other={url}"), &files]);
    assert_eq!(built.code, 0, "{built:?}");
    let shown: Vec<&str> = built.stderr.lines().filter(|line| line.starts_with("#")).collect();
    let shown = shown.join("\n");
    for line in [" Dockerfile", " f", " sub", " g", " first", " second"] {
        assert!(shown.lines().any(|said| said.ends_with(line)), "{line} is missing in {shown}");
    }
    assert!(!shown.lines().any(|said| said.ends_with(" .git")), "{shown}");
    // The classic endpoint, as programs ask it.
    let answer = ask(&world, &format!("POST /v1.41/build?t=classic&remote={url}%23v1 HTTP/1.1\r\nContent-Length: 0"));
    assert!(answer.contains("Successfully tagged classic:latest"), "{answer}");
    assert_eq!(world.docker(&["run", "--rm", "classic", "cat", "/f"]).ok(), "first");
}

#[test]
fn a_repository_is_kept_with_its_files_where_that_is_asked_for() {
    let world = World::new();
    let url = repository(&world);
    let dockerfile = format!(
        "FROM scratch\nADD --keep-git-dir=true {url} /whole/\nADD --keep-git-dir --checksum=$SUM {url}#told /tag/\n\
         ADD --keep-git-dir {url}#main:sub /part/\nADD --chown=7:8 --keep-git-dir {url}#v1 /owned/\n"
    );
    let origin = world.path("repository").display().to_string();
    let git = |place: &str, args: &[&str]| {
        let done = Command::new("git").args(["-c", "safe.directory=*", "-C", place]).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    };
    let (first, second) = (git(&origin, &["rev-parse", "v1"]), git(&origin, &["rev-parse", "main"]));
    let out = world.path("kept").display().to_string();
    let files = context(&world, "keeping", &[("Dockerfile", &dockerfile.replace("$SUM", &first[..9]))]);
    build(&world, &["-o", &out, &files]).ok();
    for (place, commit, reference) in
        [("whole", &second, "refs/heads/main"), ("tag", &first, "refs/tags/told"), ("owned", &first, "refs/tags/v1")]
    {
        let place = format!("{out}/{place}");
        assert_eq!(git(&place, &["status", "--porcelain"]), "", "{place}");
        assert_eq!(git(&place, &["log", "--format=%H"]), *commit);
        assert_eq!(git(&place, &["config", "remote.origin.url"]), url);
        assert_eq!(git(&place, &["for-each-ref", "--format=%(refname)"]), reference);
        git(&place, &["fsck", "--strict"]);
    }
    assert_eq!(git(&format!("{out}/tag"), &["cat-file", "-t", "told"]), "tag");
    assert_eq!(git(&format!("{out}/whole"), &["rev-parse", "--is-shallow-repository"]), "true");
    assert!(!Path::new(&out).join("part/.git").exists(), "a part is no repository");
    let context_files = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", "-f-", "-o", &out, &url];
    let command = buildx(&world, &[&["buildx", "build"], &context_files[..]].concat());
    let built = world.finish(command, b"FROM scratch\nCOPY . /context/\n");
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(git(&format!("{out}/context"), &["status", "--porcelain"]), "");
}

/// Runs git; the user's own settings don't count.
fn git(place: &Path, args: &[&str]) {
    let own = ["-c", "user.name=me", "-c", "user.email=me@here", "-c", "protocol.file.allow=always"];
    let done = Command::new("git").args(own).arg("-C").arg(place).args(args).output().expect("git is installed");
    assert!(done.status.success(), "{args:?}: {done:?}");
}

#[test]
fn a_repository_brings_its_submodules() {
    let world = World::new();
    let url = repository(&world);
    let top = world.path("repository");
    // A library that has one of its own, of another server.
    let (library, inner) = (world.path("library"), world.path("inner"));
    for (place, file) in [(&inner, "deep"), (&library, "lib")] {
        std::fs::create_dir(place).unwrap();
        git(place, &["init", "-q", "-b", "main", "."]);
        std::fs::write(place.join(file), format!("text of {file}\n")).unwrap();
    }
    let serve = |place: &Path| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, place) = (listener.local_addr().unwrap(), place.to_str().unwrap().to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = upload_pack(stream, &place);
            }
        });
        format!("http://{address}/it.git")
    };
    let commit = |place: &Path| {
        git(place, &["add", "-A"]);
        git(place, &["commit", "-q", "-m", "more"]);
    };
    commit(&inner);
    git(&library, &["submodule", "add", "-q", &serve(&inner), "within/inner"]);
    commit(&library);
    git(&top, &["submodule", "add", "-q", "--name", "the lib", &serve(&library), "sub/lib"]);
    commit(&top);
    let read =
        "RUN cat /all/sub/lib/lib /all/sub/lib/within/inner/deep /part/within/inner/deep && ! test -e /all/.git\n";
    let dockerfile =
        format!("FROM busybox\nCOPY . /all\nADD {url}#main:sub/lib /part\nADD --keep-git-dir {url} /kept\n{read}");
    std::fs::write(top.join("Dockerfile"), dockerfile).unwrap();
    commit(&top);
    let out = world.path("out").display().to_string();
    let built = build(&world, &["-o", &out, &url]);
    assert_eq!(built.code, 0, "{built:?}");
    let kept = Path::new(&out).join("kept");
    let status = |args: &[&str]| {
        let done = Command::new("git").args(["-c", "safe.directory=*", "-C"]).arg(&kept).args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(status(&["status", "--porcelain"]), "");
    assert!(status(&["submodule", "status", "--recursive"]).lines().all(|line| line.starts_with(' ')));
    // Whoever wrote a repository does not read this machine's disk with it.
    let settings = std::fs::read_to_string(top.join(".gitmodules")).unwrap();
    let (before, _) = settings.split_once("url = ").unwrap();
    std::fs::write(top.join(".gitmodules"), format!("{before}url = file://{}\n", library.display())).unwrap();
    commit(&top);
    let said = build(&world, &[&url]).fails(1);
    assert!(said.contains("submodule sub/lib") && said.contains("is no address of a repository"), "{said}");
}

/// A server of ssh on a port of its own that lets one key in, and an agent that holds it.
struct Shell {
    server: std::process::Child,
    agent: std::process::Child,
    port: u16,
    socket: std::path::PathBuf,
}

impl Shell {
    fn start(world: &World) -> Self {
        let path = |name: &str| world.path(name).display().to_string();
        for key in ["host-key", "own-key"] {
            let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f", &path(key)]).status();
            assert!(made.expect("ssh-keygen is installed").success());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nListenAddress 127.0.0.1:{port}\nPidFile none\nStrictModes no\nUsePAM yes\n\
             PasswordAuthentication no\n",
            path("host-key"),
            path("own-key.pub")
        );
        std::fs::write(world.path("sshd"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = quiet(Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &path("sshd")]));
        let socket = world.path("own-agent");
        let agent = quiet(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket));
        let server = server.expect("sshd is installed");
        let shell = Self { server, agent: agent.expect("ssh-agent is installed"), port, socket };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
            || std::os::unix::net::UnixStream::connect(&shell.socket).is_err()
        {
            assert!(Instant::now() < deadline, "the server or the agent does not answer");
            std::thread::yield_now();
        }
        let added = Command::new("ssh-add").args(["-q", &path("own-key")]).env("SSH_AUTH_SOCK", &shell.socket).status();
        assert!(added.unwrap().success());
        shell
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.agent] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_repository_of_ssh_is_fetched_with_the_users_keys() {
    let world = World::new();
    repository(&world);
    let shell = Shell::start(&world);
    let url = format!("ssh://root@127.0.0.1:{}{}", shell.port, world.path("repository").display());
    let agent = format!("default={}", shell.socket.display());
    let built = build(&world, &["--ssh", &agent, "-t", "old", &format!("{url}#v1")]);
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(world.docker(&["run", "--rm", "old", "cat", "/f"]).ok(), "first");
    let dockerfile = format!(
        "FROM busybox\nADD --keep-git-dir {url}#told /src/\nRUN cat /src/f /src/.git/shallow || cat /src/.git/HEAD\n"
    );
    let files = context(&world, "adding", &[("Dockerfile", &dockerfile)]);
    let built = build(&world, &["--ssh", &agent, "--build-context", &format!("other={url}"), &files]);
    assert_eq!(built.code, 0, "{built:?}");
    // Without an agent, without the key, and where there is no such repository.
    let said = build(&world, &[&files]).fails(1);
    assert!(said.contains("failed to fetch ssh://root@127.0.0.1:") && said.contains("key default"), "{said}");
    let said = build(&world, &["--ssh", &agent, &format!("{url}-none")]).fails(1);
    assert!(said.contains("does not appear to be a git repository"), "{said}");
    let emptied = Command::new("ssh-add").args(["-q", "-D"]).env("SSH_AUTH_SOCK", &shell.socket).status();
    assert!(emptied.unwrap().success());
    let said = build(&world, &["--ssh", &agent, &url]).fails(1);
    assert!(said.contains("permission denied") || said.contains("no keys"), "{said}");
}
