//! Sockets of either kind, and bytes on their way out.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

/// Buffers larger than this are given back once they are empty.
const KEPT: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of a unix socket.
    Unix(UnixListener),
}

impl Stream {
    /// Tells the poll to report what happens on it under `token`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Ends that.
    pub fn deregister(&mut self, registry: &Registry) {
        // A closed descriptor leaves the poll by itself: an error changes nothing.
        let _ = self.source().deregister(registry);
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }

    /// Reads what is there.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    /// Says that nothing more is sent.
    pub fn end(&mut self) {
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Has the kernel find out when the other side is gone.
    pub fn keep_alive(&mut self) {
        if let Stream::Tcp(stream) = self {
            // Without it a vanished client stays until it is written to: no reason to refuse it.
            let _ = socket2::SockRef::from(&*stream).set_keepalive(true);
        }
    }

    /// How a connection that was begun has turned out: `None` while it is under way.
    pub fn connected(&self) -> Option<io::Result<()>> {
        let (error, peer) = match self {
            Stream::Tcp(stream) => (stream.take_error(), stream.peer_addr().map(drop)),
            Stream::Unix(stream) => (stream.take_error(), stream.peer_addr().map(drop)),
        };
        match (error, peer) {
            (Ok(Some(error)) | Err(error), _) => Some(Err(error)),
            (Ok(None), Ok(())) => Some(Ok(())),
            (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => None,
            (Ok(None), Err(error)) => Some(Err(error)),
        }
    }
}

impl Listener {
    /// Accepts a connection, and tells who it is.
    pub fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Listener::Tcp(listener) => listener.accept().map(|(stream, peer)| {
                // Answers must not wait for each other's acknowledgements; without it, all works, but late.
                let _ = stream.set_nodelay(true);
                (Stream::Tcp(stream), peer.to_string())
            }),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| (Stream::Unix(stream), "unix".to_owned())),
        }
    }

    /// Tells the poll to report connections under `token`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Listener::Unix(listener) => listener.register(registry, token, Interest::READABLE),
        }
    }

    /// Ends that.
    pub fn deregister(&mut self, registry: &Registry) {
        let _ = match self {
            Listener::Tcp(listener) => listener.deregister(registry),
            Listener::Unix(listener) => listener.deregister(registry),
        };
    }

    /// A listener over a socket that is bound and does not block.
    pub fn from_descriptor(socket: OwnedFd, unix: bool) -> Listener {
        if unix {
            Listener::Unix(UnixListener::from_std(socket.into()))
        } else {
            Listener::Tcp(TcpListener::from_std(socket.into()))
        }
    }
}

/// Bytes on their way out of a connection.
#[derive(Debug, Default)]
pub struct Out {
    /// The bytes; append to them.
    pub bytes: Vec<u8>,
    sent: usize,
    blocked: bool,
}

impl Out {
    /// How many bytes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The other side has room again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Sends as much as the other side takes, and tells how much.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn flush(&mut self, stream: &mut Stream) -> io::Result<usize> {
        let before = self.sent;
        while !self.blocked && self.sent < self.bytes.len() {
            match stream.write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let sent = self.sent - before;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        } else if self.sent > 1 << 20 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(sent)
    }
}
