//! Parts of what is stored (RFC 9110 section 14).

use super::{Entry, date};
use crate::http1::Request;

/// What of a body is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// From the first of these up to before the second.
    Bytes(u64, u64),
    /// What it does not have.
    None,
}

/// What a GET asks for of a stored response.
pub(crate) fn asked(request: &Request, entry: &Entry) -> Part {
    let range = request.header("range").filter(|_| request.method() == b"GET");
    match range {
        Some(range) if still_the_same(request.header("if-range"), entry) => part(range, entry.body.len() as u64),
        _ => Part::Whole,
    }
}

/// Whether what the client has a part of is what is stored (section 13.1.5): by strong comparison.
fn still_the_same(condition: Option<&[u8]>, entry: &Entry) -> bool {
    match condition {
        None => true,
        Some(tag @ [b'"', ..]) => entry.header("etag") == Some(tag),
        Some(other) => {
            let when = date::parse(other);
            when.is_some() && when == entry.header("last-modified").and_then(date::parse)
        }
    }
}

/// One range of bytes. What is no such, or several, is as if nothing had been asked for.
fn part(range: &[u8], length: u64) -> Part {
    let Some((unit, set)) = range.split_at_checked(6) else { return Part::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Part::Whole;
    }
    let Some((first, last)) = std::str::from_utf8(set).ok().and_then(|set| set.trim().split_once('-')) else {
        return Part::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Part::Whole,
        (Some(first), Some(last)) if first < length => Part::Bytes(first, last.saturating_add(1).min(length)),
        (Some(first), None) if last.is_empty() && first < length => Part::Bytes(first, length),
        (Some(_), Some(_)) => Part::None,
        (Some(_), None) if last.is_empty() => Part::None,
        (None, Some(0)) if first.is_empty() => Part::None,
        (None, Some(_)) if first.is_empty() && length == 0 => Part::None,
        (None, Some(last)) if first.is_empty() => Part::Bytes(length.saturating_sub(last), length),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_served_and_what_is_none_is_not_looked_at() {
        for (range, wanted) in [
            ("bytes=0-1", Part::Bytes(0, 2)),
            ("bytes=5-", Part::Bytes(5, 10)),
            ("bytes=-3", Part::Bytes(7, 10)),
            ("bytes=-30", Part::Bytes(0, 10)),
            ("bytes=8-99", Part::Bytes(8, 10)),
            ("bytes=0-18446744073709551615", Part::Bytes(0, 10)),
            ("bytes=10-", Part::None),
            ("bytes=10-12", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=99999999999999999999999-", Part::None),
            ("bytes=3-1", Part::Whole),
            ("bytes=0-1,4-5", Part::Whole),
            ("bytes=a-", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(part(range.as_bytes(), 10), wanted, "{range}");
        }
        assert_eq!(part(b"bytes=-1", 0), Part::None);
    }
}
