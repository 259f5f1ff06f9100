//! Ingress and the Gateway API as their conformance tests have them, and the edge under change.

use std::{
    fmt::Write,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use crate::{
    cluster::{Cluster, eventually, holds},
    patterns::{apply, curl, wait_for},
};

/// One pod that answers for many Services: each says its own name, whatever it is asked.
fn named(names: &[&str]) -> String {
    let mut listeners = String::new();
    let mut services = String::new();
    for (i, name) in names.iter().enumerate() {
        let port = 8001 + i;
        write!(
            listeners,
            "    - address: ':{port}'\n      routes: [{{filters: {{respond: {{status: 200, body: {name}}}}}}}]\n"
        )
        .unwrap();
        write!(
            services,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: named}}\n  ports: [{{name: http, port: 8080, targetPort: {port}}}]\n"
        )
        .unwrap();
    }
    format!(
        r#"---
apiVersion: v1
kind: ConfigMap
metadata: {{name: named}}
data:
  config.yaml: |
    listeners:
{listeners}---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: named}}
spec:
  selector: {{matchLabels: {{app: named}}}}
  template:
    metadata: {{labels: {{app: named}}}}
    spec:
      containers:
      - name: hythe
        image: hythe.dev/patterns
        imagePullPolicy: IfNotPresent
        args: [proxy, http, --config, /etc/hythe/config.yaml]
        readinessProbe: {{httpGet: {{path: /readyz, port: 9901}}, periodSeconds: 1}}
        volumeMounts: [{{name: config, mountPath: /etc/hythe}}]
      volumes: [{{name: config, configMap: {{name: named}}}}]
{services}"#
    )
}

/// A rule of an Ingress: host, path, type, Service.
fn rule(host: &str, paths: &[(&str, &str, &str)]) -> String {
    let mut out = format!("  - host: '{host}'\n    http:\n      paths:\n");
    for (path, of_type, service) in paths {
        writeln!(
            out,
            "      - {{path: {path}, pathType: {of_type}, backend: {{service: {{name: {service}, port: {{name: http}}}}}}}}"
        )
        .unwrap();
    }
    out
}

#[test]
fn an_ingress_matches_hosts_and_paths_as_upstreams_conformance_tests_have_it() {
    let cluster = Cluster::up();
    let services = ["foo-exact", "foo-prefix", "aaa", "aaa-bbb", "aaa-bbb-slash", "foo-slash", "wild", "host", "rest"];
    apply(&cluster, &named(&services));
    let rules = rule("exact", &[("/foo", "Exact", "foo-exact")])
        + &rule(
            "prefix",
            &[("/foo", "Prefix", "foo-prefix"), ("/aaa/bbb", "Prefix", "aaa-bbb"), ("/aaa", "Prefix", "aaa")],
        )
        + &rule("mixed", &[("/foo", "Prefix", "foo-prefix"), ("/foo", "Exact", "foo-exact")])
        + &rule("slash", &[("/aaa/bbb/", "Prefix", "aaa-bbb-slash"), ("/foo/", "Exact", "foo-slash")])
        + &rule("own", &[("/foo", "ImplementationSpecific", "foo-prefix")])
        + &rule("*.foo.com", &[("/", "Prefix", "wild")])
        + &rule("foo.bar.com", &[("/", "Prefix", "host")]);
    let (key, certificate) = (cluster.scratch().join("tls.key"), cluster.scratch().join("tls.crt"));
    let made = rcgen::generate_simple_self_signed(["foo.bar.com".to_owned()]).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    let ca = certificate.to_str().unwrap();
    cluster.kubectl(&[
        "create",
        "secret",
        "tls",
        "conformance-tls",
        &format!("--key={}", key.display()),
        &format!("--cert={ca}"),
    ]);
    let ingress = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: rules}}\nspec:\n  tls: [{{hosts: [foo.bar.com], secretName: conformance-tls}}]\n  rules:\n{rules}"
    );
    apply(&cluster, &ingress);
    // Of a class that nobody serves, and of one by the annotation of old.
    apply(
        &cluster,
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: foreign}\nspec:\n  ingressClassName: some-invalid-class-name\n  rules: [{host: foreign}]\n",
    );
    assert_eq!(cluster.jsonpath("ingress/rules", "{.spec.ingressClassName}"), "hythe", "the default class");
    eventually("the address of the Ingress", || {
        !cluster.jsonpath("ingress/rules", "{.status.loadBalancer.ingress[0].ip}").is_empty()
    });
    wait_for(&cluster, "deployment/named", "Available");
    let port = cluster.edge_http();
    let get =
        |host: &str, path: &str| curl(&["-H", &format!("Host: {host}"), &format!("http://127.0.0.1:{port}{path}")]);
    eventually("the first answer", || get("exact", "/foo").1 == "200");
    let cases = [
        ("exact", "/foo", "foo-exact"),
        ("exact", "/foo/", ""),
        ("exact", "/FOO", ""),
        ("exact", "/bar", ""),
        ("prefix", "/foo", "foo-prefix"),
        ("prefix", "/foo/", "foo-prefix"),
        ("prefix", "/FOO", ""),
        ("prefix", "/aaa/bbb", "aaa-bbb"),
        ("prefix", "/aaa/bbb/ccc", "aaa-bbb"),
        ("prefix", "/aaa/ccc", "aaa"),
        ("prefix", "/aaaccc", ""),
        ("mixed", "/foo", "foo-exact"),
        ("mixed", "/foo/x", "foo-prefix"),
        ("slash", "/aaa/bbb", "aaa-bbb-slash"),
        ("slash", "/aaa/bbb/", "aaa-bbb-slash"),
        ("slash", "/foo", ""),
        ("slash", "/foo/", "foo-slash"),
        ("own", "/foo", "foo-prefix"),
        ("bar.foo.com", "/", "wild"),
        ("baz.bar.foo.com", "/", ""),
        ("foo.com", "/", ""),
        ("foo.bar.com", "/", "host"),
        ("FOO.bar.com:8080", "/", "host"),
        ("subdomain.bar.com", "/", ""),
        ("foreign", "/", ""),
    ];
    let wrong = |default: &str| {
        cases.into_iter().find_map(|(host, path, expected)| {
            let wanted = match (expected, default) {
                ("", "") => (String::new(), "404"),
                ("", default) => (default.to_owned(), "200"),
                (name, _) => (name.to_owned(), "200"),
            };
            let (body, status) = get(host, path);
            let right = status == wanted.1 && (status == "404" || body == wanted.0);
            (!right).then(|| format!("{host}{path}: {status} {body}, not {wanted:?}"))
        })
    };
    // One Service's endpoints may be known before another's.
    let check = |default: &str| {
        let mut last = None;
        let all = holds(|| {
            last = wrong(default);
            last.is_none()
        });
        assert!(all, "{last:?}");
    };
    check("");
    let https = cluster.edge_https();
    let resolve = format!("foo.bar.com:{https}:127.0.0.1");
    let tls = curl(&["--cacert", ca, "--resolve", &resolve, &format!("https://foo.bar.com:{https}/x")]);
    assert_eq!(tls, ("host".to_owned(), "200".to_owned()));
    assert!(cluster.jsonpath("ingress/foreign", "{.status.loadBalancer.ingress}").is_empty());
    // A default backend, of an Ingress that names its class as was usual before there were classes, gets the rest.
    apply(
        &cluster,
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: rest, annotations: {kubernetes.io/ingress.class: hythe}}\nspec:\n  defaultBackend: {service: {name: rest, port: {number: 8080}}}\n",
    );
    eventually("the default backend", || get("whoever", "/whatever").0 == "rest");
    check("rest");
    // What is not there is an event of the Ingress.
    apply(
        &cluster,
        &ingress.replace("conformance-tls", "no-such-secret").replace("name: wild,", "name: no-such-service,"),
    );
    eventually("both events", || {
        let events = cluster.kubectl(&["get", "events", "--field-selector=involvedObject.name=rules"]);
        events.contains("no-such-secret") && events.contains("no-such-service")
    });
    eventually("no answer for the Service that is not there", || get("bar.foo.com", "/").1 == "503");
    eventually("an answer of the other", || get("foo.bar.com", "/").0 == "host");
}

const GATEWAY: &str = r#"---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: hythe
  listeners:
  - {name: http, port: 80, protocol: HTTP}
"#;

fn http_route(name: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{name: web}}]\n{rules}"
    )
}

#[test]
fn http_routes_match_and_answer_as_the_gateway_apis_conformance_tests_have_it() {
    let cluster = Cluster::up();
    apply(&cluster, &named(&["one", "two", "three"]));
    apply(&cluster, GATEWAY);
    apply(
        &cluster,
        &http_route(
            "matching",
            r#"  hostnames: [matching.example.com]
  rules:
  - matches: [{path: {value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: one, port: 8080}]
  - matches: [{path: {value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: two, port: 8080}]
  - matches: [{path: {value: /}, method: DELETE}, {path: {value: /}, queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: three, port: 8080}]
"#,
        ),
    );
    apply(
        &cluster,
        &http_route(
            "order",
            r#"  hostnames: ['*.example.org', order.example.com]
  rules:
  - {matches: [{path: {type: Exact, value: /match}}], backendRefs: [{name: one, port: 8080}]}
  - {matches: [{path: {type: Exact, value: /match/exact/one}}], backendRefs: [{name: three, port: 8080}]}
  - {matches: [{path: {value: /match/}}], backendRefs: [{name: three, port: 8080}]}
  - {matches: [{path: {value: /match/prefix/}}], backendRefs: [{name: one, port: 8080}]}
  - {matches: [{path: {value: /match/prefix/one}}], backendRefs: [{name: two, port: 8080}]}
  - {matches: [{path: {type: Exact, value: /omitted}}]}
  - {matches: [{path: {type: Exact, value: /unknown}}], backendRefs: [{name: x, kind: Widget, port: 8080}]}
  - {matches: [{path: {type: RegularExpression, value: '/((' }}], backendRefs: [{name: one, port: 8080}]}
  - matches: [{path: {type: Exact, value: /half}}]
    backendRefs: [{name: one, port: 8080}, {name: gone, port: 8080}]
"#,
        ),
    );
    apply(
        &cluster,
        &http_route(
            "pages",
            r#"  hostnames: [pages.example.com]
  rules:
  - filters: [{type: CORS, cors: {allowOrigins: ['https://*.bar.com'], allowMethods: [PUT], maxAge: 60}}]
    backendRefs: [{name: one, port: 8080}]
  - matches: [{path: {value: /moved}}]
    backendRefs:
    - name: one
      port: 8080
      filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}, statusCode: 308}}]
"#,
        ),
    );
    wait_for(&cluster, "gateway/web", "Programmed");
    wait_for(&cluster, "deployment/named", "Available");
    let said = |route: &str, of_type: &str| {
        let path = format!("{{.status.parents[0].conditions[?(@.type==\"{of_type}\")].reason}}");
        cluster.jsonpath(&format!("httproute/{route}"), &path)
    };
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", cluster.edge_http());
    let get = |host: &str, more: &[&str], path: &str| {
        curl(&[&["-H", &format!("Host: {host}")], more, &[url(path).as_str()]].concat())
    };
    eventually("the first answer", || get("matching.example.com", &[], "/").1 == "200");
    for (host, more, path, expected) in [
        ("matching.example.com", &[][..], "/", "one"),
        ("matching.example.com", &[], "/example", "one"),
        ("matching.example.com", &["-H", "Version: one"], "/", "one"),
        ("matching.example.com", &["-H", "Version: two"], "/", "two"),
        ("matching.example.com", &[], "/v2", "two"),
        ("matching.example.com", &[], "/v2/example", "two"),
        ("matching.example.com", &[], "/v2/", "two"),
        ("matching.example.com", &[], "/v2example", "one"),
        ("matching.example.com", &["-X", "DELETE"], "/", "three"),
        ("matching.example.com", &[], "/?animal=whale", "three"),
        ("matching.example.com", &[], "/?animal=dolphin", "one"),
        ("order.example.com", &[], "/match", "one"),
        ("order.example.com", &[], "/match/exact/one", "three"),
        ("order.example.com", &[], "/match/prefix/one/any", "two"),
        ("order.example.com", &[], "/match/prefix/any", "one"),
        ("order.example.com", &[], "/match/any", "three"),
        ("a.b.example.org", &[], "/match", "one"),
    ] {
        assert_eq!(get(host, more, path), (expected.to_owned(), "200".to_owned()), "{host}{path} {more:?}");
    }
    for (path, status) in [("/omitted", "500"), ("/unknown", "500"), ("/none", "404")] {
        assert_eq!(get("order.example.com", &[], path).1, status, "{path}");
    }
    assert_eq!(get("example.org", &[], "/match").1, "404", "a star stands for one label at least");
    // Pages of other origins: the preflight request never reaches a backend.
    let asked = |origin: &str, more: &[&str]| {
        let origin = format!("Origin: {origin}");
        get("pages.example.com", &[&["-D", "-", "-H", origin.as_str()][..], more].concat(), "/").0.to_lowercase()
    };
    let preflight = asked("https://a.bar.com", &["-X", "OPTIONS", "-H", "Access-Control-Request-Method: PUT"]);
    for told in ["allow-origin: https://a.bar.com", "allow-methods: put", "max-age: 60"] {
        assert!(preflight.contains(&format!("access-control-{told}")), "{told} in {preflight}");
    }
    assert!(!preflight.ends_with("one"), "{preflight}");
    let answer = asked("https://a.bar.com", &[]);
    assert!(answer.contains("access-control-allow-origin: https://a.bar.com") && answer.ends_with("one"), "{answer}");
    assert!(!asked("https://evil.com", &[]).contains("access-control-allow-origin"));
    let moved = get("pages.example.com", &["-D", "-"], "/moved");
    assert!(moved.1 == "308" && moved.0.contains("/new"), "{moved:?}");
    // Half of the backends are there: the other half's share is 500.
    let broken = (0..200).filter(|_| get("order.example.com", &[], "/half").1 == "500").count();
    assert!((60..=140).contains(&broken), "{broken} of 200");
    // A rule that can't be served keeps no other from it, and is told of.
    assert_eq!(said("order", "Accepted"), "Accepted");
    assert_eq!(said("order", "PartiallyInvalid"), "UnsupportedValue");
    assert_eq!(said("order", "ResolvedRefs"), "InvalidKind");
    assert_eq!(said("matching", "ResolvedRefs"), "ResolvedRefs");
    assert_eq!(cluster.jsonpath("gateway/web", "{.status.listeners[0].attachedRoutes}"), "3");
    // The older of two routes with the same match is asked; when it goes, the other.
    apply(
        &cluster,
        &http_route(
            "second",
            "  hostnames: [matching.example.com]\n  rules: [{backendRefs: [{name: three, port: 8080}]}]\n",
        ),
    );
    eventually("four routes", || cluster.jsonpath("gateway/web", "{.status.listeners[0].attachedRoutes}") == "4");
    assert_eq!(get("matching.example.com", &[], "/").0, "one");
    cluster.kubectl(&["delete", "httproute", "matching"]);
    eventually("the younger route", || get("matching.example.com", &[], "/").0 == "three");
    // What can't be is said, listener by listener.
    apply(
        &cluster,
        r#"---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: odd}
spec:
  gatewayClassName: hythe
  listeners:
  - {name: good, port: 80, protocol: HTTP, hostname: odd.example.com}
  - {name: kind, port: 80, protocol: HTTP, hostname: kind.example.com, allowedRoutes: {kinds: [{kind: InvalidRoute}]}}
  - {name: invalid, port: 1111, protocol: INVALID}
  - {name: secret, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}
"#,
    );
    let listener = |i: usize, of_type: &str| {
        let path = format!("{{.status.listeners[{i}].conditions[?(@.type==\"{of_type}\")].reason}}");
        cluster.jsonpath("gateway/odd", &path)
    };
    eventually("what is said of the odd one", || listener(3, "ResolvedRefs") == "InvalidCertificateRef");
    assert_eq!(listener(0, "Programmed"), "Programmed");
    assert_eq!(listener(1, "ResolvedRefs"), "InvalidRouteKinds");
    assert_eq!(listener(2, "Accepted"), "UnsupportedProtocol");
    assert_eq!(
        cluster.jsonpath("gateway/odd", "{.status.conditions[?(@.type==\"Accepted\")].reason}"),
        "ListenersNotValid"
    );
    assert_eq!(cluster.jsonpath("gateway/odd", "{.status.conditions[?(@.type==\"Accepted\")].status}"), "True");
}

#[test]
fn no_request_is_lost_while_ports_routes_and_the_edges_own_pods_change() {
    let cluster = Cluster::up();
    apply(&cluster, &named(&["one", "two"]));
    apply(&cluster, GATEWAY);
    apply(&cluster, &http_route("web", "  rules: [{backendRefs: [{name: one, port: 8080}]}]\n"));
    wait_for(&cluster, "gateway/web", "Programmed");
    wait_for(&cluster, "deployment/named", "Available");
    let url = format!("http://127.0.0.1:{}/", cluster.edge_http());
    eventually("the first answer", || curl(&[&url]).1 == "200");
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let client = {
        let (stop, asked, url) = (Arc::clone(&stop), Arc::clone(&asked), url.clone());
        thread::spawn(move || {
            let mut lost = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // A connection of its own each: one that stays would not see a port that closes.
                let answer = curl(&[&url]);
                if answer.1 != "200" {
                    lost.push(answer);
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
            lost
        })
    };
    let pod = || {
        cluster.kubectl(&[
            "-n",
            "hythe-system",
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/instance=hythe-edge",
            "-o",
            "name",
        ])
    };
    let before = pod();
    // A listener more, on a port of its own: no pod begins anew.
    let more = cluster.node_port(92);
    let listener = format!("  - {{name: more, port: {more}, protocol: HTTP}}\n");
    apply(&cluster, &(GATEWAY.to_owned() + &listener));
    let other = format!("http://127.0.0.1:{more}/");
    eventually("the new port", || curl(&[&other]).1 == "200");
    assert_eq!(pod(), before, "a port more changes no pod");
    // Another backend, weights, filters.
    let edits = [
        "  rules: [{backendRefs: [{name: two, port: 8080}]}]\n",
        "  rules: [{backendRefs: [{name: one, port: 8080, weight: 1}, {name: two, port: 8080, weight: 9}]}]\n",
        "  rules: [{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Last, value: 'yes'}]}}], backendRefs: [{name: two, port: 8080}]}]\n",
    ];
    for rules in edits {
        apply(&cluster, &http_route("web", rules));
    }
    let head = |url: &str| curl(&["-D", "-", "-o", "/dev/null", url]).0;
    eventually("the last edit", || head(&url).to_lowercase().contains("x-last: yes"));
    // The port goes again.
    apply(&cluster, GATEWAY);
    eventually("the end of the new port", || curl(&[&other]).1 == "000");
    // The edge itself rolls.
    cluster.kubectl(&["-n", "hythe-system", "rollout", "restart", "deployment/hythe-edge"]);
    cluster.kubectl(&["-n", "hythe-system", "rollout", "status", "deployment/hythe-edge", "--timeout=90s"]);
    eventually("the end of the old pod", || pod().lines().count() == 1 && pod() != before);
    stop.store(true, Ordering::Relaxed);
    let lost = client.join().unwrap();
    let asked = asked.load(Ordering::Relaxed);
    assert!(lost.is_empty() && asked > 10, "{} of {asked} requests were lost: {lost:?}", lost.len());
}

/// A Gateway for routes of labelled namespaces, and a route in one that has no label yet.
const SELECTING: &str = r#"---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: selecting}
spec:
  gatewayClassName: hythe
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {shared: "yes"}}}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: apart}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: apart, namespace: apart}
spec:
  parentRefs: [{name: selecting, namespace: default}]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, hostname: away.example.com}}]}]
"#;

/// A Gateway with one listener on port 80, and a route that leads everything to a Service.
fn gateway_to(name: &str, service: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  gatewayClassName: hythe\n  infrastructure: {{labels: {{team: {name}}}}}\n  listeners: [{{name: http, port: 80, protocol: HTTP}}]\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{{name: {name}}}]\n  rules: [{{backendRefs: [{{name: {service}, port: 8080}}]}}]\n"
    )
}

#[test]
fn each_gateway_has_an_address_of_its_own_where_nobody_elses_listeners_are() {
    let cluster = Cluster::up();
    apply(&cluster, &named(&["one", "two", "three"]));
    apply(&cluster, &gateway_to("first", "one"));
    wait_for(&cluster, "deployment/named", "Available");
    wait_for(&cluster, "gateway/first", "Programmed");
    let address = |name: &str| cluster.jsonpath(&format!("gateway/{name}"), "{.status.addresses[0].value}");
    let get = |address: &str| curl(&[&format!("http://{address}/")]);
    let first = address("first");
    eventually("the first Gateway", || get(&first).0 == "one");
    // A second one with the same port, and an Ingress with it too: none of them mixes with another.
    apply(&cluster, &gateway_to("second", "two"));
    apply(
        &cluster,
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: third}\nspec:\n  rules:\n  - {host: third.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: three, port: {name: http}}}}]}}\n",
    );
    wait_for(&cluster, "gateway/second", "Programmed");
    let second = address("second");
    assert_ne!(first, second);
    eventually("the second Gateway", || get(&second).0 == "two");
    assert_eq!(get(&first), ("one".to_owned(), "200".to_owned()));
    assert_eq!(address("first"), first, "what came after it changed nothing");
    let port = cluster.edge_http();
    let ingress = || curl(&["-H", "Host: third.example.com", &format!("http://127.0.0.1:{port}/")]).0;
    eventually("the Ingress at the node's port", || ingress() == "three");
    assert_eq!(curl(&["-H", "Host: third.example.com", &format!("http://{first}/")]).0, "one", "the Gateway's own");
    // Its Service bears the labels that the Gateway gives.
    let services = |selector: &str| {
        cluster.kubectl(&[
            "-n",
            "hythe-system",
            "get",
            "services",
            "-l",
            selector,
            "-o",
            "jsonpath={.items[*].spec.clusterIP}",
        ])
    };
    assert_eq!(services("team=first"), first);
    assert_eq!(services("gateway.networking.k8s.io/gateway-name=second"), second);
    // Routes of namespaces whose labels a listener selects, from when they have them.
    apply(&cluster, SELECTING);
    let reason = || {
        let path = "{.status.parents[0].conditions[?(@.type==\"Accepted\")].reason}";
        cluster.kubectl(&["-n", "apart", "get", "httproute/apart", "-o", &format!("jsonpath={path}")])
    };
    eventually("that it is not let in", || reason() == "NotAllowedByListeners");
    cluster.kubectl(&["label", "namespace/apart", "shared=yes"]);
    eventually("that it is let in", || reason() == "Accepted");
    cluster.kubectl(&["label", "namespace/apart", "shared-"]);
    eventually("that it is let in no more", || reason() == "NotAllowedByListeners");
    cluster.kubectl(&["delete", "gateway/selecting", "namespace/apart"]);
    // With a Gateway its address goes, the other's stays.
    cluster.kubectl(&["delete", "gateway/second", "httproute/second"]);
    eventually("the end of its address", || services("team=second").is_empty());
    assert_eq!(get(&first).0, "one");
    cluster.kubectl(&["delete", "gateway/first", "ingress/third"]);
    eventually("the end of the edge", || {
        let left = cluster.kubectl(&["-n", "hythe-system", "get", "deployments,services,secrets", "-o", "name"]);
        !left.contains("edge") && !left.contains("gateway-")
    });
}
