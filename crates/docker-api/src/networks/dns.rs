//! The name server of a user-defined network, on its gateway or, where there is none, inside each container: containers
//! by name and alias, everything else forwarded.
//!
//! A client is known by its address, and is told the names of all networks it is in. Messages are RFC 1035's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// How long one upstream server may take before the next is asked.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(4);
/// Docker's time to live of its own answers, in seconds.
const TTL: u32 = 600;
const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_AAAA: u16 = 28;
const NAME_ERROR: u8 = 3;
const SERVER_FAILURE: u8 = 2;

/// A container in one network.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub container: String,
    pub network: String,
    pub network_name: String,
    /// Where its questions come from.
    pub ip: Ipv4Addr,
    /// Whether others know that address, too: not in a network without IPv4.
    pub shows_ip: bool,
    pub ipv6: Option<Ipv6Addr>,
    /// In lower case; the first is its own.
    pub names: Vec<String>,
    /// What it calls others, for itself alone: alias → name.
    pub links: BTreeMap<String, String>,
    /// Whom to ask for other names; the host's servers when empty.
    pub servers: Vec<IpAddr>,
    /// Whether the network is an internal one.
    pub internal: bool,
}

/// Everybody in all networks.
#[derive(Default)]
pub(crate) struct Names(RwLock<Vec<Person>>);

impl Names {
    /// Adds or replaces a container's place in a network.
    pub fn set(&self, person: Person) {
        let mut people = self.0.write();
        people.retain(|other| (&other.container, &other.network) != (&person.container, &person.network));
        people.push(person);
    }

    /// Forgets a container's place in a network.
    pub fn forget(&self, container: &str, network: &str) {
        self.0.write().retain(|person| person.container != container || person.network != network);
    }

    /// The addresses of a name as the client sees it; `None` when nobody has the name.
    fn lookup(&self, client: IpAddr, name: &str) -> Option<Vec<(Option<Ipv4Addr>, Option<Ipv6Addr>)>> {
        let people = self.0.read();
        // Whichever of its networks a name is of, the question comes by the first.
        let container = people.iter().find(|person| client == person.ip).map(|person| &person.container);
        let places = people.iter().filter(|person| Some(&person.container) == container);
        // A link holds in the network it was made in, and nowhere else.
        let wanted: BTreeMap<&str, &str> =
            places.map(|place| (place.network.as_str(), place.links.get(name).map_or(name, String::as_str))).collect();
        let named = |person: &&Person| {
            let Some(&name) = wanted.get(person.network.as_str()) else { return false };
            let qualified = || person.names.iter().any(|own| format!("{own}.{}", person.network_name) == name);
            person.names.iter().any(|own| own == name) || qualified()
        };
        let found: Vec<_> =
            people.iter().filter(named).map(|person| (person.shows_ip.then_some(person.ip), person.ipv6)).collect();
        (!found.is_empty()).then_some(found)
    }

    fn reverse(&self, client: IpAddr, ip: IpAddr) -> Option<String> {
        let people = self.0.read();
        let networks = networks_of(&people, client);
        let has = |person: &&Person| match ip {
            IpAddr::V4(ip) => person.shows_ip && person.ip == ip,
            IpAddr::V6(ip) => person.ipv6 == Some(ip),
        };
        let person = people.iter().filter(has).find(|person| networks.contains(person.network.as_str()))?;
        Some(format!("{}.{}", person.names.first()?, person.network_name))
    }

    /// Whether a client is in internal networks alone, or in none.
    fn is_confined(&self, client: IpAddr) -> bool {
        let people = self.0.read();
        let container = people.iter().find(|person| client == person.ip).map(|person| &person.container);
        !people.iter().any(|person| Some(&person.container) == container && !person.internal)
    }

    fn servers(&self, client: IpAddr) -> Vec<IpAddr> {
        let people = self.0.read();
        let own = people.iter().find(|person| client == person.ip && !person.servers.is_empty());
        own.map_or_else(host_servers, |person| person.servers.clone())
    }
}

fn networks_of(people: &[Person], client: IpAddr) -> BTreeSet<&str> {
    let container = people.iter().find(|person| client == person.ip).map(|person| &person.container);
    people.iter().filter(|person| Some(&person.container) == container).map(|person| person.network.as_str()).collect()
}

fn host_servers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok()).collect()
}

/// A running name server; ends when dropped.
pub(crate) struct Resolver(#[allow(dead_code, reason = "held for its drop")] JoinSet<()>);

impl Resolver {
    /// Listens on port 53 of the gateway, UDP and TCP. Needs a runtime.
    pub fn start(gateway: Ipv4Addr, names: Arc<Names>) -> io::Result<Self> {
        let address = SocketAddr::new(gateway.into(), 53);
        Self::on(std::net::UdpSocket::bind(address)?, std::net::TcpListener::bind(address)?, names)
    }

    /// Answers at these sockets. Needs a runtime.
    pub fn on(udp: std::net::UdpSocket, tcp: std::net::TcpListener, names: Arc<Names>) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let runtime = tokio::runtime::Handle::current();
        let _inside = runtime.enter();
        let (udp, tcp) = (Arc::new(UdpSocket::from_std(udp)?), TcpListener::from_std(tcp)?);
        let mut tasks = JoinSet::new();
        tasks.spawn_on(serve_udp(udp, names.clone()), &runtime);
        tasks.spawn_on(serve_tcp(tcp, names), &runtime);
        Ok(Self(tasks))
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, names: Arc<Names>) {
    let mut asking = JoinSet::new();
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                let (query, socket, names) = (buffer[..length].to_vec(), socket.clone(), names.clone());
                asking.spawn(async move {
                    if let Some(answer) = answer(&query, client.ip(), &names, false).await {
                        let _ = socket.send_to(&answer, client).await;
                    }
                });
            }
            Some(_) = asking.join_next() => {}
        }
    }
}

async fn serve_tcp(listener: TcpListener, names: Arc<Names>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, client)) = accepted else { continue };
                connections.spawn(converse(stream, client.ip(), names.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, client: IpAddr, names: Arc<Names>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let Some(answer) = answer(&query, client, &names, true).await else { return };
        let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

async fn answer(query: &[u8], client: IpAddr, names: &Names, tcp: bool) -> Option<Vec<u8>> {
    let question = Question::parse(query)?;
    if let Some(addresses) = names.lookup(client, &question.name) {
        // A name exists, without records, for every type that it has none of.
        let records: Vec<(u16, Vec<u8>)> = match question.kind {
            TYPE_A => addresses.iter().filter_map(|(ip, _)| Some((TYPE_A, (*ip)?.octets().to_vec()))).collect(),
            TYPE_AAAA => addresses.iter().filter_map(|(_, ip)| Some((TYPE_AAAA, (*ip)?.octets().to_vec()))).collect(),
            _ => Vec::new(),
        };
        return Some(question.reply(query, records.into_iter()));
    }
    if question.kind == TYPE_PTR
        && let Some(name) = reverse_address(&question.name).and_then(|ip| names.reverse(client, ip))
    {
        return Some(question.reply(query, [(TYPE_PTR, encode_name(&name))].into_iter()));
    }
    // Who is in internal networks alone has no way to the world, and asking for it would be one.
    if names.is_confined(client) {
        return Some(question.refuse(query, SERVER_FAILURE));
    }
    for server in names.servers(client) {
        let asked = ask(SocketAddr::new(server, 53), query, tcp);
        if let Ok(Ok(answer)) = tokio::time::timeout(UPSTREAM_PATIENCE, asked).await {
            return Some(answer);
        }
    }
    Some(question.refuse(query, if question.name.contains('.') { SERVER_FAILURE } else { NAME_ERROR }))
}

async fn ask(server: SocketAddr, query: &[u8], tcp: bool) -> io::Result<Vec<u8>> {
    if tcp {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat()).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await?;
        return Ok(answer);
    }
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut answer).await?;
        // An answer to something else, or forged.
        if answer.get(..2) == query.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// The one question of a query.
struct Question {
    /// In lower case, without the last dot.
    name: String,
    kind: u16,
    /// Where the question ends in the message.
    end: usize,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let half = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let is_query = message.get(2)? & 0xf8 == 0;
        if !is_query || half(4)? != 1 {
            return None;
        }
        let (mut at, mut name) = (12, String::new());
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // No question needs the compression that longer "lengths" mean.
            let label = message.get(at..at + length).filter(|_| length < 64)?;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
            at += length;
        }
        Some(Self { name, kind: half(at)?, end: at + 4 }).filter(|question| question.end <= message.len())
    }

    fn head(&self, query: &[u8], code: u8, answers: u16) -> Vec<u8> {
        let mut message = query[..self.end].to_vec();
        // A response that recursed, with the query's own wish for it.
        message[2] = 0x80 | (query[2] & 0x01);
        message[3] = 0x80 | code;
        message[6..8].copy_from_slice(&answers.to_be_bytes());
        message[8..12].fill(0);
        message
    }

    fn reply(&self, query: &[u8], records: impl ExactSizeIterator<Item = (u16, Vec<u8>)>) -> Vec<u8> {
        let mut message = self.head(query, 0, records.len() as u16);
        for (kind, data) in records {
            // The name is the question's, twelve bytes into the message; the class is the Internet.
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend(1u16.to_be_bytes());
            message.extend(TTL.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    fn refuse(&self, query: &[u8], code: u8) -> Vec<u8> {
        self.head(query, code, 0)
    }
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| label.len() < 64) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// `2.0.18.172.in-addr.arpa` → 172.18.0.2, and 32 digits before `.ip6.arpa` likewise (RFC 3596).
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".ip6.arpa") {
        let digits: Vec<&str> = digits.split('.').rev().collect();
        if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
            return None;
        }
        return u128::from_str_radix(&digits.concat(), 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into());
    }
    let digits: Vec<u8> =
        name.strip_suffix(".in-addr.arpa")?.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [d, c, b, a] = digits.try_into().ok()?;
    Some(Ipv4Addr::new(a, b, c, d).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(encode_name(name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    fn person(container: &str, network: &str, last: u8, names: &[&str]) -> Person {
        Person {
            container: container.into(),
            network: network.into(),
            network_name: network.into(),
            ip: Ipv4Addr::new(172, 18, 0, last),
            shows_ip: true,
            ipv6: None,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            links: BTreeMap::new(),
            servers: Vec::new(),
            internal: true,
        }
    }

    #[tokio::test]
    async fn names_are_known_to_members_of_the_network_alone() {
        let names = Names::default();
        names.set(person("a", "front", 2, &["web", "www"]));
        names.set(person("b", "front", 3, &["db"]));
        names.set(person("c", "back", 4, &["other"]));
        let (web, other) = (IpAddr::from([172, 18, 0, 2]), IpAddr::from([172, 18, 0, 4]));
        let reply = answer(&query("DB", TYPE_A), web, &names, false).await.unwrap();
        assert_eq!(&reply[..2], &[0xab, 0xcd]);
        assert_eq!((reply[3] & 15, reply[7]), (0, 1));
        assert_eq!(&reply[reply.len() - 4..], &[172, 18, 0, 3]);
        let reply = answer(&query("db", TYPE_A), other, &names, false).await.unwrap();
        assert_eq!((reply[3] & 15, reply[7]), (SERVER_FAILURE, 0));
        names.set(Person {
            ipv6: Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
            ..person("a", "front", 2, &["web"])
        });
        let reply = answer(&query("web", TYPE_AAAA), web, &names, false).await.unwrap();
        assert_eq!((reply[3] & 15, reply[7], &reply[reply.len() - 3..]), (0, 1, &[0, 0, 2][..]));
        // It exists, but has no address of IPv6.
        let reply = answer(&query("db.front", 28), web, &names, false).await.unwrap();
        assert_eq!((reply[3] & 15, reply[7]), (0, 0));
    }

    #[tokio::test]
    async fn only_who_has_a_way_out_is_told_names_of_the_world() {
        let names = Names::default();
        names.set(person("a", "inner", 2, &["web"]));
        let web = IpAddr::from([172, 18, 0, 2]);
        assert!(names.is_confined(web));
        let reply = answer(&query("example.org", TYPE_A), web, &names, false).await.unwrap();
        assert_eq!((reply[3] & 15, reply[7]), (SERVER_FAILURE, 0));
        names.set(Person { internal: false, ..person("a", "outer", 3, &["web"]) });
        assert!(!names.is_confined(web));
        assert!(names.is_confined(IpAddr::from([172, 18, 0, 9])));
    }

    #[test]
    fn a_link_holds_in_its_own_network_alone() {
        let names = Names::default();
        let ip = |second, last| Ipv4Addr::new(172, second, 0, last);
        let linked = |network: &str, second, link: &str| Person {
            ip: ip(second, 2),
            links: BTreeMap::from([(link.to_owned(), "first".to_owned())]),
            ..person("second", network, 2, &["second"])
        };
        names.set(linked("one", 18, "in-one"));
        names.set(linked("two", 19, "in-two"));
        names.set(Person { ip: ip(18, 3), ..person("first", "one", 3, &["first"]) });
        names.set(Person { ip: ip(19, 3), ..person("first", "two", 3, &["first"]) });
        let client = IpAddr::from(ip(18, 2));
        let found = |name| names.lookup(client, name).and_then(|found| found[0].0);
        assert_eq!((found("in-one"), found("in-two")), (Some(ip(18, 3)), Some(ip(19, 3))));
        names.forget("first", "one");
        assert_eq!((found("in-one"), found("in-two")), (None, Some(ip(19, 3))));
    }

    #[test]
    fn addresses_have_names_too() {
        let names = Names::default();
        names.set(person("a", "front", 2, &["web"]));
        let ip = reverse_address("2.0.18.172.in-addr.arpa").unwrap();
        assert_eq!(names.reverse(IpAddr::from([172, 18, 0, 2]), ip).unwrap(), "web.front");
        assert_eq!(names.reverse(IpAddr::from([172, 18, 0, 9]), ip), None);
        let six: Ipv6Addr = "fd00::5".parse().unwrap();
        names.set(Person { ipv6: Some(six), shows_ip: false, ..person("b", "front", 3, &["db"]) });
        let told = format!("5{}.0.0.d.f.ip6.arpa", ".0".repeat(27));
        let client = IpAddr::from([172, 18, 0, 2]);
        assert_eq!(names.reverse(client, reverse_address(&told).unwrap()).unwrap(), "db.front");
        assert_eq!(names.reverse(client, IpAddr::from([172, 18, 0, 3])), None, "nobody is shown that one");
        assert_eq!(reverse_address("5.0.ip6.arpa"), None);
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        for message in [&[][..], &[0; 12], &query("x", 1)[..14]] {
            assert!(Question::parse(message).is_none());
        }
    }
}
