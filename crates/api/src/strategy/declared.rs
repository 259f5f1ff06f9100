//! Kinds whose types are declared with defaults, enumerations and limits in the schema itself: the strategy reads
//! them from there, and has only what a schema can't say in functions of its own.

use serde_json::Value;

use super::{
    access::{at, get, list, text, text_at},
    check::{IMMUTABLE, label_selector},
    field::{Faults, Path},
    names,
    prepare::{PLAIN, WITH_GENERATION, count_generation, first_generation_only},
};
use crate::{
    catalogue,
    resource::{NameRule, Resource, Strategy},
    schema::{Shape, Type},
    status::Cause,
};

/// The strategy of the patterns, whose names become those of Services.
pub const PATTERN: Strategy = Strategy {
    default,
    validate,
    validate_update: |new, _| validate(new),
    name: NameRule::Label1035,
    ..WITH_GENERATION
};

/// The strategy of Sidecars, Gateways and routes.
pub const DECLARED: Strategy =
    Strategy { default, validate, validate_update: |new, _| validate(new), ..WITH_GENERATION };

/// The strategy of GatewayClasses, whose controller can't change.
pub const GATEWAY_CLASS: Strategy = Strategy {
    validate_update: |new, old| {
        let mut faults = Faults::new();
        let controller = |object| text_at(object, &["spec", "controllerName"]).to_owned();
        if controller(new) != controller(old) {
            faults.invalid(&Path::root("spec.controllerName"), &controller(new), IMMUTABLE);
        }
        faults.extend(validate(new));
        faults.into_causes()
    },
    ..DECLARED
};

/// The strategy of ReferenceGrants, which have no status.
pub const GRANT: Strategy = Strategy {
    default,
    validate,
    validate_update: |new, _| validate(new),
    prepare_create: first_generation_only,
    prepare_update: |new, old| count_generation(new, old, &["spec"]),
    ..PLAIN
};

fn entry(object: &Value) -> Option<&'static Resource> {
    let (group, version) = text(object, "apiVersion").split_once('/')?;
    catalogue::by_kind(group, version, text(object, "kind"))
}

/// Types whose schemas carry their rules.
fn is_declared(of: &Type) -> bool {
    of.name.starts_with("dev.hythe.patterns.") || of.name.starts_with("io.k8s.networking.gateway.")
}

fn default(object: &mut Value) {
    let Some(entry) = entry(object) else { return };
    // An object without a spec is refused, not given one.
    let spec = entry.schema.field("spec").map(|field| &field.shape);
    if let (Some(Shape::Object { of, .. }), Some(spec)) = (spec, object.get_mut("spec")) {
        fill(spec, of);
    }
}

fn fill(value: &mut Value, of: &'static Type) {
    let Some(map) = value.as_object_mut().filter(|_| is_declared(of)) else { return };
    for field in of.fields {
        let absent = map.get(field.name).is_none_or(Value::is_null);
        if absent && let Some(default) = field.default.and_then(|json| serde_json::from_str(json).ok()) {
            map.insert(field.name.into(), default);
        }
        let Some(value) = map.get_mut(field.name) else { continue };
        match &field.shape {
            Shape::Object { of, .. } => fill(value, of),
            Shape::List { of: Shape::Object { of, .. }, .. } => {
                value.as_array_mut().into_iter().flatten().for_each(|item| fill(item, of));
            }
            _ => {}
        }
    }
}

fn validate(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::new();
    let Some(entry) = entry(object) else { return Vec::new() };
    let path = Path::root("spec");
    match (get(object, "spec"), entry.schema.field("spec").map(|field| &field.shape)) {
        (Some(spec), Some(Shape::Object { of, .. })) => {
            check(&mut faults, &path, spec, of);
            if faults.count() == 0 {
                of_kind(&mut faults, &path, entry.kind, spec);
            }
        }
        _ => faults.required(&path, ""),
    }
    faults.into_causes()
}

fn check(faults: &mut Faults, path: &Path<'_>, value: &Value, of: &'static Type) {
    if !is_declared(of) {
        return;
    }
    for field in of.fields {
        let path = path.field(field.name);
        let Some(value) = get(value, field.name).filter(|value| !value.is_null()) else {
            if field.required {
                faults.required(&path, "");
            }
            continue;
        };
        let limits = &field.limits;
        match value {
            Value::String(text) if field.required && text.is_empty() && field.name != "group" => {
                faults.required(&path, "");
            }
            Value::String(text) if !limits.one_of.is_empty() && !limits.one_of.contains(&text.as_str()) => {
                faults.not_supported(&path, text, limits.one_of);
            }
            Value::Number(number) => {
                let number = number.as_i64().unwrap_or(i64::MAX);
                if let Some(least) = limits.least.filter(|least| number < *least) {
                    faults.invalid(&path, number, format!("should be greater than or equal to {least}"));
                }
                if let Some(most) = limits.most.filter(|most| number > *most) {
                    faults.invalid(&path, number, format!("should be less than or equal to {most}"));
                }
            }
            Value::Array(items) if limits.least.is_some_and(|least| (items.len() as i64) < least) => {
                faults.required(&path, "must have at least one item");
            }
            _ => {}
        }
        match &field.shape {
            Shape::Object { of, .. } => check(faults, &path, value, of),
            Shape::List { of: Shape::Object { of, .. }, .. } => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(faults, &path.index(i), item, of);
                }
            }
            _ => {}
        }
    }
}

/// Each must be an address or a network.
fn networks(faults: &mut Faults, path: &Path<'_>, spec: &Value, field: &str) {
    let path = path.field(field);
    for (i, network) in list(spec, field).iter().enumerate() {
        let text = network.as_str().unwrap_or_default();
        if !is_network(text) {
            faults.invalid(&path.index(i), text, "must be an address or a network, such as 10.42.0.0/16");
        }
    }
}

/// What a schema can't say.
fn of_kind(faults: &mut Faults, path: &Path<'_>, kind: &str, spec: &Value) {
    match kind {
        "ShardedService" => sharded(faults, path, spec),
        "RequestSplit" => {
            networks(faults, path, spec, "trustedProxies");
            unique(faults, &path.field("backends"), list(spec, "backends"), "name");
            if list(spec, "backends").iter().all(|backend| at(backend, &["weight"]) == Some(&0.into())) {
                faults.invalid_unshown(&path.field("backends"), "at least one weight must be greater than 0");
            }
            let sticky = path.field("sticky");
            let by = text_at(spec, &["sticky", "by"]);
            if by == "Header" && text_at(spec, &["sticky", "name"]).is_empty() {
                faults.required(&sticky.field("name"), "when `by` is 'Header'");
            }
        }
        "RateLimit" => {
            networks(faults, path, spec, "trustedProxies");
            if text(spec, "by") == "Header" && text(spec, "header").is_empty() {
                faults.required(&path.field("header"), "when `by` is 'Header'");
            }
        }
        "CacheTier" => {
            networks(faults, path, spec, "purgeFrom");
            networks(faults, path, spec, "trustedProxies");
        }
        "ScatterGather" => {
            unique(faults, &path.field("leaves"), list(spec, "leaves"), "name");
            for (merge, field) in [("TopK", "top"), ("TopK", "field"), ("Sum", "field"), ("Function", "function")] {
                if text(spec, "merge") == merge && get(spec, field).is_none() {
                    faults.required(&path.field(field), &format!("when `merge` is '{merge}'"));
                }
            }
        }
        "Sidecar" => {
            if let Some(selector) = get(spec, "selector") {
                label_selector(faults, &path.field("selector"), selector);
            }
            if list(spec, "containers").is_empty() && list(spec, "initContainers").is_empty() {
                faults.required(&path.field("containers"), "there must be a container or an init container");
            }
            for field in ["containers", "initContainers", "volumes"] {
                unique(faults, &path.field(field), list(spec, field), "name");
                for (i, item) in list(spec, field).iter().enumerate() {
                    let name = text(item, "name");
                    let path = path.field(field);
                    let path = path.index(i);
                    match name {
                        "" => faults.required(&path.field("name"), ""),
                        _ => faults.invalid_each(&path.field("name"), name, names::dns1123_label(name)),
                    }
                }
            }
        }
        "Gateway" => gateway(faults, path, spec),
        "HTTPRoute" => route(faults, path, spec),
        _ => {}
    }
}

fn is_network(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
}

fn sharded(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    const SOURCES: [&str; 3] = ["statefulSet", "services", "template"];
    let shards = path.field("shards");
    let given: Vec<&str> =
        SOURCES.into_iter().filter(|source| at(spec, &["shards", source]).is_some_and(|s| !s.is_null())).collect();
    match (given.as_slice(), get(spec, "configFrom").is_some()) {
        ([], true) | ([_], false) | (["template"], true) => {}
        ([], false) => faults.required(&shards, "one of `statefulSet`, `services` and `template` must be set"),
        ([_], true) => faults.forbidden(&shards, "may not be set when `configFrom` names the servers"),
        (_, _) => faults.forbidden(&shards, "only one of `statefulSet`, `services` and `template` may be set"),
    }
    if given == ["services"] {
        let services = shards.field("services");
        let items = list(get(spec, "shards").unwrap_or(&Value::Null), "services");
        if items.is_empty() {
            faults.required(&services, "must have at least one item");
        }
        unique(faults, &services, items, "name");
    }
    let tag = text(spec, "hashTag");
    if !tag.is_empty() && tag.chars().count() != 2 {
        faults.invalid(&path.field("hashTag"), tag, "must be two characters");
    }
    const HASHES: [&str; 12] = [
        "one_at_a_time",
        "md5",
        "crc16",
        "crc32",
        "crc32a",
        "fnv1_64",
        "fnv1a_64",
        "fnv1_32",
        "fnv1a_32",
        "hsieh",
        "murmur",
        "jenkins",
    ];
    let hash = text(spec, "hash");
    if !hash.is_empty() && !HASHES.contains(&hash) {
        faults.not_supported(&path.field("hash"), hash, &HASHES);
    }
}

fn gateway(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    let listeners = path.field("listeners");
    let items = list(spec, "listeners");
    if items.is_empty() {
        faults.required(&listeners, "must have at least one item");
    }
    unique(faults, &listeners, items, "name");
    for (i, listener) in items.iter().enumerate() {
        let path = listeners.index(i);
        hostname(faults, &path.field("hostname"), text(listener, "hostname"));
        let tls = get(listener, "tls").is_some();
        match text(listener, "protocol") {
            "HTTP" | "TCP" | "UDP" if tls => {
                faults.forbidden(&path.field("tls"), "must not be specified for protocols ['HTTP', 'TCP', 'UDP']");
            }
            "HTTPS" if !tls => faults.required(&path.field("tls"), "must be specified for protocol 'HTTPS'"),
            "HTTPS" if text_at(listener, &["tls", "mode"]) == "Passthrough" => {
                faults.invalid(&path.field("tls").field("mode"), "Passthrough", "must be Terminate for protocol HTTPS");
            }
            _ => {}
        }
    }
}

fn route(faults: &mut Faults, path: &Path<'_>, spec: &Value) {
    for (i, host) in list(spec, "hostnames").iter().enumerate() {
        hostname(faults, &path.field("hostnames").index(i), host.as_str().unwrap_or_default());
    }
    for (i, rule) in list(spec, "rules").iter().enumerate() {
        let rules = path.field("rules");
        let path = rules.index(i);
        for (j, one) in list(rule, "matches").iter().enumerate() {
            let value = text_at(one, &["path", "value"]);
            if !value.starts_with('/') && text_at(one, &["path", "type"]) != "RegularExpression" {
                let matches = path.field("matches");
                let at = matches.index(j);
                faults.invalid(
                    &at.field("path").field("value"),
                    value,
                    "value must be an absolute path and start with '/'",
                );
            }
        }
        for (j, filter) in list(rule, "filters").iter().enumerate() {
            let filters = path.field("filters");
            let at = filters.index(j);
            let field = match text(filter, "type") {
                "RequestHeaderModifier" => "requestHeaderModifier",
                "ResponseHeaderModifier" => "responseHeaderModifier",
                "RequestMirror" => "requestMirror",
                "RequestRedirect" => "requestRedirect",
                "URLRewrite" => "urlRewrite",
                "CORS" => "cors",
                _ => "extensionRef",
            };
            if get(filter, field).is_none() {
                faults.required(&at.field(field), "must be specified for its `type`");
            }
            if text(filter, "type") == "RequestRedirect" && !list(rule, "backendRefs").is_empty() {
                faults.forbidden(
                    &path.field("backendRefs"),
                    "RequestRedirect filter must not be used together with backendRefs",
                );
            }
        }
        for (j, backend) in list(rule, "backendRefs").iter().enumerate() {
            if text(backend, "kind") == "Service" && get(backend, "port").is_none() {
                let backends = path.field("backendRefs");
                faults.required(&backends.index(j).field("port"), "Must have port for Service reference");
            }
        }
    }
}

fn hostname(faults: &mut Faults, path: &Path<'_>, host: &str) {
    let plain = host.strip_prefix("*.").unwrap_or(host);
    if !plain.is_empty() {
        faults.invalid_each(path, host, names::dns1123_subdomain(plain));
    }
}

fn unique(faults: &mut Faults, path: &Path<'_>, items: &[Value], key: &str) {
    for (i, item) in items.iter().enumerate() {
        if items[..i].iter().any(|before| text(before, key) == text(item, key)) {
            faults.duplicate(&path.index(i).field(key), text(item, key));
        }
    }
}
