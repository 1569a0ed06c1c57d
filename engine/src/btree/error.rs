//! What can go wrong in a tree.

use ashlar_bufferpool::{LoadError, PageId, ReserveError};
use std::error::Error;
use std::fmt;

/// A page whose bytes are not those of a page of this tree, though its checksum may be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{page}: {what}")]
pub struct Corrupt {
    /// The page.
    pub page: PageId,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Why a look-up, which never waits for the disk, has not come to an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Stop {
    /// This page is not in memory: load it, then look again.
    #[error("{0} is not in memory")]
    Missing(PageId),
    /// A page on the way is wrong.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

/// Why a change of a tree has stopped. The steps before it are done, the one it stopped at has changed nothing.
#[derive(Clone, Debug)]
pub enum TreeError<E: Error + 'static> {
    /// A page on the way is wrong.
    Corrupt(Corrupt),
    /// A page could not be loaded.
    Load(LoadError<E>),
    /// A key or value is above the [`Limits`](super::Limits) of the tree's page size. Nothing has changed.
    TooLarge {
        /// Length of the key, in bytes.
        key_len: usize,
        /// Length of the value, in bytes.
        value_len: usize,
    },
    /// The pool can't give the frames that one step needs.
    Reserve(ReserveError<E>),
}

impl<E: Error> From<Corrupt> for TreeError<E> {
    fn from(corrupt: Corrupt) -> TreeError<E> {
        TreeError::Corrupt(corrupt)
    }
}

impl<E: Error> From<ReserveError<E>> for TreeError<E> {
    fn from(error: ReserveError<E>) -> TreeError<E> {
        TreeError::Reserve(error)
    }
}

impl<E: Error> fmt::Display for TreeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::Corrupt(corrupt) => corrupt.fmt(f),
            TreeError::Load(error) => error.fmt(f),
            TreeError::TooLarge { key_len, value_len } => {
                write!(f, "a key of {key_len} bytes with a value of {value_len} bytes does not fit in a leaf")
            }
            TreeError::Reserve(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for TreeError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TreeError::Corrupt(_) | TreeError::TooLarge { .. } => None,
            TreeError::Load(error) => error.source(),
            TreeError::Reserve(error) => error.source(),
        }
    }
}
