//! `hythe status`: exit code 0 if the instance runs and its node is Ready, 3 if it does not run, 1 otherwise.

use std::process::ExitCode;

use anyhow::Result;

use super::session::{Session, block_on};
use crate::instance::Instance;

pub fn run(instance: &Instance) -> Result<ExitCode> {
    println!("data directory: {}", instance.data_dir.display());
    let Some(pid) = instance.daemon() else {
        println!("state:          not running");
        return Ok(ExitCode::from(3));
    };
    let settings = instance.settings()?;
    println!("state:          running (process {pid})");
    println!("api:            https://127.0.0.1:{}", settings.port);
    println!("kubeconfig:     {}", instance.kubeconfig().display());
    println!("pod cidr:       {}", settings.pod_cidr);
    println!("service cidr:   {}", settings.service_cidr);
    let node =
        block_on(async { Session::open(instance).await?.get(&format!("/api/v1/nodes/{}", settings.node_name)).await })?;
    let ready = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    println!("node:           {} ({})", settings.node_name, if ready { "Ready" } else { "NotReady" });
    println!("version:        {}", node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or("unknown"));
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
