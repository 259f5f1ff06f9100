//! A full disk. Needs root: the disk is a small tmpfs in a mount namespace that ends with the test's threads.

use std::path::Path;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use store::{Embedded, EmbeddedConfig, Error, Outcome, Revision, Store, Txn};

use crate::contract::{commit, delete, put, take};

/// Runs `test` on a file system of `size` bytes. Threads that it starts see the same file systems.
fn on_a_small_disk<F: Future<Output = ()>>(size: usize, test: impl FnOnce(std::path::PathBuf) -> F) {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root, to mount a small file system");
    let dir = tempfile::tempdir().expect("a directory");
    let none = None::<&Path>;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of its own");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("nothing leaks out");
    mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(&*format!("size={size}"))).expect("mounts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("starts");
    runtime.block_on(test(dir.path().to_owned()));
    drop(runtime);
    nix::mount::umount(dir.path()).expect("nothing holds it any more");
}

fn config(dir: &Path) -> EmbeddedConfig {
    // Hardly any values in memory, so that reads need the disk.
    EmbeddedConfig { value_cache_bytes: 1000, ..EmbeddedConfig::new(dir.join("data")) }
}

/// Writes until the disk is full; says how many were written.
async fn fill(store: &Embedded, name: &str) -> (usize, Revision) {
    for n in 0.. {
        let before = store.revision();
        let pair =
            [put(&format!("/{name}/{n}/a"), &"a".repeat(20_000)), put(&format!("/{name}/{n}/b"), &"b".repeat(20_000))];
        match store.txn(Txn { compares: vec![], changes: pair.into() }).await {
            Ok(Outcome::Committed(_)) => {}
            Err(Error::Write(why)) => {
                assert!(why.contains("No space left"), "{why}");
                assert_eq!(store.revision(), before);
                return (n, before);
            }
            other => panic!("{other:?}"),
        }
    }
    unreachable!("no disk is endless")
}

async fn check(store: &Embedded, name: &str, written: usize) {
    for n in 0..=written {
        for (key, letter) in [("a", "a"), ("b", "b")] {
            let entry = store.get(&format!("/{name}/{n}/{key}"), None).await.expect("reads go on");
            let right = entry.map(|e| e.value == letter.repeat(20_000));
            assert_eq!(right, (n < written).then_some(true), "{n}/{key} of {written}");
        }
    }
    let page = store.range(&format!("/{name}/"), &format!("/{name}0"), None, 0).await.expect("reads go on");
    assert_eq!(page.entries.len(), 2 * written);
}

#[test]
fn a_full_disk_refuses_writes_changes_nothing_and_recovers_when_space_returns() {
    on_a_small_disk(12 << 20, |dir| async move {
        std::fs::write(dir.join("ballast"), vec![1; 4 << 20]).expect("fits");
        let store = Embedded::open(config(&dir)).expect("opens");
        let (written, revision) = fill(&store, "x").await;
        assert!(written > 10, "{written}");
        check(&store, "x", written).await;
        let mut watch = store.watch("/x/", 1).await.expect("starts");
        assert_eq!(take(&mut watch, written).await.len(), written, "history can be read");
        // Many attempts while it is full do no harm.
        for _ in 0..50 {
            let refused = store.txn(Txn { compares: vec![], changes: vec![put("/y", &"y".repeat(200_000))] }).await;
            assert!(matches!(refused, Err(Error::Write(_))), "{refused:?}");
        }
        check(&store, "x", written).await;

        std::fs::remove_file(dir.join("ballast")).expect("there");
        assert_eq!(commit(&*store, [put("/x/new", &"n".repeat(20_000))]).await, revision + 1);
        let batch = take(&mut watch, 1).await.remove(0);
        assert_eq!((batch[0].revision, batch.len()), (revision + 1, 1), "nothing of the refused writes is told");
        commit(&*store, [delete("/x/new")]).await;
        drop(store);

        let store = Embedded::open(config(&dir)).expect("opens");
        check(&store, "x", written).await;
        assert_eq!(store.revision(), revision + 2);
    });
}

#[test]
fn a_store_on_a_full_disk_opens_and_reads() {
    on_a_small_disk(12 << 20, |dir| async move {
        std::fs::write(dir.join("ballast"), vec![1; 2 << 20]).expect("fits");
        let store = Embedded::open(config(&dir)).expect("opens");
        let (written, revision) = fill(&store, "x").await;
        drop(store);
        let mut rest = std::fs::File::create(dir.join("rest")).expect("a name fits");
        while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}

        let store = Embedded::open(config(&dir)).expect("opens although nothing can be written");
        assert_eq!(store.revision(), revision);
        check(&store, "x", written).await;
        let refused = store.txn(Txn { compares: vec![], changes: vec![put("/y", &"y".repeat(200_000))] }).await;
        assert!(matches!(refused, Err(Error::Write(_))), "{refused:?}");
        check(&store, "x", written).await;
        std::fs::remove_file(dir.join("ballast")).expect("there");
        commit(&*store, [put("/y", "y")]).await;
    });
}
