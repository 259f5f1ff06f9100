//! A name server on loopback, for the tests of whoever follows names.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What it knows: addresses by name, and SRV records (priority, weight, port, target) by name.
#[derive(Default)]
pub struct Zone {
    pub addresses: HashMap<String, Vec<Ipv4Addr>>,
    pub services: HashMap<String, Vec<(u16, u16, u16, String)>>,
}

/// The server. Its answers hold for a second.
pub struct NameServer {
    zone: Arc<Mutex<Zone>>,
    /// It says nothing.
    pub silent: Arc<AtomicBool>,
    /// How many questions have come.
    pub questions: Arc<AtomicUsize>,
    pub address: SocketAddr,
}

impl NameServer {
    pub fn start() -> Self {
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

    /// What it says from the next question on.
    pub fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().expect("nobody panics with it")
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
