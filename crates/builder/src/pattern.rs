//! File name patterns: Go's `filepath.Match`, and `.dockerignore`'s with `**` and `!`.

use std::collections::HashSet;

/// What one element of a pattern fits.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// Any but `/`.
    Any,
    /// Any number of any but `/`.
    Star,
    /// Any number of anything.
    DoubleStar,
    /// Any number of whole directories, `**/`.
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {0:?}")]
pub struct BadPattern(pub String);

/// A parsed pattern.
#[derive(Debug, Clone)]
pub struct Pattern(Vec<Token>);

impl Pattern {
    /// As Go's `filepath.Match`: `*` and `?` stop at `/`.
    ///
    /// # Errors
    /// [`BadPattern`] for an unfinished class or escape.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        Self::parse(text, false)
    }

    /// The same, and `**` reaches across directories.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn deep(text: &str) -> Result<Self, BadPattern> {
        Self::parse(text, true)
    }

    fn parse(text: &str, deep: bool) -> Result<Self, BadPattern> {
        let bad = || BadPattern(text.to_owned());
        let chars: Vec<char> = text.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            match chars[at] {
                '*' if deep && chars.get(at + 1) == Some(&'*') => {
                    while chars.get(at) == Some(&'*') {
                        at += 1;
                    }
                    if chars.get(at) == Some(&'/') {
                        at += 1;
                        tokens.push(Token::Directories);
                    } else {
                        tokens.push(Token::DoubleStar);
                    }
                    continue;
                }
                '*' => tokens.push(Token::Star),
                '?' => tokens.push(Token::Any),
                '\\' => {
                    at += 1;
                    tokens.push(Token::Char(*chars.get(at).ok_or_else(bad)?));
                }
                '[' => {
                    let (class, after) = class(&chars, at + 1).ok_or_else(bad)?;
                    tokens.push(class);
                    at = after;
                    continue;
                }
                c => tokens.push(Token::Char(c)),
            }
            at += 1;
        }
        Ok(Self(tokens))
    }

    /// Whether the whole text fits.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        self.from(0, &text, 0, &mut HashSet::new())
    }

    fn from(&self, token: usize, text: &[char], at: usize, failed: &mut HashSet<(usize, usize)>) -> bool {
        let Some(current) = self.0.get(token) else { return at == text.len() };
        if failed.contains(&(token, at)) {
            return false;
        }
        let found = match current {
            Token::Char(c) => text.get(at) == Some(c) && self.from(token + 1, text, at + 1, failed),
            Token::Any => text.get(at).is_some_and(|c| *c != '/') && self.from(token + 1, text, at + 1, failed),
            Token::Class { negated, ranges } => {
                let fits =
                    |c: &char| *c != '/' && ranges.iter().any(|(low, high)| (low..=high).contains(&c)) != *negated;
                text.get(at).is_some_and(fits) && self.from(token + 1, text, at + 1, failed)
            }
            Token::Star => {
                let end = text[at..].iter().position(|c| *c == '/').map_or(text.len(), |length| at + length);
                (at..=end).any(|next| self.from(token + 1, text, next, failed))
            }
            Token::DoubleStar => (at..=text.len()).any(|next| self.from(token + 1, text, next, failed)),
            Token::Directories => {
                self.from(token + 1, text, at, failed)
                    || (at..text.len()).any(|slash| text[slash] == '/' && self.from(token + 1, text, slash + 1, failed))
            }
        };
        if !found {
            failed.insert((token, at));
        }
        found
    }
}

/// `[^a-z\]]`, from behind the bracket; returns where it ends.
fn class(chars: &[char], mut at: usize) -> Option<(Token, usize)> {
    let negated = matches!(chars.get(at), Some('^' | '!'));
    at += usize::from(negated);
    let mut ranges = Vec::new();
    let one = |at: &mut usize| -> Option<char> {
        let mut c = *chars.get(*at)?;
        if c == '\\' {
            *at += 1;
            c = *chars.get(*at)?;
        }
        *at += 1;
        Some(c)
    };
    loop {
        if chars.get(at) == Some(&']') && !ranges.is_empty() {
            return Some((Token::Class { negated, ranges }, at + 1));
        }
        if matches!(chars.get(at), Some('-' | ']')) {
            return None;
        }
        let low = one(&mut at)?;
        let mut high = low;
        if chars.get(at) == Some(&'-') {
            at += 1;
            high = one(&mut at)?;
        }
        ranges.push((low, high));
    }
}

/// Whether a path element is a pattern at all.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// A `.dockerignore`: which paths of a context don't exist.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<(bool, Pattern)>,
}

impl Ignore {
    /// Parses the file. Later lines win; `!` takes back.
    ///
    /// # Errors
    /// A line that is no pattern.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
        Self::of(lines)
    }

    /// The same from patterns.
    ///
    /// # Errors
    /// As [`Ignore::parse`].
    pub fn of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, BadPattern> {
        let mut rules = Vec::new();
        for text in patterns {
            let (keeps, text) = match text.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, text),
            };
            if keeps && text.is_empty() {
                return Err(BadPattern("!".into()));
            }
            let clean = clean(text);
            if clean.is_empty() {
                continue;
            }
            rules.push((keeps, Pattern::deep(&clean)?));
        }
        Ok(Self { rules })
    }

    /// Whether a path (relative, without `./`) is left out. A rule for a directory holds for all below it.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for (keeps, pattern) in &self.rules {
            if *keeps == excluded && Self::covers(pattern, path) {
                excluded = !keeps;
            }
        }
        excluded
    }

    /// Whether it leaves nothing out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether anything below an excluded directory may have been taken back.
    pub fn takes_back(&self) -> bool {
        self.rules.iter().any(|(keeps, _)| *keeps)
    }

    fn covers(pattern: &Pattern, path: &str) -> bool {
        let parents = path.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &path[..at]);
        pattern.matches(path) || parents.into_iter().any(|parent| pattern.matches(parent))
    }
}

/// Go's `filepath.Clean` of a relative path; empty for the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
