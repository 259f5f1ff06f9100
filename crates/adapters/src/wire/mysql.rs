//! MySQL and MariaDB: protocol 10, text queries.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Address, MOST, Rows, Stream, WireError, connect, exactly, login, rsa, tls, within};

/// CLIENT_LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x8000 | 0x8_0000;
const CONNECT_WITH_DB: u32 = 0x8;
const SSL: u32 = 0x800;
/// utf8mb4_general_ci
const CHARACTERS: u8 = 45;

/// A connection.
pub struct MySql {
    stream: Box<dyn Stream>,
    sequence: u8,
    /// Nobody can listen: TLS, or a socket of this machine.
    is_private: bool,
}

impl MySql {
    /// Connects and logs in by `mysql_native_password` or `caching_sha2_password`. The path names the database.
    ///
    /// # Errors
    /// If that fails or takes too long.
    pub async fn connect(names: &http_ends::Names, address: &Address, deadline: Duration) -> Result<Self, WireError> {
        within(deadline, async {
            let stream = connect(names, &address.host, address.port.unwrap_or(3306)).await?;
            let mysql = Self { stream, sequence: 0, is_private: address.host.starts_with('/') };
            mysql.login(address).await
        })
        .await
    }

    async fn login(mut self, address: &Address) -> Result<Self, WireError> {
        let hello = self.packet().await?;
        refused(&hello)?;
        let (mut nonce, mut plugin) = greeting(&hello).ok_or_else(malformed)?;
        let user = if address.user.is_empty() { "root" } else { &address.user };
        let password = address.password.as_deref().unwrap_or_default();
        let proof = proof(&plugin, password, &nonce)?;
        let mut flags = if address.path.is_empty() { CAPABILITIES } else { CAPABILITIES | CONNECT_WITH_DB };
        if address.wants_tls() {
            flags |= SSL;
        }
        let mut answer = flags.to_le_bytes().to_vec();
        answer.extend((MOST as u32).to_le_bytes());
        answer.push(CHARACTERS);
        answer.extend([0; 23]);
        if address.wants_tls() {
            // So far it is SSLRequest: the rest, with the user's name, is for TLS.
            self.send(&answer).await?;
            self = Self { stream: tls::begin(self.stream, address).await?, is_private: true, ..self };
        }
        answer.extend([user.as_bytes(), b"\0"].concat());
        answer.push(u8::try_from(proof.len()).unwrap_or(0));
        answer.extend(proof);
        if !address.path.is_empty() {
            answer.extend([address.path.as_bytes(), b"\0"].concat());
        }
        answer.extend([plugin.as_bytes(), b"\0"].concat());
        self.send(&answer).await?;
        loop {
            let packet = self.packet().await?;
            refused(&packet)?;
            match packet.as_slice() {
                [0x00, ..] => return Ok(self),
                // The server wants another way.
                [0xfe, rest @ ..] => {
                    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
                    plugin = String::from_utf8_lossy(&rest[..end]).into_owned();
                    nonce = rest[end + 1..].strip_suffix(&[0]).unwrap_or(&rest[end + 1..]).to_vec();
                    let proof = self::proof(&plugin, password, &nonce)?;
                    self.send(&proof).await?;
                }
                // caching_sha2_password: the server has the password in its cache …
                [0x01, 0x03] => {}
                // … or wants to see it once.
                [0x01, 0x04] if self.is_private => self.send(&[password.as_bytes(), b"\0"].concat()).await?,
                [0x01, 0x04] => self.send(&[2]).await?,
                [0x01, key @ ..] => {
                    let plain: Vec<u8> = [password.as_bytes(), b"\0"].concat();
                    let masked: Vec<u8> =
                        plain.iter().zip(nonce.iter().cycle()).map(|(left, right)| left ^ right).collect();
                    let sealed = rsa::encrypt(&String::from_utf8_lossy(key), &masked, rand::random());
                    self.send(&sealed.ok_or_else(malformed)?).await?;
                }
                _ => return Err(malformed()),
            }
        }
    }

    /// Asks one query.
    ///
    /// # Errors
    /// If the server says no, or nothing in time; the connection is of no use after a time that is over.
    pub async fn ask(&mut self, query: &str, deadline: Duration) -> Result<Rows, WireError> {
        within(deadline, async {
            self.sequence = 0;
            self.send(&[&[3], query.as_bytes()].concat()).await?;
            let first = self.packet().await?;
            refused(&first)?;
            if first.first() == Some(&0) {
                return Ok(Rows::default());
            }
            let mut rest = first.as_slice();
            let count = number(&mut rest).filter(|count| *count <= 4096).ok_or_else(malformed)?;
            let mut rows = Rows::default();
            for _ in 0..count {
                let column = self.packet().await?;
                // Catalogue, schema, table, original table, then the name.
                let mut rest = column.as_slice();
                let name = (0..5).map(|_| text(&mut rest)).last().flatten().flatten().ok_or_else(malformed)?;
                rows.columns.push(name);
            }
            let end = self.packet().await?;
            if end.first() != Some(&0xfe) {
                return Err(malformed());
            }
            let mut left = MOST;
            loop {
                let packet = self.packet().await?;
                refused(&packet)?;
                left = left.checked_sub(packet.len()).ok_or(WireError::Protocol("MySQL's", "it is too large"))?;
                // A row may begin with the same byte, but is longer then.
                if packet.first() == Some(&0xfe) && packet.len() < 9 {
                    return Ok(rows);
                }
                let mut rest = packet.as_slice();
                let row: Option<Vec<_>> = (0..count).map(|_| text(&mut rest)).collect();
                rows.rows.push(row.ok_or_else(malformed)?);
            }
        })
        .await
    }

    async fn send(&mut self, body: &[u8]) -> Result<(), WireError> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
        let head = [length[0], length[1], length[2], self.sequence];
        self.sequence = self.sequence.wrapping_add(1);
        Ok(self.stream.write_all(&[&head[..], body].concat()).await?)
    }

    async fn packet(&mut self) -> Result<Vec<u8>, WireError> {
        let head = exactly(self.stream.as_mut(), 4).await?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        self.sequence = head[3].wrapping_add(1);
        if length >= 0xff_ffff {
            return Err(WireError::Protocol("MySQL's", "a packet is too large"));
        }
        exactly(self.stream.as_mut(), length).await
    }
}

fn malformed() -> WireError {
    WireError::Protocol("MySQL's", "a packet is malformed")
}

fn refused(packet: &[u8]) -> Result<(), WireError> {
    match packet {
        [0xff, low, high, rest @ ..] => {
            let code = u16::from_le_bytes([*low, *high]);
            // `#` and a state of five letters stand before the message.
            let message = if rest.first() == Some(&b'#') { rest.get(6..).unwrap_or_default() } else { rest };
            Err(WireError::Said(format!("{} ({code})", String::from_utf8_lossy(message))))
        }
        [] => Err(malformed()),
        _ => Ok(()),
    }
}

/// The nonce and the way to log in.
fn greeting(packet: &[u8]) -> Option<(Vec<u8>, String)> {
    let rest = packet.strip_prefix(&[10])?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let rest = rest.get(end + 1 + 4..)?;
    let mut nonce = rest.get(..8)?.to_vec();
    // A filler, low capabilities, characters, status, high capabilities, length of the nonce, ten bytes reserved.
    let length = usize::from(*rest.get(8 + 1 + 2 + 1 + 2 + 2)?);
    let rest = rest.get(8 + 1 + 2 + 1 + 2 + 2 + 1 + 10..)?;
    let second = length.saturating_sub(8).max(13);
    nonce.extend(rest.get(..second.min(rest.len()))?);
    nonce.truncate(20);
    let plugin = rest.get(second..).unwrap_or_default();
    let plugin = plugin.split(|byte| *byte == 0).next().unwrap_or_default();
    let plugin = if plugin.is_empty() { "mysql_native_password".into() } else { String::from_utf8_lossy(plugin) };
    Some((nonce, plugin.into_owned()))
}

fn proof(plugin: &str, password: &str, nonce: &[u8]) -> Result<Vec<u8>, WireError> {
    match plugin {
        "mysql_native_password" => Ok(login::mysql_native(password, nonce)),
        "caching_sha2_password" => Ok(login::mysql_sha2(password, nonce)),
        other => Err(WireError::Login(other.to_owned())),
    }
}

/// A number of one, three, four or nine bytes.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let (first, after) = rest.split_first()?;
    let size = match first {
        0..=0xfa => {
            *rest = after;
            return Some(u64::from(*first));
        }
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let bytes = after.get(..size)?;
    *rest = &after[size..];
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// A text with its length before it; NULL is nothing.
#[allow(clippy::option_option, reason = "the outer one says that the packet is cut off")]
fn text(rest: &mut &[u8]) -> Option<Option<String>> {
    if rest.first() == Some(&0xfb) {
        *rest = &rest[1..];
        return Some(None);
    }
    let length = usize::try_from(number(rest)?).ok()?;
    let bytes = rest.get(..length)?;
    *rest = &rest[length..];
    Some(Some(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests;
