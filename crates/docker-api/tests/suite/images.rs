//! Images: names, archives, commits.

use super::wire::ask_with;
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
            "-c",
            "HEALTHCHECK --interval=7s CMD test -e /data",
            "work",
            "made:1",
        ])
        .ok();
    assert_eq!(world.docker(&["run", "--rm", "made:1"]).ok(), "1");
    let check = world.docker(&["image", "inspect", "-f", "{{json .Config.Healthcheck}}", "made:1"]).ok();
    assert_eq!(check, r#"{"Test":["CMD-SHELL","test -e /data"],"Interval":7000000000}"#);
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
    let mut saved = tar::Archive::new(std::fs::File::open(&archive).unwrap());
    let names: Vec<_> = saved.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    for file in ["index.json", "manifest.json", "oci-layout", "repositories"] {
        assert!(names.iter().any(|name| name.as_os_str() == file), "{file}: {names:?}");
    }
    assert!(world.docker(&["rmi", "busybox"]).ok().contains(&format!("Deleted: {id}")));
    assert_eq!(world.docker(&["images", "-q"]).ok(), "");
    // Of another platform there is nothing in it.
    let bytes = std::fs::read(&archive).unwrap();
    let load = |version: &str, platform: &str| {
        let request =
            format!("POST /v{version}/images/load?platform={platform} HTTP/1.1\r\nContent-Length: {}", bytes.len());
        ask_with(&world, &request, &bytes)
    };
    let other = "%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22s390x%22%7D";
    let said = load("1.48", other);
    assert!(said.starts_with("HTTP/1.1 200") && !said.contains("Loaded") && !said.contains("error"), "{said}");
    let said = load("1.48", "%7B%22os%22%3A%22linux%22%7D");
    assert!(said.contains("both OS and Architecture must be provided"), "{said}");
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
    // Others are made of it: it is no leftover, and shown with all steps alone.
    assert_eq!(world.docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"]).ok(), "");
    assert!(world.docker(&["images", "-a", "-q", "--no-trunc"]).ok().contains(&first));
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

#[test]
fn an_archive_names_each_image_once_and_other_archives_are_refused() {
    let world = World::new();
    let path = world.path("saved.tar");
    let archive = path.to_str().unwrap();
    world.docker(&["tag", "busybox", "other/name:2"]).ok();
    world.docker(&["save", "-o", archive, "busybox", "other/name:2"]).ok();
    world.docker(&["rmi", "busybox", "other/name:2"]).ok();
    let said = world.docker(&["load", "-i", archive]).ok();
    assert_eq!(said, "Loaded image: busybox:latest\nLoaded image: other/name:2");
    // Some by name and some by ID, and a repository with all its tags.
    let commit = |name: &str| {
        world.docker(&["run", "--name", "work", "busybox", "touch", name]).ok();
        let id = world.docker(&["commit", "-c", &format!("LABEL is={name}"), "work"]).ok();
        world.docker(&["rm", "work"]).ok();
        id
    };
    let (first, second) = (commit("/first"), commit("/second"));
    world.docker(&["tag", "busybox", "other/name:1"]).ok();
    world.docker(&["save", "-o", archive, &first, "other/name", &second]).ok();
    world.docker(&["rmi", "-f", &first, &second, "other/name:1", "other/name:2"]).ok();
    let said = world.docker(&["load", "-i", archive]).ok();
    for line in
        [&format!("Loaded image ID: {first}"), &format!("Loaded image ID: {second}"), "other/name:1", "other/name:2"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(world.docker(&["run", "--rm", &first, "ls", "/first"]).ok(), "/first");
    assert_eq!(world.docker(&["run", "--rm", &second, "ls", "/second"]).ok(), "/second");
    // A name that would be an ID's.
    let refused = world.docker(&["tag", "busybox", "sha256:sometag"]).fails(1);
    assert!(refused.contains("refusing to create an ambiguous tag using digest algorithm as name"), "{refused}");
    let plain = world.path("busybox.tar");
    let refused = world.docker(&["load", "-i", plain.to_str().unwrap()]).fails(1);
    assert!(refused.ends_with("invalid archive: does not contain a manifest.json\n"), "{refused}");
}

#[test]
fn a_root_file_system_is_imported_from_a_url() {
    let world = World::new();
    let archive = std::fs::read(world.path("busybox.tar")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/root.tar", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for found in [true, false] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let status = if found { "200 OK" } else { "404 Not Found" };
            let body: &[u8] = if found { &archive } else { b"" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    world.docker(&["import", "-c", "CMD [\"echo\", \"from afar\"]", &url, "far:1"]).ok();
    assert_eq!(world.docker(&["run", "--rm", "far:1"]).ok(), "from afar");
    assert!(world.docker(&["history", "far:1"]).ok().contains("Imported from"));
    let text = world.docker(&["import", &url, "far:2"]).fails(1);
    assert!(text.contains("failed to download") && text.contains("404"), "{text}");
    server.join().unwrap();
}

#[test]
fn another_platform_than_the_images_is_not_run() {
    let world = World::new();
    let text = world.docker(&["create", "--pull", "never", "--platform", "linux/s390x", "busybox", "true"]).fails(1);
    assert!(text.contains("was found but its platform (linux/"), "{text}");
    let text = world.docker(&["run", "--rm", "-w", "relative", "busybox", "true"]).fails(125);
    assert!(text.contains("the working directory 'relative' is invalid, it needs to be an absolute path"), "{text}");
    let text = world.docker(&["run", "--rm", "-u", "stranger", "busybox", "true"]).fails(125);
    assert!(text.contains("daemon: unable to find user stranger: no matching entries in passwd file"), "{text}");
}
