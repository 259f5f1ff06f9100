//! What users must know of each proxy: `--help` ends with it, and the image's labels carry it.

use serving::{Endpoint, Manual, Port, Variable};

/// `proxy http`.
pub static HTTP: Manual = Manual {
    name: "proxy http",
    about: "HTTP edge: TLS, routes, balancing, health, retries, limits.",
    version: "v1",
    ports: &[port("tcp", "HTTP/1.1 and HTTP/2")],
    endpoints: &[COMPARISON],
    variables: &[
        CONFIG,
        LISTEN,
        TO,
        variable("PROXY_CERTIFICATE", "", "certificate chain, PEM file"),
        variable("PROXY_KEY", "", "its key, PEM file"),
        BALANCE,
        variable("PROXY_HEALTH", "", "a path that is asked for to find out whether endpoints are well"),
    ],
};

/// `proxy split`.
pub static SPLIT: Manual = Manual {
    name: "proxy split",
    about: "Request splitter: shares of requests to several versions.",
    version: "v1",
    ports: &[port("tcp", "HTTP/1.1 and HTTP/2")],
    endpoints: &[],
    variables: &[
        CONFIG,
        LISTEN,
        variable("SPLIT_TO", "", "WEIGHT=HOST:PORT, separated by commas"),
        variable("SPLIT_STICK", "address", "what keeps a user with one version: address, cookie:NAME or header:NAME"),
    ],
};

/// `proxy tee`.
pub static TEE: Manual = Manual {
    name: "proxy tee",
    about: "Requests are copied to an experiment, production answers.",
    version: "v1",
    ports: &[port("tcp", "HTTP/1.1 and HTTP/2")],
    endpoints: &[COMPARISON],
    variables: &[
        CONFIG,
        LISTEN,
        variable("TEE_PRODUCTION", "", "who answers, HOST:PORT"),
        variable("TEE_EXPERIMENT", "", "who gets copies, HOST:PORT"),
        variable("TEE_PERCENT", "100", "how many of a hundred requests are copied"),
    ],
};

/// `proxy broker`.
pub static BROKER: Manual = Manual {
    name: "proxy broker",
    about: "A port on localhost to whatever the environment provides.",
    version: "v1",
    ports: &[port("tcp", "whatever the service speaks")],
    endpoints: &[],
    variables: &[
        CONFIG,
        LISTEN,
        variable("BROKER_BINDING", "", "Service binding below $SERVICE_BINDING_ROOT, by name"),
        variable("BROKER_TYPE", "", "Service binding below $SERVICE_BINDING_ROOT, by type"),
        variable("BROKER_SRV", "", "SRV records"),
        variable("BROKER_ENVIRONMENT", "", "prefix of variables: PREFIX_HOST and PREFIX_PORT, or PREFIX_URL"),
        variable("BROKER_TO", "", "HOST:PORT"),
        variable("BROKER_TLS", "", "TLS to the service, with this name in its certificate"),
        variable("BROKER_AUTHORITIES", "", "authorities, PEM file"),
    ],
};

/// `proxy cache`.
pub static CACHE: Manual = Manual {
    name: "proxy cache",
    about: "HTTP cache in front of a service.",
    version: "v1",
    ports: &[port("tcp", "HTTP/1.1 and HTTP/2; PURGE from allowed networks")],
    endpoints: &[],
    variables: &[
        CONFIG,
        LISTEN,
        TO,
        variable("CACHE_MEMORY", "64MiB", "memory for stored responses"),
        variable("CACHE_DISK", "", "directory of the tier on disk"),
        variable("CACHE_DISK_SIZE", "1GiB", "how much the tier on disk may hold"),
        variable("CACHE_DEFAULT_TTL", "0s", "freshness of responses that do not say"),
        variable("CACHE_PURGE_FROM", "", "networks that may PURGE, separated by commas"),
        variable("CACHE_PURGE_PEERS", "", "the other replicas, HOST:PORT, which purge as well"),
    ],
};

/// `proxy limit`.
pub static LIMIT: Manual = Manual {
    name: "proxy limit",
    about: "Rate limits in front of a service.",
    version: "v1",
    ports: &[
        port("tcp", "HTTP/1.1 and HTTP/2"),
        Port { number: 8081, protocol: "tcp", about: "other replicas, where the limit is shared" },
    ],
    endpoints: &[],
    variables: &[
        CONFIG,
        LISTEN,
        TO,
        variable("LIMIT_REQUESTS", "100", "requests"),
        variable("LIMIT_PER", "1m", "in this time"),
        variable("LIMIT_BURST", "", "at once after a rest"),
        variable("LIMIT_BY", "address", "what is counted apart: address, path, identity, header:NAME, with commas"),
        variable("LIMIT_ALGORITHM", "token_bucket", "or sliding_window"),
        variable("LIMIT_AUTHENTICATED", "", "requests of those who send Authorization"),
        variable("LIMIT_PEERS_LISTEN", ":8081", "where replicas ask this one"),
        variable("LIMIT_PEER", "", "replicas, separated by commas"),
        variable("LIMIT_PEERS", "", "headless Service of the replicas, NAME:PORT"),
        variable("LIMIT_OWN", "", "what this replica is called among them"),
    ],
};

/// `proxy tcp`.
pub static TCP: Manual = Manual {
    name: "proxy tcp",
    about: "TCP balancing.",
    version: "v1",
    ports: &[port("tcp", "bytes")],
    endpoints: &[],
    variables: &[CONFIG, LISTEN, TO, BALANCE],
};

/// `proxy udp`.
pub static UDP: Manual = Manual {
    name: "proxy udp",
    about: "UDP balancing.",
    version: "v1",
    ports: &[port("udp", "datagrams")],
    endpoints: &[],
    variables: &[CONFIG, LISTEN, TO, BALANCE],
};

const CONFIG: Variable = variable("PROXY_CONFIG", "", "the configuration file; in place of the variables below");
const LISTEN: Variable = variable("PROXY_LISTEN", ":8080", "where to listen");
const TO: Variable = variable("PROXY_TO", "", "endpoints, HOST:PORT, separated by commas");
const BALANCE: Variable = variable(
    "PROXY_BALANCE",
    "round_robin",
    "or weighted, least_connections, random_two_choices, hash (of the client's address)",
);
const COMPARISON: Endpoint =
    Endpoint { method: "GET", path: "/v1/comparison", about: "statuses and latencies of production and experiment" };

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about }
}

const fn port(protocol: &'static str, about: &'static str) -> Port {
    Port { number: 8080, protocol, about }
}
