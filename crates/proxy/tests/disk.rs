//! The cache's tier on disk: restarts, crashes in the middle, disks that are full. The proxy is a process of its own here.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::*;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: proxy::Command,
}

#[test]
#[ignore = "the process that the other tests start"]
fn the_proxy() {
    if let Ok(arguments) = std::env::var("PROXY_PROCESS") {
        proxy::main(Cli::parse_from(arguments.split(' ')).command);
    }
}

/// A caching proxy with a tier on disk.
struct Proxy {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Proxy {
    /// `more` are fields of the cache. `first` is a command of the shell that is carried out before, in a mount namespace
    /// of the process's own.
    fn start(directory: &Path, app: SocketAddr, size: &str, more: &str, first: Option<&str>) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, admin) = (free(), free());
        let config = directory.join(format!("{}.yaml", address.port()));
        let disk = directory.join("cache");
        std::fs::create_dir_all(&disk).unwrap();
        let yaml = format!(
            "listeners: [{{address: '{address}', routes: [{{to: [{{pool: app}}], cache: c}}]}}]\n\
             pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]\n\
             caches: [{{name: c, purge_from: [127.0.0.0/8], disk: {{path: {}, size: {size}}}{more}}}]\n",
            disk.display()
        );
        std::fs::write(&config, yaml).unwrap();
        let log = config.with_extension("log");
        let file = std::fs::File::create(&log).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut command = match first {
            None => Command::new(&program),
            Some(first) => {
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-ec", &format!("{first}; exec \"$0\" \"$@\"")]).arg(&program);
                command
            }
        };
        let child = command
            .args(["--exact", "disk::the_proxy", "--nocapture", "--ignored"])
            .env(
                "PROXY_PROCESS",
                format!("proxy cache --config {} --admin {admin} --access-log off --threads 1", config.display()),
            )
            .current_dir(&disk)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let proxy = Self { child, address, admin, log };
        until("the proxy serves", || TcpStream::connect(address).is_ok() && TcpStream::connect(admin).is_ok());
        proxy
    }

    fn get(&self, path: &str) -> Answer {
        get(self.address, path)
    }

    fn purge(&self, path: &str, fields: &str) -> String {
        ask(self.address, &format!("PURGE {path} HTTP/1.1\r\nhost: test\r\n{fields}\r\n")).text()
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = get(self.admin, "/metrics").text();
        let line = metrics.lines().find(|line| {
            let rest = line.strip_prefix("hythe_proxy_cache_").and_then(|rest| rest.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with("_total{"))
        });
        line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_else(|| panic!("{name} in {metrics}"))
    }

    fn logged(&self, words: &str) -> usize {
        std::fs::read_to_string(&self.log).unwrap().matches(words).count()
    }

    /// Ends it in the middle of whatever it does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A body that only this path has, of this length.
fn body(path: &str, length: usize) -> String {
    path.bytes().cycle().take(length).map(char::from).collect()
}

/// A server whose answers can be told from each other, `length` bytes each, and how often it was asked.
fn library(length: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let address = app(move |head, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap();
        let (tag, _) = path[1..].split_once('-').unwrap_or((&path[1..], ""));
        let body = body(path, length);
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncache-control: max-age=600\r\nsurrogate-key: {tag}\r\netag: \"{path}\"\r\n\r\n{body}",
            body.len()
        )
    });
    (address, count)
}

/// All files of stored responses; a draft that a kill left is none.
fn files(directory: &Path) -> Vec<PathBuf> {
    let shards = std::fs::read_dir(directory.join("cache/v1")).into_iter().flatten().flatten();
    let shards = shards.filter(|shard| shard.file_name() != "tmp");
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.path()).into_iter().flatten().flatten());
    files.map(|file| file.path()).collect()
}

#[test]
fn what_was_stored_is_there_after_a_restart_with_its_age_and_variants() {
    let directory = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let app = app(move |head, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        let language = head.lines().find_map(|l| l.strip_prefix("accept-language: ")).unwrap_or("none");
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncache-control: max-age=600\r\nage: 100\r\nvary: accept-language\r\nx-of: {language}\r\n\r\n{language}",
            language.len()
        )
    });
    let ask = |proxy: &Proxy, language: &str| {
        ask(proxy.address, &format!("GET / HTTP/1.1\r\nhost: test\r\naccept-language: {language}\r\n\r\n"))
    };
    let proxy = Proxy::start(directory.path(), app, "1MiB", "", None);
    for language in ["de", "fr"] {
        assert_eq!(ask(&proxy, language).text(), language);
    }
    until("both are written", || proxy.metric("disk_entries") == 2);
    proxy.end();
    let proxy = Proxy::start(directory.path(), app, "1MiB", "", None);
    until("both are known again", || proxy.metric("disk_entries") == 2);
    for language in ["de", "fr"] {
        let again = ask(&proxy, language);
        assert_eq!((again.text().as_str(), again.header("x-of")), (language, Some(language)));
        assert_eq!(again.header("cache-status"), Some("c; hit; detail=disk"));
        let age: u64 = again.header("age").unwrap().parse().unwrap();
        assert!((100..300).contains(&age), "{age}");
    }
    assert_eq!(ask(&proxy, "de").header("cache-status"), Some("c; hit; detail=disk"), "asked for twice: into memory");
    assert_eq!(ask(&proxy, "de").header("cache-status"), Some("c; hit"));
    assert_eq!((count.load(Ordering::SeqCst), proxy.metric("disk_hits")), (2, 3));
}

#[test]
fn a_crash_in_the_middle_leaves_nothing_that_is_not_whole() {
    const LENGTH: usize = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let (app, count) = library(LENGTH);
    for round in 0..4 {
        let proxy = Proxy::start(directory.path(), app, "64MiB", "", None);
        let address = proxy.address;
        let clients: Vec<_> = (0..4)
            .map(|client| {
                std::thread::spawn(move || {
                    for page in 0.. {
                        let mut client_of = Client::new(address);
                        let path = format!("/{client}-{}", page % 40 + round * 10);
                        client_of.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
                        // It dies under the client's hands at last.
                        let Some(answer) = client_of.receive().filter(|a| a.body.len() == LENGTH) else { return };
                        assert!(answer.text() == body(&path, LENGTH), "{path}");
                        if TcpStream::connect(address).is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        until("some are written", || proxy.metric("disk_writes") > 20);
        proxy.kill();
        for client in clients {
            // A client whose connection is refused panics in its helper: that is the kill, not a wrong answer.
            let _ = client.join();
        }
    }
    // What the machine's own crash may leave: files that are cut off, empty, or full of zeros.
    let all = files(directory.path());
    assert!(all.len() > 20);
    let whole = std::fs::read(&all[0]).unwrap();
    std::fs::write(&all[0], &whole[..whole.len() / 2]).unwrap();
    std::fs::write(&all[1], b"").unwrap();
    let zeros = vec![0; std::fs::metadata(&all[2]).unwrap().len() as usize];
    std::fs::write(&all[2], zeros).unwrap();
    // The head is well, the body is not: only who reads it can tell.
    let mut rotten = std::fs::read(&all[3]).unwrap();
    let last = rotten.len() - 1;
    rotten[last] ^= 1;
    std::fs::write(&all[3], rotten).unwrap();
    std::fs::write(directory.path().join("cache/v1/tmp/0000000000000001"), b"a draft").unwrap();
    std::fs::write(directory.path().join("cache/v1/00/notes.txt"), b"somebody else's").unwrap();
    let proxy = Proxy::start(directory.path(), app, "64MiB", "", None);
    until("all that is whole is known", || proxy.metric("disk_entries") as usize == all.len() - 3);
    assert_eq!(proxy.metric("disk_errors"), 3);
    let before = count.load(Ordering::SeqCst);
    let mut from_disk = 0;
    for client in 0..4 {
        for page in 0..70 {
            let path = format!("/{client}-{page}");
            let answer = proxy.get(&path);
            assert!(answer.status == 200 && answer.text() == body(&path, LENGTH), "{path}");
            from_disk += usize::from(answer.header("cache-status") == Some("c; hit; detail=disk"));
        }
    }
    assert_eq!(from_disk, all.len() - 4, "all but the rotten one");
    assert_eq!(count.load(Ordering::SeqCst) - before, 4 * 70 - from_disk);
    assert_eq!(proxy.metric("disk_errors"), 4);
    assert_eq!(std::fs::read_dir(directory.path().join("cache/v1/tmp")).unwrap().count(), 0);
    assert!(directory.path().join("cache/v1/00/notes.txt").exists());
}

#[test]
fn what_was_purged_stays_away_even_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (app, count) = library(100);
    let proxy = Proxy::start(directory.path(), app, "1MiB", "", None);
    for path in ["/red-1", "/red-2", "/blue-1", "/green-1"] {
        proxy.get(path);
    }
    until("all are written", || proxy.metric("disk_entries") == 4);
    assert_eq!(proxy.purge("/blue-1", ""), "purged 1\n");
    assert_eq!(proxy.purge("/", "surrogate-key: red\r\n"), "purged 2\n");
    assert_eq!(ask(proxy.address, "POST /green-1 HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").status, 200);
    proxy.kill();
    assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
    let proxy = Proxy::start(directory.path(), app, "1MiB", "", None);
    let before = count.load(Ordering::SeqCst);
    for path in ["/red-1", "/red-2", "/blue-1", "/green-1"] {
        assert_eq!(proxy.get(path).header("cache-status"), Some("c; fwd=uri-miss; stored"), "{path}");
    }
    assert_eq!(count.load(Ordering::SeqCst) - before, 4);
    // Once more with what is only on disk.
    until("all are written", || proxy.metric("disk_entries") == 4);
    proxy.kill();
    let proxy = Proxy::start(directory.path(), app, "1MiB", "", None);
    assert_eq!(proxy.purge("/", "surrogate-key: red\r\n"), "purged 2\n");
    assert_eq!(proxy.purge("/blue-1", ""), "purged 1\n");
    assert_eq!(proxy.purge("/blue-1", ""), "purged 0\n");
    assert_eq!(files(directory.path()).len(), 1);
}

#[test]
fn a_disk_that_is_full_leaves_memory_and_says_so_once() {
    let directory = tempfile::tempdir().unwrap();
    let (app, count) = library(20_000);
    let mount = format!("mount -t tmpfs -o size=512k none '{}'", directory.path().join("cache").display());
    let proxy = Proxy::start(directory.path(), app, "64MiB", "", Some(&mount));
    assert_eq!(proxy.metric("disk_up"), 1);
    for page in 0..60 {
        let path = format!("/a-{page}");
        assert_eq!(proxy.get(&path).text(), body(&path, 20_000));
    }
    until("the disk refused", || proxy.metric("disk_up") == 0);
    assert!(proxy.metric("disk_entries") > 5, "what went in stays");
    for page in 60..90 {
        proxy.get(&format!("/a-{page}"));
    }
    assert_eq!(proxy.logged("memory alone is used"), 1);
    let before = count.load(Ordering::SeqCst);
    for page in 0..90 {
        let path = format!("/a-{page}");
        let answer = proxy.get(&path);
        assert_eq!((answer.text() == body(&path, 20_000), answer.header("cache-status")), (true, Some("c; hit")));
    }
    assert_eq!(count.load(Ordering::SeqCst), before, "memory has all of it");
}

#[test]
fn it_holds_what_it_may_and_keeps_what_is_asked_for_most() {
    let directory = tempfile::tempdir().unwrap();
    let (app, count) = library(3_000);
    // 32 files of a block each; memory has room for next to nothing.
    let start = || Proxy::start(directory.path(), app, "128KiB", ", memory: 8KiB, max_response: 8KiB", None);
    let proxy = start();
    let popular: Vec<String> = (0..16).map(|page| format!("/popular-{page}")).collect();
    for _ in 0..6 {
        popular.iter().for_each(|path| drop(proxy.get(path)));
    }
    until("the popular are written", || proxy.metric("disk_entries") >= 12);
    for page in 0..200 {
        proxy.get(&format!("/once-{page}"));
        assert!(proxy.metric("disk_bytes") <= 128 << 10);
    }
    let before = count.load(Ordering::SeqCst);
    popular.iter().for_each(|path| assert_eq!(proxy.get(path).text(), body(path, 3_000)));
    let fetched = count.load(Ordering::SeqCst) - before;
    assert!(fetched <= 6, "{fetched} of 16 popular pages were lost to 200 that were asked for once");
    let size: u64 = files(directory.path()).iter().map(|f| f.metadata().unwrap().len().div_ceil(4096) * 4096).sum();
    assert!(size <= 128 << 10, "{size}");
    // A smaller tier drops what is too much.
    proxy.end();
    let proxy = Proxy::start(directory.path(), app, "64KiB", "", None);
    until("it has shrunk", || proxy.metric("disk_bytes") <= 64 << 10 && proxy.metric("disk_entries") > 0);
    until("the files went", || files(directory.path()).len() <= 16);
}

#[test]
fn a_directory_that_another_uses_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (app, _) = library(100);
    let one = Proxy::start(directory.path(), app, "1MiB", "", None);
    one.get("/a-1");
    until("it is written", || one.metric("disk_entries") == 1);
    let other = Proxy::start(directory.path(), app, "1MiB", "", None);
    assert_eq!((other.metric("disk_up"), one.metric("disk_up")), (0, 1));
    assert_eq!(other.logged("another process uses it"), 1);
    assert_eq!(other.get("/a-1").text(), body("/a-1", 100));
    assert_eq!(one.metric("disk_entries"), 1);
}

#[test]
fn a_reload_goes_on_with_the_same_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (app, count) = library(100);
    let yaml = |address: &str, more: &str| {
        format!(
            "listeners: [{{address: '{address}', routes: [{{to: [{{pool: app}}], cache: c}}]}}]\n\
             pools: [{{name: app, endpoints: [{{address: '{app}'}}]}}]\n\
             caches: [{{name: c, disk: {{path: {}, size: 1MiB}}{more}}}]\n",
            directory.path().display()
        )
    };
    let stage = Stage::new(&yaml("127.0.0.1:0", ""));
    let counts = || stage.proxy.shared().site().caches["c"].counts().disk.unwrap();
    get(stage.address(), "/a-1");
    until("it is written", || counts().entries == 1);
    stage.reload(&yaml(&stage.address().to_string(), ", max_response: 2KiB"));
    let again = get(stage.address(), "/a-1");
    assert_eq!(again.header("cache-status"), Some("c; hit; detail=disk"), "memory is new, the disk is not");
    assert!(counts().up);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let other = format!("caches: [{{name: d, disk: {{path: {}, size: 1MiB}}}}, ", directory.path().display());
    let error = proxy::config::Config::parse(&yaml("127.0.0.1:0", "").replace("caches: [", &other)).unwrap_err();
    assert!(error.to_string().contains("caches[1].disk.path: is another cache's already"), "{error}");
}
