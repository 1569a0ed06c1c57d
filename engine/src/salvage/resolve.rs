//! What becomes of a key: what its leaf holds, or what the log says of it.

use super::leaf::Age;
use super::log::{Moment, RangeRemoved};
use super::sweep::Stretch;
use super::values::Fetched;
use crate::commit::record::{self, Operation};
use crate::value::cell::{StoredBlob, StoredRun};
use std::ops::Bound;

/// What a key holds after all.
pub(super) enum Holds {
    Nothing,
    /// What a leaf's cell names; or, where that was not written yet, what the operation left that the leaf has applied last.
    Cell(u8, Vec<u8>, Option<Vec<u8>>),
    Value(Fetched),
}

/// What the log says of a key: of the operations that are newer than its leaf the last, and of the others.
#[derive(Default)]
pub(super) struct LoggedKey {
    pub(super) key: Vec<u8>,
    pub(super) newer: Option<(Moment, Vec<u8>)>,
    pub(super) older: Option<Vec<u8>>,
}

/// Whether an operation is newer than a leaf of that age.
pub(super) fn is_newer(over_checkpoint: bool, age: Option<Age>, moment: Moment) -> bool {
    let newer_than = |age: Age| moment.incarnation > age.incarnation || moment.lsn >= age.lsn;
    over_checkpoint || age.is_none_or(newer_than)
}

/// What the log makes of a key; `None`: it says nothing.
pub(super) fn resolve(key: &[u8], operation: Option<(Moment, Vec<u8>)>, ranges: &[&RangeRemoved]) -> Option<Holds> {
    let removed = ranges.iter().filter(|range| range.covers(key)).map(|range| range.moment).max();
    match operation {
        Some((moment, record)) if removed.is_none_or(|removed| removed < moment) => Some(left_by(&record)),
        _ => removed.map(|_| Holds::Nothing),
    }
}

/// What a point operation leaves in its key. Its record is one of our own.
pub(super) fn left_by(record: &[u8]) -> Holds {
    match record::read(record, 0).as_deref() {
        Ok([Operation::Put { value, .. }]) => Holds::Value(Fetched::Bytes(value.to_vec())),
        Ok([Operation::PutBlob { blob, .. }]) => {
            let runs = blob.runs.iter().map(|run| StoredRun { page: run.page, crc: run.crc }).collect();
            Holds::Value(Fetched::Runs(StoredBlob { len: blob.len, runs }))
        }
        _ => Holds::Nothing,
    }
}

impl RangeRemoved {
    fn covers(&self, key: &[u8]) -> bool {
        let from = match &self.from {
            Bound::Included(from) => from.as_slice() <= key,
            Bound::Excluded(from) => from.as_slice() < key,
            Bound::Unbounded => true,
        };
        let to = match &self.to {
            Bound::Included(to) => key <= to.as_slice(),
            Bound::Excluded(to) => key < to.as_slice(),
            Bound::Unbounded => true,
        };
        from && to
    }
}

/// Whether a removal may concern keys of the stretch.
pub(super) fn overlaps(range: &RangeRemoved, stretch: &Stretch) -> bool {
    let begins_before_end = match &range.from {
        Bound::Included(from) | Bound::Excluded(from) => stretch.ends_above(from),
        Bound::Unbounded => true,
    };
    let ends_after_start = match &range.to {
        Bound::Included(to) | Bound::Excluded(to) => *to >= stretch.from,
        Bound::Unbounded => true,
    };
    begins_before_end && ends_after_start
}
