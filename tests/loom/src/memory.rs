//! Stands in for `ashlar_disk`'s memory and for what else the included files import: as small as the models.

use crate::sync::atomic::AtomicU64;
use std::ops::Deref;

/// Nothing of this fails.
#[derive(Clone, Debug, thiserror::Error)]
#[error("never")]
pub enum Error {}

/// See [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Words of an array, all of them open.
#[derive(Debug)]
pub struct Reserved(Box<[AtomicU64]>);

impl Reserved {
    /// `bytes` of words.
    pub fn new(bytes: usize) -> Result<Reserved> {
        Ok(Reserved((0..bytes / 8).map(|_| AtomicU64::new(0)).collect()))
    }

    /// All is open.
    pub fn open_to(&self, _bytes: usize) -> Result<()> {
        Ok(())
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// Memory of one's own.
pub struct AlignedBuf(Box<[AtomicU64]>);

impl AlignedBuf {
    /// The words.
    pub fn words_mut(&mut self) -> &mut [AtomicU64] {
        &mut self.0
    }
}

/// What a device would read into: models have none.
pub struct ArenaSlice;

/// Stands in for the type of this name in `crossbeam-utils`.
#[derive(Debug)]
pub struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    /// Around `value`.
    pub fn new(value: T) -> CachePadded<T> {
        CachePadded(value)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
