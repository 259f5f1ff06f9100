//! Containers: regular, init, sidecar and ephemeral ones.

use serde_json::Value;

use super::{
    super::{
        access::{flag, get, int, is_empty, list, text},
        check::PROTOCOLS,
        field::{Faults, Path},
        names, resources,
    },
    environment, handler, mount, security, volume,
};

/// What the checks of a container need to know of its pod.
pub struct Surroundings<'a> {
    /// The pod's spec.
    pub spec: &'a Value,
    /// The volumes that can be mounted.
    pub volumes: volume::Volumes<'a>,
    /// The names in `resourceClaims`.
    pub claims: Vec<&'a str>,
}

impl Surroundings<'_> {
    fn grace(&self) -> Option<i64> {
        int(self.spec, "terminationGracePeriodSeconds")
    }

    fn host_users(&self) -> bool {
        get(self.spec, "hostUsers") != Some(&Value::Bool(false))
    }
}

/// `containers`.
pub fn containers(faults: &mut Faults, path: &Path<'_>, around: &Surroundings<'_>) {
    let containers = list(around.spec, "containers");
    if containers.is_empty() {
        faults.required(path, "");
        return;
    }
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        common(faults, &at, container, around);
        let name = text(container, "name");
        if containers[..i].iter().any(|before| text(before, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        handler::probes_and_hooks(faults, &at, container, around.grace());
        restart_policy(faults, &at, container);
    }
    host_port_conflicts(faults, path, containers);
}

/// `initContainers`.
pub fn init_containers(faults: &mut Faults, path: &Path<'_>, around: &Surroundings<'_>) {
    let containers = list(around.spec, "initContainers");
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        common(faults, &at, container, around);
        restart_policy(faults, &at, container);
        let name = text(container, "name");
        let taken = list(around.spec, "containers").iter().chain(&containers[..i]);
        if !name.is_empty() && taken.into_iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        host_port_conflicts(faults, path, std::slice::from_ref(container));
        if text(container, "restartPolicy") == "Always" {
            handler::probes_and_hooks(faults, &at, container, around.grace());
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if get(container, field).is_some() {
                    faults
                        .forbidden(&at.field(field), "may not be set for init containers without restartPolicy=Always");
                }
            }
            if !is_empty(container, "resizePolicy") {
                let policies = get(container, "resizePolicy").unwrap_or(&Value::Null);
                faults.invalid(&at.field("resizePolicy"), policies, "must not be set for init containers");
            }
        }
    }
}

/// `ephemeralContainers`.
pub fn ephemeral_containers(faults: &mut Faults, path: &Path<'_>, around: &Surroundings<'_>) {
    // In the order of upstream's struct. What is a pointer there counts as set when it is empty.
    const FORBIDDEN: [(&str, bool); 9] = [
        ("ports", false),
        ("resources", false),
        ("resizePolicy", false),
        ("restartPolicy", true),
        ("restartPolicyRules", false),
        ("livenessProbe", true),
        ("readinessProbe", true),
        ("startupProbe", true),
        ("lifecycle", true),
    ];
    let containers = list(around.spec, "ephemeralContainers");
    for (i, container) in containers.iter().enumerate() {
        let at = path.index(i);
        common(faults, &at, container, around);
        image_whitespace(faults, &at, container);
        let name = text(container, "name");
        let others = || list(around.spec, "containers").iter().chain(list(around.spec, "initContainers"));
        if others().chain(&containers[..i]).any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others().any(|other| text(other, "name") == target) {
            faults.not_found(&at.field("targetContainerName"), target);
        }
        for (field, pointer) in FORBIDDEN {
            if if pointer { get(container, field).is_some() } else { !is_empty(container, field) } {
                faults.forbidden(&at.field(field), "cannot be set for an Ephemeral Container");
            }
        }
        for (j, mount) in list(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    faults.forbidden(
                        &at.field("volumeMounts").index(j).field(field),
                        "cannot be set for an Ephemeral Container",
                    );
                }
            }
        }
    }
}

/// What holds for every container.
fn common(faults: &mut Faults, path: &Path<'_>, container: &Value, around: &Surroundings<'_>) {
    match text(container, "name") {
        "" => faults.required(&path.field("name"), ""),
        name => faults.invalid_each(&path.field("name"), name, names::dns1123_label(name)),
    }
    if text(container, "image").is_empty() {
        faults.required(&path.field("image"), "");
    }
    match text(container, "terminationMessagePolicy") {
        "File" | "FallbackToLogsOnError" => {}
        "" => faults.required(&path.field("terminationMessagePolicy"), ""),
        other => {
            faults.not_supported(&path.field("terminationMessagePolicy"), other, &["File", "FallbackToLogsOnError"])
        }
    }
    ports(faults, &path.field("ports"), list(container, "ports"));
    environment::env(faults, &path.field("env"), list(container, "env"));
    environment::file_volumes(faults, &path.field("env"), list(container, "env"), list(around.spec, "volumes"));
    environment::env_from(faults, &path.field("envFrom"), list(container, "envFrom"));
    mount::mounts(faults, path, container, &around.volumes);
    pull_policy(faults, &path.field("imagePullPolicy"), text(container, "imagePullPolicy"));
    if let Some(resources) = get(container, "resources") {
        resources::requirements(faults, &path.field("resources"), resources, &around.claims);
    }
    resize_policy(faults, &path.field("resizePolicy"), container, text(around.spec, "restartPolicy"));
    security::container(faults, &path.field("securityContext"), container, around.host_users());
}

/// An image that starts or ends with blanks, which pods refuse and templates do not.
pub fn image_whitespace(faults: &mut Faults, path: &Path<'_>, container: &Value) {
    let image = text(container, "image");
    if image.trim() != image {
        faults.invalid(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
}

/// `imagePullPolicy`, of a container or an image volume.
pub fn pull_policy(faults: &mut Faults, path: &Path<'_>, policy: &str) {
    match policy {
        "Always" | "IfNotPresent" | "Never" => {}
        "" => faults.required(path, ""),
        other => faults.not_supported(path, other, &["Always", "IfNotPresent", "Never"]),
    }
}

fn restart_policy(faults: &mut Faults, path: &Path<'_>, container: &Value) {
    let rules = list(container, "restartPolicyRules");
    match get(container, "restartPolicy").and_then(Value::as_str) {
        None => {
            if !rules.is_empty() {
                faults.required(&path.field("restartPolicy"), "must specify restartPolicy when restart rules are used");
            }
        }
        Some("Always" | "Never" | "OnFailure") => {}
        Some(other) => {
            faults.not_supported(&path.field("restartPolicy"), other, &["Always", "Never", "OnFailure"]);
        }
    }
    if rules.len() > 20 {
        faults.too_many(&path.field("restartPolicyRules"), rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        restart_rule(faults, &path.field("restartPolicyRules").index(i), rule);
    }
}

fn restart_rule(faults: &mut Faults, path: &Path<'_>, rule: &Value) {
    match text(rule, "action") {
        "Restart" | "RestartAllContainers" => {}
        other => faults.not_supported(&path.field("action"), other, &["Restart", "RestartAllContainers"]),
    }
    let at = path.field("exitCodes");
    let Some(codes) = get(rule, "exitCodes") else {
        faults.required(&at, "must be specified");
        return;
    };
    match text(codes, "operator") {
        "In" | "NotIn" => {}
        other => faults.not_supported(&at.field("operator"), other, &["In", "NotIn"]),
    }
    let values = list(codes, "values").len();
    if values > 255 {
        faults.too_many(&at.field("values"), values, 255);
    }
}

fn ports(faults: &mut Faults, path: &Path<'_>, ports: &[Value]) {
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                faults.invalid_each(&at.field("name"), name, messages);
            } else if ports[..i].iter().any(|before| text(before, "name") == name) {
                faults.duplicate(&at.field("name"), name);
            }
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => faults.required(&at.field("containerPort"), ""),
            number => {
                for fault in names::port_number(number) {
                    faults.invalid(&at.field("containerPort"), number, fault);
                }
            }
        }
        let host = int(port, "hostPort").unwrap_or(0);
        if host != 0 {
            for fault in names::port_number(host) {
                faults.invalid(&at.field("hostPort"), host, fault);
            }
        }
        match text(port, "protocol") {
            "" => faults.required(&at.field("protocol"), ""),
            protocol if PROTOCOLS.contains(&protocol) => {}
            protocol => faults.not_supported(&at.field("protocol"), protocol, &PROTOCOLS),
        }
    }
}

/// Two containers cannot have one port of the host. Init containers run one by one, so each is checked alone
/// (and stands at index 0 in the path, as upstream has it).
fn host_port_conflicts(faults: &mut Faults, path: &Path<'_>, containers: &[Value]) {
    let mut taken: Vec<(&str, &str, i64)> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let host = int(port, "hostPort").unwrap_or(0);
            if host == 0 {
                continue;
            }
            let key = (text(port, "protocol"), text(port, "hostIP"), host);
            if taken.contains(&key) {
                faults.duplicate(
                    &path.index(i).field("ports").index(j).field("hostPort"),
                    &format!("{}/{}/{}", key.0, key.1, key.2),
                );
            } else {
                taken.push(key);
            }
        }
    }
}

fn resize_policy(faults: &mut Faults, path: &Path<'_>, container: &Value, pod_restart: &str) {
    let policies = list(container, "resizePolicy");
    for (i, policy) in policies.iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if policies[..i].iter().any(|before| text(before, "resourceName") == resource) {
            faults.duplicate(&path.index(i), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => faults.required(path, ""),
            other => faults.not_supported(path, other, &["cpu", "memory"]),
        }
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => faults.required(path, ""),
            other => faults.not_supported(path, other, &["NotRequired", "RestartContainer"]),
        }
        if pod_restart == "Never" && restart != "NotRequired" {
            faults.invalid(path, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

/// With the host's network, a port of a container is the same port of the host.
pub fn host_network_ports(faults: &mut Faults, path: &Path<'_>, spec: &Value, is_pod: bool) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    for (i, container) in list(spec, "containers").iter().enumerate() {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let host = int(port, "hostPort").unwrap_or(0);
            if (is_pod || host != 0) && host != int(port, "containerPort").unwrap_or(0) {
                faults.invalid(
                    &path.field("containers").index(i).field("ports").index(j).field("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}
