//! nftables over netlink: expressions, rules, sets and transactions, as far as Service rules need them.
//!
//! Why not the `netlink-packet-netfilter` crate: it has no numgen, nat, masquerade, reject, fib, ct and dynset
//! expressions and no element timeouts, and loads of 10,000 Services want one flat buffer instead of a tree of values.

mod batch;
mod expression;
mod session;

pub(crate) use batch::{Batch, ChainHook, ElementData, ElementKind, SetSpec, close, push_header};
pub(crate) use expression::{Expression, Register, Verdict};
pub(crate) use session::{Session, TransactionError};
