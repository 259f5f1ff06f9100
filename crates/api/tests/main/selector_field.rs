//! Field selectors.

use api::selector::{FieldError, FieldSelector};
use serde_json::json;

const POD: &[(&str, &str)] = &[("status.phase", "/status/phase"), ("spec.nodeName", "/spec/nodeName")];

#[test]
fn fields_select_objects() {
    let pod = json!({"metadata": {"name": "web", "namespace": "default"}, "status": {"phase": "Running"}});
    for (text, wanted) in [
        ("", true),
        ("metadata.name=web", true),
        ("metadata.name==web,status.phase=Running", true),
        ("status.phase!=Running", false),
        ("status.phase!=Failed", true),
        ("spec.nodeName=", true),
        ("spec.nodeName!=", false),
        ("metadata.namespace=kube-system", false),
    ] {
        let selector = FieldSelector::parse(text).unwrap();
        selector.check(true, POD).unwrap();
        assert_eq!(selector.matches(&pod, POD), wanted, "{text}");
    }
}

#[test]
fn of_a_labels_several_places_the_first_that_says_something_counts() {
    let fields: &[(&str, &str)] = &[("source", "/source/component"), ("source", "/reportingComponent")];
    let selects = |text: &str, event| FieldSelector::parse(text).unwrap().matches(&event, fields);
    assert!(selects("source=a", json!({"source": {"component": "a"}, "reportingComponent": "b"})));
    assert!(!selects("source=b", json!({"source": {"component": "a"}, "reportingComponent": "b"})));
    assert!(selects("source=b", json!({"source": {"component": ""}, "reportingComponent": "b"})));
    assert!(selects("source=b", json!({"source": {}, "reportingComponent": "b"})));
    assert!(selects("source=", json!({})));
}

#[test]
fn an_absent_truth_is_false() {
    let fields: &[(&str, &str)] = &[("spec.unschedulable", "/spec/unschedulable")];
    let node = json!({"metadata": {"name": "n"}, "spec": {}});
    assert!(FieldSelector::parse("spec.unschedulable=false").unwrap().matches(&node, fields));
    assert!(!FieldSelector::parse("spec.unschedulable=true").unwrap().matches(&node, fields));
}

#[test]
fn escapes_are_undone_and_done_again() {
    let selector = FieldSelector::parse(r"metadata.name=a\,b\=c\\d").unwrap();
    assert_eq!(selector.required("metadata.name"), Some(r"a,b=c\d"));
    assert_eq!(selector.to_string(), r"metadata.name=a\,b\=c\\d");
}

#[test]
fn bad_selectors_are_refused_in_upstreams_words() {
    for (text, message) in [
        ("x", "invalid selector: 'x'; can't understand 'x'"),
        ("a=b,x", "invalid selector: 'a=b,x'; can't understand 'x'"),
        (r"x=a\b", r"invalid field selector: invalid escape sequence: \b"),
        (r"x=a\", r"invalid field selector: invalid escape sequence: \"),
        ("x=a=b", "invalid field selector: unescaped character in value: 61"),
    ] {
        assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn fields_that_a_kind_does_not_offer_are_refused() {
    let selector = FieldSelector::parse("spec.replicas=1").unwrap();
    let fault = selector.check(true, POD).unwrap_err();
    assert_eq!(fault, FieldError::Unsupported("spec.replicas".into()));
    assert_eq!(fault.to_string(), "field label not supported: spec.replicas");
    let selector = FieldSelector::parse("metadata.namespace=a").unwrap();
    assert!(selector.check(true, &[]).is_ok());
    assert!(selector.check(false, &[]).is_err(), "a cluster-wide kind has no namespace");
}
