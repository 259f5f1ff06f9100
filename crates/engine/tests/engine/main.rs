//! Behaviour of the engine's containers. Needs root, cgroups and `/bin/busybox` (package busybox-static).

mod adoption;
mod content;
mod run;
mod streams;
mod world;
