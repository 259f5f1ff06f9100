//! Builds images from Dockerfiles.

pub mod dockerfile;
pub mod pattern;
