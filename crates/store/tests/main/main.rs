//! What the store promises, as sentences.

#[macro_use]
mod contract;
mod crash;
mod disk_full;
mod embedded;

contract!(the_embedded_store, crate::embedded::fresh);
