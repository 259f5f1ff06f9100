//! Label selectors and node selectors.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

pub(crate) type Labels = BTreeMap<String, String>;

/// One condition on a label.
#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
    /// An operator or operand that makes no sense: upstream's parse error, which matches nothing.
    Never,
}

/// All of these conditions; none at all match everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    requirements: Vec<Requirement>,
    /// A null selector.
    nothing: bool,
}

impl Selector {
    /// `None` (a null selector) matches nothing, an empty one everything.
    pub fn of_labels(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self { requirements: Vec::new(), nothing: true } };
        let equal =
            |(key, value): (&String, &String)| Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) };
        let mut requirements: Vec<_> = selector.match_labels.iter().flatten().map(equal).collect();
        for expression in selector.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            let test = match expression.operator.as_str() {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::DoesNotExist,
                _ => Test::Never,
            };
            requirements.push(Requirement { key: expression.key.clone(), test });
        }
        Self { requirements, nothing: false }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.test.holds(labels.get(&r.key).map(String::as_str)))
    }

    /// Whether it is null, and matches nothing.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether it matches whatever there is.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

/// One term of a node selector: all its conditions on labels and on the node's name.
#[derive(Clone, Debug)]
pub(crate) struct NodeTerm {
    labels: Vec<Requirement>,
    name: Vec<Test>,
}

/// Any of its terms; none match nothing.
#[derive(Clone, Debug)]
pub(crate) struct NodeTerms(Vec<NodeTerm>);

impl NodeTerms {
    pub fn new(selector: &NodeSelector) -> Self {
        Self(selector.node_selector_terms.iter().map(NodeTerm::new).collect())
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.0.iter().any(|term| term.matches(name, labels))
    }

    /// For each term its demands of the form "this label has one of these values"; a node that matches
    /// meets those of a term.
    pub fn demands(&self) -> impl Iterator<Item = Vec<(&str, &[String])>> {
        self.0.iter().map(|term| {
            let mut demands = Vec::new();
            for requirement in &term.labels {
                if let Test::In(values) = &requirement.test {
                    demands.push((requirement.key.as_str(), values.as_slice()));
                }
            }
            demands
        })
    }

    /// The only node names that can match, if each term names its nodes (as those of DaemonSet pods do).
    pub fn names(&self) -> Option<Vec<&str>> {
        let mut all = Vec::new();
        for term in &self.0 {
            let names =
                term.name.iter().find_map(|test| if let Test::In(names) = test { Some(names) } else { None })?;
            all.extend(names.iter().map(String::as_str));
        }
        Some(all)
    }
}

impl NodeTerm {
    pub fn new(term: &NodeSelectorTerm) -> Self {
        let labels = term.match_expressions.iter().flatten();
        let fields = term.match_fields.iter().flatten();
        Self {
            labels: labels.map(|r| Requirement { key: r.key.clone(), test: Test::of_node(r) }).collect(),
            name: fields.map(|r| if r.key == "metadata.name" { Test::of_node(r) } else { Test::Never }).collect(),
        }
    }

    /// A term without conditions matches nothing.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        !(self.labels.is_empty() && self.name.is_empty())
            && self.name.iter().all(|test| test.holds(Some(name)))
            && self.labels.iter().all(|r| r.test.holds(labels.get(&r.key).map(String::as_str)))
    }
}

impl Test {
    fn of_node(requirement: &NodeSelectorRequirement) -> Self {
        let values = requirement.values.clone().unwrap_or_default();
        let number = || match &values[..] {
            [one] => one.parse::<i64>().ok(),
            _ => None,
        };
        match requirement.operator.as_str() {
            "In" => Self::In(values),
            "NotIn" => Self::NotIn(values),
            "Exists" => Self::Exists,
            "DoesNotExist" => Self::DoesNotExist,
            "Gt" => number().map_or(Self::Never, Self::Gt),
            "Lt" => number().map_or(Self::Never, Self::Lt),
            _ => Self::Never,
        }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Self::NotIn(values) => value.is_none_or(|v| values.iter().all(|w| w != v)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::Gt(than) => number().is_some_and(|n| n > *than),
            Self::Lt(than) => number().is_some_and(|n| n < *than),
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn a_null_selector_matches_nothing_and_an_empty_one_everything() {
        assert!(!Selector::of_labels(None).matches(&labels(&[])));
        assert!(Selector::of_labels(Some(&LabelSelector::default())).matches(&labels(&[])));
    }

    #[test]
    fn each_node_operator_does_what_it_says() {
        let node = labels(&[("zone", "a"), ("cores", "8")]);
        for (key, operator, values, want) in [
            ("zone", "In", vec!["a", "b"], true),
            ("zone", "In", vec!["b"], false),
            ("rack", "In", vec!["a"], false),
            ("zone", "NotIn", vec!["b"], true),
            ("zone", "NotIn", vec!["a"], false),
            ("rack", "NotIn", vec!["a"], true),
            ("zone", "Exists", vec![], true),
            ("rack", "Exists", vec![], false),
            ("zone", "DoesNotExist", vec![], false),
            ("rack", "DoesNotExist", vec![], true),
            ("cores", "Gt", vec!["7"], true),
            ("cores", "Gt", vec!["8"], false),
            ("cores", "Lt", vec!["9"], true),
            ("zone", "Lt", vec!["9"], false),
            ("rack", "Lt", vec!["9"], false),
            ("cores", "Gt", vec!["many"], false),
        ] {
            let requirement = NodeSelectorRequirement {
                key: key.into(),
                operator: operator.into(),
                values: Some(values.iter().map(|v| v.to_string()).collect()),
            };
            let term =
                NodeTerm::new(&NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None });
            assert_eq!(term.matches("n", &node), want, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn an_empty_term_matches_no_node() {
        assert!(!NodeTerm::new(&NodeSelectorTerm::default()).matches("n", &labels(&[("a", "b")])));
    }
}
