//! PostgreSQL: protocol 3.0, simple queries, rows as text.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Address, MOST, Rows, Stream, WireError, connect, exactly, login, tls, within};

/// A connection.
pub struct Postgres {
    stream: Box<dyn Stream>,
}

impl Postgres {
    /// Connects and logs in: without password, in the clear, by md5 or by SCRAM-SHA-256. The path names the database.
    ///
    /// # Errors
    /// If that fails or takes too long.
    pub async fn connect(names: &http_ends::Names, address: &Address, deadline: Duration) -> Result<Self, WireError> {
        within(deadline, async {
            let mut stream = connect(names, &address.host, address.port.unwrap_or(5432)).await?;
            if address.wants_tls() {
                // SSLRequest; one byte answers, and nothing that came with it is read as if TLS had said it.
                stream.write_all(&[8u32.to_be_bytes(), 80_877_103u32.to_be_bytes()].concat()).await?;
                if exactly(stream.as_mut(), 1).await? != b"S" {
                    return Err(WireError::Tls(address.host.clone(), "the server does not speak it".to_owned()));
                }
                stream = tls::begin(stream, address).await?;
            }
            let mut postgres = Self { stream };
            postgres.login(address).await?;
            Ok(postgres)
        })
        .await
    }

    async fn login(&mut self, address: &Address) -> Result<(), WireError> {
        let user = if address.user.is_empty() { "postgres" } else { &address.user };
        let database = if address.path.is_empty() { "postgres" } else { &address.path };
        let mut hello = 196_608u32.to_be_bytes().to_vec();
        for (name, value) in [("user", user), ("database", database), ("application_name", "hythe")] {
            hello.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        hello.push(0);
        let length = u32::try_from(hello.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
        self.stream.write_all(&[&length, hello.as_slice()].concat()).await?;
        let password = address.password.as_deref().unwrap_or_default();
        let wrong = |reason| WireError::Protocol("PostgreSQL's", reason);
        let mut scram = login::Scram::begin(rand::random());
        loop {
            let (kind, body) = self.message().await?;
            match kind {
                b'R' => {
                    let (way, rest) = body.split_first_chunk::<4>().ok_or_else(|| wrong("a message is too short"))?;
                    match u32::from_be_bytes(*way) {
                        0 => {}
                        3 => self.send(b'p', &[password.as_bytes(), b"\0"].concat()).await?,
                        5 => {
                            let answer = login::postgres_md5(user, password, rest);
                            self.send(b'p', &[answer.as_bytes(), b"\0"].concat()).await?;
                        }
                        10 => {
                            if !rest.split(|byte| *byte == 0).any(|way| way == b"SCRAM-SHA-256") {
                                return Err(WireError::Login("SASL".into()));
                            }
                            let first = scram.first();
                            let length = u32::try_from(first.len()).unwrap_or(0).to_be_bytes();
                            self.send(b'p', &[b"SCRAM-SHA-256\0", &length[..], first.as_bytes()].concat()).await?;
                        }
                        11 => {
                            let server = String::from_utf8_lossy(rest);
                            let second =
                                scram.second(&server, password).ok_or_else(|| wrong("SCRAM breaks its rules"))?;
                            self.send(b'p', second.as_bytes()).await?;
                        }
                        12 if scram.is_the_server(&String::from_utf8_lossy(rest)) => {}
                        12 => return Err(wrong("the server does not know the password itself")),
                        way => return Err(WireError::Login(format!("way {way}"))),
                    }
                }
                b'E' => return Err(WireError::Said(said(&body))),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Asks one query.
    ///
    /// # Errors
    /// If the server says no, or nothing in time; the connection is of no use after a time that is over.
    pub async fn ask(&mut self, query: &str, deadline: Duration) -> Result<Rows, WireError> {
        within(deadline, async {
            self.send(b'Q', &[query.as_bytes(), b"\0"].concat()).await?;
            let (mut rows, mut error, mut left) = (Rows::default(), None, MOST);
            loop {
                let (kind, body) = self.message().await?;
                let wrong = WireError::Protocol("PostgreSQL's", "it is too large");
                left = left.checked_sub(body.len()).ok_or(wrong)?;
                match kind {
                    b'T' => rows = Rows { columns: columns(&body).ok_or_else(malformed)?, rows: Vec::new() },
                    b'D' => rows.rows.push(values(&body, rows.columns.len()).ok_or_else(malformed)?),
                    b'E' => error = Some(said(&body)),
                    b'Z' => break,
                    b'G' | b'H' | b'W' => return Err(WireError::Protocol("one to a question", "it wants to copy")),
                    _ => {}
                }
            }
            error.map_or(Ok(rows), |error| Err(WireError::Said(error)))
        })
        .await
    }

    async fn send(&mut self, kind: u8, body: &[u8]) -> Result<(), WireError> {
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
        Ok(self.stream.write_all(&[&[kind], &length[..], body].concat()).await?)
    }

    async fn message(&mut self) -> Result<(u8, Vec<u8>), WireError> {
        let head = exactly(self.stream.as_mut(), 5).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=MOST).contains(&length) {
            return Err(WireError::Protocol("PostgreSQL's", "a message has an impossible length"));
        }
        Ok((head[0], exactly(self.stream.as_mut(), length - 4).await?))
    }
}

fn malformed() -> WireError {
    WireError::Protocol("PostgreSQL's", "a message is malformed")
}

fn columns(body: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = rest.iter().position(|byte| *byte == 0)?;
        columns.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        rest = rest.get(end + 19..)?;
    }
    Some(columns)
}

fn values(body: &[u8], expected: usize) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    if usize::from(u16::from_be_bytes(*count)) != expected {
        return None;
    }
    let mut values = Vec::with_capacity(expected);
    for _ in 0..expected {
        let (length, after) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => {
                values.push(None);
                rest = after;
            }
            Ok(length) => {
                values.push(Some(String::from_utf8_lossy(after.get(..length)?).into_owned()));
                rest = &after[length..];
            }
        }
    }
    Some(values)
}

/// An error's message: the field `M`, and `C` its code.
fn said(body: &[u8]) -> String {
    let field = |kind: u8| {
        let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&kind))?;
        Some(String::from_utf8_lossy(&found[1..]).into_owned())
    };
    format!("{} ({})", field(b'M').unwrap_or_default(), field(b'C').unwrap_or_default())
}
