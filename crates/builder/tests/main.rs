//! Behaviour of builds. Needs root, cgroups and `/bin/busybox` (package busybox-static).

#![allow(missing_docs)] // a test binary has no public interface

#[path = "builder/add.rs"]
mod add;
#[path = "builder/cache.rs"]
mod cache;
#[path = "builder/copy.rs"]
mod copy;
#[path = "builder/instructions.rs"]
mod instructions;
#[path = "builder/life.rs"]
mod life;
#[path = "builder/output.rs"]
mod output;
#[path = "builder/parse.rs"]
mod parse;
#[path = "builder/plan.rs"]
mod plan;
#[path = "builder/run.rs"]
mod run;
#[path = "builder/world.rs"]
mod world;
