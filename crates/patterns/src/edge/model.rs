//! What the edge serves, worked out from all objects at once. Pure: caches are passed in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use controllers::queue::Key;
use k8s_openapi::api::{
    core::v1::Secret,
    networking::v1::{Ingress, IngressClass},
};
use kube::Resource;
use pattern_kinds::gateway::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use proxy::config::{Certificate, Config, Filters, HttpVersion, Listener, Pool, Respond, Route, Target, Tls};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{digest, gateway, gateway::GatewaySaid, ingress, routes::ParentSaid};
use crate::{
    plan::CONFIG,
    world::{Missing, Reach},
};

/// All that counts.
pub struct Inputs<'a> {
    pub ingresses: Vec<Arc<Ingress>>,
    pub ingress_classes: Vec<Arc<IngressClass>>,
    pub gateways: Vec<Arc<Gateway>>,
    pub gateway_classes: Vec<Arc<GatewayClass>>,
    pub routes: Vec<Arc<HTTPRoute>>,
    pub grants: Vec<Arc<ReferenceGrant>>,
    /// The labels of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub secret: &'a (dyn Fn(&Key) -> Option<Arc<Secret>> + Sync),
    pub reach: &'a (dyn Fn(&str, &str, i32) -> Result<Reach, Missing> + Sync),
    /// What the pods behind a port of a Service speak.
    pub speaks: &'a (dyn Fn(&str, &str, i32) -> HttpVersion + Sync),
    pub port_named: &'a (dyn Fn(&str, &str, &str) -> Option<i32> + Sync),
    /// Whether a port of the nodes leads to the Gateways that have it, besides their own addresses.
    pub on_nodes: &'a (dyn Fn(i32) -> bool + Sync),
    /// The proxies' own ports for those of Gateways, as they were so far.
    pub own_ports: OwnPorts,
}

/// By Gateway and port of its listeners: the port of the proxies to which its address leads.
pub type OwnPorts = BTreeMap<Key, BTreeMap<i32, i32>>;

/// The proxies' ports that stand for those of one Gateway each: no port of a listener, of nodes or of the system's choice
/// is among them for as long as nobody asks for one.
const OWN_PORTS: std::ops::Range<i32> = 20_000..30_000;

/// What comes of it.
#[derive(Default)]
pub struct Model {
    /// What the proxies read.
    pub config: Config,
    /// Certificates and keys by the names of their files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The ports that are open for all Ingresses and for the Gateways that nodes lead to.
    pub ports: BTreeSet<i32>,
    /// The ports that are open at the addresses of Gateways.
    pub own_ports: OwnPorts,
    /// Gateways that share none of their ports of nodes with anybody.
    pub alone: BTreeSet<Key>,
    /// Ingresses that are served.
    pub ingresses: Vec<Key>,
    /// What is wrong with which Ingress.
    pub warnings: Vec<(Key, String)>,
    /// The Gateways with what is said of them.
    pub gateways: Vec<GatewaySaid>,
    /// Routes with what is said of each parent.
    pub routes: BTreeMap<Key, Vec<ParentSaid>>,
}

/// One open port in the making.
#[derive(Default)]
pub struct Open {
    /// The Gateway that it is a port of; those of Ingresses are nobody's.
    pub owner: Option<Key>,
    pub port: i32,
    /// Whether TLS is ended there.
    pub tls: bool,
    pub routes: Vec<Route>,
    /// Hosts of listeners beside others: what no route of theirs matches is not for a listener of a wider host.
    pub fences: Vec<String>,
    pub certificates: Vec<Certificate>,
}

impl Open {
    fn can_be_served(&self) -> bool {
        !self.tls || !self.certificates.is_empty()
    }
}

/// Everything under construction.
#[derive(Default)]
pub struct Building {
    /// Who was there first is first.
    open: Vec<Open>,
    pub pools: BTreeMap<String, Pool>,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Model {
    /// Works it out.
    pub fn of(inputs: &Inputs<'_>) -> Self {
        let mut model = Self::default();
        let mut building = Building::default();
        gateway::serve(inputs, &mut building, &mut model);
        ingress::serve(inputs, &mut building, &mut model);
        model.files = building.files;
        model.config.access_log = true;
        model.config.pools = building.pools.into_values().collect();
        building.open.retain(Open::can_be_served);
        let at_nodes = at_nodes(&building.open, inputs);
        model.ports = at_nodes.keys().copied().collect();
        model.own_ports = own_ports(&building.open, &model.ports, &inputs.own_ports);
        let sharing =
            |open: &Open| at_nodes.get(&open.port).is_none_or(|all| all.len() > 1 || !std::ptr::eq(all[0], open));
        let gateways = || building.open.iter().filter_map(|open| Some((open.owner.clone()?, open)));
        model.alone = gateways().map(|(owner, _)| owner).collect();
        for (owner, _) in gateways().filter(|(_, open)| sharing(open)) {
            model.alone.remove(&owner);
        }
        for (port, all) in &at_nodes {
            let mut listener = listener(*port, *port, all);
            // Who shares a port of the nodes with nobody is served there as at its own.
            if let [open] = &all[..]
                && let Some(own) = open.owner.as_ref().and_then(|owner| model.own_ports.get(owner)?.get(port))
            {
                listener.also.push(address(*own));
            }
            model.config.listeners.push(listener);
        }
        for (owner, open) in gateways().filter(|(_, open)| sharing(open)) {
            if let Some(own) = model.own_ports.get(&owner).and_then(|ports| ports.get(&open.port)) {
                model.config.listeners.push(listener(*own, open.port, &[open]));
            }
        }
        model
    }

    /// Whether there is nothing to serve.
    pub fn is_empty(&self) -> bool {
        self.config.listeners.is_empty()
    }
}

/// Who has which port of the nodes. Of those who want one for HTTP and those who want it for HTTPS the oldest decides.
fn at_nodes<'a>(open: &'a [Open], inputs: &Inputs<'_>) -> BTreeMap<i32, Vec<&'a Open>> {
    let mut all: BTreeMap<i32, Vec<&Open>> = BTreeMap::new();
    for one in open.iter().filter(|one| one.owner.is_none() || (inputs.on_nodes)(one.port)) {
        let sharing = all.entry(one.port).or_default();
        if sharing.first().is_none_or(|first| first.tls == one.tls) {
            sharing.push(one);
        }
    }
    all
}

/// The proxies' ports for those of Gateways: what was chosen stays.
fn own_ports(open: &[Open], taken: &BTreeSet<i32>, before: &OwnPorts) -> OwnPorts {
    let known = |owner: &Key, port: i32| before.get(owner)?.get(&port).copied().filter(|own| !taken.contains(own));
    let mut chosen = OwnPorts::new();
    let mut used = taken.clone();
    let gateways = || open.iter().filter_map(|open| Some((open.owner.as_ref()?, open.port)));
    for (owner, port) in gateways() {
        if let Some(own) = known(owner, port)
            && used.insert(own)
        {
            chosen.entry(owner.clone()).or_default().insert(port, own);
        }
    }
    let mut free = OWN_PORTS;
    for (owner, port) in gateways() {
        let ports = chosen.entry(owner.clone()).or_default();
        if ports.contains_key(&port) {
            continue;
        }
        // With more ports than there are, the last Gateways have none.
        if let Some(own) = free.find(|own| !used.contains(own)) {
            ports.insert(port, own);
        }
    }
    chosen
}

fn address(port: i32) -> String {
    format!("0.0.0.0:{port}")
}

/// The proxies' listener at `port` for those who ask for port `asked` of these.
fn listener(port: i32, asked: i32, of: &[&Open]) -> Listener {
    let mut routes: Vec<Route> = of.iter().flat_map(|open| open.routes.iter().cloned()).collect();
    let fences: Vec<String> = of.iter().flat_map(|open| open.fences.iter().cloned()).collect();
    if !fences.is_empty() {
        // Behind all routes of these hosts, since equals keep their order.
        routes.push(Route { hosts: fences, ..nothing_here() });
    }
    if routes.is_empty() {
        routes.push(nothing_here());
    }
    let certificates: Vec<Certificate> = of.iter().flat_map(|open| open.certificates.iter().cloned()).collect();
    let tls = of.first().is_some_and(|open| open.tls);
    Listener {
        address: address(port),
        public_port: u16::try_from(asked).ok().filter(|_| of.iter().any(|open| open.owner.is_some())),
        tls: tls.then(|| Tls { certificates: dedup(certificates), ..Default::default() }),
        routes,
        ..Default::default()
    }
}

fn dedup(all: Vec<Certificate>) -> Vec<Certificate> {
    let mut kept: Vec<Certificate> = Vec::new();
    for one in all {
        // Without hosts it is for those that it names itself, which is something else than a list.
        let same =
            |k: &&mut Certificate| k.certificate == one.certificate && k.hosts.is_empty() == one.hosts.is_empty();
        match kept.iter_mut().find(same) {
            Some(same) => {
                same.hosts.extend(one.hosts.into_iter().filter(|h| !same.hosts.contains(h)).collect::<Vec<_>>())
            }
            None => kept.push(one),
        }
    }
    kept
}

fn nothing_here() -> Route {
    Route { filters: Filters { respond: Some(answer(404)), ..Default::default() }, ..Default::default() }
}

/// An answer without a backend.
pub fn answer(status: u16) -> Respond {
    Respond { status, ..Default::default() }
}

impl Building {
    /// The port of a Gateway or, without one, of Ingresses, if they don't use it for the other of HTTP and HTTPS.
    pub fn open(&mut self, owner: Option<&Key>, port: i32, tls: bool) -> Option<&mut Open> {
        let at = self.open.iter().position(|open| open.owner.as_ref() == owner && open.port == port);
        let at = at.unwrap_or_else(|| {
            self.open.push(Open { owner: owner.cloned(), port, tls, ..Default::default() });
            self.open.len() - 1
        });
        self.open.get_mut(at).filter(|open| open.tls == tls)
    }

    /// Whether the nodes' port of that number is for the other of HTTP and HTTPS.
    pub fn taken_on_nodes(&self, inputs: &Inputs<'_>, port: i32, tls: bool) -> bool {
        let there = self.open.iter().filter(|open| open.owner.is_none() || (inputs.on_nodes)(open.port));
        let mut there = there.filter(|open| open.port == port && open.can_be_served());
        there.next().is_some_and(|first| first.tls != tls)
    }

    /// A target for a Service; what is missing has an empty pool, which answers 503.
    pub fn target(
        &mut self,
        inputs: &Inputs<'_>,
        namespace: &str,
        service: &str,
        port: i32,
    ) -> (Target, Option<Missing>) {
        let name = format!("{namespace}/{service}:{port}");
        let (pool, missing) = match (inputs.reach)(namespace, service, port) {
            Ok(reach) => (Pool { http: (inputs.speaks)(namespace, service, port), ..reach.pool(&name) }, None),
            Err(error) => (Pool { name: name.clone(), ..Default::default() }, Some(error)),
        };
        self.pools.entry(name.clone()).or_insert(pool);
        (Target { pool: name, ..Default::default() }, missing)
    }

    /// The certificate in a Secret.
    pub fn certificate(&mut self, secret: Option<Arc<Secret>>, hosts: Vec<String>) -> Result<Certificate, String> {
        let secret = secret.ok_or("is not there")?;
        let part = |key: &str| {
            let found = secret.data.as_ref().and_then(|data| data.get(key)).filter(|bytes| !bytes.0.is_empty());
            found.map(|bytes| bytes.0.clone()).ok_or_else(|| format!("has no {key}"))
        };
        let (certificate, key) = (part("tls.crt")?, part("tls.key")?);
        usable(&certificate, &key)?;
        let name = digest(&[certificate.as_slice(), key.as_slice()].concat());
        let path = |extension: &str| format!("{CONFIG}/{name}.{extension}").into();
        let made = Certificate { certificate: path("crt"), key: path("key"), hosts };
        self.files.insert(format!("{name}.crt"), certificate);
        self.files.insert(format!("{name}.key"), key);
        Ok(made)
    }
}

/// Whether proxies can show a certificate: one that they can't read would keep all others from being served.
fn usable(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("holds no certificate in tls.crt: {error}"))?;
    if chain.is_empty() {
        return Err("holds no certificate in tls.crt".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("holds no key in tls.key: {error}"))?;
    let provider = rustls::crypto::ring::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider);
    certified.map(drop).map_err(|error| format!("has a certificate and a key that can't be used: {error}"))
}

/// The older first, then by name: who was there first is served first.
pub fn by_age<K: Resource>(all: &[Arc<K>]) -> Vec<Arc<K>> {
    let mut sorted = all.to_vec();
    sorted.sort_by_key(|object| {
        let meta = object.meta();
        (meta.creation_timestamp.as_ref().map(|t| t.0), meta.namespace.clone(), meta.name.clone())
    });
    sorted
}
