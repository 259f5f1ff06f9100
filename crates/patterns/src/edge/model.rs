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
use proxy::config::{Certificate, Config, Filters, Listener, Pool, Respond, Route, Target, Tls};
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
    pub port_named: &'a (dyn Fn(&str, &str, &str) -> Option<i32> + Sync),
}

/// What comes of it.
#[derive(Default)]
pub struct Model {
    /// What the proxies read.
    pub config: Config,
    /// Certificates and keys by the names of their files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The ports that are open.
    pub ports: BTreeSet<i32>,
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
    /// Whether TLS is ended there.
    pub tls: bool,
    pub routes: Vec<Route>,
    pub certificates: Vec<Certificate>,
}

/// Everything under construction.
#[derive(Default)]
pub struct Building {
    pub open: BTreeMap<i32, Open>,
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
        for (port, mut open) in building.open {
            if open.tls && open.certificates.is_empty() {
                continue;
            }
            if open.routes.is_empty() {
                open.routes.push(nothing_here());
            }
            model.ports.insert(port);
            model.config.listeners.push(Listener {
                address: format!("0.0.0.0:{port}"),
                tls: open.tls.then(|| Tls { certificates: dedup(open.certificates), ..Default::default() }),
                routes: open.routes,
                ..Default::default()
            });
        }
        model
    }

    /// Whether there is nothing to serve.
    pub fn is_empty(&self) -> bool {
        self.config.listeners.is_empty()
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
    /// The port, if nobody uses it for the other of HTTP and HTTPS.
    pub fn open(&mut self, port: i32, tls: bool) -> Option<&mut Open> {
        let open = self.open.entry(port).or_insert_with(|| Open { tls, ..Default::default() });
        (open.tls == tls).then_some(open)
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
            Ok(reach) => (reach.pool(&name), None),
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
