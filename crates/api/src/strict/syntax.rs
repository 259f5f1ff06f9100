//! What is wrong with broken JSON, in the words of Go's scanner. Only the failing path comes here.

/// The first fault, such as `invalid character '}' looking for beginning of value`; `None` if Go would
/// find none.
pub fn fault(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.document().err().map(|stop| match stop {
        Stop::End => "unexpected end of JSON input".into(),
        Stop::Character(c, context) => format!("invalid character {} {context}", shown(c)),
    })
}

enum Stop {
    End,
    Character(u8, &'static str),
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

const VALUE: &str = "looking for beginning of value";
const KEY: &str = "looking for beginning of object key string";

const TRUE: [(u8, &str); 3] = [
    (b'r', "in literal true (expecting 'r')"),
    (b'u', "in literal true (expecting 'u')"),
    (b'e', "in literal true (expecting 'e')"),
];
const FALSE: [(u8, &str); 4] = [
    (b'a', "in literal false (expecting 'a')"),
    (b'l', "in literal false (expecting 'l')"),
    (b's', "in literal false (expecting 's')"),
    (b'e', "in literal false (expecting 'e')"),
];
const NULL: [(u8, &str); 3] = [
    (b'u', "in literal null (expecting 'u')"),
    (b'l', "in literal null (expecting 'l')"),
    (b'l', "in literal null (expecting 'l')"),
];

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), Stop> {
        // Open containers, innermost last: `{` or `[`. No recursion, however deep the text.
        let mut open = Vec::new();
        loop {
            // A value begins here, unless an empty container ends.
            match self.next()? {
                c @ (b'{' | b'[') => {
                    open.push(c);
                    let empty = if c == b'{' { b'}' } else { b']' };
                    if self.peek() == Some(empty) {
                        self.at += 1;
                        open.pop();
                    } else {
                        if c == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                c @ (b'-' | b'0'..=b'9') => self.number(c)?,
                b't' => self.literal(&TRUE)?,
                b'f' => self.literal(&FALSE)?,
                b'n' => self.literal(&NULL)?,
                c => return Err(Stop::Character(c, VALUE)),
            }
            // A value has ended: so may its containers.
            loop {
                let Some(container) = open.last() else {
                    return match self.next() {
                        Err(_) => Ok(()),
                        Ok(c) => Err(Stop::Character(c, "after top-level value")),
                    };
                };
                match (*container, self.next()?) {
                    (b'{', b',') => {
                        self.key()?;
                        break;
                    }
                    (b'[', b',') => break,
                    (b'{', b'}') | (b'[', b']') => {
                        open.pop();
                    }
                    (b'{', c) => return Err(Stop::Character(c, "after object key:value pair")),
                    (_, c) => return Err(Stop::Character(c, "after array element")),
                }
            }
        }
    }

    fn key(&mut self) -> Result<(), Stop> {
        match self.next()? {
            b'"' => self.string()?,
            c => return Err(Stop::Character(c, KEY)),
        }
        match self.next()? {
            b':' => Ok(()),
            c => Err(Stop::Character(c, "after object key")),
        }
    }

    /// The opening quote is behind.
    fn string(&mut self) -> Result<(), Stop> {
        loop {
            match self.byte()? {
                b'"' => return Ok(()),
                b'\\' => match self.byte()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let c = self.byte()?;
                            if !c.is_ascii_hexdigit() {
                                return Err(Stop::Character(c, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    c => return Err(Stop::Character(c, "in string escape code")),
                },
                c if c < b' ' => return Err(Stop::Character(c, "in string literal")),
                _ => {}
            }
        }
    }

    fn number(&mut self, first: u8) -> Result<(), Stop> {
        let first = if first == b'-' { self.digit("in numeric literal")? } else { first };
        if first != b'0' {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self, context: &'static str) -> Result<u8, Stop> {
        match self.byte()? {
            c if c.is_ascii_digit() => Ok(c),
            c => Err(Stop::Character(c, context)),
        }
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// The first letter is behind.
    fn literal(&mut self, rest: &[(u8, &'static str)]) -> Result<(), Stop> {
        for (expected, context) in rest {
            let c = self.byte()?;
            if c != *expected {
                return Err(Stop::Character(c, context));
            }
        }
        Ok(())
    }

    /// The next byte that is no space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Stop> {
        let c = self.peek().ok_or(Stop::End)?;
        self.at += 1;
        Ok(c)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let c = *self.text.get(self.at).ok_or(Stop::End)?;
        self.at += 1;
        Ok(c)
    }
}

/// As Go's scanner quotes a byte.
fn shown(c: u8) -> String {
    match c {
        b'\'' => r"'\''".into(),
        b'"' => r#"'"'"#.into(),
        c => {
            let quoted = crate::status::quoted(&char::from(c).to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_in_go() {
        for (text, expected) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("{\"a\":[1,", "unexpected end of JSON input"),
            ("nonsense", "invalid character 'o' in literal null (expecting 'u')"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\":2}", "invalid character '\"' after object key:value pair"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} {}", "invalid character '{' after top-level value"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u12g4\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
        ] {
            assert_eq!(fault(text.as_bytes()).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn sound_text_has_no_fault() {
        for text in [
            "{}",
            "[]",
            " [ ] ",
            "{\"a\":{\"b\":[1,-2.5e+3,true,false,null,\"\\u00e4\\n\"]},\"c\":[[],{}]}",
            "0",
            "\"\"",
        ] {
            assert_eq!(fault(text.as_bytes()), None, "{text}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(fault(deep.as_bytes()), None);
    }
}
