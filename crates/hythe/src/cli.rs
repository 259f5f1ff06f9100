//! The commands and their flags.

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{commands, instance::Instance, simulate, up};

/// A cloud-native platform in one binary: stock kubectl works against it, and it runs the containers itself.
#[derive(Parser)]
#[command(name = "hythe", version, arg_required_else_help = true)]
struct Cli {
    /// The instance to speak to: the directory that holds its data.
    #[arg(long, global = true, env = "HYTHE_DATA_DIR", default_value = "/var/lib/hythe", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the platform on this machine.
    Up(UpFlags),
    /// Tell whether it runs, where, and what the node says.
    Status,
    /// Print the kubeconfig of the administrator.
    Kubeconfig,
    /// Stop the platform and its containers.
    Down {
        /// Also remove the data: no process, mount, link, rule, cgroup or file is left.
        #[arg(long)]
        purge: bool,
        /// First end all pods in order, critical ones last, as a shutdown of the machine should.
        #[arg(long)]
        drain: bool,
    },
    /// Work with container images.
    #[command(subcommand)]
    Image(commands::image::ImageCommand),
    /// Build an image from a Dockerfile.
    Build(Box<commands::build::BuildFlags>),
    /// Serve the Docker Engine API alone, without Kubernetes.
    Engine(commands::engine::EngineFlags),
    /// Serve the images as a registry.
    Registry(commands::registry::RegistryFlags),
    /// Create or change objects from files (server-side apply).
    Apply(commands::apply::ApplyFlags),
    /// Show objects in a table.
    Get(commands::get::GetFlags),
    /// Show one object in full, with its events.
    Describe(commands::describe::DescribeFlags),
    /// Delete objects.
    Delete(commands::delete::DeleteFlags),
    /// Print the logs of a container.
    Logs(commands::logs::LogsFlags),
    /// Run a command in a container.
    Exec(commands::exec::ExecFlags),
    /// Run the controllers of the patterns against any Kubernetes cluster.
    Operator(commands::operator::OperatorFlags),
    #[command(flatten)]
    Pattern(pattern_containers::Command),
    /// Add nodes whose containers are only pretended, to measure a control plane.
    Simulate(simulate::SimulateFlags),
}

/// Whose ids Docker's containers have.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UsernsRemap {
    /// A range that nobody else has.
    Default,
}

/// How registries are reached.
#[derive(Args, Clone, Default)]
pub struct RegistryAccess {
    /// A registry that may speak plain HTTP, or TLS with whatever certificate; those of this machine always may.
    #[arg(long, value_name = "HOST[:PORT]|CIDR")]
    pub insecure_registry: Vec<String>,
    /// A registry to ask for images of Docker Hub before Docker Hub.
    #[arg(long, value_name = "URL", value_parser = mirror)]
    pub registry_mirror: Vec<String>,
}

impl RegistryAccess {
    pub fn options(&self) -> engine::content::PullOptions {
        engine::content::PullOptions {
            insecure_registries: self.insecure_registry.clone(),
            mirrors: self.registry_mirror.clone(),
            ..Default::default()
        }
    }
}

/// `http[s]://host[:port]/`, as dockerd takes it.
fn mirror(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if !matches!(scheme, "http" | "https") {
        return Err(format!("unsupported scheme {scheme:?} in {text:?}"));
    }
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains('@') {
        return Err(format!("username/password not allowed in URI {text:?}"));
    }
    if host.is_empty() || host.contains(['/', '?', '#']) {
        return Err(format!("path, query, or fragment at end of the URI {text:?}"));
    }
    Ok(format!("{scheme}://{host}/"))
}

/// How the platform starts.
#[derive(Args, Clone)]
pub struct UpFlags {
    /// Address on which the API listens, besides 127.0.0.1 [default: all]
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0")]
    pub bind: Ipv4Addr,
    /// Port of the API.
    #[arg(long, default_value_t = 6443)]
    pub port: u16,
    /// Name of this node [default: the host's name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Addresses of pods.
    #[arg(long, value_name = "CIDR", default_value = "10.42.0.0/16")]
    pub pod_cidr: String,
    /// Addresses of Services.
    #[arg(long, value_name = "CIDR", default_value = "10.43.0.0/16")]
    pub service_cidr: String,
    /// Port of the image registry on 127.0.0.1; 0 serves none.
    #[arg(long, default_value_t = 5000, value_name = "PORT")]
    pub registry_port: u16,
    /// Port of the node's agent, as a kubelet's; 0 for none [default: 10250, or what --kubelet-config says]
    #[arg(long, value_name = "PORT")]
    pub kubelet_port: Option<u16>,
    /// Port at which the node's agent tells this machine that it is well; 0 for none [default: 10248, or what --kubelet-config says]
    #[arg(long, value_name = "PORT")]
    pub healthz_port: Option<u16>,
    /// Unix socket of the Docker API, or "none" [default: /run/hythe/docker.sock, or the instance's own]
    #[arg(long, value_name = "PATH")]
    pub docker_socket: Option<PathBuf>,
    /// Port of this node for HTTP of Ingresses and Gateways; 0 for none.
    #[arg(long, default_value_t = 80, value_name = "PORT")]
    pub edge_http_port: u16,
    /// Port of this node for HTTPS of Ingresses and Gateways; 0 for none.
    #[arg(long, default_value_t = 443, value_name = "PORT")]
    pub edge_https_port: u16,
    /// Run the edge in the node's own network.
    #[arg(long)]
    pub edge_host_network: bool,
    /// Leave the patterns, Ingress and the Gateway API to an operator (`hythe operator`) or to other controllers.
    #[arg(long)]
    pub no_patterns: bool,
    /// A KubeletConfiguration (kubelet.config.k8s.io/v1beta1) for this node.
    #[arg(long, value_name = "FILE")]
    pub kubelet_config: Option<PathBuf>,
    /// Filter the system calls of pods' containers that ask for no seccomp profile as with RuntimeDefault.
    #[arg(long)]
    pub seccomp_default: bool,
    /// Run Docker's containers with ids of their own instead of the host's.
    #[arg(long, value_name = "default")]
    pub userns_remap: Option<UsernsRemap>,
    #[command(flatten)]
    pub registries: RegistryAccess,
    /// Return once the node is Ready and go on in the background.
    #[arg(long)]
    pub detach: bool,
    /// The pipe on which a detached daemon reports.
    #[arg(long, hide = true)]
    pub notify_fd: Option<std::os::fd::RawFd>,
}

/// Parses the command line and runs it; errors go to standard error as one line.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // Libraries that bring no TLS provider of their own take the process's; there can be no earlier one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    resident::also_gives_back(crate::allocator::give_back);
    // These need no instance: they run in containers of any kind.
    let command = match cli.command {
        Command::Pattern(command) => return pattern_containers::run(command),
        Command::Operator(flags) => return commands::operator::run(flags).unwrap_or_else(|error| fail(&error)),
        other => other,
    };
    let instance = match Instance::at(&cli.data_dir) {
        Ok(instance) => instance,
        Err(error) => return fail(&error),
    };
    let result = match command {
        Command::Up(flags) => up::run(instance, flags),
        Command::Status => commands::status::run(&instance),
        Command::Kubeconfig => commands::kubeconfig::run(&instance),
        Command::Down { purge, drain } => commands::down::run(&instance, purge, drain),
        Command::Image(command) => commands::image::run(&instance, command),
        Command::Build(flags) => commands::build::run(&instance, *flags),
        Command::Engine(flags) => commands::engine::run(&instance, flags),
        Command::Registry(flags) => commands::registry::run(&instance, flags),
        Command::Apply(flags) => commands::apply::run(&instance, flags),
        Command::Get(flags) => commands::get::run(&instance, flags),
        Command::Describe(flags) => commands::describe::run(&instance, flags),
        Command::Delete(flags) => commands::delete::run(&instance, flags),
        Command::Logs(flags) => commands::logs::run(&instance, flags),
        Command::Exec(flags) => commands::exec::run(&instance, flags),
        Command::Simulate(flags) => simulate::run(&instance, flags),
        Command::Pattern(_) | Command::Operator(_) => unreachable!("they are told apart above"),
    };
    result.unwrap_or_else(|error| fail(&error))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::mirror;

    #[test]
    fn a_mirror_is_a_url_of_a_host_and_nothing_more() {
        assert_eq!(mirror("http://127.0.0.1:5001").as_deref(), Ok("http://127.0.0.1:5001/"));
        assert_eq!(mirror("https://mirror.lab/").as_deref(), Ok("https://mirror.lab/"));
        for bad in [
            "mirror.lab",
            "ftp://mirror.lab",
            "https://",
            "https://mirror.lab/v2/",
            "http://u:p@mirror.lab",
            "http://m?x",
        ] {
            assert!(mirror(bad).is_err(), "{bad}");
        }
    }
}
