//! Checkpoints that somebody reads after newer ones have become durable: their blocks are not given out.
//!
//! Invariants:
//! 1. While the checkpoint of epoch `s` is held, nothing that was freed in an epoch after `s` is given out: what that checkpoint names
//!    went, if at all, after it. So did what the log named beyond that checkpoint when it was held.
//! 2. Page ids are not held: whoever reads a checkpoint has a page map of its own.

use super::Store;
use ashlar_bufferpool::Epoch;

/// See the module.
#[derive(Debug)]
pub(super) struct Held {
    /// The epoch of the last durable checkpoint.
    durable: Epoch,
    /// Epochs of those that are held, each as often as it is.
    holds: Vec<Epoch>,
}

impl Held {
    /// Nothing is held, and no checkpoint has become durable since the open.
    pub(super) fn new() -> Held {
        Held { durable: Epoch(0), holds: Vec::new() }
    }

    /// The checkpoint of `epoch` is durable; the epoch up to which what was freed may be given out.
    pub(super) fn checkpoint_durable(&mut self, epoch: Epoch) -> Epoch {
        self.durable = self.durable.max(epoch);
        self.free_up_to()
    }

    fn free_up_to(&self) -> Epoch {
        self.holds.iter().min().map_or(self.durable, |&oldest| oldest.min(self.durable))
    }

    /// Whether what waits for a checkpoint that is durable already waits for whoever holds an older one.
    pub(super) fn holds_back(&self) -> Option<Epoch> {
        (self.free_up_to() < self.durable).then_some(self.durable)
    }
}

impl Store {
    /// Holds the last durable checkpoint. The caller sees to it that no other becomes durable meanwhile.
    pub(crate) fn hold_checkpoint(&self) -> Epoch {
        let mut inner = self.inner.lock();
        let epoch = inner.held.durable;
        inner.held.holds.push(epoch);
        epoch
    }

    /// Lets go of a checkpoint that was held.
    pub(crate) fn release_checkpoint(&self, epoch: Epoch) {
        let mut inner = self.inner.lock();
        if let Some(at) = inner.held.holds.iter().position(|&held| held == epoch) {
            inner.held.holds.swap_remove(at);
        }
        let free_up_to = inner.held.free_up_to();
        inner.space.checkpoint_durable(free_up_to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_held_holds_back() {
        let mut held = Held::new();
        assert_eq!(held.checkpoint_durable(Epoch(3)), Epoch(3));
        held.holds.push(Epoch(3));
        assert_eq!((held.checkpoint_durable(Epoch(4)), held.holds_back()), (Epoch(3), Some(Epoch(4))));
        held.holds.push(Epoch(4));
        assert_eq!(held.checkpoint_durable(Epoch(6)), Epoch(3));
        held.holds.retain(|&epoch| epoch != Epoch(3));
        assert_eq!(held.free_up_to(), Epoch(4));
        held.holds.clear();
        assert_eq!((held.free_up_to(), held.holds_back()), (Epoch(6), None));
    }
}
