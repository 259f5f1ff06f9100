//! Gateways: their listeners, and the routes that are attached to them.

use std::sync::Arc;

use controllers::queue::Key;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use pattern_kinds::gateway::{
    Gateway, GatewayAddress, GatewayStatus, HTTPRoute, Listener, ListenerStatus, ParentReference, RouteGroupKind,
};

use super::{
    GATEWAY_CONTROLLER,
    grants::{End, may_refer},
    model::{Building, Inputs, Model, by_age},
    routes::{self, ParentSaid},
};
use crate::conditions::{Said, conditions};

const GROUP: &str = "gateway.networking.k8s.io";

/// What is said of a Gateway.
pub struct GatewaySaid {
    /// Which.
    pub key: Key,
    listeners: Vec<ListenerSaid>,
    /// Why it is not served at all.
    refused: Option<Said>,
}

struct ListenerSaid {
    name: String,
    kinds: Vec<RouteGroupKind>,
    attached: i32,
    /// Whether its port is open, so that routes lead somewhere from it.
    open: bool,
    said: Vec<Said>,
}

impl GatewaySaid {
    /// As its status; `ready` is whether a proxy serves.
    pub fn status(&self, gateway: &Gateway, addresses: &[String], ready: bool, now: Timestamp) -> GatewayStatus {
        let before = gateway.status.clone().unwrap_or_default();
        let generation = gateway.metadata.generation;
        let sound =
            self.listeners.iter().filter(|l| l.said.iter().all(|s| s.type_ == "Conflicted" || s.status == Some(true)));
        let sound = sound.count();
        let accepted = match (&self.refused, sound) {
            (Some(refused), _) => refused.clone(),
            (None, 0) => Said::no("Accepted", "ListenersNotValid", "none of its listeners can be served"),
            (None, _) if sound == self.listeners.len() => Said::yes("Accepted", "Accepted", "the edge serves it"),
            (None, _) => Said::yes("Accepted", "ListenersNotValid", "some of its listeners can't be served"),
        };
        let unusable = gateway.spec.addresses.iter().flatten().filter_map(|a| a.value.as_ref());
        let unusable = unusable.filter(|value| !value.is_empty()).find(|value| !addresses.contains(value));
        let programmed = match (accepted.status, addresses.is_empty(), unusable) {
            (Some(true), ..) if !ready => Said::no("Programmed", "Pending", "the edge is not ready yet"),
            (Some(true), true, _) => Said::no("Programmed", "AddressNotAssigned", "it has no address yet"),
            (Some(true), false, Some(address)) => {
                Said::no("Programmed", "AddressNotUsable", format!("{address} is none of its addresses"))
            }
            (Some(true), false, None) => Said::yes("Programmed", "Programmed", "the edge is ready"),
            _ => Said::no("Programmed", "Invalid", "it is not accepted"),
        };
        let known = before.conditions.unwrap_or_default();
        let listeners = self.listeners.iter().map(|listener| {
            let known = before.listeners.iter().flatten().find(|l| l.name == listener.name);
            let known = known.map_or(&[][..], |l| &l.conditions);
            ListenerStatus {
                name: listener.name.clone(),
                supported_kinds: listener.kinds.clone(),
                attached_routes: listener.attached,
                conditions: conditions(&listener.said, known, generation, now),
            }
        });
        let address = |value: &String| {
            let type_ = if value.parse::<std::net::IpAddr>().is_ok() { "IPAddress" } else { "Hostname" };
            GatewayAddress { type_: Some(type_.into()), value: Some(value.clone()) }
        };
        GatewayStatus {
            addresses: Some(addresses.iter().map(address).collect()),
            conditions: Some(conditions(&[accepted, programmed], &known, generation, now)),
            listeners: Some(listeners.collect()),
        }
    }
}

/// Adds all Gateways of our classes with their routes.
pub fn serve(inputs: &Inputs<'_>, building: &mut Building, model: &mut Model) {
    let ours = |gateway: &Arc<Gateway>| {
        inputs.gateway_classes.iter().any(|class| {
            class.name_any() == gateway.spec.gateway_class_name && class.spec.controller_name == GATEWAY_CONTROLLER
        })
    };
    let routes = by_age(&inputs.routes);
    for gateway in by_age(&inputs.gateways) {
        if !ours(&gateway) || gateway.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let key = Key::of(&*gateway);
        let refused = refused(&gateway);
        let mut listeners: Vec<ListenerSaid> = gateway
            .spec
            .listeners
            .iter()
            .map(|listener| {
                let against = conflict(listener, &gateway.spec.listeners)
                    .or_else(|| refused.as_ref().map(|_| Refused::Unserved("the Gateway is not accepted")));
                open(inputs, building, &key, listener, against)
            })
            .collect();
        for route in routes.iter().filter(|route| route.metadata.deletion_timestamp.is_none()) {
            attach(inputs, building, model, &gateway, route, &mut listeners);
        }
        fence(building, &gateway, &listeners);
        model.gateways.push(GatewaySaid { key, listeners, refused });
    }
}

/// A request belongs to the listener with the narrowest host that fits, even if no route of that one wants it.
fn fence(building: &mut Building, gateway: &Gateway, said: &[ListenerSaid]) {
    let open = || gateway.spec.listeners.iter().zip(said).filter(|(_, said)| said.open).map(|(listener, _)| listener);
    for listener in open() {
        let beside = open().any(|other| other.port == listener.port && other.name != listener.name);
        let host = listener.hostname.as_deref().unwrap_or_default();
        if beside
            && !host.is_empty()
            && let Some(open) = building.open(Some(&Key::of(gateway)), listener.port, listener.protocol == "HTTPS")
        {
            open.fences.push(host.to_owned());
        }
    }
}

/// Takes out the hosts that are another, narrower listener's. `None` if none is left.
fn left(hosts: Vec<String>, listener: &Listener, all: &[Listener]) -> Option<Vec<String>> {
    let host = |one: &Listener| one.hostname.clone().unwrap_or_default();
    let own = host(listener);
    let narrower_than_own = |theirs: &str| match own.as_str() {
        "" => !theirs.is_empty(),
        own => theirs != own && narrower(own, theirs).as_deref() == Some(theirs),
    };
    let taken = |name: &String| {
        all.iter()
            .filter(|other| other.port == listener.port && other.name != listener.name)
            .map(host)
            .any(|theirs| narrower_than_own(&theirs) && narrower(&theirs, name).as_deref() == Some(name.as_str()))
    };
    if hosts.is_empty() {
        return Some(hosts);
    }
    let left: Vec<String> = hosts.into_iter().filter(|name| !taken(name)).collect();
    (!left.is_empty()).then_some(left)
}

/// Why a Gateway can't be served whatever its listeners are.
fn refused(gateway: &Gateway) -> Option<Said> {
    let parameters = gateway.spec.infrastructure.as_ref().and_then(|i| i.parameters_ref.as_ref());
    if let Some(parameters) = parameters {
        let why = format!("there are no parameters of kind {} for Gateways of this class", parameters.kind);
        return Some(Said::no("Accepted", "InvalidParameters", why));
    }
    let mut addresses = gateway.spec.addresses.iter().flatten();
    let odd = addresses.find(|a| !matches!(a.type_.as_deref(), None | Some("IPAddress" | "Hostname")))?;
    let why = format!("addresses of type {} are not served", odd.type_.as_deref().unwrap_or_default());
    Some(Said::no("Accepted", "UnsupportedAddress", why))
}

/// Why a listener is not opened.
enum Refused {
    /// Another listener of its Gateway, or of an older one, stands against it: with this reason.
    Conflict(&'static str, String),
    /// Nothing is wrong with the listener itself.
    Unserved(&'static str),
}

/// Listeners of one Gateway that can't be told apart are all refused: none of them is the one that was meant.
fn conflict(listener: &Listener, all: &[Listener]) -> Option<Refused> {
    let host = |one: &Listener| one.hostname.clone().unwrap_or_default();
    let mut others = all.iter().filter(|other| other.name != listener.name && other.port == listener.port);
    if let Some(other) = others.clone().find(|other| other.protocol != listener.protocol) {
        let why = format!("port {} is for {} by listener {}", listener.port, other.protocol, other.name);
        return Some(Refused::Conflict("ProtocolConflict", why));
    }
    let other = others.find(|other| host(other) == host(listener))?;
    let why = format!("listener {} has the same port and hostname", other.name);
    Some(Refused::Conflict("HostnameConflict", why))
}

fn http_route() -> RouteGroupKind {
    RouteGroupKind { group: Some(GROUP.to_owned()), kind: "HTTPRoute".to_owned() }
}

/// Opens the port of a listener, with its certificates.
fn open(
    inputs: &Inputs<'_>,
    building: &mut Building,
    gateway: &Key,
    listener: &Listener,
    against: Option<Refused>,
) -> ListenerSaid {
    let mut said =
        ListenerSaid { name: listener.name.clone(), kinds: Vec::new(), attached: 0, open: false, said: Vec::new() };
    let tls = match listener.protocol.as_str() {
        "HTTP" => false,
        "HTTPS" => true,
        other => {
            let why = format!("protocol {other} is not served");
            said.said = vec![
                Said::no("Accepted", "UnsupportedProtocol", why),
                Said::no("Conflicted", "NoConflicts", ""),
                Said::yes("ResolvedRefs", "ResolvedRefs", ""),
                Said::no("Programmed", "Invalid", "the listener is not accepted"),
            ];
            return said;
        }
    };
    let asked = listener.allowed_routes.iter().flat_map(|a| a.kinds.iter().flatten());
    let is_http = |k: &RouteGroupKind| k.kind == "HTTPRoute" && k.group.as_deref().unwrap_or(GROUP) == GROUP;
    let (fine, odd): (Vec<_>, Vec<_>) = asked.cloned().partition(is_http);
    if odd.is_empty() || !fine.is_empty() {
        said.kinds.push(http_route());
    }
    let mut resolved = match odd.first() {
        Some(kind) => {
            Said::no("ResolvedRefs", "InvalidRouteKinds", format!("routes of kind {} are not served", kind.kind))
        }
        None => Said::yes("ResolvedRefs", "ResolvedRefs", "everything that it refers to is there"),
    };
    let mut certificates = Vec::new();
    for reference in listener.tls.iter().flat_map(|tls| tls.certificate_refs.iter().flatten()) {
        let namespace = reference.namespace.as_deref().unwrap_or(&gateway.namespace);
        let kind = (reference.group.as_deref().unwrap_or(""), reference.kind.as_deref().unwrap_or("Secret"));
        let from = End { group: GROUP, kind: "Gateway", namespace: &gateway.namespace };
        let to = End { group: kind.0, kind: kind.1, namespace };
        if kind != ("", "Secret") {
            resolved = Said::no("ResolvedRefs", "InvalidCertificateRef", format!("{} is no Secret", kind.1));
        } else if !may_refer(&inputs.grants, &from, &to, &reference.name) {
            let why = format!("no ReferenceGrant lets it use Secret {namespace}/{}", reference.name);
            resolved = Said::no("ResolvedRefs", "RefNotPermitted", why);
        } else {
            let hosts = listener.hostname.iter().filter(|h| !h.is_empty()).cloned().collect();
            match building.certificate((inputs.secret)(&Key::new(namespace, &reference.name)), hosts) {
                Ok(certificate) => certificates.push(certificate),
                Err(why) => {
                    let why = format!("Secret {namespace}/{} {why}", reference.name);
                    resolved = Said::no("ResolvedRefs", "InvalidCertificateRef", why);
                }
            }
        }
    }
    let against = against.or_else(|| {
        let why = || format!("port {} is for another protocol", listener.port);
        building.open(Some(gateway), listener.port, tls).is_none().then(|| Refused::Conflict("ProtocolConflict", why()))
    });
    let served = Said::yes("Accepted", "Accepted", "the listener is served");
    let (accepted, conflicted, programmed) = match against {
        None if tls && certificates.is_empty() => {
            (served, None, Said::no("Programmed", "Invalid", "there is no certificate to show"))
        }
        None => {
            if let Some(open) = building.open(Some(gateway), listener.port, tls) {
                open.certificates.extend(certificates);
            }
            said.open = true;
            (served, None, Said::yes("Programmed", "Programmed", "the configuration is written"))
        }
        Some(Refused::Unserved(why)) => (served, None, Said::no("Programmed", "Invalid", why)),
        Some(Refused::Conflict(reason, why)) => (
            Said::no("Accepted", if reason == "ProtocolConflict" { "PortUnavailable" } else { reason }, why.clone()),
            Some(Said::yes("Conflicted", reason, why)),
            Said::no("Programmed", "Invalid", "the listener is not accepted"),
        ),
    };
    let conflicted = conflicted.unwrap_or_else(|| Said::no("Conflicted", "NoConflicts", ""));
    said.said = vec![accepted, conflicted, resolved, programmed];
    said
}

fn attach(
    inputs: &Inputs<'_>,
    building: &mut Building,
    model: &mut Model,
    gateway: &Gateway,
    route: &HTTPRoute,
    listeners: &mut [ListenerSaid],
) {
    let (ours, theirs) = (Key::of(gateway), Key::of(route));
    let mine = |parent: &&ParentReference| {
        parent.group.as_deref().unwrap_or(GROUP) == GROUP
            && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
            && parent.name == ours.name
            && parent.namespace.as_deref().unwrap_or(&theirs.namespace) == ours.namespace
    };
    let mut attached: Vec<String> = Vec::new();
    for parent in route.spec.parent_refs.iter().flatten().filter(mine) {
        let chosen: Vec<(&Listener, &mut ListenerSaid)> = gateway
            .spec
            .listeners
            .iter()
            .zip(listeners.iter_mut())
            .filter(|(listener, _)| {
                parent.section_name.as_deref().is_none_or(|name| name == listener.name)
                    && parent.port.is_none_or(|port| port == listener.port)
            })
            .collect();
        let mut accepted = Said::no("Accepted", "NoMatchingParent", "the Gateway has no such listener");
        let mut resolved = Said::yes("ResolvedRefs", "ResolvedRefs", "everything that it refers to is there");
        let mut partly = None;
        for (listener, said) in chosen {
            // A better reason than before, unless it is accepted by another listener already.
            let mut refuse = |reason, message: String| {
                if accepted.status != Some(true) {
                    accepted = Said::no("Accepted", reason, message);
                }
            };
            if said.kinds.is_empty() || !allows(inputs, listener, &ours.namespace, &theirs.namespace) {
                refuse("NotAllowedByListeners", format!("listener {} does not allow it", listener.name));
                continue;
            }
            let hosts = match meet(listener.hostname.as_deref(), route.spec.hostnames.as_deref().unwrap_or_default()) {
                Some(hosts) => hosts,
                None => {
                    refuse(
                        "NoMatchingListenerHostname",
                        format!("no host of its is one of listener {}", listener.name),
                    );
                    continue;
                }
            };
            let mut made = routes::translate(inputs, building, route, &hosts);
            accepted = made.accepted();
            partly = made.partly_invalid();
            if let Some(wrong) = made.unresolved {
                resolved = wrong;
            }
            // A route that names a listener twice, once as one of all and once by itself, is attached once.
            if attached.contains(&listener.name) {
                continue;
            }
            attached.push(listener.name.clone());
            said.attached += 1;
            if said.open
                && let Some(open) = building.open(Some(&ours), listener.port, listener.protocol == "HTTPS")
                && let Some(hosts) = left(hosts, listener, &gateway.spec.listeners)
            {
                made.routes.iter_mut().for_each(|made| made.hosts.clone_from(&hosts));
                open.routes.extend(made.routes);
            }
        }
        let mut said = vec![accepted, resolved];
        said.extend(partly);
        let said = ParentSaid { parent: parent.clone(), said };
        model.routes.entry(theirs.clone()).or_default().push(said);
    }
}

fn allows(inputs: &Inputs<'_>, listener: &Listener, own: &str, route: &str) -> bool {
    let namespaces = listener.allowed_routes.as_ref().and_then(|a| a.namespaces.as_ref());
    match namespaces.and_then(|n| n.from.as_deref()).unwrap_or("Same") {
        "All" => true,
        "Selector" => {
            let labels = inputs.namespaces.get(route);
            namespaces.and_then(|n| n.selector.as_ref()).is_some_and(|selector| {
                labels.is_some_and(|labels| selects(selector, |key| labels.get(key).map(String::as_str)))
            })
        }
        _ => own == route,
    }
}

/// Whether a selector selects what has these labels.
fn selects<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| label(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = label(&expression.key);
            let listed = value.is_some_and(|v| expression.values.iter().flatten().any(|x| x == v));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

/// The hosts that both a listener and a route are for; `None` if there are none.
fn meet(listener: Option<&str>, route: &[String]) -> Option<Vec<String>> {
    let listener = listener.filter(|host| !host.is_empty());
    match (listener, route) {
        (None, hosts) => Some(hosts.to_vec()),
        (Some(host), []) => Some(vec![host.to_owned()]),
        (Some(host), hosts) => {
            let common: Vec<String> = hosts.iter().filter_map(|other| narrower(host, other)).collect();
            (!common.is_empty()).then_some(common)
        }
    }
}

/// What both of two hosts stand for.
fn narrower(one: &str, other: &str) -> Option<String> {
    let within = |wide: &str, narrow: &str| {
        wide.strip_prefix('*')
            .is_some_and(|suffix| narrow.trim_start_matches('*').ends_with(suffix) && narrow != suffix)
    };
    if one == other || within(one, other) {
        Some(other.to_owned())
    } else if within(other, one) {
        Some(one.to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_listener_and_route_meet_in_the_narrower_one() {
        let hosts = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        assert_eq!(meet(None, &hosts(&["a.example.com"])), Some(hosts(&["a.example.com"])));
        assert_eq!(meet(Some("*.example.com"), &[]), Some(hosts(&["*.example.com"])));
        assert_eq!(
            meet(Some("*.example.com"), &hosts(&["a.example.com", "a.other.org"])),
            Some(hosts(&["a.example.com"]))
        );
        assert_eq!(meet(Some("a.b.example.com"), &hosts(&["*.example.com"])), Some(hosts(&["a.b.example.com"])));
        assert_eq!(meet(Some("*.example.com"), &hosts(&["example.com"])), None);
        assert_eq!(meet(Some("*.example.com"), &hosts(&["*.a.example.com"])), Some(hosts(&["*.a.example.com"])));
    }
}
