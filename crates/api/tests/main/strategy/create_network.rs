use super::{check_creates, row};

#[test]
fn a_bad_service_is_refused() {
    check_creates(&[
        row("service", &[("/spec/ports", "[]")], &["Required spec.ports: Required value"]),
        row("service", &[("/spec/ports", "[]"), ("/spec/clusterIP", r#""None""#)], &[]),
        row("service", &[("/metadata/name", r#""1web""#)], &[]),
        row(
            "service",
            &[("/metadata/name", r#""Web""#)],
            &[
                "Invalid metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        row(
            "service",
            &[("/spec/ports", r#"[{"port":80},{"port":81}]"#)],
            &["Required spec.ports[0].name: Required value", "Required spec.ports[1].name: Required value"],
        ),
        row(
            "service",
            &[("/spec/ports/0/port", "0")],
            &[
                "Invalid spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "Invalid spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        row(
            "service",
            &[("/spec/ports", r#"[{"name":"a","port":80},{"name":"a","port":81}]"#)],
            &[r#"Duplicate spec.ports[1].name: Duplicate value: "a""#],
        ),
        row(
            "service",
            &[("/spec/ports/0/nodePort", "30000")],
            &["Forbidden spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        row(
            "service",
            &[
                ("/spec/type", r#""NodePort""#),
                ("/spec/ports", r#"[{"name":"a","port":80,"nodePort":30000},{"name":"b","port":81,"nodePort":30000}]"#),
            ],
            &["Duplicate spec.ports[1].nodePort: Duplicate value: 30000"],
        ),
        row(
            "service",
            &[("/spec/type", r#""Magic""#)],
            &[
                r#"NotSupported spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
            ],
        ),
        row(
            "service",
            &[("/spec/type", r#""NodePort""#), ("/spec/clusterIP", r#""None""#)],
            &[r#"Invalid spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for NodePort services"#],
        ),
        row(
            "service",
            &[("/spec/type", r#""ExternalName""#), ("/spec/clusterIP", "-")],
            &["Required spec.externalName: Required value"],
        ),
        row(
            "service",
            &[
                ("/spec/type", r#""ExternalName""#),
                ("/spec/clusterIP", "-"),
                ("/spec/externalName", r#""db.example.""#),
            ],
            &[],
        ),
        row(
            "service",
            &[("/spec/clusterIP", r#""10.43.0.x""#)],
            &[
                r#"Invalid spec.clusterIPs[0]: Invalid value: "10.43.0.x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        row(
            "service",
            &[("/spec/sessionAffinity", r#""Cookie""#)],
            &[
                r#"NotSupported spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None""#,
            ],
        ),
        row(
            "service",
            &[
                ("/spec/sessionAffinity", r#""ClientIP""#),
                ("/spec/sessionAffinityConfig", r#"{"clientIP":{"timeoutSeconds":86401}}"#),
            ],
            &[
                "Invalid spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
            ],
        ),
        row(
            "service",
            &[("/spec/externalIPs", r#"["127.0.0.1"]"#)],
            &[
                r#"Invalid spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            ],
        ),
        row(
            "service",
            &[("/spec/externalTrafficPolicy", r#""Local""#)],
            &[
                r#"Invalid spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
            ],
        ),
        row(
            "service",
            &[("/spec/internalTrafficPolicy", r#""Near""#)],
            &[
                r#"NotSupported spec.internalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local""#,
            ],
        ),
        row(
            "service",
            &[("/spec/loadBalancerClass", r#""a/b""#)],
            &["Forbidden spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"],
        ),
        row(
            "service",
            &[("/spec/selector/app", r#""a b""#)],
            &[
                "Invalid spec.selector: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ],
        ),
    ]);
}

#[test]
fn bad_endpoints_are_refused() {
    check_creates(&[
        row(
            "endpoints",
            &[("/subsets/0/addresses", "[]")],
            &["Required subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"],
        ),
        row(
            "endpoints",
            &[("/subsets/0/addresses/0/ip", r#""169.254.1.1""#)],
            &[
                r#"Invalid subsets[0].addresses[0].ip: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)"#,
            ],
        ),
        row("slice", &[("/addressType", "-")], &["Required addressType: Required value"]),
        row(
            "slice",
            &[("/addressType", r#""IP""#)],
            &[r#"NotSupported addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6""#],
        ),
        row(
            "slice",
            &[("/endpoints/0/addresses", "[]")],
            &["Required endpoints[0].addresses: Required value: must contain at least 1 address"],
        ),
        row("slice", &[("/ports", r#"[{"port":1},{"port":2}]"#)], &[r#"Duplicate ports[1].name: Duplicate value: """#]),
    ]);
}

#[test]
fn a_bad_ingress_or_policy_is_refused() {
    check_creates(&[
        row(
            "ingress",
            &[("/spec/rules", "[]")],
            &["Invalid spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"],
        ),
        row(
            "ingress",
            &[("/spec/rules/0/host", r#""10.0.0.1""#)],
            &[r#"Invalid spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#],
        ),
        row(
            "ingress",
            &[("/spec/rules/0/http/paths/0/pathType", "-")],
            &["Required spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
        ),
        row(
            "ingress",
            &[("/spec/rules/0/http/paths/0/path", r#""a//b""#)],
            &[
                r#"Invalid spec.rules[0].http.paths[0].path: Invalid value: "a//b": must be an absolute path"#,
                r#"Invalid spec.rules[0].http.paths[0].path: Invalid value: "a//b": must not contain '//'"#,
            ],
        ),
        row(
            "ingress",
            &[("/spec/rules/0/http/paths/0/backend", r#"{"service":{"name":"web"}}"#)],
            &["Required spec.rules[0].http.paths[0].backend: Required value: port name or number is required"],
        ),
        row(
            "policy",
            &[("/spec/ingress/0/from", "[{}]")],
            &["Required spec.ingress[0].from[0]: Required value: must specify a peer"],
        ),
        row(
            "policy",
            &[("/spec/ingress/0/from/0/ipBlock/except", r#"["11.0.0.0/16"]"#)],
            &[
                r#"Invalid spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`"#,
            ],
        ),
        row(
            "policy",
            &[("/spec/ingress/0/ports", r#"[{"port":90,"endPort":80}]"#)],
            &["Invalid spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`"],
        ),
        row(
            "policy",
            &[("/spec/policyTypes", r#"["Sideways"]"#)],
            &[
                r#"NotSupported spec.policyTypes[0]: Unsupported value: "Sideways": supported values: "Ingress", "Egress""#,
            ],
        ),
    ]);
}
