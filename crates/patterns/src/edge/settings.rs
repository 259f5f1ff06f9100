//! How the edge is reached, as the platform or its operator says.

/// How the edge is reached.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Its namespace, which is made if it is not there.
    pub namespace: String,
    /// The port of nodes that leads to port 80 of the edge; 0 for none.
    pub http_port: u16,
    /// The port of nodes that leads to port 443 of the edge; 0 for none.
    pub https_port: u16,
    /// Whether its pods are in the network of their node instead.
    pub host_network: bool,
    /// How many pods.
    pub replicas: i32,
    /// The type of a Service before its pods; without one they have ports of their nodes, which an old pod must leave
    /// before a new one can have them.
    pub service_type: Option<String>,
    /// That Service's ports are open on all addresses of the nodes, as Hythe's own nodes do it, and it is told so.
    pub open_on_nodes: bool,
    /// Ports of the nodes that somebody else has: no Gateway gets them there, only at its own address.
    pub reserved: Vec<u16>,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            namespace: "hythe-system".to_owned(),
            http_port: 80,
            https_port: 443,
            host_network: false,
            replicas: 1,
            service_type: None,
            open_on_nodes: false,
            reserved: Vec::new(),
        }
    }
}

impl EdgeSettings {
    /// The port of the nodes that leads to a port of the edge.
    pub(super) fn node_port(&self, port: i32) -> Option<i32> {
        match port {
            80 => Some(i32::from(self.http_port)).filter(|port| *port != 0),
            443 => Some(i32::from(self.https_port)).filter(|port| *port != 0),
            other => Some(other),
        }
    }

    /// Whether a Gateway's port is one of the nodes too. Those below 1024 are not but the web's, lest whoever may make a
    /// Gateway takes the machine's own services away.
    pub(super) fn on_nodes(&self, port: i32) -> bool {
        let by_nodes = self.service_type.is_none() || self.open_on_nodes;
        let free = matches!(port, 80 | 443) || (port >= 1024 && port != crate::plan::ADMIN);
        let reserved = self.reserved.iter().any(|reserved| i32::from(*reserved) == port);
        by_nodes && free && !reserved && self.node_port(port).is_some()
    }

    /// The type of the Services that are Gateways' own addresses.
    pub(super) fn gateway_service_type(&self) -> &str {
        match self.service_type.as_deref() {
            Some("LoadBalancer") if self.open_on_nodes => "ClusterIP",
            Some(of_type) => of_type,
            None => "ClusterIP",
        }
    }
}
