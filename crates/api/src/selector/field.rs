//! Field selectors: `metadata.name=web,status.phase!=Running`.

use std::fmt;

use serde_json::Value;

/// One comparison of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's label, for instance `status.phase`.
    pub field: String,
    /// Whether it must be equal, or must differ.
    pub equal: bool,
    /// Unescaped.
    pub value: String,
}

/// All its requirements must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// Why a field selector was refused: upstream's texts. 400 Bad Request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A term without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The term.
        term: String,
    },
    /// A backslash before something else than `\`, `,` or `=`.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A bare `,` or `=` in a value; the number is its code point, as upstream prints it.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(u32),
    /// The kind can be selected by nothing but its name, and was asked for that field.
    #[error("\"{0}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    Unknown(String),
    /// The kind can't be selected by that field, though by some of its own.
    #[error("field label not supported: {0}")]
    Unsupported(String),
}

impl FieldSelector {
    /// Reads the string form. Terms are ordered by their text.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms {
            if term.is_empty() {
                continue;
            }
            let (field, equal, value) = split_term(term)
                .ok_or_else(|| FieldError::Term { selector: text.to_owned(), term: term.to_owned() })?;
            requirements.push(FieldRequirement { field: field.to_owned(), equal, value: unescape(value)? });
        }
        Ok(Self { requirements })
    }

    /// Refuses fields other than `metadata.name`, `metadata.namespace` (of namespaced kinds) and `selectable`,
    /// whose entries are (label, JSON pointer).
    pub fn check(&self, namespaced: bool, selectable: &[(&str, &str)]) -> Result<(), FieldError> {
        for requirement in &self.requirements {
            let field = requirement.field.as_str();
            let known = field == "metadata.name"
                || (namespaced && field == "metadata.namespace")
                || selectable.iter().any(|(label, _)| *label == field);
            if !known {
                let field = field.to_owned();
                return Err(if selectable.is_empty() {
                    FieldError::Unknown(field)
                } else {
                    FieldError::Unsupported(field)
                });
            }
        }
        Ok(())
    }

    /// Whether an object is selected; an absent field counts as empty text. Of a label's several places, the first that
    /// says something counts.
    pub fn matches(&self, object: &Value, selectable: &[(&str, &str)]) -> bool {
        self.requirements.iter().all(|requirement| {
            let found = match requirement.field.as_str() {
                "metadata.name" => object.get("metadata").and_then(|m| m.get("name")),
                "metadata.namespace" => object.get("metadata").and_then(|m| m.get("namespace")),
                field => {
                    let mut said = selectable.iter().filter(|(label, _)| *label == field);
                    said.find_map(|(_, at)| object.pointer(at).filter(|value| *value != ""))
                }
            };
            let same = match found {
                Some(Value::String(text)) => *text == requirement.value,
                Some(Value::Bool(b)) => requirement.value == if *b { "true" } else { "false" },
                Some(Value::Number(n)) => n.to_string() == requirement.value,
                // Booleans that are not there are false upstream, numbers zero; text is empty.
                _ => requirement.value.is_empty() || zero_of(&requirement.field) == Some(requirement.value.as_str()),
            };
            same == requirement.equal
        })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that a field must have, if the selector says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// The requirements, ordered by their text.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }
}

/// What upstream shows for an absent field that is no text.
fn zero_of(field: &str) -> Option<&'static str> {
    match field {
        "spec.unschedulable" | "spec.hostNetwork" => Some("false"),
        "status.successful" | "status.replicas" => Some("0"),
        _ => None,
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(index, _)| {
        let (field, rest) = term.split_at(index);
        ["!=", "==", "="].iter().find_map(|op| Some((field, *op != "!=", rest.strip_prefix(op)?)))
    })
}

fn unescape(text: &str) -> Result<String, FieldError> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => return Err(FieldError::Escape(format!("\\{other}"))),
                None => return Err(FieldError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldError::Unescaped(c.into())),
            _ => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            let operator = if requirement.equal { "=" } else { "!=" };
            let value = requirement.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{separator}{}{operator}{value}", requirement.field)?;
        }
        Ok(())
    }
}
