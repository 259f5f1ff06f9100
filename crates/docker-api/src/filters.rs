//! The `filters` query: `{"name": ["a"]}`, or `{"name": {"a": true}}` as older clients write it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{ApiError, Result};

/// Parsed filters.
#[derive(Debug, Default, Clone)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    pub fn parse(text: Option<&str>) -> Result<Self> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let invalid = || ApiError::bad(format!("invalid filter: {text}"));
        let value: Value = serde_json::from_str(text).map_err(|_| invalid())?;
        let mut filters = BTreeMap::new();
        for (key, values) in value.as_object().ok_or_else(invalid)? {
            let list = match values {
                Value::Array(list) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
                Value::Object(map) => {
                    map.iter().filter(|(_, on)| on.as_bool() == Some(true)).map(|(k, _)| k.clone()).collect()
                }
                _ => return Err(invalid()),
            };
            filters.insert(key.clone(), list);
        }
        Ok(Self(filters))
    }

    /// Refuses keys that are not among `known`.
    pub fn expect(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ApiError::bad(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// The values of a key, if it is filtered by.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether the key is absent or one of its values fits.
    pub fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Whether all `label` (and no `label!`) values hold: `key` or `key=value`.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(holds) && !self.values("label!").iter().any(holds)
    }

    /// A yes or no; an error for anything else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.values(key) {
            [] => Ok(None),
            [value] => match value.as_str() {
                "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(Some(true)),
                "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(Some(false)),
                _ => Err(ApiError::bad(format!("invalid filter '{key}={value}'"))),
            },
            many => Err(ApiError::bad(format!("invalid filter '{key}={many:?}'"))),
        }
    }
}

/// Whether a name filter, a regular expression, finds itself in a name, or is it. One that is none finds nothing.
pub(crate) fn name_matches(pattern: &str, name: &str) -> bool {
    pattern == name || regex_lite::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(name))
}

/// `path.Match` of Go for references: `*` is any run without a slash, `?` one character, `[a-c]` one of those.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    builder::pattern::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_filters_are_read() {
        for text in [r#"{"status":["exited","dead"]}"#, r#"{"status":{"exited":true,"dead":true,"x":false}}"#] {
            let filters = Filters::parse(Some(text)).unwrap();
            assert!(filters.any("status", |s| s == "dead") && !filters.any("status", |s| s == "x"));
        }
        assert!(Filters::parse(Some("[]")).is_err());
        assert!(Filters::parse(Some(r#"{"a":["b"]}"#)).unwrap().expect(&["name"]).is_err());
    }

    #[test]
    fn names_match_as_expressions_and_references_as_globs() {
        assert!(name_matches("web", "myweb1") && name_matches("^/?web$", "web") && !name_matches("^web$", "web1"));
        assert!(name_matches("^a.*z$", "abcz") && !name_matches("^a.*z$", "bz"));
        assert!(name_matches("^(web|db)[0-9]$", "db7") && !name_matches("^(web|db)[0-9]$", "db"));
        assert!(name_matches("a(", "a(") && !name_matches("a(", "ba("), "not an expression: only itself");
        assert!(glob("bus*", "busybox") && !glob("bus*", "bus/y") && glob("*:1", "a:1"));
        assert!(glob("b[tu]s[^x]", "busy") && !glob("b[tu]s[^x]", "busx") && !glob("b[", "b["));
    }
}
