//! Scalars as twemproxy takes them: it reads text and never asks whether it was quoted.
//!
//! Everything is parsed inside a visitor, so that errors carry the line of the scalar itself.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};

/// A scalar that is parsed from its text.
struct Scalar<T, F> {
    expected: &'static str,
    parse: F,
    made: PhantomData<T>,
}

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Scalar<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        (self.parse)(value).map_err(E::custom)
    }
}

/// A number from 0 up, quoted or not.
pub(super) fn number<'de, D: Deserializer<'de>, N: FromStr>(deserializer: D) -> Result<N, D::Error> {
    let parse = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number, or too large"));
    deserializer.deserialize_any(Scalar { expected: "a number", parse, made: PhantomData })
}

/// As [`number`], for keys that may be absent.
pub(super) fn optional_number<'de, D: Deserializer<'de>, N: FromStr>(deserializer: D) -> Result<Option<N>, D::Error> {
    number(deserializer).map(Some)
}

/// `true` or `false`, quoted or not.
pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let parse = |text: &str| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is not \"true\" or \"false\"")),
    };
    deserializer.deserialize_any(Scalar { expected: "true or false", parse, made: PhantomData })
}

/// What has a text of its own: addresses, hashes, distributions.
pub(super) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    let parse = |text: &str| text.parse().map_err(|error: T::Err| error.to_string());
    deserializer.deserialize_str(Scalar { expected: "text", parse, made: PhantomData })
}

/// As [`parsed`], for keys that may be absent.
pub(super) fn optional<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    parsed(deserializer).map(Some)
}
