use std::{collections::BTreeMap, sync::Arc};

use controllers::queue::Key;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use proxy::config::{HttpVersion, PathMatch, check};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    EdgeSettings, deploy,
    model::{Inputs, Model, OwnPorts},
};
use crate::world::{Missing, Reach};

fn parse<K: DeserializeOwned>(objects: &[Value]) -> Vec<Arc<K>> {
    objects.iter().map(|object| Arc::new(serde_json::from_value(object.clone()).expect("it is of that kind"))).collect()
}

/// A certificate and its key.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["x.example.com".to_owned()]).expect("it can be made");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[derive(Default)]
struct World {
    ingresses: Vec<Value>,
    gateways: Vec<Value>,
    routes: Vec<Value>,
    grants: Vec<Value>,
    own_ports: OwnPorts,
}

impl World {
    fn model(&self) -> Model {
        let (own, other) = (certificate(), certificate());
        let secret = |key: &Key| {
            let (certificate, key_of) = match key.name.as_str() {
                "tls" => (own.0.clone(), own.1.clone()),
                "mismatched" => (own.0.clone(), other.1.clone()),
                "garbage" => ("-----BEGIN CERTIFICATE-----".to_owned(), own.1.clone()),
                _ => return None,
            };
            let bytes = |text: String| ByteString(text.into_bytes());
            let data = [("tls.crt".to_owned(), bytes(certificate)), ("tls.key".to_owned(), bytes(key_of))];
            Some(Arc::new(Secret {
                data: Some(data.into()),
                type_: Some("kubernetes.io/tls".into()),
                ..Default::default()
            }))
        };
        let reach = |namespace: &str, service: &str, port: i32| match service {
            "gone" => Err(Missing::Service(service.to_owned())),
            _ => Ok(Reach::Addresses(vec![format!("{service}.{namespace}:{port}")])),
        };
        let port_named = |_: &str, _: &str, name: &str| (name == "http").then_some(80);
        let inputs = Inputs {
            ingresses: parse(&self.ingresses),
            ingress_classes: parse(&[
                json!({"metadata": {"name": "hythe"}, "spec": {"controller": "hythe.dev/ingress"}}),
                json!({"metadata": {"name": "other"}, "spec": {"controller": "example.com/other"}}),
            ]),
            gateways: parse(&self.gateways),
            gateway_classes: parse(&[
                json!({"metadata": {"name": "hythe"}, "spec": {"controllerName": "hythe.dev/gateway"}}),
            ]),
            routes: parse(&self.routes),
            grants: parse(&self.grants),
            namespaces: BTreeMap::from([("b".into(), BTreeMap::from([("team".into(), "web".into())]))]),
            secret: &secret,
            reach: &reach,
            speaks: &|_, service, _| if service == "grpc" { HttpVersion::Http2 } else { HttpVersion::Http1 },
            port_named: &port_named,
            on_nodes: &|port| port != 22,
            own_ports: self.own_ports.clone(),
        };
        Model::of(&inputs)
    }
}

fn ingress(name: &str, class: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec});
    object["spec"]["ingressClassName"] = class.into();
    object
}

fn gateway(listeners: Value) -> Value {
    json!({"metadata": {"name": "g", "namespace": "a"}, "spec": {"gatewayClassName": "hythe", "listeners": listeners}})
}

fn route(namespace: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "r", "namespace": namespace}, "spec": spec});
    object["spec"]["parentRefs"] = json!([{"name": "g", "namespace": "a"}]);
    object
}

fn said<'a>(model: &'a Model, namespace: &str, type_: &str) -> (Option<bool>, &'a str) {
    let parents = &model.routes[&Key::new(namespace, "r")];
    let one = parents[0].said.iter().find(|s| s.type_ == type_).expect("it is said");
    (one.status, one.reason)
}

#[test]
fn nothing_is_served_when_nothing_asks_for_it() {
    assert!(World::default().model().is_empty());
    let foreign =
        World { ingresses: vec![ingress("i", "other", json!({"rules": [{"host": "x"}]}))], ..Default::default() };
    assert!(foreign.model().is_empty());
}

#[test]
fn an_ingress_becomes_routes_of_both_ports() {
    let path = |path: &str, kind: &str, port: Value| json!({"path": path, "pathType": kind, "backend": {"service": {"name": "web", "port": port}}});
    let world = World {
        ingresses: vec![ingress(
            "i",
            "hythe",
            json!({
                "tls": [{"hosts": ["x.example.com"], "secretName": "tls"}, {"secretName": "none"}],
                "defaultBackend": {"service": {"name": "fallback", "port": {"number": 8080}}},
                "rules": [{"host": "x.example.com", "http": {"paths": [
                    path("/a", "Exact", json!({"number": 80})),
                    path("/b", "Prefix", json!({"name": "http"})),
                    path("", "ImplementationSpecific", json!({"name": "nonsense"})),
                ]}}],
            }),
        )],
        ..Default::default()
    };
    let model = world.model();
    check(&model.config).expect("it is a sound configuration");
    assert_eq!(model.ports.iter().copied().collect::<Vec<_>>(), [80, 443]);
    let http = &model.config.listeners[0];
    assert_eq!(http.routes.len(), 4);
    assert_eq!(http.routes[0].matches[0].path, Some(PathMatch::Exact("/a".into())));
    assert_eq!(http.routes[1].to[0].pool, "a/web:80");
    assert!(http.routes[2].to.is_empty(), "a port that is not there has no target");
    assert!(http.routes[3].hosts.is_empty(), "the default backend is for all hosts");
    let tls = model.config.listeners[1].tls.as_ref().expect("port 443 ends TLS");
    assert_eq!(tls.certificates.len(), 1);
    assert_eq!(tls.certificates[0].hosts, ["x.example.com"]);
    assert_eq!(model.files.len(), 2);
    let warnings: Vec<_> = model.warnings.iter().map(|(_, note)| note.as_str()).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("Secret \"none\" is not there"));
    assert!(http.routes.iter().all(|route| route.one_label), "a star is one label");
}

#[test]
fn a_route_is_attached_where_listener_and_namespace_allow_it() {
    let listeners = json!([
        {"name": "same", "port": 80, "protocol": "HTTP", "hostname": "*.example.com"},
        {"name": "all", "port": 8080, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}},
    ]);
    let backends = json!([{"name": "web", "port": 80, "weight": 9}, {"name": "new", "port": 80, "weight": 1}]);
    let spec = json!({"hostnames": ["x.example.com"], "rules": [{"backendRefs": backends}]});
    let world = |namespace| World {
        gateways: vec![gateway(listeners.clone())],
        routes: vec![route(namespace, spec.clone())],
        ..Default::default()
    };
    let own = world("a").model();
    check(&own.config).expect("it is a sound configuration");
    assert_eq!(said(&own, "a", "Accepted"), (Some(true), "Accepted"));
    let weights: Vec<_> = own.config.listeners[0].routes[0].to.iter().map(|t| t.weight).collect();
    assert_eq!(weights, [9, 1]);
    let other = world("b").model();
    assert_eq!(said(&other, "b", "Accepted"), (Some(true), "Accepted"));
    let routes: Vec<_> = other.config.listeners.iter().map(|l| l.routes[0].to.len()).collect();
    assert_eq!(routes, [0, 2], "only the listener that allows other namespaces has it");
}

#[test]
fn what_can_not_be_resolved_is_said_and_answered_with_500() {
    let listeners =
        json!([{"name": "all", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}]);
    let of = |reference: Value, grants: Vec<Value>| {
        let world = World {
            gateways: vec![gateway(listeners.clone())],
            routes: vec![route("b", json!({"rules": [{"backendRefs": [reference]}]}))],
            grants,
            ..Default::default()
        };
        let model = world.model();
        check(&model.config).expect("it is a sound configuration");
        let respond = model.config.listeners[0].routes[0].to[0].status;
        (said(&model, "b", "ResolvedRefs").1.to_owned(), respond)
    };
    assert_eq!(of(json!({"name": "gone", "port": 80}), vec![]), ("BackendNotFound".into(), Some(500)));
    assert_eq!(of(json!({"name": "x", "kind": "Widget"}), vec![]), ("InvalidKind".into(), Some(500)));
    let far = json!({"name": "web", "namespace": "c", "port": 80});
    assert_eq!(of(far.clone(), vec![]), ("RefNotPermitted".into(), Some(500)));
    let grant = json!({"metadata": {"name": "g", "namespace": "c"}, "spec": {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "b"}],
        "to": [{"group": "", "kind": "Service"}],
    }});
    assert_eq!(of(far, vec![grant]), ("ResolvedRefs".into(), None));
}

#[test]
fn listeners_say_why_they_are_not_served() {
    let world = World {
        gateways: vec![gateway(json!([
            {"name": "web", "port": 80, "protocol": "HTTP"},
            {"name": "raw", "port": 9000, "protocol": "TCP"},
            {"name": "clash", "port": 81, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls"}]}},
            {"name": "bare", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "none"}]}},
            {"name": "plain", "port": 81, "protocol": "HTTP"},
            {"name": "one", "port": 82, "protocol": "HTTP", "hostname": "twin.example.com"},
            {"name": "two", "port": 82, "protocol": "HTTP", "hostname": "twin.example.com"},
            {"name": "mismatched", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "mismatched"}]}},
            {"name": "garbage", "port": 8444, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "garbage"}]}},
        ]))],
        ..Default::default()
    };
    let model = world.model();
    let object: pattern_kinds::gateway::Gateway = serde_json::from_value(world.gateways[0].clone()).expect("a Gateway");
    let status = model.gateways[0].status(&object, &["10.0.0.1".into()], true, jiff::Timestamp::UNIX_EPOCH);
    let of = |listener: usize, type_: &str| {
        let listeners = status.listeners.as_ref().expect("there are listeners");
        let found = listeners[listener].conditions.iter().find(|c| c.type_ == type_).expect("it is said");
        (found.status.clone(), found.reason.clone())
    };
    let pair = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    assert_eq!(of(0, "Programmed"), pair("True", "Programmed"));
    assert_eq!(of(1, "Accepted"), pair("False", "UnsupportedProtocol"));
    for clashing in [2, 4] {
        assert_eq!(of(clashing, "Accepted"), pair("False", "PortUnavailable"));
        assert_eq!(of(clashing, "Conflicted"), pair("True", "ProtocolConflict"));
    }
    for twin in [5, 6] {
        assert_eq!(of(twin, "Conflicted"), pair("True", "HostnameConflict"));
    }
    for (listener, certificate) in [(3, "none"), (7, "mismatched"), (8, "garbage")] {
        assert_eq!(of(listener, "ResolvedRefs"), pair("False", "InvalidCertificateRef"), "{certificate}");
        assert_eq!(of(listener, "Programmed"), pair("False", "Invalid"), "{certificate}");
    }
    assert_eq!(model.ports.iter().copied().collect::<Vec<_>>(), [80]);
    let conditions = status.conditions.expect("there are conditions");
    assert!(conditions.iter().all(|c| c.status == "True"), "{conditions:?}");
    assert_eq!(conditions[0].reason, "ListenersNotValid", "some of them are not");
}

#[test]
fn a_gateway_that_asks_for_what_there_is_not_is_not_served() {
    let of = |spec: Value| {
        let mut object = gateway(json!([{"name": "web", "port": 80, "protocol": "HTTP"}]));
        object["spec"].as_object_mut().expect("a spec").extend(spec.as_object().expect("a map").clone());
        let world = World { gateways: vec![object.clone()], ..Default::default() };
        let model = world.model();
        let object: pattern_kinds::gateway::Gateway = serde_json::from_value(object).expect("a Gateway");
        let status = model.gateways[0].status(&object, &["10.0.0.1".into()], true, jiff::Timestamp::UNIX_EPOCH);
        let reasons: Vec<String> =
            status.conditions.into_iter().flatten().map(|c| c.status + " " + &c.reason).collect();
        (reasons.join(", "), model.ports.len())
    };
    let parameters = json!({"group": "invalid.io", "kind": "InvalidParameters", "name": "invalid"});
    for (spec, conditions, ports) in [
        (json!({}), "True Accepted, True Programmed", 1),
        (json!({"infrastructure": {"parametersRef": parameters}}), "False InvalidParameters, False Invalid", 0),
        (json!({"addresses": [{"type": "test/fake", "value": "x"}]}), "False UnsupportedAddress, False Invalid", 0),
        (json!({"addresses": [{"value": "10.0.0.9"}]}), "True Accepted, False AddressNotUsable", 1),
        (json!({"addresses": [{"value": "10.0.0.1"}]}), "True Accepted, True Programmed", 1),
    ] {
        assert_eq!(of(spec.clone()), (conditions.to_owned(), ports), "{spec}");
    }
}

#[test]
fn a_backend_that_is_not_there_keeps_its_share() {
    let backends = json!([{"name": "web", "port": 80, "weight": 3}, {"name": "gone", "port": 80, "weight": 1}]);
    let world = World {
        gateways: vec![gateway(json!([{"name": "web", "port": 80, "protocol": "HTTP"}]))],
        routes: vec![route("a", json!({"rules": [{"backendRefs": backends}]}))],
        ..Default::default()
    };
    let model = world.model();
    check(&model.config).expect("it is a sound configuration");
    let targets: Vec<_> = model.config.listeners[0].routes[0].to.iter().map(|t| (t.weight, t.status)).collect();
    assert_eq!(targets, [(3, None), (1, Some(500))]);
    assert_eq!(said(&model, "a", "ResolvedRefs"), (Some(false), "BackendNotFound"));
}

#[test]
fn what_one_object_asks_for_in_vain_keeps_no_other_from_being_served() {
    let broken = json!({"matches": [{"path": {"type": "RegularExpression", "value": "/(("}}], "backendRefs": [{"name": "web", "port": 80}]});
    let fine = json!({"matches": [{"path": {"type": "PathPrefix", "value": "/fine"}}], "backendRefs": [{"name": "web", "port": 80}]});
    let world = |rules: Value| World {
        gateways: vec![gateway(json!([{"name": "web", "port": 80, "protocol": "HTTP"}]))],
        routes: vec![route("a", json!({"rules": rules}))],
        ingresses: vec![ingress(
            "i",
            "hythe",
            json!({"rules": [{"host": "x y", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}]}),
        )],
        ..Default::default()
    };
    let model = world(json!([broken])).model();
    check(&model.config).expect("the rest is a sound configuration");
    assert_eq!(said(&model, "a", "Accepted"), (Some(false), "UnsupportedValue"));
    assert!(model.warnings.iter().any(|(_, note)| note.contains("x y")), "{:?}", model.warnings);
    let model = world(json!([broken, fine])).model();
    check(&model.config).expect("the rest is a sound configuration");
    assert_eq!(said(&model, "a", "Accepted"), (Some(true), "Accepted"));
    assert_eq!(said(&model, "a", "PartiallyInvalid"), (Some(true), "UnsupportedValue"));
    let routes = &model.config.listeners[0].routes;
    assert!(routes.iter().any(|r| r.matches.iter().any(|m| m.path == Some(PathMatch::Prefix("/fine".into())))));
}

/// The hosts served at a port of the proxies.
fn hosts_at(model: &Model, port: i32) -> Vec<String> {
    let address = format!("0.0.0.0:{port}");
    let listener = model.config.listeners.iter().find(|l| l.addresses().any(|a| a == address));
    let listener = listener.unwrap_or_else(|| panic!("{port} is open"));
    listener.routes.iter().flat_map(|r| r.hosts.clone()).collect()
}

fn named_gateway(name: &str, port: i32) -> Value {
    let mut object = gateway(json!([{"name": "web", "port": port, "protocol": "HTTP"}]));
    object["metadata"]["name"] = name.into();
    object
}

fn route_of(gateway: &str, host: &str) -> Value {
    let mut object =
        route("a", json!({"hostnames": [host], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}));
    object["metadata"]["name"] = gateway.into();
    object["spec"]["parentRefs"] = json!([{"name": gateway}]);
    object
}

#[test]
fn gateways_with_equal_ports_do_not_mix_at_their_own_addresses() {
    let (one, other) = (Key::new("a", "one"), Key::new("a", "other"));
    let world = World {
        gateways: vec![named_gateway("one", 80), named_gateway("other", 80)],
        routes: vec![route_of("one", "one.example.com"), route_of("other", "other.example.com")],
        ..Default::default()
    };
    let model = world.model();
    check(&model.config).expect("it is a sound configuration");
    let own = |key: &Key| model.own_ports[key][&80];
    assert_eq!(hosts_at(&model, own(&one)), ["one.example.com"]);
    assert_eq!(hosts_at(&model, own(&other)), ["other.example.com"]);
    assert_eq!(hosts_at(&model, 80), ["one.example.com", "other.example.com"], "the nodes' port leads to both");
    assert!(model.alone.is_empty());
    // Redirects lead to the port that clients know.
    assert!(model.config.listeners.iter().all(|l| l.public_port == Some(80)));
}

#[test]
fn a_gateways_own_ports_stay_when_others_come_and_go() {
    let one = Key::new("a", "one");
    let mut world = World { gateways: vec![named_gateway("one", 80)], ..Default::default() };
    let alone = world.model();
    assert_eq!(alone.config.listeners.len(), 1, "nobody shares its port: {:?}", alone.config.listeners);
    assert_eq!(alone.config.listeners[0].also, [format!("0.0.0.0:{}", alone.own_ports[&one][&80])]);
    assert!(alone.alone.contains(&one));
    world.own_ports = alone.own_ports.clone();
    // An older one, which would choose first.
    world.gateways.insert(0, named_gateway("before", 80));
    let both = world.model();
    assert_eq!(both.own_ports[&one], alone.own_ports[&one]);
    assert_ne!(both.own_ports[&Key::new("a", "before")], both.own_ports[&one]);
    // A listener that needs the very port has it, and the Gateway another.
    let port = alone.own_ports[&one][&80];
    world.gateways[0] = named_gateway("before", port);
    let moved = world.model();
    check(&moved.config).expect("it is a sound configuration");
    assert_ne!(moved.own_ports[&one][&80], port);
}

#[test]
fn a_port_that_nodes_do_not_give_is_open_at_the_gateways_own_address_alone() {
    let world = World { gateways: vec![named_gateway("one", 22)], ..Default::default() };
    let model = world.model();
    check(&model.config).expect("it is a sound configuration");
    assert!(model.ports.is_empty() && model.alone.is_empty());
    assert_eq!(model.config.listeners.len(), 1);
    assert!(hosts_at(&model, model.own_ports[&Key::new("a", "one")][&22]).is_empty());
}

#[test]
fn one_port_of_the_nodes_is_not_for_http_and_https_at_once() {
    let mut tls = named_gateway("tls", 80);
    tls["spec"]["listeners"] = json!([
        {"name": "web", "port": 80, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls"}]}},
    ]);
    let world = World {
        gateways: vec![named_gateway("plain", 80), tls],
        ingresses: vec![ingress(
            "i",
            "hythe",
            json!({"rules": [{"host": "x.example.com", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}},
            ]}}]}),
        )],
        ..Default::default()
    };
    let model = world.model();
    check(&model.config).expect("it is a sound configuration");
    assert_eq!(hosts_at(&model, 80), ["x.example.com"], "the older Gateway and the Ingress");
    let of = |name: &str| {
        let address = format!("0.0.0.0:{}", model.own_ports[&Key::new("a", name)][&80]);
        model.config.listeners.iter().find(|l| l.addresses().any(|a| a == address)).expect("it is open")
    };
    assert!(of("tls").tls.is_some() && of("plain").tls.is_none(), "each serves at its own address");
}

#[test]
fn a_gateways_service_bears_what_it_is_given_but_nothing_in_our_name() {
    let mut object = named_gateway("one", 80);
    object["spec"]["infrastructure"] = json!({
        "labels": {"team": "web", "app.kubernetes.io/managed-by": "me"},
        "annotations": {"example.com/pool": "outside", "hythe.dev/open-on-nodes": "true", "x.hythe.dev/y": "z"},
    });
    let object: pattern_kinds::gateway::Gateway = serde_json::from_value(object).expect("a Gateway");
    let settings = EdgeSettings { service_type: Some("LoadBalancer".into()), ..Default::default() };
    let service = deploy::gateway_service(&settings, &object, &BTreeMap::from([(80, 20_000)]), Some("10.0.0.9"));
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["loadBalancerIP"], "10.0.0.9");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 20_000);
    assert_eq!(service["metadata"]["labels"]["team"], "web");
    assert_eq!(service["metadata"]["labels"]["app.kubernetes.io/managed-by"], crate::MANAGER);
    assert_eq!(
        service["metadata"]["annotations"],
        json!({"example.com/pool": "outside", "hythe.dev/gateway": "a/one"})
    );
    let service = serde_json::from_value(service).expect("a Service");
    assert_eq!(deploy::gateway_of(&service), Some(Key::new("a", "one")));
}

#[test]
fn a_request_belongs_to_the_listener_with_the_narrowest_host_alone() {
    let listener = |name: &str, host: &str| json!({"name": name, "port": 80, "protocol": "HTTP", "hostname": host});
    let to = |name: &str, listener: &str, hosts: Value| {
        let mut object =
            route("a", json!({"hostnames": hosts, "rules": [{"backendRefs": [{"name": name, "port": 80}]}]}));
        object["metadata"]["name"] = name.into();
        object["spec"]["parentRefs"][0]["sectionName"] = listener.into();
        object
    };
    let world = World {
        gateways: vec![gateway(json!([
            {"name": "any", "port": 80, "protocol": "HTTP"},
            listener("wide", "*.example.com"),
            listener("narrow", "a.example.com"),
        ]))],
        routes: vec![
            to("one", "any", json!([])),
            to("two", "wide", json!(["a.example.com", "b.example.com"])),
            to("three", "any", json!(["c.example.com"])),
        ],
        ..Default::default()
    };
    let model = world.model();
    check(&model.config).expect("it is a sound configuration");
    let routes = &model.config.listeners[0].routes;
    let hosts: Vec<(&str, Vec<&str>)> =
        routes.iter().map(|r| (r.name.as_str(), r.hosts.iter().map(String::as_str).collect())).collect();
    assert_eq!(
        hosts,
        [("a/one", vec![]), ("a/two", vec!["b.example.com"]), ("", vec!["*.example.com", "a.example.com"])],
        "what is another listener's is not here, and the last answers for what nobody wants"
    );
    assert_eq!(routes[2].filters.respond.as_ref().map(|r| r.status), Some(404));
}

#[test]
fn a_backend_is_spoken_to_as_its_service_says_and_other_origins_are_told_what_the_filter_says() {
    let world = World {
        gateways: vec![gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]))],
        routes: vec![route(
            "a",
            json!({"rules": [{
                "filters": [{"type": "CORS", "cors": {"allowOrigins": ["https://*.example.com"], "allowMethods": ["*"], "maxAge": 60}}],
                "backendRefs": [{"name": "grpc", "port": 80}, {"name": "web", "port": 80}],
            }]}),
        )],
        ..Default::default()
    };
    let model = world.model();
    check(&model.config).expect("it is a sound configuration");
    let spoken: Vec<_> = model.config.pools.iter().map(|p| (p.name.as_str(), p.http)).collect();
    assert_eq!(spoken, [("a/grpc:80", HttpVersion::Http2), ("a/web:80", HttpVersion::Http1)]);
    let cors = model.config.listeners[0].routes[0].filters.cors.as_ref().expect("it is there");
    assert_eq!((&cors.origins[..], &cors.methods[..]), (&["https://*.example.com".into()][..], &["*".into()][..]));
    assert_eq!((cors.max_age.0.as_secs(), cors.credentials), (60, false));
}

#[test]
fn a_backend_has_redirects_and_rewrites_of_its_own_and_what_is_for_whole_rules_is_refused() {
    let with = |filter: Value| {
        let backend = json!({"name": "web", "port": 80, "filters": [filter]});
        World {
            gateways: vec![gateway(json!([{"name": "http", "port": 80, "protocol": "HTTP"}]))],
            routes: vec![route("a", json!({"rules": [{"backendRefs": [backend]}]}))],
            ..Default::default()
        }
        .model()
    };
    let path = json!({"type": "ReplaceFullPath", "replaceFullPath": "/x"});
    let model = with(json!({"type": "URLRewrite", "urlRewrite": {"hostname": "b.example", "path": path}}));
    let target = &model.config.listeners[0].routes[0].to[0];
    assert_eq!(target.rewrite.as_ref().and_then(|r| r.host.as_deref()), Some("b.example"));
    let model = with(json!({"type": "RequestRedirect", "requestRedirect": {"path": path, "statusCode": 307}}));
    let target = &model.config.listeners[0].routes[0].to[0];
    assert_eq!(target.redirect.as_ref().and_then(|r| r.status), Some(307));
    let model = with(json!({"type": "CORS", "cors": {"allowOrigins": ["*"]}}));
    assert_eq!(said(&model, "a", "Accepted"), (Some(false), "UnsupportedValue"));
    assert_eq!(model.config.listeners[0].routes[0].filters.respond.as_ref().map(|r| r.status), Some(500));
}
