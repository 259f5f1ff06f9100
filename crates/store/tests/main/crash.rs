//! Kills a process that writes, at random points, again and again, and checks what is left against what
//! it was told. `HYTHE_CRASH_ROUNDS` sets how often (default 200).

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use store::{Change, Compare, Embedded, EmbeddedConfig, Entry, Event, Outcome, Revision, Store, Txn, Value};

use crate::contract::take;

const WRITERS: usize = 8;

/// What the killed processes said: (writer, number) → revision, for each acknowledged write.
#[derive(Default)]
struct Model {
    acknowledged: BTreeMap<(usize, u64), Revision>,
    /// The highest revision ever acknowledged or seen.
    revision: Revision,
    /// The highest number seen of each writer.
    seen: [u64; WRITERS],
    /// Rounds since the store was last looked at.
    unseen_rounds: u64,
}

#[test]
fn killed_at_random_it_loses_no_acknowledged_write_and_applies_none_by_half() {
    let rounds: u64 = std::env::var("HYTHE_CRASH_ROUNDS").map_or(200, |n| n.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let mut model = Model::default();
    let mut random = Random(std::process::id().into());
    let seed = random.0;
    for round in 0..rounds {
        model.unseen_rounds += 1;
        // One in four dies while it starts or recovers, the others while they write, however slow the disk.
        let once_written = (random.below(4) > 0).then(|| random.below(40) as usize);
        let after = Duration::from_micros(random.below(12_000));
        for (writer, number, revision) in run_and_kill(dir.path(), once_written, after) {
            let again = model.acknowledged.insert((writer, number), revision);
            assert_eq!(again, None, "writer {writer} wrote {number} twice (round {round}, seed {seed})");
            model.revision = model.revision.max(revision);
        }
        // Sometimes the next process finds what two or three have left.
        if random.below(3) > 0 || round + 1 == rounds {
            check(dir.path(), &mut model, round);
        }
    }
    let most = model.acknowledged.len();
    assert!(most as u64 > rounds, "only {most} writes in {rounds} rounds: this tested nothing");
}

#[test]
fn killed_while_it_makes_its_file_it_can_be_started_again() {
    let rounds: u64 = std::env::var("HYTHE_CRASH_ROUNDS").map_or(200, |n| n.parse().expect("a number"));
    let mut random = Random(u64::from(std::process::id()) << 20);
    for round in 0..rounds / 4 {
        let dir = tempfile::tempdir().expect("a directory");
        let mut model = Model::default();
        // Each time in a new directory, around the time that the file is made.
        let acknowledged = run_and_kill(dir.path(), None, Duration::from_micros(random.below(10_000)));
        model.acknowledged.extend(acknowledged.into_iter().map(|(writer, number, at)| ((writer, number), at)));
        model.unseen_rounds = 1;
        check(dir.path(), &mut model, round);
    }
}

#[test]
fn what_a_killed_creation_left_is_swept_away() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("store.new"), vec![0; 5000]).expect("writes");
    let store = Embedded::open(EmbeddedConfig::new(dir.path())).expect("opens");
    assert_eq!(store.revision(), 0);
    assert!(!dir.path().join("store.new").exists());
}

/// What the child does; started by the test above, which sets the directory.
#[test]
#[ignore = "the process that gets killed"]
fn worker() {
    let dir = std::env::var("HYTHE_CRASH_DIR").expect("set by the parent");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
    runtime.block_on(async {
        let store = Embedded::open(EmbeddedConfig::new(dir)).expect("opens what a killed process left");
        nix::unistd::write(std::io::stdout(), b"\nready\n").expect("the parent reads");
        futures::future::join_all((0..WRITERS).map(|writer| write_on(store.clone(), writer))).await;
    });
}

async fn write_on(store: Arc<Embedded>, writer: usize) {
    let entry = store.get(&format!("/{writer}/a"), None).await.expect("reads");
    let (mut number, mut revision) = entry.map_or((0, 0), |e| (parse(&e).1, e.mod_revision));
    loop {
        number += 1;
        // Of all sizes, some larger than what the engine buffers.
        let padding = match number % 40 {
            0 => 30_000,
            n if n % 7 == 0 => 6_000,
            n => n as usize * 20,
        };
        let value = |stamped: bool| {
            let text = format!("{writer} {number} {}", "x".repeat(padding));
            Value { bytes: text.into(), stamp_at: stamped.then_some(0) }
        };
        let c: Arc<str> = format!("/{writer}/c").into();
        let txn = Txn {
            compares: vec![Compare { key: format!("/{writer}/a").into(), mod_revision: revision }],
            changes: vec![
                Change::Put(format!("/{writer}/a").into(), value(false)),
                if number.is_multiple_of(3) { Change::Delete(c) } else { Change::Put(c, value(false)) },
                Change::Put(format!("/{writer}/b").into(), value(true)),
            ],
        };
        match store.txn(txn).await.expect("writes") {
            Outcome::Committed(at) => revision = at,
            conflict => panic!("nobody else writes here: {conflict:?}"),
        }
        // One system call, so that a line arrives whole or not at all.
        let line = format!("ack {writer} {number} {revision}\n");
        nix::unistd::write(std::io::stdout(), line.as_bytes()).expect("the parent reads");
        if writer == 0 && number.is_multiple_of(5) {
            store.compact(revision.saturating_sub(20)).await.expect("compacts");
        }
    }
}

/// Kills it some time after it has acknowledged so many writes, or after its start. Returns what it acknowledged.
fn run_and_kill(dir: &Path, once_written: Option<usize>, after: Duration) -> Vec<(usize, u64, Revision)> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["crash::worker", "--exact", "--ignored", "--nocapture"])
        .env("HYTHE_CRASH_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    // A thread drains the pipe, so that a full one never holds the writers up.
    let mut output = BufReader::new(child.stdout.take().expect("piped above")).lines().map_while(Result::ok);
    let mut first = Vec::new();
    if let Some(writes) = once_written {
        let ready = output.find(|line| line == "ready");
        assert!(ready.is_some(), "it ended before it was ready: {:?}", child.wait());
        first.extend(output.by_ref().take(writes));
    }
    let reader = std::thread::spawn(move || output.collect::<Vec<_>>());
    // The random moment of death; it synchronises nothing.
    std::thread::sleep(after);
    child.kill().expect("still ours");
    let status = child.wait().expect("still ours");
    let lines = [first, reader.join().expect("reads to the end")].concat();
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert!(killed, "it ended on its own ({status}): {lines:?}");
    let acknowledged = lines.iter().filter_map(|l| l.strip_prefix("ack "));
    acknowledged
        .map(|line| {
            let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
            (numbers[0] as usize, numbers[1], numbers[2])
        })
        .collect()
}

fn check(dir: &Path, model: &mut Model, round: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("starts");
    runtime.block_on(async {
        let store = Embedded::open(EmbeddedConfig::new(dir)).expect("opens what a killed process left");
        let revision = store.revision();
        assert!(revision >= model.revision, "revision {revision} after {} in round {round}", model.revision);
        model.revision = revision;
        for writer in 0..WRITERS {
            check_writer(&store, model, writer).await;
        }
        check_history(&store, model).await;
        model.unseen_rounds = 0;
    });
}

async fn check_writer(store: &Embedded, model: &mut Model, writer: usize) {
    let [a, b, c] = futures::future::join_all(
        ["a", "b", "c"]
            .map(|k| format!("/{writer}/{k}"))
            .map(|key| async move { store.get(&key, None).await.expect("reads") }),
    )
    .await
    .try_into()
    .expect("three");
    let acknowledged = model.acknowledged.range((writer, 0)..(writer + 1, 0)).next_back();
    let promised = acknowledged.map_or(0, |((_, number), _)| *number);
    let Some(a) = a else {
        assert!(b.is_none() && c.is_none() && promised == 0, "writer {writer} lost everything up to {promised}");
        return;
    };
    let b = b.expect("b is written with a");
    let (number, revision) = (parse(&a).1, a.mod_revision);
    assert_eq!((parse(&b).1, b.mod_revision), (number, revision), "writer {writer}: half applied");
    assert!(b.value.starts_with(revision.to_string().as_bytes()), "the stamp is the revision");
    match c {
        Some(c) => assert_eq!((parse(&c).1, c.mod_revision, number % 3 != 0), (number, revision, true)),
        None => assert!(number.is_multiple_of(3), "writer {writer}: half applied"),
    }
    let last = promised.max(model.seen[writer]);
    assert!(number >= last, "writer {writer}: {number} is there, {last} was acknowledged or seen");
    assert!(number <= last + model.unseen_rounds, "writer {writer}: {number} is there, nobody wrote past {last}");
    model.seen[writer] = number;
}

/// The history from the oldest revision on is whole, and has each acknowledged write at its revision.
async fn check_history(store: &Embedded, model: &Model) {
    let (oldest, revision) = (store.oldest().max(1), store.revision());
    if revision < oldest {
        return;
    }
    let mut watch = store.watch("/", oldest).await.expect("starts");
    let batches = take(&mut watch, (revision + 1 - oldest) as usize).await;
    let mut written = BTreeMap::new();
    for (batch, expected) in batches.iter().zip(oldest..) {
        assert_eq!(batch[0].revision, expected, "the history has a gap or a repeat");
        let (writer, number) = parse(batch[0].current.as_ref().expect("a is never deleted"));
        written.insert((writer, number), expected);
        check_batch(batch, number, oldest);
    }
    for (write, at) in model.acknowledged.iter().filter(|(_, at)| **at >= oldest) {
        assert_eq!(written.get(write), Some(at), "{write:?} was acknowledged");
    }
}

fn check_batch(batch: &[Event], number: u64, oldest: Revision) {
    let numbers: Vec<u64> = batch.iter().filter_map(|e| Some(parse(e.current.as_ref()?).1)).collect();
    assert!(numbers.iter().all(|n| *n == number), "{numbers:?} in one revision");
    let deletes_c = number.is_multiple_of(3);
    assert_eq!((batch.len(), numbers.len()), (3, if deletes_c { 2 } else { 3 }), "half applied: {number}");
    if number > 1 && batch[0].revision > oldest {
        let previous = batch[0].previous.as_ref().expect("what was there before is kept as long");
        assert_eq!(parse(previous).1, number - 1);
    }
}

/// Writer and number in a value (`b` has its revision in front).
fn parse(entry: &Entry) -> (usize, u64) {
    let text = std::str::from_utf8(&entry.value).expect("text");
    let text = text.strip_prefix(&entry.mod_revision.to_string()).filter(|_| entry.key.ends_with('b')).unwrap_or(text);
    let mut words = text.split(' ');
    let mut number = || words.next().expect("two numbers").parse().expect("a number");
    (number() as usize, number())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}
