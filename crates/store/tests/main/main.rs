//! What the store promises, as sentences.

#[macro_use]
mod contract;
mod embedded;

contract!(the_embedded_store, crate::embedded::fresh);
