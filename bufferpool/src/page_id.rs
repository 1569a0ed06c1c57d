//! The identities of this crate: a page, and the epoch in which it changed.
//!
//! Both are plain counts with a type of their own, so that one is never passed for the other.

use std::fmt;

/// A page of the database: a dense number, given once and reused only after the page was freed. It says nothing about where
/// the page stands; that is what the page table is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PageId(pub u64);

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}", self.0)
    }
}

/// The time between two cuts of a checkpoint, numbered from 1 when the pool is made. Later is larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch a new pool is in.
    pub const FIRST: Epoch = Epoch(1);

    /// The one after this.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}
