//! Fetching a value that does not stand in its leaf.

use super::Value;
use super::cell::{self, Cell, StoredBlob};
use super::overflow;
use crate::blob;
use crate::error::{Corruption, Error, Result};
use crate::pages::EnginePool;
use std::sync::Arc;

/// What a leaf holds for a key, copied out from under its latch.
pub(crate) enum Stored {
    /// The value.
    Inline(Value),
    /// Where it is.
    Elsewhere {
        /// Kind of the cell.
        kind: u8,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl Stored {
    /// Copies a cell; `inline` makes the value of one that is the value.
    pub(crate) fn copy(kind: u8, bytes: &[u8], mut inline: impl FnMut(&[u8]) -> Value) -> Stored {
        match kind {
            cell::INLINE => Stored::Inline(inline(bytes)),
            _ => Stored::Elsewhere { kind, bytes: bytes.to_vec() },
        }
    }
}

/// Fetches the value that a cell names. `None`: its pages or runs are not there any more. `is_valid`: whether they must be, asked
/// when they can't go any more.
pub(crate) fn fetch(pool: &EnginePool, kind: u8, bytes: &[u8], is_valid: impl Fn() -> bool) -> Result<Option<Value>> {
    let piece = overflow::piece_len_max(pool.page_size());
    match Cell::decode(kind, bytes, piece) {
        Some(Cell::Inline(bytes)) => Ok(Some(Value::copy_of(bytes))),
        Some(Cell::Overflow(list)) => Ok(overflow::read(pool, &list)?.map(Value::from_vec)),
        Some(Cell::Blob(blob)) => fetch_blob(pool, &blob, is_valid),
        Some(Cell::LongBlob(list)) => match overflow::read(pool, &list)? {
            Some(bytes) => match cell::decode_blob(&bytes) {
                Some(blob) => fetch_blob(pool, &blob, is_valid),
                None => Err(undecodable(kind)),
            },
            None => Ok(None),
        },
        None => Err(undecodable(kind)),
    }
}

fn fetch_blob(pool: &EnginePool, blob: &StoredBlob, is_valid: impl Fn() -> bool) -> Result<Option<Value>> {
    let cache = pool.store().blob_cache();
    let bytes = match cache.get(blob) {
        Some(kept) => kept,
        None => {
            let Some(read) = blob::read(pool.store(), blob, &is_valid)?.map(Arc::new) else { return Ok(None) };
            cache.keep(pool, blob, &read, is_valid);
            read
        }
    };
    Ok(Some(Value::from_aligned(bytes, blob.len as usize)))
}

/// The error of a cell that is none.
pub(crate) fn undecodable(kind: u8) -> Error {
    Corruption {
        place: "a leaf's cell".into(),
        page: None,
        block: None,
        tree: None,
        what: format!("kind {kind} does not decode"),
    }
    .into()
}

/// The error of a value whose pages are not there though its leaf names them.
pub(crate) fn lost(key: &[u8]) -> Error {
    Corruption {
        place: format!("key \"{}\"", key.escape_ascii()),
        page: None,
        block: None,
        tree: None,
        what: "the pages that its leaf names for the value hold something else".into(),
    }
    .into()
}
