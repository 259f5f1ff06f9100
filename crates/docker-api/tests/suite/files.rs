//! Files into and out of containers.

use super::world::World;

#[test]
fn files_are_copied_both_ways_whether_the_container_runs_or_not() {
    let world = World::new();
    let (source, back) = (world.path("source"), world.path("back"));
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("sub/file"), "text").unwrap();
    world.docker(&["run", "-d", "--name", "up", "-v", "vol:/vol", "busybox", "sleep", "1000"]).ok();
    world.docker(&["cp", source.to_str().unwrap(), "up:/tmp/"]).ok();
    assert_eq!(world.docker(&["exec", "up", "cat", "/tmp/source/sub/file"]).ok(), "text");
    world.docker(&["stop", "-t", "0", "up"]).ok();
    world.docker(&["cp", "up:/tmp/source/.", back.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(back.join("sub/file")).unwrap(), "text");
    let whole = world.path("whole");
    world.docker(&["cp", "up:/", whole.to_str().unwrap()]).ok();
    assert!(whole.join("bin/busybox").exists() && whole.join("tmp/source/sub/file").exists());
    world.docker(&["cp", source.join("sub/file").to_str().unwrap(), "up:/vol/there"]).ok();
    assert_eq!(world.docker(&["run", "--rm", "-v", "vol:/vol", "busybox", "cat", "/vol/there"]).ok(), "text");
    let text = world.docker(&["cp", "up:/nowhere", "."]).fails(1);
    // Clients before 23.0 have words of their own for it.
    assert!(
        text.contains("Could not find the file /nowhere in container up")
            || text.contains("No such container:path: up:/nowhere"),
        "{text}"
    );
}

#[test]
fn a_link_in_a_container_leads_nowhere_on_the_host() {
    let world = World::new();
    world
        .docker(&[
            "run",
            "-d",
            "--name",
            "up",
            "-h",
            "inside",
            "busybox",
            "sh",
            "-c",
            "rm -r /root; ln -s /etc /root; sleep 1000",
        ])
        .ok();
    let target = world.path("hostname");
    world.until(&["exec", "up", "sh", "-c", "test -L /root && echo yes"], "yes");
    world.docker(&["cp", "up:/root/hostname", target.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(target).unwrap(), "inside\n");
}

#[test]
fn an_export_is_an_image_when_imported() {
    let world = World::new();
    let archive = world.path("export.tar");
    world
        .docker(&[
            "run",
            "--name",
            "work",
            "-v",
            "vol:/vol",
            "busybox",
            "sh",
            "-c",
            "touch /vol/no; echo yes > /yes; rm /bin/pwd",
        ])
        .ok();
    world.docker(&["export", "-o", archive.to_str().unwrap(), "work"]).ok();
    world.docker(&["import", "-c", "CMD cat /yes; ls /bin/pwd /vol/no", archive.to_str().unwrap(), "flat"]).ok();
    let outcome = world.docker(&["run", "--rm", "flat"]);
    assert_eq!(outcome.stdout, "yes\n");
    assert_eq!(outcome.stderr.matches("No such file").count(), 2, "{outcome:?}");
}
