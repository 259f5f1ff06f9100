//! Flags stand for the configuration that a file would hold, and are driven as a user would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use clap::Parser;
use proxy::config::Config;

use crate::stage::*;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: proxy::Command,
}

fn expanded(line: &str) -> Result<Config, String> {
    let cli = Cli::try_parse_from(["proxy"].into_iter().chain(line.split(' '))).map_err(|e| e.to_string())?;
    cli.command.expand().map_err(|e| e.to_string())
}

#[test]
fn flags_stand_for_the_configuration_that_a_file_would_hold() {
    for (line, yaml) in [
        (
            "http --listen :80 --to a:1,b:2 --balance least_connections --health /ok",
            "listeners: [{address: ':80', routes: [{to: [{pool: app}]}]}]
pools: [{name: app, endpoints: [{address: 'a:1'}, {address: 'b:2'}], balance: least_connections, health: {path: /ok}}]",
        ),
        (
            "split --to 90=a:1 --to 10=b:2 --stick cookie:user",
            "listeners: [{address: ':8080', routes: [{stick: {cookie: user}, to: [{pool: version-0, weight: 90}, {pool: version-1, weight: 10}]}]}]
pools: [{name: version-0, endpoints: [{address: 'a:1'}]}, {name: version-1, endpoints: [{address: 'b:2'}]}]",
        ),
        (
            "tee --production a:1 --experiment b:2 --percent 25",
            "listeners: [{address: ':8080', routes: [{to: [{pool: production}], filters: {mirrors: [{pool: experiment, percent: 25, compare: true}]}}]}]
pools: [{name: production, endpoints: [{address: 'a:1'}]}, {name: experiment, endpoints: [{address: 'b:2'}]}]",
        ),
        (
            "broker --listen localhost:3306 --srv _mysql._tcp.db --tls db.example",
            "listeners: [{address: 'localhost:3306', protocol: tcp, pool: service}]
pools: [{name: service, discovery: {srv: _mysql._tcp.db}, tls: {server_name: db.example}}]",
        ),
        (
            "broker --environment DB",
            "listeners: [{address: ':8080', protocol: tcp, pool: service}]\npools: [{name: service, discovery: {environment: DB}}]",
        ),
        (
            "broker --type mysql",
            "listeners: [{address: ':8080', protocol: tcp, pool: service}]\npools: [{name: service, discovery: {binding: {type: mysql}}}]",
        ),
        (
            "cache --to a:1 --memory 8MiB --default-ttl 10s --purge-from 10.0.0.0/8",
            "listeners: [{address: ':8080', routes: [{to: [{pool: app}], cache: cache}]}]
pools: [{name: app, endpoints: [{address: 'a:1'}]}]
caches: [{name: cache, memory: 8MiB, default_ttl: 10s, purge_from: [10.0.0.0/8]}]",
        ),
        (
            "limit --to a:1 --requests 5 --per 1s --by header:x-key,path --authenticated 50",
            "listeners: [{address: ':8080', routes: [{to: [{pool: app}], rate_limits: [limit]}]}]
pools: [{name: app, endpoints: [{address: 'a:1'}]}]
rate_limits: [{name: limit, requests: 5, per: 1s, by: [{header: x-key}, path], tiers: [{name: authenticated, requests: 50}]}]",
        ),
        (
            "udp --listen :53 --to a:53 --balance hash",
            "listeners: [{address: ':53', protocol: udp, pool: app}]\npools: [{name: app, endpoints: [{address: 'a:53'}], balance: hash}]",
        ),
    ] {
        assert_eq!(expanded(line).as_ref(), Ok(&Config::parse(yaml).unwrap()), "{line}");
    }
    for (line, why) in [
        ("http --listen :80", "--to"),
        ("split --to a:1", "WEIGHT=HOST:PORT"),
        ("http --to a:1 --balance best", "\"best\""),
        ("broker", "exactly one"),
        ("broker --srv a --to b:1", "exactly one"),
        ("http --to a", "\"a\""),
        ("http --to a:1 --certificate x", "--key"),
    ] {
        assert!(expanded(line).unwrap_err().contains(why), "{line}: {}", expanded(line).unwrap_err());
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of its own, since its environment is what is tested: this test program, told to run the test below alone.
fn broker(listen: SocketAddr, variables: &[(&str, String)]) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["flags::a_broker_of_its_own", "--exact", "--ignored", "--nocapture"]);
    command.env("BROKER_UNDER_TEST", listen.to_string()).envs(variables.iter().map(|(name, value)| (name, value)));
    Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
#[ignore = "is run by others with an environment of its own"]
fn a_broker_of_its_own() {
    let listen = std::env::var("BROKER_UNDER_TEST").expect("the address is told");
    let line = format!("broker --listen {listen} --environment DB --admin off --threads 1");
    let cli = Cli::parse_from(["proxy"].into_iter().chain(line.split(' ')));
    let _ = proxy::main(cli.command);
}

#[test]
fn a_broker_finds_what_the_environment_names() {
    let service = server(|mut stream| {
        let mut word = [0; 4];
        if stream.read_exact(&mut word).is_ok() {
            let _ = stream.write_all(b"pong");
        }
    });
    let (host, port) = (service.ip().to_string(), service.port().to_string());
    for variables in [
        vec![("DB_HOST", host.clone()), ("DB_PORT", port.clone())],
        vec![("DB_SERVICE_HOST", host.clone()), ("DB_SERVICE_PORT", port.clone())],
        vec![("DB_URL", format!("redis://user:secret@{host}:{port}/0"))],
        vec![("DB_URL", format!("redis://localhost:{port}/0"))],
    ] {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _broker = broker(listen, &variables);
        until("the broker brings the service", || {
            let Ok(mut stream) = std::net::TcpStream::connect(listen) else { return false };
            let mut word = Vec::new();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(b"ping").is_ok() && stream.read_to_end(&mut word).is_ok() && word == b"pong"
        });
    }
}
