//! Behaviour of the engine's containers. Needs root, cgroups and `/bin/busybox` (package busybox-static).

#![allow(missing_docs)] // a test binary has no public interface

mod adoption;
mod content;
mod run;
mod streams;
mod users;
mod world;
