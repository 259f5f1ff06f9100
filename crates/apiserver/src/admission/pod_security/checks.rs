//! What the Pod Security Standards ask of a pod, control by control, in upstream's order and words.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::Level;

/// A pod, or a template of one, held against the standards of 1.`minor`.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub pod: &'a Value,
    pub minor: u32,
}

/// What a pod may not.
pub(super) struct Fault {
    /// In a few words.
    pub reason: String,
    /// Who does it, and what exactly.
    pub detail: String,
}

pub(super) type Judge = fn(Pod<'_>) -> Option<Fault>;

/// One control.
struct Check {
    id: &'static str,
    level: Level,
    /// The minor version that has it first.
    since: u32,
    /// The weaker control that it takes the place of.
    instead_of: &'static str,
    judge: Judge,
}

const fn baseline(id: &'static str, since: u32, judge: Judge) -> Check {
    Check { id, level: Level::Baseline, since, instead_of: "", judge }
}

const fn restricted(id: &'static str, since: u32, instead_of: &'static str, judge: Judge) -> Check {
    Check { id, level: Level::Restricted, since, instead_of, judge }
}

const CHECKS: &[Check] = &[
    baseline("appArmorProfile", 0, app_armor),
    baseline("capabilities", 0, capabilities),
    baseline("hostNamespaces", 0, host_namespaces),
    baseline("hostPathVolumes", 0, host_paths),
    baseline("hostPorts", 0, host_ports),
    baseline("hostProbesAndHostLifecycle", 34, host_of_probes),
    baseline("privileged", 0, privileged),
    baseline("procMount", 0, proc_mount),
    baseline("seLinuxOptions", 0, se_linux),
    baseline("seccompProfile", 0, seccomp),
    baseline("sysctls", 0, sysctls),
    baseline("windowsHostProcess", 0, host_process),
    restricted("allowPrivilegeEscalation", 8, "", escalation),
    restricted("capabilities_restricted", 22, "capabilities", dropped_capabilities),
    restricted("procMount_restricted", 35, "procMount", masked_proc_mount),
    restricted("restrictedVolumes", 0, "hostPathVolumes", volumes),
    restricted("runAsNonRoot", 0, "", non_root),
    restricted("runAsUser", 23, "", user),
    restricted("seccompProfile_restricted", 19, "seccompProfile", own_seccomp),
];

/// What is asked of pods at a level by the standards of 1.`minor`.
pub(super) fn of(level: Level, minor: u32) -> impl Iterator<Item = Judge> {
    let holds = move |check: &Check| check.level <= level && check.since <= minor;
    let is_replaced = move |id: &str| {
        CHECKS.iter().any(|other| holds(other) && !other.instead_of.is_empty() && other.instead_of == id)
    };
    CHECKS.iter().filter(move |check| holds(check) && !is_replaced(check.id)).map(|check| check.judge)
}

impl<'a> Pod<'a> {
    fn spec(self) -> &'a Value {
        &self.pod["spec"]
    }

    fn containers(self) -> impl Iterator<Item = &'a Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(move |list| self.spec()[list].as_array().into_iter().flatten())
    }

    /// The names of the containers that are so.
    fn those(self, is_so: impl FnMut(&&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(is_so).map(|container| container["name"].as_str().unwrap_or("")).collect()
    }

    /// Root is nobody outside of it.
    fn has_users_of_its_own(self) -> bool {
        self.spec()["hostUsers"] == false
    }

    /// What restricts Linux says nothing about it.
    fn is_windows(self) -> bool {
        self.minor >= 25 && self.spec()["os"]["name"] == "windows"
    }

    /// Who sets a field of a security context to what may not be: the pod, containers; with the values.
    fn setters(self, field: &str, is_bad: impl Fn(&Value) -> bool) -> (Vec<String>, BTreeSet<&'a str>) {
        let mut values = BTreeSet::new();
        let mut is_bad = |context: &'a Value| {
            let bad = context.pointer(field).filter(|value| is_bad(value));
            values.extend(bad.and_then(Value::as_str));
            bad.is_some()
        };
        let of_pod = is_bad(&self.spec()["securityContext"]);
        let containers = self.those(|container| is_bad(&container["securityContext"]));
        let mut setters = Vec::from_iter(of_pod.then(|| "pod".to_owned()));
        if !containers.is_empty() {
            setters.push(named(&containers));
        }
        (setters, values)
    }
}

fn fault(reason: impl Into<String>, detail: impl Into<String>) -> Option<Fault> {
    Some(Fault { reason: reason.into(), detail: detail.into() })
}

/// `"a", "b"`
fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

/// The word with an s unless there is one of it.
fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// `container "a"`, `containers "a", "b"`
fn named(containers: &[&str]) -> String {
    format!("{} {}", plural("container", containers.len()), quoted(containers.iter().copied()))
}

/// As third persons do.
fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn app_armor(pod: Pod<'_>) -> Option<Fault> {
    let (mut setters, values) =
        pod.setters("/appArmorProfile/type", |value| !matches!(value.as_str(), Some("RuntimeDefault" | "Localhost")));
    let annotations = pod.pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let bad = annotations.filter_map(|(key, value)| {
        let value = value.as_str().unwrap_or("");
        let is_fine = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        let is_about_it = key.starts_with("container.apparmor.security.beta.kubernetes.io/");
        (is_about_it && !is_fine).then(|| format!("{key}={value:?}"))
    });
    let bad: BTreeSet<String> = bad.collect();
    if !bad.is_empty() {
        setters.push(plural("annotation", bad.len()));
    }
    if setters.is_empty() {
        return None;
    }
    let count = values.len() + bad.len();
    let values = quoted(values.into_iter().chain(bad.iter().map(String::as_str)));
    fault(
        plural("forbidden AppArmor profile", count),
        format!("{} must not set AppArmor profile type to {values}", setters.join(" and ")),
    )
}

/// Those that containers have by default.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Who adds capabilities beyond these, and which.
fn added<'a>(pod: Pod<'a>, allowed: &[&str]) -> Option<String> {
    let mut beyond = BTreeSet::new();
    let containers = pod.those(|container| {
        let added = strings(&container["securityContext"]["capabilities"]["add"]);
        let bad: Vec<&str> = added.filter(|name| !allowed.contains(name)).collect();
        beyond.extend(bad.iter().copied());
        !bad.is_empty()
    });
    let line = || {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&containers),
            quoted(beyond.clone())
        )
    };
    (!containers.is_empty()).then(line)
}

fn capabilities(pod: Pod<'_>) -> Option<Fault> {
    added(pod, &CAPABILITIES).and_then(|detail| fault("non-default capabilities", detail))
}

fn dropped_capabilities(pod: Pod<'_>) -> Option<Fault> {
    if pod.is_windows() {
        return None;
    }
    let keeping =
        pod.those(|container| strings(&container["securityContext"]["capabilities"]["drop"]).all(|name| name != "ALL"));
    let mut lines = Vec::new();
    if !keeping.is_empty() {
        lines.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    lines.extend(added(pod, &["NET_BIND_SERVICE"]));
    if lines.is_empty() { None } else { fault("unrestricted capabilities", lines.join("; ")) }
}

fn host_namespaces(pod: Pod<'_>) -> Option<Fault> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| pod.spec()[*name] == true);
    let shared: Vec<String> = shared.map(|name| format!("{name}=true")).collect();
    if shared.is_empty() { None } else { fault("host namespaces", shared.join(", ")) }
}

fn host_paths(pod: Pod<'_>) -> Option<Fault> {
    let volumes = pod.spec()["volumes"].as_array().into_iter().flatten();
    let names: Vec<&str> =
        volumes.filter(|volume| volume["hostPath"].is_object()).filter_map(|volume| volume["name"].as_str()).collect();
    let line = |names: &[&str]| format!("{} {}", plural("volume", names.len()), quoted(names.iter().copied()));
    if names.is_empty() { None } else { fault("hostPath volumes", line(&names)) }
}

fn host_ports(pod: Pod<'_>) -> Option<Fault> {
    let mut ports = BTreeSet::new();
    let containers = pod.those(|container| {
        let of = container["ports"].as_array().into_iter().flatten().filter_map(|port| port["hostPort"].as_i64());
        let of: Vec<String> = of.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let has = !of.is_empty();
        ports.extend(of);
        has
    });
    if containers.is_empty() {
        return None;
    }
    let (who, word) = (named(&containers), plural("hostPort", ports.len()));
    let ports = Vec::from_iter(ports).join(", ");
    fault("hostPort", format!("{who} {} {word} {ports}", uses(containers.len())))
}

fn host_of_probes(pod: Pod<'_>) -> Option<Fault> {
    let paths = ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let (mut containers, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for container in pod.containers() {
        for handler in paths.into_iter().filter_map(|path| container.pointer(path)) {
            let named = ["httpGet", "tcpSocket"].into_iter().filter_map(|kind| handler[kind]["host"].as_str());
            for host in named.filter(|host| !host.is_empty()) {
                containers.insert(container["name"].as_str().unwrap_or(""));
                hosts.insert(host);
            }
        }
    }
    if containers.is_empty() {
        return None;
    }
    let containers = Vec::from_iter(containers);
    let word = plural("probe or lifecycle host", hosts.len());
    let detail = format!("{} {} {word} {}", named(&containers), uses(containers.len()), quoted(hosts));
    fault("probe or lifecycle host", detail)
}

fn privileged(pod: Pod<'_>) -> Option<Fault> {
    let containers = pod.those(|container| container["securityContext"]["privileged"] == true);
    let line = |containers: &[&str]| format!("{} must not set securityContext.privileged=true", named(containers));
    if containers.is_empty() { None } else { fault("privileged", line(&containers)) }
}

fn proc_mount(pod: Pod<'_>) -> Option<Fault> {
    if pod.minor >= 35 && pod.has_users_of_its_own() { None } else { masked_proc_mount(pod) }
}

fn masked_proc_mount(pod: Pod<'_>) -> Option<Fault> {
    let mut types = BTreeSet::new();
    let containers = pod.those(|container| {
        let kind = container["securityContext"]["procMount"].as_str().filter(|kind| *kind != "Default");
        types.extend(kind);
        kind.is_some()
    });
    let line = || format!("{} must not set securityContext.procMount to {}", named(&containers), quoted(types.clone()));
    if containers.is_empty() { None } else { fault("procMount", line()) }
}

fn se_linux(pod: Pod<'_>) -> Option<Fault> {
    let is_known = |kind: &str| {
        matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || pod.minor >= 31 && kind == "container_engine_t"
    };
    let text = |options: &Value, field: &str| options[field].as_str().unwrap_or("").to_owned();
    let is_bad = |options: &Value| {
        !is_known(&text(options, "type")) || !text(options, "user").is_empty() || !text(options, "role").is_empty()
    };
    let (setters, _) = pod.setters("/seLinuxOptions", is_bad);
    if setters.is_empty() {
        return None;
    }
    let contexts =
        std::iter::once(pod.spec()).chain(pod.containers()).map(|of| &of["securityContext"]["seLinuxOptions"]);
    let contexts: Vec<&Value> = contexts.collect();
    let types: BTreeSet<String> = contexts.iter().map(|of| text(of, "type")).filter(|kind| !is_known(kind)).collect();
    let mut bad = Vec::new();
    if !types.is_empty() {
        bad.push(format!("{} {}", plural("type", types.len()), quoted(types.iter().map(String::as_str))));
    }
    for field in ["user", "role"] {
        if contexts.iter().any(|of| !text(of, field).is_empty()) {
            bad.push(format!("{field} may not be set"));
        }
    }
    let who = setters.join(" and ");
    fault("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", bad.join("; ")))
}

fn is_confining(profile: &Value) -> bool {
    matches!(profile.as_str(), Some("RuntimeDefault" | "Localhost"))
}

fn seccomp(pod: Pod<'_>) -> Option<Fault> {
    if pod.minor < 19 {
        return annotated_seccomp(pod);
    }
    let (setters, values) = pod.setters("/seccompProfile/type", |kind| !is_confining(kind));
    if setters.is_empty() {
        return None;
    }
    let (who, values) = (setters.join(" and "), quoted(values));
    fault("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {values}"))
}

/// Before there was a field.
fn annotated_seccomp(pod: Pod<'_>) -> Option<Fault> {
    let of_container = |container: &Value| {
        format!("container.seccomp.security.alpha.kubernetes.io/{}", container["name"].as_str().unwrap_or(""))
    };
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned());
    let bad: BTreeSet<String> = keys
        .chain(pod.containers().map(of_container))
        .filter_map(|key| {
            let value = pod.pod["metadata"]["annotations"][&key].as_str()?;
            let is_fine = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!is_fine).then(|| format!("{key}={value:?}"))
        })
        .collect();
    let word = plural("forbidden annotation", bad.len());
    if bad.is_empty() { None } else { fault("seccompProfile", format!("{word} {}", Vec::from_iter(bad).join(", "))) }
}

fn own_seccomp(pod: Pod<'_>) -> Option<Fault> {
    if pod.is_windows() {
        return None;
    }
    let bad = seccomp(pod);
    if bad.is_some() || is_confining(&pod.spec()["securityContext"]["seccompProfile"]["type"]) {
        return bad;
    }
    let without = pod.those(|container| container["securityContext"]["seccompProfile"].is_null());
    if without.is_empty() {
        return None;
    }
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    fault("seccompProfile", format!("pod or {} {must}", named(&without)))
}

/// Those that reach nobody else, with the version that knows them first.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(pod: Pod<'_>) -> Option<Fault> {
    let is_safe = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= pod.minor);
    let asked = pod.spec()["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let unsafe_ones: Vec<&str> = asked.filter_map(|one| one["name"].as_str()).filter(|name| !is_safe(name)).collect();
    if unsafe_ones.is_empty() { None } else { fault("forbidden sysctls", unsafe_ones.join(", ")) }
}

fn host_process(pod: Pod<'_>) -> Option<Fault> {
    let (setters, _) = pod.setters("/windowsOptions/hostProcess", |value| value == true);
    let line = |who: String| format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    if setters.is_empty() { None } else { fault("hostProcess", line(setters.join(" and "))) }
}

fn escalation(pod: Pod<'_>) -> Option<Fault> {
    if pod.is_windows() {
        return None;
    }
    let containers = pod.those(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    let line = |who: &[&str]| format!("{} must set securityContext.allowPrivilegeEscalation=false", named(who));
    if containers.is_empty() { None } else { fault("allowPrivilegeEscalation != false", line(&containers)) }
}

/// What volumes may be.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volumes(pod: Pod<'_>) -> Option<Fault> {
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in pod.spec()["volumes"].as_array().into_iter().flatten() {
        let sources =
            volume.as_object().into_iter().flatten().filter(|(key, value)| *key != "name" && !value.is_null());
        let sources: Vec<&str> = sources.map(|(key, _)| key.as_str()).collect();
        if !sources.iter().any(|source| VOLUMES.contains(source)) {
            names.push(volume["name"].as_str().unwrap_or(""));
            types.insert(sources.first().copied().unwrap_or("unknown"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let (volumes, word) = (plural("volume", names.len()), plural("restricted volume type", types.len()));
    let verb = uses(names.len());
    fault("restricted volume types", format!("{volumes} {} {verb} {word} {}", quoted(names), quoted(types)))
}

fn non_root(pod: Pod<'_>) -> Option<Fault> {
    if pod.minor >= 35 && pod.has_users_of_its_own() {
        return None;
    }
    let (setters, _) = pod.setters("/runAsNonRoot", |value| value == false);
    if !setters.is_empty() {
        let line = format!("{} must not set securityContext.runAsNonRoot=false", setters.join(" and "));
        return fault("runAsNonRoot != true", line);
    }
    if pod.spec()["securityContext"]["runAsNonRoot"] == true {
        return None;
    }
    let without = pod.those(|container| container["securityContext"]["runAsNonRoot"].is_null());
    let line = |who: &[&str]| format!("pod or {} must set securityContext.runAsNonRoot=true", named(who));
    if without.is_empty() { None } else { fault("runAsNonRoot != true", line(&without)) }
}

fn user(pod: Pod<'_>) -> Option<Fault> {
    if pod.minor >= 35 && pod.has_users_of_its_own() {
        return None;
    }
    let (setters, _) = pod.setters("/runAsUser", |value| *value == 0);
    let line = |who: String| format!("{who} must not set runAsUser=0");
    if setters.is_empty() { None } else { fault("runAsUser=0", line(setters.join(" and "))) }
}
