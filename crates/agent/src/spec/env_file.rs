//! Files of variables that a container makes for others (`fileKeyRef`, KEP-3721): a strict part of a shell's syntax.
//!
//! `NAME='value'`, where the value is taken as it stands and may go over several lines, with a comment behind it or not;
//! comments and empty lines between. A blank behind the equals sign makes the value empty, as a shell has it.

/// Why a file is none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid environment variable format at line {line}: {what}")]
pub struct Malformed {
    /// The line, from 1.
    line: usize,
    /// What is wrong there.
    what: &'static str,
}

/// The value of `key`: empty if it is not there. What comes behind it is not looked at.
pub fn value(text: &str, key: &str) -> Result<String, Malformed> {
    let blank = [' ', '\t'];
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let fail = |what| Err(Malformed { line: index + 1, what });
        let line = line.trim_start_matches(blank);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, rest)) = line.split_once('=') else { return fail("missing '='") };
        if name.trim_end_matches(blank).is_empty() {
            return fail("empty variable name");
        }
        if name.ends_with(blank) {
            return fail("whitespace before '=' is not allowed");
        }
        if rest.starts_with(blank) {
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let Some(mut rest) = rest.strip_prefix('\'') else { return fail("value must be enclosed in single quotes") };
        let mut found = String::new();
        loop {
            if let Some((last, behind)) = rest.split_once('\'') {
                let behind = behind.trim_start_matches(blank);
                if !behind.is_empty() && !behind.starts_with('#') {
                    return fail("unexpected content after closing quote");
                }
                found.push_str(last);
                break;
            }
            found.push_str(rest);
            found.push('\n');
            let Some((_, next)) = lines.next() else { return fail("unclosed single quote") };
            rest = next;
        }
        if name == key {
            return Ok(found);
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_taken_as_it_stands() {
        let text = "# first\n\n  A='one # $two'\t# three\nB= 'x'\nC='several\nlines'\nD='\"'\n";
        for (key, expected) in [("A", "one # $two"), ("B", ""), ("C", "several\nlines"), ("D", "\""), ("E", "")] {
            assert_eq!(value(text, key).as_deref(), Ok(expected), "{key}");
        }
    }

    #[test]
    fn whatever_else_is_refused_with_its_line() {
        for (text, message) in [
            ("A=1", "line 1: value must be enclosed in single quotes"),
            ("\nA ='1'", "line 2: whitespace before '=' is not allowed"),
            ("A='1' 2", "line 1: unexpected content after closing quote"),
            ("A='1\n2", "line 1: unclosed single quote"),
            ("export", "line 1: missing '='"),
            ("='1'", "line 1: empty variable name"),
        ] {
            let error = value(text, "K").expect_err(text).to_string();
            assert!(error.ends_with(message), "{text}: {error}");
        }
        assert_eq!(value("K='1'\nnonsense", "K").as_deref(), Ok("1"), "what is behind it does not matter");
    }
}
