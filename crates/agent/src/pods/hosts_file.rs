//! A pod's `/etc/hosts`. Pure.

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};

/// The file of a pod with its own network.
pub fn managed(pod_ips: &[String], hostname: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut out = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in pod_ips {
        if domain.is_empty() {
            out.push_str(&format!("{ip}\t{hostname}\n"));
        } else {
            out.push_str(&format!("{ip}\t{hostname}.{domain}\t{hostname}\n"));
        }
    }
    out.push_str(&alias_lines(aliases));
    out
}

/// The file of a pod on the node's network: the node's own with the aliases added.
pub fn of_host(host_file: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{host_file}{}", alias_lines(aliases))
}

/// The pod's aliases.
pub fn aliases(spec: &PodSpec) -> &[HostAlias] {
    spec.host_aliases.as_deref().unwrap_or_default()
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        out.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_finds_itself_and_its_aliases() {
        let alias = HostAlias { ip: "1.2.3.4".into(), hostnames: Some(vec!["a".into(), "b".into()]) };
        let file = managed(&["10.0.0.5".into()], "web", "sub.ns.svc.cluster.local", &[alias]);
        assert!(file.contains("\n10.0.0.5\tweb.sub.ns.svc.cluster.local\tweb\n"));
        assert!(file.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
        assert!(managed(&["10.0.0.5".into()], "web", "", &[]).ends_with("10.0.0.5\tweb\n"));
    }
}
