//! The files in `/etc` that the agent writes for a pod: hosts, hostname, resolv.conf.

use std::{fs, io};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{hosts_file, resolv_conf};
use crate::{context::Context, paths::PodPaths};

/// The pod's host name and the domain below which it is known (`subdomain.namespace.svc.DOMAIN`, or empty).
pub fn names(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    if let Some(name) = spec.hostname_override.as_deref().filter(|n| !n.is_empty()) {
        return (name.to_owned(), String::new());
    }
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let hostname = match spec.hostname.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => name.to_owned(),
        // The kernel takes 64 characters; upstream cuts at 63 and at no separator.
        None => own.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
    };
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(subdomain) => {
            format!("{subdomain}.{}.svc.{cluster_domain}", pod.metadata.namespace.as_deref().unwrap_or_default())
        }
        None => String::new(),
    };
    (hostname, domain)
}

/// Characters of a host name that the kernel takes.
const LONGEST: usize = 64;

/// The name the kernel is told: the full one if the pod wants that. The error says that it is too long, in upstream's
/// words.
pub fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (hostname, domain) = names(pod, cluster_domain);
    let full = pod.spec.as_ref().and_then(|s| s.set_hostname_as_fqdn) == Some(true) && !domain.is_empty();
    let name = if full { format!("{hostname}.{domain}") } else { hostname };
    if name.len() > LONGEST {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({LONGEST} characters is the max, {} characters requested)",
            name.len()
        ));
    }
    Ok(name)
}

/// Writes them; `pod_ips` is what the network gave.
pub fn write(context: &Context, pod: &Pod, paths: &PodPaths, pod_ips: &[String]) -> io::Result<()> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    fs::create_dir_all(paths.root.join("etc"))?;
    let (hostname, domain) = names(pod, &context.config.cluster_domain);
    let hosts = if spec.host_network == Some(true) {
        let host_file = fs::read_to_string("/etc/hosts").unwrap_or_default();
        hosts_file::of_host(&host_file, hosts_file::aliases(spec))
    } else {
        hosts_file::managed(pod_ips, &hostname, &domain, hosts_file::aliases(spec))
    };
    fs::write(paths.etc("hosts"), hosts)?;
    let kernel_name = if spec.host_network == Some(true) {
        context.machine.hostname.clone()
    } else {
        kernel_hostname(pod, &context.config.cluster_domain).map_err(io::Error::other)?
    };
    fs::write(paths.etc("hostname"), format!("{kernel_name}\n"))?;
    let host = resolv_conf::parse(&fs::read_to_string(&context.config.resolv_conf).unwrap_or_default());
    let servers: Vec<String> = context.config.cluster_dns.iter().map(ToString::to_string).collect();
    let cluster = resolv_conf::Cluster { servers: &servers, domain: &context.config.cluster_domain };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    fs::write(paths.etc("resolv.conf"), resolv_conf::of(spec, namespace, cluster, &host).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_host_name_is_the_pods_unless_it_says_otherwise() {
        let pod = |spec: serde_json::Value| -> Pod {
            let mut spec = spec;
            spec["containers"] = json!([]);
            serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": spec}))
                .expect("a pod")
        };
        assert_eq!(kernel_hostname(&pod(json!({})), "c.l").expect("short"), "web-0");
        let named = pod(json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}));
        assert_eq!(names(&named, "c.l"), ("h".into(), "s.ns.svc.c.l".into()));
        assert_eq!(kernel_hostname(&named, "c.l").expect("short"), "h.s.ns.svc.c.l");
        let full = pod(json!({"hostname": "h", "subdomain": "s".repeat(63), "setHostnameAsFQDN": true}));
        let error = kernel_hostname(&full, "c.l").expect_err("longer than the kernel takes");
        assert!(error.ends_with("is too long (64 characters is the max, 76 characters requested)"), "{error}");
        let long: Pod = serde_json::from_value(json!({"metadata": {"name": format!("{}-{}", "a".repeat(62), "b")}}))
            .expect("a pod");
        assert_eq!(kernel_hostname(&long, "c.l").expect("cut"), "a".repeat(62));
    }
}
