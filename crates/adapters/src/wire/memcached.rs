//! memcached: statistics by the text protocol.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::{Address, MOST, WireError, connect_to, within};

/// Asks for statistics: `stats`, `stats settings`, `stats slabs`, …
///
/// # Errors
/// If the server says no, or nothing in time.
pub async fn stats(
    names: &http_ends::Names,
    address: &Address,
    kinds: &[&str],
    deadline: Duration,
) -> Result<Vec<Vec<(String, String)>>, WireError> {
    let wrong = |reason| WireError::Protocol("memcached's", reason);
    within(deadline, async {
        let mut stream = BufReader::new(connect_to(names, address, 11211).await?);
        let (mut answers, mut left) = (Vec::new(), MOST as u64);
        for kind in kinds {
            let command = if kind.is_empty() { "stats\r\n".to_owned() } else { format!("stats {kind}\r\n") };
            stream.write_all(command.as_bytes()).await?;
            stream.flush().await?;
            let mut found = Vec::new();
            loop {
                let mut line = Vec::new();
                (&mut stream).take(left).read_until(b'\n', &mut line).await?;
                left -= line.len() as u64;
                let line = line.strip_suffix(b"\r\n").ok_or_else(|| wrong("a line does not end"))?;
                let line = String::from_utf8_lossy(line);
                match line.strip_prefix("STAT ").map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
                    Some((name, value)) => found.push((name.to_owned(), value.to_owned())),
                    None if line == "END" || line == "RESET" => break,
                    None if line.contains("ERROR") => return Err(WireError::Said(line.into_owned())),
                    None => return Err(wrong("an unknown line")),
                }
            }
            answers.push(found);
        }
        Ok(answers)
    })
    .await
}
