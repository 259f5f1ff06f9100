//! Splitting what follows an instruction's name.

/// The instruction's name and the rest.
pub(super) fn instruction(line: &str) -> (&str, &str) {
    let line = line.trim();
    match line.find(char::is_whitespace) {
        Some(at) => (&line[..at], line[at..].trim()),
        None => (line, ""),
    }
}

/// Splits at blanks that are neither quoted nor escaped. Quotes and escapes stay.
pub(super) fn raw(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == escape && quote != Some('\'') {
            word.push(c);
            word.extend(chars.next());
            continue;
        }
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `NAME=value NAME=value` or the old `NAME value…`, values raw.
pub(super) fn pairs(rest: &str, escape: char, instruction: &str) -> Result<Vec<(String, String)>, String> {
    let words = raw(rest, escape);
    let Some(first) = words.first() else { return Err(format!("{instruction} requires at least one argument")) };
    if !first.contains('=') {
        let (name, value) =
            rest.split_once(char::is_whitespace).ok_or_else(|| format!("{instruction} must have two arguments"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words.into_iter().map(|word| pair(&word, instruction)).collect()
}

fn pair(word: &str, instruction: &str) -> Result<(String, String), String> {
    let (name, value) = word
        .split_once('=')
        .ok_or_else(|| format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"))?;
    if name.is_empty() {
        return Err(format!("{instruction} names can not be blank"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A JSON array of strings; `None` for what is no JSON at all.
pub(super) fn json(rest: &str) -> Result<Option<Vec<String>>, String> {
    let rest = rest.trim_start();
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else { return Ok(None) };
    let string = |value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err("when using JSON array syntax, arrays must be comprised of strings only".to_owned()),
    };
    values.into_iter().map(string).collect::<Result<Vec<_>, _>>().map(Some)
}
