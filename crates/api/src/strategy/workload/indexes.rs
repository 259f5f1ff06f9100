//! Texts that name indexes of a Job, such as `1,3-5`.

use crate::status::quoted;

/// How many indexes the text names; they must rise and stay below `completions`. The error is upstream's text.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    for fragment in fragments(text) {
        let (first, end) = interval(fragment, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that both texts name. Fragments that are no interval are passed over: they are faults of their own.
pub fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let sound = |text| fragments(text).filter_map(|fragment| interval(fragment, completions).ok());
    let (mut ones, mut others) = (sound(one).peekable(), sound(other).peekable());
    while let (Some(a), Some(b)) = (ones.peek(), others.peek()) {
        if a.0 <= b.1 && b.0 <= a.1 {
            return Some(a.0.max(b.0));
        }
        if a.0 <= b.0 {
            ones.next();
        } else {
            others.next();
        }
    }
    None
}

fn fragments(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|_| !text.is_empty())
}

/// First and last index of a fragment such as `3-5`, or of a single number.
fn interval(fragment: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |end: &str| {
        let index: i64 =
            end.parse().map_err(|_| format!("cannot convert string to integer for index: {}", quoted(end)))?;
        if index >= completions { Err(format!("too large index: {}", quoted(end))) } else { Ok(index) }
    };
    let Some((first, last)) = fragment.split_once('-') else {
        return index(fragment).map(|only| (only, only));
    };
    if last.contains('-') {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quoted(fragment)
        ));
    }
    let (first, last) = (index(first)?, index(last)?);
    if first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::{count, overlap};

    #[test]
    fn indexes_are_counted_and_must_rise() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        assert!(count("3-1", 5).unwrap_err().starts_with("non-increasing order, previous: 3, current: 1"));
        assert_eq!(count("0-2,2", 5).unwrap_err(), "non-increasing order, previous: 2, current: 2");
        assert_eq!(count("5", 5).unwrap_err(), "too large index: \"5\"");
        assert_eq!(count("3,1-9", 5).unwrap_err(), "too large index: \"9\"");
        assert!(count("1-2-3", 5).is_err() && count("a", 5).is_err());
    }

    #[test]
    fn the_first_index_of_both_is_found() {
        assert_eq!(overlap("0,2-4", "1,3", 5), Some(3));
        assert_eq!(overlap("0,2", "1,3-4", 5), None);
        assert_eq!(overlap("", "1", 5), None);
        assert_eq!(overlap("x,1", "1", 5), Some(1));
    }
}
