//! Label selectors, from their string form and from `metav1.LabelSelector` objects.

use std::fmt;

use serde_json::{Map, Value};

use super::{
    legal::{key_faults, value_faults},
    parser::Parser,
};

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`.
    Equals,
    /// `==`.
    DoubleEquals,
    /// `!=`: also true where the label is absent.
    NotEquals,
    /// `in (…)`.
    In,
    /// `notin (…)`: also true where the label is absent.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// `>` as integers.
    GreaterThan,
    /// `<` as integers.
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The condition.
    pub operator: Operator,
    /// Sorted, without repetition when parsed from a string.
    pub values: Vec<String>,
}

/// All its requirements must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSelector {
    /// `None` selects nothing (a null `LabelSelector`); an empty list selects everything.
    requirements: Option<Vec<Requirement>>,
}

/// Why a selector was refused: upstream's text. 400 Bad Request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LabelError(pub String);

impl LabelSelector {
    /// Selects every object.
    pub const fn everything() -> Self {
        Self { requirements: Some(Vec::new()) }
    }

    /// Selects no object.
    pub const fn nothing() -> Self {
        Self { requirements: None }
    }

    /// Reads the string form: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Requirements are ordered by key.
    pub fn parse(text: &str) -> Result<Self, LabelError> {
        let mut requirements = Parser::new(text).parse().map_err(LabelError)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements: Some(requirements) })
    }

    /// Reads a `metav1.LabelSelector`: null selects nothing, `{}` everything.
    pub fn from_object(selector: &Value) -> Result<Self, LabelError> {
        let Value::Object(selector) = selector else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        if let Some(Value::Object(labels)) = selector.get("matchLabels") {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_owned();
                requirements.push(Requirement::new(key.clone(), Operator::Equals, vec![value], "")?);
            }
        }
        if let Some(Value::Array(expressions)) = selector.get("matchExpressions") {
            for expression in expressions {
                requirements.push(Self::expression(expression)?);
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements: Some(requirements) })
    }

    /// Reads a plain map of labels (a Service's or ReplicationController's selector): all must be equal.
    pub fn from_labels(labels: &Map<String, Value>) -> Self {
        let mut requirements: Vec<_> = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::Equals,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements: Some(requirements) }
    }

    fn expression(expression: &Value) -> Result<Requirement, LabelError> {
        let operator = match expression["operator"].as_str().unwrap_or_default() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(LabelError(format!("{other:?} is not a valid label selector operator"))),
        };
        let values = expression["values"].as_array().map_or(&[][..], Vec::as_slice);
        let values = values.iter().map(|v| v.as_str().unwrap_or_default().to_owned()).collect();
        Requirement::new(expression["key"].as_str().unwrap_or_default().to_owned(), operator, values, "")
    }

    /// Whether an object with these labels is selected; `None` is an object without labels.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let Some(requirements) = &self.requirements else {
            return false;
        };
        requirements.iter().all(|r| r.matches(labels.and_then(|l| l.get(&r.key)).and_then(Value::as_str)))
    }

    /// Whether an object is selected, by its `metadata.labels`.
    pub fn matches_object(&self, object: &Value) -> bool {
        match &self.requirements {
            Some(requirements) if requirements.is_empty() => true,
            _ => self.matches(object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object)),
        }
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.as_ref().is_some_and(Vec::is_empty)
    }

    /// The requirements, ordered by key; none for a selector of nothing.
    pub fn requirements(&self) -> &[Requirement] {
        self.requirements.as_deref().unwrap_or_default()
    }
}

impl Requirement {
    /// A checked requirement; `path` names the place in error texts (empty: upstream's `key`, `values`).
    pub fn new(key: String, operator: Operator, values: Vec<String>, path: &str) -> Result<Self, LabelError> {
        let mut faults = Vec::new();
        let at = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
        let key_faults = key_faults(&key);
        if !key_faults.is_empty() {
            faults.push(format!("{}: Invalid value: {key:?}: {}", at("key"), key_faults.join("; ")));
        }
        let mut wrong = |reason: &str| {
            let shown: Vec<_> = values.iter().map(|v| format!("{v:?}")).collect();
            faults.push(format!("{}: Invalid value: [{}]: {reason}", at("values"), shown.join(",")));
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                wrong("for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                wrong("exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                wrong("values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    wrong("for 'Gt', 'Lt' operators, exactly one value is required");
                }
                for (index, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        faults.push(format!(
                            "{}[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                            at("values")
                        ));
                    }
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let value_faults = value_faults(value);
            if !value_faults.is_empty() {
                faults.push(format!(
                    "{}[{index}][{key}]: Invalid value: {value:?}: {}",
                    at("values"),
                    value_faults.join("; ")
                ));
            }
        }
        match faults.len() {
            0 => Ok(Self { key, operator, values }),
            1 => Err(LabelError(faults.remove(0))),
            _ => Err(LabelError(format!("[{}]", faults.join(", ")))),
        }
    }

    fn matches(&self, label: Option<&str>) -> bool {
        let among = |label: &str| self.values.iter().any(|v| v == label);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => label.is_some_and(among),
            Operator::NotEquals | Operator::NotIn => !label.is_some_and(among),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let (Some(label), Some(bound)) = (label, self.values.first()) else {
                    return false;
                };
                match (label.parse::<i64>(), bound.parse::<i64>()) {
                    (Ok(label), Ok(bound)) if self.operator == Operator::GreaterThan => label > bound,
                    (Ok(label), Ok(bound)) => label < bound,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: Vec<_> = self.values.iter().map(String::as_str).collect();
        values.sort_unstable();
        let (key, values) = (&self.key, values.join(","));
        match self.operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}
