//! HTTPRoutes as routes of the proxy.

use std::collections::BTreeSet;

use jiff::Timestamp;
use pattern_kinds::gateway::{
    BackendReference, HTTPHeaderFilter, HTTPPathModifier, HTTPRoute, HTTPRouteFilter, HTTPRouteMatch, HTTPRouteRule,
    HTTPValueMatch, ParentReference, RouteParentStatus, RouteStatus,
};
use proxy::config::{
    Config, Cors, Duration, Filters, HeaderEdit, HeaderMatch, HeaderValue, Listener, Match, Mirror, PathMatch,
    PathRewrite, Pool, Redirect, Rewrite, Route, Target,
};

use super::{
    GATEWAY_CONTROLLER,
    grants::{End, may_refer},
    model::{Building, Inputs, answer},
};
use crate::conditions::{Said, conditions};

/// What is served, by the names of the Gateway API's conformance tests, sorted.
pub const FEATURES: &[&str] = &[
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendRequestRedirect",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

const GROUP: &str = "gateway.networking.k8s.io";

/// What is said of a route with respect to one parent.
pub struct ParentSaid {
    pub parent: ParentReference,
    pub said: Vec<Said>,
}

/// The status of a route: ours renewed, other controllers' as they are.
pub fn status(route: &HTTPRoute, said: &[ParentSaid], now: Timestamp) -> RouteStatus {
    let before = route.status.clone().unwrap_or_default().parents;
    let mut parents: Vec<RouteParentStatus> = Vec::new();
    for one in said {
        let known = before.iter().find(|p| p.controller_name == GATEWAY_CONTROLLER && p.parent_ref == one.parent);
        parents.push(RouteParentStatus {
            parent_ref: one.parent.clone(),
            controller_name: GATEWAY_CONTROLLER.to_owned(),
            conditions: conditions(&one.said, known.map_or(&[], |p| &p.conditions), route.metadata.generation, now),
        });
    }
    parents.extend(before.into_iter().filter(|p| p.controller_name != GATEWAY_CONTROLLER));
    RouteStatus { parents }
}

/// What comes of a route on the hosts of a listener.
pub struct Made {
    /// The proxy's routes.
    pub routes: Vec<Route>,
    /// What of the objects that it refers to can't be used.
    pub unresolved: Option<Said>,
    /// What is wrong with rules of it, which are answered with 500; and how many they are.
    invalid: Option<(usize, String)>,
}

impl Made {
    /// Whether it is taken.
    pub fn accepted(&self) -> Said {
        match &self.invalid {
            Some((rules, why)) if *rules == self.routes.len() => Said::no("Accepted", "UnsupportedValue", why),
            _ => Said::yes("Accepted", "Accepted", "a listener serves it"),
        }
    }

    /// Said if only some of its rules can be served.
    pub fn partly_invalid(&self) -> Option<Said> {
        let (rules, why) = self.invalid.as_ref()?;
        (*rules < self.routes.len())
            .then(|| Said::yes("PartiallyInvalid", "UnsupportedValue", format!("Dropped Rule: {why}")))
    }
}

/// Whether the proxies can serve a route: what one object says must not keep all others from being served.
pub fn sound(route: &Route) -> Result<(), String> {
    let names = route.to.iter().map(|t| &t.pool).chain(route.filters.mirrors.iter().map(|m| &m.pool));
    let names: BTreeSet<&String> = names.filter(|name| !name.is_empty()).collect();
    let config = Config {
        listeners: vec![Listener { address: ":80".into(), routes: vec![route.clone()], ..Default::default() }],
        pools: names.into_iter().map(|name| Pool { name: name.clone(), ..Default::default() }).collect(),
        ..Default::default()
    };
    proxy::config::check(&config).map_err(|problem| {
        format!("{}: {}", problem.field.trim_start_matches("listeners[0].routes[0]."), problem.reason)
    })
}

/// The proxy's routes for a route on these hosts, and what can't be resolved of it.
pub fn translate(inputs: &Inputs<'_>, building: &mut Building, route: &HTTPRoute, hosts: &[String]) -> Made {
    let mut wrong = None;
    let mut invalid: Option<(usize, String)> = None;
    let namespace = route.metadata.namespace.clone().unwrap_or_default();
    let name = format!("{namespace}/{}", route.metadata.name.as_deref().unwrap_or_default());
    let rules = route.spec.rules.clone().unwrap_or_else(|| vec![HTTPRouteRule::default()]);
    let made = rules
        .iter()
        .enumerate()
        .map(|(i, rule)| {
            let mut out = Route { name: name.clone(), hosts: hosts.to_vec(), ..Default::default() };
            let mut unserved = None;
            out.matches = rule.matches.iter().flatten().map(matching).collect();
            out.filters = filters(inputs, building, &namespace, rule.filters.iter().flatten(), &mut wrong);
            let timeouts = rule.timeouts.as_ref();
            let time = |text: Option<&String>| text.and_then(|t| t.parse::<Duration>().ok());
            if let Some(time) = time(timeouts.and_then(|t| t.request.as_ref())) {
                out.timeout = time;
            }
            // There are no retries to be asked for: the one request to a backend is the whole.
            let attempt = time(timeouts.and_then(|t| t.backend_request.as_ref())).filter(|t| *t != Duration::default());
            if let Some(attempt) = attempt
                && (out.timeout == Duration::default() || attempt.0 < out.timeout.0)
            {
                out.timeout = attempt;
            }
            for backend in rule.backend_refs.iter().flatten() {
                let reference = BackendReference {
                    group: backend.group.clone(),
                    kind: backend.kind.clone(),
                    name: backend.name.clone(),
                    namespace: backend.namespace.clone(),
                    port: backend.port,
                };
                // One that can't be resolved keeps its share, which is answered with 500, as the specification has it.
                let resolved = resolve(inputs, building, &namespace, &reference, &mut wrong);
                let mut target = resolved.unwrap_or(Target { status: Some(500), ..Default::default() });
                target.weight = u32::try_from(backend.weight.unwrap_or(1)).unwrap_or_default();
                let own = filters(inputs, building, &namespace, backend.filters.iter().flatten(), &mut wrong);
                target.request_headers = own.request_headers;
                target.response_headers = own.response_headers;
                target.redirect = own.redirect;
                target.rewrite = own.rewrite;
                if own.cors.is_some() || !own.mirrors.is_empty() {
                    unserved =
                        Some(format!("CORS and mirrors are for whole rules, not for backend {} alone", backend.name));
                }
                if own.respond.is_some() {
                    target = Target { weight: target.weight, status: Some(500), ..Default::default() };
                }
                out.to.push(target);
            }
            // Without a backend it is the same.
            if out.to.is_empty() && out.filters.redirect.is_none() {
                out.filters.respond = Some(answer(500));
            }
            if let Some(why) = unserved.or_else(|| sound(&out).err()) {
                let (rules, _) = invalid.get_or_insert((0, format!("rules[{i}]: {why}")));
                *rules += 1;
                out = refused(out);
            }
            out
        })
        .collect();
    Made { routes: made, unresolved: wrong, invalid }
}

/// In place of a rule that can't be served: 500 for what it certainly would have matched.
fn refused(route: Route) -> Route {
    let by_path = |one: Match| Match { path: one.path, ..Default::default() };
    let plain = |one: &Match| !matches!(one.path, Some(PathMatch::Regex(_)));
    let matches: Vec<Match> = route.matches.into_iter().map(by_path).filter(plain).collect();
    let out = Route {
        name: route.name.clone(),
        hosts: route.hosts,
        matches,
        filters: Filters { respond: Some(answer(500)), ..Default::default() },
        ..Default::default()
    };
    match out.matches.is_empty() || sound(&out).is_err() {
        // Nothing is certain: it matches nothing that anybody asks for.
        true => Route { matches: vec![Match { methods: vec!["-".into()], ..Default::default() }], ..out },
        false => out,
    }
}

fn resolve(
    inputs: &Inputs<'_>,
    building: &mut Building,
    own: &str,
    reference: &BackendReference,
    wrong: &mut Option<Said>,
) -> Option<Target> {
    // What was found first is said.
    let mut refuse = |reason, message| {
        wrong.get_or_insert(Said::no("ResolvedRefs", reason, message));
    };
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let kind = (reference.group.as_deref().unwrap_or(""), reference.kind.as_deref().unwrap_or("Service"));
    if kind != ("", "Service") {
        refuse("InvalidKind", format!("{} can't be a backend", kind.1));
        return None;
    }
    let from = End { group: GROUP, kind: "HTTPRoute", namespace: own };
    let to = End { group: "", kind: "Service", namespace };
    if !may_refer(&inputs.grants, &from, &to, &reference.name) {
        refuse("RefNotPermitted", format!("no ReferenceGrant lets it use Service {namespace}/{}", reference.name));
        return None;
    }
    let (target, missing) = building.target(inputs, namespace, &reference.name, reference.port.unwrap_or(80));
    match missing {
        Some(missing) => {
            refuse("BackendNotFound", missing.to_string());
            None
        }
        None => Some(target),
    }
}

fn matching(one: &HTTPRouteMatch) -> Match {
    let path = one.path.as_ref().map(|path| {
        let value = path.value.clone().unwrap_or_else(|| "/".to_owned());
        match path.type_.as_deref() {
            Some("Exact") => PathMatch::Exact(value),
            Some("RegularExpression") => PathMatch::Regex(value),
            _ => PathMatch::Prefix(value),
        }
    });
    let values = |all: &Option<Vec<HTTPValueMatch>>| {
        let all = all.iter().flatten().map(|m| match m.type_.as_deref() {
            Some("RegularExpression") => {
                HeaderMatch { name: m.name.clone(), regex: Some(m.value.clone()), ..Default::default() }
            }
            _ => HeaderMatch { name: m.name.clone(), exact: Some(m.value.clone()), ..Default::default() },
        });
        all.collect()
    };
    Match {
        path,
        methods: one.method.iter().cloned().collect(),
        headers: values(&one.headers),
        query: values(&one.query_params),
    }
}

fn filters<'a>(
    inputs: &Inputs<'_>,
    building: &mut Building,
    namespace: &str,
    all: impl Iterator<Item = &'a HTTPRouteFilter>,
    wrong: &mut Option<Said>,
) -> Filters {
    let mut out = Filters::default();
    for filter in all {
        if let Some(headers) = &filter.request_header_modifier {
            out.request_headers = edit(headers);
        }
        if let Some(headers) = &filter.response_header_modifier {
            out.response_headers = edit(headers);
        }
        if let Some(mirror) = &filter.request_mirror
            && let Some(target) = resolve(inputs, building, namespace, &mirror.backend_ref, wrong)
        {
            let percent = match (&mirror.fraction, mirror.percent) {
                (Some(part), _) => {
                    f64::from(part.numerator) * 100.0 / f64::from(part.denominator.unwrap_or(100).max(1))
                }
                (None, Some(percent)) => f64::from(percent),
                (None, None) => 100.0,
            };
            out.mirrors.push(Mirror { pool: target.pool, percent: percent.clamp(0.0, 100.0), compare: false });
        }
        if let Some(redirect) = &filter.request_redirect {
            out.redirect = Some(Redirect {
                scheme: redirect.scheme.clone(),
                host: redirect.hostname.clone(),
                port: redirect.port.and_then(|port| u16::try_from(port).ok()),
                path: redirect.path.as_ref().map(path),
                status: redirect.status_code.and_then(|status| u16::try_from(status).ok()),
            });
        }
        if let Some(rewrite) = &filter.url_rewrite {
            out.rewrite = Some(Rewrite { host: rewrite.hostname.clone(), path: rewrite.path.as_ref().map(path) });
        }
        if let Some(cors) = &filter.cors {
            let list = |all: &Option<Vec<String>>| all.clone().unwrap_or_default();
            out.cors = Some(Cors {
                origins: list(&cors.allow_origins),
                credentials: cors.allow_credentials.unwrap_or_default(),
                methods: list(&cors.allow_methods),
                headers: list(&cors.allow_headers),
                expose: list(&cors.expose_headers),
                max_age: Duration::seconds(u64::try_from(cors.max_age.unwrap_or(5)).unwrap_or_default()),
            });
        }
        if filter.extension_ref.is_some() {
            wrong.get_or_insert(Said::no("ResolvedRefs", "InvalidKind", "there are no filters of other kinds"));
            out.respond = Some(answer(500));
        }
    }
    out
}

fn path(modifier: &HTTPPathModifier) -> PathRewrite {
    match modifier.type_.as_str() {
        "ReplacePrefixMatch" => PathRewrite::Prefix(modifier.replace_prefix_match.clone().unwrap_or_default()),
        _ => PathRewrite::Full(modifier.replace_full_path.clone().unwrap_or_default()),
    }
}

fn edit(headers: &HTTPHeaderFilter) -> HeaderEdit {
    let values = |all: &Option<Vec<pattern_kinds::gateway::HTTPHeader>>| {
        all.iter().flatten().map(|h| HeaderValue { name: h.name.clone(), value: h.value.clone() }).collect()
    };
    HeaderEdit {
        set: values(&headers.set),
        add: values(&headers.add),
        remove: headers.remove.clone().unwrap_or_default(),
    }
}
