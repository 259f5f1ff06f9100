//! Servers and packs that mean harm.

use std::{
    io::{Seek, Write},
    path::Path,
};

use flate2::{Compression, write::ZlibEncoder};
use git::{
    CheckoutError, Kind, ObjectError, Oid, Pack, PackError, Packets, Remote, RemoteError, apply, checkout, entries,
};
use http::StatusCode;
use http_ends::{Client, Names, Trust};

#[path = "../../http-ends/tests/hostile/mod.rs"]
mod harm;

use harm::{Chance, each_mutation};

/// A pack of whole objects.
fn pack(objects: &[(u8, &[u8])]) -> Vec<u8> {
    let mut pack = b"PACK\0\0\0\x02".to_vec();
    pack.extend(u32::try_from(objects.len()).unwrap().to_be_bytes());
    for (kind, data) in objects {
        let mut size = data.len();
        let mut byte = kind << 4 | u8::try_from(size & 0x0f).unwrap();
        size >>= 4;
        while size > 0 {
            pack.push(byte | 0x80);
            byte = u8::try_from(size & 0x7f).unwrap();
            size >>= 7;
        }
        pack.push(byte);
        let mut encoder = ZlibEncoder::new(&mut pack, Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap();
    }
    seal(pack)
}

fn seal(mut pack: Vec<u8>) -> Vec<u8> {
    let sum = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &pack);
    pack.extend(sum.as_ref());
    pack
}

fn read(bytes: &[u8]) -> Result<Pack, PackError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    Pack::read(file)
}

/// A commit whose tree has these entries, all of one blob.
fn commit_of(names: &[(&str, &str)]) -> (Vec<u8>, Oid) {
    let blob = b"../../../escaped";
    let mut tree = Vec::new();
    for (mode, name) in names {
        tree.extend(format!("{mode} {name}\0").as_bytes());
        tree.extend(Oid::of(Kind::Blob, blob).0);
    }
    let commit = format!("tree {}\nauthor x\n\nm\n", Oid::of(Kind::Tree, &tree));
    let oid = Oid::of(Kind::Commit, commit.as_bytes());
    (pack(&[(1, commit.as_bytes()), (2, &tree), (3, blob)]), oid)
}

#[test]
fn a_tree_that_leads_out_of_its_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (number, names) in
        [&[("100644", "..")][..], &[("100644", "a/b")], &[("100644", ".git")], &[("120000", "x"), ("100644", "x")]]
            .into_iter()
            .enumerate()
    {
        let (bytes, oid) = commit_of(names);
        let refused = checkout(&mut read(&bytes).unwrap(), &oid, &directory.path().join(number.to_string()));
        assert!(matches!(refused, Err(CheckoutError::Object(ObjectError::Name))), "{names:?}: {refused:?}");
    }
    // A link may point anywhere, as in git; nothing is ever written through it.
    let (bytes, oid) = commit_of(&[("120000", "link"), ("100644", "file")]);
    let files = directory.path().join("files");
    checkout(&mut read(&bytes).unwrap(), &oid, &files).unwrap();
    assert_eq!(std::fs::read_link(files.join("link")).unwrap(), Path::new("../../../escaped"));
    assert!(checkout(&mut read(&bytes).unwrap(), &oid, &files).is_err(), "what exists is not written over");
}

#[test]
fn a_pack_that_is_cut_off_or_lies_is_refused() {
    let (whole, oid) = commit_of(&[("100644", "a")]);
    assert_eq!(read(&whole).unwrap().len(), 3);
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length}");
        assert!(read(&seal(whole[..length].to_vec())).is_err() || length == whole.len() - 20, "{length}, sealed");
    }
    // An object of 512 MiB and more, told in its head.
    let huge = seal(b"PACK\0\0\0\x02\0\0\0\x01\xbf\xff\xff\xff\xff\x7f".to_vec());
    assert!(matches!(read(&huge), Err(PackError::TooLarge(_) | PackError::Damaged(_))));
    // A bomb: it says 1 byte and unpacks to a megabyte.
    let mut bomb = pack(&[(3, &vec![0; 1 << 20])]);
    let head = bomb[12..].iter().position(|byte| byte & 0x80 == 0).unwrap();
    bomb.splice(12..=12 + head, [0x31]);
    bomb.truncate(bomb.len() - 20);
    assert!(matches!(read(&seal(bomb)), Err(PackError::Damaged(_))));
    let missing = read(&pack(&[(3, b"x")])).unwrap().object(&oid, Kind::Commit);
    assert!(matches!(missing, Err(PackError::Missing(_))));
}

#[test]
fn no_mutation_of_a_pack_does_worse_than_an_error() {
    each_mutation(
        env!("CARGO_MANIFEST_DIR"),
        1,
        b"",
        |original| {
            assert!(read(&original).is_ok());
            original[..original.len() - 20].to_vec()
        },
        // With a right checksum, so that the mutation is looked at.
        |bytes| drop(read(&seal(bytes))),
    );
    let mut chance = Chance(1);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..chance.below(40)).map(|_| chance.next() as u8).collect();
        let _ = entries(&bytes);
        let _ = apply(&bytes[..bytes.len().min(5)], &bytes, 1 << 16);
        let mut packets = Packets::default();
        packets.add(&bytes);
        while let Ok(Some(_)) = packets.take() {}
    }
}

#[tokio::test]
async fn a_server_that_is_no_git_server_is_told_of() {
    for (status, body) in [
        (StatusCode::OK, "<html>hello</html>"),
        (StatusCode::OK, ""),
        (StatusCode::OK, "001e# service=git-upload-pack\n0000000eversion 1\n0000"),
        (StatusCode::NOT_FOUND, "no"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let server = tokio::spawn(http_ends::serve(listener, Default::default(), move |_, _| async move {
            http_ends::answer(status, "text/plain", body)
        }));
        let client = Client::new(Names::default(), Trust::System);
        let remote = Remote::new(client, &url, None, std::time::Duration::from_secs(20)).unwrap();
        let refused = remote.resolve("main").await.unwrap_err();
        assert!(matches!(refused, RemoteError::Version | RemoteError::Status(..)), "{refused}");
        server.abort();
    }
    let client = Client::new(Names::default(), Trust::System);
    for url in ["git@host:x", "ssh://host/x", "/srv/x", "http://a b/", "file://host/x", "file:///%zz"] {
        assert!(Remote::new(client.clone(), url, None, std::time::Duration::from_secs(1)).is_err(), "{url}");
    }
}
