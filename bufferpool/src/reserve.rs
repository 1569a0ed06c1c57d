//! Getting free frames, waiting for them with nothing latched.
//!
//! 1. Reservations and unclean frames together are at most `unclean_max`, so that reads always have frames. A writer that
//!    would pass that waits for write-back here, before it begins; write-back takes frozen copies first, so it waits for one
//!    batch and not for the checkpoint.
//! 2. What is taken is taken at once or not at all: nobody waits for frames with some of a reservation in hand.
//! 3. In turn: a free frame; a clean victim; a dirty one, written; whatever else is under way.

use crate::core::Core;
use crate::evict::{Evicted, Victim};
use crate::held;
use crate::hold::Reservation;
use crate::pool::{LoadError, ReserveError};
use crate::progress::Seen;
use crate::slot::FrameId;
use crate::store::PageStore;
use std::sync::Arc;

impl<S: PageStore> Core<S> {
    /// Fills the reservation up to `n` frames.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        reservation: &mut Reservation<'_, S>,
        n: usize,
    ) -> Result<(), ReserveError<S::Error>> {
        assert!(reservation.belongs_to(self), "a reservation of another pool");
        held::assert_no_latch("a reservation");
        if n > self.limits.unclean_max {
            return Err(ReserveError::CacheTooSmall { needed: n, frames_max: self.limits.unclean_max });
        }
        self.open_ids(n)?;
        if self.try_fill(reservation, n) {
            return Ok(());
        }
        // From here on it may have to wait, and then with nothing in hand (2).
        reservation.give_back();
        let mut waits = Waits::default();
        loop {
            let seen = self.progress.seen();
            if self.try_fill(reservation, n) {
                return Ok(());
            }
            let need = Need { frames: n.saturating_sub(self.free.len()), unclean: n };
            self.make_room(need, seen, &mut waits).map_err(ReserveError::WriteBack)?;
        }
    }

    fn try_fill(&self, reservation: &mut Reservation<'_, S>, n: usize) -> bool {
        let missing = n.saturating_sub(reservation.len());
        let unclean = || self.ledger.unclean();
        let allowed = |reserved: usize| unclean() + reserved <= self.limits.unclean_max;
        // Asked even where nothing is missing: whoever is past the limit waits, however many frames it has.
        self.free.reserve(missing, reservation.frames_mut(), allowed)
    }

    /// A frame for reading into, waited for.
    pub(crate) fn obtain_frame(self: &Arc<Self>) -> Result<FrameId, LoadError<S::Error>> {
        let mut waits = Waits::default();
        loop {
            let seen = self.progress.seen();
            if let Some(frame) = self.free.take() {
                return Ok(frame);
            }
            self.make_room(Need { frames: 1, unclean: 0 }, seen, &mut waits).map_err(LoadError::WriteBack)?;
        }
    }

    /// A frame for reading into, if one can be had without waiting for anything.
    pub(crate) fn obtain_frame_at_once(&self) -> Option<FrameId> {
        self.free.take().or_else(|| {
            self.evict(self.limits.victims);
            self.free.take()
        })
    }

    /// Does one thing that leads to free frames; where there is nothing to do it waits.
    fn make_room(self: &Arc<Self>, need: Need, seen: Seen, waits: &mut Waits) -> Result<(), S::Error> {
        let over_limit =
            need.unclean > 0 && self.ledger.unclean() + self.free.reserved() + need.unclean > self.limits.unclean_max;
        let mut found = Evicted::default();
        if need.frames > 0 {
            let cleaned = waits.written.drain(..).filter(|&frame| self.try_evict(frame) == Victim::Evicted).count();
            found = self.evict(need.frames.max(self.limits.victims).saturating_sub(cleaned));
            if cleaned + found.freed > 0 && !over_limit {
                return Ok(());
            }
        }
        if let Some(error) = self.write_error() {
            if self.is_hopeless(need, &found) {
                return Err(error);
            }
        } else if self.writes_in_flight() < WRITES_MAX {
            let written = if over_limit { self.write_oldest() } else { self.write_frames(&found.dirty) };
            waits.written.extend(written);
        }
        if !waits.counted {
            waits.counted = true;
            self.counters.waits_for_frames.add(1);
        }
        match found.busy {
            // It is somebody's for a moment: nothing is in the way of waiting for just that.
            Some(frame) if waits.written.is_empty() => self.await_latch(frame),
            _ => self.progress.wait(&self.store, seen),
        }
        Ok(())
    }

    /// Whether, now that nothing can be written, waiting can't help: nothing is under way that would give frames back. A reader
    /// waits for the holds of others as well (a quarter of the frames is never unclean); a writer fails sooner.
    fn is_hopeless(&self, need: Need, found: &Evicted) -> bool {
        let under_way = self.progress.outstanding() + self.reads_under_way() + self.free.reserved();
        let stuck = under_way == 0 && found.busy.is_none();
        match need.unclean {
            0 => stuck && found.held == 0,
            n => stuck || self.ledger.unclean() + n > self.limits.unclean_max,
        }
    }

    /// Opens the page table for `n` new ids beside those of other reservations, so that making a page can't fail.
    pub(crate) fn open_ids(&self, n: usize) -> Result<(), ReserveError<S::Error>> {
        let end = self.ids_end().max(self.store.ids_end()) + (self.free.reserved() + n) as u64;
        if end > self.table.pages_max() {
            return Err(ReserveError::TooManyPages { pages_max: self.table.pages_max() });
        }
        Ok(self.table.open_below(end)?)
    }
}

/// Write-back by those who wait for frames keeps at most so many batches in flight.
const WRITES_MAX: usize = 4;

/// What somebody lacks.
#[derive(Clone, Copy)]
struct Need {
    /// Free frames beyond those there are.
    frames: usize,
    /// Frames that it may make unclean.
    unclean: usize,
}

/// What a wait for frames has done so far.
#[derive(Default)]
struct Waits {
    counted: bool,
    /// Victims that were written, to be evicted next.
    written: Vec<FrameId>,
}
