//! The container engine: sandboxes, containers, their shim, logs, exec, cgroups (and content and images).
//!
//! A [`Sandbox`] is a group of containers that share namespaces (a Kubernetes pod, or one Docker container). Each
//! sandbox is owned by one small shim process, which is the parent of its containers, owns their stdio, writes their
//! logs and records their exit codes; the [`Engine`] is only its client, so a daemon may die and come back
//! ([`Engine::adopt`]) without any container noticing.
//!
//! Where things live:
//! - `run_dir/sandboxes/ID/` — the sandbox's record, its shim's socket, and one directory a container;
//! - the shim's own mount namespace — root filesystems and the sandbox's tmpfs volumes, so that nothing has to be
//!   unmounted when a shim goes, however it goes;
//! - `CGROUP_ROOT[/PARENT]/SANDBOX/CONTAINER` in every mounted cgroup hierarchy.

mod client;
mod detached;
mod directory;
mod engine;
mod error;
mod event;
mod exec;
mod ids;
mod launch;
mod mapped;
mod mount_table;
mod oci;
mod overlay;
mod protected;
mod sandbox;
mod spec;
mod status;
mod streams;
mod user;

pub mod cgroup;
pub mod content;
pub mod seccomp;
pub mod shim;

pub use engine::{Engine, EngineConfig, ShimCommand};
pub use error::{Error, Result};
pub use event::{Event, EventKind, Events};
pub use exec::{Exec, ExecOutput};
pub use ids::IdRanges;
pub use mount_table::receives_mounts;
pub use oci::all_capabilities;
pub use overlay::{mount as mount_overlay, mount_read_only};
pub use sandbox::Sandbox;
pub use spec::{
    BlockIo, Capabilities, ContainerSpec, Device, ExecSpec, IdRange, Ipc, LogSpec, Mount, Namespace, PidMode,
    Resources, Rlimit, Rootfs, SandboxSpec, Seccomp, TerminalSize, Tmpfs, UserSpec, default_capabilities,
    default_masked_paths, default_mounts, default_readonly_paths,
};
pub use status::{ContainerState, ContainerStatus, ExitStatus, SandboxState, SandboxStatus};
pub use streams::{Input, Output, Streams};
pub use user::{Ids, find_user};
