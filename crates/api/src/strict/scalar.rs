//! Scalars that have a form of their own: they are checked and take their canonical form.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{quantity::Quantity, status::quoted};

/// `metav1.Time`: RFC 3339 in UTC, whole seconds.
pub fn time(text: &str) -> Result<String, String> {
    if has_form(text, b"0000-00-00T00:00:00Z") && parse(text).is_ok() {
        return Ok(text.into());
    }
    Ok(parse(text)?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// `metav1.MicroTime`: RFC 3339 in UTC, microseconds.
pub fn micro_time(text: &str) -> Result<String, String> {
    Ok(parse(text)?.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

/// Go's `time.Parse(time.RFC3339, …)`, which is stricter than RFC 3339 itself.
fn parse(text: &str) -> Result<Timestamp, String> {
    let fault =
        || format!("parsing time {0} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0} as \"2006\"", quoted(text));
    let zone = text.len().saturating_sub(6);
    let shaped = text.len() >= 20
        && text.is_ascii()
        && has_form(&text[..19], b"0000-00-00T00:00:00")
        && (text.ends_with('Z') || has_form(&text[zone..], b"+00:00") || has_form(&text[zone..], b"-00:00"));
    if !shaped {
        return Err(fault());
    }
    text.parse::<Timestamp>().map_err(|_| fault())
}

/// Whether `text` looks like `form`, in which a `0` stands for any digit.
fn has_form(text: &str, form: &[u8]) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form).all(|(c, f)| if *f == b'0' { c.is_ascii_digit() } else { c == *f })
}

/// Go's `base64.StdEncoding`: line breaks are skipped, stray bits at the end are forgiven.
pub fn base64(text: &str) -> Result<String, String> {
    const ENGINE: GeneralPurpose =
        GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    if is_plain_base64(text.as_bytes()) {
        return Ok(text.into());
    }
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match ENGINE.decode(&joined) {
        Ok(bytes) => Ok(ENGINE.encode(bytes)),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => joined.len() / 4 * 4,
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

/// Whether the text is canonical: whole groups, right characters, no stray bits before the padding.
fn is_plain_base64(text: &[u8]) -> bool {
    let (body, stray) = match text {
        [body @ .., b'=', b'='] => (body, 0b1111),
        [body @ .., b'='] => (body, 0b11),
        body => (body, 0),
    };
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    text.len().is_multiple_of(4)
        && body.iter().all(|c| digit(*c).is_some())
        && body.last().and_then(|c| digit(*c)).is_none_or(|last| last & stray == 0)
        && (stray == 0 || !body.is_empty())
}

/// Short whole numbers, plain, in thousandths or with a binary suffix, that are canonical as they stand.
pub fn is_canonical_quantity(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let digits = number.as_bytes();
    let whole = matches!(digits, [b'1'..=b'9', rest @ ..] if rest.len() < 9 && rest.iter().all(u8::is_ascii_digit));
    match &text[number.len()..] {
        "" if number == "0" => true,
        // Three zeros call for the next suffix.
        "" | "m" => whole && !number.ends_with("000"),
        "Ki" | "Mi" | "Gi" | "Ti" => whole && digits.len() <= 3,
        _ => false,
    }
}

/// The canonical text of a quantity.
pub fn quantity(value: &Value) -> Result<String, String> {
    Quantity::from_json(value).map(|quantity| quantity.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_the_form_of_utc_seconds() {
        assert_eq!(time("2026-01-02T03:04:05Z").as_deref(), Ok("2026-01-02T03:04:05Z"));
        assert_eq!(time("2026-01-02T03:04:05.678+02:00").as_deref(), Ok("2026-01-02T01:04:05Z"));
        assert_eq!(micro_time("2026-01-02T03:04:05.6Z").as_deref(), Ok("2026-01-02T03:04:05.600000Z"));
        for wrong in
            ["", "yesterday", "2026-01-02", "2026-13-02T03:04:05Z", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantities_known_to_be_canonical_are_what_the_parser_makes_of_them() {
        for text in ["0", "1", "100m", "250m", "12", "100", "512Mi", "1Gi", "999Ki", "1500m", "123456789"] {
            assert!(is_canonical_quantity(text), "{text}");
            assert_eq!(quantity(&Value::from(text)).as_deref(), Ok(text));
        }
        for text in ["1000m", "1000", "1024Mi", "0.1", "+1", "", "m", "1e3", "01", "1 Gi"] {
            assert!(!is_canonical_quantity(text), "{text}");
        }
        assert_eq!(quantity(&Value::from(0.1)).as_deref(), Ok("100m"));
        assert_eq!(quantity(&Value::from("1024Mi")).as_deref(), Ok("1Gi"));
    }

    #[test]
    fn base64_is_checked_and_made_canonical() {
        for text in ["", "QQ==", "QUI=", "QUJD", "+/+/"] {
            assert!(is_plain_base64(text.as_bytes()), "{text}");
            assert_eq!(base64(text).as_deref(), Ok(text));
        }
        assert_eq!(base64("QUI\n=").as_deref(), Ok("QUI="));
        assert_eq!(base64("QR==").as_deref(), Ok("QQ=="), "stray bits are forgiven");
        assert_eq!(base64("a$bc"), Err("illegal base64 data at input byte 1".into()));
        assert!(base64("abc").is_err());
        assert!(base64("====").is_err());
    }
}
