//! Packets of the git protocol: a length in four hexadecimal digits, then so much (gitprotocol-common). Pure.

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Bytes; a line keeps its line feed.
    Data(&'a [u8]),
    /// End of a message (`0000`).
    Flush,
    /// Between parts of a message (`0001`).
    Delimiter,
}

/// Bytes that are no packets. A retry may help: something stands in between, or the connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The length is not four hexadecimal digits, or is one that means nothing.
    #[error("the server's answer is not in packets")]
    Length,
    /// The packet is cut off.
    #[error("the server's answer is cut off")]
    CutOff,
}

/// Packets from bytes that arrive piece by piece.
#[derive(Default)]
pub struct Packets {
    buffer: Vec<u8>,
    taken: usize,
}

impl Packets {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet, if it is there.
    ///
    /// # Errors
    /// If the bytes are no packet.
    pub fn take(&mut self) -> Result<Option<Packet<'_>>, PacketError> {
        let rest = &self.buffer[self.taken..];
        let Some(digits) = rest.get(..4) else { return Ok(None) };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(PacketError::Length);
        }
        let digits = std::str::from_utf8(digits).map_err(|_| PacketError::Length)?;
        let length = usize::from_str_radix(digits, 16).map_err(|_| PacketError::Length)?;
        match length {
            0 | 1 => {
                self.taken += 4;
                Ok(Some(if length == 0 { Packet::Flush } else { Packet::Delimiter }))
            }
            2 | 3 => Err(PacketError::Length),
            length if rest.len() < length => Ok(None),
            length => {
                let start = self.taken + 4;
                self.taken += length;
                Ok(Some(Packet::Data(&self.buffer[start..self.taken])))
            }
        }
    }

    /// Whether nothing is left over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.taken
    }
}

/// Writes lines as packets; `None` is a delimiter; a flush ends the message.
#[must_use]
pub fn write(lines: &[Option<String>]) -> Vec<u8> {
    let mut message = Vec::new();
    for line in lines {
        match line {
            Some(line) => message.extend(format!("{:04x}{line}\n", line.len() + 5).as_bytes()),
            None => message.extend(b"0001"),
        }
    }
    message.extend(b"0000");
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_however_the_bytes_arrive() {
        let bytes = write(&[Some("command=ls-refs".into()), None, Some("peel".into())]);
        for step in 1..=bytes.len() {
            let mut packets = Packets::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                packets.add(piece);
                while let Some(packet) = packets.take().unwrap() {
                    seen.push(match packet {
                        Packet::Data(data) => String::from_utf8(data.to_vec()).unwrap(),
                        other => format!("{other:?}"),
                    });
                }
            }
            assert_eq!(seen, ["command=ls-refs\n", "Delimiter", "peel\n", "Flush"]);
            assert!(packets.is_empty());
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for bytes in ["<html>", "0002", "0003", "+123", "zzzz"] {
            let mut packets = Packets::default();
            packets.add(bytes.as_bytes());
            assert_eq!(packets.take(), Err(PacketError::Length), "{bytes}");
        }
    }
}
