//! Byte ranges: of a blob that is read (RFC 9110 §14) and of an upload's chunk (the distribution specification).

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// Everything, or something that may be ignored.
    Whole,
    /// From the first byte to before the last.
    Part(u64, u64),
    /// Beyond the end.
    Unsatisfiable,
}

impl Range {
    /// Several ranges at a time are answered with the whole, as the RFC allows.
    pub fn parse(header: Option<&str>, size: u64) -> Self {
        let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")).map(str::trim) else {
            return Self::Whole;
        };
        let Some((from, to)) = spec.split_once('-').filter(|_| !spec.contains(',')) else { return Self::Whole };
        match (number(from), number(to)) {
            (Some(from), _) if to.is_empty() => Self::within(from, size, size),
            (Some(from), Some(to)) if from <= to => Self::within(from, to.saturating_add(1).min(size), size),
            (None, Some(last)) if from.is_empty() => Self::within(size.saturating_sub(last), size, size),
            _ => Self::Whole,
        }
    }

    fn within(from: u64, end: u64, size: u64) -> Self {
        if from < size && from < end { Self::Part(from, end) } else { Self::Unsatisfiable }
    }
}

/// `START-END` of a chunk, both inclusive. Some clients write it as HTTP would: `bytes START-END/…`.
pub(crate) fn chunk(header: &str) -> Option<(u64, u64)> {
    let spec = header.trim();
    let spec = spec.strip_prefix("bytes").map_or(spec, |s| s.trim_start_matches(['=', ' ']));
    let spec = spec.split('/').next().unwrap_or(spec);
    let (from, to) = spec.split_once('-')?;
    let (from, to) = (number(from)?, number(to)?);
    (from <= to && to < u64::MAX).then_some((from, to))
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (header, range) in [
            ("bytes=0-0", Range::Part(0, 1)),
            ("bytes=2-", Range::Part(2, 10)),
            ("bytes=2-100", Range::Part(2, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-30", Range::Part(0, 10)),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=10-12", Range::Unsatisfiable),
            ("bytes=5-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("bytes=99999999999999999999-", Range::Whole),
            ("bytes=0-18446744073709551615", Range::Part(0, 10)),
            ("items=0-1", Range::Whole),
            ("bytes=-", Range::Whole),
        ] {
            assert_eq!(Range::parse(Some(header), 10), range, "{header}");
        }
        assert_eq!(Range::parse(None, 10), Range::Whole);
        assert_eq!(Range::parse(Some("bytes=0-"), 0), Range::Unsatisfiable);
    }

    #[test]
    fn chunks_are_read_as_the_specification_has_them() {
        assert_eq!(chunk("0-9"), Some((0, 9)));
        assert_eq!(chunk("bytes 5-9/*"), Some((5, 9)));
        assert_eq!(chunk("bytes=5-9"), Some((5, 9)));
        for bad in ["", "-", "5", "9-5", "-5", "5-", "a-b", "0-18446744073709551615"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }
}
