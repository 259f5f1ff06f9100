//! What an API server is started with.

use std::{collections::HashMap, io, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    authn::AUTHENTICATED_GROUP,
    authz::{AllowAll, Authorizer},
    components::Components,
};

/// Everything that differs between two API servers.
pub struct Config {
    /// IPv4 network from which ClusterIPs come, for instance `10.43.0.0/16`.
    pub service_cidr: Cidr,
    /// Node ports, both ends included; upstream's default is 30000–32767.
    pub node_ports: (u16, u16),
    /// Address and port under which the server is reached; the endpoint of the `kubernetes` Service.
    pub advertise: (IpAddr, u16),
    /// Static bearer tokens and whom they stand for.
    pub tokens: HashMap<String, User>,
    /// The certificate authority (PEM) that pods use to verify this server; the `kube-root-ca.crt` content.
    pub cluster_ca_pem: String,
    /// PKCS #8 (DER) of the ECDSA P-256 key that signs service account tokens; `None` makes one that
    /// lasts as long as the process.
    pub service_account_key: Option<Vec<u8>>,
    /// `iss` of service account tokens and their default audience.
    pub service_account_issuer: String,
    /// How to reach the agents of nodes.
    pub nodes: Arc<dyn NodeConnector>,
    /// What runs beside the server, for `componentstatuses`.
    pub components: Components,
    /// Decides who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// Most TCP connections at a time; `None` takes three quarters of the limit on open files.
    pub max_connections: Option<usize>,
    /// How long a client may leave unread what was sent to it, before its connection is cut (`TCP_USER_TIMEOUT`).
    pub unread_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            service_cidr: Cidr { base: u32::from_be_bytes([10, 43, 0, 0]), bits: 16 },
            node_ports: (30000, 32767),
            advertise: (IpAddr::from([127, 0, 0, 1]), 6443),
            tokens: HashMap::new(),
            cluster_ca_pem: String::new(),
            service_account_key: None,
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
            nodes: Arc::new(NoNodes),
            components: Components::default(),
            authorizer: Arc::new(AllowAll),
            max_connections: None,
            unread_timeout: Duration::from_secs(120),
        }
    }
}

/// Who a request comes from (`authentication.k8s.io/v1 UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// For instance `system:serviceaccount:default:default`.
    pub name: String,
    /// Empty where there is none.
    pub uid: String,
    /// For instance `system:authenticated`.
    pub groups: Vec<String>,
    /// For instance `authentication.kubernetes.io/pod-name`.
    pub extra: Vec<(String, Vec<String>)>,
}

impl User {
    /// A user with these groups (and `system:authenticated`).
    pub fn new(name: impl Into<String>, groups: &[&str]) -> User {
        let mut user =
            User { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..User::default() };
        if !user.groups.iter().any(|g| g == AUTHENTICATED_GROUP) {
            user.groups.push(AUTHENTICATED_GROUP.into());
        }
        user
    }

    /// An administrator: group `system:masters`.
    pub fn admin(name: impl Into<String>) -> User {
        User::new(name, &["system:masters"])
    }
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The network's first address as a number.
    pub base: u32,
    /// Length of the prefix, 0 to 32.
    pub bits: u8,
}

impl Cidr {
    /// Number of addresses.
    pub fn size(self) -> u64 {
        1u64 << (32 - u32::from(self.bits.min(32)))
    }

    /// Whether `address` lies in the network.
    pub fn contains(self, address: std::net::Ipv4Addr) -> bool {
        let n = u64::from(u32::from(address));
        n >= u64::from(self.base) && n < u64::from(self.base) + self.size()
    }

    /// The address at that offset.
    pub fn nth(self, offset: u64) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::from(self.base.wrapping_add(offset as u32))
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let fault = || format!("{s:?} is not an IPv4 network such as 10.43.0.0/16");
        let (address, bits) = s.split_once('/').ok_or_else(fault)?;
        let address: std::net::Ipv4Addr = address.parse().map_err(|_| fault())?;
        let bits: u8 = bits.parse().ok().filter(|b| *b <= 32).ok_or_else(fault)?;
        let mask = if bits == 0 { 0 } else { u32::MAX << (32 - u32::from(bits)) };
        Ok(Cidr { base: u32::from(address) & mask, bits })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", std::net::Ipv4Addr::from(self.base), self.bits)
    }
}

/// A two-way byte stream to a node's agent.
pub trait NodeStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> NodeStream for T {}

/// Opens streams to the agents of nodes, on which they answer HTTP/1.1 at the kubelet's paths
/// (`/containerLogs/…`, `/exec/…`, `/attach/…`, `/portForward/…`).
#[async_trait]
pub trait NodeConnector: Send + Sync + 'static {
    /// A new stream to the agent of `node`.
    async fn connect(&self, node: &str) -> io::Result<Box<dyn NodeStream>>;
}

/// A cluster whose nodes can't be reached.
pub struct NoNodes;

#[async_trait]
impl NodeConnector for NoNodes {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn NodeStream>> {
        Err(io::Error::new(io::ErrorKind::NotConnected, format!("no route to the agent of node {node}")))
    }
}
