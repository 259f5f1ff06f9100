//! The controllers against a real API server in this process, with nodes that only pretend.

mod attachments;
mod autoscalers;
mod budgets;
mod certificates;
mod cronjobs;
mod daemonsets;
mod deployments;
mod endpoints;
mod events;
mod failpoint;
mod garbage;
mod jobs;
mod namespaces;
mod nodes;
mod quotas;
mod replicas;
mod service_accounts;
mod statefulsets;
mod volumes;
mod walk;
mod world;
