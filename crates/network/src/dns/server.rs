//! Sockets, and the choice between the zone and the upstream resolvers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use crate::dns::answer::Authority;
use crate::dns::upstream::{UDP_PAYLOAD, Upstream};
use crate::dns::{DnsConfig, Zone};

/// A running name server; it stops when dropped.
pub struct Server {
    zone: Zone,
    addresses: Vec<SocketAddr>,
    /// Ends its tasks when dropped.
    _tasks: hickory_server::Server<Handler>,
}

/// How long a TCP client may stay silent.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers a slow TCP client may let wait.
const TCP_BACKLOG: usize = 32;

impl Server {
    /// Binds all addresses, UDP and TCP, and starts to serve on the current tokio runtime.
    /// Errors: an address can't be bound, or the cluster domain is no legal name.
    pub async fn start(config: DnsConfig) -> io::Result<Server> {
        let mut sockets = Vec::new();
        for address in &config.listen {
            sockets.push(bind(*address).await?);
        }
        let addresses: Vec<SocketAddr> = sockets.iter().map(|(_, _, address)| *address).collect();
        let own: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
        let zone = Zone::default();
        let ttl = u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX);
        let authority = Authority::new(zone.clone(), &config.cluster_domain, ttl, own, config.reverse)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let upstream = Upstream::new(&config.upstream, config.upstream_timeout);
        let mut tasks = hickory_server::Server::new(Handler { authority, upstream });
        for (udp, tcp, _) in sockets {
            tasks.register_socket(udp);
            tasks.register_listener(tcp, TCP_IDLE, TCP_BACKLOG);
        }
        Ok(Server { zone, addresses, _tasks: tasks })
    }

    /// The zone, to be filled by the caller. Cheap to clone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The addresses really bound, in the order of `DnsConfig::listen`.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Both protocols on one port. If the system may pick the port, its pick for UDP may be taken for TCP: then again.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    const ATTEMPTS: usize = 16;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let udp = UdpSocket::bind(address).await?;
        let bound = udp.local_addr()?;
        match TcpListener::bind(bound).await {
            Ok(tcp) => return Ok((udp, tcp, bound)),
            Err(error) if address.port() != 0 || attempt == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
    }
}

struct Handler {
    authority: Authority,
    upstream: Upstream,
}

/// A response on its way.
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Reply {
    fn refusal(code: ResponseCode) -> Reply {
        Reply { code, authoritative: false, answers: vec![], authorities: vec![], additionals: vec![] }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;

        // RFC 6891: an answer carries EDNS if the question did. The payload size here also bounds the answer.
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(512, UDP_PAYLOAD));
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let Reply { answers, authorities, additionals, .. } = &reply;
        let response = builder.build(metadata, answers, authorities, [], additionals);
        match respond.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                // The client has gone, or its queue is full; it will ask again.
                tracing::debug!(%error, "response not sent");
                let mut metadata = Metadata::response_from_request(&request.metadata);
                metadata.response_code = ResponseCode::ServFail;
                ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
            }
        }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.message_type != MessageType::Query {
            return Reply::refusal(ResponseCode::FormErr);
        }
        if request.metadata.op_code != OpCode::Query {
            return Reply::refusal(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Reply::refusal(ResponseCode::BADVERS);
        }
        let Ok(info) = request.request_info() else { return Reply::refusal(ResponseCode::FormErr) };
        let query = info.query.original();
        let kind = query.query_type();
        if query.query_class() != DNSClass::IN || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Reply::refusal(ResponseCode::Refused);
        }
        let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);

        let Some(answer) = self.authority.answer(query.name(), kind) else {
            let answer = self.upstream.ask(query.name(), kind, dnssec).await;
            let Some(answer) = answer else { return Reply::refusal(ResponseCode::ServFail) };
            return Reply {
                code: answer.metadata.response_code,
                authoritative: false,
                answers: answer.answers,
                authorities: answer.authorities,
                // The options record was for this server.
                additionals: answer
                    .additionals
                    .into_iter()
                    .filter(|record| record.record_type() != RecordType::OPT)
                    .collect(),
            };
        };
        let mut reply = Reply {
            code: if answer.absent { ResponseCode::NXDomain } else { ResponseCode::NoError },
            authoritative: true,
            answers: answer.answers,
            authorities: vec![],
            additionals: answer.additionals,
        };
        if let Some(target) = answer.continues_at {
            match self.upstream.ask(&target, kind, dnssec).await {
                Some(more) => {
                    reply.code = more.metadata.response_code;
                    reply.answers.extend(more.answers);
                }
                None => reply.code = ResponseCode::ServFail,
            }
        } else if reply.code == ResponseCode::NXDomain || reply.answers.is_empty() {
            // RFC 2308: the start of authority tells how long to remember that there is nothing.
            reply.authorities.push(self.authority.start());
        } else {
            // Clients mostly take the first address: let that be each in turn.
            rotate(&mut reply.answers, usize::from(request.metadata.id));
        }
        reply
    }
}

/// Turns the addresses of one name round; aliases before them stay in front.
fn rotate(answers: &mut [Record], by: usize) {
    let aliases = answers.iter().take_while(|record| record.record_type() == RecordType::CNAME).count();
    let rest = &mut answers[aliases..];
    if rest.len() > 1 {
        let by = by % rest.len();
        rest.rotate_left(by);
    }
}
