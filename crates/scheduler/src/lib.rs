//! The scheduler: which node a pod goes to.
//!
//! [`schedule`] is a pure function of a [`PodInfo`] and a [`Snapshot`] of the cluster; [`run`] is the thin
//! loop that keeps the snapshot true from watches, feeds the function, and binds. Filters, scores, their
//! order and the words of their verdicts are those of upstream's default profile. [`preempt`] finds, for a pod that
//! no node would take, whom it may push out.

mod binding;
mod counts;
mod events;
mod eviction;
mod filter;
mod node;
mod pod;
mod preempt;
mod queue;
mod resources;
mod run;
mod schedule;
mod score;
mod selector;
mod snapshot;
mod unschedulable;
mod usage;
mod volumes;

pub use node::NodeInfo;
pub use pod::PodInfo;
pub use preempt::{Budget, Victims, preempt};
pub use resources::Resources;
pub use run::{Config, run};
pub use schedule::{Placement, schedule};
pub use snapshot::Snapshot;
pub use unschedulable::{Preemption, Unschedulable};
