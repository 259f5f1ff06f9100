//! Variables, quotes and escapes in an instruction's words.

/// A word that can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {message}")]
pub struct ExpandError {
    /// The whole word.
    pub word: String,
    /// What is wrong with it.
    pub message: String,
}

/// Expands words as a shell would, without globbing and commands.
pub struct Expander<'a> {
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Leaves quotes as they are (contents of a here-document).
    skip_quotes: bool,
    /// Leaves variables as they are.
    skip_variables: bool,
}

impl<'a> Expander<'a> {
    /// Expands with these variables.
    pub fn new(escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { escape, lookup, skip_quotes: false, skip_variables: false }
    }

    /// Takes off quotes and escapes, nothing else.
    pub fn literal(escape: char) -> Expander<'static> {
        Expander { escape, lookup: &|_| None, skip_quotes: false, skip_variables: true }
    }

    /// Variables only; quotes have no meaning.
    #[must_use]
    pub fn without_quotes(self) -> Self {
        Self { skip_quotes: true, ..self }
    }

    /// Expands a text to one word.
    ///
    /// # Errors
    /// An unfinished quote or substitution, or one that is not supported.
    pub fn word(&self, text: &str) -> Result<String, ExpandError> {
        self.run(text).map(|(whole, _)| whole)
    }

    /// Expands a text to words: blanks outside of quotes separate them, also those that came with a variable.
    ///
    /// # Errors
    /// As [`Expander::word`].
    pub fn words(&self, text: &str) -> Result<Vec<String>, ExpandError> {
        self.run(text).map(|(_, words)| words)
    }

    fn run(&self, text: &str) -> Result<(String, Vec<String>), ExpandError> {
        let mut scan = Scan { expander: self, chars: text.chars().collect(), at: 0 };
        scan.until(None).map_err(|message| ExpandError { word: text.to_owned(), message })
    }
}

struct Scan<'e> {
    expander: &'e Expander<'e>,
    chars: Vec<char>,
    at: usize,
}

/// Words under way.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    inside: bool,
}

impl Words {
    fn quoted(&mut self, text: &str) {
        self.word.push_str(text);
        self.inside = true;
    }

    fn plain(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.end();
            } else {
                self.word.push(c);
                self.inside = true;
            }
        }
    }

    fn end(&mut self) {
        if self.inside {
            self.done.push(std::mem::take(&mut self.word));
            self.inside = false;
        }
    }
}

impl Scan<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), String> {
        let mut whole = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                words.end();
                return Ok((whole, words.done));
            }
            match c {
                '\'' | '"' if !self.expander.skip_quotes => {
                    let text = if c == '\'' { self.single()? } else { self.double()? };
                    whole.push_str(&text);
                    words.quoted(&text);
                }
                '$' if !self.expander.skip_variables => {
                    let text = self.variable()?;
                    whole.push_str(&text);
                    words.plain(&text);
                }
                c if c == self.expander.escape && !self.expander.skip_quotes => {
                    self.at += 1;
                    if let Some(next) = self.next() {
                        whole.push(next);
                        words.quoted(next.encode_utf8(&mut [0; 4]));
                    }
                }
                c if c == self.expander.escape && self.chars.get(self.at + 1) == Some(&'$') => {
                    self.at += 2;
                    whole.push('$');
                    words.quoted("$");
                }
                c => {
                    self.at += 1;
                    whole.push(c);
                    words.plain(c.encode_utf8(&mut [0; 4]));
                }
            }
        }
        match stop {
            Some(stop) => Err(format!("unexpected end of statement while looking for matching {stop}")),
            None => {
                words.end();
                Ok((whole, words.done))
            }
        }
    }

    fn single(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(text),
                Some(c) => text.push(c),
                None => return Err("unexpected end of statement while looking for matching single-quote".into()),
            }
        }
    }

    fn double(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err("unexpected end of statement while looking for matching double-quote".into()),
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('$') if !self.expander.skip_variables => text.push_str(&self.variable()?),
                Some(c) => {
                    self.at += 1;
                    if c != self.expander.escape {
                        text.push(c);
                        continue;
                    }
                    match self.next() {
                        None => {
                            return Err("unexpected end of statement while looking for matching double-quote".into());
                        }
                        Some(next) => {
                            // Only what means something between quotes loses its escape.
                            if !(next == '"' || next == '$' || next == self.expander.escape) {
                                text.push(c);
                            }
                            text.push(next);
                        }
                    }
                }
            }
        }
    }

    fn variable(&mut self) -> Result<String, String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.at += 1;
        if self.peek() == Some('}') {
            return Err("syntax error: bad substitution".into());
        }
        let name = self.name();
        let modifier = self.next().ok_or("syntax error: missing '}'")?;
        let value = self.value(&name);
        match modifier {
            '}' => Ok(value.unwrap_or_default()),
            ':' => {
                let modifier = self.next().ok_or("syntax error: missing '}'")?;
                self.default(&name, modifier, value.filter(|value| !value.is_empty()), "empty")
            }
            '+' | '-' | '?' => self.default(&name, modifier, value, "unset"),
            '#' | '%' => {
                let greedy = self.peek() == Some(modifier);
                self.at += usize::from(greedy);
                let pattern = self.until(Some('}'))?.0;
                Ok(trim(&value.unwrap_or_default(), &pattern, modifier == '#', greedy))
            }
            '/' => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let pattern = self.until(Some('/'))?.0;
                let replacement = self.until(Some('}'))?.0;
                Ok(replace(&value.unwrap_or_default(), &pattern, &replacement, all))
            }
            other => Err(format!("unsupported modifier ({other}) in substitution")),
        }
    }

    fn default(&mut self, name: &str, modifier: char, value: Option<String>, lack: &str) -> Result<String, String> {
        if !matches!(modifier, '+' | '-' | '?') {
            return Err(format!("unsupported modifier (:{modifier}) in substitution"));
        }
        let word = self.until(Some('}'))?.0;
        match (modifier, value) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            (_, None) if word.is_empty() => Err(format!("{name}: is not allowed to be {lack}")),
            (_, None) => Err(format!("{name}: {word}")),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let first = name.is_empty();
            if first && (c.is_ascii_digit() || "@*#?-$!".contains(c)) {
                // Positional and special parameters are one character (or a number) and never set.
                self.at += 1;
                name.push(c);
                while c.is_ascii_digit() && self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    name.extend(self.next());
                }
                break;
            }
            if !(c.is_ascii_alphanumeric() || c == '_') {
                break;
            }
            self.at += 1;
            name.push(c);
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        (self.expander.lookup)(name)
    }
}

/// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`.
fn trim(value: &str, pattern: &str, prefix: bool, greedy: bool) -> String {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    // The first cut that fits: from the short end, or from the long one.
    if prefix == greedy {
        cuts.reverse();
    }
    for cut in cuts {
        let (head, tail) = value.split_at(cut);
        let (cut_off, kept) = if prefix { (head, tail) } else { (tail, head) };
        if glob(&pattern, &cut_off.chars().collect::<Vec<_>>()) {
            return kept.to_owned();
        }
    }
    value.to_owned()
}

/// `${x/p/r}` and `${x//p/r}`: the longest match at each place.
fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> String {
    let pattern: Vec<char> = pattern.chars().collect();
    let value: Vec<char> = value.chars().collect();
    let mut result = String::new();
    let mut at = 0;
    let mut done = pattern.is_empty();
    while at < value.len() {
        let found =
            (!done).then(|| (at + 1..=value.len()).rev().find(|end| glob(&pattern, &value[at..*end]))).flatten();
        match found {
            Some(end) => {
                result.push_str(replacement);
                at = end;
                done = !all;
            }
            None => {
                result.push(value[at]);
                at += 1;
            }
        }
    }
    result
}

/// `*`, `?` and escaped characters, over the whole text. Linear backtracking to the last star suffices.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => {
                p += 1;
                t += 1;
                continue;
            }
            Some('\\') if pattern.get(p + 1) == Some(&text[t]) => {
                p += 2;
                t += 1;
                continue;
            }
            Some(c) if *c == text[t] && *c != '\\' => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        let Some((at, from)) = star else { return false };
        p = at + 1;
        t = from + 1;
        star = Some((at, t));
    }
    pattern[p..].iter().all(|c| *c == '*')
}
