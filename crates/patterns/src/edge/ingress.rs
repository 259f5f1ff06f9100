//! Ingresses as routes of the edge's ports 80 and 443.

use controllers::queue::Key;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};
use kube::ResourceExt;
use proxy::config::{Match, PathMatch, Route, Target};

use super::{
    CLASS, INGRESS_CONTROLLER,
    model::{Building, Inputs, Model, by_age},
    routes::sound,
};

const HTTP: i32 = 80;
const HTTPS: i32 = 443;
/// What clusters used before there were classes.
const ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Adds all Ingresses of our classes.
pub fn serve(inputs: &Inputs<'_>, building: &mut Building, model: &mut Model) {
    // Backends for what matches nothing else come after all rules.
    let mut last: Vec<(bool, Route)> = Vec::new();
    for ingress in by_age(&inputs.ingresses) {
        if !is_ours(inputs, &ingress) || ingress.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let key = Key::of(&*ingress);
        let mut warn = |note: String| model.warnings.push((key.clone(), note));
        let Some(spec) = &ingress.spec else { continue };
        let mut certificates = Vec::new();
        for tls in spec.tls.iter().flatten() {
            let name = tls.secret_name.clone().unwrap_or_default();
            let secret = (inputs.secret)(&Key::new(&key.namespace, &name));
            match building.certificate(secret, tls.hosts.clone().unwrap_or_default()) {
                Ok(certificate) => certificates.push(certificate),
                Err(reason) => warn(format!("TLS: Secret {name:?} {reason}")),
            }
        }
        let tls = spec.tls.as_ref().is_some_and(|tls| !tls.is_empty());
        let mut routes = Vec::new();
        for rule in spec.rules.iter().flatten() {
            let hosts: Vec<String> = rule.host.iter().filter(|h| !h.is_empty()).cloned().collect();
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let target = match target(inputs, building, &key.namespace, &path.backend) {
                    (target, None) => target,
                    (target, Some(note)) => {
                        warn(note);
                        target
                    }
                };
                let text = path.path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/".to_owned());
                let matching = match path.path_type.as_str() {
                    "Exact" => PathMatch::Exact(text),
                    // What an implementation makes of its own type is its own business: a prefix, as with most.
                    _ => PathMatch::Prefix(text),
                };
                let route = Route {
                    hosts: hosts.clone(),
                    matches: vec![Match { path: Some(matching), ..Default::default() }],
                    ..leading(&key, target)
                };
                // What one Ingress says must not keep all others from being served.
                match sound(&route) {
                    Ok(()) => routes.push(route),
                    Err(why) => warn(format!("host {:?}: {why}", rule.host.as_deref().unwrap_or_default())),
                }
            }
            // A host without paths has all of them for the default backend.
            if rule.http.is_none()
                && let Some(backend) = &spec.default_backend
            {
                let (target, note) = target(inputs, building, &key.namespace, backend);
                note.into_iter().for_each(&mut warn);
                routes.push(Route { hosts, ..leading(&key, target) });
            }
        }
        if let Some(backend) = &spec.default_backend {
            let (target, note) = target(inputs, building, &key.namespace, backend);
            note.into_iter().for_each(&mut warn);
            last.push((tls, leading(&key, target)));
        }
        for (port, ends_tls, other) in [(HTTP, false, "HTTPS"), (HTTPS, true, "HTTP")] {
            if ends_tls && !tls {
                continue;
            }
            if building.taken_on_nodes(inputs, port, ends_tls) {
                warn(format!("port {port} is used for {other} by a Gateway"));
            }
            if let Some(open) = building.open(None, port, ends_tls) {
                open.routes.extend(routes.iter().cloned());
                open.certificates.extend(certificates.iter().filter(|_| ends_tls).cloned());
            }
        }
        model.ingresses.push(key);
    }
    for (tls, route) in last {
        if let Some(open) = building.open(None, HTTP, false) {
            open.routes.push(route.clone());
        }
        if tls && let Some(open) = building.open(None, HTTPS, true) {
            open.routes.push(route);
        }
    }
}

/// A route to a backend. A star in a host is one label; without a backend that can be reached the answer is 503.
fn leading(key: &Key, target: Option<Target>) -> Route {
    Route { name: key.to_string(), one_label: true, to: target.into_iter().collect(), ..Default::default() }
}

fn is_ours(inputs: &Inputs<'_>, ingress: &Ingress) -> bool {
    let named = ingress.spec.as_ref().and_then(|s| s.ingress_class_name.as_deref());
    let is_class = |name: &str| {
        inputs.ingress_classes.iter().any(|class| {
            let controller = class.spec.as_ref().and_then(|s| s.controller.as_deref());
            class.name_any() == name && controller == Some(INGRESS_CONTROLLER)
        })
    };
    match (named, ingress.annotations().get(ANNOTATION)) {
        (Some(name), _) => is_class(name),
        (None, Some(annotation)) => annotation == CLASS || is_class(annotation),
        (None, None) => false,
    }
}

/// The pool of a backend, and what is wrong with it.
fn target(
    inputs: &Inputs<'_>,
    building: &mut Building,
    namespace: &str,
    backend: &IngressBackend,
) -> (Option<Target>, Option<String>) {
    let Some(service) = &backend.service else {
        return (None, Some("only Services can be backends".to_owned()));
    };
    let port = service.port.as_ref();
    let number = match (port.and_then(|p| p.number), port.and_then(|p| p.name.as_deref())) {
        (Some(number), _) => Some(number),
        (None, Some(name)) => (inputs.port_named)(namespace, &service.name, name),
        (None, None) => None,
    };
    let Some(number) = number else {
        return (None, Some(format!("Service {:?} or its port is not there", service.name)));
    };
    let (target, missing) = building.target(inputs, namespace, &service.name, number);
    (Some(target), missing.map(|m| m.to_string()))
}
