use serde_json::json;

use super::*;

fn resource(group: &str, version: &str, plural: &str) -> &'static Resource {
    catalogue::by_plural(group, version, plural).expect("it is in the catalogue")
}

fn message(resource: &Resource, text: &str) -> String {
    let status = decode(resource, text.as_bytes()).expect_err("the body is wrong");
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    status.message
}

#[test]
fn unknown_and_duplicate_fields_are_left_out_and_named_by_path() {
    let text = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{"x":"1","x":"2"}},"foo":{},
        "spec":{"containers":[{"name":"c","foo":1,"name":"d"}],"containerz":[]}}"#;
    let decoded = decode(resource("", "v1", "pods"), text.as_bytes()).expect("it decodes");
    assert_eq!(
        decoded.issues,
        [
            r#"duplicate field "metadata.labels.x""#,
            r#"unknown field "foo""#,
            r#"unknown field "spec.containers[0].foo""#,
            r#"duplicate field "spec.containers[0].name""#,
            r#"unknown field "spec.containerz""#,
        ]
    );
    assert_eq!(
        decoded.object,
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "labels": {"x": "2"}},
            "spec": {"containers": [{"name": "d"}]}})
    );
}

#[test]
fn a_strict_reader_gets_all_issues_in_one_message() {
    let decoded = decode(resource("apps", "v1", "deployments"), br#"{"spec":{"a":1},"b":2}"#).expect("it decodes");
    let status = decoded.strictly(resource("apps", "v1", "deployments")).expect_err("fields are unknown");
    assert_eq!(
        status.message,
        r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.a", unknown field "b""#
    );
}

#[test]
fn fields_are_case_sensitive() {
    let decoded = decode(resource("", "v1", "pods"), br#"{"Metadata":{"name":"a"}}"#).expect("it decodes");
    assert_eq!(decoded.issues, [r#"unknown field "Metadata""#]);
}

#[test]
fn ill_typed_values_are_named_as_go_names_them() {
    let deployments = resource("apps", "v1", "deployments");
    let wrapped = |text: &str| {
        let message = message(deployments, text);
        message
            .strip_prefix(r#"Deployment in version "v1" cannot be handled as a Deployment: "#)
            .unwrap_or_else(|| panic!("{message}"))
            .to_string()
    };
    assert_eq!(
        wrapped(r#"{"spec":{"replicas":"3"}}"#),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        wrapped(r#"{"spec":{"replicas":1.5}}"#),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        wrapped(r#"{"spec":{"replicas":3000000000}}"#),
        "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        wrapped(r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":1}]}]}}}}"#),
        "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"
    );
    assert_eq!(
        wrapped(r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"
    );
    assert_eq!(
        wrapped(r#"{"spec":{"template":[]}}"#),
        "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec"
    );
    assert_eq!(
        message(resource("", "v1", "configmaps"), r#"{"data":{"a":true}}"#),
        r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal bool into Go struct field ConfigMap.data of type string"#
    );
    assert_eq!(
        message(resource("", "v1", "secrets"), r#"{"data":{"a":"%"}}"#),
        r#"Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#
    );
    assert_eq!(
        wrapped(r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}}"#),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
}

#[test]
fn a_body_of_another_kind_or_version_is_refused() {
    let pods = resource("", "v1", "pods");
    assert_eq!(
        message(pods, r#"{"kind":"Service","apiVersion":"v1"}"#),
        r#"Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion"#
    );
    assert_eq!(
        message(pods, r#"{"kind":"Foo","apiVersion":"bar/v1"}"#),
        r#"Foo in version "v1" cannot be handled as a Pod: no kind "Foo" is registered for version "bar/v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#
    );
    assert_eq!(
        message(resource("autoscaling", "v2", "horizontalpodautoscalers"), r#"{"apiVersion":"autoscaling/v1"}"#),
        "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    );
}

#[test]
fn what_is_no_object_is_unrecognized() {
    let pods = resource("", "v1", "pods");
    assert_eq!(
        message(pods, ""),
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
    );
    let message_of = |text| message(pods, text);
    assert_eq!(
        message_of("nonsense"),
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: invalid character 'o' in literal null (expecting 'u') (6e6f6e73656e7365)"
    );
    assert!(
        message_of(r#"{"kind":1}"#).contains("json: cannot unmarshal number into Go struct field .kind of type string")
    );
    for text in ["[]", "1", r#"{"a""#, r#"{"a":}"#, r#"{} {}"#] {
        assert!(message_of(text).starts_with("the object provided is unrecognized (must be of type Pod)"), "{text}");
    }
}

#[test]
fn null_counts_as_absent_and_as_zero_inside_of_lists_and_maps() {
    let text = r#"{"metadata":{"creationTimestamp":null,"annotations":{"a":null}},"spec":{"nodeName":null,
        "containers":[null],"overhead":{"cpu":null}}}"#;
    let decoded = decode(resource("", "v1", "pods"), text.as_bytes()).expect("it decodes");
    assert_eq!(decoded.issues, Vec::<String>::new());
    assert_eq!(
        decoded.object,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"a": ""}},
            "spec": {"containers": [{}], "overhead": {"cpu": "0"}}})
    );
}

#[test]
fn scalars_take_their_canonical_form() {
    let text = r#"{"metadata":{"creationTimestamp":"2026-01-01T01:00:00+01:00"},"spec":{"overhead":{"cpu":0.1,
        "memory":1024},"containers":[{"ports":[{"containerPort":80}],"livenessProbe":{"httpGet":{"port":80}}}]}}"#;
    let decoded = decode(resource("", "v1", "pods"), text.as_bytes()).expect("it decodes");
    assert_eq!(decoded.object["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(decoded.object["spec"]["overhead"], json!({"cpu": "100m", "memory": "1024"}));
    assert_eq!(decoded.object["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"], 80);
}

#[test]
fn an_object_in_memory_is_held_to_the_same_rules() {
    let pods = resource("", "v1", "pods");
    let decoded = decode_value(pods, json!({"spec": {"foo": 1, "nodeName": "n"}})).expect("it decodes");
    assert_eq!(decoded.issues, [r#"unknown field "spec.foo""#]);
    assert_eq!(decoded.object["spec"], json!({"nodeName": "n"}));
    assert!(decode_value(pods, json!({"spec": {"nodeName": 1}})).is_err());
    assert!(decode_value(pods, json!([])).is_err());
}

#[test]
fn any_json_passes_where_the_type_is_open() {
    let text = r#"{"data":{"a":[1,{"b":null}]},"revision":1}"#;
    let decoded = decode(resource("apps", "v1", "controllerrevisions"), text.as_bytes()).expect("it decodes");
    assert_eq!(decoded.object["data"], json!({"a": [1, {"b": null}]}));
}

#[test]
fn no_type_has_more_fields_than_the_walk_can_mark() {
    for of in crate::schema::all_types() {
        assert!(of.fields.len() < 128, "{}", of.name);
    }
}

#[test]
fn what_stands_twice_is_found_without_a_type() {
    let of = resource("apps", "v1", "deployments").schema;
    let patch = r#"{"spec":{"a":1,"a":2,"template":{"containers":[{"x":1},{"y":{},"y":[{"z":1,"z":2}]}]}},"spec":{}}"#;
    assert_eq!(
        repeated::in_json(of, patch.as_bytes()),
        [
            r#"duplicate field "spec.a""#,
            r#"duplicate field "spec.template.containers[1].y""#,
            r#"duplicate field "spec.template.containers[1].y[0].z""#,
            r#"duplicate field "spec""#,
        ]
    );
    let patch =
        r#"[{"op":"add","path":"/a","value":1,"foo":{}},{"op":"add","path":"/a","path":"/b","value":{"c":1,"c":2}}]"#;
    assert_eq!(
        repeated::in_json_patch(of, patch.as_bytes()),
        [
            r#"json patch unknown field "[0].foo""#,
            r#"json patch duplicate field "[1].path""#,
            r#"json patch duplicate field "[1].value.c""#,
        ]
    );
    assert_eq!(repeated::in_json(of, b"{"), [""; 0]);
    let yaml = "a: 1\nb:\n  c: x\n  c:\n    d: 1\n    d: 2\n  e: [{f: 1, f: 2}]\na: 2\n";
    assert_eq!(
        repeated::in_yaml(yaml.as_bytes()),
        [
            r#"line 5: key "c" already set in map"#,
            r#"line 6: key "d" already set in map"#,
            r#"line 7: key "f" already set in map"#,
            r#"line 8: key "a" already set in map"#,
        ]
    );
    assert_eq!(repeated::in_yaml(b"a: [1, {b: 2}]"), [""; 0]);
}

#[test]
fn yaml_is_held_to_the_same_rules() {
    let maps = resource("", "v1", "configmaps");
    let text = "kind: ConfigMap\nmetadata: {name: a}\nfoo: 1\ndata:\n  1: one\n  true: 'yes'\n  x: a\n  x: b\n";
    let decoded = decode_yaml(maps, text.as_bytes()).expect("it decodes");
    assert_eq!(decoded.object["data"], json!({"1": "one", "true": "yes", "x": "b"}));
    let again = "yaml: unmarshal errors:\n  line 8: key \"x\" already set in map";
    assert_eq!(decoded.issues, [again, r#"unknown field "foo""#]);
    let warnings: Vec<&str> = decoded.warnings().collect();
    assert_eq!(warnings, [r#"line 8: key "x" already set in map"#, r#"unknown field "foo""#]);
    let status = decode_yaml(maps, b"data: {a: 1}").expect_err("a number is no text");
    assert!(
        status.message.ends_with("json: cannot unmarshal number into Go struct field ConfigMap.data of type string")
    );
    let status = decode_yaml(maps, b"data: [").expect_err("the YAML is broken");
    assert!(status.message.contains("error converting YAML to JSON: yaml: "), "{}", status.message);
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let text = b"{\"data\":{\"a\":\"x\xff\"}}";
    let decoded = decode(resource("", "v1", "configmaps"), text).expect("it decodes");
    assert_eq!(decoded.object["data"]["a"], "x\u{fffd}");
}

const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default",
    "labels":{"app":"web"},"creationTimestamp":"2026-01-01T00:00:00Z","managedFields":[{"manager":"kubectl",
    "fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}}}]},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},
    "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i","ports":
    [{"containerPort":80}],"resources":{"limits":{"cpu":"500m","memory":"64Mi"}},"readinessProbe":{"httpGet":
    {"port":"http"},"periodSeconds":1}}],"volumes":[{"name":"v","emptyDir":{}}],"hostNetwork":false}}}}"#;

/// A small deterministic generator (xorshift), so that a failure can be repeated.
fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 16).expect("addresses have 64 bits here")
}

#[test]
fn what_was_decoded_decodes_to_itself_however_the_text_was_bent() {
    let deployments = resource("apps", "v1", "deployments");
    let pieces: [&[u8]; 12] = [
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"1",
        b"-1.5",
        b"true",
        b",",
        b"\"a\":",
        b"}",
        b"\"2026-01-01T00:00:00+01:00\"",
        b"\xff",
    ];
    let mut state = 42;
    let (mut decoded_count, mut refused_count) = (0, 0);
    for _ in 0..20_000 {
        let mut text = DEPLOYMENT.as_bytes().to_vec();
        for _ in 0..1 + random(&mut state) % 3 {
            let from = random(&mut state) % text.len();
            let to = (from + random(&mut state) % 8).min(text.len());
            let piece = pieces[random(&mut state) % pieces.len()];
            text.splice(from..to, piece.iter().copied());
        }
        match decode(deployments, &text) {
            Err(status) => {
                assert_eq!(status.code, 400);
                refused_count += 1;
            }
            Ok(decoded) => {
                let again = serde_json::to_vec(&decoded.object).expect("an object is JSON");
                let twice = decode(deployments, &again).expect("what was decoded decodes");
                assert_eq!(twice, Decoded { object: decoded.object, issues: Vec::new() });
                decoded_count += 1;
            }
        }
    }
    assert!(decoded_count > 500 && refused_count > 500, "{decoded_count} {refused_count}");
}

#[test]
fn zero_values_that_go_does_not_write_are_left_out() {
    let text = r#"{"metadata":{"name":"p","generateName":"","labels":{},"finalizers":[]},"spec":{"hostNetwork":false,
        "terminationGracePeriodSeconds":0,"shareProcessNamespace":false,"volumes":[{"name":"v","emptyDir":{"medium":""}},
        {"name":"m","configMap":{"name":"","optional":false,"items":[]}}],"containers":[{"name":"","image":"i","tty":false,
        "stdin":true,"args":[],"env":[{"name":"a","value":""}],"resources":{"limits":{}},"ports":[{"containerPort":0,
        "hostPort":0}],"volumeMounts":[{"name":"v","mountPath":"/v","readOnly":false}],
        "securityContext":{"privileged":false,"capabilities":{"drop":[]}}}]}}"#;
    let decoded = decode(resource("", "v1", "pods"), text.as_bytes()).expect("it decodes");
    assert_eq!(
        decoded.object,
        json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
            "spec": {
                "terminationGracePeriodSeconds": 0, "shareProcessNamespace": false,
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "configMap": {"optional": false}}],
                "containers": [{
                    "name": "", "image": "i", "stdin": true, "env": [{"name": "a"}], "resources": {},
                    "ports": [{"containerPort": 0}], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "securityContext": {"privileged": false, "capabilities": {}},
                }],
            },
        })
    );
    let tree = serde_json::from_str(text).expect("it is JSON");
    let applied = decode_applied(resource("", "v1", "pods"), tree).expect("it decodes");
    assert_eq!(applied.object["spec"]["hostNetwork"], false, "a configuration owns what it names");
    let mut merged = applied.object;
    without_zeros(resource("", "v1", "pods").schema, &mut merged);
    assert_eq!(merged, decoded.object);
}

#[test]
fn an_empty_list_that_has_defaults_reaches_the_checks() {
    let text = br#"{"spec":{"behavior":{"scaleUp":{"policies":[]},"scaleDown":{}}}}"#;
    let decoded = decode(resource("autoscaling", "v2", "horizontalpodautoscalers"), text).expect("it decodes");
    assert_eq!(decoded.object["spec"]["behavior"], json!({"scaleUp": {"policies": []}, "scaleDown": {}}));
}

#[test]
fn a_zero_that_stands_last_wins_over_what_stood_before() {
    let text = r#"{"spec":{"hostNetwork":true,"hostNetwork":false,"hostPID":false,"hostPID":true}}"#;
    let decoded = decode(resource("", "v1", "pods"), text.as_bytes()).expect("it decodes");
    assert_eq!(decoded.object["spec"], json!({"hostPID": true}));
}

#[test]
fn kinds_that_are_not_upstreams_keep_their_zeros() {
    let text = r#"{"spec":{"service":{"name":""},"limit":{"requests":0}}}"#;
    let decoded = decode(resource("patterns.hythe.dev", "v1", "ratelimits"), text.as_bytes()).expect("it decodes");
    assert_eq!(decoded.object["spec"], json!({"service": {"name": ""}, "limit": {"requests": 0}}));
}
