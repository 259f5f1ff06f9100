//! The shim: the small process that owns one sandbox's containers.

use std::ffi::OsString;

/// Runs a shim; `args` are what the engine put after [`crate::ShimCommand::args`]. Call it first thing in `main`,
/// before any thread exists.
pub fn main(args: Vec<OsString>) -> ! {
    let _ = args;
    todo!()
}
