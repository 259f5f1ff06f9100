//! A container as its operator sees it: it becomes ready, follows its file, answers signals and ends in order.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serving::{ConfigError, Flags, Live, Manual, Record, Serving};

const MANUAL: Manual =
    Manual { name: "proxy echo", about: "", version: "v1", ports: &[], endpoints: &[], variables: &[] };

/// The container under test: it prints the number in its file whenever that changes, and ends its work half a second late.
#[derive(Parser)]
struct Echo {
    #[arg(long)]
    config: std::path::PathBuf,
    #[command(flatten)]
    flags: Flags,
}

/// Not a test of its own: the process that the tests start.
fn container(arguments: &str) -> ExitCode {
    let echo = Echo::parse_from(arguments.split(' '));
    serving::run(&MANUAL, echo.flags, |serving: Serving| async move {
        let live = Live::open(echo.config, |text| {
            serving::from_yaml::<u32>(text).map_err(|error| ConfigError::field("", error.reason))
        })?;
        live.follow(&serving);
        let mut versions = live.subscribe();
        serving.ready();
        loop {
            println!("version {}", **versions.borrow_and_update());
            serving.access_log().write(Record { method: "PRINT".into(), ..Record::default() });
            tokio::select! {
                _ = versions.changed() => {}
                () = serving.stopping().cancelled() => break,
            }
        }
        let work = serving.guard();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            println!("work done");
            drop(work);
        });
        Ok(())
    })
}

struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    admin: SocketAddr,
}

impl Running {
    fn start(config: &Path) -> Self {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_container", "--nocapture", "--ignored"])
            .env("ECHO_CONTAINER", format!("echo --config {} --admin {admin}", config.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, admin }
    }

    fn await_line(&mut self, part: &str) -> String {
        let mut seen = String::new();
        while !seen.lines().next_back().is_some_and(|line| line.contains(part)) {
            assert_ne!(self.output.read_line(&mut seen).unwrap(), 0, "it ended without {part:?}:\n{seen}");
        }
        seen
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the process that the other tests start"]
fn the_container() {
    if let Ok(arguments) = std::env::var("ECHO_CONTAINER") {
        let code = container(&arguments);
        std::process::exit(i32::from(code != ExitCode::SUCCESS));
    }
}

fn config(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("echo.yaml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn it_follows_its_file_however_that_is_changed() {
    // A mounted ConfigMap: the name is a link into a directory that is itself a link, and that link is flipped.
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, text) in [("v1", "1"), ("v2", "2")] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("echo.yaml"), text).unwrap();
    }
    std::os::unix::fs::symlink("v1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/echo.yaml", at("echo.yaml")).unwrap();
    let mut running = Running::start(&at("echo.yaml"));
    running.await_line("version 1");
    assert!(running.ask("GET /readyz").starts_with("HTTP/1.1 200"));
    std::os::unix::fs::symlink("v2", at("..data.new")).unwrap();
    std::fs::rename(at("..data.new"), at("..data")).unwrap();
    running.await_line("version 2");
    // A plain write where it really lies now.
    std::fs::write(at("v2").join("echo.yaml"), "3").unwrap();
    running.await_line("version 3");
    // A rename over the name.
    std::fs::write(at("new"), "4").unwrap();
    std::fs::rename(at("new"), at("echo.yaml")).unwrap();
    running.await_line("version 4");
}

#[test]
fn a_broken_file_is_refused_with_its_line_and_the_old_version_goes_on() {
    let (_directory, path) = config("1");
    let mut running = Running::start(&path);
    running.await_line("version 1");
    std::fs::write(&path, "\nmany\n").unwrap();
    let answer = running.ask("POST /-/reload");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("echo.yaml"), "{answer}");
    assert!(running.ask("GET /metrics").contains("hythe_config_reload_failures_total"));
    std::fs::write(&path, "2").unwrap();
    running.signal(Signal::SIGHUP);
    running.await_line("version 2");
}

#[test]
fn a_container_with_a_broken_file_does_not_start() {
    let (_directory, path) = config("many");
    let mut running = Running::start(&path);
    assert!(!running.child.wait().unwrap().success());
}

#[test]
fn on_sigterm_it_finishes_its_work_and_ends_with_zero() {
    let (_directory, path) = config("1");
    let mut running = Running::start(&path);
    running.await_line("version 1");
    running.signal(Signal::SIGTERM);
    running.await_line("work done");
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match running.child.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(Instant::now() < deadline, "it did not end"),
        }
        std::thread::yield_now();
    };
    assert!(status.success(), "{status}");
}
