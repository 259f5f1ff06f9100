//! A request's query.

/// Decoded pairs, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=1&b=%20`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of a name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether one of the names is set to true (`1`, `true`, or nothing at all).
    pub fn flag(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| self.first(name).is_some_and(|v| matches!(v, "1" | "true" | "True" | "TRUE" | "t" | "T" | "")))
    }

    /// A number; the error names the field as upstream does.
    pub fn number(&self, name: &str) -> Result<Option<i64>, String> {
        match self.first(name).filter(|v| !v.is_empty()) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax ({name})")),
        }
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo+%22a%26b%22&tty=1&follow=true&x&tailLines=5");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo \"a&b\""]);
        assert!(query.flag(&["stdin", "tty"]) && query.flag(&["follow"]) && query.flag(&["x"]) && !query.flag(&["y"]));
        assert_eq!(query.number("tailLines"), Ok(Some(5)));
        assert_eq!(query.number("none"), Ok(None));
        assert!(Query::parse("n=x").number("n").is_err());
        assert_eq!(Query::parse("a=%zz%4").first("a"), Some("%zz%4"));
    }
}
