//! W3C trace context (Trace Context, Recommendation of 23 November 2021).

use std::fmt::{self, Write};

/// Where a request stands in a trace: the `traceparent` header. `tracestate` is passed on as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent` header. A header that breaks the rules is as good as none.
    pub fn parse(header: &[u8]) -> Option<Self> {
        // version "-" trace-id "-" parent-id "-" trace-flags; later versions may add to the end.
        if header.len() < 55 || [2, 35, 52].iter().any(|at| header[*at] != b'-') {
            return None;
        }
        let version = hex(&header[..2])?;
        if version == 0xff || (version == 0 && header.len() != 55) || (header.len() > 55 && header[55] != b'-') {
            return None;
        }
        let trace = hex(&header[3..35])?;
        let span = u64::try_from(hex(&header[36..52])?).ok()?;
        let flags = u8::try_from(hex(&header[53..55])?).ok()?;
        (trace != 0 && span != 0).then_some(Self { trace, span, flags })
    }

    /// Begins a trace with two random numbers.
    pub fn begin(trace: u128, span: u64) -> Self {
        Self { trace: trace.max(1), span: span.max(1), flags: 0 }
    }

    /// The next hop's context: same trace, a span of its own.
    pub fn child(self, span: u64) -> Self {
        Self { span: span.max(1), flags: self.flags & 0x03, ..self }
    }

    /// What arrived with the request, continued; or a trace that begins here.
    pub fn continued(header: Option<&[u8]>) -> Self {
        match header.and_then(Self::parse) {
            Some(parent) => parent.child(rand::random()),
            None => Self::begin(rand::random(), rand::random()),
        }
    }

    /// As the value of the header: every request gets one, so it is made without memory of its own.
    pub fn header(self) -> [u8; 55] {
        let mut header = *b"00-                                -                -  ";
        write_hex(self.trace, &mut header[3..35]);
        write_hex(u128::from(self.span), &mut header[36..52]);
        write_hex(u128::from(self.flags), &mut header[53..]);
        header
    }

    /// The trace's identity, as 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.header().iter().try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

/// A number's lower-case hexadecimal digits, as many as there is room for.
fn write_hex(number: u128, digits: &mut [u8]) {
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
    }
}

/// Lower-case hexadecimal digits only, as the recommendation demands.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_goes_on_with_a_span_of_its_own() {
        let parent = TraceContext::parse(PARENT).unwrap();
        let child = parent.child(0x1234);
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000001234-01");
        assert_eq!(TraceContext::continued(Some(PARENT)).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn what_breaks_the_rules_is_as_good_as_none() {
        let broken: [&[u8]; 8] = [
            b"",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            b"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for header in broken {
            assert_eq!(TraceContext::parse(header), None, "{}", String::from_utf8_lossy(header));
        }
        assert!(TraceContext::parse(b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later").is_some());
    }
}
