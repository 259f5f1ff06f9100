//! Label selectors.

use api::selector::LabelSelector;
use serde_json::{Map, Value, json};

fn labels(pairs: &[(&str, &str)]) -> Map<String, Value> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect()
}

fn matches(selector: &str, pairs: &[(&str, &str)]) -> bool {
    let parsed = LabelSelector::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
    parsed.matches(Some(&labels(pairs)))
}

#[test]
fn requirements_select_by_labels() {
    for (selector, pairs) in [
        ("", &[("x", "y")][..]),
        ("x=y", &[("x", "y")]),
        ("x==y", &[("x", "y")]),
        ("x=y,z=w", &[("x", "y"), ("z", "w")]),
        ("x!=y,z!=w", &[("x", "z"), ("z", "a")]),
        ("x!=y", &[]),
        ("notin=in", &[("notin", "in")]),
        ("x", &[("x", "z")]),
        ("!x", &[("y", "z")]),
        ("! x", &[("y", "z")]),
        ("x>1", &[("x", "2")]),
        ("x<1", &[("x", "0")]),
        ("x in (a,b)", &[("x", "b")]),
        ("x in (a, b ),y", &[("x", "a"), ("y", "")]),
        ("x notin (a,b)", &[("x", "c")]),
        ("x notin (a,b)", &[]),
        ("x=", &[("x", "")]),
        ("x in ()", &[("x", "")]),
        ("x in (,a)", &[("x", "")]),
        ("x in (in,notin)", &[("x", "notin")]),
        ("app.kubernetes.io/name=web", &[("app.kubernetes.io/name", "web")]),
    ] {
        assert!(matches(selector, pairs), "{selector} {pairs:?}");
    }
    for (selector, pairs) in [
        ("x=z", &[][..]),
        ("x=y", &[("x", "z")]),
        ("x=y,z=w", &[("x", "w"), ("z", "w")]),
        ("x!=y,z!=w", &[("x", "z"), ("z", "w")]),
        ("x", &[("y", "z")]),
        ("!x", &[("x", "z")]),
        ("x>1", &[("x", "0")]),
        ("x>1", &[("x", "b")]),
        ("x<1", &[("x", "2")]),
        ("x in (a,b)", &[("x", "c")]),
        ("x in (a,b)", &[]),
        ("x notin (a,b)", &[("x", "a")]),
    ] {
        assert!(!matches(selector, pairs), "{selector} {pairs:?}");
    }
}

#[test]
fn selectors_print_in_key_order() {
    for (text, printed) in [
        ("x=a,a=x", "a=x,x=a"),
        ("x = a , b == c", "b==c,x=a"),
        ("x in (c,a,b)", "x in (a,b,c)"),
        ("x notin (b , a)", "x notin (a,b)"),
        ("!x,y", "!x,y"),
        ("x>1,z<5", "x>1,z<5"),
        ("x=,z= ", "x=,z="),
        ("x!=a", "x!=a"),
        ("", ""),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().to_string(), printed, "{text}");
    }
}

#[test]
fn bad_selectors_are_refused_in_upstreams_words() {
    for (text, message) in [
        ("x=a=b", "found '=', expected: ',' or 'end of string'"),
        ("x==a==b", "found '==', expected: ',' or 'end of string'"),
        ("!x=a", "found '=', expected: ',' or 'end of string'"),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("x,", "found '', expected: identifier after ','"),
        ("x in", "unable to parse requirement: found '' expected: '('"),
        ("x in a", "unable to parse requirement: found 'a' expected: '('"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("x y", "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt"),
        ("x=(", "unable to parse requirement: found '(', expected: identifier"),
        (
            "x<a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        (
            "x=a_",
            "unable to parse requirement: values[0][x]: Invalid value: \"a_\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            "-x",
            "unable to parse requirement: <nil>: Invalid value: \"-x\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn selector_objects_select_as_upstream() {
    let parse = |v: Value| LabelSelector::from_object(&v).unwrap();
    let web = labels(&[("app", "web"), ("tier", "front")]);
    assert!(!parse(Value::Null).matches(Some(&web)), "null selects nothing");
    assert!(parse(json!({})).matches(None), "an empty one selects all");
    assert!(parse(json!({"matchLabels": {"app": "web"}})).matches(Some(&web)));
    assert!(!parse(json!({"matchLabels": {"app": "db"}})).matches(Some(&web)));
    let both = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "zone", "operator": "DoesNotExist"},
        ],
    });
    assert!(parse(both.clone()).matches(Some(&web)));
    assert_eq!(parse(both).to_string(), "app=web,tier in (front,back),!zone".replace("front,back", "back,front"));
    let fault = LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}));
    assert_eq!(fault.unwrap_err().to_string(), "\"Is\" is not a valid label selector operator");
    let fault = LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "In"}]}));
    assert_eq!(
        fault.unwrap_err().to_string(),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}

#[test]
fn plain_maps_select_by_equality() {
    let selector = LabelSelector::from_labels(&labels(&[("b", "2"), ("a", "1")]));
    assert_eq!(selector.to_string(), "a=1,b=2");
    assert!(selector.matches_object(&json!({"metadata": {"labels": {"a": "1", "b": "2", "c": "3"}}})));
    assert!(!selector.matches_object(&json!({"metadata": {}})));
}
