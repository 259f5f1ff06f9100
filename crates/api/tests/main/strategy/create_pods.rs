use super::{check_creates, row};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[test]
fn a_pod_with_a_bad_container_is_refused() {
    check_creates(&[
        row("pod", &[("/spec/containers", "[]")], &["Required spec.containers: Required value"]),
        row("pod", &[("/spec/containers/0/name", "-")], &["Required spec.containers[0].name: Required value"]),
        row(
            "pod",
            &[("/spec/containers/0/name", r#""a.b""#)],
            &[r#"Invalid spec.containers[0].name: Invalid value: "a.b": must not contain dots"#],
        ),
        row("pod", &[("/spec/containers/0/image", r#""""#)], &["Required spec.containers[0].image: Required value"]),
        row(
            "pod",
            &[("/spec/containers/0/image", r#"" x""#)],
            &[r#"Invalid spec.containers[0].image: Invalid value: " x": must not have leading or trailing whitespace"#],
        ),
        row(
            "pod",
            &[("/spec/containers/1", r#"{"name":"app","image":"b"}"#)],
            &[r#"Duplicate spec.containers[1].name: Duplicate value: "app""#],
        ),
        row(
            "pod",
            &[("/spec/containers/0/imagePullPolicy", r#""Sometimes""#)],
            &[
                r#"NotSupported spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/terminationMessagePolicy", r#""X""#)],
            &[
                r#"NotSupported spec.containers[0].terminationMessagePolicy: Unsupported value: "X": supported values: "File", "FallbackToLogsOnError""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/restartPolicy", r#""Maybe""#)],
            &[
                r#"NotSupported spec.containers[0].restartPolicy: Unsupported value: "Maybe": supported values: "Always", "Never", "OnFailure""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/initContainers", r#"[{"name":"app","image":"b"}]"#)],
            &[r#"Duplicate spec.initContainers[0].name: Duplicate value: "app""#],
        ),
        row(
            "pod",
            &[("/spec/initContainers", r#"[{"name":"i","image":"b","readinessProbe":{"exec":{"command":["x"]}}}]"#)],
            &[
                "Forbidden spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        row(
            "pod",
            &[(
                "/spec/initContainers",
                r#"[{"name":"i","image":"b","restartPolicy":"Always","readinessProbe":{"exec":{"command":["x"]}}}]"#,
            )],
            &[],
        ),
        row(
            "pod",
            &[("/spec/ephemeralContainers", r#"[{"name":"d","image":"b"}]"#)],
            &["Forbidden spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
    ]);
}

#[test]
fn a_label_that_a_name_is_not_is_explained_with_the_expression() {
    let rows = [row("pod", &[("/spec/containers/0/name", r#""Foo_""#)], &[])];
    let mut object = super::manifest("pod");
    super::change(&mut object, rows[0].set);
    let (_, faults) = super::create(object);
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].message, format!("Invalid value: \"Foo_\": {LABEL}"));
}

#[test]
fn a_pod_with_bad_ports_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/spec/containers/0/ports", "[{}]")],
            &["Required spec.containers[0].ports[0].containerPort: Required value"],
        ),
        row(
            "pod",
            &[("/spec/containers/0/ports", r#"[{"containerPort":70000}]"#)],
            &[
                "Invalid spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/ports", r#"[{"containerPort":80,"protocol":"ICMP"}]"#)],
            &[
                r#"NotSupported spec.containers[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/ports", r#"[{"containerPort":80,"name":"a-very-long-port-name"}]"#)],
            &[
                r#"Invalid spec.containers[0].ports[0].name: Invalid value: "a-very-long-port-name": must be no more than 15 bytes"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/ports", r#"[{"containerPort":80,"name":"80"}]"#)],
            &[
                r#"Invalid spec.containers[0].ports[0].name: Invalid value: "80": must contain at least one letter (a-z)"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/ports", r#"[{"containerPort":80,"name":"web"},{"containerPort":81,"name":"web"}]"#)],
            &[r#"Duplicate spec.containers[0].ports[1].name: Duplicate value: "web""#],
        ),
        row(
            "pod",
            &[(
                "/spec/containers/0/ports",
                r#"[{"containerPort":80,"hostPort":8080},{"containerPort":81,"hostPort":8080}]"#,
            )],
            &[r#"Duplicate spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//8080""#],
        ),
        row(
            "pod",
            &[("/spec/hostNetwork", "true"), ("/spec/containers/0/ports", r#"[{"containerPort":80,"hostPort":81}]"#)],
            &[
                "Invalid spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            ],
        ),
    ]);
}

#[test]
fn a_pod_with_a_bad_environment_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/spec/containers/0/env", r#"[{"value":"x"}]"#)],
            &["Required spec.containers[0].env[0].name: Required value"],
        ),
        row(
            "pod",
            &[("/spec/containers/0/env", r#"[{"name":"a=b"}]"#)],
            &[
                r#"Invalid spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/env", r#"[{"name":"A","valueFrom":{}}]"#)],
            &[
                r#"Invalid spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"#,
            ],
        ),
        row(
            "pod",
            &[(
                "/spec/containers/0/env",
                r#"[{"name":"A","value":"x","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]"#,
            )],
            &[
                r#"Invalid spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/env", r#"[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s"}}}]"#)],
            &["Required spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value"],
        ),
        row(
            "pod",
            &[("/spec/containers/0/env", r#"[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"spec.foo"}}}]"#)],
            &[
                r#"Invalid spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.foo": error converting fieldPath: field label not supported: spec.foo"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/env", r#"[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels"}}}]"#)],
            &[
                r#"NotSupported spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs""#,
            ],
        ),
        row(
            "pod",
            &[(
                "/spec/containers/0/env",
                r#"[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['app']"}}}]"#,
            )],
            &[],
        ),
        row(
            "pod",
            &[(
                "/spec/containers/0/env",
                r#"[{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.gpu"}}}]"#,
            )],
            &[
                r#"NotSupported spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory""#,
            ],
        ),
        row(
            "pod",
            &[(
                "/spec/containers/0/env",
                r#"[{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"2"}}}]"#,
            )],
            &[
                r#"Invalid spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/envFrom", r#"[{}]"#)],
            &[
                r#"Invalid spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/envFrom", r#"[{"secretRef":{}}]"#)],
            &["Required spec.containers[0].envFrom[0].secretRef.name: Required value"],
        ),
    ]);
}

#[test]
fn a_pod_with_bad_volumes_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/spec/containers/0/volumeMounts", r#"[{"name":"data","mountPath":"/d"}]"#)],
            &[r#"NotFound spec.containers[0].volumeMounts[0].name: Not found: "data""#],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v"}]"#), ("/spec/containers/0/volumeMounts", r#"[{"name":"v"}]"#)],
            &["Required spec.containers[0].volumeMounts[0].mountPath: Required value"],
        ),
        row(
            "pod",
            &[
                ("/spec/volumes", r#"[{"name":"v"}]"#),
                ("/spec/containers/0/volumeMounts", r#"[{"name":"v","mountPath":"/d"},{"name":"v","mountPath":"/d"}]"#),
            ],
            &[r#"Invalid spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/d": must be unique"#],
        ),
        row(
            "pod",
            &[
                ("/spec/volumes", r#"[{"name":"v"}]"#),
                ("/spec/containers/0/volumeMounts", r#"[{"name":"v","mountPath":"/d","subPath":"../x"}]"#),
            ],
            &[r#"Invalid spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'"#],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v"},{"name":"v"}]"#)],
            &[r#"Duplicate spec.volumes[1].name: Duplicate value: "v""#],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","emptyDir":{},"hostPath":{"path":"/x"}}]"#)],
            &["Forbidden spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","hostPath":{"path":"/x","type":"Dir"}}]"#)],
            &[
                r#"NotSupported spec.volumes[0].hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","secret":{}}]"#)],
            &["Required spec.volumes[0].secret.secretName: Required value"],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","configMap":{"name":"c","defaultMode":512}}]"#)],
            &[
                "Invalid spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
            ],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","configMap":{"name":"c","items":[{"key":"k","path":"/etc"}]}}]"#)],
            &[r#"Invalid spec.volumes[0].configMap.items[0].path: Invalid value: "/etc": must be a relative path"#],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","persistentVolumeClaim":{}}]"#)],
            &["Required spec.volumes[0].persistentVolumeClaim.claimName: Required value"],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","downwardAPI":{"items":[{"path":"p"}]}}]"#)],
            &["Required spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"],
        ),
        row(
            "pod",
            &[
                ("/spec/serviceAccountName", r#""default""#),
                (
                    "/spec/volumes",
                    r#"[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t","expirationSeconds":60}}]}}]"#,
                ),
            ],
            &[
                "Invalid spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
            ],
        ),
        row(
            "pod",
            &[("/spec/volumes", r#"[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]"#)],
            &[
                "Forbidden spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
            ],
        ),
    ]);
}

#[test]
fn a_pod_with_bad_probes_and_hooks_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/spec/containers/0/livenessProbe", "{}")],
            &["Required spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        row(
            "pod",
            &[("/spec/containers/0/livenessProbe", r#"{"exec":{}}"#)],
            &["Required spec.containers[0].livenessProbe.exec.command: Required value"],
        ),
        row(
            "pod",
            &[("/spec/containers/0/livenessProbe", r#"{"successThreshold":2,"tcpSocket":{"port":80}}"#)],
            &["Invalid spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        row(
            "pod",
            &[("/spec/containers/0/livenessProbe", r#"{"tcpSocket":{"port":0}}"#)],
            &[
                "Invalid spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/readinessProbe", r#"{"httpGet":{"port":"http_"}}"#)],
            &[
                r#"Invalid spec.containers[0].readinessProbe.httpGet.port: Invalid value: "http_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/readinessProbe", r#"{"httpGet":{"port":80,"scheme":"ftp"}}"#)],
            &[
                r#"NotSupported spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: "ftp": supported values: "HTTP", "HTTPS""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/readinessProbe", r#"{"terminationGracePeriodSeconds":3,"exec":{"command":["x"]}}"#)],
            &[
                "Invalid spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for readinessProbes",
            ],
        ),
        row(
            "pod",
            &[(
                "/spec/containers/0/startupProbe",
                r#"{"periodSeconds":-1,"exec":{"command":["x"]},"grpc":{"port":1}}"#,
            )],
            &[
                "Forbidden spec.containers[0].startupProbe.grpc: Forbidden: may not specify more than 1 handler type",
                "Invalid spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/lifecycle", r#"{"preStop":{"sleep":{"seconds":31}}}"#)],
            &[
                "Invalid spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
    ]);
}

#[test]
fn a_pod_that_asks_for_impossible_resources_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/spec/containers/0/resources", r#"{"requests":{"memory":"2Gi"},"limits":{"memory":"1Gi"}}"#)],
            &[
                r#"Invalid spec.containers[0].resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/resources", r#"{"requests":{"cpu":"-1"}}"#)],
            &[
                r#"Invalid spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/resources", r#"{"requests":{"disk":"1"}}"#)],
            &[
                r#"Invalid spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource type or fully qualified"#,
                r#"Invalid spec.containers[0].resources.requests[disk]: Invalid value: "disk": must be a standard resource for containers"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/resources", r#"{"limits":{"example.com/gpu":"1500m"}}"#)],
            &[
                r#"Invalid spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer"#,
                r#"Invalid spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/resources", r#"{"requests":{"example.com/gpu":"1"}}"#)],
            &[
                "Required spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/resources", r#"{"limits":{"hugepages-2Mi":"2Mi"}}"#)],
            &["Forbidden spec.containers[0].resources: Forbidden: HugePages require cpu or memory"],
        ),
    ]);
}

#[test]
fn a_pod_with_a_bad_spec_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/spec/restartPolicy", r#""Sometimes""#)],
            &[
                r#"NotSupported spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/dnsPolicy", r#""X""#)],
            &[
                r#"NotSupported spec.dnsPolicy: Unsupported value: "X": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/dnsPolicy", r#""None""#)],
            &["Required spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        row(
            "pod",
            &[("/spec/dnsConfig", r#"{"nameservers":["nope"]}"#)],
            &[
                r#"Invalid spec.dnsConfig.nameservers[0]: Invalid value: "nope": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/activeDeadlineSeconds", "0")],
            &["Invalid spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
        row(
            "pod",
            &[("/spec/hostAliases", r#"[{"ip":"300.1.1.1","hostnames":["a"]}]"#)],
            &[
                r#"Invalid spec.hostAliases[0].ip: Invalid value: "300.1.1.1": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/tolerations", r#"[{"operator":"Equal","value":"x"}]"#)],
            &[
                r#"Invalid spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/tolerations", r#"[{"key":"k","operator":"Exists","tolerationSeconds":3}]"#)],
            &[
                r#"Invalid spec.tolerations[0].effect: Invalid value: "": effect must be 'NoExecute' when `tolerationSeconds` is set"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/tolerations", r#"[{"key":"k","operator":"Exists","effect":"Never"}]"#)],
            &[
                r#"NotSupported spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/topologySpreadConstraints", r#"[{"maxSkew":0,"topologyKey":"","whenUnsatisfiable":"X"}]"#)],
            &[
                "Invalid spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "Required spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                r#"NotSupported spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "X": supported values: "DoNotSchedule", "ScheduleAnyway""#,
            ],
        ),
        row(
            "pod",
            &[("/spec/schedulingGates", r#"[{"name":"a.b/c"},{"name":"a.b/c"}]"#)],
            &[r#"Duplicate spec.schedulingGates[1]: Duplicate value: "a.b/c""#],
        ),
        row(
            "pod",
            &[("/spec/schedulingGates", r#"[{"name":"g"}]"#), ("/spec/nodeName", r#""n1""#)],
            &["Forbidden spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"],
        ),
        row(
            "pod",
            &[(
                "/spec/affinity",
                r#"{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[]}}}"#,
            )],
            &[
                "Required spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            ],
        ),
        row(
            "pod",
            &[(
                "/spec/affinity",
                r#"{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":101,"podAffinityTerm":{"topologyKey":"zone"}}]}}"#,
            )],
            &[
                "Invalid spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100",
            ],
        ),
        row(
            "pod",
            &[("/spec/hostUsers", "false"), ("/spec/hostNetwork", "true")],
            &["Forbidden spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false"],
        ),
        row(
            "pod",
            &[("/spec/os", r#"{"name":"plan9"}"#)],
            &[r#"NotSupported spec.os: Unsupported value: "plan9": supported values: "linux", "windows""#],
        ),
    ]);
}

#[test]
fn a_pod_with_a_bad_security_context_is_refused() {
    check_creates(&[
        row(
            "pod",
            &[("/spec/securityContext", r#"{"runAsUser":-1}"#)],
            &["Invalid spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive"],
        ),
        row(
            "pod",
            &[("/spec/securityContext", r#"{"seccompProfile":{"type":"Localhost"}}"#)],
            &[
                "Required spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ],
        ),
        row(
            "pod",
            &[("/spec/securityContext", r#"{"sysctls":[{"name":"net.core.X","value":"1"}]}"#)],
            &[
                r#"Invalid spec.securityContext.sysctls[0].name: Invalid value: "net.core.X": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/securityContext", r#"{"privileged":true,"allowPrivilegeEscalation":false}"#)],
            &[
                r#"Invalid spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
            ],
        ),
        row(
            "pod",
            &[("/spec/containers/0/securityContext", r#"{"procMount":"Unmasked"}"#)],
            &[
                r#"Invalid spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`"#,
            ],
        ),
        row(
            "pod",
            &[
                ("/spec/volumes", r#"[{"name":"v"}]"#),
                (
                    "/spec/containers/0/volumeMounts",
                    r#"[{"name":"v","mountPath":"/d","mountPropagation":"Bidirectional"}]"#,
                ),
            ],
            &[
                "Forbidden spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            ],
        ),
    ]);
}
