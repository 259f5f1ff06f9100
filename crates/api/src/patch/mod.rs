//! The three ways to change an object by a patch document. Each works on plain JSON values; server-side
//! apply, the fourth, is in [`crate::apply`].

mod go_text;
pub mod json;
pub mod merge;
pub mod strategic;

pub use go_text::go_text;
