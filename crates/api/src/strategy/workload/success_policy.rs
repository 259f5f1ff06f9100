//! `successPolicy` of Jobs: which indexes, or how many, make a Job a success.

use serde_json::Value;

use super::{
    super::{
        access::{get, int, list, text},
        check::nonnegative,
        field::{Faults, Path},
    },
    indexes,
};

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
    let (count, named) = (int(rule, "succeededCount"), get(rule, "succeededIndexes").and_then(Value::as_str));
    if count.is_none() && named.is_none() {
        faults.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(named) = named {
        let at = path.field("succeededIndexes");
        if named.len() > MOST_INDEXES_TEXT {
            faults.too_long(&at, MOST_INDEXES_TEXT);
        }
        match indexes::count(named, completions) {
            Ok(counted) => total = counted,
            Err(fault) => faults.invalid(&at, named, format!("error parsing succeededIndexes: {fault}")),
        }
    }
    let Some(count) = count else { return };
    let at = path.field("succeededCount");
    nonnegative(faults, path, rule, "succeededCount");
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        faults.invalid(&at, count, why);
    }
    if named.is_some() && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        faults.invalid(&at, count, why);
    }
}
