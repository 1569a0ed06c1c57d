//! Where the log ends.
//!
//! Recovery follows flushes from C on. What stands where the next one should begin decides:
//!
//! | a valid flush, its incarnation is      | decision                                               |
//! | -------------------------------------- | ------------------------------------------------------ |
//! | at or above the last one's, admitted   | follow it                                              |
//! | above what the superblock admits       | corrupted: log and superblock are not of the same time |
//! | below the last one's                   | a gap: left over from before a crash                   |
//! | (no valid flush)                       | a gap                                                  |
//!
//! | a gap, and                                                                | decision                         |
//! | ------------------------------------------------------------------------- | -------------------------------- |
//! | the superblock says that the log was durable beyond its start             | corrupted                        |
//! | a valid flush of an incarnation not below C's says so                     | corrupted                        |
//! | a segment from the gap's on begins with a flush of another database       | corrupted                        |
//! | neither                                                                   | the torn, unconfirmed tail: end  |
//!
//! Why that is right, with one flush in flight at a time:
//! 1. A flush that was confirmed, but is not the last, has a successor, which says that the log was durable up to its end. So damage to
//!    a confirmed flush makes a gap that a later flush vouches against: as long as that one is whole, and be there more damage in
//!    between. The last one has the witness flush that is written when the log falls idle.
//! 2. An unconfirmed flush has no such successor: what was written before claims at most the start of the gap, what a later
//!    incarnation writes begins at the gap.
//! 3. Leftovers in recycled segments belong to other positions, and each flush names its own. Leftovers of a torn tail that
//!    lie behind what a later incarnation wrote have a lower incarnation.
//!
//! 4. A flush that says so stands behind the gap or, where segments were exchanged, anywhere; what recycling leaves behind is
//!    older than C and says less. A segment's first block is never anything but zeros or a flush's header, so a flush of another
//!    database there is no content of ours: the log's files were exchanged.
//!
//! Where it is looked for: all through the gap's segment and the next one. Of a later segment the first block says whether it was ever
//! written to since it was recycled: if what recycling has left stands there, it is passed over; whatever else stands there, readable or not,
//! it is searched. So an open takes no longer where the log may be long, and damage is still told in every case but this: nothing is
//! whole any more from the gap to the end of the next segment, and each one behind that which was written to has got its old beginning
//! back. (Random models of this are `tests/tests/model_log_end.rs` and, with segments that move, `model_log_recycling.rs`.)
//!
//! A read error is not a gap: it ends recovery with that error.
//!
//! A superblock may say that its database was closed with nothing in the log from C on. Then the log ends at C, and is not searched
//! ([`check_empty`]): what was confirmed is in the checkpoint. That it is so is still looked at where it costs nearly nothing: what would
//! follow C is told from what was left over as above. A flush there is one that was written after that superblock: a later superblock was
//! lost.

use crate::format::{FlushHeader, Unfit};
use crate::lsn::SegmentNo;
use crate::pool::last_needed;
use crate::reader::LogStart;
use crate::window::Window;
use crate::{Damage, Lsn, Result};

/// Why the log ends where it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LogEnd {
    /// Nothing was ever written behind it.
    Unwritten,
    /// What stands behind it is older: of another position, another database, or no flush at all.
    Leftover,
    /// The flush behind it is not whole: it was being written when the machine or the process stopped, and was not confirmed.
    Torn,
    /// The flush behind it is left over from before a crash: of this older incarnation.
    OlderIncarnation(u32),
}

impl std::fmt::Display for LogEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogEnd::Unwritten => f.write_str("nothing was written behind it"),
            LogEnd::Leftover => f.write_str("what stands behind it is left over from an earlier use of the segment"),
            LogEnd::Torn => f.write_str("the flush behind it is not whole and was not confirmed"),
            LogEnd::OlderIncarnation(found) => {
                write!(f, "the flush behind it is left over from incarnation {found}, before a crash")
            }
        }
    }
}

/// What to do about what stands where the next flush should begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It is the next flush.
    Follow(FlushHeader),
    /// It isn't; unless something says that there was one, the log ends here.
    Gap(LogEnd),
    /// It can't be.
    Damaged(Damage),
}

/// The first table. `last` is the incarnation of the flush before, or at C; `newest` what the superblock admits.
pub(crate) fn classify(found: Result<FlushHeader, Unfit>, last: u32, newest: u32) -> Step {
    match found {
        Ok(flush) if flush.incarnation > newest => Step::Damaged(Damage::UnknownIncarnation { found: flush.incarnation, newest }),
        Ok(flush) if flush.incarnation >= last => Step::Follow(flush),
        Ok(flush) => Step::Gap(LogEnd::OlderIncarnation(flush.incarnation)),
        Err(Unfit::Blank) => Step::Gap(LogEnd::Unwritten),
        Err(Unfit::NotAFlush | Unfit::Foreign | Unfit::Elsewhere) => Step::Gap(LogEnd::Leftover),
        Err(Unfit::Broken | Unfit::Version(_)) => Step::Gap(LogEnd::Torn),
    }
}

/// The second table: an error if the gap at `gap` was once confirmed, or if a segment that must be there is missing.
/// `start` is what the superblock knows.
pub(crate) fn check_gap(window: &mut Window, gap: Lsn, start: &LogStart) -> Result<()> {
    let (durable, segments) = (start.durable, window.directory().list()?);
    if let Some(voucher) = find_voucher(window, &segments, gap, start)? {
        let damage = Damage::Confirmed { witness: voucher.lsn, durable: voucher.durable };
        return Err(window.damaged(gap, voucher.durable, damage));
    }
    if durable > gap {
        return Err(window.damaged(gap, durable, Damage::ConfirmedBySuperblock { durable }));
    }
    check_needed(window, &segments, gap)
}

/// Whether a log of which the superblock says that nothing stands at `c` or behind it looks like that: at `c`, and where each segment behind
/// it begins. An error where it does not, or if a segment that must be there is missing. The rest is not read.
pub(crate) fn check_empty(window: &mut Window, c: Lsn, incarnation_at_c: u32, newest: u32) -> Result<LogEnd> {
    let found = window.flush_at(c)?;
    let why = match classify(found, incarnation_at_c, newest) {
        Step::Gap(why) => why,
        Step::Follow(flush) => return Err(window.damaged(c, c, Damage::NotEmpty { found: flush.incarnation })),
        Step::Damaged(damage) => return Err(window.damaged(c, c, damage)),
    };
    let segments = window.directory().list()?;
    let behind: Vec<_> = segments.iter().copied().filter(|&segment| window.geometry().start_of(segment) > c).collect();
    for segment in behind {
        let first = window.geometry().start_of(segment);
        if !begins_with_leftovers(window, first, c)?
            && let Some(flush) = flush_anywhere(window, first, true)?
            && vouches(&flush, c, incarnation_at_c)
        {
            let damage = Damage::Confirmed { witness: flush.lsn, durable: flush.durable };
            return Err(window.damaged(c, flush.durable, damage));
        }
    }
    check_needed(window, &segments, c)?;
    Ok(why)
}

fn check_needed(window: &Window, segments: &[SegmentNo], end: Lsn) -> Result<()> {
    let needed = last_needed(window.geometry(), end);
    if segments.binary_search(&needed).is_err() {
        return Err(window.directory().damaged(needed, Damage::MissingSegment));
    }
    Ok(())
}

/// Whether a flush says that what stood at `gap` was confirmed once.
fn vouches(flush: &FlushHeader, gap: Lsn, incarnation_min: u32) -> bool {
    flush.durable > gap && flush.incarnation >= incarnation_min
}

/// The valid flush at `lsn`, wherever it belongs. A segment's `first` block never holds one of another database.
fn flush_anywhere(window: &mut Window, lsn: Lsn, first: bool) -> Result<Option<FlushHeader>> {
    match window.flush_at(lsn)? {
        Ok(flush) => Ok(Some(flush)),
        Err(Unfit::Elsewhere) => window.stray_at(lsn),
        Err(Unfit::Foreign) if first && window.stray_at(lsn)?.is_some() => {
            let end = window.geometry().start_of(window.geometry().segment_of(lsn).next());
            Err(window.damaged(lsn, end, Damage::ForeignSegment))
        }
        Err(_) => Ok(None),
    }
}

/// A valid flush in the segments from that of `gap` on, wherever it belongs, that says that the log was durable beyond it.
fn find_voucher(window: &mut Window, segments: &[SegmentNo], gap: Lsn, start: &LogStart) -> Result<Option<FlushHeader>> {
    let geometry = *window.geometry();
    let own = geometry.segment_of(gap);
    let mut beginnings = window.beside().by_blocks();
    for &segment in segments.iter().filter(|&&segment| segment >= own) {
        let (first, end) = (geometry.start_of(segment), geometry.start_of(segment.next()));
        if segment > own.next() && begins_with_leftovers(&mut beginnings, first, start.c)? {
            continue;
        }
        let mut lsn = first.max(gap);
        while lsn < end {
            match flush_anywhere(window, lsn, lsn == first)? {
                Some(flush) if vouches(&flush, gap, start.incarnation_at_c) => return Ok(Some(flush)),
                _ => lsn = lsn.plus(geometry.block),
            }
        }
    }
    Ok(None)
}

/// Whether the segment that begins at `first` begins with what recycling has left: a flush of ours that began a segment before C's. Its
/// checksum is not looked at, since it may be long; that one which was written here says such a thing takes damage to two of its fields.
fn begins_with_leftovers(window: &mut Window, first: Lsn, c: Lsn) -> Result<bool> {
    let geometry = *window.geometry();
    let Some(claimed) = window.claimed_by_us_at(first)? else { return Ok(false) };
    let began_a_segment = claimed.lsn.0.is_multiple_of(geometry.segment_size);
    Ok(began_a_segment && claimed.lsn < geometry.start_of(geometry.segment_of(c)) && claimed.durable <= claimed.lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_the_first_table() {
        for (found, last, newest) in (0..5).flat_map(|a| (0..5).flat_map(move |b| (0..5).map(move |c| (a, b, c)))) {
            let flush = FlushHeader { incarnation: found, lsn: Lsn(4096), durable: Lsn(0), length: 64, first_record: 0 };
            let step = classify(Ok(flush), last, newest);
            let wanted = if found > newest {
                Step::Damaged(Damage::UnknownIncarnation { found, newest })
            } else if found < last {
                Step::Gap(LogEnd::OlderIncarnation(found))
            } else {
                Step::Follow(flush)
            };
            assert_eq!(step, wanted);
        }
        for (unfit, end) in [
            (Unfit::Blank, LogEnd::Unwritten),
            (Unfit::NotAFlush, LogEnd::Leftover),
            (Unfit::Foreign, LogEnd::Leftover),
            (Unfit::Elsewhere, LogEnd::Leftover),
            (Unfit::Broken, LogEnd::Torn),
        ] {
            assert_eq!(classify(Err(unfit), 1, 2), Step::Gap(end));
        }
    }
}
