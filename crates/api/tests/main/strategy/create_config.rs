use serde_json::json;

use super::{check_creates, create, manifest, row};

#[test]
fn bad_configuration_is_refused() {
    check_creates(&[
        row(
            "configmap",
            &[("/data/a b", r#""x""#)],
            &[
                "Invalid data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            ],
        ),
        row(
            "configmap",
            &[("/data/..x", r#""x""#)],
            &[r#"Invalid data[..x]: Invalid value: "..x": must not start with '..'"#],
        ),
        row(
            "configmap",
            &[("/binaryData", r#"{"key":"eA=="}"#)],
            &[r#"Invalid data[key]: Invalid value: "key": duplicate of key present in binaryData"#],
        ),
        row(
            "secret",
            &[("/type", r#""kubernetes.io/tls""#)],
            &["Required data[tls.crt]: Required value", "Required data[tls.key]: Required value"],
        ),
        row(
            "secret",
            &[("/type", r#""kubernetes.io/dockerconfigjson""#)],
            &["Required data[.dockerconfigjson]: Required value"],
        ),
        row(
            "secret",
            &[("/type", r#""kubernetes.io/dockerconfigjson""#), ("/stringData", r#"{".dockerconfigjson":"nope"}"#)],
            &[r#"Invalid data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid JSON"#],
        ),
        row(
            "secret",
            &[("/type", r#""kubernetes.io/service-account-token""#)],
            &["Required metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
        row(
            "secret",
            &[("/type", r#""kubernetes.io/basic-auth""#)],
            &["Required data[username]: Required value", "Required data[password]: Required value"],
        ),
    ]);
}

#[test]
fn configuration_beyond_a_mebibyte_is_refused() {
    let mut object = manifest("configmap");
    object["data"] = json!({"big": "x".repeat(1024 * 1024)});
    assert!(create(object.clone()).1.is_empty(), "a mebibyte is just right");
    object["data"]["more"] = json!("x");
    let (_, faults) = create(object);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].reason, "FieldValueTooLong");
    assert_eq!(faults[0].message, "Too long: may not be more than 1048576 bytes");
}

#[test]
fn a_bad_node_is_refused() {
    check_creates(&[
        row(
            "node",
            &[("/spec/taints", r#"[{"key":"a","effect":"Never"}]"#)],
            &[
                r#"NotSupported metadata.taints[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
            ],
        ),
        row(
            "node",
            &[("/spec/podCIDR", r#""10.0.0.0""#)],
            &[
                r#"Invalid spec.podCIDRs[0]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#,
            ],
        ),
    ]);
}

#[test]
fn a_bad_quota_or_limit_is_refused() {
    check_creates(&[
        row(
            "quota",
            &[("/spec/hard", r#"{"apples":"1"}"#)],
            &[
                r#"Invalid spec.hard[apples]: Invalid value: "apples": must be a standard resource type or fully qualified"#,
                r#"Invalid spec.hard[apples]: Invalid value: "apples": must be a standard resource for quota"#,
            ],
        ),
        row(
            "quota",
            &[("/spec/hard/pods", r#""1500m""#)],
            &[r#"Invalid spec.hard[pods]: Invalid value: "1500m": must be an integer"#],
        ),
        row(
            "quota",
            &[("/spec/scopes", r#"["BestEffort","NotBestEffort"]"#)],
            &[r#"Invalid spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes"#],
        ),
        row(
            "limits",
            &[("/spec/limits/0/min/cpu", r#""3""#), ("/spec/limits/0/default", r#"{"cpu":"2"}"#)],
            &[
                r#"Invalid spec.limits[0].min[cpu]: Invalid value: "3": min value 3 is greater than max value 2"#,
                r#"Invalid spec.limits[0].defaultRequest[cpu]: Invalid value: "2": min value 3 is greater than default request value 2"#,
                r#"Invalid spec.limits[0].default[cpu]: Invalid value: "3": min value 3 is greater than default value 2"#,
            ],
        ),
        row(
            "limits",
            &[("/spec/limits/0/type", r#""Thing""#)],
            &[
                r#"Invalid spec.limits[0].type: Invalid value: "Thing": must be a standard limit type or fully qualified"#,
            ],
        ),
    ]);
}

#[test]
fn bad_storage_is_refused() {
    check_creates(&[
        row(
            "claim",
            &[("/spec/accessModes", "[]")],
            &["Required spec.accessModes: Required value: at least 1 access mode is required"],
        ),
        row(
            "claim",
            &[("/spec/accessModes", r#"["Often"]"#)],
            &[
                r#"NotSupported spec.accessModes: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
            ],
        ),
        row(
            "claim",
            &[("/spec/resources/requests/storage", "-")],
            &["Required spec.resources[storage]: Required value"],
        ),
        row(
            "claim",
            &[("/spec/resources/requests/storage", r#""0""#)],
            &[r#"Invalid spec.resources[storage]: Invalid value: "0": must be greater than zero"#],
        ),
        row("volume", &[("/spec/hostPath", "-")], &["Required spec: Required value: must specify a volume type"]),
        row(
            "volume",
            &[("/spec/hostPath", "-"), ("/spec/local", r#"{"path":"/d"}"#)],
            &["Required spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        row(
            "volume",
            &[("/spec/persistentVolumeReclaimPolicy", r#""Burn""#)],
            &[
                r#"NotSupported spec.persistentVolumeReclaimPolicy: Unsupported value: "Burn": supported values: "Delete", "Recycle", "Retain""#,
            ],
        ),
        row(
            "class",
            &[("/volumeBindingMode", r#""Soon""#)],
            &[
                r#"NotSupported volumeBindingMode: Unsupported value: "Soon": supported values: "Immediate", "WaitForFirstConsumer""#,
            ],
        ),
    ]);
}

#[test]
fn bad_access_rules_leases_and_events_are_refused() {
    check_creates(&[
        row(
            "role",
            &[("/rules/0/verbs", "[]")],
            &["Required rules[0].verbs: Required value: verbs must contain at least one value"],
        ),
        row(
            "role",
            &[("/rules/0", r#"{"verbs":["get"],"nonResourceURLs":["/x"]}"#)],
            &[
                r#"Invalid rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs"#,
            ],
        ),
        row(
            "binding",
            &[("/roleRef/kind", r#""Group""#)],
            &[r#"NotSupported roleRef.kind: Unsupported value: "Group": supported values: "Role", "ClusterRole""#],
        ),
        row(
            "binding",
            &[("/subjects/0/kind", r#""Robot""#)],
            &[
                r#"NotSupported subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#,
            ],
        ),
        row(
            "lease",
            &[("/spec/leaseDurationSeconds", "0")],
            &["Invalid spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
        row(
            "event",
            &[("/involvedObject/namespace", r#""other""#)],
            &[r#"Invalid involvedObject.namespace: Invalid value: "other": does not match event.namespace"#],
        ),
        row("event1", &[("/action", r#""""#)], &["Required action: Required value"]),
        row("event1", &[("/type", r#""Odd""#)], &[r#"Invalid type: Invalid value: "": has invalid value: Odd"#]),
    ]);
}

#[test]
fn bad_classes_and_webhooks_are_refused() {
    check_creates(&[
        row(
            "priority",
            &[("/value", "1000000001")],
            &["Forbidden value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        row(
            "priority",
            &[("/metadata/name", r#""system-mine""#)],
            &[
                "Forbidden metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class",
            ],
        ),
        row("priority", &[("/metadata/name", r#""system-node-critical""#), ("/value", "2000001000")], &[]),
        row(
            "runtime",
            &[("/handler", r#""a.b""#)],
            &[r#"Invalid handler: Invalid value: "a.b": must not contain dots"#],
        ),
        row(
            "webhooks",
            &[("/webhooks/0/name", r#""guard""#)],
            &[
                r#"Invalid webhooks[0].name: Invalid value: "guard": should be a domain with at least three segments separated by dots"#,
            ],
        ),
        row(
            "webhooks",
            &[("/webhooks/0/clientConfig", "{}")],
            &["Required webhooks[0].clientConfig: Required value: exactly one of url or service is required"],
        ),
        row(
            "webhooks",
            &[("/webhooks/0/sideEffects", r#""Some""#)],
            &[
                r#"NotSupported webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun""#,
            ],
        ),
        row(
            "webhooks",
            &[("/webhooks/0/timeoutSeconds", "31")],
            &[
                "Invalid webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ],
        ),
    ]);
}
