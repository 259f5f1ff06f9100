use api::{
    resource::NameRule,
    strategy::metadata::{generated_name, name_faults},
};
use serde_json::json;

use super::{check_creates, check_updates, create, manifest, row};

const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[test]
fn names_follow_the_rule_of_their_kind() {
    let table: &[(&str, NameRule, bool, &[&str])] = &[
        ("web.example", NameRule::Subdomain, false, &[]),
        ("Foo_", NameRule::Subdomain, false, &[SUBDOMAIN]),
        ("web-", NameRule::Subdomain, true, &[]),
        ("web-", NameRule::Subdomain, false, &[SUBDOMAIN]),
        ("a.b", NameRule::Label, false, &["must not contain dots"]),
        ("1a", NameRule::Label, false, &[]),
        ("system:node", NameRule::PathSegment, false, &[]),
        ("a/b%", NameRule::PathSegment, false, &["may not contain '/'", "may not contain '%'"]),
        ("..", NameRule::PathSegment, false, &["may not be '..'"]),
        ("..", NameRule::PathSegment, true, &[]),
    ];
    for (name, rule, prefix, faults) in table {
        assert_eq!(name_faults(name, *rule, *prefix), *faults, "{name} as {rule:?}");
    }
    let long = "a".repeat(254);
    assert_eq!(name_faults(&long, NameRule::Subdomain, false), ["must be no more than 253 bytes"]);
}

#[test]
fn a_generated_name_fits_into_a_label() {
    assert_eq!(generated_name("web-", "x7k2p"), "web-x7k2p");
    assert_eq!(generated_name(&"a".repeat(80), "x7k2p"), format!("{}x7k2p", "a".repeat(58)));
    assert_eq!(generated_name(&"é".repeat(40), "x7k2p"), format!("{}x7k2p", "é".repeat(29)));
}

#[test]
fn bad_metadata_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/metadata/name", "-")],
            &["Required metadata.name: Required value: name or generateName is required"],
        ),
        row(
            "configmap",
            &[("/metadata/labels", r#"{"a/b/c":"x"}"#)],
            &[
                "Invalid metadata.labels: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            ],
        ),
        row(
            "configmap",
            &[("/metadata/labels", r#"{"/b":"x"}"#)],
            &[r#"Invalid metadata.labels: Invalid value: "/b": prefix part must be non-empty"#],
        ),
        row("configmap", &[("/metadata/annotations", r#"{"Example.com/Key":"anything at all"}"#)], &[]),
        row(
            "configmap",
            &[("/metadata/finalizers", r#"["cleanup"]"#)],
            &[
                r#"Invalid metadata.finalizers[0]: Invalid value: "cleanup": name is neither a standard finalizer name nor is it fully qualified"#,
            ],
        ),
        row(
            "configmap",
            &[("/metadata/finalizers", r#"["orphan","foregroundDeletion"]"#)],
            &[
                r#"Invalid metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#,
            ],
        ),
        row(
            "configmap",
            &[("/metadata/ownerReferences", r#"[{"apiVersion":"v1","kind":"Pod","name":"p"}]"#)],
            &[r#"Invalid metadata.ownerReferences.uid: Invalid value: "": must not be empty"#],
        ),
        row(
            "configmap",
            &[(
                "/metadata/ownerReferences",
                r#"[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"1","controller":true},{"apiVersion":"v1","kind":"Pod","name":"q","uid":"2","controller":true}]"#,
            )],
            &[
                r#"Invalid metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","controller":true,"kind":"Pod","name":"p","uid":"1"},{"apiVersion":"v1","controller":true,"kind":"Pod","name":"q","uid":"2"}]: Only one reference can have Controller set to true. Found "true" in references for Pod/p and Pod/q"#,
            ],
        ),
    ]);
}

#[test]
fn annotations_beyond_a_quarter_mebibyte_are_refused() {
    let mut object = manifest("configmap");
    object["metadata"]["annotations"] = json!({"k": "x".repeat(256 * 1024)});
    let (_, faults) = create(object);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].field, "metadata.annotations");
    assert_eq!(faults[0].message, "Too long: may not be more than 262144 bytes");
}

#[test]
fn what_only_the_server_writes_cannot_change() {
    check_updates(&[
        row(
            "configmap",
            &[("/metadata/uid", r#""other""#)],
            &[r#"Invalid metadata.uid: Invalid value: "other": field is immutable"#],
        ),
        row(
            "configmap",
            &[("/metadata/name", r#""other""#)],
            &[r#"Invalid metadata.name: Invalid value: "other": field is immutable"#],
        ),
        row("configmap", &[("/metadata/uid", "-"), ("/metadata/creationTimestamp", r#""1999-01-01T00:00:00Z""#)], &[]),
        row(
            "configmap",
            &[("/metadata/resourceVersion", r#""""#)],
            &[r#"Invalid metadata.resourceVersion: Invalid value: "": must be specified for an update"#],
        ),
    ]);
}

#[test]
fn an_object_that_is_being_deleted_takes_no_more_finalizers() {
    let (mut old, _) = create(manifest("configmap"));
    old["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:06Z");
    old["metadata"]["finalizers"] = json!(["example.com/a"]);
    let mut new = old.clone();
    new["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    let (_, faults) = super::update(new, &old);
    assert_eq!(faults.len(), 1);
    assert_eq!(
        faults[0].message,
        r#"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"example.com/b"}"#
    );
}
