//! Asking other resolvers: UDP first, TCP when an answer doesn't fit, the next resolver when one is silent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_server::proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The resolvers for names outside the cluster.
pub(crate) struct Upstream {
    resolvers: Vec<Resolver>,
    patience: Duration,
    /// Bounds sockets, not clients: those beyond it are told at once that it failed.
    slots: Semaphore,
}

struct Resolver {
    address: SocketAddr,
    /// When it last let a question run into the timeout.
    silent_since: Mutex<Option<Instant>>,
}

/// Questions open at a time.
const SLOTS: usize = 512;
/// For so long a silent resolver is asked last, and with less patience.
const SULK: Duration = Duration::from_secs(10);
const SULK_PATIENCE: u32 = 8;
/// What answers over UDP may measure (the DNS flag day 2020's figure).
pub(crate) const UDP_PAYLOAD: u16 = 1232;

impl Upstream {
    pub(crate) fn new(resolvers: &[SocketAddr], patience: Duration) -> Upstream {
        let resolvers =
            resolvers.iter().map(|address| Resolver { address: *address, silent_since: Mutex::new(None) }).collect();
        Upstream { resolvers, patience, slots: Semaphore::new(SLOTS) }
    }

    /// The first answer any resolver gives, whatever it says. `None`: none answered, or there are none.
    pub(crate) async fn ask(&self, name: &Name, kind: RecordType, dnssec: bool) -> Option<Message> {
        let _slot = self.slots.try_acquire().ok()?;
        let now = Instant::now();
        let sulks =
            |resolver: &Resolver| resolver.silent_since.lock().is_some_and(|since| now.duration_since(since) < SULK);
        let (silent, answering): (Vec<_>, Vec<_>) = self.resolvers.iter().partition(|resolver| sulks(resolver));
        let ordered = answering
            .into_iter()
            .map(|resolver| (resolver, self.patience))
            .chain(silent.into_iter().map(|resolver| (resolver, self.patience / SULK_PATIENCE)));
        for (resolver, patience) in ordered {
            match timeout(patience, exchange(resolver.address, name, kind, dnssec)).await {
                Ok(Ok(answer)) => {
                    *resolver.silent_since.lock() = None;
                    return Some(answer);
                }
                Ok(Err(error)) => {
                    tracing::debug!(resolver = %resolver.address, %error, "upstream resolver failed");
                }
                Err(_) => *resolver.silent_since.lock() = Some(Instant::now()),
            }
        }
        None
    }
}

async fn exchange(resolver: SocketAddr, name: &Name, kind: RecordType, dnssec: bool) -> io::Result<Message> {
    let mut request = Message::query();
    request.metadata.op_code = OpCode::Query;
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    edns.set_dnssec_ok(dnssec);
    request.set_edns(edns);
    let bytes = request.to_vec().map_err(io::Error::other)?;

    let any: IpAddr = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything that doesn't fit the question may be forged: wait for one that does.
        let Some(answer) = matching(&buffer[..length], &request) else { continue };
        if answer.metadata.truncation {
            return over_tcp(resolver, &bytes, &request).await;
        }
        return Ok(answer);
    }
}

async fn over_tcp(resolver: SocketAddr, bytes: &[u8], request: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    matching(&buffer, request).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn matching(bytes: &[u8], request: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == request.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries.first().is_none_or(|query| request.queries.first() == Some(query));
    fits.then_some(answer)
}
