//! Redis: RESP2 requests and replies.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{Address, MOST, Stream, WireError, connect_to, within};

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`, or a bulk text.
    Text(Vec<u8>),
    /// `:1`
    Number(i64),
    /// Nothing.
    Nil,
    /// Several.
    List(Vec<Reply>),
    /// `-ERR …` within a list; as the whole it is an error.
    Error(String),
}

impl Reply {
    /// As text; empty if it is none.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Nil | Self::List(_) => String::new(),
            Self::Error(said) => said.clone(),
        }
    }
}

/// A connection.
pub struct Redis {
    stream: BufReader<Box<dyn Stream>>,
}

impl Redis {
    /// Connects and logs in; a number as path chooses the database.
    ///
    /// # Errors
    /// If that fails or takes too long.
    pub async fn connect(names: &http_ends::Names, address: &Address, deadline: Duration) -> Result<Self, WireError> {
        within(deadline, async {
            let stream = connect_to(names, address, 6379).await?;
            let mut redis = Self { stream: BufReader::new(stream) };
            if let Some(password) = &address.password {
                let mut login = vec!["AUTH"];
                if !address.user.is_empty() {
                    login.push(&address.user);
                }
                login.push(password);
                redis.exchange(&login).await?;
            }
            if let Ok(database) = address.path.parse::<u32>() {
                redis.exchange(&["SELECT", &database.to_string()]).await?;
            }
            Ok(redis)
        })
        .await
    }

    /// Asks one command.
    ///
    /// # Errors
    /// If the server says no, or nothing in time.
    pub async fn ask(&mut self, words: &[&str], deadline: Duration) -> Result<Reply, WireError> {
        within(deadline, self.exchange(words)).await
    }

    async fn exchange(&mut self, words: &[&str]) -> Result<Reply, WireError> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        let mut left = MOST;
        match Box::pin(self.reply(0, &mut left)).await? {
            Reply::Error(said) => Err(WireError::Said(said)),
            reply => Ok(reply),
        }
    }

    async fn reply(&mut self, depth: usize, left: &mut usize) -> Result<Reply, WireError> {
        let wrong = |reason| WireError::Protocol("RESP", reason);
        if depth > 8 {
            return Err(wrong("lists are nested too deep"));
        }
        let mut line = Vec::new();
        (&mut self.stream).take(64 << 10).read_until(b'\n', &mut line).await?;
        *left = left.checked_sub(line.len()).ok_or_else(|| wrong("it is too large"))?;
        let Some([kind, rest @ ..]) = line.strip_suffix(b"\r\n") else { return Err(wrong("a line does not end")) };
        let text = String::from_utf8_lossy(rest);
        let number = || text.parse::<i64>().map_err(|_| wrong("a number is none"));
        match kind {
            b'+' => Ok(Reply::Text(rest.to_vec())),
            b'-' => Ok(Reply::Error(text.into_owned())),
            b':' => number().map(Reply::Number),
            b'$' => match usize::try_from(number()?) {
                Err(_) => Ok(Reply::Nil),
                Ok(length) => {
                    let whole = length.checked_add(2).filter(|whole| whole <= left);
                    let whole = whole.ok_or_else(|| wrong("it is too large"))?;
                    *left -= whole;
                    let mut bytes = Vec::with_capacity(whole.min(64 << 10));
                    let read = (&mut self.stream).take(whole as u64).read_to_end(&mut bytes).await?;
                    if read != whole || !bytes.ends_with(b"\r\n") {
                        return Err(wrong("a text is cut off"));
                    }
                    bytes.truncate(length);
                    Ok(Reply::Text(bytes))
                }
            },
            b'*' => match usize::try_from(number()?) {
                Err(_) => Ok(Reply::Nil),
                // Each takes four bytes at least.
                Ok(count) if count > *left / 4 => Err(wrong("it is too large")),
                Ok(count) => {
                    let mut list = Vec::with_capacity(count.min(1024));
                    for _ in 0..count {
                        list.push(Box::pin(self.reply(depth + 1, left)).await?);
                    }
                    Ok(Reply::List(list))
                }
            },
            _ => Err(wrong("an unknown kind of reply")),
        }
    }
}
