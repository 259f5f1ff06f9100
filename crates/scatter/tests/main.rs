//! The root against leaves of every temper.

mod hedging;
mod leaves;
mod root;
mod secure;
mod serving;
