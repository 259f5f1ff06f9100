//! `--name=value` between an instruction's name and its arguments.

/// The flags of one instruction.
#[derive(Debug, Default)]
pub(super) struct Flags {
    all: Vec<(String, Option<String>)>,
}

impl Flags {
    /// Takes the flags off the front; returns the rest.
    pub fn take(rest: &str, escape: char) -> (Self, &str) {
        let mut flags = Self::default();
        let mut rest = rest.trim_start();
        while let Some(after) = rest.strip_prefix("--") {
            let length = word_length(rest, escape);
            let word = &rest[..length];
            if after.is_empty() || word == "--" {
                return (flags, rest[length..].trim_start());
            }
            let word = unquoted(&word[2..], escape);
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            flags.all.push((name, value));
            rest = rest[length..].trim_start();
        }
        (flags, rest)
    }

    /// Refuses flags that the instruction does not know, and single ones that come twice.
    pub fn check(&self, known: &[&str], repeatable: &[&str]) -> Result<(), String> {
        for (index, (name, _)) in self.all.iter().enumerate() {
            if !known.contains(&name.as_str()) && !repeatable.contains(&name.as_str()) {
                let near = known.iter().chain(repeatable).find(|k| distance(k, name) <= 2);
                let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                return Err(format!("unknown flag: --{name}{hint}"));
            }
            if !repeatable.contains(&name.as_str()) && self.all[..index].iter().any(|(other, _)| other == name) {
                return Err(format!("Duplicate flag specified: {name}"));
            }
        }
        Ok(())
    }

    /// Whether a flag was given at all.
    pub fn has(&self, name: &str) -> bool {
        self.all.iter().any(|(other, _)| other == name)
    }

    /// The value of a flag that has one.
    pub fn value(&self, name: &str) -> Result<Option<String>, String> {
        match self.all.iter().find(|(other, _)| other == name) {
            Some((_, None)) => Err(format!("Missing a value on flag: {name}")),
            Some((_, Some(value))) => Ok(Some(value.clone())),
            None => Ok(None),
        }
    }

    /// All values of a flag that may come again.
    pub fn values(&self, name: &str) -> Result<Vec<String>, String> {
        let all = self.all.iter().filter(|(other, _)| other == name);
        all.map(|(_, value)| value.clone().ok_or_else(|| format!("Missing a value on flag: {name}"))).collect()
    }

    /// A flag that is on, or `=true`, or `=false`.
    pub fn on(&self, name: &str) -> Result<bool, String> {
        match self.all.iter().find(|(other, _)| other == name) {
            None => Ok(false),
            Some((_, None)) => Ok(true),
            Some((_, Some(value))) => match value.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(format!("Expecting boolean value for flag {name}, not: {value}")),
            },
        }
    }
}

/// How long the first word is, quotes and escapes respected.
fn word_length(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, c) if c == escape && quote != Some('\'') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

/// Without quotes; escapes of anything but quotes and blanks stay for the expansion that follows.
fn unquoted(word: &str, escape: char) -> String {
    let mut text = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match quote {
            _ if c == escape && quote != Some('\'') => match chars.next() {
                Some(next) if next == '"' || next == '\'' || next.is_whitespace() => text.push(next),
                Some(next) => text.extend([c, next]),
                None => text.push(c),
            },
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => text.push(c),
        }
    }
    text
}

/// Edits between two words, for "did you mean".
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
