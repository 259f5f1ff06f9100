//! `GET /containers/NAME/json`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::list::sizes;
use super::record::{Record, Status};
use super::table::Container;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, Version, json as json_answer};

/// Everything about a container.
pub(crate) async fn inspect(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let container = find(&daemon, call.param("name"))?;
    let with_size = call.flag("size");
    let version = call.version;
    blocking(move || {
        let record = container.snapshot();
        let snapshot = daemon.config.content.snapshot(&record.id);
        let file = |name: &str| container.directory.join(name);
        let state = &record.state;
        let mut options = json!(record.options);
        options["Hostname"] = crate::networks::hostname(&record).into();
        let mut state_value = json!({
            "Status": state.status.as_str(),
            "Running": matches!(state.status, Status::Running | Status::Paused | Status::Restarting),
            "Paused": state.status == Status::Paused,
            "Restarting": state.status == Status::Restarting,
            "OOMKilled": state.oom_killed,
            "Dead": state.status == Status::Dead,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": state.started_at,
            "FinishedAt": state.finished_at,
        });
        if let Some(health) = &state.health {
            state_value["Health"] = json!(health);
        }
        let mut host = json!(record.host);
        if let Some(links) = &record.host.links {
            let shown = |link: &String| {
                let (target, alias) = link.split_once(':').unwrap_or((link, link));
                format!("/{}:/{}/{alias}", target.trim_start_matches('/'), record.name)
            };
            host["Links"] = links.iter().map(shown).collect();
        }
        let execs = daemon.execs.of(&record.id);
        let graph = snapshot.map(|snapshot| {
            let lower: Vec<_> = snapshot.lower.iter().map(|path| path.to_string_lossy()).collect();
            json!({"LowerDir": lower.join(":"), "UpperDir": snapshot.upper, "WorkDir": snapshot.work, "MergedDir": ""})
        });
        let mut value = json!({
            "Id": record.id,
            "Created": record.created,
            "Path": record.args.first(),
            "Args": record.args.get(1..).unwrap_or_default(),
            "State": state_value,
            "Image": record.image_id,
            "ResolvConfPath": file("resolv.conf"),
            "HostnamePath": file("hostname"),
            "HostsPath": file("hosts"),
            // Where the other drivers keep theirs is nobody's business.
            "LogPath": if record.host.log_config.kind == "json-file" { json!(container.log_path()) } else { json!("") },
            "Name": format!("/{}", record.name),
            "RestartCount": record.restart_count,
            "Driver": "overlay2",
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": if execs.is_empty() { Value::Null } else { json!(execs) },
            "HostConfig": host,
            "GraphDriver": {"Data": graph, "Name": "overlay2"},
            "Mounts": record.mounts,
            "Config": options,
            "NetworkSettings": network_settings(&daemon, &record, version),
        });
        if with_size {
            let (own, root) = sizes(&daemon, &record);
            value["SizeRw"] = own.into();
            value["SizeRootFs"] = root.into();
        }
        Ok(json_answer(&value))
    })
    .await
}

/// By its own name, or by that which another has given it with a link: `OTHER/ALIAS`.
fn find(daemon: &Daemon, name: &str) -> Result<Arc<Container>> {
    let Some((other, alias)) = name.trim_start_matches('/').split_once('/') else {
        return daemon.containers.find(name);
    };
    let missing = || ApiError::not_found(format!("No such container: {name}"));
    let other = daemon.containers.find(other).map_err(|_| missing())?.snapshot();
    let links = other.host.links.iter().flatten().map(|link| link.split_once(':').unwrap_or((link, link)));
    let target = links.into_iter().find(|(_, own)| own.trim_start_matches('/') == alias).map(|(target, _)| target);
    daemon.containers.find(target.ok_or_else(missing)?)
}

fn network_settings(daemon: &Daemon, record: &Record, version: Version) -> Value {
    let default = record.networks.get("bridge").cloned().unwrap_or_default();
    let ports: Map<String, Value> = record
        .ports
        .iter()
        .map(|(port, bindings)| (port.clone(), if bindings.is_empty() { Value::Null } else { json!(bindings) }))
        .collect();
    let mut networks = json!(record.networks);
    for (name, value) in networks.as_object_mut().into_iter().flatten() {
        // Before it had a list of its own, what it is called by others was among the aliases.
        let named = daemon.networks.by_name(name).is_some_and(|network| network.has_names());
        if named && version < Version(45) {
            let mut aliases: Vec<Value> = value["Aliases"].as_array().cloned().unwrap_or_default();
            for own in [record.short_id().to_owned(), crate::networks::hostname(record)] {
                if !aliases.iter().any(|alias| *alias == own) {
                    aliases.push(own.into());
                }
            }
            value["Aliases"] = aliases.into();
        }
        if value["NetworkID"].as_str() == Some("") {
            value["NetworkID"] = daemon.networks.by_name(name).map(|network| network.id).unwrap_or_default().into();
        }
    }
    json!({
        "Bridge": "",
        "SandboxID": if record.state.status.is_live() { record.id.as_str() } else { "" },
        "SandboxKey": daemon.networks.namespace(record).unwrap_or_default(),
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": default.endpoint_id,
        "Gateway": default.gateway,
        "GlobalIPv6Address": default.global_ipv6_address,
        "GlobalIPv6PrefixLen": default.global_ipv6_prefix_len,
        "IPAddress": default.ip_address,
        "IPPrefixLen": default.ip_prefix_len,
        "IPv6Gateway": default.ipv6_gateway,
        "MacAddress": default.mac_address,
        "Networks": networks,
    })
}
