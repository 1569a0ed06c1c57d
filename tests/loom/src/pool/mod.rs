//! Stands in for `bufferpool/src/pool.rs`: what look-ups and loads can refuse.

use crate::page_id::PageId;

/// Why a look-up found nothing to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// The page is not in memory.
    NotResident(PageId),
    /// There is no such page.
    NotAllocated(PageId),
}

/// Why a page could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError<E: std::error::Error + 'static> {
    /// There is no such page.
    #[error("{0} is not allocated")]
    NotAllocated(PageId),
    /// It could not be read.
    #[error(transparent)]
    Store(E),
    /// Nothing of that happens in a model.
    #[error(transparent)]
    Memory(#[from] crate::memory::Error),
}
