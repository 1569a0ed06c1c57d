//! A part of the log, read and taken apart: the operations of some records, as they stand in them.
//!
//! Invariants:
//! 1. Nothing is allocated for an operation: its bytes are kept as they stand in the record, and a [`Point`] says where.
//! 2. Operations take effect in the order of the log. Between two on ranges or whole keyspaces, [`Step`]s, points may be sorted: of
//!    several on one key the last counts.

use crate::btree::TreeId;
use crate::bulk::Placed;
use crate::commit::record::{self, Operation};
use crate::error::Result;
use crate::postponed::Span;
use ashlar_disk::words;
use std::ops::Range;

/// What an operation counts for beside its bytes.
const WEIGHT: usize = 64;

/// Points whose bytes the processor is asked for ahead: in the order of the keys each stands somewhere else.
const AHEAD: usize = 16;

/// Cache lines of each that it is asked for: what a small entry takes.
const LINES: usize = 3;

/// Operations of records that follow each other.
#[derive(Default)]
pub(super) struct Part {
    /// Bodies of records.
    pub(super) bodies: Vec<u8>,
    pub(super) points: Vec<Point>,
    pub(super) steps: Vec<Step>,
    /// Runs of blobs and pages of bulk loads that they name.
    pub(super) placed: Vec<Placed>,
    /// How much it holds, in bytes: keys, values, and a little for each operation.
    pub(super) weight: usize,
    pub(super) commits: u64,
    /// The LSN of the last record.
    pub(super) last: u64,
}

/// An operation on one key.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) tree: TreeId,
    /// Of the key, behind what all have in common: decides most comparisons. Whoever sorts puts it in.
    pub(super) head: u64,
    /// Of a window's parts, the one that it is in.
    pub(super) part: u32,
    /// Where its key stands in the bodies.
    pub(super) key: Span,
    pub(super) what: What,
}

/// What an operation on a key does, and where it says so in the bodies.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// The key gets this value.
    Put(Span),
    /// The key goes.
    Delete,
    /// The key gets a value that stands apart: where the operation begins.
    PutBlob(u32),
}

/// An operation on a range or on a whole keyspace, after so many points.
pub(super) struct Step {
    pub(super) points: usize,
    /// Of a window's parts, the one that it is in.
    pub(super) part: u32,
    pub(super) at: Range<usize>,
    pub(super) lsn: u64,
}

impl Part {
    /// An empty one with room for `bytes` of records.
    pub(super) fn with_room(bytes: usize) -> Part {
        Part { bodies: Vec::with_capacity(bytes), ..Part::default() }
    }

    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.commits == 0 && self.placed.is_empty()
    }

    /// Adds a record.
    ///
    /// # Errors
    /// It is whole and no commit.
    pub(super) fn add(&mut self, body: &[u8], lsn: u64) -> Result<()> {
        let base = self.bodies.len();
        self.bodies.extend_from_slice(body);
        (self.last, self.commits) = (lsn, self.commits + 1);
        record::each(body, lsn, |at, operation| {
            note_placed(&mut self.placed, &operation);
            let (start, size) = (base + at.start, at.len());
            let Some((tree, key)) = operation.point() else {
                self.weight += size + WEIGHT;
                self.steps.push(Step { points: self.points.len(), part: 0, at: start..start + size, lsn });
                return;
            };
            // Bodies of a part are as long together as the longest record, 1 GiB, and a little more.
            let span = |bytes: &[u8]| Span { at: base as u32 + Span::new(bytes, body).at, len: bytes.len() as u32 };
            let (value, what) = match &operation {
                Operation::Put { value, .. } => (value.len(), What::Put(span(value))),
                Operation::PutBlob { .. } => (0, What::PutBlob(start as u32)),
                _ => (0, What::Delete),
            };
            self.weight += key.len() + value + WEIGHT;
            self.points.push(Point { tree, head: 0, part: 0, key: span(key), what });
        })
    }

    /// Takes from a record only what it names of `data`.
    ///
    /// # Errors
    /// As [`Part::add`].
    pub(super) fn add_placed(&mut self, body: &[u8], lsn: u64) -> Result<()> {
        record::each(body, lsn, |_, operation| note_placed(&mut self.placed, &operation))
    }

    /// A point as an operation.
    ///
    /// # Errors
    /// Those of reading what is said of a blob, at the commit at `lsn`.
    pub(super) fn operation(&self, point: &Point, lsn: u64) -> Result<Operation<'_>> {
        let (tree, key) = (point.tree, self.key(point));
        Ok(match point.what {
            What::Put(value) => Operation::Put { tree, key, value: value.of(&self.bodies) },
            What::Delete => Operation::Delete { tree, key },
            What::PutBlob(at) => record::one(&self.bodies[at as usize..], lsn)?,
        })
    }

    /// The bytes of a point's key.
    pub(super) fn key(&self, point: &Point) -> &[u8] {
        point.key.of(&self.bodies)
    }
}

/// Asks the processor for the bytes of points some points ahead, in the order in which their turn comes.
pub(super) struct PointsAhead<'a, I> {
    parts: &'a [Part],
    points: &'a [Point],
    soon: I,
}

impl<'a, I: Iterator<Item = usize>> PointsAhead<'a, I> {
    pub(super) fn of(parts: &'a [Part], points: &'a [Point], order: I) -> PointsAhead<'a, I> {
        let mut ahead = PointsAhead { parts, points, soon: order };
        (0..AHEAD).for_each(|_| ahead.step());
        ahead
    }

    /// The turn of one point has come.
    pub(super) fn step(&mut self) {
        if let Some(soon) = self.soon.next() {
            let point = &self.points[soon];
            let bytes = &self.parts[point.part as usize].bodies[point.key.at as usize..];
            bytes.chunks(64).take(LINES).for_each(|line| words::fetch(&line[0]));
        }
    }
}

fn note_placed(placed: &mut Vec<Placed>, operation: &Operation<'_>) {
    match operation {
        Operation::PutBlob { blob, .. } => placed.extend(blob.runs.iter().map(|run| (run.page, run.at))),
        Operation::BulkLoad { placed: pages, .. } => placed.extend(pages),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_a_record_is_told() {
        let mut part = Part::default();
        let good = record::single(&Operation::Delete { tree: TreeId(2), key: b"key" });
        assert!(part.add(&good[..good.len() - 1], 7).is_err());
        assert!(part.add(b"\x02", 7).is_err());
        assert!(part.add_placed(b"\x02", 7).is_err());
    }
}
