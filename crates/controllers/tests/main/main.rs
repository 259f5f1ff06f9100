//! The controllers against a real API server in this process, with nodes that only pretend.

mod daemonsets;
mod deployments;
mod endpoints;
mod garbage;
mod jobs;
mod namespaces;
mod replicas;
mod statefulsets;
mod world;
