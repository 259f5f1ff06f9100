//! `POST /containers/create`: a record and a writable layer; nothing runs yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::content::{Image, Reference};
use serde_json::{Value, json};

use super::options::{Healthcheck, HostOptions, Options, Surroundings};
use super::record::Record;
use super::table::Container;
use super::{accept, disks, mounts, random_id, shown, spec, users};
use crate::daemon::Daemon;
use crate::error::{ApiError, Result, blocking};
use crate::http::{Call, Response, Version, created};
use crate::networks::{Driver, NetworkRecord, check_wishes};
use crate::time;

/// Makes a container.
pub(crate) async fn create(daemon: Arc<Daemon>, mut call: Call) -> Result<Response> {
    let (options, mut surroundings): (Options, Surroundings) = call.json_twice().await?;
    let name = call.query("name").unwrap_or_default().trim_start_matches('/').to_owned();
    let platform = call.query("platform").unwrap_or_default().to_owned();
    if options.image.is_empty() && options.cmd.iter().chain(&options.entrypoint).flatten().next().is_none() {
        // Go tells a body without any field of the configuration from one with fields that say nothing.
        let nothing = serde_json::to_value(&options).ok() == serde_json::to_value(Options::default()).ok();
        return Err(ApiError::bad(match nothing {
            true => "config cannot be empty in order to create a container",
            false => "no command specified",
        }));
    }
    if call.version < Version(44) && surroundings.networking_config.endpoints_config.len() > 1 {
        return Err(ApiError::bad("Container cannot be created with multiple network endpoints"));
    }
    if call.version < Version(40) {
        surroundings.host_config.pids_limit = None;
        if surroundings.host_config.ipc_mode.is_empty() {
            surroundings.host_config.ipc_mode = "shareable".to_owned();
        }
    }
    accept::mounts_of_version(call.version, &surroundings.host_config)?;
    // Before, what is mounted in a read-only mount stayed as it was.
    let shallow_read_only = call.version < Version(44);
    accept::contradictions(&options, &surroundings.host_config)?;
    blocking(move || {
        accept::platform(&platform, &find_image(&daemon, &options.image)?, &options.image)?;
        let (container, warnings) = make(&daemon, &name, options, surroundings, shallow_read_only)?;
        Ok(created(&json!({"Id": container.id, "Warnings": warnings})))
    })
    .await
}

fn make(
    daemon: &Daemon,
    name: &str,
    mut options: Options,
    surroundings: Surroundings,
    shallow_read_only: bool,
) -> Result<(Arc<Container>, Vec<String>)> {
    let Surroundings { mut host_config, networking_config } = surroundings;
    let own_mac = networking_config.endpoints_config.values().any(|endpoint| !endpoint.mac_address.is_empty());
    if host_config.network_mode.starts_with("container:") && own_mac {
        return Err(ApiError::bad("conflicting options: mac-address and the network mode"));
    }
    let image = find_image(daemon, &options.image)?;
    merge(&mut options, &image);
    if options.cmd.iter().chain(&options.entrypoint).flatten().next().is_none() {
        return Err(ApiError::bad("no command specified"));
    }
    // By their IDs: whoever has the name later is another.
    for mode in [&mut host_config.pid_mode, &mut host_config.ipc_mode] {
        if let Some(other) = mode.strip_prefix("container:").filter(|name| !name.is_empty()) {
            let other = daemon.containers.find(other).map_err(|error| ApiError::bad(error.message))?;
            *mode = format!("container:{}", other.id);
        }
    }
    let mut warnings = accept::complete(&mut host_config);
    warnings.extend(
        host_config
            .mounts
            .iter()
            .filter(|mount| mount.kind == "image")
            .map(|_| "Image mount is an experimental feature".to_owned()),
    );
    accept::check(&options, &host_config)?;
    links(daemon, &host_config)?;
    let id = random_id();
    let mut networks = networks(daemon, &mut host_config, networking_config.endpoints_config)?;
    // Clients before API 1.44 say it of the container.
    if let Some(own) = networks.get_mut(&host_config.network_mode).filter(|own| own.mac_address.is_empty()) {
        own.mac_address.clone_from(&options.mac_address);
    }
    let wanted = networks.iter().filter(|(_, endpoint)| !endpoint.mac_address.is_empty());
    let macs: BTreeMap<_, _> = wanted.map(|(name, endpoint)| (name.clone(), endpoint.mac_address.clone())).collect();
    for mac in macs.values() {
        crate::networks::parse_mac(mac)?;
    }
    let name = daemon.containers.reserve(name, &id)?;
    let args = options.entrypoint.iter().chain(&options.cmd).flatten().cloned().collect();
    let record = Record {
        id,
        name: name.clone(),
        created: time::now(),
        image_id: image.id.as_str().to_owned(),
        args,
        networks,
        macs,
        shallow_read_only,
        ..Record::default()
    };
    let made = finish(daemon, record, options, host_config, &image);
    if made.is_err() {
        daemon.containers.release(&name);
    }
    made.map(|container| (container, warnings))
}

/// Refuses links to what is not there, or has no address of its own.
fn links(daemon: &Daemon, host: &HostOptions) -> Result<()> {
    if daemon.networks.find(&host.network_mode).is_ok_and(|network| network.has_names()) {
        return Ok(());
    }
    for link in host.links.iter().flatten() {
        let name = link.split(':').next().unwrap_or_default();
        let missing = |error: ApiError| ApiError::bad(format!("could not get container for {name}: {}", error.message));
        let mut target = daemon.containers.find(name).map_err(missing)?;
        while let Some(other) = target.snapshot().host.network_mode.strip_prefix("container:") {
            target = daemon.containers.find(other).map_err(missing)?;
        }
        if target.record().host.network_mode == "host" {
            return Err(ApiError::bad(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ));
        }
    }
    Ok(())
}

fn finish(
    daemon: &Daemon,
    mut record: Record,
    options: Options,
    host: HostOptions,
    image: &Image,
) -> Result<Arc<Container>> {
    let plan = mounts::plan(daemon, &options, &host)?;
    record.options = options;
    record.host = host;
    record.mounts = plan.mounts;
    record.anonymous_volumes = plan.anonymous;
    record.no_copy = plan.no_copy;
    (record.images, record.parts) = (plan.images, plan.parts);
    // What cannot be served is refused now, not when it starts.
    spec::check(&record)?;
    disks::check(&record.host)?;
    users::check(daemon, &record.host)?;
    let snapshot = daemon.config.content.prepare_snapshot(&record.id, image)?;
    let inside = record.options.working_dir.trim_matches('/');
    let found = snapshot.lower.iter().find_map(|layer| layer.join(inside).symlink_metadata().ok());
    if !inside.is_empty() && found.is_some_and(|found| found.is_file()) {
        daemon.config.content.remove_snapshot(&record.id)?;
        return Err(ApiError::bad(format!("Cannot mkdir: {} is not a directory", record.options.working_dir)));
    }
    shown::keep(daemon, &mut record).inspect_err(|_| drop(daemon.config.content.remove_snapshot(&record.id)))?;
    let container = daemon.containers.add(record).inspect_err(|_| ())?;
    let record = container.snapshot();
    daemon.events.emit("container", "create", &record.id, record.event_attributes());
    Ok(container)
}

/// The image, or dockerd's words that make the client pull it.
pub(crate) fn find_image(daemon: &Daemon, name: &str) -> Result<Image> {
    if name.is_empty() {
        return Err(ApiError::bad("no image specified"));
    }
    let mut image = daemon.config.content.image(name).map_err(|error| match error {
        engine::content::ContentError::NotFound(_) => {
            let shown = Reference::parse(name).map_or_else(|_| name.to_owned(), |reference| reference.familiar());
            ApiError::not_found(format!("No such image: {shown}"))
        }
        other => other.into(),
    })?;
    crate::images::strip(&mut image);
    Ok(image)
}

/// What the image says, where the user did not.
fn merge(options: &mut Options, image: &Image) {
    let config = &image.config.config;
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = options.env.iter().map(|entry| name(entry)).collect();
    options.env.extend(config.env.iter().filter(|entry| !given.contains(&name(entry))).cloned());
    let entrypoint_given = options.entrypoint.is_some();
    if options.entrypoint.as_ref().is_some_and(|list| list.len() == 1 && list[0].is_empty()) {
        options.entrypoint = None;
    } else if !entrypoint_given && !config.entrypoint.is_empty() {
        options.entrypoint = Some(config.entrypoint.clone());
    }
    if options.cmd.as_ref().is_none_or(Vec::is_empty) && !entrypoint_given {
        options.cmd = (!config.cmd.is_empty()).then(|| config.cmd.clone());
    }
    if options.user.is_empty() {
        options.user.clone_from(&config.user);
    }
    if options.working_dir.is_empty() {
        options.working_dir.clone_from(&config.working_dir);
    } else if options.working_dir.starts_with('/') {
        options.working_dir = mounts::clean(&options.working_dir);
    }
    for (port, value) in &config.exposed_ports {
        options.exposed_ports.entry(port.clone()).or_insert_with(|| value.clone());
    }
    if !config.volumes.is_empty() {
        let volumes = options.volumes.get_or_insert_default();
        for path in config.volumes.keys() {
            volumes.entry(path.clone()).or_insert_with(|| json!({}));
        }
    }
    options.volumes.take_if(|volumes| volumes.is_empty());
    for (key, value) in &config.labels {
        options.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    options.stop_signal =
        options.stop_signal.take().filter(|signal| !signal.is_empty()).or_else(|| config.stop_signal.clone());
    if !config.shell.is_empty() && options.shell.is_none() {
        options.shell = Some(config.shell.clone());
    }
    if let Some(check) = &config.healthcheck {
        let own = options.healthcheck.get_or_insert_default();
        let fill = |mine: &mut i64, image: i64| {
            if *mine == 0 {
                *mine = image;
            }
        };
        if own.test.is_empty() {
            own.test.clone_from(&check.test);
        }
        let Healthcheck { interval, timeout, start_period, start_interval, retries, .. } = own;
        fill(interval, check.interval);
        fill(timeout, check.timeout);
        fill(start_period, check.start_period);
        fill(start_interval, check.start_interval);
        fill(retries, check.retries);
    }
}

/// The networks it is to be in: that of `--network`, and those of the networking configuration.
fn networks(
    daemon: &Daemon,
    host: &mut HostOptions,
    mut given: BTreeMap<String, super::options::Endpoint>,
) -> Result<BTreeMap<String, super::options::Endpoint>> {
    let mode = host.network_mode.clone();
    if let Some(other) = mode.strip_prefix("container:") {
        // One that is not there is missed when this one starts.
        if let Ok(other) = daemon.containers.find(other) {
            host.network_mode = format!("container:{}", other.id);
        }
        return Ok(BTreeMap::new());
    }
    // One that is not there, or not yet, is missed when it starts.
    let Ok(network) = daemon.networks.find(&mode) else {
        given.entry(mode).or_default();
        return Ok(given);
    };
    host.network_mode.clone_from(&network.name);
    let mut all = BTreeMap::new();
    let mut own = given
        .remove(&mode)
        .or_else(|| given.remove(&network.name))
        .or_else(|| given.remove("default"))
        .unwrap_or_default();
    let check = |network: &NetworkRecord, endpoint: &super::options::Endpoint| {
        check_wishes(network, endpoint)
            .map_err(|error| ApiError::bad(format!("invalid config for network {}: {}", network.name, error.message)))
    };
    check(&network, &own)?;
    if network.has_names() {
        own.links = own.links.or_else(|| host.links.clone());
    }
    all.insert(network.name.clone(), own);
    for (name, endpoint) in given {
        let Ok(other) = daemon.networks.find(&name) else {
            all.insert(name, endpoint);
            continue;
        };
        if other.driver != Driver::Bridge || network.driver != Driver::Bridge {
            return Err(ApiError::bad(format!(
                "container cannot be connected to network {name} beside {}",
                network.name
            )));
        }
        check(&other, &endpoint)?;
        all.insert(other.name, endpoint);
    }
    Ok(all)
}

/// The image's own options as a container would have them; for `commit`.
pub(super) fn image_options(options: &Options) -> Value {
    let mut value = json!(options);
    for key in [
        "Hostname",
        "Domainname",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "Image",
        "StopTimeout",
    ] {
        value.as_object_mut().map(|map| map.remove(key));
    }
    value
}
