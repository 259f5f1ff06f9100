//! Images: names, archives, commits.

use super::world::World;

#[test]
fn a_commit_is_an_image_with_the_changes_in_it() {
    let world = World::new();
    world.docker(&["run", "--name", "work", "busybox", "sh", "-c", "mkdir /data; echo 1 > /data/f; rm /bin/pwd"]).ok();
    assert_eq!(world.docker(&["diff", "work"]).ok(), "C /bin\nD /bin/pwd\nA /data\nA /data/f");
    world
        .docker(&[
            "commit",
            "-a",
            "me",
            "-m",
            "why",
            "-c",
            "ENV X=y",
            "-c",
            "CMD [\"cat\", \"/data/f\"]",
            "work",
            "made:1",
        ])
        .ok();
    assert_eq!(world.docker(&["run", "--rm", "made:1"]).ok(), "1");
    assert_eq!(world.docker(&["run", "--rm", "made:1", "sh", "-c", "echo $X; ls /bin/pwd"]).code, 1);
    assert!(world.docker(&["history", "--no-trunc", "made:1"]).ok().contains("why"));
    assert_eq!(world.docker(&["image", "inspect", "-f", "{{.Author}} {{len .RootFS.Layers}}", "made:1"]).ok(), "me 2");
}

#[test]
fn an_image_survives_save_and_load() {
    let world = World::new();
    let archive = world.path("image.tar");
    let id = world.docker(&["images", "-q", "--no-trunc", "busybox"]).ok();
    world.docker(&["save", "-o", archive.to_str().unwrap(), "busybox"]).ok();
    assert!(world.docker(&["rmi", "busybox"]).ok().contains(&format!("Deleted: {id}")));
    assert_eq!(world.docker(&["images", "-q"]).ok(), "");
    assert_eq!(world.docker(&["load", "-i", archive.to_str().unwrap()]).ok(), "Loaded image: busybox:latest");
    assert_eq!(world.docker(&["images", "-q", "--no-trunc", "busybox"]).ok(), id);
    world.docker(&["save", "-o", archive.to_str().unwrap(), &id]).ok();
    world.docker(&["rmi", "busybox"]).ok();
    assert_eq!(world.docker(&["load", "-i", archive.to_str().unwrap()]).ok(), format!("Loaded image ID: {id}"));
    assert_eq!(world.docker(&["run", "--rm", &id, "echo", "nameless"]).ok(), "nameless");
}

#[test]
fn an_image_in_use_loses_its_name_by_force_alone_and_is_kept() {
    let world = World::new();
    world.docker(&["run", "--name", "user", "busybox", "touch", "/x"]).ok();
    assert!(
        world
            .docker(&["rmi", "busybox"])
            .fails(1)
            .contains("conflict: unable to remove repository reference \"busybox\" (must force)")
    );
    assert_eq!(world.docker(&["rmi", "-f", "busybox"]).ok(), "Untagged: busybox:latest");
    assert_eq!(world.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(), "<none>:<none>");
    world.docker(&["commit", "user", "again"]).ok();
    assert_eq!(world.docker(&["run", "--rm", "again", "ls", "/x"]).ok(), "/x");
    world.docker(&["rm", "user"]).ok();
    world.docker(&["image", "prune", "-f"]).ok();
    assert_eq!(world.docker(&["images", "--format", "{{.Repository}}"]).ok(), "again");
}

#[test]
fn tags_move_and_the_image_they_leave_stays_dangling() {
    let world = World::new();
    let first = world.docker(&["images", "-q", "--no-trunc", "busybox"]).ok();
    world.docker(&["run", "--name", "work", "busybox", "touch", "/x"]).ok();
    world.docker(&["tag", "busybox", "localhost:5000/todo:v1"]).ok();
    world.docker(&["commit", "work", "localhost:5000/todo:v1"]).ok();
    world.docker(&["commit", "work", "busybox"]).ok();
    assert_eq!(world.docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"]).ok(), first);
    assert_eq!(
        world.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "-f", "reference=localhost:5000/*"]).ok(),
        "localhost:5000/todo:v1"
    );
    assert!(
        world
            .docker(&["run", "--rm", "--pull", "never", "nothing"])
            .fails(125)
            .contains("No such image: nothing:latest")
    );
}
