//! Services and what stands before and behind them.

use serde_json::Value;

use super::{
    cell::{at, labels, list_at, number_at, selector, text_at, text_or, up_to_three},
    column::{AGE, NAME, name_of_class, text, wide},
};
use crate::resource::Column;

pub(super) const SERVICES: &[Column] = &[
    NAME,
    text("Type", "How the Service is reached.", |o, _| text_at(o, "/spec/type").into()),
    text("Cluster-IP", "Its address in the cluster.", |o, _| {
        match list_at(o, "/spec/clusterIPs").first().and_then(Value::as_str) {
            Some(first) => first.into(),
            None => "<none>".into(),
        }
    }),
    text("External-IP", "Its addresses outside of the cluster.", |o, _| external_ip(o).into()),
    text("Port(s)", "Its ports.", |o, _| ports(o).into()),
    AGE,
    wide("Selector", "Which pods it leads to.", |o, _| labels(at(o, "/spec/selector")).into()),
];

pub(super) const ENDPOINTS: &[Column] =
    &[NAME, text("Endpoints", "Ready addresses and ports.", |o, _| endpoints(o).into()), AGE];

pub(super) const ENDPOINT_SLICES: &[Column] = &[
    NAME,
    text("AddressType", "What its addresses are.", |o, _| text_at(o, "/addressType").into()),
    text("Ports", "Its ports.", |o, _| {
        let ports = list_at(o, "/ports").iter().map(|p| match at(p, "/port").and_then(Value::as_i64) {
            Some(port) => port.to_string(),
            None => at(p, "/name").and_then(Value::as_str).unwrap_or("*").to_owned(),
        });
        up_to_three(&ports.collect::<Vec<_>>()).into()
    }),
    text("Endpoints", "Its addresses.", |o, _| {
        let addresses = list_at(o, "/endpoints").iter().flat_map(|e| list_at(e, "/addresses"));
        let addresses: Vec<_> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        up_to_three(&addresses).into()
    }),
    AGE,
];

pub(super) const INGRESSES: &[Column] = &[
    NAME,
    text("Class", "Its IngressClass.", |o, _| {
        at(o, "/spec/ingressClassName").and_then(Value::as_str).unwrap_or("<none>").into()
    }),
    text("Hosts", "The hosts that its rules are for.", |o, _| hosts(o).into()),
    text("Address", "Where it is reached.", |o, _| load_balancer(o).join(",").into()),
    text("Ports", "The ports that it opens.", |o, _| {
        if list_at(o, "/spec/tls").is_empty() { "80".into() } else { "80, 443".into() }
    }),
    AGE,
];

pub(super) const INGRESS_CLASSES: &[Column] = &[
    Column { cell: |o, _| name_of_class(o, &["ingressclass.kubernetes.io/is-default-class"]), ..NAME },
    text("Controller", "What serves the class.", |o, _| text_at(o, "/spec/controller").into()),
    text("Parameters", "Where the class has more parameters.", |o, _| {
        let Some(parameters) = at(o, "/spec/parameters") else {
            return "<none>".into();
        };
        let group = match at(parameters, "/apiGroup").and_then(Value::as_str) {
            Some(group) => format!(".{group}"),
            None => String::new(),
        };
        format!("{}{group}/{}", text_at(parameters, "/kind"), text_at(parameters, "/name")).into()
    }),
    AGE,
];

pub(super) const NETWORK_POLICIES: &[Column] = &[
    NAME,
    text("Pod-Selector", "Which pods it is for.", |o, _| {
        // An absent selector is an empty one: upstream's is no pointer.
        let everything = Value::Object(serde_json::Map::new());
        selector(Some(at(o, "/spec/podSelector").unwrap_or(&everything))).into()
    }),
    AGE,
];

pub(super) const SERVICE_CIDRS: &[Column] = &[
    NAME,
    text("CIDRs", "The ranges of addresses.", |o, _| {
        let ranges: Vec<_> = list_at(o, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
        ranges.join(",").into()
    }),
    AGE,
];

pub(super) const IP_ADDRESSES: &[Column] =
    &[NAME, text("ParentRef", "What bears the address.", |o, _| parent(o).into())];

fn load_balancer(object: &Value) -> Vec<&str> {
    let ingress = list_at(object, "/status/loadBalancer/ingress").iter();
    let mut found: Vec<_> =
        ingress.map(|i| text_or(i, "/ip", text_at(i, "/hostname"))).filter(|a| !a.is_empty()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn external_ip(service: &Value) -> String {
    let external: Vec<_> = list_at(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    let or = |text: &str, found: Vec<&str>| if found.is_empty() { text.to_owned() } else { found.join(",") };
    match text_at(service, "/spec/type") {
        "ClusterIP" | "NodePort" => or("<none>", external),
        "LoadBalancer" => or("<pending>", load_balancer(service).into_iter().chain(external).collect()),
        "ExternalName" => text_at(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let ports = list_at(service, "/spec/ports").iter().map(|p| {
        let (port, protocol) = (number_at(p, "/port"), text_at(p, "/protocol"));
        match number_at(p, "/nodePort") {
            0 => format!("{port}/{protocol}"),
            node => format!("{port}:{node}/{protocol}"),
        }
    });
    match ports.collect::<Vec<_>>() {
        none if none.is_empty() => "<none>".to_owned(),
        ports => ports.join(","),
    }
}

fn endpoints(object: &Value) -> String {
    let subsets = list_at(object, "/subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses: Vec<_> = list_at(subset, "/addresses").iter().map(|a| text_at(a, "/ip")).collect();
        let ports = list_at(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(|&a| a.to_owned()));
        }
        for port in ports.iter().map(|p| number_at(p, "/port")) {
            all.extend(addresses.iter().map(|a| match a.contains(':') {
                true => format!("[{a}]:{port}"),
                false => format!("{a}:{port}"),
            }));
        }
    }
    match all.len() {
        0 => String::new(),
        _ => up_to_three(&all),
    }
}

fn hosts(ingress: &Value) -> String {
    let rules = list_at(ingress, "/spec/rules");
    let (mut shown, mut more) = (Vec::new(), false);
    for rule in rules {
        if shown.len() == 3 {
            more = true;
        }
        let host = text_at(rule, "/host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (_, false) => shown.join(","),
        (_, true) => format!("{} + {} more...", shown.join(","), rules.len() - 3),
    }
}

fn parent(address: &Value) -> String {
    let Some(parent) = at(address, "/spec/parentRef") else {
        return "<none>".to_owned();
    };
    let mut text = text_at(parent, "/resource").to_lowercase();
    for (separator, part) in [(".", "/group"), ("/", "/namespace"), ("/", "/name")] {
        let part = text_at(parent, part);
        if !part.is_empty() {
            text.push_str(separator);
            text.push_str(&part.to_lowercase());
        }
    }
    text
}
