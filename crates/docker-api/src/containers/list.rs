//! `GET /containers/json`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::record::{Record, Status};
use super::table::Container;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::filters::{Filters, name_matches};
use crate::http::{Call, Response, Version, json as json_answer};
use crate::images;
use crate::system::size_of_tree;
use crate::time;

/// What `--filter` may name.
const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Lists containers.
pub(crate) async fn list(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    let filters = call.filters()?;
    filters.expect(&FILTERS)?;
    one_of(&filters, "status", "state", &STATES)?;
    one_of(&filters, "health", "health", &["none", "starting", "healthy", "unhealthy"])?;
    for code in filters.values("exited") {
        if code.parse::<i32>().is_err() {
            return Err(ApiError::bad(format!(
                "invalid filter 'exited={code}': strconv.Atoi: parsing {code:?}: invalid syntax"
            )));
        }
    }
    let is_task = filters.flag("is-task")?;
    for key in ["publish", "expose"] {
        for value in filters.values(key) {
            port_range(key, value)?;
        }
    }
    let limit = call.number::<i64>("limit")?.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
    let selective = !filters.values("status").is_empty();
    let all = call.flag("all") || limit.is_some() || selective;
    let (with_size, with_annotations) = (call.flag("size"), call.version >= Version(46));
    blocking(move || {
        let moment = |key: &str| -> Result<Option<String>> {
            let wanted = filters.values(key).first();
            wanted.map(|name| Ok(daemon.containers.find(name)?.record().created.clone())).transpose()
        };
        let (before, since) = (moment("before")?, moment("since")?);
        let ancestors = ancestors(&daemon, filters.values("ancestor"))?;
        let linked = linked(&daemon);
        let mut list = Vec::new();
        for container in daemon.containers.all() {
            let record = container.snapshot();
            let shown = is_task != Some(true)
                && (all || matches!(record.state.status, Status::Running | Status::Paused | Status::Restarting))
                && before.as_ref().is_none_or(|before| record.created < *before)
                && since.as_ref().is_none_or(|since| record.created > *since)
                && ancestors.as_ref().is_none_or(|images| images.contains(&record.image_id))
                && passes(&daemon, &record, &filters);
            if shown {
                let mut line = summary(&daemon, &container, with_size);
                if !with_annotations && let Some(host) = line["HostConfig"].as_object_mut() {
                    host.remove("Annotations");
                }
                if let (Some(aliases), Some(names)) = (linked.get(&record.id), line["Names"].as_array_mut()) {
                    names.extend(aliases.iter().map(|alias| Value::from(alias.as_str())));
                }
                list.push(line);
            }
            if limit.is_some_and(|limit| list.len() == limit) {
                break;
            }
        }
        Ok(json_answer(&list))
    })
    .await
}

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// Refuses values of a filter that nothing can have.
fn one_of(filters: &Filters, key: &str, what: &str, known: &[&str]) -> Result<()> {
    match filters.values(key).iter().find(|value| !known.contains(&value.as_str())) {
        None => Ok(()),
        Some(value) => Err(ApiError::bad(format!(
            "invalid filter '{key}={value}': invalid value for {what} ({value}): must be one of {}",
            known.join(", ")
        ))),
    }
}

/// The ports of `80`, `80-90/udp`.
fn port_range(key: &str, value: &str) -> Result<(RangeInclusive<u16>, String)> {
    if value.contains(':') {
        return Err(ApiError::internal(format!("filter for '{key}' should not contain ':': {value}")));
    }
    let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| {
        let reason = |_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        let said = |reason| ApiError::internal(format!("error while looking up for {key} {value}: {reason}"));
        text.parse::<u16>().map_err(reason).map_err(said)
    };
    Ok((number(first)?..=number(last)?, protocol.to_owned()))
}

/// The images named by a filter, and those made of them; `None` without a filter.
fn ancestors(daemon: &Daemon, wanted: &[String]) -> Result<Option<BTreeSet<String>>> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let content = &daemon.config.content;
    let (named, all) = (wanted.iter().filter_map(|name| content.image(name).ok()), content.images()?);
    let mut ids = BTreeSet::new();
    for ancestor in named {
        ids.extend(all.iter().filter(|image| images::descends(image, &ancestor)).map(|image| image.id.to_string()));
        ids.insert(ancestor.id.to_string());
    }
    Ok(Some(ids))
}

/// What containers on the default network call each other by their links, by the ID of who is called so.
fn linked(daemon: &Daemon) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in daemon.containers.all() {
        let record = container.snapshot();
        for link in record.host.links.iter().flatten().filter(|_| record.host.network_mode == "bridge") {
            let (target, alias) = link.split_once(':').unwrap_or((link, link));
            if let Ok(target) = daemon.containers.find(target) {
                names.entry(target.id.clone()).or_default().push(format!("/{}/{alias}", record.name));
            }
        }
    }
    names
}

/// What an image is called in a list: as the user called it, unless that name is another's by now.
fn image_name(daemon: &Daemon, record: &Record) -> String {
    let name = &record.options.image;
    match daemon.config.content.image(name) {
        Ok(image) if image.id.as_str() == record.image_id => name.clone(),
        _ => record.image_id.clone(),
    }
}

/// In the container, on the host, and the protocol.
type Port<'a> = (u16, Option<u16>, &'a str);

/// Filters that look at one container alone.
pub(super) fn passes(daemon: &Daemon, record: &Record, filters: &Filters) -> bool {
    // What is shown of ports is what is looked for: of a container that does not run, nothing.
    let ports: Vec<Port<'_>> = record
        .ports
        .iter()
        .filter_map(|(port, bindings)| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            Some((number.parse().ok()?, protocol, bindings))
        })
        .flat_map(|(private, protocol, bindings)| {
            let public = bindings.iter().map(|binding| binding.host_port.parse().ok());
            let public: Vec<Option<u16>> = if bindings.is_empty() { vec![None] } else { public.collect() };
            public.into_iter().map(move |public| (private, public, protocol))
        })
        .collect();
    let port = |key: &str, wanted: &str, own: fn(&Port<'_>) -> Option<u16>| {
        port_range(key, wanted).is_ok_and(|(range, protocol)| {
            ports.iter().any(|port| port.2 == protocol && own(port).is_some_and(|own| range.contains(&own)))
        })
    };
    // Either will do.
    let (publish, expose) = (filters.values("publish"), filters.values("expose"));
    let in_ports = publish.is_empty() && expose.is_empty()
        || publish.iter().any(|wanted| port("publish", wanted, |port| port.1))
        || expose.iter().any(|wanted| port("expose", wanted, |port| Some(port.0)));
    let health = record.state.health.as_ref().map_or("none", |health| health.status.as_str());
    let in_network = |wanted: &str| {
        let by_id = |name: &String| daemon.networks.by_name(name).is_some_and(|network| network.id.starts_with(wanted));
        record.networks.contains_key(wanted) || record.networks.keys().any(by_id)
    };
    filters.any("status", |status| status == record.state.status.as_str())
        && filters.any("id", |id| record.id.starts_with(id))
        && filters.any("name", |pattern| {
            name_matches(pattern, &record.name) || name_matches(pattern, &format!("/{}", record.name))
        })
        && filters.any("exited", |code| {
            record.state.status == Status::Exited
                && time::parse(&record.state.started_at).is_some()
                && code.parse() == Ok(record.state.exit_code)
        })
        && filters.any("health", |wanted| wanted == health)
        && filters.any("volume", |wanted| {
            record
                .mounts
                .iter()
                .any(|mount| mount.name == wanted || mount.source == wanted || mount.destination == wanted)
        })
        && filters.any("network", in_network)
        && in_ports
        && filters.labels(&record.options.labels)
}

/// One line of the list.
pub(crate) fn summary(daemon: &Daemon, container: &Container, with_size: bool) -> Value {
    let record = container.snapshot();
    let mut value = json!({
        "Id": record.id,
        "Names": [format!("/{}", record.name)],
        "Image": image_name(daemon, &record),
        "ImageID": record.image_id,
        "Command": command(&record.args),
        "Created": time::unix(&record.created),
        "Ports": ports(&record),
        "Labels": record.options.labels,
        "State": record.state.status.as_str(),
        "Status": status(&record),
        "HostConfig": {"NetworkMode": record.host.network_mode},
        "NetworkSettings": {"Networks": record.networks},
        "Mounts": record.mounts,
    });
    if let Some(annotations) = &record.host.annotations {
        value["HostConfig"]["Annotations"] = json!(annotations);
    }
    if with_size {
        let (own, root) = sizes(daemon, &record);
        value["SizeRw"] = own.into();
        value["SizeRootFs"] = root.into();
    }
    value
}

/// Bytes of the writable layer, and of everything.
pub(super) fn sizes(daemon: &Daemon, record: &Record) -> (u64, u64) {
    let own = daemon.config.content.snapshot(&record.id).map_or(0, |snapshot| size_of_tree(&snapshot.upper));
    let image = daemon.config.content.image(&record.image_id).map_or(0, |image| image.size);
    (own, own + image)
}

fn command(args: &[String]) -> String {
    let quote = |arg: &String| if arg.contains(' ') && args.len() > 1 { format!("'{arg}'") } else { arg.clone() };
    args.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn ports(record: &Record) -> Vec<Value> {
    let mut ports = Vec::new();
    for (port, bindings) in &record.ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let private: u16 = number.parse().unwrap_or(0);
        if bindings.is_empty() {
            ports.push(json!({"PrivatePort": private, "Type": protocol}));
        }
        for binding in bindings {
            let public: u16 = binding.host_port.parse().unwrap_or(0);
            ports.push(json!({"IP": binding.host_ip, "PrivatePort": private, "PublicPort": public, "Type": protocol}));
        }
    }
    ports
}

/// The state in words: `Up 3 minutes (healthy)`, `Exited (0) 2 hours ago`.
pub(super) fn status(record: &Record) -> String {
    let state = &record.state;
    let since = |text: &str| {
        let seconds = time::parse(text).map_or(0, |then| Timestamp::now().duration_since(then).as_secs());
        time::human(seconds)
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => {
            let health = match state.health.as_ref().map(|health| health.status.as_str()) {
                None | Some("none") => String::new(),
                Some("starting") => " (health: starting)".into(),
                Some(other) => format!(" ({other})"),
            };
            format!("Up {}{health}", since(&state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", since(&state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Status::Removing => "Removal In Progress".into(),
        Status::Exited if time::parse(&state.finished_at).is_none() => "Created".into(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished_at)),
        Status::Dead => "Dead".into(),
    }
}
