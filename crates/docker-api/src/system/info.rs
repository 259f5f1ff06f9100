//! `GET /_ping`, `/version` and `/info`.

use std::sync::Arc;

use engine::cgroup::Cgroups;
use http::header;
use http::header::{HeaderName, HeaderValue};
use serde_json::json;

use super::machine::{architecture, hostname, kernel, memory_total, processors, system_name};
use crate::containers::Status;
use crate::daemon::Daemon;
use crate::error::{Result, blocking};
use crate::http::{API_VERSION, Call, MIN_API_VERSION, Response, Version, empty, json as json_answer, plain};
use crate::time;

/// Whether anybody is there, and which API is spoken.
pub(crate) async fn ping(daemon: Arc<Daemon>, _: Call) -> Result<Response> {
    let mut response = plain("OK");
    let headers = response.headers_mut();
    // BuildKit, if there is a builder at all; 1 would be the classic one alone, which is there as well.
    let builder = HeaderValue::from_static(if daemon.buildkit.is_some() { "2" } else { "1" });
    headers.insert(HeaderName::from_static("builder-version"), builder);
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Nothing is said of what may be asked: it is allowed to ask.
pub(crate) async fn options(_: Arc<Daemon>, _: Call) -> Result<Response> {
    Ok(empty(http::StatusCode::OK))
}

/// Versions of everything.
pub(crate) async fn version(daemon: Arc<Daemon>, _: Call) -> Result<Response> {
    let version = &daemon.config.version;
    Ok(json_answer(&json!({
        "Platform": {"Name": "Hythe"},
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": API_VERSION, "MinAPIVersion": MIN_API_VERSION, "Arch": architecture(), "Os": "linux",
                "KernelVersion": kernel(), "GitCommit": "", "GoVersion": "", "BuildTime": "", "Experimental": "false",
            },
        }],
        "Version": version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel(),
        "BuildTime": "",
    })))
}

/// The engine at a glance.
pub(crate) async fn info(daemon: Arc<Daemon>, call: Call) -> Result<Response> {
    blocking(move || {
        let count = |wanted: &[Status]| {
            daemon.containers.all().iter().filter(|container| wanted.contains(&container.record().state.status)).count()
        };
        let (running, paused) = (count(&[Status::Running, Status::Restarting]), count(&[Status::Paused]));
        let total = daemon.containers.all().len();
        let images = daemon.config.content.images()?.len();
        let v2 = Cgroups::detect().is_v2();
        let (system, system_version) = system_name();
        let (ranges, insecure): (Vec<&String>, Vec<&String>) =
            daemon.config.registries.insecure_registries.iter().partition(|name| name.contains('/'));
        let ranges: Vec<&str> =
            ["127.0.0.0/8", "::1/128"].into_iter().chain(ranges.into_iter().map(String::as_str)).collect();
        let mirrors = &daemon.config.registries.mirrors;
        let index: serde_json::Map<String, serde_json::Value> = insecure
            .into_iter()
            .map(|name| (name.clone(), json!({"Name": name, "Mirrors": [], "Secure": false, "Official": false})))
            .chain([(
                "docker.io".to_owned(),
                json!({"Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true}),
            )])
            .collect();
        let mut info = json!({
            "ID": daemon.id,
            "Containers": total,
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": total - running - paused,
            "Images": images,
            "Driver": "overlay2",
            "DriverStatus": [["Backing Filesystem", "hythe content store"], ["Native Overlay Diff", "true"]],
            "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null,
                "Log": ["json-file", "local", "none"]},
            "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
            "CPUSet": true, "PidsLimit": true, "IPv4Forwarding": true, "OomKillDisable": false, "Debug": false,
            "NFd": 0, "NGoroutines": 0, "NEventsListener": 0,
            "SystemTime": time::now(),
            "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": if v2 { "2" } else { "1" },
            "KernelVersion": kernel(),
            "OperatingSystem": system,
            "OSVersion": system_version,
            "OSType": "linux",
            "Architecture": std::env::consts::ARCH,
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {"InsecureRegistryCIDRs": ranges, "IndexConfigs": index, "Mirrors": mirrors},
            "NCPU": processors(),
            "MemTotal": memory_total(),
            "GenericResources": null,
            "DockerRootDir": daemon.config.data_dir,
            "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
            "Name": hostname(),
            "Labels": [],
            "ExperimentalBuild": false,
            "ServerVersion": daemon.config.version,
            "Runtimes": {"hythe": {"path": "hythe"}},
            "DefaultRuntime": "hythe",
            "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false,
                "Error": "", "RemoteManagers": null},
            "LiveRestoreEnabled": true,
            "Isolation": "",
            "InitBinary": "hythe",
            "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""},
            "SecurityOptions": match daemon.config.user_ids {
                Some(_) => vec!["name=seccomp,profile=builtin", "name=userns"],
                None => vec!["name=seccomp,profile=builtin"],
            },
            "DefaultAddressPools": daemon.config.network.pools.iter()
                .map(|(range, size)| json!({"Base": range.to_string(), "Size": size})).collect::<Vec<_>>(),
            "Warnings": [],
        });
        if call.version < Version(50) {
            // Docker's own chains of iptables, which this engine does without.
            info["BridgeNfIptables"] = json!(false);
            info["BridgeNfIp6tables"] = json!(false);
        }
        if call.version >= Version(49) {
            info["FirewallBackend"] = json!({"Driver": "nftables"});
        }
        Ok(json_answer(&info))
    })
    .await
}
