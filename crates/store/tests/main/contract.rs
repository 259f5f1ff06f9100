//! The contract suite: what every backend of [`store::Store`] must do. `contract!(name, factory)` runs it
//! over the stores that `async fn factory() -> (Arc<impl Store>, impl Drop)` makes; the second value is
//! kept as long as the store.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use store::{Change, Compare, Entry, Error, Event, Outcome, Revision, Store, Txn, Value, Watch};

macro_rules! contract {
    ($name:ident, $factory:path) => {
        mod $name {
            contract! { @tests $factory;
                revisions_count_changes_one_by_one
                a_put_creates_then_updates
                a_put_stamps_its_revision_into_the_value
                a_failed_compare_changes_nothing_and_shows_what_is_there
                a_compare_with_zero_demands_absence
                several_keys_change_under_one_revision
                deleting_an_absent_key_changes_nothing
                a_recreated_key_starts_anew
                an_ill_formed_transaction_is_refused
                concurrent_increments_lose_none
                a_range_is_ordered_and_half_open
                pages_join_into_the_whole_range
                reads_at_a_revision_show_the_state_of_then
                a_read_of_the_future_is_refused
                a_watch_delivers_history_then_the_present_without_gap_or_repeat
                a_watch_sees_only_its_prefix
                a_watch_shows_what_was_before
                a_watch_groups_the_events_of_a_transaction
                a_watch_from_a_future_revision_waits_for_it
                a_slow_watch_gets_everything
                many_watches_get_the_same
                compaction_forgets_the_past_and_keeps_the_present
                a_read_or_watch_at_the_compacted_revision_still_works
                a_lagging_watch_overtaken_by_compaction_ends_with_an_error
                compacting_the_future_is_refused
            }
        }
    };
    (@tests $factory:path; $($test:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let (store, _held) = $factory().await;
                crate::contract::$test(&*store).await;
            }
        )*
    };
}

pub fn put(key: &str, value: &str) -> Change {
    Change::Put(key.into(), Value { bytes: Bytes::copy_from_slice(value.as_bytes()), stamp_at: None })
}

pub fn delete(key: &str) -> Change {
    Change::Delete(key.into())
}

pub async fn commit(store: &impl Store, changes: impl IntoIterator<Item = Change>) -> Revision {
    let txn = Txn { compares: vec![], changes: changes.into_iter().collect() };
    match store.txn(txn).await {
        Ok(Outcome::Committed(revision)) => revision,
        other => panic!("not committed: {other:?}"),
    }
}

pub async fn take(watch: &mut Watch, revisions: usize) -> Vec<Vec<Event>> {
    let mut batches = Vec::new();
    while batches.len() < revisions {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        batches.push(next.expect("an event within 20 s").expect("the watch goes on").expect("no error"));
    }
    batches
}

fn when(key: &str, mod_revision: Revision) -> Compare {
    Compare { key: key.into(), mod_revision }
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|e| &*e.key).collect()
}

fn revisions(batches: &[Vec<Event>]) -> Vec<Revision> {
    for batch in batches {
        assert!(!batch.is_empty() && batch.iter().all(|e| e.revision == batch[0].revision), "{batch:?}");
    }
    batches.iter().map(|b| b[0].revision).collect()
}

pub async fn revisions_count_changes_one_by_one(store: &impl Store) {
    let start = store.revision();
    assert_eq!(commit(store, [put("/a", "1")]).await, start + 1);
    assert_eq!(commit(store, [put("/b", "1")]).await, start + 2);
    assert_eq!(commit(store, [delete("/a")]).await, start + 3);
    assert_eq!(store.revision(), start + 3);
}

pub async fn a_put_creates_then_updates(store: &impl Store) {
    assert_eq!(store.get("/a", None).await.expect("reads"), None);
    let created = commit(store, [put("/a", "1")]).await;
    let updated = commit(store, [put("/a", "2")]).await;
    let entry = store.get("/a", None).await.expect("reads").expect("there");
    let want = Entry { key: "/a".into(), value: "2".into(), create_revision: created, mod_revision: updated };
    assert_eq!(entry, want);
}

pub async fn a_put_stamps_its_revision_into_the_value(store: &impl Store) {
    for (at, before, after) in [(0, "", "abc"), (2, "ab", "c"), (3, "abc", "")] {
        let value = Value { bytes: "abc".into(), stamp_at: Some(at) };
        let revision = commit(store, [Change::Put("/a".into(), value)]).await;
        let entry = store.get("/a", None).await.expect("reads").expect("there");
        assert_eq!(entry.value, format!("{before}{revision}{after}"));
    }
}

pub async fn a_failed_compare_changes_nothing_and_shows_what_is_there(store: &impl Store) {
    let revision = commit(store, [put("/a", "1")]).await;
    let txn =
        Txn { compares: vec![when("/b", 0), when("/a", revision + 7)], changes: vec![put("/a", "2"), put("/b", "2")] };
    let Ok(Outcome::Conflict(present)) = store.txn(txn).await else { panic!("must conflict") };
    let [None, Some(entry)] = &present[..] else { panic!("{present:?}") };
    assert_eq!((&*entry.key, &entry.value[..], entry.mod_revision), ("/a", &b"1"[..], revision));
    assert_eq!(store.revision(), revision);
    assert_eq!(store.get("/b", None).await.expect("reads"), None);
}

pub async fn a_compare_with_zero_demands_absence(store: &impl Store) {
    let create = || Txn { compares: vec![when("/a", 0)], changes: vec![put("/a", "1")] };
    assert!(matches!(store.txn(create()).await, Ok(Outcome::Committed(_))));
    assert!(matches!(store.txn(create()).await, Ok(Outcome::Conflict(_))));
    commit(store, [delete("/a")]).await;
    assert!(matches!(store.txn(create()).await, Ok(Outcome::Committed(_))));
}

pub async fn several_keys_change_under_one_revision(store: &impl Store) {
    commit(store, [put("/gone", "1")]).await;
    let revision = commit(store, [put("/a", "1"), delete("/gone"), put("/b", "1")]).await;
    for key in ["/a", "/b"] {
        let entry = store.get(key, None).await.expect("reads").expect("there");
        assert_eq!((entry.create_revision, entry.mod_revision), (revision, revision));
    }
    assert_eq!(store.get("/gone", None).await.expect("reads"), None);
}

pub async fn deleting_an_absent_key_changes_nothing(store: &impl Store) {
    let revision = commit(store, [put("/a", "1")]).await;
    assert_eq!(commit(store, [delete("/b")]).await, revision);
    assert_eq!(commit(store, []).await, revision);
    assert_eq!(store.revision(), revision);
}

pub async fn a_recreated_key_starts_anew(store: &impl Store) {
    commit(store, [put("/a", "1")]).await;
    commit(store, [delete("/a")]).await;
    let again = commit(store, [put("/a", "2")]).await;
    let entry = store.get("/a", None).await.expect("reads").expect("there");
    assert_eq!((entry.create_revision, entry.mod_revision), (again, again));
}

pub async fn an_ill_formed_transaction_is_refused(store: &impl Store) {
    let before = store.revision();
    let outside = Change::Put("/a".into(), Value { bytes: "abc".into(), stamp_at: Some(4) });
    for changes in [vec![put("/a", "1"), delete("/a")], vec![outside], vec![put("", "1")]] {
        let refused = store.txn(Txn { compares: vec![], changes }).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    assert_eq!(store.revision(), before);
}

pub async fn concurrent_increments_lose_none(store: &impl Store) {
    let increment = || async {
        loop {
            let entry = store.get("/counter", None).await.expect("reads");
            let (number, revision) = entry.map_or((0, 0), |e| (number(&e), e.mod_revision));
            let changes = vec![put("/counter", &(number + 1).to_string())];
            let txn = Txn { compares: vec![when("/counter", revision)], changes };
            if let Outcome::Committed(_) = store.txn(txn).await.expect("writes") {
                return;
            }
        }
    };
    futures::future::join_all((0..16).map(|_| async {
        for _ in 0..5 {
            increment().await;
        }
    }))
    .await;
    let entry = store.get("/counter", None).await.expect("reads").expect("there");
    assert_eq!(number(&entry), 80);
}

fn number(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value).expect("digits").parse().expect("digits")
}

pub async fn a_range_is_ordered_and_half_open(store: &impl Store) {
    commit(store, ["/b/2", "/a/9", "/b/1", "/c/0", "/b"].map(|k| put(k, "v"))).await;
    let page = store.range("/b/", "/c/0", None, 0).await.expect("reads");
    assert_eq!(keys(&page.entries), ["/b/1", "/b/2"]);
    assert_eq!((page.more, page.remaining, page.revision), (false, 0, store.revision()));
    assert!(store.range("/z", "/a", None, 0).await.expect("reads").entries.is_empty());
}

pub async fn pages_join_into_the_whole_range(store: &impl Store) {
    let all: Vec<String> = (10..35).map(|n| format!("/k/{n}")).collect();
    commit(store, all.iter().map(|k| put(k, "v"))).await;
    commit(store, [delete("/k/20"), delete("/k/34")]).await;
    let (mut seen, mut start, mut left) = (Vec::new(), "/k/".to_owned(), 23);
    loop {
        let page = store.range(&start, "/k0", None, 4).await.expect("reads");
        left -= page.entries.len() as u64;
        assert_eq!((page.remaining, page.more), (left, left > 0));
        seen.extend(page.entries.iter().map(|e| e.key.to_string()));
        if !page.more {
            break;
        }
        start = format!("{}\0", seen.last().expect("a page before the last is not empty"));
    }
    let want: Vec<_> = all.into_iter().filter(|k| k != "/k/20" && k != "/k/34").collect();
    assert_eq!(seen, want);
}

pub async fn reads_at_a_revision_show_the_state_of_then(store: &impl Store) {
    let first = commit(store, [put("/a", "1"), put("/b", "1")]).await;
    let second = commit(store, [put("/a", "2"), delete("/b"), put("/c", "2")]).await;
    let third = commit(store, [delete("/a"), put("/b", "3")]).await;
    for (at, want) in [
        (first, vec![("/a", "1"), ("/b", "1")]),
        (second, vec![("/a", "2"), ("/c", "2")]),
        (third, vec![("/b", "3"), ("/c", "2")]),
    ] {
        let page = store.range("/", "0", Some(at), 0).await.expect("reads");
        let seen: Vec<_> =
            page.entries.iter().map(|e| (&*e.key, std::str::from_utf8(&e.value).expect("text"))).collect();
        assert_eq!(seen, want, "at {at}");
        assert_eq!(page.revision, at);
        for key in ["/a", "/b", "/c"] {
            let entry = store.get(key, Some(at)).await.expect("reads");
            let want = page.entries.iter().find(|e| &*e.key == key);
            assert_eq!(entry.as_ref(), want, "{key} at {at}");
        }
    }
    assert_eq!(store.get("/a", Some(first)).await.expect("reads").expect("there").create_revision, first);
}

pub async fn a_read_of_the_future_is_refused(store: &impl Store) {
    let now = commit(store, [put("/a", "1")]).await;
    let want = |e| matches!(e, Error::Future { asked, current } if asked == now + 1 && current == now);
    assert!(store.get("/a", Some(now + 1)).await.is_err_and(want));
    assert!(store.range("/", "0", Some(now + 1), 0).await.is_err_and(want));
}

pub async fn a_watch_delivers_history_then_the_present_without_gap_or_repeat(store: &impl Store) {
    let first = commit(store, [put("/w/0", "v")]).await;
    let write = async {
        for n in 1..400 {
            commit(store, [put(&format!("/w/{}", n % 7), "v")]).await;
        }
    };
    let watch = async {
        // While revisions come in, start one watch after another.
        for _ in 0..20 {
            let mut watch = store.watch("/w/", first).await.expect("starts");
            let seen = revisions(&take(&mut watch, 400).await);
            assert_eq!(seen, (first..first + 400).collect::<Vec<_>>());
        }
    };
    tokio::join!(write, watch);
}

pub async fn a_watch_sees_only_its_prefix(store: &impl Store) {
    let from = store.revision() + 1;
    let mut live = store.watch("/a/", from).await.expect("starts");
    let mut exact = store.watch("/a/x", from).await.expect("starts");
    for key in ["/a", "/ab", "/a/x", "/b", "/a/y"] {
        commit(store, [put(key, "v")]).await;
    }
    let mut late = store.watch("/a/", from).await.expect("starts");
    for watch in [&mut live, &mut late] {
        assert_eq!(revisions(&take(watch, 2).await), [from + 2, from + 4]);
    }
    assert_eq!(revisions(&take(&mut exact, 1).await), [from + 2]);
}

pub async fn a_watch_shows_what_was_before(store: &impl Store) {
    let first = commit(store, [put("/a", "1")]).await;
    let mut live = store.watch("/", first + 1).await.expect("starts");
    commit(store, [put("/a", "2")]).await;
    commit(store, [delete("/a")]).await;
    commit(store, [put("/a", "3")]).await;
    let mut late = store.watch("/", first + 1).await.expect("starts");
    for watch in [&mut live, &mut late] {
        let events: Vec<_> = take(watch, 3).await.into_iter().flatten().collect();
        let text = |e: &Option<Entry>| e.as_ref().map(|e| String::from_utf8_lossy(&e.value).into_owned());
        let seen: Vec<_> = events.iter().map(|e| (text(&e.current), text(&e.previous))).collect();
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(seen, [(some("2"), some("1")), (None, some("2")), (some("3"), None)]);
        assert_eq!(events[0].previous.as_ref().expect("seen above").mod_revision, first);
        assert_eq!(events[0].current.as_ref().expect("seen above").create_revision, first);
    }
}

pub async fn a_watch_groups_the_events_of_a_transaction(store: &impl Store) {
    let mut live = store.watch("/t/", store.revision() + 1).await.expect("starts");
    let revision = commit(store, [put("/t/a", "1"), put("/u", "1"), put("/t/b", "1")]).await;
    let mut late = store.watch("/t/", revision).await.expect("starts");
    for watch in [&mut live, &mut late] {
        let batch = take(watch, 1).await.remove(0);
        let keys: Vec<_> = batch.iter().map(|e| e.current.as_ref().expect("a put").key.to_string()).collect();
        assert_eq!(keys, ["/t/a", "/t/b"]);
    }
}

pub async fn a_watch_from_a_future_revision_waits_for_it(store: &impl Store) {
    let now = store.revision();
    let mut watch = store.watch("/", now + 3).await.expect("starts");
    for _ in 0..4 {
        commit(store, [put("/a", "v")]).await;
    }
    assert_eq!(revisions(&take(&mut watch, 2).await), [now + 3, now + 4]);
}

pub async fn a_slow_watch_gets_everything(store: &impl Store) {
    let from = store.revision() + 1;
    let mut watch = store.watch("/", from).await.expect("starts");
    // It takes one, then sleeps through far more than any ring holds, of which some are large.
    for n in 0..1500 {
        let size = if n % 100 == 7 { 50_000 } else { 10 };
        commit(store, [put(&format!("/{}", n % 3), &"v".repeat(size))]).await;
        if n == 0 {
            take(&mut watch, 1).await;
        }
    }
    assert_eq!(revisions(&take(&mut watch, 1499).await), (from + 1..from + 1500).collect::<Vec<_>>());
    let next = commit(store, [put("/a", "v")]).await;
    assert_eq!(revisions(&take(&mut watch, 1).await), [next]);
}

pub async fn many_watches_get_the_same(store: &impl Store) {
    let from = store.revision() + 1;
    let watches = futures::future::join_all((0..100).map(|_| store.watch("/", from))).await;
    let read = futures::future::join_all(watches.into_iter().map(|watch| async {
        let mut watch = watch.expect("starts");
        revisions(&take(&mut watch, 50).await)
    }));
    let write = async {
        for n in 0..50 {
            commit(store, [put(&format!("/{n}"), "v")]).await;
        }
    };
    let (seen, ()) = tokio::join!(read, write);
    assert_eq!(seen.len(), 100);
    assert!(seen.iter().all(|s| *s == (from..from + 50).collect::<Vec<_>>()));
}

pub async fn compaction_forgets_the_past_and_keeps_the_present(store: &impl Store) {
    let first = commit(store, [put("/a", "1"), put("/b", "1"), put("/c", "1")]).await;
    commit(store, [put("/a", "2"), delete("/b")]).await;
    let now = commit(store, [put("/d", "3")]).await;
    store.compact(now).await.expect("compacts");
    store.compact(first).await.expect("compacting again what is gone changes nothing");
    let gone = |e| matches!(e, Error::Compacted { asked, oldest } if asked == first && oldest == now);
    assert!(store.get("/a", Some(first)).await.is_err_and(gone));
    assert!(store.range("/", "0", Some(first), 0).await.is_err_and(gone));
    assert!(store.watch("/", first).await.err().is_some_and(gone));
    let page = store.range("/", "0", None, 0).await.expect("reads");
    assert_eq!(keys(&page.entries), ["/a", "/c", "/d"]);
    assert_eq!(page.entries[0].value, "2");
    assert_eq!(page.entries[0].create_revision, first);
    assert_eq!(store.revision(), now);
    assert_eq!(commit(store, [put("/b", "4")]).await, now + 1);
}

pub async fn a_read_or_watch_at_the_compacted_revision_still_works(store: &impl Store) {
    commit(store, [put("/a", "1"), put("/b", "1")]).await;
    let at = commit(store, [put("/a", "2"), delete("/b")]).await;
    commit(store, [put("/a", "3"), put("/b", "3")]).await;
    store.compact(at).await.expect("compacts");
    let page = store.range("/", "0", Some(at), 0).await.expect("reads");
    assert_eq!((keys(&page.entries), &page.entries[0].value[..]), (vec!["/a"], &b"2"[..]));
    let mut watch = store.watch("/", at).await.expect("starts");
    let batches = take(&mut watch, 2).await;
    assert_eq!(revisions(&batches), [at, at + 1]);
    assert!(batches[0][1].current.is_none(), "the deletion is still told");
    assert_eq!(batches[0][0].previous.as_ref().expect("still known").value, "1");
}

pub async fn a_lagging_watch_overtaken_by_compaction_ends_with_an_error(store: &impl Store) {
    let from = store.revision() + 1;
    let mut watch = store.watch("/", from).await.expect("starts");
    for _ in 0..2000 {
        commit(store, [put("/a", "v")]).await;
    }
    store.compact(store.revision()).await.expect("compacts");
    let mut last = from - 1;
    let end = loop {
        match tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("within 20 s") {
            Some(Ok(batch)) => {
                assert_eq!(batch[0].revision, last + 1, "what it does deliver has no gap");
                last = batch[0].revision;
            }
            Some(Err(error)) => break error,
            None => panic!("ended without a word"),
        }
    };
    assert!(matches!(end, Error::Compacted { .. }), "{end:?}");
    assert!(watch.next().await.is_none());
}

pub async fn compacting_the_future_is_refused(store: &impl Store) {
    let now = commit(store, [put("/a", "1")]).await;
    let refused = store.compact(now + 1).await;
    assert!(matches!(refused, Err(Error::Future { .. })), "{refused:?}");
}
