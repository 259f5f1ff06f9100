//! Redis' slow log as records.

use std::time::Duration;

use http_ends::Names;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{config::SlowLog, format::Record};
use crate::wire::{
    Address, WireError,
    redis::{Redis, Reply},
};

/// Entries that are asked for at once; more than so many between two questions are lost, as they are for Redis itself.
const ENTRIES: &str = "1024";
const DEADLINE: Duration = Duration::from_secs(10);

/// The entries after `last`, oldest first, and the newest one's number.
///
/// # Errors
/// If Redis cannot be asked.
pub async fn ask(
    names: &Names,
    slow_log: &SlowLog,
    last: Option<i64>,
) -> Result<(Vec<Record>, Option<i64>), WireError> {
    let mut address: Address =
        slow_log.address.parse().map_err(|error: crate::wire::AddressError| WireError::Said(error.to_string()))?;
    if let Some(file) = &slow_log.password_file {
        address.password = Some(std::fs::read_to_string(file)?.trim_end().to_owned());
    }
    let mut redis = Redis::connect(names, &address, DEADLINE).await?;
    let reply = redis.ask(&["SLOWLOG", "GET", ENTRIES], DEADLINE).await?;
    Ok(after(&reply, last))
}

/// The entries after `last`. Numbers that went back tell of a server that began anew.
#[must_use]
pub fn after(reply: &Reply, last: Option<i64>) -> (Vec<Record>, Option<i64>) {
    let Reply::List(entries) = reply else { return (Vec::new(), last) };
    let mut found: Vec<(i64, Record)> = entries.iter().filter_map(entry).collect();
    found.sort_by_key(|(number, _)| *number);
    let Some(newest) = found.last().map(|(number, _)| *number) else { return (Vec::new(), last) };
    let last = last.filter(|last| newest >= *last);
    let records = found.into_iter().filter(|(number, _)| last.is_none_or(|last| *number > last));
    (records.map(|(_, record)| record).collect(), Some(newest))
}

fn entry(reply: &Reply) -> Option<(i64, Record)> {
    let Reply::List(parts) = reply else { return None };
    let [Reply::Number(number), Reply::Number(seconds), Reply::Number(micros), Reply::List(words), rest @ ..] =
        parts.as_slice()
    else {
        return None;
    };
    let words: Vec<String> = words.iter().map(Reply::text).collect();
    let mut fields = Map::new();
    fields.insert("id".into(), Value::from(*number));
    fields.insert("durationMs".into(), Value::from(*micros as f64 / 1000.0));
    fields.insert("command".into(), Value::from(words.first().map(|word| word.to_ascii_uppercase())));
    for (name, part) in ["client", "clientName"].into_iter().zip(rest) {
        let text = part.text();
        if !text.is_empty() {
            fields.insert(name.into(), Value::from(text));
        }
    }
    let record = Record {
        time: Timestamp::from_second(*seconds).ok(),
        message: Some(words.join(" ")),
        level: Some("warning".into()),
        fields,
        unparsed: false,
    };
    Some((*number, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(numbers: &[i64]) -> Reply {
        let text = |text: &str| Reply::Text(text.into());
        let entry = |number: &i64| {
            let words = Reply::List(vec![text("get"), text("k")]);
            Reply::List(vec![
                Reply::Number(*number),
                Reply::Number(1000),
                Reply::Number(2500),
                words,
                text("1.2.3.4:5"),
                text(""),
            ])
        };
        Reply::List(numbers.iter().map(entry).collect())
    }

    #[test]
    fn each_entry_is_told_once_and_a_new_server_begins_anew() {
        let (records, last) = after(&list(&[3, 2, 1]), None);
        assert_eq!((records.len(), last), (3, Some(3)));
        assert_eq!(records[0].message.as_deref(), Some("get k"));
        assert_eq!(
            (&records[0].fields["durationMs"], &records[0].fields["command"]),
            (&Value::from(2.5), &Value::from("GET"))
        );
        assert!(!records[0].fields.contains_key("clientName"));
        assert_eq!(after(&list(&[4, 3]), last).0.len(), 1);
        assert_eq!(after(&list(&[3]), last).0.len(), 0);
        assert_eq!(after(&list(&[1, 0]), last).0.len(), 2);
        assert_eq!(after(&list(&[]), last), (vec![], Some(3)));
        assert_eq!(after(&Reply::Nil, last), (vec![], Some(3)));
    }
}
