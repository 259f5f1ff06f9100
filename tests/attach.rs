//! attach, terminals and `kubectl run -it`.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::AsFd,
    process::Stdio,
    time::Instant,
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::cluster::{Cluster, PATIENCE, Running, eventually, text};

/// kubectl at a terminal, and the one who types.
pub struct Terminal {
    screen: File,
    kubectl: Running,
    seen: String,
}

impl Terminal {
    pub fn open(cluster: &Cluster, arguments: &[&str], rows: u16, columns: u16) -> Self {
        let pty = openpty(None, None).unwrap();
        let screen = File::from(pty.master);
        set_size(&screen, rows, columns);
        nix::fcntl::fcntl(&screen, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let kubectl = cluster.kubectl_command(arguments).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { screen, kubectl: Running(kubectl), seen: String::new() }
    }

    pub fn type_line(&mut self, line: &str) {
        self.screen.write_all(format!("{line}\r").as_bytes()).unwrap();
    }

    /// As a window that is dragged larger.
    fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.screen, rows, columns);
        kill(Pid::from_raw(i32::try_from(self.kubectl.0.id()).unwrap()), Signal::SIGWINCH).unwrap();
    }

    /// Waits until the screen shows `word` and takes everything up to it away, which it returns.
    #[track_caller]
    pub fn until(&mut self, word: &str) -> String {
        let begin = Instant::now();
        let mut buffer = [0; 4096];
        while !self.seen.contains(word) {
            assert!(begin.elapsed() < PATIENCE, "{word:?} is not on the screen: {:?}", self.seen);
            let mut fds = [PollFd::new(self.screen.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(500u16)).unwrap();
            match self.screen.read(&mut buffer) {
                Ok(count) => self.seen += &text(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Nobody has the terminal open any more.
                Err(error) => panic!("{error} before {word:?}: {:?}", self.seen),
            }
        }
        let end = self.seen.find(word).unwrap() + word.len();
        self.seen.drain(..end).collect()
    }
}

fn set_size(screen: &File, rows: u16, columns: u16) {
    tcsetwinsize(screen, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

fn pod(name: &str, flags: &str, script: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 0, \
         containers: [{{name: c, image: 'busybox:1', {flags}, command: [sh, -c, {script:?}]}}]}}}}\n---\n"
    )
}

#[test]
fn an_attached_client_types_reads_and_goes_while_the_container_stays() {
    let cluster = Cluster::up();
    let echo = "while read line; do echo got $line; done; echo input is over";
    cluster.apply(&(pod("open", "stdin: true", echo) + &pod("once", "stdin: true, stdinOnce: true", echo)));
    cluster.wait_ready("pod/open");
    cluster.wait_ready("pod/once");
    for word in ["one", "two"] {
        let mut command = cluster.kubectl_command(&["attach", "-i", "open"]);
        let mut client =
            Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        client.0.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
        client.read_until(&format!("got {word}\n"));
        drop(client);
        assert_eq!(cluster.jsonpath("pod/open", "{.status.phase}"), "Running");
    }
    // A client whose input ends leaves; the container reads on.
    let output = cluster.pipe(&["attach", "-i", "open"], "three\n");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(cluster.jsonpath("pod/open", "{.status.phase}"), "Running");
    eventually("all is in the log", || cluster.kubectl(&["logs", "open"]) == "got one\ngot two\ngot three\n");
    // A container that wants its input once ends with the client that had it.
    let output = cluster.pipe(&["attach", "-i", "once"], "only\n");
    assert_eq!(text(&output.stdout), "got only\ninput is over\n", "{}", text(&output.stderr));
    assert!(output.status.success());
    cluster.until("pod/once", "{.status.phase}", "Succeeded");
    let error = cluster.kubectl_fails(&["attach", "once"]);
    assert!(error.contains("cannot attach a container in a completed pod; current phase is Succeeded"), "{error}");
}

#[test]
fn a_terminal_is_resized_left_and_found_again() {
    let cluster = Cluster::up();
    cluster.apply(&pod("shell", "stdin: true, tty: true", "exec sh"));
    cluster.wait_ready("pod/shell");
    let mut first = Terminal::open(&cluster, &["attach", "-it", "shell"], 31, 101);
    first.type_line("kept=here");
    // A client makes the terminal larger by one before it gives its true size, so that programs draw anew.
    shows_size(&mut first, 31, 101);
    first.resize(42, 123);
    shows_size(&mut first, 42, 123);
    drop(first);
    let mut second = Terminal::open(&cluster, &["attach", "-it", "shell"], 24, 80);
    second.type_line("echo it is $kept");
    second.until("\nit is here");
    let mut exec = Terminal::open(&cluster, &["exec", "-it", "shell", "--", "sh"], 33, 77);
    shows_size(&mut exec, 33, 77);
    exec.resize(44, 99);
    shows_size(&mut exec, 44, 99);
}

/// Waits until a program in the terminal is told this size.
fn shows_size(terminal: &mut Terminal, rows: u16, columns: u16) {
    eventually(&format!("{rows} rows of {columns}"), || {
        terminal.type_line("echo size $(busybox stty size) end");
        terminal.until("\nsize ");
        terminal.until(" end").contains(&format!("{rows} {columns}"))
    });
}

#[test]
fn a_pod_can_be_run_for_one_session() {
    let cluster = Cluster::up();
    let mut session = Terminal::open(
        &cluster,
        &["run", "once", "-it", "--rm", "--image=busybox:1", "--restart=Never", "--", "sh"],
        24,
        80,
    );
    session.until("/ # ");
    session.type_line("echo hello from $(hostname)");
    session.until("\nhello from once");
    session.type_line("exit");
    session.until("pod \"once\" deleted");
    assert!(session.kubectl.0.wait().unwrap().success());
    assert!(cluster.kubectl_fails(&["get", "pod", "once"]).contains("NotFound"));
    let arguments =
        ["run", "piped", "-i", "--rm", "--image=busybox:1", "--restart=Never", "--", "sh", "-c", "cat; exit 3"];
    let output = cluster.pipe(&arguments, "through\n");
    assert!(text(&output.stdout).contains("through\n"), "{output:?}");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(cluster.kubectl_fails(&["get", "pod", "piped"]).contains("NotFound"));
}
