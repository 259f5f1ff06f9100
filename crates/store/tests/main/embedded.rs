//! What the embedded store promises beyond the contract.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use store::{Embedded, EmbeddedConfig, Error, Outcome, Store, Txn};
use tempfile::TempDir;

use crate::contract::{commit, delete, put, take};

/// A new store in a directory of its own. The value cache is tiny, so that the log is read too.
pub async fn fresh() -> (Arc<Embedded>, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    (open(&dir), dir)
}

pub fn open(dir: &TempDir) -> Arc<Embedded> {
    let config = EmbeddedConfig { value_cache_bytes: 200, ..EmbeddedConfig::new(dir.path()) };
    Embedded::open(config).expect("opens")
}

#[tokio::test]
async fn a_restart_keeps_entries_history_and_the_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let first = commit(&*store, [put("/a", "1"), put("/b", "1")]).await;
    commit(&*store, [put("/a", "2"), delete("/b")]).await;
    let last = commit(&*store, [delete("/a")]).await;
    drop(store);

    let store = open(&dir);
    assert_eq!(store.revision(), last);
    assert_eq!(store.get("/a", None).await.expect("reads"), None);
    assert_eq!(store.get("/a", Some(first)).await.expect("reads").expect("there").value, "1");
    let mut watch = store.watch("/", first).await.expect("starts");
    assert_eq!(take(&mut watch, 3).await.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(commit(&*store, [put("/c", "3")]).await, last + 1);
    assert_eq!(take(&mut watch, 1).await[0][0].revision, last + 1);
}

#[tokio::test]
async fn the_count_goes_on_even_if_compaction_removed_the_last_row() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    for _ in 0..3 {
        commit(&*store, [put("/a", "1")]).await;
        commit(&*store, [delete("/a")]).await;
    }
    commit(&*store, [put("/b", "1")]).await;
    let last = commit(&*store, [delete("/b")]).await;
    store.compact(last).await.expect("compacts");
    drop(store);
    let store = open(&dir);
    assert_eq!((store.revision(), store.oldest()), (last, last));
    let gone = store.watch("/", last - 1).await.err().expect("compacted");
    assert!(matches!(gone, Error::Compacted { .. }), "{gone:?}");
    assert_eq!(commit(&*store, [put("/c", "1")]).await, last + 1);
}

#[tokio::test]
async fn compaction_frees_rows_on_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let value = "v".repeat(1000);
    for round in 0..5 {
        for n in 0..40 {
            let all: Vec<_> = (0..25).map(|i| put(&format!("/{n}/{i}"), &value)).collect();
            commit(&*store, all).await;
        }
        store.compact(store.revision()).await.expect("compacts");
        if round == 1 {
            // From here on each round writes into what the one before has left.
            std::fs::copy(dir.path().join("store.redb"), dir.path().join("then")).expect("copies");
        }
    }
    assert_eq!(store.rows().expect("counts"), 1000 + 25, "one row a key, and what the last revision replaced");
    let size = |name| std::fs::metadata(dir.path().join(name)).expect("there").len();
    assert!(size("store.redb") <= size("then") * 2, "{} after {}", size("store.redb"), size("then"));
}

#[tokio::test]
async fn a_second_open_is_refused_and_names_directory_and_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let refused = Embedded::open(EmbeddedConfig::new(dir.path())).err().expect("refused");
    let message = refused.to_string();
    assert!(matches!(refused, Error::Open(_)));
    assert!(message.contains(dir.path().to_str().expect("UTF-8")), "{message}");
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    store.close();
    open(&dir);
}

#[tokio::test]
async fn a_damaged_or_foreign_file_is_refused_with_its_name() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("store.redb"), "not a store".repeat(1000)).expect("writes");
    let refused = Embedded::open(EmbeddedConfig::new(dir.path())).err().expect("refused");
    assert!(matches!(refused, Error::Open(_)), "{refused:?}");
    assert!(refused.to_string().contains("store.redb"), "{refused}");
}

#[tokio::test]
async fn after_close_everything_says_so_and_watches_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    commit(&*store, [put("/a", "1")]).await;
    let mut watch = store.watch("/", 2).await.expect("starts");
    store.close();
    store.close();
    assert!(matches!(watch.next().await, Some(Err(Error::Closed))));
    assert!(watch.next().await.is_none());
    let txn = Txn { compares: vec![], changes: vec![put("/a", "2")] };
    assert!(matches!(store.txn(txn).await, Err(Error::Closed)));
    assert!(matches!(store.get("/a", None).await, Err(Error::Closed)));
    assert!(matches!(store.range("/", "0", None, 0).await, Err(Error::Closed)));
    assert!(matches!(store.watch("/", 1).await.err(), Some(Error::Closed)));
    assert!(matches!(store.compact(1).await, Err(Error::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_submitted_before_close_is_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(&dir);
    let writes: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(
                async move { store.txn(Txn { compares: vec![], changes: vec![put(&format!("/{n}"), "v")] }).await },
            )
        })
        .collect();
    let closing = tokio::task::spawn_blocking({
        let store = store.clone();
        move || store.close()
    });
    let mut committed = 0;
    for write in writes {
        match tokio::time::timeout(Duration::from_secs(20), write).await.expect("answered").expect("no panic") {
            Ok(Outcome::Committed(_)) => committed += 1,
            Err(Error::Closed) => {}
            other => panic!("{other:?}"),
        }
    }
    closing.await.expect("closes");
    assert_eq!(open(&dir).revision(), committed, "acknowledged and durable are the same");
}
