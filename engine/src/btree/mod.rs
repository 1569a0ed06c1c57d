//! The B+tree: pages as sorted nodes.

mod access;
mod build;
mod edit;
mod layout;
mod node;
mod search;
#[cfg(test)]
mod testing;

pub use layout::{Limits, limits};

/// The identity of a tree; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct TreeId(pub u64);
