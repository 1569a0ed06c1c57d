//! Where a record goes: pure arithmetic of positions.
//!
//! ```text
//!   flush_start                         limit: flush_max, or the segment's end
//!   │ header │ piece │ record │ record ─┤├─ header │ rest of the record │ …
//!   0        64                     used
//! ```
//!
//! Invariants:
//! 1. `flush_start` is a multiple of the block; flushes follow each other without a gap.
//! 2. `HEADER_SIZE <= used <= limit`; the open flush is empty if and only if `used == HEADER_SIZE`.
//! 3. A record begins in a flush that has room for at least one byte of it. It is placed whole, at once: a flush is closed in
//!    the middle of a record only because it is full.
//! 4. Placing a record moves the log's end, rounded up to blocks, by at most [`Geometry::room_for`] its body.

use crate::Lsn;
use crate::format::{FRAME_SIZE, HEADER_SIZE};
use crate::lsn::SegmentNo;

/// The sizes that positions are computed from, in bytes. Block and segment size are powers of two; `flush_max` is a multiple of the block,
/// and at most a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// The unit of writes.
    pub(crate) block: u64,
    /// The length of a segment.
    pub(crate) segment_size: u64,
    /// The longest flush.
    pub(crate) flush_max: u64,
}

impl Geometry {
    /// The segment that holds the byte at `lsn`.
    pub(crate) fn segment_of(&self, lsn: Lsn) -> SegmentNo {
        SegmentNo(lsn.0 / self.segment_size)
    }

    /// Where the byte at `lsn` stands in its segment's file.
    pub(crate) fn offset_of(&self, lsn: Lsn) -> u64 {
        lsn.0 % self.segment_size
    }

    /// Where a segment begins.
    pub(crate) fn start_of(&self, segment: SegmentNo) -> Lsn {
        Lsn(segment.0.saturating_mul(self.segment_size))
    }

    /// How many bytes are left in its segment from `lsn` on.
    pub(crate) fn left_in_segment(&self, lsn: Lsn) -> u64 {
        self.segment_size - self.offset_of(lsn)
    }

    /// How long a flush that begins at `start` may become.
    pub(crate) fn flush_limit(&self, start: Lsn) -> u64 {
        self.left_in_segment(start).min(self.flush_max)
    }

    /// The log that a record with a body of `size` bytes takes at worst, in whole blocks: headers of the flushes it spans,
    /// wherever they are cut, and the padding behind it.
    pub(crate) fn room_for(&self, size: u64) -> u64 {
        let framed = size + FRAME_SIZE;
        (framed + HEADER_SIZE * self.headers_max(framed)).next_multiple_of(self.block)
    }

    /// The longest body whose `room_for` is at most `room`.
    pub(crate) fn body_max(&self, room: u64) -> u64 {
        let room = room - room % self.block;
        room.saturating_sub(FRAME_SIZE + HEADER_SIZE * self.headers_max(room))
    }

    /// How many flushes may begin while `bytes` are placed. All but the last are full, and of two full ones in a row one is
    /// `flush_max` long (a shorter one ends its segment).
    fn headers_max(&self, bytes: u64) -> u64 {
        2 + 2 * (bytes / (self.flush_max - 2 * HEADER_SIZE))
    }
}

/// A flush that is closed: no more is placed in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FlushPlan {
    /// Where it begins.
    pub(crate) start: Lsn,
    /// Header and pieces in bytes.
    pub(crate) length: u64,
    /// The offset of the first record that begins in it, 0 if none does.
    pub(crate) first_record: u64,
}

impl FlushPlan {
    /// Where the next flush begins.
    pub(crate) fn end(&self, geometry: &Geometry) -> Lsn {
        self.start.plus(self.length.next_multiple_of(geometry.block))
    }

    /// Whether it carries nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == HEADER_SIZE
    }
}

/// Where a record was placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Its first byte.
    pub(crate) start: Lsn,
    /// The position after its last byte.
    pub(crate) end: Lsn,
    /// The flush that its first byte is in.
    pub(crate) flush_start: Lsn,
}

/// The open flush: where the next record goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    geometry: Geometry,
    flush_start: Lsn,
    used: u64,
    first_record: u64,
}

impl Layout {
    /// An empty flush that begins at `start`, a multiple of the block.
    pub(crate) fn new(geometry: Geometry, start: Lsn) -> Layout {
        assert!(start.0.is_multiple_of(geometry.block), "a flush begins on a block");
        Layout { geometry, flush_start: start, used: HEADER_SIZE, first_record: 0 }
    }

    /// Places a record with a body of `size` bytes. Flushes that become full are closed and given to `closed`.
    pub(crate) fn place(&mut self, size: u64, mut closed: impl FnMut(FlushPlan)) -> Place {
        let mut left = size + FRAME_SIZE;
        if self.used == self.limit() {
            closed(self.close());
        }
        if self.first_record == 0 {
            self.first_record = self.used;
        }
        let (start, flush_start) = (self.flush_start.plus(self.used), self.flush_start);
        loop {
            let piece = left.min(self.limit() - self.used);
            self.used += piece;
            left -= piece;
            if left == 0 {
                break;
            }
            closed(self.close());
        }
        self.assert_state();
        Place { start, end: self.flush_start.plus(self.used), flush_start }
    }

    /// Closes the open flush, empty or not, and opens the one behind it.
    pub(crate) fn close(&mut self) -> FlushPlan {
        let plan = FlushPlan { start: self.flush_start, length: self.used, first_record: self.first_record };
        *self = Layout::new(self.geometry, plan.end(&self.geometry));
        plan
    }

    /// Closes the open flush if it holds anything.
    pub(crate) fn close_if_used(&mut self) -> Option<FlushPlan> {
        (!self.is_empty()).then(|| self.close())
    }

    /// Whether the open flush holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == HEADER_SIZE
    }

    /// Where the next flush would begin if the open one were closed now (an empty one isn't).
    pub(crate) fn end(&self) -> Lsn {
        let used = if self.is_empty() { 0 } else { self.used };
        self.flush_start.plus(used.next_multiple_of(self.geometry.block))
    }

    fn limit(&self) -> u64 {
        self.geometry.flush_limit(self.flush_start)
    }

    fn assert_state(&self) {
        debug_assert!(self.flush_start.0.is_multiple_of(self.geometry.block), "(1)");
        debug_assert!((HEADER_SIZE..=self.limit()).contains(&self.used), "(2)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn geometry(block: u64, segment_size: u64, flush_max: u64) -> Geometry {
        Geometry { block, segment_size, flush_max }
    }

    #[test]
    fn a_record_that_ends_its_flush_exactly_has_the_next_flush_as_its_lsn() {
        let mut layout = Layout::new(geometry(4096, 65536, 8192), Lsn(65536));
        let mut closed = Vec::new();
        let first = layout.place(8192 - HEADER_SIZE - FRAME_SIZE, |plan| closed.push(plan));
        assert_eq!((first.start, first.end), (Lsn(65536 + 64), Lsn(65536 + 8192)));
        assert!(closed.is_empty());
        let second = layout.place(0, |plan| closed.push(plan));
        assert_eq!(closed, [FlushPlan { start: Lsn(65536), length: 8192, first_record: 64 }]);
        assert_eq!((second.flush_start, second.start), (Lsn(73728), Lsn(73728 + 64)));
    }

    #[test]
    fn a_record_crosses_segments_in_flushes_that_don_t() {
        let mut layout = Layout::new(geometry(4096, 65536, 65536), Lsn(65536 - 4096));
        let mut closed = Vec::new();
        let place = layout.place(70_000, |plan| closed.push(plan));
        let lengths: Vec<_> = closed.iter().map(|plan| (plan.start.0, plan.length, plan.first_record)).collect();
        assert_eq!(lengths, [(61440, 4096, 64), (65536, 65536, 0)]);
        assert_eq!(place.end.0 - place.start.0, 70_000 + FRAME_SIZE + 2 * HEADER_SIZE);
        assert_eq!(layout.close(), FlushPlan { start: Lsn(131072), length: place.end.0 - 131072, first_record: 0 });
    }

    #[test]
    fn the_longest_body_for_a_room_fits_it() {
        for flush_max in [4096, 8192, 65536, 1 << 20] {
            let geometry = geometry(4096, 1 << 20, flush_max);
            for room in (0..400).map(|i| i * 3000) {
                let body = geometry.body_max(room);
                assert!(body == 0 || geometry.room_for(body) <= room, "{flush_max} {room} {body}");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Place(u64),
        Close,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = prop_oneof![0u64..200, 3900u64..4200, 0u64..20_000, 60_000u64..140_000];
        let step = prop_oneof![3 => size.prop_map(Step::Place), 1 => Just(Step::Close)];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn flushes_tile_the_log_and_carry_the_records(
            steps in steps(),
            start_block in 0u64..64,
            flush_blocks in 1u64..17,
            block in prop::sample::select(vec![4096u64, 8192]),
        ) {
            let geometry = geometry(block, 131_072, (flush_blocks * block).min(131_072));
            let start = Lsn(start_block * block);
            let mut layout = Layout::new(geometry, start);
            let mut plans = Vec::new();
            let mut places = Vec::new();
            for step in steps {
                let before = layout.end();
                match step {
                    Step::Place(size) => {
                        let place = layout.place(size, |plan| plans.push(plan));
                        prop_assert!(layout.end().since(before) <= geometry.room_for(size), "(4)");
                        prop_assert!(place.end <= layout.end());
                        places.push((place, size + FRAME_SIZE));
                    }
                    Step::Close => plans.extend(layout.close_if_used()),
                }
            }
            plans.extend(layout.close_if_used());
            check_tiling(&geometry, start, &plans)?;
            check_places(&plans, &places)?;
            prop_assert_eq!(plans.last().map_or(start, |plan| plan.end(&geometry)), layout.end());
        }
    }

    fn check_tiling(geometry: &Geometry, start: Lsn, plans: &[FlushPlan]) -> Result<(), TestCaseError> {
        let mut next = start;
        for plan in plans {
            prop_assert_eq!(plan.start, next);
            prop_assert!(!plan.is_empty() && plan.length <= geometry.flush_max);
            next = plan.end(geometry);
            prop_assert_eq!(geometry.segment_of(plan.start), geometry.segment_of(Lsn(next.0 - 1)));
        }
        Ok(())
    }

    /// The payload of all flushes is the records, one behind the other; places and first records say where.
    fn check_places(plans: &[FlushPlan], places: &[(Place, u64)]) -> Result<(), TestCaseError> {
        let payload = |plan: &FlushPlan| {
            let start = plan.start;
            (HEADER_SIZE..plan.length).map(move |offset| (start, start.plus(offset)))
        };
        let mut bytes = plans.iter().flat_map(payload);
        let mut firsts = std::collections::BTreeMap::new();
        for (place, framed) in places {
            let (flush, first) = bytes.next().ok_or_else(|| TestCaseError::fail("a record without bytes"))?;
            prop_assert_eq!((flush, first), (place.flush_start, place.start));
            firsts.entry(flush).or_insert(first.since(flush));
            let last = if *framed > 1 { bytes.nth(*framed as usize - 2).map(|(_, at)| at) } else { Some(first) };
            prop_assert_eq!(last.map(|at| at.plus(1)), Some(place.end));
        }
        prop_assert!(bytes.next().is_none());
        for plan in plans {
            prop_assert_eq!(plan.first_record, firsts.get(&plan.start).copied().unwrap_or(0));
        }
        Ok(())
    }
}
