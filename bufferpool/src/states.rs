//! The states of a frame, and what each event makes of them: pure functions, checked by enumeration.
//!
//! *cur* is the current epoch. A frame's *image* is a packed copy of its page on its way to disk; at most one is in flight.
//!
//! ```text
//!           load                  write                      pack                     done
//!   Free ─────────▶ Reading ─▶ Clean(at) ───────▶ Dirty(e) ───────▶ Writing(e) ────────────────▶ Clean(at)
//!    ▲ evict, free      │fails     ▲                 │  ▲                │ write, e ≤ cur
//!    └──────────────────┴──────────┘                 │  │ done           ▼
//!                                                    │  └──────── Rewritten(image e, dirty d)
//!                       write or free in a later     │                   │ write or free in an epoch after d
//!                       epoch s; the page goes on    ▼                   ▼
//!                       in a copy, or is gone   Detached(e, s) ◀── DetachedRewritten(image, dirty, s)
//!                                            pack │   ▲ fails       done
//!                                                 ▼   │
//!                                         DetachedWriting(e, s) ─done─▶ Free       Orphaned(image, s) ─done─▶ Free
//! ```
//!
//! 1. *Frozen*: Dirty(e) with e before *cur*, and every Detached state: these bytes don't change. Packing copies them, and from
//!    then on the frame may change.
//! 2. An image belongs to the epoch in which its frame became dirty.
//! 3. A frame *owes* its epochs' images ([`State::owes`]) until they have been written and recorded. A checkpoint of epoch e
//!    is written when nothing owes an image of e or before.
//! 4. A detached frame belongs to no page-table slot and is not among those that eviction chooses from.

use crate::block_ptr::BlockPtr;
use crate::page_id::Epoch;
use crate::store::Fate;

/// What a frame holds, and what is still to be done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Nothing: in the list of free frames, or in a reservation.
    Free,
    /// A page that is being read into it.
    Reading,
    /// A page as it stands on disk.
    Clean { at: BlockPtr },
    /// A page changed in `epoch`, of which no image exists.
    Dirty { epoch: Epoch },
    /// As its image that is being written.
    Writing { epoch: Epoch },
    /// Changed in `dirty` while an older image is being written.
    Rewritten { image: Epoch, dirty: Epoch },
    /// The page as it was at the end of `epoch`, to be written for that epoch's checkpoint; it has a successor, or was freed,
    /// in `superseded`.
    Detached { epoch: Epoch, superseded: Epoch },
    /// The same, being written.
    DetachedWriting { epoch: Epoch, superseded: Epoch },
    /// Detached, while an older image is being written.
    DetachedRewritten { image: Epoch, dirty: Epoch, superseded: Epoch },
    /// Nothing that is wanted any more; an image of it is being written, which was superseded in `superseded`.
    Orphaned { image: Epoch, superseded: Epoch },
}

/// What a change of a page begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// The frame is dirty in this epoch already.
    Already,
    /// The frame may be changed, and is in this state from now on.
    InPlace(State),
    /// The frame is frozen: it goes to this state, and the page goes on in a copy.
    Copy(State),
}

/// An image that has been written, and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    pub(crate) next: State,
    pub(crate) image: Epoch,
    pub(crate) fate: Fate,
}

impl State {
    /// The page is about to be changed in `cur`. `None` in a state in which no page stands in the frame.
    pub(crate) fn change(self, cur: Epoch) -> Option<Change> {
        Some(match self {
            State::Clean { .. } => Change::InPlace(State::Dirty { epoch: cur }),
            State::Writing { epoch } => Change::InPlace(State::Rewritten { image: epoch, dirty: cur }),
            State::Dirty { epoch: dirty } | State::Rewritten { dirty, .. } if dirty == cur => Change::Already,
            State::Dirty { epoch } => Change::Copy(State::Detached { epoch, superseded: cur }),
            State::Rewritten { image, dirty } => Change::Copy(State::DetachedRewritten { image, dirty, superseded: cur }),
            _ => return None,
        })
    }

    /// The page is freed in `cur`. `None` in a state in which no page stands in the frame.
    pub(crate) fn free(self, cur: Epoch) -> Option<State> {
        Some(match self {
            State::Clean { .. } => State::Free,
            State::Dirty { epoch } if epoch == cur => State::Free,
            State::Dirty { epoch } => State::Detached { epoch, superseded: cur },
            State::Writing { epoch } if epoch == cur => State::Orphaned { image: epoch, superseded: cur },
            // The frame still is as its image, so that a failed write can be tried again.
            State::Writing { epoch } => State::DetachedWriting { epoch, superseded: cur },
            State::Rewritten { image, dirty } if dirty == cur => State::Orphaned { image, superseded: cur },
            State::Rewritten { image, dirty } => State::DetachedRewritten { image, dirty, superseded: cur },
            _ => return None,
        })
    }

    /// An image is packed: the state from then on, and the image's epoch. `None` where there is nothing to write now.
    pub(crate) fn pack(self) -> Option<(State, Epoch)> {
        match self {
            State::Dirty { epoch } => Some((State::Writing { epoch }, epoch)),
            State::Detached { epoch, superseded } => Some((State::DetachedWriting { epoch, superseded }, epoch)),
            _ => None,
        }
    }

    /// The image in flight has been written to `at`. `None` where none is in flight.
    pub(crate) fn written(self, at: BlockPtr) -> Option<Written> {
        let superseded_in = |image, epoch| if image == epoch { Fate::SupersededInEpoch } else { Fate::SupersededIn(epoch) };
        let (next, image, fate) = match self {
            State::Writing { epoch } => (State::Clean { at }, epoch, Fate::Current),
            State::Rewritten { image, dirty } => (State::Dirty { epoch: dirty }, image, superseded_in(image, dirty)),
            State::DetachedWriting { epoch, superseded } => (State::Free, epoch, superseded_in(epoch, superseded)),
            State::DetachedRewritten { image, dirty, superseded } => {
                (State::Detached { epoch: dirty, superseded }, image, superseded_in(image, dirty))
            }
            State::Orphaned { image, superseded } => (State::Free, image, superseded_in(image, superseded)),
            _ => return None,
        };
        Some(Written { next, image, fate })
    }

    /// The write of the image in flight has failed. Where the frame has changed since, the image is lost, and only merging its
    /// epoch into a later one heals that. `None` where none is in flight.
    pub(crate) fn write_failed(self) -> Option<State> {
        Some(match self {
            State::Writing { epoch } => State::Dirty { epoch },
            State::Rewritten { dirty, .. } => State::Dirty { epoch: dirty },
            State::DetachedWriting { epoch, superseded } => State::Detached { epoch, superseded },
            State::DetachedRewritten { dirty, superseded, .. } => State::Detached { epoch: dirty, superseded },
            State::Orphaned { .. } => State::Free,
            _ => return None,
        })
    }

    /// The checkpoint of epoch `last`, and whatever is before, will not be finished: all of it belongs to `into`. Frozen frames
    /// that have a successor are not needed any more.
    pub(crate) fn merge(self, last: Epoch, into: Epoch) -> State {
        let later = |epoch: Epoch| if epoch <= last { into } else { epoch };
        match self {
            State::Dirty { epoch } => State::Dirty { epoch: later(epoch) },
            State::Writing { epoch } => State::Writing { epoch: later(epoch) },
            State::Rewritten { image, dirty } => State::Rewritten { image: later(image), dirty: later(dirty) },
            State::Detached { epoch, .. } if epoch <= last => State::Free,
            State::DetachedWriting { epoch, .. } if epoch <= last => State::Orphaned { image: into, superseded: into },
            State::DetachedRewritten { dirty, .. } if dirty <= last => State::Orphaned { image: into, superseded: into },
            State::Orphaned { image, .. } if image <= last => State::Orphaned { image: into, superseded: into },
            other => other,
        }
    }

    /// The epochs whose images it owes (3).
    pub(crate) fn owes(self) -> [Option<Epoch>; 2] {
        // An image that was superseded within its own epoch is owed to nobody.
        let unless = |image: Epoch, superseded: Epoch| (image != superseded).then_some(image);
        match self {
            State::Free | State::Reading | State::Clean { .. } => [None, None],
            State::Dirty { epoch } | State::Writing { epoch } => [Some(epoch), None],
            State::Detached { epoch, .. } | State::DetachedWriting { epoch, .. } => [Some(epoch), None],
            State::Rewritten { image, dirty } => [Some(dirty), unless(image, dirty)],
            State::DetachedRewritten { image, dirty, .. } => [Some(dirty), unless(image, dirty)],
            State::Orphaned { image, superseded } => [unless(image, superseded), None],
        }
    }

    /// The epoch for which its bytes, as they are, have yet to be packed.
    pub(crate) fn unpacked(self) -> Option<Epoch> {
        match self {
            State::Dirty { epoch } | State::Detached { epoch, .. } => Some(epoch),
            State::Rewritten { dirty, .. } | State::DetachedRewritten { dirty, .. } => Some(dirty),
            _ => None,
        }
    }

    /// The epoch in which its page may be changed without further ado.
    pub(crate) fn writable_in(self) -> Option<Epoch> {
        match self {
            State::Dirty { epoch: dirty } | State::Rewritten { dirty, .. } => Some(dirty),
            _ => None,
        }
    }

    /// Whether it can't be given to another page before something is written: dirty, being written, or detached.
    pub(crate) fn is_unclean(self) -> bool {
        !matches!(self, State::Free | State::Reading | State::Clean { .. })
    }

    /// Whether it belongs to no page-table slot although it is in use (4).
    pub(crate) fn is_detached(self) -> bool {
        matches!(
            self,
            State::Detached { .. } | State::DetachedWriting { .. } | State::DetachedRewritten { .. } | State::Orphaned { .. }
        )
    }

    /// Whether an event leads from this state to `next`: the diagram above, in `cur` (whose images alone can be superseded
    /// within their epoch). Every transition is checked against it.
    pub(crate) fn leads_to(self, next: State, cur: Epoch) -> bool {
        use State::*;
        let by_change = match self.change(cur) {
            Some(Change::InPlace(state) | Change::Copy(state)) => next == state,
            _ => false,
        };
        let by_image = match next {
            Clean { at } => matches!(self, Reading) || self.written(at).is_some_and(|written| written.next == next),
            _ => self.written(BlockPtr::LOWEST).is_some_and(|written| written.next == next) || self.write_failed() == Some(next),
        };
        let known = by_change
            || by_image
            || self.free(cur) == Some(next)
            || self.pack().is_some_and(|(state, _)| state == next)
            || self.merge(Epoch(cur.0.saturating_sub(1)), cur) == next
            || matches!((self, next), (Free, Reading) | (Reading, Free) | (Clean { .. }, Free))
            || self == Free && next == Dirty { epoch: cur };
        known && next != self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUR: Epoch = Epoch(5);

    /// Every state with epochs that a pool in `CUR` can be in.
    fn all() -> Vec<State> {
        let at = BlockPtr::LOWEST;
        let mut all = vec![State::Free, State::Reading, State::Clean { at }];
        for dirty in [4, 5].map(Epoch) {
            all.extend([State::Dirty { epoch: dirty }, State::Writing { epoch: dirty }]);
            for image in [4, 5].map(Epoch).into_iter().filter(|&image| image <= dirty) {
                all.push(State::Rewritten { image, dirty });
                all.push(State::Orphaned { image, superseded: dirty });
            }
        }
        let (epoch, superseded) = (Epoch(4), CUR);
        all.push(State::Detached { epoch, superseded });
        all.push(State::DetachedWriting { epoch, superseded });
        all.push(State::DetachedRewritten { image: epoch, dirty: epoch, superseded });
        all
    }

    #[test]
    fn a_change_leaves_the_page_writable_in_the_current_epoch() {
        for state in all() {
            match state.change(CUR) {
                Some(Change::Already) => assert_eq!(state.writable_in(), Some(CUR)),
                Some(Change::InPlace(next)) => assert_eq!(next.writable_in(), Some(CUR), "{state:?}"),
                Some(Change::Copy(next)) => {
                    assert!(next.is_detached() && next.writable_in().is_none(), "{state:?}");
                    assert!(state.writable_in().is_some_and(|epoch| epoch < CUR), "only frozen frames are copied");
                    assert_eq!(next.owes(), state.owes(), "an image is owed whoever holds it");
                }
                None => assert!(state.is_detached() || matches!(state, State::Free | State::Reading)),
            }
        }
    }

    #[test]
    fn frozen_images_are_owed_until_they_are_written() {
        for state in all() {
            let old = |state: State| state.owes().contains(&Some(Epoch(4)));
            let mut events: Vec<State> = state.free(CUR).into_iter().collect();
            events.extend(state.pack().map(|(next, _)| next));
            if let Some(Change::InPlace(next) | Change::Copy(next)) = state.change(CUR) {
                events.push(next);
            }
            for next in events {
                assert_eq!(old(next), old(state), "{state:?} to {next:?}: only writing pays what an ended epoch is owed");
            }
            if let Some(written) = state.written(BlockPtr::LOWEST) {
                let paid = state.owes().into_iter().flatten().find(|epoch| !written.next.owes().contains(&Some(*epoch)));
                match written.fate {
                    Fate::SupersededInEpoch => assert_eq!(paid, None, "{state:?}"),
                    Fate::Current => assert_eq!(paid, Some(written.image), "{state:?}"),
                    Fate::SupersededIn(later) => {
                        assert_eq!(paid, Some(written.image), "{state:?}");
                        assert!(later > written.image);
                    }
                }
            }
        }
    }

    #[test]
    fn a_merge_leaves_nothing_of_the_epoch() {
        for state in all() {
            let merged = state.merge(Epoch(4), CUR);
            assert!(!merged.owes().contains(&Some(Epoch(4))), "{state:?} to {merged:?}");
            assert_eq!(merged.written(BlockPtr::LOWEST).is_some(), state.written(BlockPtr::LOWEST).is_some(), "{state:?}");
            assert_eq!(merged.merge(Epoch(4), CUR), merged);
            assert!(state == merged || state.leads_to(merged, CUR));
        }
    }

    #[test]
    fn what_no_event_leads_to_is_refused() {
        let at = BlockPtr::LOWEST;
        let (old, superseded) = (Epoch(4), CUR);
        for (from, to) in [
            (State::Free, State::Free),
            (State::Free, State::Clean { at }),
            (State::Free, State::Dirty { epoch: old }),
            (State::Reading, State::Dirty { epoch: CUR }),
            (State::Clean { at }, State::Writing { epoch: CUR }),
            (State::Clean { at }, State::Dirty { epoch: old }),
            (State::Dirty { epoch: CUR }, State::Clean { at }),
            (State::Dirty { epoch: old }, State::Free),
            (State::Dirty { epoch: CUR }, State::Detached { epoch: CUR, superseded }),
            (State::Writing { epoch: CUR }, State::Free),
            (State::Writing { epoch: CUR }, State::Detached { epoch: CUR, superseded }),
            (State::Rewritten { image: old, dirty: CUR }, State::Clean { at }),
            (State::Rewritten { image: old, dirty: CUR }, State::Free),
            (State::DetachedWriting { epoch: old, superseded }, State::Clean { at }),
            (State::Orphaned { image: old, superseded }, State::Dirty { epoch: CUR }),
        ] {
            assert!(!from.leads_to(to, CUR), "{from:?} to {to:?}");
        }
    }
}
