//! Why a configuration was refused, and where in the file.

use std::{fmt, path::PathBuf};

use serde::de::DeserializeOwned;

/// A configuration that cannot be used. A retry helps only after the file has been mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, where one is known.
    pub file: Option<PathBuf>,
    /// The line, from 1, where one is known.
    pub line: Option<usize>,
    /// The field, such as `pools[0].servers[2]`; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl ConfigError {
    /// An error of one field. Its line is found by [`ConfigError::located_in`].
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { file: None, line: None, field: field.into(), reason: reason.into() }
    }

    /// An error of the whole.
    pub fn whole(reason: impl Into<String>) -> Self {
        Self::field("", reason)
    }

    /// Adds the line on which the field stands in `text`, or its nearest parent that stands there.
    pub fn located_in(mut self, text: &str) -> Self {
        if self.line.is_none() && !self.field.is_empty() {
            self.line = line_of(text, &self.field);
        }
        self
    }

    /// Adds the file's name.
    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file.get_or_insert(file.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if let Some(line) = self.line {
            if self.file.is_none() {
                write!(f, "line ")?;
            }
            write!(f, "{line}:")?;
        }
        if self.file.is_some() || self.line.is_some() {
            write!(f, " ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}", self.reason)
    }
}

/// Reads YAML (or JSON, which is YAML) into a type.
///
/// # Errors
/// With the line that the parser stopped at.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    serde_yaml_ng::from_str(text).map_err(|error| {
        let line = error.location().map(|location| location.line());
        // The parser ends its message with the place, which stands in front here.
        let message = error.to_string();
        let reason = message.split(" at line ").next().unwrap_or(&message);
        let (field, reason) = match reason.split_once(": ") {
            Some((field, rest)) if !field.contains(' ') && !rest.is_empty() => (field, rest),
            _ => ("", reason),
        };
        ConfigError { file: None, line, field: field.to_owned(), reason: reason.to_owned() }
    })
}

/// The line, from 1, on which the field of a block-style YAML text stands; the nearest parent's if the field itself does not.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let mut lines = Lines::of(text);
    let mut found = None;
    for step in steps(field) {
        match lines.enter(&step) {
            Some(line) => found = Some(line),
            None => break,
        }
    }
    found
}

enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

fn steps(field: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in field.split('.') {
        let (key, mut rest) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        if !key.is_empty() {
            steps.push(Step::Key(key));
        }
        while let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            if let Ok(index) = index.parse() {
                steps.push(Step::Item(index));
            }
            rest = after;
        }
    }
    steps
}

/// The lines of a block that is being descended into: number, indentation and text of each.
struct Lines<'a> {
    block: Vec<(usize, usize, &'a str)>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let block = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.len() - line.trim_start().len(), line.trim_start()))
            .filter(|(_, _, line)| !line.is_empty() && !line.starts_with('#') && *line != "---")
            .collect();
        Self { block }
    }

    /// Narrows the block to what belongs to the step, and tells its line.
    fn enter(&mut self, step: &Step<'_>) -> Option<usize> {
        let indent = self.block.first()?.1;
        let start = match step {
            Step::Key(key) => self.block.iter().position(|(_, depth, line)| {
                *depth == indent
                    && line.split_once(':').is_some_and(|(name, _)| name.trim().trim_matches(['"', '\'']) == *key)
            })?,
            Step::Item(index) => {
                let items =
                    self.block.iter().enumerate().filter(|(_, (_, depth, line))| *depth == indent && is_item(line));
                items.map(|(at, _)| at).nth(*index)?
            }
        };
        let (line, _, text) = self.block[start];
        let mut inner: Vec<_> = Vec::new();
        if let Step::Item(_) = step {
            // The dash's own line holds the first key of the item, further in.
            let rest = text[1..].trim_start();
            if !rest.is_empty() {
                inner.push((line, indent + (text.len() - rest.len()), rest));
            }
        }
        let is_key = matches!(step, Step::Key(_));
        let below = self.block[start + 1..].iter().copied();
        // The items of a list may stand at the indentation of its key.
        inner.extend(
            below.take_while(|(_, depth, line)| *depth > indent || (is_key && *depth == indent && is_item(line))),
        );
        self.block = inner;
        Some(line)
    }
}

fn is_item(line: &str) -> bool {
    line == "-" || line.starts_with("- ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const TEXT: &str = "\
# a comment
listeners:
- address: 0.0.0.0:80
  routes:
    - path: /
      pool: web
    - path: /api
      pool: missing
pools:
  web:
    servers:
    - 127.0.0.1:1
    - nonsense
";

    #[test]
    fn a_field_is_found_on_its_line() {
        for (field, line) in [
            ("listeners", 2),
            ("listeners[0].address", 3),
            ("listeners[0].routes[1].pool", 8),
            ("pools.web.servers[1]", 13),
            ("pools.web.absent", 10),
            ("listeners[7]", 2),
        ] {
            assert_eq!(line_of(TEXT, field), Some(line), "{field}");
        }
        assert_eq!(line_of(TEXT, "absent"), None);
    }

    #[test]
    fn an_error_reads_as_compilers_write_them() {
        let error = ConfigError::field("listeners[0].routes[1].pool", "there is no pool \"missing\"")
            .located_in(TEXT)
            .in_file("/etc/edge.yaml");
        assert_eq!(error.to_string(), "/etc/edge.yaml:8: listeners[0].routes[1].pool: there is no pool \"missing\"");
    }

    #[test]
    fn a_syntax_error_tells_its_line() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Config {
            #[allow(dead_code)]
            size: u32,
        }
        let error = from_yaml::<Config>("size: 1\nsise: 2\n").unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(error.reason.contains("sise"), "{error}");
        let error = from_yaml::<Config>("size: many\n").unwrap_err();
        assert_eq!((error.line, error.field.as_str()), (Some(1), "size"), "{error}");
    }
}
