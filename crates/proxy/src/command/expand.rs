//! Flags as configuration.

use serving::ConfigError;

use super::{Broker, CacheArguments, Command, Http, Limit, Plain, Split, Tee};
use crate::config::{
    Algorithm, Balance, Binding, Cache, Certificate, Config, Discovery, Disk, Endpoint, Filters, Health, Key, LimitBy,
    Listener, Mirror, Peers, Pool, Protocol, RateLimit, Route, Target, Tier, Tls, UpstreamTls,
};

pub(super) fn expand(command: &Command) -> Result<Config, ConfigError> {
    match command {
        Command::Http(http) => edge(http),
        Command::Split(split) => splitter(split),
        Command::Tee(arguments) => tee(arguments),
        Command::Broker(arguments) => broker(arguments),
        Command::Cache(arguments) => cache(arguments),
        Command::Limit(arguments) => limit(arguments),
        Command::Tcp(plain) => bytes(plain, Protocol::Tcp),
        Command::Udp(plain) => bytes(plain, Protocol::Udp),
    }
}

/// A pool of endpoints given on the command line.
fn pool(name: &str, to: &[String]) -> Result<Pool, ConfigError> {
    if to.is_empty() {
        return Err(ConfigError::field("--to", "is missing (or --config)"));
    }
    let endpoints = to.iter().map(|address| Endpoint { address: address.clone(), ..Default::default() }).collect();
    Ok(Pool { name: name.into(), endpoints, ..Default::default() })
}

fn to(pool: &str, weight: u32) -> Target {
    Target { pool: pool.into(), weight, ..Default::default() }
}

fn web(address: &str, route: Route) -> Listener {
    Listener { address: address.into(), routes: vec![route], ..Default::default() }
}

/// A choice as configuration writes it.
fn choice<T: serde::de::DeserializeOwned>(flag: &str, text: &str) -> Result<T, ConfigError> {
    serde_json::from_value(serde_json::Value::String(text.into()))
        .map_err(|_| ConfigError::field(flag, format!("{text:?} is no choice")))
}

fn edge(arguments: &Http) -> Result<Config, ConfigError> {
    let mut pool = pool("app", &arguments.to)?;
    pool.balance = choice::<Balance>("--balance", &arguments.balance)?;
    pool.health = arguments.health.clone().map(|path| Health { path: Some(path), ..Default::default() });
    let mut listener = web(&arguments.common.listen, Route { to: vec![to("app", 1)], ..Default::default() });
    if let (Some(certificate), Some(key)) = (&arguments.certificate, &arguments.key) {
        let certificate = Certificate { certificate: certificate.clone(), key: key.clone(), hosts: Vec::new() };
        listener.tls = Some(Tls { certificates: vec![certificate], ..Default::default() });
    }
    Ok(Config { listeners: vec![listener], pools: vec![pool], ..Default::default() })
}

fn splitter(arguments: &Split) -> Result<Config, ConfigError> {
    let bad = |text: &str| ConfigError::field("--to", format!("{text:?} is not WEIGHT=HOST:PORT"));
    let mut config = Config::default();
    let stick = match arguments.stick.split_once(':') {
        None if arguments.stick == "address" => Key::Address,
        Some(("cookie", name)) => Key::Cookie(name.into()),
        Some(("header", name)) => Key::Header(name.into()),
        _ => return Err(ConfigError::field("--stick", "must be address, cookie:NAME or header:NAME")),
    };
    let mut route = Route { stick: Some(stick), ..Default::default() };
    for (i, text) in arguments.to.iter().enumerate() {
        let (weight, address) = text.split_once('=').ok_or_else(|| bad(text))?;
        let name = format!("version-{i}");
        config.pools.push(pool(&name, &[address.to_owned()])?);
        route.to.push(to(&name, weight.parse().map_err(|_| bad(text))?));
    }
    if route.to.is_empty() {
        return Err(ConfigError::field("--to", "is missing (or --config)"));
    }
    config.listeners.push(web(&arguments.common.listen, route));
    Ok(config)
}

fn tee(arguments: &Tee) -> Result<Config, ConfigError> {
    let needed = |flag: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| ConfigError::field(flag, "is missing (or --config)"))
    };
    let production = needed("--production", &arguments.production)?;
    let experiment = needed("--experiment", &arguments.experiment)?;
    let mirror = Mirror { pool: "experiment".into(), percent: arguments.percent, compare: true };
    let filters = Filters { mirrors: vec![mirror], ..Default::default() };
    let route = Route { to: vec![to("production", 1)], filters, ..Default::default() };
    let pools = vec![pool("production", &[production])?, pool("experiment", &[experiment])?];
    Ok(Config { listeners: vec![web(&arguments.common.listen, route)], pools, ..Default::default() })
}

fn broker(arguments: &Broker) -> Result<Config, ConfigError> {
    let mut found = Vec::new();
    if arguments.binding.is_some() || arguments.kind.is_some() {
        let binding = Binding {
            name: arguments.binding.clone().unwrap_or_default(),
            kind: arguments.kind.clone().unwrap_or_default(),
            ..Default::default()
        };
        found.push(Discovery::Binding(binding));
    }
    found.extend(arguments.srv.clone().map(Discovery::Srv));
    found.extend(arguments.environment.clone().map(Discovery::Environment));
    found.extend(arguments.to.clone().map(Discovery::Dns));
    let [discovery] = <[Discovery; 1]>::try_from(found).map_err(|_| {
        ConfigError::whole("exactly one of --binding or --type, --srv, --environment and --to is needed (or --config)")
    })?;
    let tls = arguments.tls.clone().map(|name| UpstreamTls {
        server_name: Some(name),
        authorities: arguments.authorities.clone(),
        ..Default::default()
    });
    let pool = Pool { name: "service".into(), discovery: Some(discovery), tls, ..Default::default() };
    let listener = Listener {
        address: arguments.common.listen.clone(),
        protocol: Protocol::Tcp,
        pool: Some("service".into()),
        ..Default::default()
    };
    Ok(Config { listeners: vec![listener], pools: vec![pool], ..Default::default() })
}

fn cache(arguments: &CacheArguments) -> Result<Config, ConfigError> {
    let cache = Cache {
        name: "cache".into(),
        memory: arguments.memory,
        disk: arguments.disk.clone().map(|path| Disk { path, size: arguments.disk_size }),
        default_ttl: arguments.default_ttl,
        purge_from: arguments.purge_from.clone(),
        purge_peers: arguments.purge_peers.clone(),
        ..Default::default()
    };
    let route = Route { to: vec![to("app", 1)], cache: Some("cache".into()), ..Default::default() };
    Ok(Config {
        listeners: vec![web(&arguments.common.listen, route)],
        pools: vec![pool("app", &arguments.to)?],
        caches: vec![cache],
        ..Default::default()
    })
}

fn limit(arguments: &Limit) -> Result<Config, ConfigError> {
    let by = arguments.by.iter().map(|by| match by.split_once(':') {
        Some(("header", name)) => Ok(LimitBy::Header(name.into())),
        _ => choice("--by", by),
    });
    let tiers =
        arguments.authenticated.map(|requests| Tier { name: "authenticated".into(), requests, ..Default::default() });
    let shared = !arguments.peer.is_empty() || arguments.peers.is_some();
    let limit = RateLimit {
        name: "limit".into(),
        by: by.collect::<Result<_, _>>()?,
        algorithm: choice::<Algorithm>("--algorithm", &arguments.algorithm)?,
        requests: arguments.requests,
        per: arguments.per,
        burst: arguments.burst,
        tiers: tiers.into_iter().collect(),
        shared,
        ..Default::default()
    };
    let peers = shared.then(|| Peers {
        address: arguments.peers_listen.clone(),
        own: arguments.own.clone(),
        members: arguments.peer.clone(),
        discovery: arguments.peers.clone().map(Discovery::Dns),
        ..Default::default()
    });
    let route = Route { to: vec![to("app", 1)], rate_limits: vec!["limit".into()], ..Default::default() };
    Ok(Config {
        listeners: vec![web(&arguments.common.listen, route)],
        pools: vec![pool("app", &arguments.to)?],
        rate_limits: vec![limit],
        peers,
        ..Default::default()
    })
}

fn bytes(arguments: &Plain, protocol: Protocol) -> Result<Config, ConfigError> {
    let mut pool = pool("app", &arguments.to)?;
    pool.balance = choice::<Balance>("--balance", &arguments.balance)?;
    let listener =
        Listener { address: arguments.common.listen.clone(), protocol, pool: Some("app".into()), ..Default::default() };
    Ok(Config { listeners: vec![listener], pools: vec![pool], ..Default::default() })
}
