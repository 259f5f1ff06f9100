//! Selectors: predicates over an object's labels or over a few of its fields.
//!
//! Grammar, order and error texts are those of upstream's `labels` and `fields` packages.

mod field;
mod label;
mod legal;
mod lexer;
mod parser;

pub use field::{FieldError, FieldRequirement, FieldSelector};
pub use label::{LabelError, LabelSelector, Operator, Requirement};
