//! `ADD`: archives and URLs.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

use crate::world::World;

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, body) in [("dir/file", "packed"), ("top", "t")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o640);
        header.set_uid(33);
        header.set_gid(34);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, path, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_unpacked_however_they_are_compressed() {
    let world = World::new().await;
    let plain = archive();
    world.file("a.tar", &plain);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    world.file("a.tar.gz", gzip.finish().unwrap());
    world.file("a.tar.zst", zstd::encode_all(plain.as_slice(), 1).unwrap());
    let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip.write_all(&plain).unwrap();
    world.file("a.tbz", bzip.finish().unwrap());
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    world.file("no-suffix", xz.finish().unwrap());
    world.file("text.tar", "no archive at all");
    for name in ["a.tar", "a.tar.gz", "a.tar.zst", "a.tbz", "no-suffix"] {
        let built = world.build(&format!("FROM base\nADD {name} /to")).await;
        assert_eq!(world.read(&built.image, "to/dir/file"), "packed", "{name}");
        let metadata = fs::metadata(world.find(&built.image, "to/dir/file").unwrap()).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mtime(), metadata.mode() & 0o777),
            (33, 34, 1_000_000_000, 0o640)
        );
    }
    let built = world.build("FROM base\nADD --chown=7:8 a.tar /to\nADD text.tar /text\nCOPY a.tar /copied\nADD --unpack=false a.tar /kept").await;
    let metadata = fs::metadata(world.find(&built.image, "to/top").unwrap()).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (7, 8));
    assert_eq!(world.read(&built.image, "text"), "no archive at all");
    assert_eq!(fs::read(world.find(&built.image, "copied").unwrap()).unwrap(), plain);
    assert_eq!(fs::read(world.find(&built.image, "kept").unwrap()).unwrap(), plain);
    world.end().await;
}

/// Serves that many requests on loopback.
fn serve(times: usize, status: &'static str, body: Vec<u8>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..times {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
            }
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    (format!("http://{address}"), thread)
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_are_fetched_checked_and_not_unpacked() {
    let world = World::new().await;
    let body = archive();
    let digest = engine::content::Digest::of(&body).to_string();
    let (url, thread) = serve(4, "200 OK", body.clone());
    let text =
        format!("FROM base\nADD --checksum={digest} {url}/files/a.tar /to/\nADD --unpack {url}/files/a.tar /out/");
    let built = world.build(&text).await;
    let file = world.find(&built.image, "to/a.tar").unwrap();
    assert_eq!(fs::read(&file).unwrap(), body);
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o600, 1_000_000_000));
    assert_eq!(world.read(&built.image, "out/top"), "t");
    assert_eq!(world.build(&text).await.cached().len(), 2);
    thread.join().unwrap();
    let (url, thread) = serve(1, "200 OK", body.clone());
    let (error, _) = world.fail(&format!("FROM base\nADD --checksum=sha256:{} {url}/a /a", "0".repeat(64))).await;
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    thread.join().unwrap();
    let (url, thread) = serve(1, "404 Not Found", Vec::new());
    let (error, _) = world.fail(&format!("FROM base\nADD {url}/a /a")).await;
    assert!(error.to_string().ends_with("invalid response status 404"), "{error}");
    thread.join().unwrap();
    let (error, _) = world.fail("FROM base\nADD git@example.org:x.git /a").await;
    assert!(error.to_string().contains("no SSH key \"default\" forwarded from the client"), "{error}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_can_not_write_outside_of_its_destination() {
    let world = World::new().await;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    builder.append(&header, &b"x"[..]).unwrap();
    world.file("bad.tar", builder.into_inner().unwrap());
    let built = world.build("FROM base\nADD bad.tar /d/").await;
    assert_eq!(world.read(&built.image, "d/escape"), "x");
    world.end().await;
}
