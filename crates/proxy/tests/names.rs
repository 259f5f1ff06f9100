//! Endpoints by name: looked up over DNS, followed as long as they live, kept when nobody answers.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::Ordering;

use crate::stage::*;

#[path = "../../names/tests/server/mod.rs"]
mod server;

use server::NameServer;

impl NameServer {
    fn addresses(&self, name: &str, last: &[u8]) {
        let addresses = last.iter().map(|last| Ipv4Addr::new(127, 89, 0, *last)).collect();
        self.zone().addresses.insert(name.to_owned(), addresses);
    }

    fn forget(&self, name: &str) {
        self.zone().addresses.remove(name);
    }

    /// Waits until it was asked anew.
    fn asked(&self) {
        let before = self.questions.load(Ordering::SeqCst);
        until("the name is asked for again", || self.questions.load(Ordering::SeqCst) >= before + 2);
    }
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
    names.zone().services.insert("_http._tcp.web.test".into(), records("a.test"));
    let stage = stage(&names, "balance: weighted, discovery: {srv: _http._tcp.web.test}");
    assert_eq!(seen(&stage), "1 2");
    let ones = (0..80).filter(|_| get(stage.address(), "/").text() == "1").count();
    assert_eq!(ones, 60, "three of four by weight");
    // A target whose name cannot be looked up for a while is still where it was.
    names.forget("a.test");
    names.asked();
    names.asked();
    assert_eq!(seen(&stage), "1 2");
    names.zone().services.insert("_http._tcp.web.test".into(), records("b.test")[2..].to_vec());
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
