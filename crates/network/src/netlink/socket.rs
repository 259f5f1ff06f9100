//! A blocking netlink socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt};
use nix::sys::time::TimeVal;

use super::HEADER;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    Route,
    Netfilter,
}

/// A netlink socket. It acts in the network namespace it was opened in, from whatever thread it is used.
pub(crate) struct NetlinkSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    send_buffer: usize,
}

/// The kernel answers at once; this only bounds the wait if an answer got lost.
const ANSWER_DEADLINE_SECONDS: i64 = 10;
/// The kernel cuts dumps into pieces of at most this size.
const RECEIVE_BUFFER: usize = 32 * 1024;

/// A number no other pending message of this process has.
pub(crate) fn next_sequence() -> u32 {
    static SEQUENCE: AtomicU32 = AtomicU32::new(1);
    SEQUENCE.fetch_add(1, Ordering::Relaxed)
}

/// One received message, header taken apart.
struct Received<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl NetlinkSocket {
    pub(crate) fn open(family: Family) -> io::Result<NetlinkSocket> {
        let protocol = match family {
            Family::Route => SockProtocol::NetlinkRoute,
            Family::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_DEADLINE_SECONDS, 0))?;
        Ok(NetlinkSocket { fd, buffer: vec![0; RECEIVE_BUFFER], send_buffer: 128 * 1024 })
    }

    /// Sends `bytes`, one or more complete messages, in one call.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() + 4096 > self.send_buffer {
            // The kernel takes a transaction in one piece only, and bounds the piece by this buffer.
            let wanted = bytes.len() + bytes.len() / 2 + 4096;
            socket::setsockopt(&self.fd, sockopt::SndBufForce, &wanted)?;
            self.send_buffer = wanted;
        }
        let kernel = NetlinkAddr::new(0, 0);
        let sent = socket::sendto(self.fd.as_raw_fd(), bytes, &kernel, MsgFlags::empty())?;
        debug_assert_eq!(sent, bytes.len(), "netlink sends all or nothing");
        Ok(())
    }

    /// Reads answers until the one to `last` is there. `first..=last` are the messages just sent; answers to earlier
    /// ones are skipped. The first refusal is returned, with the number of the message it is about.
    pub(crate) fn acknowledged(&mut self, first: u32, last: u32) -> io::Result<Result<(), (u32, io::Error)>> {
        let mut refusal = None;
        loop {
            let mut done = false;
            self.receive(|message| {
                let ours = message.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                if !ours || message.kind != libc::NLMSG_ERROR as u16 {
                    return;
                }
                let code = error_code(message.payload);
                if code != 0 {
                    refusal.get_or_insert((message.sequence, io::Error::from_raw_os_error(-code)));
                }
                // A refusal of the first message (a batch's opening) is about the whole batch and may be the only answer.
                done |= message.sequence == last || (code != 0 && message.sequence == first);
            })?;
            if done {
                return Ok(refusal.map_or(Ok(()), Err));
            }
        }
    }

    /// Sends a dump request and hands over each answer's type and payload.
    pub(crate) fn dump(&mut self, request: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let sequence = u32::from_ne_bytes(request[8..12].try_into().expect("a message has a header"));
        self.send(request)?;
        loop {
            let mut outcome = None;
            self.receive(|message| {
                if message.sequence != sequence || outcome.is_some() {
                    return;
                }
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR => {
                        let code = error_code(message.payload);
                        outcome = Some(if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) });
                    }
                    libc::NLMSG_DONE => outcome = Some(Ok(())),
                    _ => {
                        each(message.kind, message.payload);
                        if message.flags & libc::NLM_F_MULTI as u16 == 0 {
                            outcome = Some(Ok(()));
                        }
                    }
                }
            })?;
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    fn receive(&mut self, mut each: impl FnMut(Received<'_>)) -> io::Result<()> {
        let length = loop {
            match socket::recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => break length,
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        };
        let mut rest = &self.buffer[..length];
        while rest.len() >= HEADER {
            let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().expect("within the header"));
            let half = |at: usize| u16::from_ne_bytes(rest[at..at + 2].try_into().expect("within the header"));
            let size = word(0) as usize;
            let Some(payload) = rest.get(HEADER..size) else { break };
            each(Received { kind: half(4), flags: half(6), sequence: word(8), payload });
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The `error` field of `struct nlmsgerr`: 0 or a negative errno.
fn error_code(payload: &[u8]) -> i32 {
    payload.get(..4).map_or(-libc::EBADMSG, |code| i32::from_ne_bytes(code.try_into().expect("four bytes")))
}
