use super::{check_creates, row};

#[test]
fn a_workload_must_select_its_pods() {
    check_creates(&[
        row(
            "deployment",
            &[("/spec/selector", "-")],
            &[
                "Required spec.selector: Required value",
                r#"Invalid spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
            ],
        ),
        row(
            "deployment",
            &[("/spec/selector", "{}")],
            &["Invalid spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        row(
            "deployment",
            &[("/spec/selector/matchLabels/app", r#""other""#)],
            &[
                r#"Invalid spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
            ],
        ),
        row(
            "deployment",
            &[("/spec/selector/matchExpressions", r#"[{"key":"a","operator":"In"}]"#)],
            &[
                "Required spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                r#"Invalid spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
            ],
        ),
        row(
            "replicaset",
            &[("/spec/selector/matchLabels/app", r#""other""#)],
            &[
                r#"Invalid spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
            ],
        ),
        row(
            "statefulset",
            &[("/spec/selector", "{}")],
            &["Invalid spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
        ),
        row(
            "daemonset",
            &[("/spec/selector", "-")],
            &[
                r#"Invalid spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
            ],
        ),
        row(
            "controller",
            &[("/spec/selector/app", r#""other""#)],
            &[
                r#"Invalid spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
            ],
        ),
    ]);
}

#[test]
fn a_workload_that_runs_forever_restarts_always() {
    check_creates(&[
        row(
            "deployment",
            &[("/spec/template/spec/restartPolicy", r#""Never""#)],
            &[
                r#"NotSupported spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#,
            ],
        ),
        row(
            "daemonset",
            &[("/spec/template/spec/activeDeadlineSeconds", "5")],
            &[
                "Forbidden spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
            ],
        ),
        row(
            "deployment",
            &[("/spec/template/metadata/labels/b", r#""-""#)],
            &[
                "Invalid spec.template.labels: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ],
        ),
        row(
            "deployment",
            &[("/spec/template/spec/containers/0/image", r#""""#)],
            &["Required spec.template.spec.containers[0].image: Required value"],
        ),
    ]);
}

#[test]
fn a_bad_update_strategy_is_refused() {
    check_creates(&[
        row(
            "deployment",
            &[("/spec/replicas", "-1")],
            &["Invalid spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        row(
            "deployment",
            &[("/spec/strategy", r#"{"rollingUpdate":{"maxSurge":0,"maxUnavailable":0}}"#)],
            &[
                "Invalid spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
            ],
        ),
        row(
            "deployment",
            &[("/spec/strategy", r#"{"rollingUpdate":{"maxSurge":"0%","maxUnavailable":"0%"}}"#)],
            &[
                r#"Invalid spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
            ],
        ),
        row(
            "deployment",
            &[("/spec/strategy", r#"{"rollingUpdate":{"maxUnavailable":"101%"}}"#)],
            &[
                r#"Invalid spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#,
            ],
        ),
        row(
            "deployment",
            &[("/spec/strategy", r#"{"rollingUpdate":{"maxSurge":"many"}}"#)],
            &[
                r#"Invalid spec.strategy.rollingUpdate.maxSurge: Invalid value: "many": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"#,
            ],
        ),
        row(
            "deployment",
            &[("/spec/strategy", r#"{"type":"Recreate","rollingUpdate":{"maxSurge":1}}"#)],
            &[
                "Forbidden spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
        row(
            "deployment",
            &[("/spec/strategy", r#"{"type":"Big"}"#)],
            &[
                r#"NotSupported spec.strategy: Unsupported value: {"RollingUpdate":null,"Type":"Big"}: supported values: "Recreate", "RollingUpdate""#,
            ],
        ),
        row(
            "deployment",
            &[("/spec/progressDeadlineSeconds", "5"), ("/spec/minReadySeconds", "5")],
            &["Invalid spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
        ),
        row(
            "daemonset",
            &[("/spec/updateStrategy", r#"{"rollingUpdate":{"maxUnavailable":1,"maxSurge":1}}"#)],
            &[
                "Invalid spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        ),
        row(
            "daemonset",
            &[("/spec/updateStrategy", r#"{"rollingUpdate":{"maxUnavailable":0}}"#)],
            &[
                "Required spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
            ],
        ),
        row(
            "statefulset",
            &[("/spec/podManagementPolicy", r#""Random""#)],
            &[r#"Invalid spec.podManagementPolicy: Invalid value: "Random": must be 'OrderedReady' or 'Parallel'"#],
        ),
        row(
            "statefulset",
            &[("/spec/updateStrategy", r#"{"type":"OnDelete","rollingUpdate":{"partition":1}}"#)],
            &[
                r#"Invalid spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'"#,
            ],
        ),
        row(
            "statefulset",
            &[
                ("/spec/volumeClaimTemplates", r#"[{"metadata":{"name":"data"},"spec":{}}]"#),
                ("/spec/template/spec/containers/0/volumeMounts", r#"[{"name":"data","mountPath":"/d"}]"#),
            ],
            &[],
        ),
    ]);
}

#[test]
fn a_bad_job_is_refused() {
    check_creates(&[
        row(
            "job",
            &[("/spec/template/spec/restartPolicy", "-")],
            &[r#"Required spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#],
        ),
        row(
            "job",
            &[("/spec/template/spec/restartPolicy", r#""X""#)],
            &[
                r#"NotSupported spec.template.spec.restartPolicy: Unsupported value: "X": supported values: "Always", "OnFailure", "Never""#,
                r#"NotSupported spec.template.spec.restartPolicy: Unsupported value: "X": supported values: "OnFailure", "Never""#,
            ],
        ),
        row(
            "job",
            &[("/spec/backoffLimit", "-1")],
            &["Invalid spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"],
        ),
        row(
            "job",
            &[("/spec/completionMode", r#""Indexed""#), ("/spec/parallelism", "2")],
            &["Required spec.completions: Required value: when completion mode is Indexed"],
        ),
        row(
            "job",
            &[("/spec/completionMode", r#""Sorted""#)],
            &[
                r#"NotSupported spec.completionMode: Unsupported value: "Sorted": supported values: "NonIndexed", "Indexed""#,
            ],
        ),
        row(
            "job",
            &[("/spec/selector", r#"{"matchLabels":{"a":"b"}}"#)],
            &[
                r#"Invalid spec.selector: Invalid value: {"matchLabels":{"a":"b","batch.kubernetes.io/controller-uid":"0b9e1a52-0000-4000-8000-000000000001"}}: `selector` not auto-generated"#,
                r#"Invalid spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/controller-uid":"0b9e1a52-0000-4000-8000-000000000001","batch.kubernetes.io/job-name":"pi","controller-uid":"0b9e1a52-0000-4000-8000-000000000001","job-name":"pi"}: `selector` does not match template `labels`"#,
            ],
        ),
        row(
            "cronjob",
            &[("/spec/schedule", r#""* * * *""#)],
            &[r#"Invalid spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]"#],
        ),
        row(
            "cronjob",
            &[("/spec/schedule", r#""61 * * * *""#)],
            &[r#"Invalid spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61"#],
        ),
        row(
            "cronjob",
            &[("/spec/schedule", r#""a * * * *""#)],
            &[
                r#"Invalid spec.schedule: Invalid value: "a * * * *": failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax"#,
            ],
        ),
        row("cronjob", &[("/spec/schedule", r#""*/15 0-6,22 1 jan-mar mon""#)], &[]),
        row(
            "cronjob",
            &[("/spec/schedule", r#""@reboot""#)],
            &[r#"Invalid spec.schedule: Invalid value: "@reboot": unrecognized descriptor: @reboot"#],
        ),
        row(
            "cronjob",
            &[("/spec/concurrencyPolicy", r#""Queue""#)],
            &[
                r#"NotSupported spec.concurrencyPolicy: Unsupported value: "Queue": supported values: "Allow", "Forbid", "Replace""#,
            ],
        ),
        row(
            "cronjob",
            &[("/metadata/name", r#""a123456789012345678901234567890123456789012345678901x""#)],
            &[
                r#"Invalid metadata.name: Invalid value: "a123456789012345678901234567890123456789012345678901x": must be no more than 52 characters"#,
            ],
        ),
    ]);
}

#[test]
fn a_bad_autoscaler_or_budget_is_refused() {
    check_creates(&[
        row(
            "autoscaler",
            &[("/spec/maxReplicas", "0")],
            &[
                "Invalid spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "Invalid spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        row(
            "autoscaler",
            &[("/spec/minReplicas", "6")],
            &["Invalid spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`"],
        ),
        row(
            "autoscaler",
            &[("/spec/scaleTargetRef/name", r#""""#)],
            &["Required spec.scaleTargetRef.name: Required value"],
        ),
        row(
            "autoscaler",
            &[("/spec/metrics", r#"[{"type":"Resource"}]"#)],
            &[
                "Required spec.metrics[0].resource: Required value: must populate information for the given metric source",
            ],
        ),
        row(
            "budget",
            &[("/spec/maxUnavailable", "1")],
            &[
                r#"Invalid spec: Invalid value: {"maxUnavailable":1,"minAvailable":1,"selector":{"matchLabels":{"app":"web"}}}: minAvailable and maxUnavailable cannot be both set"#,
            ],
        ),
        row(
            "budget",
            &[("/spec/minAvailable", r#""150%""#)],
            &[r#"Invalid spec.minAvailable: Invalid value: "150%": must not be greater than 100%"#],
        ),
    ]);
}
