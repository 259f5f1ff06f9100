//! The node's network, driven through its public interface. Needs root: every test makes a "machine" of its own, a
//! network and mount namespace that its thread lives in, with a second machine beside it. `ip` sets that second one up.

mod dns;
mod ipv6;
mod isolation;
mod machine;
mod pods;
mod services;
