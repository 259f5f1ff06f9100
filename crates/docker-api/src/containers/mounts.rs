//! From `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes to mounts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::options::{HostOptions, MountRequest, Options};
use super::record::MountPoint;
use crate::daemon::Daemon;
use crate::error::{ApiError, Result};

/// What a container's mounts come to.
#[derive(Default)]
pub(super) struct Plan {
    pub mounts: Vec<MountPoint>,
    /// Volumes that go with the container.
    pub anonymous: Vec<String>,
    /// Destinations that are not filled from the image.
    pub no_copy: Vec<String>,
    /// Destination → the image that is shown there.
    pub images: BTreeMap<String, String>,
    /// Destination → the part of a volume or an image that is mounted there.
    pub parts: BTreeMap<String, String>,
}

/// Works the mounts out; makes volumes and, for `-v`, missing directories of the host.
pub(super) fn plan(daemon: &Daemon, options: &Options, host: &HostOptions) -> Result<Plan> {
    let mut plan = Plan::default();
    for from in host.volumes_from.iter().flatten() {
        plan.inherit(daemon, from)?;
    }
    let mut given: BTreeMap<String, ()> = BTreeMap::new();
    let mut once = |destination: &str| match given.insert(destination.to_owned(), ()) {
        Some(()) => Err(ApiError::bad(format!("Duplicate mount point: {destination}"))),
        None => Ok(()),
    };
    for bind in host.binds.iter().flatten() {
        let destination = plan.bind(daemon, bind, &host.volume_driver)?;
        once(&destination)?;
    }
    for request in &host.mounts {
        once(&clean(&request.target))?;
        plan.mount(daemon, request)?;
    }
    for destination in host.tmpfs.iter().flatten().map(|(destination, _)| destination) {
        once(&clean(destination))?;
    }
    for destination in options.volumes.iter().flatten().map(|(destination, _)| clean(destination)) {
        let covered = plan.mounts.iter().any(|mount| mount.destination == destination);
        if !covered && !host.tmpfs.iter().flatten().any(|(tmpfs, _)| clean(tmpfs) == destination) {
            plan.volume(daemon, "", &destination, true, "", Default::default())?;
        }
    }
    // Outer directories before what is mounted in them.
    plan.mounts.sort_by_key(|mount| (mount.destination.matches('/').count(), mount.destination.clone()));
    Ok(plan)
}

impl Plan {
    fn add(&mut self, mount: MountPoint) {
        self.mounts.retain(|other| other.destination != mount.destination);
        if mount.kind != "image" {
            self.images.remove(&mount.destination);
        }
        self.mounts.push(mount);
    }

    fn inherit(&mut self, daemon: &Daemon, from: &str) -> Result<()> {
        let (name, mode) = from.split_once(':').unwrap_or((from, "rw"));
        if !matches!(mode, "rw" | "ro" | "z" | "Z") {
            return Err(ApiError::bad(format!("invalid mode: {mode}")));
        }
        // What is asked for is wrong, and not that it is asked at all.
        let other = daemon.containers.find(name).map_err(|error| ApiError::bad(error.message))?;
        let other = other.snapshot();
        for mount in other.mounts.clone() {
            // What the other found in it is what this one finds.
            self.no_copy.push(mount.destination.clone());
            let at = || mount.destination.clone();
            self.images.extend(other.images.get(&mount.destination).map(|image| (at(), image.clone())));
            self.parts.extend(other.subpath(&mount.destination).map(|part| (at(), part.to_owned())));
            if mount.anonymous {
                self.anonymous.push(mount.name.clone());
            }
            self.add(MountPoint { rw: mount.rw && mode != "ro", ..mount });
        }
        Ok(())
    }

    /// `SOURCE:DESTINATION[:OPTIONS]` or `DESTINATION`.
    fn bind(&mut self, daemon: &Daemon, bind: &str, driver: &str) -> Result<String> {
        let invalid = || ApiError::bad(format!("invalid volume specification: '{bind}'"));
        let parts: Vec<&str> = bind.split(':').collect();
        let (source, destination, mode) = match parts[..] {
            [destination] => ("", destination, ""),
            [source, destination] => (source, destination, ""),
            [source, destination, mode] => (source, destination, mode),
            _ => return Err(invalid()),
        };
        if !destination.starts_with('/') {
            return Err(ApiError::bad(format!(
                "invalid volume specification: '{bind}': invalid mount config for type \"{}\": invalid mount path: \
                 '{destination}' mount path must be absolute",
                if source.starts_with('/') { "bind" } else { "volume" }
            )));
        }
        let destination = clean(destination);
        if destination == "/" {
            return Err(ApiError::bad(format!(
                "invalid volume specification: '{bind}': invalid mount config for type \"{}\": invalid specification: \
                 destination can't be '/'",
                if source.starts_with('/') { "bind" } else { "volume" }
            )));
        }
        // In place of one that another container has there.
        self.parts.remove(&destination);
        let (mut rw, mut propagation, mut copy) = (true, String::new(), None);
        // One of each kind at most.
        let mut kinds = std::collections::BTreeSet::new();
        for option in mode.split(',').filter(|_| !mode.is_empty()) {
            let kind = match option {
                "ro" | "rw" => "access",
                "z" | "Z" => "label",
                "cached" | "delegated" | "consistent" => "consistency",
                "nocopy" => "copying",
                "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => "propagation",
                _ => return Err(ApiError::bad(format!("invalid mode: {mode}"))),
            };
            if !kinds.insert(kind) {
                return Err(ApiError::bad(format!("invalid mode: {mode}")));
            }
            match kind {
                "access" => rw = option == "rw",
                "copying" => copy = Some(option),
                "propagation" => propagation = option.to_owned(),
                _ => {}
            }
        }
        if source.starts_with('/') {
            if let Some(option) = copy {
                return Err(ApiError::bad(format!("invalid mode: {option}")));
            }
            let source = clean(source);
            fs::create_dir_all(&source)
                .or_else(|error| if Path::new(&source).exists() { Ok(()) } else { Err(error) })
                .map_err(|error| {
                    ApiError::internal(format!("error while creating mount source path '{source}': {error}"))
                })?;
            let propagation = propagation_of(daemon, &source, propagation)?;
            self.add(bind_mount(source, &destination, rw, mode, propagation));
        } else {
            crate::volumes::known_driver(source, driver)?;
            if source.starts_with('.') || source.contains('/') {
                crate::volumes::check(source)?;
            }
            if !propagation.is_empty() {
                return Err(ApiError::bad(format!(
                    "invalid volume specification: '{bind}': invalid mount config for type \"volume\": field BindOptions \
                     must not be specified"
                )));
            }
            self.volume(daemon, source, &destination, rw, mode, Default::default())?;
            if copy == Some("nocopy") {
                self.no_copy.push(destination.clone());
            }
        }
        Ok(destination)
    }

    fn mount(&mut self, daemon: &Daemon, request: &MountRequest) -> Result<()> {
        let invalid = |why: String| ApiError::bad(format!("invalid mount config for type \"{}\": {why}", request.kind));
        if request.target.is_empty() {
            return Err(invalid("field Target must not be empty".into()));
        }
        let destination = clean(&request.target);
        if !request.target.starts_with('/') {
            return Err(invalid(format!("invalid mount path: '{}' mount path must be absolute", request.target)));
        }
        if destination == "/" {
            return Err(invalid("invalid specification: destination can't be '/'".into()));
        }
        let extra = |field: &str| Err(invalid(format!("field {field} must not be specified")));
        let part = match request.kind.as_str() {
            "volume" => request.volume_options.as_ref().map_or("", |options| options.subpath.as_str()),
            "image" => request.image_options.as_ref().map_or("", |options| options.subpath.as_str()),
            _ => "",
        };
        match request.kind.as_str() {
            "bind" | "image" if request.volume_options.is_some() => return extra("VolumeOptions"),
            "volume" | "tmpfs" | "image" if request.bind_options.is_some() => return extra("BindOptions"),
            "bind" | "volume" | "tmpfs" if request.image_options.is_some() => return extra("ImageOptions"),
            "tmpfs" if !request.source.is_empty() => return extra("Source"),
            "volume" if request.source.is_empty() && !part.is_empty() => {
                return Err(invalid("must not set Subpath when using anonymous volumes".into()));
            }
            "volume" if request.source.is_empty() && request.read_only => {
                return Err(invalid("must not set ReadOnly mode when using anonymous volumes".into()));
            }
            _ => {}
        }
        if !crate::volumes::subpath::is_inside(part) {
            return Err(invalid("subpath must be a relative path within the volume".into()));
        }
        self.parts.remove(&destination);
        if !part.is_empty() {
            self.parts.insert(destination.clone(), part.to_owned());
        }
        match request.kind.as_str() {
            "bind" => {
                let option = |name: &str| request.bind_options.as_ref().and_then(|options| options.get(name)).cloned();
                let source = clean(&request.source);
                if request.source.is_empty() {
                    return Err(invalid("field Source must not be empty".into()));
                }
                if !request.source.starts_with('/') {
                    let source = &request.source;
                    return Err(invalid(format!("invalid mount path: '{source}' mount path must be absolute")));
                }
                if option("CreateMountpoint").and_then(|value| value.as_bool()) == Some(true) {
                    let _ = fs::create_dir_all(&source);
                }
                if !Path::new(&source).exists() {
                    return Err(invalid(format!("bind source path does not exist: {source}")));
                }
                let propagation = option("Propagation").and_then(|value| value.as_str().map(str::to_owned));
                let propagation = propagation.unwrap_or_default();
                if !["", "private", "rprivate", "slave", "rslave", "shared", "rshared"].contains(&propagation.as_str())
                {
                    return Err(invalid(format!("invalid propagation mode: {propagation}")));
                }
                let propagation = propagation_of(daemon, &source, propagation)?;
                self.add(bind_mount(source, &destination, !request.read_only, "", propagation));
            }
            "volume" => {
                let options = request.volume_options.clone().unwrap_or_default();
                let driver = options.driver_config.as_ref().and_then(|driver| driver["Name"].as_str());
                crate::volumes::known_driver(&request.source, driver.unwrap_or_default())?;
                let driver = options.driver_config.as_ref().map(|config| &config["Options"]);
                let driver = driver.and_then(|options| serde_json::from_value(options.clone()).ok());
                let made = (options.labels, driver.unwrap_or_default());
                self.volume(daemon, &request.source, &destination, !request.read_only, "z", made)?;
                if options.no_copy {
                    self.no_copy.push(destination);
                }
            }
            "tmpfs" => {
                let options = request.tmpfs_options.iter().flat_map(|options| &options.options);
                for option in options {
                    match option.first().map(String::as_str) {
                        Some("exec" | "noexec") if option.len() <= 2 => {}
                        Some(other) if option.len() <= 2 => return Err(invalid(format!("invalid option: {other}"))),
                        _ => return Err(invalid("invalid option array length".into())),
                    }
                }
                self.add(MountPoint {
                    kind: "tmpfs".into(),
                    destination,
                    rw: !request.read_only,
                    ..MountPoint::default()
                });
            }
            "image" => {
                if request.source.is_empty() {
                    return Err(invalid("field Source must not be empty".into()));
                }
                let image = super::create::find_image(daemon, &request.source)?;
                self.images.insert(destination.clone(), image.id.as_str().to_owned());
                self.add(MountPoint {
                    kind: "image".into(),
                    name: request.source.clone(),
                    destination,
                    propagation: "rprivate".into(),
                    ..MountPoint::default()
                });
            }
            other => {
                return Err(ApiError::bad(format!("invalid mount config for type \"{other}\": mount type unknown")));
            }
        }
        Ok(())
    }

    fn volume(
        &mut self,
        daemon: &Daemon,
        name: &str,
        destination: &str,
        rw: bool,
        mode: &str,
        (labels, options): (BTreeMap<String, String>, BTreeMap<String, String>),
    ) -> Result<()> {
        let (volume, new) = daemon.volumes.make(name, labels, options)?;
        if new {
            let attributes = BTreeMap::from([("driver".into(), "local".into())]);
            daemon.events.emit("volume", "create", &volume.name, attributes);
        }
        if name.is_empty() {
            self.anonymous.push(volume.name.clone());
        }
        self.add(MountPoint {
            kind: "volume".into(),
            source: daemon.volumes.data(&volume.name).to_string_lossy().into_owned(),
            name: volume.name,
            destination: destination.to_owned(),
            driver: "local".into(),
            mode: mode.to_owned(),
            rw,
            propagation: String::new(),
            anonymous: name.is_empty(),
        });
        Ok(())
    }
}

/// How mounts pass between the host and a container where nothing is said of it. The engine's own directory may not be
/// held by a container's private copy, which would keep what is removed in it (dockerd's daemon/volumes_linux.go).
fn propagation_of(daemon: &Daemon, source: &str, asked: String) -> Result<String> {
    let own = &daemon.config.data_dir;
    if !holds(own, source) {
        return Ok(if asked.is_empty() { "rprivate".into() } else { asked });
    }
    match asked.as_str() {
        "" => Ok("rslave".into()),
        "rslave" | "rshared" => Ok(asked),
        other => Err(ApiError::bad(format!(
            "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within \
             the daemon root, daemon root: {:?}, bind mount source: {source:?}, propagation: {other:?}",
            own.display()
        ))),
    }
}

/// Whether one of the engine's directory and a mount's source is in the other.
pub(super) fn holds(own: &Path, source: &str) -> bool {
    own.starts_with(source) || Path::new(source).starts_with(own)
}

fn bind_mount(source: String, destination: &str, rw: bool, mode: &str, propagation: String) -> MountPoint {
    MountPoint {
        kind: "bind".into(),
        source,
        destination: destination.to_owned(),
        mode: mode.to_owned(),
        rw,
        propagation,
        ..MountPoint::default()
    }
}

/// `/a//b/../c/` → `/a/c`.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
