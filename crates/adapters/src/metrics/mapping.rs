//! Any JSON or text becomes metrics by a mapping file.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serving::ConfigError;

use super::exposition::{Kind, Metrics, legal_name};

/// The mapping file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mapping {
    /// One rule a metric.
    pub metrics: Vec<Rule>,
}

/// How one metric is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The metric's name.
    pub name: String,
    /// What it tells.
    #[serde(default)]
    pub help: String,
    /// What it is.
    #[serde(default, rename = "type")]
    pub kind: Kind,
    /// In JSON: a list or an object of which each element makes a sample (a JSON pointer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// In JSON: the value (a JSON pointer, within the element if there are several).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// In text: an expression; its group `value`, or else its first, is the value, its other named groups are labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// Labels: a JSON pointer within the element, `$key` for its key or number, or `=text` for a fixed text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Numbers for words, such as `{up: 1, down: 0}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, f64>,
    /// What the value is multiplied by, such as 0.001 for milliseconds to seconds.
    #[serde(default = "one")]
    pub scale: f64,
}

fn one() -> f64 {
    1.0
}

impl Mapping {
    /// Reads a mapping file and judges it.
    ///
    /// # Errors
    /// With the field that cannot be used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mapping: Self = serving::from_yaml(text)?;
        for (at, rule) in mapping.metrics.iter().enumerate() {
            let wrong = |field: &str, reason: &str| Err(ConfigError::field(format!("metrics[{at}].{field}"), reason));
            if rule.name.is_empty() || legal_name(&rule.name) != rule.name {
                return wrong("name", "must be letters, digits, underscores and colons");
            }
            if rule.labels.keys().any(|label| legal_name(label) != *label || label.contains(':')) {
                return wrong("labels", "names must be letters, digits and underscores");
            }
            match (&rule.value, &rule.regex) {
                (None, Some(regex)) => {
                    if let Err(error) = Regex::new(regex) {
                        return wrong("regex", &error.to_string());
                    }
                }
                (Some(_), None) => {}
                _ => return wrong("value", "needs either value (for JSON) or regex (for text)"),
            }
        }
        Ok(mapping)
    }

    /// The metrics in a JSON document.
    #[must_use]
    pub fn json(&self, document: &Value) -> Metrics {
        let mut metrics = Metrics::default();
        for rule in &self.metrics {
            let Some(pointer) = &rule.value else { continue };
            let elements: Vec<(String, &Value)> = match rule.each.as_ref().map(|each| document.pointer(each)) {
                None => vec![(String::new(), document)],
                Some(Some(Value::Array(list))) => {
                    list.iter().enumerate().map(|(at, element)| (at.to_string(), element)).collect()
                }
                Some(Some(Value::Object(fields))) => {
                    fields.iter().map(|(key, element)| (key.clone(), element)).collect()
                }
                Some(_) => continue,
            };
            for (key, element) in elements {
                let Some(value) = element.pointer(pointer).and_then(|value| rule.number(&plain(value)?)) else {
                    continue;
                };
                let label = |source: &String| match source.strip_prefix('=') {
                    Some(text) => text.to_owned(),
                    None if source == "$key" => key.clone(),
                    None => element.pointer(source).and_then(plain).unwrap_or_default(),
                };
                let labels: Vec<(&str, String)> =
                    rule.labels.iter().map(|(name, source)| (name.as_str(), label(source))).collect();
                let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                metrics.add(&rule.name, &rule.help, rule.kind, &labels, value);
            }
        }
        metrics
    }

    /// The metrics in a text.
    #[must_use]
    pub fn text(&self, text: &str) -> Metrics {
        let mut metrics = Metrics::default();
        for rule in &self.metrics {
            let Some(regex) = rule.regex.as_ref().and_then(|regex| Regex::new(regex).ok()) else { continue };
            for found in regex.captures_iter(text) {
                let value = found.name("value").or_else(|| found.get(1)).and_then(|value| rule.number(value.as_str()));
                let Some(value) = value else { continue };
                let named = regex.capture_names().flatten().filter(|name| *name != "value");
                let mut labels: Vec<(&str, &str)> =
                    named.filter_map(|name| Some((name, found.name(name)?.as_str()))).collect();
                let fixed =
                    rule.labels.iter().filter_map(|(name, source)| Some((name.as_str(), source.strip_prefix('=')?)));
                labels.extend(fixed);
                metrics.add(&rule.name, &rule.help, rule.kind, &labels, value);
            }
        }
        metrics
    }
}

impl Rule {
    fn number(&self, text: &str) -> Option<f64> {
        let value = match self.words.get(text) {
            Some(value) => *value,
            None => match text {
                "true" => 1.0,
                "false" => 0.0,
                text => text.trim().parse().ok()?,
            },
        };
        Some(value * self.scale)
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_mapped_by_pointers() {
        let mapping = Mapping::parse(
            "metrics:\n\
             - {name: app_up, value: /status, words: {green: 1, red: 0}}\n\
             - {name: app_queue_seconds, type: gauge, each: /queues, value: /wait_ms, scale: 0.001, labels: {queue: $key, zone: /zone, env: =test}}\n\
             - {name: app_list, each: /list, value: \"\", labels: {at: $key}}\n\
             - {name: app_missing, value: /nowhere}\n",
        )
        .unwrap();
        let metrics = mapping.json(&json!({
            "status": "green", "queues": {"mail": {"wait_ms": "250", "zone": 7}, "bad": {"wait_ms": null}}, "list": [true, 2, "x"],
        }));
        assert_eq!(metrics.value("app_up", &[]), Some(1.0));
        assert_eq!(
            metrics.value("app_queue_seconds", &[("env", "test"), ("queue", "mail"), ("zone", "7")]),
            Some(0.25)
        );
        assert_eq!(metrics.value("app_list", &[("at", "0")]), Some(1.0));
        assert_eq!(metrics.value("app_list", &[("at", "1")]), Some(2.0));
        assert_eq!(metrics.families().len(), 3);
        assert_eq!(mapping.json(&json!([1])).families().len(), 0);
    }

    #[test]
    fn text_is_mapped_by_expressions() {
        let mapping = Mapping::parse(
            "metrics: [{name: jobs, type: counter, regex: '(?m)^(?<queue>\\w+) jobs: (?<value>\\d+)$', labels: {host: =a}}]",
        )
        .unwrap();
        let metrics = mapping.text("mail jobs: 3\nweb jobs: 4\nweb jobs: many\n");
        assert_eq!(metrics.value("jobs", &[("queue", "web"), ("host", "a")]), Some(4.0));
        assert_eq!(metrics.families()[0].samples.len(), 2);
    }

    #[test]
    fn a_mapping_that_cannot_be_used_names_its_field() {
        for (text, field) in [
            ("metrics: [{name: 'a b', value: /x}]", "metrics[0].name"),
            ("metrics: [{name: a}]", "metrics[0].value"),
            ("metrics: [{name: a, regex: '('}]", "metrics[0].regex"),
            ("metrics: [{name: a, value: /x, labels: {'a-b': =c}}]", "metrics[0].labels"),
        ] {
            assert_eq!(Mapping::parse(text).unwrap_err().field, field, "{text}");
        }
    }
}
