//! Quantities behave as `resource.Quantity`.

use api::quantity::{Format, ParseError, Quantity};
use serde_json::json;

fn parse(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn text_becomes_canonical() {
    let cases = [
        ("0", "0"),
        ("0Ki", "0"),
        ("1", "1"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("0.1", "100m"),
        ("1.5", "1500m"),
        ("2.5k", "2500"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1000k", "1M"),
        ("50k", "50k"),
        ("100.5", "100500m"),
        ("1Ki", "1Ki"),
        ("1024Ki", "1Mi"),
        ("1024Mi", "1Gi"),
        ("1500Mi", "1500Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Mi", "512Ki"),
        ("0.5Ki", "512"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("129M", "129M"),
        ("123Mi", "123Mi"),
        ("1e3", "1e3"),
        ("1E3", "1E3"),
        ("1.2e3", "1200"),
        ("1e14", "100e12"),
        ("12e-3", "12e-3"),
        ("1n", "1n"),
        ("1000n", "1u"),
        ("1.1n", "2n"),
        ("0.0000000001", "1n"),
        ("-1.1n", "-2n"),
        ("-100m", "-100m"),
        ("-0.5", "-500m"),
        ("100.035Ki", "102435840m"),
        ("1E", "1E"),
        ("12E", "12E"),
        ("3Ei", "3Ei"),
        (".5", "500m"),
        ("1.G", "1.G"),
    ];
    for (text, canonical) in cases {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn canonical_text_survives_as_it_came() {
    for text in ["1500m", "1e3", "12e6", "250Mi", "7Gi", "+5", "05", "1.", "1.500"] {
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn formats_follow_the_suffix() {
    let cases = [
        ("1", Format::DecimalSi),
        ("1k", Format::DecimalSi),
        ("1Ki", Format::BinarySi),
        ("1e3", Format::DecimalExponent),
        ("1E-3", Format::DecimalExponent),
        ("0.000000000001Ki", Format::DecimalSi),
    ];
    for (text, format) in cases {
        assert_eq!(parse(text).format(), format, "{text}");
    }
}

#[test]
fn bad_text_is_refused_in_upstreams_words() {
    for text in ["", "1.1.M", "1+1.0M", "aoeu", "0.1am", " 1", "1 ", "1,5", "0x10", "1KI"] {
        assert_eq!(text.parse::<Quantity>().unwrap_err(), ParseError::Format, "{text}");
    }
    for text in ["0.1mi", ".5i", "1i", "-3.01i", "-3.01e-", "1mm", "1e"] {
        assert_eq!(text.parse::<Quantity>().unwrap_err(), ParseError::Suffix, "{text}");
    }
    assert_eq!(
        ParseError::Format.to_string(),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
    assert_eq!(ParseError::Suffix.to_string(), "unable to parse quantity's suffix");
}

#[test]
fn equal_amounts_are_equal_however_written() {
    for (left, right) in [
        ("1", "1000m"),
        ("1Gi", "1024Mi"),
        ("1k", "1e3"),
        ("0.5", "500m"),
        ("1Ki", "1024"),
        ("0", "0Gi"),
        ("8.1k", "8100"),
        ("2.5P", "25e14"),
        ("0.05Gi", "53687091.2"),
    ] {
        assert_eq!(parse(left), parse(right), "{left} {right}");
    }
}

#[test]
fn amounts_are_ordered() {
    for (less, more) in [
        ("50m", "100m"),
        ("-1", "1n"),
        ("-2", "-1"),
        ("100Gi", "10000T"),
        ("999m", "1"),
        ("1e100", "1e101"),
        ("-1e101", "1"),
        ("1G", "1Gi"),
    ] {
        assert!(parse(less) < parse(more), "{less} {more}");
        assert!(parse(more) > parse(less), "{less} {more}");
    }
}

#[test]
fn values_round_up_away_from_zero() {
    for (text, value, milli) in [
        ("1", 1, 1000),
        ("100m", 1, 100),
        ("1500m", 2, 1500),
        ("-1500m", -2, -1500),
        ("1u", 1, 1),
        ("1Ki", 1024, 1_024_000),
        ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
        ("0", 0, 0),
        ("9.01", 10, 9010),
        ("9Ei", i64::MAX, i64::MAX),
        ("1e30", i64::MAX, i64::MAX),
    ] {
        assert_eq!(parse(text).value(), value, "{text}");
        assert_eq!(parse(text).milli_value(), milli, "{text}");
    }
}

#[test]
fn binary_amounts_end_at_the_largest_integer() {
    assert_eq!(parse("9223372036854775807Ki").value(), i64::MAX);
    assert_eq!(parse("9223372036854775807Ki"), parse("9223372036854775807"));
    assert_eq!(parse("99999999999999999999999999999999999999999Ei").value(), i64::MAX);
}

#[test]
fn sums_keep_the_form_of_the_first_that_is_not_zero() {
    let mut sum = parse("1Gi");
    sum.add(&parse("512Mi"));
    assert_eq!(sum.to_string(), "1536Mi");
    sum.sub(&parse("1536Mi"));
    assert_eq!(sum.to_string(), "0");
    sum.add(&parse("100m"));
    sum.add(&parse("1"));
    assert_eq!(sum.to_string(), "1100m");
    sum.mul(10);
    assert_eq!(sum.to_string(), "11");
    sum.neg();
    assert_eq!(sum.to_string(), "-11");
    assert_eq!(sum.signum(), -1);
}

#[test]
fn quantities_are_made_from_numbers() {
    assert_eq!(Quantity::new(2048, Format::BinarySi).to_string(), "2Ki");
    assert_eq!(Quantity::new(1000, Format::BinarySi).to_string(), "1k");
    assert_eq!(Quantity::from_milli(1500, Format::DecimalSi).to_string(), "1500m");
    assert_eq!(Quantity::from_milli(2000, Format::DecimalSi).to_string(), "2");
    assert_eq!(Quantity::new(5000, Format::DecimalExponent).to_string(), "5e3");
}

#[test]
fn json_may_hold_text_or_number() {
    assert_eq!(Quantity::from_json(&json!(2)).unwrap().to_string(), "2");
    assert_eq!(Quantity::from_json(&json!(0.5)).unwrap().to_string(), "500m");
    assert_eq!(Quantity::from_json(&json!(" 1Gi ")).unwrap().to_string(), "1Gi");
    assert_eq!(Quantity::from_json(&json!(null)).unwrap().to_string(), "0");
    assert!(Quantity::from_json(&json!([])).is_err());
    assert!(Quantity::from_json(&json!("1 Gi")).is_err());
}
