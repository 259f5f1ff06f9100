//! Physical lines become logical ones: directives, comments, continuation, here-documents.

use super::ParseError;
use super::expand::Expander;
use super::words;

/// One instruction's text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    pub start: usize,
    pub end: usize,
    /// Joined, without continuation characters and here-documents.
    pub text: String,
    pub heredocs: Vec<Heredoc>,
}

/// `<<NAME` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Its lines as they stand, each with its newline.
    pub content: String,
    /// Whether variables in it are expanded (the word was not quoted).
    pub expand: bool,
    /// `<<-`: leading tabs don't count.
    pub chomp: bool,
}

impl Heredoc {
    /// The content as a program would read it.
    pub fn data(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// All of them.
pub(super) struct Lines {
    pub escape: char,
    pub syntax: Option<String>,
    pub lines: Vec<Line>,
    pub warnings: Vec<String>,
}

impl Lines {
    pub fn read(text: &str) -> Result<Self, ParseError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let physical: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
        let mut result = Self { escape: '\\', syntax: None, lines: Vec::new(), warnings: Vec::new() };
        let mut at = result.directives(&physical)?;
        while at < physical.len() {
            let first = physical[at].trim_start();
            let start = at + 1;
            at += 1;
            if first.is_empty() || first.starts_with('#') {
                continue;
            }
            let (piece, mut whole) = result.continuation(first);
            let mut joined = piece.to_owned();
            let mut end = start;
            while !whole && at < physical.len() {
                let next = physical[at];
                at += 1;
                if next.trim_start().starts_with('#') {
                    continue;
                }
                if next.trim().is_empty() {
                    // The end of the file is no empty line.
                    if at < physical.len() {
                        result.warnings.push(format!("Empty continuation line found in: {}", joined.trim()));
                    }
                    continue;
                }
                let (piece, done) = result.continuation(next);
                joined.push_str(piece);
                whole = done;
                end = at;
            }
            let mut heredocs = result.announced(&joined).map_err(|message| ParseError { line: start, message })?;
            for heredoc in &mut heredocs {
                loop {
                    let Some(line) = physical.get(at).filter(|_| at + 1 < physical.len() || !physical[at].is_empty())
                    else {
                        return Err(ParseError { line: start, message: "unterminated heredoc".into() });
                    };
                    at += 1;
                    let bare = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
                    if bare == heredoc.name {
                        break;
                    }
                    heredoc.content.push_str(line);
                    heredoc.content.push('\n');
                }
                end = at;
            }
            result.lines.push(Line { start, end, text: joined, heredocs });
        }
        if result.lines.is_empty() {
            return Err(ParseError { line: 1, message: "file with no instructions".into() });
        }
        Ok(result)
    }

    /// Reads `# key=value` lines at the very top; returns where the rest begins.
    fn directives(&mut self, physical: &[&str]) -> Result<usize, ParseError> {
        let mut seen: Vec<String> = Vec::new();
        for (index, line) in physical.iter().enumerate() {
            let Some((key, value)) = directive(line) else { return Ok(index) };
            let fail = |message: String| Err(ParseError { line: index + 1, message });
            if !matches!(key.as_str(), "syntax" | "escape" | "check") {
                return Ok(index);
            }
            if seen.contains(&key) {
                return fail(format!("only one {key} parser directive can be used"));
            }
            match key.as_str() {
                "escape" => match value {
                    "\\" | "`" => self.escape = if value == "`" { '`' } else { '\\' },
                    other => return fail(format!("invalid escape token '{other}' does not match ` or \\")),
                },
                "syntax" => self.syntax = Some(value.to_owned()),
                _ => {}
            }
            seen.push(key);
        }
        Ok(physical.len())
    }

    /// The line without its continuation character, and whether the instruction ends with it.
    fn continuation<'a>(&self, line: &'a str) -> (&'a str, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, false),
            _ => (line, true),
        }
    }

    /// The here-documents that a line begins. Only `RUN`, `COPY` and `ADD` (also after `ONBUILD`) have them, and only
    /// where they are no JSON.
    fn announced(&self, line: &str) -> Result<Vec<Heredoc>, String> {
        let (mut name, mut rest) = words::instruction(line);
        if name.eq_ignore_ascii_case("ONBUILD") {
            (name, rest) = words::instruction(rest);
        }
        if !["RUN", "COPY", "ADD"].iter().any(|known| name.eq_ignore_ascii_case(known)) || !rest.contains("<<") {
            return Ok(Vec::new());
        }
        let bare = rest.trim_start();
        if bare.starts_with('[') && serde_json::from_str::<Vec<String>>(bare).is_ok() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for word in words::raw(rest, self.escape) {
            found.extend(heredoc(&word, self.escape)?);
        }
        Ok(found)
    }
}

/// The here-document that a word begins, if it does: `[FD]<<[-]NAME`.
pub(super) fn heredoc(word: &str, escape: char) -> Result<Option<Heredoc>, String> {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = digits.strip_prefix("<<") else { return Ok(None) };
    let (chomp, quoted) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if quoted.is_empty() || quoted.contains('<') {
        return Ok(None);
    }
    let name = Expander::literal(escape).word(quoted).map_err(|error| error.to_string())?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Ok(None);
    }
    Ok(Some(Heredoc { expand: name == quoted, name, content: String::new(), chomp }))
}

/// `# key = value`.
fn directive(line: &str) -> Option<(String, &str)> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start_matches([' ', '\t']);
    let (key, value) = rest.split_once('=')?;
    let key = key.trim_end_matches([' ', '\t']);
    let value = value.trim();
    let word = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    (word && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}
