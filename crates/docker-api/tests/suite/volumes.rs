//! Volumes and binds.

use super::world::World;

#[test]
fn a_volume_outlives_its_containers_and_is_filled_from_the_image() {
    let world = World::new();
    world.docker(&["run", "--name", "work", "busybox", "sh", "-c", "mkdir /data; echo image > /data/f"]).ok();
    world.docker(&["commit", "-c", "VOLUME /data", "work", "with"]).ok();
    assert_eq!(
        world.docker(&["run", "--rm", "-v", "kept:/data", "with", "sh", "-c", "cat /data/f; echo mine > /data/g"]).ok(),
        "image"
    );
    assert_eq!(world.docker(&["run", "--rm", "-v", "kept:/data:ro", "with", "cat", "/data/g"]).ok(), "mine");
    world.docker(&["run", "-d", "--name", "user", "-v", "kept:/data", "with", "sleep", "1000"]).ok();
    assert!(world.docker(&["volume", "rm", "kept"]).fails(1).contains("volume is in use"));
    assert_eq!(world.docker(&["run", "--rm", "--volumes-from", "user", "busybox", "cat", "/data/g"]).ok(), "mine");
    world.docker(&["rm", "-f", "user"]).ok();
    // Those that nobody named went with their containers.
    assert_eq!(world.docker(&["run", "--rm", "with", "cat", "/data/f"]).ok(), "image");
    assert_eq!(world.docker(&["volume", "ls", "-q"]).ok(), "kept");
    world.docker(&["volume", "rm", "kept"]).ok();
    let text = world.docker(&["volume", "inspect", "kept"]).fails(1);
    assert!(text.to_lowercase().contains("no such volume"), "{text}");
}

#[test]
fn a_directory_of_the_host_may_be_mounted() {
    let world = World::new();
    let directory = world.path("shared");
    let bind = format!("{}:/in", directory.display());
    world.docker(&["run", "--rm", "-v", &bind, "busybox", "touch", "/in/x"]).ok();
    assert!(directory.join("x").exists());
    let text = world.docker(&["run", "--rm", "-v", &format!("{bind}:ro"), "busybox", "touch", "/in/y"]).fails(1);
    assert!(text.contains("Read-only file system"), "{text}");
    let mount = format!("type=bind,source={}/none,target=/in", directory.display());
    let text = world.docker(&["run", "--rm", "--mount", &mount, "busybox", "true"]).fails(125);
    assert!(text.contains("bind source path does not exist"), "{text}");
}

#[test]
fn a_volume_may_be_a_file_system_of_its_own() {
    let world = World::new();
    let create = |name: &str, options: &[&str]| {
        let options: Vec<&str> = options.iter().flat_map(|option| ["--opt", option]).collect();
        world.docker(&[&["volume", "create"], &options[..], &[name]].concat())
    };
    create("memory", &["type=tmpfs", "device=tmpfs", "o=size=1m,mode=700"]).ok();
    let mountpoint = world.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "memory"]).ok();
    let is_mounted = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&mountpoint);
    assert!(!is_mounted());
    let write = "dd if=/dev/zero of=/m/f bs=1k count=2000; echo x > /m/kept; touch /up; sleep 1000";
    world.docker(&["run", "-d", "--name", "work", "-v", "memory:/m", "busybox", "sh", "-c", write]).ok();
    world.until(&["exec", "work", "ls", "/up"], "/up");
    assert!(is_mounted());
    assert!(world.docker(&["logs", "work"]).stderr.contains("No space left on device"));
    // One mount for all, until the last has ended.
    world.docker(&["run", "--rm", "-v", "memory:/m", "busybox", "ls", "/m/kept"]).ok();
    assert!(is_mounted());
    world.docker(&["rm", "-f", "work"]).ok();
    assert!(!is_mounted());
    assert_eq!(world.docker(&["run", "--rm", "-v", "memory:/m", "busybox", "ls", "/m"]).ok(), "");

    let shared = world.path("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("f"), "here\n").unwrap();
    let device = format!("device={}", shared.display());
    create("bound", &["type=none", &device, "o=bind,ro"]).ok();
    let script = "cat /m/f; touch /m/x || echo read-only";
    let outcome = world.docker(&["run", "--rm", "-v", "bound:/m", "busybox", "sh", "-c", script]);
    assert_eq!(outcome.ok(), "here\nread-only");
    assert!(create("bad", &["colour=red"]).fails(1).contains("invalid option: \"colour\""));
    assert!(create("bad", &["type=tmpfs"]).fails(1).contains("missing required option: \"device\""));
    create("gone", &["type=none", "device=/nowhere/at/all", "o=bind"]).ok();
    let said = world.docker(&["run", "--rm", "-v", "gone:/m", "busybox", "true"]).fails(127);
    assert!(said.contains("failed to mount local volume: mount /nowhere/at/all:"), "{said}");
    assert!(said.contains("flags: 0x1000: no such file or directory"), "{said}");
}

#[test]
fn a_part_of_a_volume_may_be_mounted_and_links_do_not_lead_out_of_it() {
    let world = World::new();
    let fill = "mkdir -p /v/a/b; echo deep > /v/a/b/f; /bin/busybox ln -s /etc /v/out";
    world.docker(&["run", "--rm", "-v", "whole:/v", "busybox", "sh", "-c", fill]).ok();
    let mounted = |part: &str, command: &[&str]| {
        let mount = format!("type=volume,source=whole,target=/m,volume-subpath={part}");
        world.docker(&[&["run", "--rm", "--mount", &mount, "busybox"], command].concat())
    };
    assert_eq!(mounted("a/b", &["cat", "/m/f"]).ok(), "deep");
    assert_eq!(mounted("a/b/f", &["cat", "/m"]).ok(), "deep");
    mounted("a/b", &["touch", "/m/g"]).ok();
    assert_eq!(world.docker(&["run", "--rm", "-v", "whole:/v", "busybox", "ls", "/v/a/b"]).ok(), "f\ng");
    assert!(mounted("out", &["ls", "/m"]).fails(125).contains("escapes the base directory"));
    assert!(mounted("none", &["true"]).fails(127).contains("_data/none: no such file or directory"));
    assert!(mounted("../x", &["true"]).fails(125).contains("subpath must be a relative path within the volume"));
    // What does not run shows the same files.
    let mount = "type=volume,source=whole,target=/m,volume-subpath=a/b";
    world.docker(&["create", "--name", "still", "--mount", mount, "busybox", "true"]).ok();
    world.docker(&["cp", "still:/m/f", world.path("copy").to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(world.path("copy")).unwrap(), "deep\n");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("/parts/"));
}

#[test]
fn an_image_may_be_mounted_to_be_read() {
    let mut world = World::new();
    let fill = "mkdir -p /sub /links; echo bar > /foo; echo world > /sub/hello; \
                /bin/busybox ln -s ../sub /links/good; /bin/busybox ln -s ../../../etc /links/bad";
    world.docker(&["run", "--name", "work", "busybox", "sh", "-c", fill]).ok();
    world.docker(&["commit", "work", "shown"]).ok();
    let mounted = |part: &str, command: &[&str]| {
        let mount = format!("type=image,source=shown,target=/m{part}");
        world.docker(&[&["run", "--rm", "--mount", &mount, "busybox"], command].concat())
    };
    let outcome = mounted("", &["sh", "-c", "cat /m/foo; ls /m/bin/busybox; touch /m/x || echo no"]);
    assert!(outcome.stderr.contains("Image mount is an experimental feature"), "{outcome:?}");
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    assert_eq!(outcome.ok(), "bar\n/m/bin/busybox\nno");
    assert_eq!(mounted(",image-subpath=sub", &["cat", "/m/hello"]).ok(), "world");
    assert_eq!(mounted(",image-subpath=links/good", &["ls", "/m"]).ok(), "hello");
    assert_eq!(mounted(",image-subpath=sub/hello", &["cat", "/m"]).ok(), "world");
    assert!(mounted(",image-subpath=links/bad", &["true"]).fails(125).contains("escapes the base directory"));
    assert!(mounted(",image-subpath=none", &["true"]).fails(127).contains("/none: no such file or directory"));
    let text = mounted(",image-subpath=../x", &["true"]).fails(125);
    assert!(
        text.contains("invalid mount config for type \"image\": subpath must be a relative path within the volume"),
        "{text}"
    );
    let missing = ["create", "--pull", "never", "--mount", "type=image,source=nosuch,target=/m", "busybox", "true"];
    let text = world.docker(&missing).fails(1);
    assert!(text.contains("No such image: nosuch:latest"), "{text}");
    let old = [("DOCKER_API_VERSION", "1.47")];
    let mut command = world.client(&["create", "--mount", "type=image,source=shown,target=/m", "busybox", "true"]);
    let text = world.finish(std::mem::replace(command.envs(old), world.client(&[])), b"").fails(1);
    assert!(text.contains("Mount type \"Image\" needs API v1.48 or newer"), "{text}");

    let mount = "type=image,source=shown,target=/m";
    world.docker(&["create", "--name", "one", "--mount", mount, "busybox", "cat", "/m/foo"]).ok();
    let shown = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.RW}} {{.Propagation}}{{end}}";
    assert_eq!(world.docker(&["inspect", "-f", shown, "one"]).ok(), "image shown /m false rprivate");
    world.docker(&["cp", "one:/m/foo", world.path("copy").to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(world.path("copy")).unwrap(), "bar\n");
    let text = world.docker(&["cp", world.path("copy").to_str().unwrap(), "one:/m/"]).fails(1);
    assert!(text.contains("mounted volume is marked read-only"), "{text}");
    assert_eq!(world.docker(&["start", "-a", "one"]).ok(), "bar");
    // Whose image is mounted is asked for, though it is another's root, too.
    let (id, image) = (
        world.docker(&["inspect", "-f", "{{slice .Id 0 12}}", "one"]).ok(),
        world.docker(&["image", "inspect", "-f", "{{slice .Id 7 19}}", "shown"]).ok(),
    );
    let said = format!(
        "conflict: unable to remove repository reference \"shown\" (must force) - container {id} is using its referenced \
         image {image}"
    );
    let text = world.docker(&["rmi", "shown"]).fails(1);
    assert!(text.contains(&said), "{text}");
    // What another has of it, this one has, too.
    let again = ["run", "--rm", "--volumes-from", "one", "busybox", "cat", "/m/foo"];
    assert_eq!(world.docker(&again).ok(), "bar");
    // It starts again without the image, and with another engine.
    world.docker(&["rmi", "-f", "shown"]).ok();
    assert_eq!(world.docker(&["start", "-a", "one"]).ok(), "bar");
    // As a kill leaves it between a container's layers and its record.
    let unborn = format!("data/content/snapshots/{}.0.image/upper", "a".repeat(64));
    std::fs::create_dir_all(world.path(&unborn)).unwrap();
    world.crash_and_restart();
    assert_eq!(world.docker(&["start", "-a", "one"]).ok(), "bar");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("/parts/"));
    world.docker(&["rm", "one", "work"]).ok();
    let left = std::fs::read_dir(world.path("data/content/snapshots")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "what containers showed stays");
}

#[test]
fn a_named_volume_has_no_propagation_of_its_own() {
    let world = World::new();
    let text = world.docker(&["run", "-v", "named:/m:shared", "busybox", "true"]).fails(125);
    assert!(
        text.contains("invalid mount config for type \"volume\": field BindOptions must not be specified"),
        "{text}"
    );
}
