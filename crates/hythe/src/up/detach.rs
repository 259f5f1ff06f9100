//! `up --detach`: starts this same program in the background and waits for its word.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{cli::UpFlags, instance::Instance};

/// Returns once the node is Ready; what the daemon says goes to `DIR/hythe.log`.
pub fn start(instance: &Instance, flags: &UpFlags) -> Result<ExitCode> {
    instance.create()?;
    if let Some(pid) = instance.daemon() {
        bail!("hythe already runs on {} (process {pid})", instance.data_dir.display());
    }
    let path = instance.path("hythe.log");
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("can't write {}", path.display()))?;
    // Without CLOEXEC: the daemon inherits the writing end. The shims it starts later do not see it, because the
    // daemon closes it once the node is Ready.
    let (read, write): (OwnedFd, OwnedFd) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::CLOEXEC)?;
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command.arg("--data-dir").arg(&instance.data_dir).arg("up");
    command.args(["--bind", &flags.bind.to_string(), "--port", &flags.port.to_string()]);
    command.args(["--pod-cidr", &flags.pod_cidr, "--service-cidr", &flags.service_cidr]);
    command.args(["--registry-port", &flags.registry_port.to_string()]);
    command.args(["--edge-http-port", &flags.edge_http_port.to_string()]);
    command.args(["--edge-https-port", &flags.edge_https_port.to_string()]);
    if let Some(port) = flags.kubelet_port {
        command.args(["--kubelet-port", &port.to_string()]);
    }
    if let Some(port) = flags.healthz_port {
        command.args(["--healthz-port", &port.to_string()]);
    }
    if flags.edge_host_network {
        command.arg("--edge-host-network");
    }
    if flags.no_patterns {
        command.arg("--no-patterns");
    }
    if flags.seccomp_default {
        command.arg("--seccomp-default");
    }
    if let Some(socket) = &flags.docker_socket {
        command.arg("--docker-socket").arg(socket);
    }
    if flags.userns_remap.is_some() {
        command.args(["--userns-remap", "default"]);
    }
    for registry in &flags.registries.insecure_registry {
        command.args(["--insecure-registry", registry]);
    }
    for mirror in &flags.registries.registry_mirror {
        command.args(["--registry-mirror", mirror]);
    }
    command.args(["--notify-fd", &write.as_raw_fd().to_string()]);
    if let Some(file) = &flags.kubelet_config {
        command.arg("--kubelet-config").arg(file);
    }
    if let Some(name) = &flags.node_name {
        command.args(["--node-name", name]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut daemon = command.spawn().context("can't start the daemon")?;
    drop(write);
    let mut ready = false;
    for line in BufReader::new(File::from(read)).lines() {
        let line = line?;
        if let Some(error) = line.strip_prefix("error: ") {
            bail!("{error}");
        }
        ready |= line.starts_with("ready in ");
        println!("hythe: {line}");
    }
    if !ready {
        let status = daemon.wait()?;
        bail!("the daemon ended before its node was Ready ({status}); see {}", path.display());
    }
    println!("hythe: running in the background (process {}); logs in {}", daemon.id(), path.display());
    println!("hythe: export KUBECONFIG={}", instance.kubeconfig().display());
    Ok(ExitCode::SUCCESS)
}
