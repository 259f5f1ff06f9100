//! A pack on its way from a server into a file, in either version of the protocol.

use std::{fs::File, io::Write, path::Path};

use super::{
    packet::{Packet, PacketError},
    remote::RemoteError,
};

/// A pack on its way into a file.
pub(crate) struct Receiving {
    file: File,
    most: u64,
    written: u64,
    in_pack: bool,
    ended: bool,
}

impl Receiving {
    pub(crate) fn new(directory: &Path, most: u64) -> Result<Self, RemoteError> {
        Ok(Self { file: tempfile_in(directory)?, most, written: 0, in_pack: false, ended: false })
    }

    /// Takes what the server says next.
    pub(crate) fn take(&mut self, packet: Packet<'_>) -> Result<(), RemoteError> {
        let said = |words: &[u8]| Err(RemoteError::Said(String::from_utf8_lossy(words).trim_end().to_owned()));
        match packet {
            Packet::Data(line) if !self.in_pack => {
                if let Some(words) = line.strip_prefix(b"ERR ") {
                    return said(words);
                }
                // So either version begins it.
                self.in_pack = matches!(line.trim_ascii_end(), b"packfile" | b"NAK");
            }
            Packet::Data([1, pack @ ..]) => {
                self.written += pack.len() as u64;
                if self.written > self.most {
                    return Err(RemoteError::TooLarge(self.most));
                }
                self.file.write_all(pack)?;
            }
            Packet::Data([3, words @ ..]) => return said(words),
            Packet::Flush => self.ended = self.in_pack,
            Packet::Data(_) | Packet::Delimiter => {}
        }
        Ok(())
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn finish(self) -> Result<File, RemoteError> {
        if self.ended { Ok(self.file) } else { Err(PacketError::CutOff.into()) }
    }
}

/// A file that is gone when it is closed.
fn tempfile_in(directory: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    for attempt in 0u32..1000 {
        let path = directory.join(format!(".pack-{}-{attempt}", std::process::id()));
        match std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}
