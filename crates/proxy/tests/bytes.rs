//! TCP, UDP, the PROXY protocol and the service broker.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::atomic::Ordering;

use crate::stage::*;

fn echo() -> std::net::SocketAddr {
    server(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"bye");
    })
}

fn plain(protocol: &str, endpoints: &str, listener: &str, pool: &str) -> Stage {
    Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', protocol: {protocol}, pool: app{listener}}}]\npools: [{{name: app, endpoints: [{endpoints}]{pool}}}]"
    ))
}

#[test]
fn tcp_carries_both_directions_and_each_ends_by_itself() {
    let stage = plain("tcp", &format!("{{address: '{}'}}, {{address: '{}'}}", nobody(), echo()), "", "");
    for _ in 0..4 {
        let mut client = Client::new(stage.address());
        let large = vec![7u8; 500_000];
        let mut writer = client.stream.try_clone().unwrap();
        let sent = large.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let back = client.rest();
        writing.join().unwrap();
        assert_eq!((back.len(), back.ends_with(b"bye")), (large.len() + 3, true));
    }
}

#[test]
fn udp_keeps_a_clients_datagrams_together() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = server.recv_from(&mut buffer) {
            let mut answer = peer.port().to_string().into_bytes();
            answer.push(b' ');
            answer.extend_from_slice(&buffer[..length]);
            let _ = server.send_to(&answer, peer);
        }
    });
    let stage = plain("udp", &format!("{{address: '{address}'}}"), "", "");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(stage.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut ports = Vec::new();
    for word in ["one", "two"] {
        client.send(word.as_bytes()).unwrap();
        let mut buffer = [0; 2048];
        let length = client.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (port, echoed) = text.split_once(' ').unwrap();
        assert_eq!(echoed, word);
        ports.push(port.to_owned());
    }
    assert_eq!(ports[0], ports[1]);
}

#[test]
fn bytes_of_a_connection_are_counted_while_it_lasts() {
    let stage = plain("tcp", &format!("{{address: '{}'}}", echo()), "", "");
    let mut client = Client::new(stage.address());
    client.send("hello");
    let mut back = [0; 5];
    client.stream.read_exact(&mut back).unwrap();
    let site = stage.proxy.shared().site();
    let metrics = &site.listeners[0].metrics;
    until("both ways are counted", || {
        (metrics.bytes_in.load(Ordering::Relaxed), metrics.bytes_out.load(Ordering::Relaxed)) == (5, 5)
    });
    assert_eq!(metrics.open.load(Ordering::Relaxed), 1);
}

#[test]
fn an_answer_under_way_is_passed_on_when_a_udp_listener_ends() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let stage = plain("udp", &format!("{{address: '{}'}}", server.local_addr().unwrap()), "", "");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(stage.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.send(b"question").unwrap();
    let mut buffer = [0; 100];
    let (length, asking) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    let site = stage.proxy.shared().site();
    let metrics = &site.listeners[0].metrics;
    assert_eq!(metrics.open.load(Ordering::Relaxed), 1);
    stage.serving.stopping().cancel();
    server.send_to(b"answer", asking).unwrap();
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"answer");
    // It is counted while it happens, and the session is over with it.
    until("the session has ended", || metrics.open.load(Ordering::Relaxed) == 0);
    assert_eq!((metrics.bytes_in.load(Ordering::Relaxed), metrics.bytes_out.load(Ordering::Relaxed)), (8, 6));
}

#[test]
fn the_proxy_protocol_is_read_and_written() {
    let app = server(|mut stream| {
        let mut head = [0; 200];
        let read = stream.read(&mut head).unwrap();
        let _ = stream.write_all(&head[..read]);
    });
    let stage =
        plain("tcp", &format!("{{address: '{app}'}}"), ", accept_proxy_protocol: true", ", send_proxy_protocol: v1");
    let mut client = Client::new(stage.address());
    client.send("PROXY TCP4 203.0.113.7 192.0.2.1 4567 80\r\nhello");
    let back = String::from_utf8(client.rest()).unwrap();
    assert!(back.starts_with("PROXY TCP4 203.0.113.7 127.0.0.1 4567 "), "{back}");
    let mut client = Client::new(stage.address());
    client.send("hello without one\r\n");
    assert_eq!(client.rest(), b"");
    let web = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', accept_proxy_protocol: true, routes: [{{to: [{{pool: app}}]}}]}}]\npools: [{{name: app, endpoints: [{{address: '{}'}}]}}]",
        mirror_of_heads()
    ));
    let answer = ask(web.address(), "PROXY TCP4 203.0.113.7 192.0.2.1 4567 80\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(answer.text().contains("x-forwarded-for: 203.0.113.7\r\n"));
}

#[test]
fn a_broker_follows_a_service_binding() {
    let root = tempfile::tempdir().unwrap();
    let binding = root.path().join("orders-db");
    let stage = Stage::new(&format!(
        "listeners: [{{address: '127.0.0.1:0', protocol: tcp, pool: db}}]\npools: [{{name: db, discovery: {{binding: {{type: mysql, root: '{}'}}}}}}]",
        root.path().display()
    ));
    let address = echo();
    std::fs::create_dir(&binding).unwrap();
    std::fs::write(binding.join("type"), "mysql\n").unwrap();
    std::fs::write(binding.join("host"), "127.0.0.1").unwrap();
    std::fs::write(binding.join("port"), address.port().to_string()).unwrap();
    until("the binding is found", || {
        let mut client = Client::new(stage.address());
        let _ = client.stream.write_all(b"hello");
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        client.rest() == b"hellobye"
    });
    // The binding is changed in place, as a Secret that is mounted: the service has moved.
    let moved = server(|mut stream| {
        let _ = stream.write_all(b"moved");
    });
    std::fs::write(binding.join("port"), moved.port().to_string()).unwrap();
    until("the binding's new address is found", || {
        let mut client = Client::new(stage.address());
        let _ = client.stream.shutdown(std::net::Shutdown::Write);
        client.rest() == b"moved"
    });
}
