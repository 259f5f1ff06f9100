//! `docker build` by the classic endpoint.

use super::world::World;

#[test]
fn a_dockerfile_becomes_an_image_and_its_failures_have_their_code() {
    let world = World::new();
    let context = world.path("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("file"), "from the context\n").unwrap();
    std::fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nARG WHO=nobody\nENV WHO=$WHO\nCOPY file /file\nRUN echo by $WHO >> /file && ip addr show eth0 > /net\nCMD cat /file\n",
    )
    .unwrap();
    let build = |extra: &[&str]| {
        let mut args = vec!["build", "-t", "made"];
        args.extend(extra);
        args.push(context.to_str().unwrap());
        world.docker(&args)
    };
    let text = build(&["--build-arg", "WHO=me"]).ok();
    assert!(text.contains("Step 1/6 : FROM busybox") && text.contains("Successfully tagged made:latest"), "{text}");
    assert_eq!(world.docker(&["run", "--rm", "made"]).ok(), "from the context\nby me");
    // `RUN` was in the default network.
    assert!(world.docker(&["run", "--rm", "made", "cat", "/net"]).ok().contains("inet 10."));
    assert!(build(&["--build-arg", "WHO=me"]).ok().contains("Using cache"));
    let id = build(&["-q", "--build-arg", "WHO=you"]).ok();
    assert_eq!(world.docker(&["image", "inspect", "-f", "{{.Id}}", "made"]).ok(), id);
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nRUN exit 7\n").unwrap();
    let text = build(&[]).fails(7);
    assert!(text.contains("The command '/bin/sh -c exit 7' returned a non-zero code: 7"), "{text}");
}

#[test]
fn a_step_finds_the_containers_of_its_network() {
    let world = World::new();
    let context = world.path("context");
    std::fs::create_dir(&context).unwrap();
    let look = "FROM busybox\nRUN ping -c1 target && ping -c1 other.name\n";
    std::fs::write(context.join("Dockerfile"), look).unwrap();
    let isolated = "com.docker.network.bridge.gateway_mode_ipv4=isolated";
    for (name, options) in [("plain", &[][..]), ("alone", &["--internal", "-o", isolated])] {
        world.docker(&[&["network", "create"], options, &[name]].concat()).ok();
        let run = ["run", "-d", "--network", name, "--name", "target", "--network-alias", "other.name"];
        world.docker(&[&run[..], &["busybox", "sleep", "1000"]].concat()).ok();
        world.docker(&["build", "--no-cache", "--network", name, context.to_str().unwrap()]).ok();
        world.docker(&["rm", "-f", "target"]).ok();
    }
}
