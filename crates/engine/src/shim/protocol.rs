//! What the engine and a shim say to each other.
//!
//! A stream of frames: four bytes of length (little endian), then JSON. File descriptors travel with the first byte of
//! the frame that announces how many it carries.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::spec::{ExecSpec, LogSpec, SandboxSpec, TerminalSize};
use crate::status::{ContainerState, ExitStatus};

/// A frame longer than this is a defect of the sender.
const MAX_FRAME: usize = 8 << 20;

/// What a shim is started from (`sandbox.json`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub spec: SandboxSpec,
    /// The sandbox's cgroup, below every hierarchy's root.
    pub cgroup: String,
    /// The cgroup the shim itself moves to.
    pub shim_cgroup: String,
    pub created_at: SystemTime,
    /// The shim's process id, once it runs.
    pub pid: Option<i32>,
}

impl Setup {
    /// The cgroup of one of its containers; of all of them with an empty name.
    pub fn cgroup_of(&self, container: &str) -> String {
        match container.is_empty() || self.spec.single {
            true => self.cgroup.clone(),
            false => format!("{}/{container}", self.cgroup),
        }
    }
}

/// What outlives a shim of a container (`state.json`), written before it is announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    pub state: ContainerState,
    pub pid: Option<i32>,
    pub created_at: SystemTime,
    pub started_at: Option<SystemTime>,
    pub exit: Option<ExitStatus>,
    pub log_dropped: u64,
}

/// What the shim itself must know of a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stdio {
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub log: Option<LogSpec>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub id: u64,
    /// How many descriptors come with it.
    pub fds: usize,
    pub body: RequestBody,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RequestBody {
    /// All records; answered with [`Answer::Records`].
    Records,
    /// Make the container of `container.json`.
    Create {
        container: String,
        stdio: Stdio,
        pid_of: Option<String>,
    },
    Start {
        container: String,
    },
    Signal {
        container: String,
        signal: i32,
    },
    /// Descriptors: stdin, stdout, stderr, those that are connected. With a terminal none; its master is answered.
    Exec {
        spec: Box<ExecSpec>,
    },
    SignalExec {
        pid: i32,
        signal: i32,
    },
    /// Descriptors: stdin (if the container has one), stdout, stderr (without a terminal).
    Attach {
        container: String,
        /// The client has nothing to say: its stdin is let go of, which ends nothing.
        #[serde(default)]
        without_stdin: bool,
    },
    Resize {
        container: String,
        size: TerminalSize,
    },
    CloseStdin {
        container: String,
    },
    ReopenLog {
        container: String,
    },
    Remove {
        container: String,
    },
    /// Kill everything and end.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Answer {
        id: u64,
        fds: usize,
        result: Result<Answer, Failure>,
    },
    /// The first message of a new shim.
    Ready {
        result: Result<i32, String>,
    },
    Started {
        container: String,
        pid: i32,
        at: SystemTime,
    },
    Exited {
        container: String,
        exit: ExitStatus,
        log_dropped: u64,
    },
    ExecExited {
        pid: i32,
        exit: ExitStatus,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Records(Vec<Record>),
    /// A process was made.
    Pid(i32),
}

/// Why a request failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    Create(String),
    Start { message: String, exit_code: i32 },
    NotFound,
    State(ContainerState),
    Other(String),
}

/// Frames as they come in on a non-blocking socket.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Reader {
    /// Reads what is there; `Ok(false)` at the end of the stream, `WouldBlock` when nothing is there.
    pub fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let mut chunk = [0u8; 4096];
        let count = receive(socket, &mut chunk, &mut self.fds)?;
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    /// The next whole frame.
    pub fn next<T: serde::de::DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(header) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
        }
        let Some(frame) = self.bytes.get(4..4 + length) else { return Ok(None) };
        let value = serde_json::from_slice(frame)?;
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(value))
    }

    /// The descriptors of a frame that announced `count`.
    pub fn take_fds(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if self.fds.len() < count {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"));
        }
        Ok(self.fds.drain(..count).collect())
    }
}

/// A value as a frame.
pub(crate) fn frame(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, value).expect("protocol types have string keys and cannot fail to serialize");
    let length = u32::try_from(bytes.len() - 4).expect("a frame is shorter than MAX_FRAME");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Sends bytes, with descriptors on the first; returns how many bytes went.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    let parts = [io::IoSlice::new(bytes)];
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    Ok(sendmsg::<UnixAddr>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives bytes and the descriptors that come with them (close-on-exec).
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
    let mut control = nix::cmsg_space!([RawFd; 8]);
    let mut parts = [io::IoSliceMut::new(bytes)];
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_NOSIGNAL,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}
