//! Many answers become one. Pure.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use serde_json::{Map, Number, Value};

use crate::config::Merge;

/// An answer that cannot be merged: the leaf counts as missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The answer has no list where the configuration says.
    #[error("the answer has no list at {0:?}")]
    NoList(String),
    /// The answer has nothing where the configuration says.
    #[error("the answer has nothing at {0:?}")]
    NoValue(String),
    /// Something other than numbers, or objects of them, cannot be added.
    #[error("{0} cannot be added")]
    NotANumber(&'static str),
}

/// What a leaf said, taken out of its answer: judged per leaf, so that one leaf's nonsense spoils nobody else's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Of union, intersection and top-k.
    List(Vec<Value>),
    /// Of a sum, numbers only.
    Numbers(Value),
    /// Of a user's function.
    Whole(Value),
}

/// What became of all parts.
#[derive(Clone, Debug, PartialEq)]
pub enum Merged {
    /// Of union, intersection and top-k.
    Items(Vec<Value>),
    /// Of a sum.
    Sum(Value),
    /// For a user's function, which merges itself.
    Unmerged(Vec<Value>),
}

/// Takes out of a leaf's answer what will be merged.
///
/// # Errors
/// When the answer is not of the shape that the configuration says.
pub fn part(merge: &Merge, answer: Value) -> Result<Part, MergeError> {
    match merge {
        Merge::Union { items, .. } | Merge::Intersection { items, .. } | Merge::TopK { items, .. } => {
            match take(answer, items) {
                Some(Value::Array(items)) => Ok(Part::List(items)),
                _ => Err(MergeError::NoList(items.clone())),
            }
        }
        Merge::Sum { value } => {
            let value = match value {
                Some(pointer) => take(answer, pointer).ok_or_else(|| MergeError::NoValue(pointer.clone()))?,
                None if answer.get("value").is_some() => take(answer, "/value").unwrap_or_default(),
                None => answer,
            };
            numbers_only(&value)?;
            Ok(Part::Numbers(value))
        }
        Merge::Function { .. } => Ok(Part::Whole(answer)),
    }
}

/// Merges the parts, in the order of the leaves. `k` bounds top-k further than its own.
#[must_use]
pub fn merge(merge: &Merge, k: Option<usize>, parts: Vec<Part>) -> Merged {
    match merge {
        Merge::Union { key, .. } => Merged::Items(union(lists(parts), key.as_deref())),
        Merge::Intersection { key, .. } => Merged::Items(intersection(lists(parts), key.as_deref())),
        Merge::TopK { k: most, by, ascending, key, .. } => {
            let k = k.map_or(*most, |k| k.min(*most));
            Merged::Items(top(lists(parts), k, by, *ascending, key.as_deref()))
        }
        Merge::Sum { .. } => Merged::Sum(
            parts
                .into_iter()
                .filter_map(|part| if let Part::Numbers(value) = part { Some(value) } else { None })
                .reduce(add)
                .unwrap_or_else(|| Value::from(0)),
        ),
        Merge::Function { .. } => Merged::Unmerged(
            parts
                .into_iter()
                .filter_map(|part| if let Part::Whole(value) = part { Some(value) } else { None })
                .collect(),
        ),
    }
}

fn lists(parts: Vec<Part>) -> Vec<Vec<Value>> {
    parts.into_iter().filter_map(|part| if let Part::List(list) = part { Some(list) } else { None }).collect()
}

/// A list that is the whole answer needs no pointer.
fn take(mut answer: Value, pointer: &str) -> Option<Value> {
    if pointer.is_empty() || (pointer == "/items" && answer.is_array()) {
        return Some(answer);
    }
    answer.pointer_mut(pointer).map(Value::take)
}

fn union(lists: Vec<Vec<Value>>, key: Option<&str>) -> Vec<Value> {
    let mut seen = HashSet::new();
    lists.into_iter().flatten().filter(|item| seen.insert(identity(item, key))).collect()
}

/// An item that a list holds twice counts once.
fn intersection(lists: Vec<Vec<Value>>, key: Option<&str>) -> Vec<Value> {
    let total = lists.len();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for list in &lists {
        let own: HashSet<String> = list.iter().map(|item| identity(item, key)).collect();
        for identity in own {
            *counts.entry(identity).or_default() += 1;
        }
    }
    let first = lists.into_iter().next().unwrap_or_default();
    first.into_iter().filter(|item| counts.remove(&identity(item, key)) == Some(total)).collect()
}

/// Equal items stay in the order of the leaves; items without the field come last.
fn top(lists: Vec<Vec<Value>>, k: usize, by: &str, ascending: bool, key: Option<&str>) -> Vec<Value> {
    let mut all: Vec<Value> = lists.into_iter().flatten().collect();
    all.sort_by(|left, right| compare(left.pointer(by), right.pointer(by), ascending));
    if let Some(key) = key {
        let mut seen = HashSet::new();
        all.retain(|item| seen.insert(identity(item, Some(key))));
    }
    all.truncate(k);
    all
}

fn compare(left: Option<&Value>, right: Option<&Value>, ascending: bool) -> Ordering {
    let directed = |ordering: Ordering| if ascending { ordering } else { ordering.reverse() };
    match (left, right) {
        (Some(Value::Number(left)), Some(Value::Number(right))) => directed(order(left, right)),
        (Some(Value::Number(_)), _) => Ordering::Less,
        (_, Some(Value::Number(_))) => Ordering::Greater,
        (Some(Value::String(left)), Some(Value::String(right))) => directed(left.cmp(right)),
        (Some(Value::String(_)), _) => Ordering::Less,
        (_, Some(Value::String(_))) => Ordering::Greater,
        _ => Ordering::Equal,
    }
}

/// Whole numbers are compared exactly.
fn order(left: &Number, right: &Number) -> Ordering {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => float(left).total_cmp(&float(right)),
    }
}

/// Two items with the same text are the same. Items that lack the key are told apart by their whole.
fn identity(item: &Value, key: Option<&str>) -> String {
    match key.and_then(|key| item.pointer(key)) {
        Some(Value::Object(_)) | None => canonical(item),
        Some(key) => key.to_string(),
    }
}

/// Keys in order, so that it does not matter how a leaf wrote them.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            let fields: Vec<String> =
                keys.into_iter().map(|key| format!("{key:?}:{}", canonical(&fields[key]))).collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn numbers_only(value: &Value) -> Result<(), MergeError> {
    match value {
        Value::Number(_) => Ok(()),
        Value::Object(fields) => fields.values().try_for_each(numbers_only),
        Value::Null => Err(MergeError::NotANumber("null")),
        Value::Bool(_) => Err(MergeError::NotANumber("a boolean")),
        Value::String(_) => Err(MergeError::NotANumber("a text")),
        Value::Array(_) => Err(MergeError::NotANumber("a list")),
    }
}

/// A number where another leaf has an object counts under the empty key, so that nothing is lost.
fn add(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Value::Number(add_numbers(&left, &right)),
        (Value::Object(mut left), Value::Object(right)) => {
            for (key, value) in right {
                let sum = match left.remove(&key) {
                    Some(before) => add(before, value),
                    None => value,
                };
                left.insert(key, sum);
            }
            Value::Object(left)
        }
        (Value::Object(fields), number) | (number, Value::Object(fields)) => {
            let lone = Map::from_iter([(String::new(), number)]);
            add(Value::Object(fields), Value::Object(lone))
        }
        (left, _) => left,
    }
}

/// Exact as long as both are whole numbers and the sum has 64 bits.
fn add_numbers(left: &Number, right: &Number) -> Number {
    let whole = whole(left).zip(whole(right)).map(|(left, right)| left + right).and_then(Number::from_i128);
    whole.or_else(|| Number::from_f64(float(left) + float(right))).unwrap_or_else(|| Number::from(u64::MAX))
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(rule: &Merge, answers: &[Value]) -> Merged {
        let parts = answers.iter().map(|answer| part(rule, answer.clone()).unwrap()).collect();
        merge(rule, None, parts)
    }

    fn rule(text: &str) -> Merge {
        serde_yaml_ng::from_str(text).unwrap()
    }

    #[test]
    fn a_union_holds_each_item_once_in_the_order_of_the_leaves() {
        let rule = rule("{kind: union, key: /id}");
        let merged = run(
            &rule,
            &[json!({"items": [{"id": 2, "from": "a"}, {"id": 1}]}), json!([{"id": 2, "from": "b"}, {"id": 3}])],
        );
        assert_eq!(merged, Merged::Items(vec![json!({"id": 2, "from": "a"}), json!({"id": 1}), json!({"id": 3})]));
    }

    #[test]
    fn items_are_the_same_however_their_keys_are_ordered() {
        let merged = run(
            &Merge::default(),
            &[json!([{"a": 1, "b": [{"x": 1, "y": 2}]}]), json!([{"b": [{"y": 2, "x": 1}], "a": 1}])],
        );
        assert_eq!(merged, Merged::Items(vec![json!({"a": 1, "b": [{"x": 1, "y": 2}]})]));
    }

    #[test]
    fn an_intersection_holds_what_every_leaf_has_and_repetition_does_not_count() {
        let rule = rule("{kind: intersection}");
        let merged = run(&rule, &[json!([1, 1, 2, 3]), json!([3, 3, 3, 2]), json!([2, 3, 9])]);
        assert_eq!(merged, Merged::Items(vec![json!(2), json!(3)]));
        assert_eq!(run(&rule, &[]), Merged::Items(vec![]));
        assert_eq!(run(&rule, &[json!([1]), json!([])]), Merged::Items(vec![]));
    }

    #[test]
    fn top_k_orders_by_the_field_and_puts_those_without_it_last() {
        let rule = rule("{kind: topK, k: 3, by: /score, key: /id}");
        let answers = [
            json!([{"id": "a", "score": 1}, {"id": "b"}]),
            json!([{"id": "c", "score": 9.5}, {"id": "a", "score": 7}]),
        ];
        let ids = |merged: Merged| match merged {
            Merged::Items(items) => {
                items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ids(run(&rule, &answers)), ["c", "a", "b"]);
        let parts = answers.iter().map(|answer| part(&rule, answer.clone()).unwrap()).collect();
        assert_eq!(ids(merge(&rule, Some(1), parts)), ["c"], "a client may ask for fewer");
        let parts = answers.iter().map(|answer| part(&rule, answer.clone()).unwrap()).collect();
        assert_eq!(ids(merge(&rule, Some(99), parts)), ["c", "a", "b"], "and not for more");
    }

    #[test]
    fn a_sum_is_exact_for_whole_numbers_and_adds_objects_by_key() {
        let rule = rule("{kind: sum}");
        let large = 9_007_199_254_740_993_u64;
        assert_eq!(run(&rule, &[json!(large), json!({"value": 1})]), Merged::Sum(json!(large + 1)));
        let merged = run(&rule, &[json!({"hits": 1, "by": {"de": 2}}), json!({"hits": 2.5, "by": {"fr": 1, "de": 1}})]);
        assert_eq!(merged, Merged::Sum(json!({"hits": 3.5, "by": {"de": 3, "fr": 1}})));
        assert_eq!(run(&rule, &[]), Merged::Sum(json!(0)));
    }

    #[test]
    fn merging_merged_answers_gives_what_one_level_would() {
        let leaves = [json!([{"s": 1}, {"s": 8}]), json!([{"s": 5}]), json!([{"s": 7}, {"s": 2}])];
        for rule in [rule("{kind: topK, k: 3, by: /s}"), rule("{kind: union}")] {
            let flat = run(&rule, &leaves);
            let envelope = |merged| if let Merged::Items(items) = merged { json!({"items": items}) } else { panic!() };
            let below = envelope(run(&rule, &leaves[..2]));
            assert_eq!(run(&rule, &[below, leaves[2].clone()]), flat);
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_told_apart_by_leaf() {
        assert_eq!(part(&Merge::default(), json!({"items": 1})), Err(MergeError::NoList("/items".into())));
        assert_eq!(part(&rule("{kind: sum, value: /n}"), json!({})), Err(MergeError::NoValue("/n".into())));
        assert_eq!(part(&rule("{kind: sum}"), json!({"a": "x"})), Err(MergeError::NotANumber("a text")));
    }
}
