//! Which engine should carry the store: redb or fjall? Each fills a directory with the store's own shape
//! (rising 12-byte keys, 700-byte values, 32 to a durable commit), is then killed without a goodbye, and
//! opened again. Every step runs in a process of its own, so that memory and CPU time are its own.
//!
//! `cargo bench -p store --bench engines [-- RECORDS]`

use std::{
    error::Error,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

const BATCH: u64 = 32;
const VALUE: usize = 700;
const CACHE: usize = 4 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", engine, dir, records] => fill(engine, Path::new(dir), records.parse().expect("a number")),
        ["reopen", engine, dir, records] => reopen(engine, Path::new(dir), records.parse().expect("a number")),
        [] => compare("200000"),
        [records] => compare(records),
        _ => panic!("usage: engines [RECORDS]"),
    }
}

fn compare(records: &str) {
    let root = std::env::var("HYTHE_BENCH_DIR").unwrap_or_else(|_| "target".into());
    println!("engine  step    records/s  cpu_us/rec  rss_mib  disk_mib  open_ms  scan_ms  get_us");
    for engine in ["redb", "fjall"] {
        let dir = tempfile::tempdir_in(&root).expect("HYTHE_BENCH_DIR is writable");
        for step in ["fill", "reopen"] {
            let me = std::env::current_exe().expect("the path of this program");
            let dir = dir.path().to_str().expect("a UTF-8 path");
            let status = Command::new(me).args([step, engine, dir, records]).status().expect("this program runs");
            assert!(status.success(), "{engine} {step}: {status}");
        }
    }
}

fn fill(engine: &str, dir: &Path, records: u64) {
    let store = open(engine, dir).expect("opens");
    let value = [7u8; VALUE];
    let (start, cpu) = (Instant::now(), cpu_time());
    for first in (1..=records).step_by(BATCH as usize) {
        let batch: Vec<_> = (first..first + BATCH).map(key).collect();
        store.commit(&batch, &value).expect("commits");
    }
    let wall = start.elapsed().as_secs_f64();
    let cpu = (cpu_time() - cpu).as_micros() as f64 / records as f64;
    println!("{engine:7} fill   {:10.0} {cpu:11.1} {:8} {:9}", records as f64 / wall, rss_mib(), disk_mib(dir));
    // SAFETY: ends this process at once, as a kill would; nothing after it runs.
    unsafe { libc::_exit(0) }
}

fn reopen(engine: &str, dir: &Path, records: u64) {
    let start = Instant::now();
    let store = open(engine, dir).expect("opens after a kill");
    let opened = start.elapsed();
    let start = Instant::now();
    let seen = store.scan().expect("scans");
    assert!(seen >= records, "{seen} of {records}");
    let scanned = start.elapsed();
    let start = Instant::now();
    for i in 0..10_000u64 {
        assert!(store.get(&key(1 + i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % records)).expect("reads"));
    }
    let got = start.elapsed().as_micros() as f64 / 10_000.0;
    println!(
        "{engine:7} reopen {:31} {:9} {:8} {:8} {got:7.1}",
        rss_mib(),
        disk_mib(dir),
        opened.as_millis(),
        scanned.as_millis()
    );
}

type Any<T> = Result<T, Box<dyn Error>>;

trait Engine {
    fn commit(&self, keys: &[[u8; 12]], value: &[u8]) -> Any<()>;
    fn scan(&self) -> Any<u64>;
    fn get(&self, key: &[u8; 12]) -> Any<bool>;
}

fn open(engine: &str, dir: &Path) -> Any<Box<dyn Engine>> {
    Ok(match engine {
        "redb" => Box::new(Redb(redb::Builder::new().set_cache_size(CACHE).create(dir.join("db"))?)),
        "fjall" => {
            let db = fjall::Database::builder(dir)
                .cache_size(CACHE as u64)
                .worker_threads(1)
                .manual_journal_persist(true)
                .max_journaling_size(64 << 20)
                .open()?;
            let log = db.keyspace("log", || fjall::KeyspaceCreateOptions::default().max_memtable_size(4 << 20))?;
            Box::new(Fjall(db, log))
        }
        _ => return Err("redb or fjall".into()),
    })
}

struct Redb(redb::Database);
const LOG: redb::TableDefinition<&[u8; 12], &[u8]> = redb::TableDefinition::new("log");

impl Engine for Redb {
    fn commit(&self, keys: &[[u8; 12]], value: &[u8]) -> Any<()> {
        let txn = self.0.begin_write()?;
        let mut table = txn.open_table(LOG)?;
        for key in keys {
            table.insert(key, value)?;
        }
        drop(table);
        txn.commit()?;
        Ok(())
    }
    fn scan(&self) -> Any<u64> {
        let mut n = 0;
        for row in redb::ReadableTable::iter(&redb::ReadableDatabase::begin_read(&self.0)?.open_table(LOG)?)? {
            n += u64::from(row?.1.value().len() == VALUE);
        }
        Ok(n)
    }
    fn get(&self, key: &[u8; 12]) -> Any<bool> {
        let txn = redb::ReadableDatabase::begin_read(&self.0)?;
        Ok(redb::ReadableTable::get(&txn.open_table(LOG)?, key)?.is_some_and(|v| v.value().len() == VALUE))
    }
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Engine for Fjall {
    fn commit(&self, keys: &[[u8; 12]], value: &[u8]) -> Any<()> {
        let mut batch = self.0.batch().durability(Some(fjall::PersistMode::SyncData));
        for key in keys {
            batch.insert(&self.1, key, value);
        }
        batch.commit()?;
        Ok(())
    }
    fn scan(&self) -> Any<u64> {
        let mut n = 0;
        for row in self.1.iter() {
            n += u64::from(row.value()?.len() == VALUE);
        }
        Ok(n)
    }
    fn get(&self, key: &[u8; 12]) -> Any<bool> {
        Ok(self.1.get(key)?.is_some_and(|v| v.len() == VALUE))
    }
}

fn key(revision: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&revision.to_be_bytes());
    key
}

fn cpu_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("getrusage works");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|t| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()) as u64))
        .sum()
}

fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|l| l.starts_with("VmRSS")).expect("the kernel reports VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}

fn disk_mib(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).expect("readable") {
        let entry = entry.expect("readable");
        let meta = entry.metadata().expect("readable");
        sum += if meta.is_dir() { disk_mib(&entry.path()) } else { meta.blocks() / 2048 };
    }
    sum
}
