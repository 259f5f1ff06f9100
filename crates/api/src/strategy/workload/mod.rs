//! Workloads: objects that hold a pod template.

pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
mod indexes;
pub mod job;
mod job_status;
pub mod replica_set;
pub mod schedule;
pub mod stateful_set;
mod success_policy;
mod template;
