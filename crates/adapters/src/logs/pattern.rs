//! Patterns in the way of grok: `%{IP:client} %{WORD:method}` within a regular expression. Pure.

use regex_lite::Regex;

/// Names and what they stand for.
const NAMES: &[(&str, &str)] = &[
    ("INT", r"[+-]?\d+"),
    ("NUMBER", r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"),
    ("WORD", r"\w+"),
    ("NOTSPACE", r"\S+"),
    ("SPACE", r"\s*"),
    ("DATA", r".*?"),
    ("GREEDYDATA", r"(?s:.*)"),
    ("QS", r#""(?:[^"\\]|\\.)*""#),
    ("QUOTEDSTRING", r#""(?:[^"\\]|\\.)*""#),
    ("UUID", r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
    ("IPV4", r"(?:\d{1,3}\.){3}\d{1,3}"),
    ("IPV6", r"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+"),
    ("IP", r"(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+)"),
    ("HOSTNAME", r"[0-9A-Za-z][0-9A-Za-z.-]*"),
    ("IPORHOST", r"(?:[0-9A-Za-z][0-9A-Za-z.-]*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+)"),
    ("HOSTPORT", r"[0-9A-Za-z][0-9A-Za-z.-]*:\d+"),
    ("PATH", r"/\S*"),
    ("URIPATH", r"/[^\s?#]*"),
    ("URIPATHPARAM", r"/[^\s#]*"),
    ("USER", r"[0-9A-Za-z._@-]+"),
    (
        "LOGLEVEL",
        r"(?i:trace|debug|info|information|notice|warn|warning|error|err|crit|critical|alert|fatal|severe|emerg|emergency)",
    ),
    ("MONTH", r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"),
    ("TIME", r"\d{2}:\d{2}:\d{2}(?:[.,]\d+)?"),
    ("TIMESTAMP_ISO8601", r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?"),
    ("HTTPDATE", r"\d{2}/\w{3}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4}"),
    ("SYSLOGTIMESTAMP", r"\w{3} [ \d]\d \d{2}:\d{2}:\d{2}"),
];

/// Makes a regular expression of a pattern.
///
/// # Errors
/// If it names what is unknown, or is no expression.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let (mut expression, mut rest) = (String::new(), pattern);
    while let Some((before, after)) = rest.split_once("%{") {
        let (inner, after) = after.split_once('}').ok_or("%{ without }")?;
        let (name, field) = inner.split_once(':').map_or((inner, None), |(name, field)| (name, Some(field)));
        // A type behind the field's name, as grok has it, changes nothing: numbers become numbers anyhow.
        let field = field.map(|field| field.split(':').next().unwrap_or(field));
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let meaning = known.map(|(_, meaning)| *meaning).ok_or_else(|| format!("%{{{name}}} is unknown"))?;
        expression.push_str(before);
        match field {
            Some(field) => expression.push_str(&format!("(?<{field}>{meaning})")),
            None => expression.push_str(&format!("(?:{meaning})")),
        }
        rest = after;
    }
    expression.push_str(rest);
    Regex::new(&expression).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_its_parts() {
        let regex = compile(r"^%{IP:client} %{WORD:method} %{URIPATHPARAM:path} %{NUMBER:took:float}$").unwrap();
        let found = regex.captures("10.0.0.1 GET /a?b=1 0.25").unwrap();
        assert_eq!((&found["client"], &found["path"], &found["took"]), ("10.0.0.1", "/a?b=1", "0.25"));
        assert!(regex.captures("::1 GET / 1").is_some());
        assert!(compile("%{NOPE:x}").is_err() && compile("%{WORD").is_err() && compile("(").is_err());
        for (name, _) in NAMES {
            assert!(compile(&format!("%{{{name}:x}}")).is_ok(), "{name}");
        }
    }
}
