//! The append queue: the order of the log, in memory.
//!
//! Everything here happens under one short lock, and nothing here waits, fails or touches a disk. Positions are given out as
//! records come; flushes that fill up are closed on the way, the open one is closed by whoever writes it.
//!
//! Invariants:
//! 1. `records` are those in the flushes of `plans` and in the open one, in order; a batch takes all of them, so a record's
//!    pieces are always written by one batch.
//! 2. After a failure nothing is kept: positions are still given out, but nothing will be written at them.

use crate::image::{Body, Record};
use crate::layout::{FlushPlan, Layout, Place};
use crate::room::Budget;
use crate::{Error, Lsn, Result};
use ashlar_disk::FarBuf;

/// Records that wait to be written.
#[derive(Debug)]
pub(crate) struct Queue {
    layout: Layout,
    pending: Batch,
    /// The accounts of room.
    pub(crate) budget: Budget,
    /// Nothing will be written any more.
    failed: bool,
    /// Why no room is given any more.
    refused: Option<Error>,
}

/// Records, and the flushes they stand in.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The flushes, all closed.
    pub(crate) plans: Vec<FlushPlan>,
    /// The records.
    pub(crate) records: Vec<Record>,
    /// Bytes of small ones, which whoever writes them reads side by side: the records themselves stay with the threads that have made them.
    small: Vec<FarBuf>,
    /// So many of these are in use.
    used: usize,
}

impl Batch {
    fn push(&mut self, body: Body) {
        let bytes = body.bytes();
        if bytes.len() > SMALL {
            self.records.push(Record::Apart(body));
            return;
        }
        if self.used == 0 || self.small[self.used - 1].room() < bytes.len() {
            if self.used == self.small.len() {
                self.small.push(FarBuf::new(CHUNK));
            }
            self.used += 1;
        }
        self.small[self.used - 1].push(bytes);
        self.records.push(Record::Small(bytes.len()));
    }

    /// Nothing is added before it has been cleared.
    fn close(&mut self) {
        self.small[..self.used].iter_mut().for_each(FarBuf::close);
    }

    /// Small records, side by side, each whole in one part.
    pub(crate) fn small(&self) -> impl Iterator<Item = &[u8]> {
        self.small[..self.used].iter().map(FarBuf::bytes)
    }

    /// Forgets what was written, keeps the memory for the next time (some of it).
    pub(crate) fn clear(&mut self) {
        self.plans.clear();
        self.records.clear();
        self.records.shrink_to(RECORDS_KEPT);
        self.small[..self.used].iter_mut().for_each(FarBuf::clear);
        self.small.truncate(CHUNKS_KEPT);
        self.used = 0;
    }
}

/// For how many records a queue keeps memory.
const RECORDS_KEPT: usize = 64 << 10;

/// Bytes of a small record, at most.
const SMALL: usize = 512;

/// Bytes of small records for which memory is taken at once.
const CHUNK: usize = 128 << 10;

/// For how many times as many a queue keeps memory.
const CHUNKS_KEPT: usize = 64;

impl Queue {
    /// The next flush begins where `layout` says.
    pub(crate) fn new(layout: Layout, budget: Budget) -> Queue {
        Queue { layout, pending: Batch::default(), budget, failed: false, refused: None }
    }

    /// Gives the record the next position.
    pub(crate) fn append(&mut self, body: Body) -> Place {
        let size = body.bytes().len() as u64;
        let plans = &mut self.pending.plans;
        let place = self.layout.place(size, |plan| plans.push(plan));
        if !self.failed {
            self.pending.push(body);
        } else {
            // (2)
            self.pending.plans.clear();
        }
        place
    }

    /// Closes the open flush if it holds anything; gives where the next record's flush begins.
    pub(crate) fn cut(&mut self) -> Lsn {
        self.pending.plans.extend(self.layout.close_if_used());
        self.layout.end()
    }

    /// Moves all that is pending to `batch`, which is empty; gives where the flush behind it begins.
    pub(crate) fn take(&mut self, batch: &mut Batch) -> Lsn {
        let end = self.cut();
        self.pending.close();
        std::mem::swap(&mut self.pending, batch);
        end
    }

    /// An empty flush of its own, if nothing is pending; gives where the flush behind it begins.
    pub(crate) fn take_empty_flush(&mut self, batch: &mut Batch) -> Option<Lsn> {
        if !self.is_idle() {
            return None;
        }
        batch.plans.push(self.layout.close());
        Some(self.layout.end())
    }

    /// Whether nothing is pending.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.plans.is_empty() && self.layout.is_empty()
    }

    /// Where the log ends, rounded up to blocks.
    pub(crate) fn end(&self) -> Lsn {
        self.layout.end()
    }

    /// Nothing will be written any more, and no room given.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failed = true;
        self.pending = Batch::default();
        self.refuse_room(error);
    }

    /// No room is given any more. The first reason stays.
    pub(crate) fn refuse_room(&mut self, reason: Error) {
        self.refused.get_or_insert(reason);
    }

    /// Whether room is given at all.
    pub(crate) fn check_room(&self) -> Result<()> {
        self.refused.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::next_small;

    /// Small ones, more than stand side by side, and longer ones between them: all come in their order, batch after batch.
    #[test]
    fn records_of_all_sizes_keep_their_order() {
        let mut batch = Batch::default();
        for count in [10, 20_000, 300] {
            let bodies: Vec<Vec<u8>> = (0..count).map(|nth| vec![nth as u8; [0, 1, 500, SMALL, SMALL + 1][nth % 5]]).collect();
            bodies.iter().cloned().for_each(|body| batch.push(body.into()));
            batch.close();
            let (mut parts, mut part) = (batch.small(), &[][..]);
            for (record, body) in batch.records.iter().zip(&bodies) {
                match record {
                    Record::Small(len) => assert_eq!(next_small(&mut part, &mut parts, *len), &body[..]),
                    Record::Apart(found) => assert!(found.bytes() == body && body.len() > SMALL),
                }
            }
            assert!(part.is_empty() && parts.next().is_none() && batch.records.len() == bodies.len());
            drop(parts);
            batch.clear();
        }
    }
}
