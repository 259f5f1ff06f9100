//! A pod's `/etc/resolv.conf` by `dnsPolicy` and `dnsConfig`. Pure.

use k8s_openapi::api::core::v1::PodSpec;

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines.
    pub nameservers: Vec<String>,
    /// `search`.
    pub searches: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}

/// The file's meaning.
pub fn parse(text: &str) -> ResolvConf {
    let mut out = ResolvConf::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.nameservers.extend(words.next().map(str::to_owned)),
            // The last one counts.
            Some("search" | "domain") => {
                out.searches = words.map(|w| w.trim_end_matches('.').to_owned()).filter(|w| !w.is_empty()).collect()
            }
            Some("options") => out.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    out
}

/// The cluster's side.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// Its name servers.
    pub servers: &'a [String],
    /// Its domain.
    pub domain: &'a str,
}

/// What the pod gets; `host` is the node's own file.
pub fn of(spec: &PodSpec, namespace: &str, cluster: Cluster<'_>, host: &ResolvConf) -> ResolvConf {
    let host_network = spec.host_network == Some(true);
    let mut out = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => ResolvConf::default(),
        "ClusterFirstWithHostNet" if !cluster.servers.is_empty() => cluster_first(namespace, cluster, host),
        "ClusterFirst" if !host_network && !cluster.servers.is_empty() => cluster_first(namespace, cluster, host),
        _ => host.clone(),
    };
    if let Some(config) = &spec.dns_config {
        extend(&mut out.nameservers, config.nameservers.iter().flatten());
        extend(&mut out.searches, config.searches.iter().flatten());
        for option in config.options.iter().flatten() {
            let Some(name) = option.name.as_deref() else { continue };
            out.options.retain(|o| o.split(':').next() != Some(name));
            out.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.to_owned(),
            });
        }
    }
    // Limits of the resolver library, as upstream cuts them.
    out.nameservers.truncate(3);
    out.searches.truncate(32);
    out
}

fn cluster_first(namespace: &str, cluster: Cluster<'_>, host: &ResolvConf) -> ResolvConf {
    let domain = cluster.domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    extend(&mut searches, host.searches.iter());
    ResolvConf { nameservers: cluster.servers.to_vec(), searches, options: vec!["ndots:5".to_owned()] }
}

fn extend<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

impl std::fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.searches.is_empty() {
            writeln!(f, "search {}", self.searches.join(" "))?;
        }
        for server in &self.nameservers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(spec: serde_json::Value) -> String {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        let host = parse("# c\nnameserver 192.0.2.1\nsearch corp.example. lan\noptions rotate\n");
        let servers = ["10.43.0.10".to_owned()];
        of(&spec, "ns", Cluster { servers: &servers, domain: "cluster.local" }, &host).to_string()
    }

    #[test]
    fn each_policy_gives_its_file() {
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example lan\nnameserver 10.43.0.10\noptions ndots:5\n";
        let host = "search corp.example lan\nnameserver 192.0.2.1\noptions rotate\n";
        assert_eq!(file(json!({})), cluster);
        assert_eq!(file(json!({"dnsPolicy": "ClusterFirst"})), cluster);
        assert_eq!(file(json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true})), host);
        assert_eq!(file(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true})), cluster);
        assert_eq!(file(json!({"dnsPolicy": "Default"})), host);
        let config = json!({"nameservers": ["1.1.1.1"], "searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        assert_eq!(
            file(json!({"dnsPolicy": "None", "dnsConfig": config})),
            "search x.y\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
        );
        assert!(
            file(json!({"dnsConfig": config}))
                .ends_with("nameserver 10.43.0.10\nnameserver 1.1.1.1\noptions ndots:2 edns0\n")
        );
    }
}
