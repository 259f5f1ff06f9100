//! `successPolicy` of Jobs: which indexes, or how many, make a Job a success.

use serde_json::Value;

use super::super::{
    access::{get, int, list, text},
    check::nonnegative,
    field::{Faults, Path},
};
use crate::status::quoted;

/// Upstream's numbers.
const MOST_RULES: usize = 20;
const MOST_INDEXES_TEXT: usize = 64 * 1024;

pub fn validate(faults: &mut Faults, path: &Path<'_>, policy: &Value, spec: &Value) {
    if text(spec, "completionMode") != "Indexed" {
        faults.invalid(path, policy, "requires indexed completion mode");
        return;
    }
    let rules = list(policy, "rules");
    let at = path.field("rules");
    if rules.is_empty() {
        faults.required(&at, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > MOST_RULES {
        faults.too_many(&at, rules.len(), MOST_RULES);
    }
    let completions = int(spec, "completions").unwrap_or(0);
    for (i, each) in rules.iter().enumerate() {
        rule(faults, &at.index(i), each, completions);
    }
}

fn rule(faults: &mut Faults, path: &Path<'_>, rule: &Value, completions: i64) {
    let (count, indexes) = (int(rule, "succeededCount"), get(rule, "succeededIndexes").and_then(Value::as_str));
    if count.is_none() && indexes.is_none() {
        faults.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let at = path.field("succeededIndexes");
        if indexes.len() > MOST_INDEXES_TEXT {
            faults.too_long(&at, MOST_INDEXES_TEXT);
        }
        match count_indexes(indexes, completions) {
            Ok(counted) => total = counted,
            Err(fault) => faults.invalid(&at, indexes, format!("error parsing succeededIndexes: {fault}")),
        }
    }
    let Some(count) = count else { return };
    let at = path.field("succeededCount");
    nonnegative(faults, path, rule, "succeededCount");
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        faults.invalid(&at, count, why);
    }
    if indexes.is_some() && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        faults.invalid(&at, count, why);
    }
}

/// How many indexes a text such as `1,3-5` names; they must rise and stay below `completions`.
fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    if text.is_empty() {
        return Ok(0);
    }
    for fragment in text.split(',') {
        let ends: Vec<&str> = fragment.split('-').collect();
        if ends.len() > 2 {
            return Err(format!(
                "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
                quoted(fragment)
            ));
        }
        let mut first = None;
        for end in &ends {
            let index: i64 =
                end.parse().map_err(|_| format!("cannot convert string to integer for index: {}", quoted(end)))?;
            if index >= completions {
                return Err(format!("too large index: {}", quoted(end)));
            }
            if let Some(last) = last.filter(|last| *last >= index) {
                return Err(format!("non-increasing order, previous: {last}, current: {index}"));
            }
            last = Some(index);
            total += match first {
                None => 1,
                Some(first) => index - first,
            };
            first = Some(index);
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::count_indexes;

    #[test]
    fn indexes_are_counted_and_must_rise() {
        assert_eq!(count_indexes("", 5), Ok(0));
        assert_eq!(count_indexes("0,2-4", 5), Ok(4));
        assert!(count_indexes("3-1", 5).unwrap_err().starts_with("non-increasing order, previous: 3, current: 1"));
        assert_eq!(count_indexes("5", 5).unwrap_err(), "too large index: \"5\"");
        assert!(count_indexes("1-2-3", 5).is_err() && count_indexes("a", 5).is_err());
    }
}
