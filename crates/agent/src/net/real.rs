//! The node's network as the agent sees it. Its calls block for a few milliseconds, so they get threads of their own.

use std::net::IpAddr;

use async_trait::async_trait;
use network::{Network, PodAttach};

use super::{AttachRequest, Attachment, NetworkError, PodNetwork};

/// The kernel's bridge, links and rules.
#[derive(Clone)]
pub struct KernelNetwork {
    network: Network,
}

impl KernelNetwork {
    /// Around an open network.
    pub fn new(network: Network) -> Self {
        Self { network }
    }
}

#[async_trait]
impl PodNetwork for KernelNetwork {
    async fn attach(&self, request: AttachRequest) -> Result<Attachment, NetworkError> {
        let host_ports = request
            .host_ports
            .iter()
            .map(|port| {
                Ok(network::HostPort {
                    protocol: port
                        .protocol
                        .parse()
                        .map_err(|e: network::service::ProtocolError| NetworkError(e.to_string()))?,
                    host_ip: port.host_ip,
                    host_port: port.host_port,
                    container_port: port.container_port,
                })
            })
            .collect::<Result<Vec<_>, NetworkError>>()?;
        let attach = PodAttach { id: request.pod_uid, host_ports };
        let network = self.network.clone();
        let users = request.users.map(|ids| network::UserIds { first: ids.first, count: ids.count });
        let pod = blocking(move || network.attach_for(&attach, users)).await?;
        Ok(Attachment { namespace: pod.netns, addresses: vec![IpAddr::V4(pod.ip)] })
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        let (network, id) = (self.network.clone(), pod_uid.to_owned());
        blocking(move || network.detach(&id)).await
    }

    async fn keep_only(&self, live: Vec<String>) -> Result<(), NetworkError> {
        let network = self.network.clone();
        blocking(move || network.reconcile(live.iter().map(String::as_str)).map(drop)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, network::NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| NetworkError(e.to_string())),
        Err(error) => Err(NetworkError(error.to_string())),
    }
}
