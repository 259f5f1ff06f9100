//! `$(NAME)` references in commands, arguments, environment values and `subPathExpr`.

use std::fmt::Write;

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

/// Expands strictly: the first unknown name is an error (as `subPathExpr` wants it).
pub fn expand_strictly<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None::<String>);
    let out = expand(input, |name| {
        let found = lookup(name);
        if found.is_none() {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
        }
        found
    });
    match missing.into_inner() {
        Some(name) => Err(name),
        None => Ok(out),
    }
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
        assert_eq!(expand_strictly("a/$(X)/$(Y)", |_| None), Err("X".to_owned()));
        assert_eq!(expand_strictly("a/$(X)", |_| Some("b")), Ok("a/b".to_owned()));
    }
}
