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
