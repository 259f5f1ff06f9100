//! Cache control for some caches alone, as `CDN-Cache-Control`: a dictionary of structured fields (RFC 9213, RFC 8941).

use super::freshness::Directives;

/// What a targeted field says; `None` if it is not there, empty or no dictionary: then `Cache-Control` counts.
pub(super) fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Directives> {
    let text = values.fold(None, |all: Option<Vec<u8>>, value| {
        Some(match all {
            None => value.to_vec(),
            Some(all) => [&all, &b", "[..], value].concat(),
        })
    })?;
    let mut found = Directives::default();
    let mut input = Input(text.trim_ascii());
    if input.0.is_empty() {
        return None;
    }
    loop {
        let key = input.key()?;
        let value = if input.skip(b'=') { input.member()? } else { Value::True };
        input.parameters()?;
        found.tell(key, value);
        input.space();
        if input.0.is_empty() {
            return Some(found);
        }
        input.skip(b',').then_some(())?;
        input.space();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Value {
    True,
    False,
    Integer(i64),
    /// A kind that no directive has, or that says nothing beside its being there.
    Other,
}

impl Directives {
    fn tell(&mut self, name: &[u8], value: Value) {
        let on = matches!(value, Value::True | Value::Other);
        // A value of another kind is as if the directive were not there (RFC 9213 section 2.1).
        let span = || match value {
            Value::Integer(seconds) => Some(u64::try_from(seconds).unwrap_or(0).min(1 << 31)),
            _ => None,
        };
        match name {
            b"no-store" => self.no_store = on,
            b"no-cache" => self.no_cache = on,
            b"private" => self.private = on,
            b"public" => self.public = on,
            b"must-understand" => self.must_understand = on,
            b"must-revalidate" | b"proxy-revalidate" => self.must_revalidate |= on,
            b"max-age" => self.max_age = span(),
            b"s-maxage" => self.s_maxage = span(),
            b"stale-while-revalidate" => self.stale_while_revalidate = span(),
            b"stale-if-error" => self.stale_if_error = span(),
            _ => {}
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn skip(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn take(&mut self, wanted: impl Fn(&u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|b| !wanted(b)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let first = *self.0.first()?;
        (first.is_ascii_lowercase() || first == b'*').then_some(())?;
        Some(self.take(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(b)))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.skip(b';') {
            self.space();
            self.key()?;
            if self.skip(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn member(&mut self) -> Option<Value> {
        if !self.skip(b'(') {
            return self.item();
        }
        loop {
            self.space();
            if self.skip(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
        }
    }

    fn item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b'?' => {
                let (value, rest) = match self.0 {
                    [_, b'1', rest @ ..] => (Value::True, rest),
                    [_, b'0', rest @ ..] => (Value::False, rest),
                    _ => return None,
                };
                self.0 = rest;
                Some(value)
            }
            b'"' => {
                self.skip(b'"');
                loop {
                    self.take(|b| (0x20..0x7f).contains(b) && !b"\"\\".contains(b));
                    if self.skip(b'"') {
                        return Some(Value::Other);
                    }
                    (self.skip(b'\\') && (self.skip(b'"') || self.skip(b'\\'))).then_some(())?;
                }
            }
            b':' => {
                self.skip(b':');
                self.take(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b));
                self.skip(b':').then_some(Value::Other)
            }
            b'-' | b'0'..=b'9' => {
                let minus = self.skip(b'-');
                let digits = self.take(u8::is_ascii_digit);
                (1..=15).contains(&digits.len()).then_some(())?;
                if self.skip(b'.') {
                    let fraction = self.take(u8::is_ascii_digit);
                    return (1..=3).contains(&fraction.len()).then_some(Value::Other);
                }
                let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
                Some(Value::Integer(if minus { -number } else { number }))
            }
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.take(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(b));
                Some(Value::Other)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Directives> {
        parse([text.as_bytes()].into_iter())
    }

    #[test]
    fn a_dictionary_tells_directives() {
        let told = of("max-age=600, no-cache=?0, private=\"a, b\", must-revalidate;x=y, s-maxage=-1, foo=:YQ==:");
        let wanted = Directives {
            max_age: Some(600),
            private: true,
            must_revalidate: true,
            s_maxage: Some(0),
            ..Directives::default()
        };
        assert_eq!(told, Some(wanted));
    }

    #[test]
    fn what_is_no_dictionary_says_nothing() {
        for broken in
            ["", "max-age=1, &&&", "max-age =1", "max-age= 1", "Max-Age=1", "a,", "a=\"x", "a=?2", "a=1.2345", "a=(1"]
        {
            assert_eq!(of(broken), None, "{broken}");
        }
        assert_eq!(parse(std::iter::empty()), None);
        assert_eq!(of("max-age=\"10\""), Some(Directives::default()), "another kind of value is none");
        assert_eq!(of("max-age=1.5, no-store").unwrap().max_age, None);
        assert!(of("a=(1 \"b\");q=1, no-store").unwrap().no_store);
        assert_eq!(of("max-age=999999999999999").unwrap().max_age, Some(1 << 31));
    }
}
