//! Behaviour of the registry over HTTP. Needs root (a small file system is mounted) and `skopeo`.

#![allow(missing_docs)] // a test binary has no public interface

mod access;
mod blobs;
mod crash;
mod garbage;
mod hostile;
mod lists;
mod manifests;
mod mirror;
mod shared;
mod skopeo;
mod world;
