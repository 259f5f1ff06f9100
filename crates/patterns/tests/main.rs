//! The controllers before an API server that is written down here and fails as it is told to. Time is virtual.

mod api;
mod events;
mod faults;
