//! The catalogue: every kind that Hythe serves as one registry entry, and the pure functions that work
//! on objects of any kind. No I/O, no clock, no randomness: time and names are passed in.
//!
//! Objects are `serde_json::Value`s, walked beside their [`schema`].

pub mod apply;
pub mod catalogue;
pub mod discovery;
pub mod injection;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod strict;
pub mod table;
pub mod token_secret;
pub mod warnings;
