//! Endpoints by name: looked up over DNS, followed as long as they live, kept when nobody answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::stage::*;

/// What a name server knows: addresses by name, and SRV records (priority, weight, port, target) by name.
#[derive(Default)]
struct Zone {
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    services: HashMap<String, Vec<(u16, u16, u16, String)>>,
}

/// A name server on loopback. Its answers hold for a second.
struct NameServer {
    zone: Arc<Mutex<Zone>>,
    /// It says nothing.
    silent: Arc<AtomicBool>,
    questions: Arc<AtomicUsize>,
    address: SocketAddr,
}

impl NameServer {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self {
            zone: Arc::default(),
            silent: Arc::default(),
            questions: Arc::default(),
            address: socket.local_addr().unwrap(),
        };
        let (zone, silent, questions) =
            (Arc::clone(&server.zone), Arc::clone(&server.silent), Arc::clone(&server.questions));
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                questions.fetch_add(1, Ordering::SeqCst);
                if !silent.load(Ordering::SeqCst) {
                    let _ = socket.send_to(&answer(&question[..length], &zone.lock().unwrap()), from);
                }
            }
        });
        server
    }

    fn addresses(&self, name: &str, last: &[u8]) {
        let addresses = last.iter().map(|last| Ipv4Addr::new(127, 89, 0, *last)).collect();
        self.zone.lock().unwrap().addresses.insert(name.to_owned(), addresses);
    }

    fn forget(&self, name: &str) {
        self.zone.lock().unwrap().addresses.remove(name);
    }

    /// Waits until it was asked anew.
    fn asked(&self) {
        let before = self.questions.load(Ordering::SeqCst);
        until("the name is asked for again", || self.questions.load(Ordering::SeqCst) >= before + 2);
    }
}

fn answer(question: &[u8], zone: &Zone) -> Vec<u8> {
    let (name, end) = name_at(question, 12);
    let kind = u16::from_be_bytes([question[end], question[end + 1]]);
    let known = zone.addresses.contains_key(&name) || zone.services.contains_key(&name);
    let records: Vec<Vec<u8>> = match kind {
        1 => zone.addresses.get(&name).into_iter().flatten().map(|a| a.octets().to_vec()).collect(),
        33 => {
            let data = |(priority, weight, port, target): &(u16, u16, u16, String)| {
                let mut data = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
                data.extend(encode(target));
                data
            };
            zone.services.get(&name).into_iter().flatten().map(data).collect()
        }
        _ => Vec::new(),
    };
    let mut answer = question[..2].to_vec();
    // A response, authoritative; name error where the name is not known; one question.
    answer.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    answer.extend(&question[12..end + 4]);
    for data in records {
        answer.extend(encode(&name));
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1]);
        answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend(data);
    }
    answer
}

fn name_at(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 1)
}

fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// Servers at 127.89.0.1 and up, all on one port, each telling its number.
fn pods(count: u8) -> u16 {
    'port: loop {
        let first = TcpListener::bind("127.89.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for last in 2..=count {
            match TcpListener::bind((Ipv4Addr::new(127, 89, 0, last), port)) {
                Ok(listener) => listeners.push(listener),
                Err(_) => continue 'port,
            }
        }
        for listener in listeners {
            let IpAddr::V4(own) = listener.local_addr().unwrap().ip() else { unreachable!("bound above") };
            serve_on(listener, move |_, _| ok(&own.octets()[3].to_string()));
        }
        return port;
    }
}

/// Who answers, as numbers in order.
fn seen(stage: &Stage) -> String {
    let mut all: Vec<String> = (0..12)
        .map(|_| get(stage.address(), "/"))
        .map(|answer| if answer.status == 200 { answer.text() } else { format!("status {}", answer.status) })
        .collect();
    all.sort();
    all.dedup();
    all.join(" ")
}

fn stage(names: &NameServer, pool: &str) -> Stage {
    Stage::new(&format!(
        "nameserver: '{}'\nlisteners: [{{address: '127.0.0.1:0', routes: [{{to: [{{pool: app}}]}}]}}]\npools: [{{name: app, {pool}}}]",
        names.address
    ))
}

#[test]
fn the_members_of_a_headless_service_are_followed_and_kept_while_dns_flaps() {
    let names = NameServer::start();
    let port = pods(3);
    names.addresses("web.test", &[1, 2]);
    for pool in
        [format!("endpoints: [{{address: 'web.test:{port}'}}]"), format!("discovery: {{dns: 'web.test:{port}'}}")]
    {
        names.addresses("web.test", &[1, 2]);
        let stage = stage(&names, &pool);
        assert_eq!(seen(&stage), "1 2", "the first request waits for the first look-up");
        names.addresses("web.test", &[2, 3]);
        until("the third has come and the first has gone", || seen(&stage) == "2 3");
        // The name does not exist any more; then nobody answers at all; then it has no addresses.
        names.forget("web.test");
        names.asked();
        assert_eq!(seen(&stage), "2 3");
        names.silent.store(true, Ordering::SeqCst);
        names.asked();
        assert_eq!(seen(&stage), "2 3");
        names.addresses("web.test", &[]);
        names.silent.store(false, Ordering::SeqCst);
        names.asked();
        assert_eq!(seen(&stage), "2 3");
        names.addresses("web.test", &[1]);
        until("the new address is taken up", || seen(&stage) == "1");
    }
}

#[test]
fn srv_records_tell_ports_weights_and_who_stands_by() {
    let names = NameServer::start();
    let (port, other) = (pods(2), pods(3));
    names.addresses("a.test", &[1]);
    names.addresses("b.test", &[2]);
    names.addresses("spare.test", &[3]);
    let records = |first: &str| {
        let of = |priority, weight, port, target: &str| (priority, weight, port, target.to_owned());
        vec![of(10, 3, port, first), of(10, 1, port, "b.test"), of(20, 1, other, "spare.test")]
    };
    names.zone.lock().unwrap().services.insert("_http._tcp.web.test".into(), records("a.test"));
    let stage = stage(&names, "balance: weighted, discovery: {srv: _http._tcp.web.test}");
    assert_eq!(seen(&stage), "1 2");
    let ones = (0..80).filter(|_| get(stage.address(), "/").text() == "1").count();
    assert_eq!(ones, 60, "three of four by weight");
    // A target whose name cannot be looked up for a while is still where it was.
    names.forget("a.test");
    names.asked();
    names.asked();
    assert_eq!(seen(&stage), "1 2");
    names.zone.lock().unwrap().services.insert("_http._tcp.web.test".into(), records("b.test")[2..].to_vec());
    until("the spare one serves", || seen(&stage) == "3");
}

#[test]
fn a_new_configuration_keeps_the_endpoints_that_were_found() {
    let names = NameServer::start();
    let port = pods(2);
    names.addresses("web.test", &[1, 2]);
    let first = stage(&names, &format!("endpoints: [{{address: 'web.test:{port}'}}]"));
    assert_eq!(seen(&first), "1 2");
    names.silent.store(true, Ordering::SeqCst);
    first.reload(&format!(
        "nameserver: '{}'\nlisteners: [{{address: '{}', routes: [{{to: [{{pool: app}}]}}]}}]\npools: [{{name: app, balance: random_two_choices, endpoints: [{{address: 'web.test:{port}'}}]}}]",
        names.address,
        first.address()
    ));
    assert_eq!(seen(&first), "1 2", "though nobody answers about them now");
}

#[test]
fn a_name_that_is_not_there_yet_is_unavailable_and_then_found() {
    let names = NameServer::start();
    let port = pods(1);
    let stage = stage(&names, &format!("connect_timeout: 200ms, endpoints: [{{address: 'late.test:{port}'}}]"));
    assert_eq!(get(stage.address(), "/").status, 503);
    names.addresses("late.test", &[1]);
    until("it is found", || get(stage.address(), "/").status == 200);
}
