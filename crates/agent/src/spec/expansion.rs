//! `$(NAME)` references in commands, arguments, environment values and `subPathExpr`.

use std::{collections::BTreeSet, fmt::Write};

/// Expands `$(NAME)` by `lookup`; `$$` stands for one `$`, and an unknown name stays as it was written.
pub fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = after.strip_prefix('(') {
            match inner.find(')') {
                Some(end) => {
                    let name = &inner[..end];
                    match lookup(name) {
                        Some(value) => out.push_str(value),
                        None => {
                            let _ = write!(out, "$({name})");
                        }
                    }
                    rest = &inner[end + 1..];
                }
                None => {
                    out.push_str("$(");
                    rest = inner;
                }
            }
        } else {
            // A lone `$` stays, and so does what follows it.
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Expands strictly, as `subPathExpr` wants it: unknown and empty names are an error, which lists them all in order.
pub fn expand_strictly<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(BTreeSet::new());
    let out = expand(input, |name| {
        let found = lookup(name).filter(|value| !value.is_empty());
        if found.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        found
    });
    let missing = missing.into_inner();
    if missing.is_empty() { Ok(out) } else { Err(missing.into_iter().collect::<Vec<_>>().join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_upstream_documents_them() {
        let lookup = |name: &str| match name {
            "A" => Some("one"),
            "B" => Some("two"),
            "EMPTY" => Some(""),
            _ => None,
        };
        for (input, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "one"),
            ("$(A)-$(B)", "one-two"),
            ("x$(EMPTY)y", "xy"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$$$$(A)", "$$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("$", "$"),
            ("cost: 5$", "cost: 5$"),
            ("$()", "$()"),
            ("$((A))", "$((A))"),
        ] {
            assert_eq!(expand(input, lookup), expected, "{input}");
        }
    }

    #[test]
    fn strict_expansion_names_the_first_unknown_variable() {
        assert_eq!(expand_strictly("a/$(X)/$(Y)", |_| None), Err("X, Y".to_owned()));
        assert_eq!(expand_strictly("$(X)", |_| Some("")), Err("X".to_owned()));
        assert_eq!(expand_strictly("a/$(X)", |_| Some("b")), Ok("a/b".to_owned()));
    }
}
