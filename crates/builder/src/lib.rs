//! Builds images from Dockerfiles, on the engine's content store and containers.
//!
//! ```text
//! text ── dockerfile ──> stages ── plan ──> the needed ones ── stage (in parallel) ──> layers, configuration ──> image
//!                                                               │
//!                                     cache (by content) ── copy (no container), run (a container a RUN)
//! ```
//!
//! A step's key is the image it starts from, its instruction, and the sums of the files it uses: a changed file makes
//! the steps from its own on anew, and none before. Files never leave the directories they belong to: the kernel
//! resolves every path of a context, an archive or an image with that as `/`.

mod agent_socket;
mod archive;
mod builder;
mod cache;
mod cache_directory;
mod classic;
mod contexts;
mod copy;
mod display;
mod error;
mod event;
mod extract;
mod fetch;
mod output;
mod owner;
mod place;
mod repository;
mod request;
mod run;
mod stage;
mod tree;
mod view;
mod work;

pub mod dockerfile;
pub mod pattern;
pub mod plan;

pub use archive::{is_archive, read_in_archive};
pub use builder::{Builder, platform};
pub use cache::CacheEntry;
pub use classic::{Classic, Piece, short};
pub use contexts::replace_stages;
pub use display::Display;
pub use error::{BuildError, Kind};
pub use event::{Event, Progress};
pub use fetch::download;
pub use repository::{Access, CheckedOut, Repository};
pub use request::{Agents, BuildOutput, BuildRequest, Context, NamedContext, Output, RunNetwork, Secrets, Source};
