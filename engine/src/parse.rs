//! The engine's parsers as such, for fuzzing: what reads bytes that were on a disk, without a database around it. Only with the feature
//! `faults`; not for users.

use crate::commit::record;
use crate::value::cell::Cell;
use crate::value::overflow;

/// Decodes the operations of a commit's record; false: it is refused.
pub fn record(bytes: &[u8]) -> bool {
    record::read(bytes, 0).is_ok()
}

/// Decodes what stands in a leaf for a value; false: it is refused. What is accepted takes no more memory than its bytes say.
pub fn cell(kind: u8, bytes: &[u8], page_size: usize) -> bool {
    match Cell::decode(kind, bytes, overflow::piece_len_max(page_size)) {
        None => false,
        Some(Cell::Inline(value)) => value.len() == bytes.len(),
        Some(Cell::Overflow(list) | Cell::LongBlob(list)) => list.pages.len() <= bytes.len(),
        Some(Cell::Blob(blob)) => blob.runs.len() <= bytes.len(),
    }
}

/// Decodes an entry of the catalog; false: it is refused.
pub fn catalog(key: &[u8], value: &[u8]) -> bool {
    crate::catalog::decode(key, value, 0).is_ok()
}
