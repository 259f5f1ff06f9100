//! From what the zone knows to DNS records.

use std::net::IpAddr;

use hickory_server::proto::ProtoError;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

use crate::Cidr;
use crate::dns::zone::{Found, Owner, Target, Zone};

/// The version of the Kubernetes DNS specification followed.
const SCHEMA_VERSION: &str = "1.1.0";
/// Aliases followed inside the cluster domain; a longer chain is a circle.
const MOST_ALIASES: usize = 8;

/// Turns questions into records of one cluster domain.
pub(crate) struct Authority {
    pub zone: Zone,
    origin: Name,
    ttl: u32,
    /// Where the name server itself listens.
    addresses: Vec<IpAddr>,
    reverse: Vec<Cidr>,
}

/// What there is to say to a question.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
    /// The name does not exist at all.
    pub absent: bool,
    /// The answer ends in an alias out of the zone, whose records are still to be fetched.
    pub continues_at: Option<Name>,
}

impl Authority {
    /// Errors: the domain is no legal name.
    pub(crate) fn new(
        zone: Zone,
        domain: &str,
        ttl: u32,
        addresses: Vec<IpAddr>,
        reverse: Vec<Cidr>,
    ) -> Result<Authority, ProtoError> {
        let mut origin = Name::from_ascii(domain)?.to_lowercase();
        origin.set_fqdn(true);
        Ok(Authority { zone, origin, ttl, addresses, reverse })
    }

    /// The answer, if the name is this server's to answer.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        if self.origin.zone_of(name) {
            let mut answer = Answer::default();
            self.forward(name.clone(), kind, &mut answer, 0);
            return Some(answer);
        }
        let ip = reverse_address(name)?;
        self.reverse.iter().any(|range| range.contains(ip)).then(|| self.backward(name, ip, kind))
    }

    /// The record that says who is in charge, for negative answers.
    pub(crate) fn start(&self) -> Record {
        let host = |labels: &str| self.name(labels).unwrap_or_else(|| self.origin.clone());
        // Nobody copies this zone: refresh, retry and expiry are upstream's usual figures.
        let soa = SOA::new(host("ns.dns"), host("hostmaster"), self.zone.serial(), 7200, 1800, 86_400, self.ttl);
        Record::from_rdata(self.origin.clone(), self.ttl, RData::SOA(soa))
    }

    fn forward(&self, name: Name, kind: RecordType, answer: &mut Answer, depth: usize) {
        let below = usize::from(name.num_labels()) - usize::from(self.origin.num_labels());
        let labels: Option<Vec<String>> =
            name.iter().take(below).map(|label| std::str::from_utf8(label).map(str::to_ascii_lowercase).ok()).collect();
        let found = match &labels {
            Some(labels) => self.zone.find(&labels.iter().map(String::as_str).collect::<Vec<_>>()),
            None => Found::Absent,
        };
        match found {
            Found::Absent => answer.absent = true,
            Found::Empty => {}
            Found::Apex if kind == RecordType::SOA => answer.answers.push(self.start()),
            Found::Apex => {
                if kind == RecordType::NS
                    && let Some(server) = self.name("ns.dns")
                {
                    self.add_addresses(&mut answer.additionals, &server, &self.addresses, None);
                    answer.answers.push(Record::from_rdata(name, self.ttl, RData::NS(NS(server))));
                }
            }
            Found::NameServer => self.add_addresses(&mut answer.answers, &name, &self.addresses, Some(kind)),
            Found::Version => {
                if matches!(kind, RecordType::TXT | RecordType::ANY) {
                    let text = TXT::new(vec![SCHEMA_VERSION.to_owned()]);
                    answer.answers.push(Record::from_rdata(name, self.ttl, RData::TXT(text)));
                }
            }
            Found::Addresses { ips, ports } => {
                self.add_addresses(&mut answer.answers, &name, &ips, Some(kind));
                self.add_targets(answer, &name, kind, &ports);
            }
            Found::Ports(ports) => self.add_targets(answer, &name, kind, &ports),
            Found::Alias(target) => self.alias(name, &target, kind, answer, depth),
        }
    }

    fn alias(&self, name: Name, target: &str, kind: RecordType, answer: &mut Answer, depth: usize) {
        let Ok(mut target) = Name::from_ascii(target) else { return };
        target.set_fqdn(true);
        answer.answers.push(Record::from_rdata(name, self.ttl, RData::CNAME(CNAME(target.clone()))));
        if kind == RecordType::CNAME {
            return;
        }
        if !self.origin.zone_of(&target) {
            answer.continues_at = Some(target);
        } else if depth < MOST_ALIASES {
            self.forward(target, kind, answer, depth + 1);
        }
    }

    fn backward(&self, name: &Name, ip: IpAddr, kind: RecordType) -> Answer {
        let owners = self.zone.reverse(ip);
        let mut answer = Answer { absent: owners.is_empty(), ..Answer::default() };
        if matches!(kind, RecordType::PTR | RecordType::ANY) {
            let names = owners.iter().filter_map(|Owner(relative)| self.name(relative));
            answer.answers =
                names.map(|owner| Record::from_rdata(name.clone(), self.ttl, RData::PTR(PTR(owner)))).collect();
        }
        answer
    }

    /// Addresses of the family `kind` asks for; of both if it is `None` or ANY.
    fn add_addresses(&self, records: &mut Vec<Record>, name: &Name, ips: &[IpAddr], kind: Option<RecordType>) {
        let asked = |family| kind.is_none_or(|kind| kind == family || kind == RecordType::ANY);
        for ip in ips {
            let data = match ip {
                IpAddr::V4(v4) if asked(RecordType::A) => RData::A(A(*v4)),
                IpAddr::V6(v6) if asked(RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
                _ => continue,
            };
            records.push(Record::from_rdata(name.clone(), self.ttl, data));
        }
    }

    fn add_targets(&self, answer: &mut Answer, name: &Name, kind: RecordType, targets: &[Target]) {
        if !matches!(kind, RecordType::SRV | RecordType::ANY) {
            return;
        }
        // RFC 2782: equal priority, equal shares.
        let weight = (100 / targets.len().max(1)).max(1) as u16;
        for target in targets {
            let Some(owner) = self.name(&target.owner.0) else { continue };
            if !answer.additionals.iter().any(|record| record.name == owner) {
                self.add_addresses(&mut answer.additionals, &owner, &target.ips, None);
            }
            let data = RData::SRV(SRV::new(0, weight, target.port, owner));
            answer.answers.push(Record::from_rdata(name.clone(), self.ttl, data));
        }
    }

    fn name(&self, relative: &str) -> Option<Name> {
        Name::from_ascii(relative).ok()?.append_domain(&self.origin).ok()
    }
}

/// The address of a complete name below `in-addr.arpa` or `ip6.arpa`.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let range = name.to_lowercase().parse_arpa_name().ok()?;
    (range.prefix_len() == range.max_prefix_len()).then(|| range.addr())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{EndpointRecord, PortRecord, ServiceRecord};
    use crate::service::Protocol;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn port(name: &str, number: u16) -> PortRecord {
        PortRecord {
            name: Some(name.to_owned()).filter(|name| !name.is_empty()),
            protocol: Protocol::Tcp,
            port: number,
        }
    }

    fn endpoint(address: &str, hostname: Option<&str>, ready: bool) -> EndpointRecord {
        EndpointRecord {
            ip: ip(address),
            hostname: hostname.map(str::to_owned),
            ready,
            ports: vec![port("http", 8080), port("", 9)],
        }
    }

    fn authority() -> Authority {
        let zone = Zone::default();
        let web = ServiceRecord {
            cluster_ips: vec![ip("10.43.0.1")],
            ports: vec![port("https", 443), port("", 80)],
            ..ServiceRecord::default()
        };
        zone.set_service("default", "web", web);
        zone.set_endpoints("default", "web", vec![endpoint("10.42.0.9", None, true)]);
        zone.set_service("default", "db", ServiceRecord::default());
        let db = vec![
            endpoint("10.42.0.2", Some("db-0"), true),
            endpoint("10.42.0.3", None, true),
            endpoint("10.42.0.4", Some("db-2"), false),
        ];
        zone.set_endpoints("default", "db", db);
        let external = |name: &str| ServiceRecord { external_name: Some(name.into()), ..ServiceRecord::default() };
        zone.set_service("default", "out", external("www.example.com"));
        zone.set_service("default", "in", external("web.default.svc.cluster.local"));
        zone.set_service("default", "circle", external("circle.default.svc.cluster.local"));
        zone.set_service("default", "empty", ServiceRecord::default());
        zone.set_namespace("bare", true);
        let ranges = vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()];
        Authority::new(zone, "cluster.local", 5, vec![ip("10.43.0.10")], ranges).unwrap()
    }

    /// The answer in words: record data, or NXDOMAIN, or NODATA.
    fn ask(authority: &Authority, name: &str, kind: RecordType) -> String {
        let name = Name::from_ascii(format!("{name}.")).unwrap();
        let Some(answer) = authority.answer(&name, kind) else { return "FORWARD".into() };
        match (answer.absent, answer.answers.is_empty()) {
            (true, _) => "NXDOMAIN".into(),
            (false, true) => "NODATA".into(),
            _ => answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>().join(", "),
        }
    }

    #[track_caller]
    fn assert_answers(kind: RecordType, expected: &[(&str, &str)]) {
        let authority = authority();
        for (name, answer) in expected {
            assert_eq!(ask(&authority, name, kind), *answer, "{name} {kind}");
        }
    }

    #[test]
    fn addresses_are_those_of_services_ready_endpoints_and_pods() {
        assert_answers(
            RecordType::A,
            &[
                ("web.default.svc.cluster.local", "10.43.0.1"),
                ("WEB.Default.SVC.cluster.LOCAL", "10.43.0.1"),
                ("db.default.svc.cluster.local", "10.42.0.2, 10.42.0.3"),
                ("db-0.db.default.svc.cluster.local", "10.42.0.2"),
                ("10-42-0-3.db.default.svc.cluster.local", "10.42.0.3"),
                ("db-2.db.default.svc.cluster.local", "NXDOMAIN"),
                ("10-42-0-77.default.pod.cluster.local", "10.42.0.77"),
                ("10-42-0-77.bare.pod.cluster.local", "10.42.0.77"),
                ("10-42-0-77.nowhere.pod.cluster.local", "NXDOMAIN"),
                ("ten.default.pod.cluster.local", "NXDOMAIN"),
                ("ns.dns.cluster.local", "10.43.0.10"),
            ],
        );
    }

    #[test]
    fn names_that_do_not_exist_differ_from_names_without_such_records() {
        assert_answers(
            RecordType::A,
            &[
                ("nothing.default.svc.cluster.local", "NXDOMAIN"),
                ("web.nowhere.svc.cluster.local", "NXDOMAIN"),
                ("empty.default.svc.cluster.local", "NXDOMAIN"),
                ("a.b.web.default.svc.cluster.local", "NXDOMAIN"),
                ("nothing.cluster.local", "NXDOMAIN"),
                ("default.svc.cluster.local", "NODATA"),
                ("svc.cluster.local", "NODATA"),
                ("default.pod.cluster.local", "NODATA"),
                ("cluster.local", "NODATA"),
                ("_https._tcp.web.default.svc.cluster.local", "NODATA"),
                ("_tcp.web.default.svc.cluster.local", "NODATA"),
                ("_udp.web.default.svc.cluster.local", "NXDOMAIN"),
            ],
        );
        assert_answers(
            RecordType::AAAA,
            &[
                ("web.default.svc.cluster.local", "NODATA"),
                ("db.default.svc.cluster.local", "NODATA"),
                ("nothing.default.svc.cluster.local", "NXDOMAIN"),
            ],
        );
    }

    #[test]
    fn service_records_name_the_service_or_each_endpoint_of_a_headless_one() {
        assert_answers(
            RecordType::SRV,
            &[
                ("_https._tcp.web.default.svc.cluster.local", "0 100 443 web.default.svc.cluster.local."),
                ("_HTTPS._TCP.web.default.svc.cluster.local", "0 100 443 web.default.svc.cluster.local."),
                ("_https._udp.web.default.svc.cluster.local", "NXDOMAIN"),
                ("_http._tcp.web.default.svc.cluster.local", "NXDOMAIN"),
                (
                    "_http._tcp.db.default.svc.cluster.local",
                    "0 50 8080 db-0.db.default.svc.cluster.local., 0 50 8080 10-42-0-3.db.default.svc.cluster.local.",
                ),
                ("web.default.svc.cluster.local", "0 100 443 web.default.svc.cluster.local."),
            ],
        );
        let name = Name::from_ascii("_http._tcp.db.default.svc.cluster.local.").unwrap();
        let additional = authority().answer(&name, RecordType::SRV).unwrap().additionals;
        assert_eq!(
            additional.iter().map(|record| record.data.to_string()).collect::<Vec<_>>(),
            ["10.42.0.2", "10.42.0.3"]
        );
    }

    #[test]
    fn addresses_lead_back_to_services_and_endpoints() {
        assert_answers(
            RecordType::PTR,
            &[
                ("1.0.43.10.in-addr.arpa", "web.default.svc.cluster.local."),
                ("2.0.42.10.in-addr.arpa", "db-0.db.default.svc.cluster.local."),
                ("3.0.42.10.in-addr.arpa", "10-42-0-3.db.default.svc.cluster.local."),
                ("4.0.42.10.in-addr.arpa", "NXDOMAIN"),
                ("1.2.0.192.in-addr.arpa", "FORWARD"),
            ],
        );
    }

    #[test]
    fn external_names_are_aliases_followed_where_this_server_can() {
        assert_answers(
            RecordType::A,
            &[
                ("out.default.svc.cluster.local", "www.example.com."),
                ("in.default.svc.cluster.local", "web.default.svc.cluster.local., 10.43.0.1"),
                ("x.out.default.svc.cluster.local", "NXDOMAIN"),
            ],
        );
        let name = Name::from_ascii("out.default.svc.cluster.local.").unwrap();
        let next = authority().answer(&name, RecordType::A).unwrap().continues_at;
        assert_eq!(next, Some(Name::from_ascii("www.example.com.").unwrap()));
        assert_eq!(authority().answer(&name, RecordType::CNAME).unwrap().continues_at, None);
        // A circle ends.
        assert!(ask(&authority(), "circle.default.svc.cluster.local", RecordType::A).starts_with("circle."));
    }

    #[test]
    fn the_zone_tells_its_version_server_and_start_and_leaves_other_names_alone() {
        assert_answers(RecordType::TXT, &[("dns-version.cluster.local", "1.1.0"), ("www.example.com", "FORWARD")]);
        assert_answers(RecordType::NS, &[("cluster.local", "ns.dns.cluster.local."), ("mycluster.local", "FORWARD")]);
        let start = ask(&authority(), "cluster.local", RecordType::SOA);
        assert!(start.starts_with("ns.dns.cluster.local. hostmaster.cluster.local. "), "{start}");
    }

    #[test]
    fn unready_endpoints_are_published_on_demand_and_removed_services_forgotten() {
        let authority = authority();
        let ready = |publish_not_ready| ServiceRecord { publish_not_ready, ..ServiceRecord::default() };
        authority.zone.set_service("default", "db", ready(true));
        assert_eq!(ask(&authority, "db-2.db.default.svc.cluster.local", RecordType::A), "10.42.0.4");
        authority.zone.remove_service("default", "db");
        assert_eq!(ask(&authority, "db.default.svc.cluster.local", RecordType::A), "NXDOMAIN");
        assert_eq!(ask(&authority, "2.0.42.10.in-addr.arpa", RecordType::PTR), "NXDOMAIN");
        // Endpoints may come first.
        authority.zone.set_endpoints("new", "late", vec![endpoint("10.42.0.5", None, true)]);
        assert_eq!(ask(&authority, "late.new.svc.cluster.local", RecordType::A), "NXDOMAIN");
        authority.zone.set_service("new", "late", ready(false));
        assert_eq!(ask(&authority, "late.new.svc.cluster.local", RecordType::A), "10.42.0.5");
    }
}
