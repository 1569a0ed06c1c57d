//! What a disk was told to do, and what was said of the database meanwhile, in one order.

use super::super::journal::Event;
use super::image::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One thing that happened.
#[derive(Clone)]
pub(super) enum Step {
    /// Bytes to be written have come.
    Write { offset: u64, bytes: Arc<[u8]> },
    /// The write that came with that step was confirmed: the disk has it in its cache at least.
    Written(usize),
    /// The disk is to make all durable that it had confirmed before.
    Flush,
    /// The flush that came with that step was confirmed.
    Flushed(usize),
    /// The process at work told this.
    Told(Event),
}

/// Everything from one moment on.
#[derive(Clone)]
pub(super) struct Recording {
    /// The disk at that moment.
    pub(super) base: Image,
    /// What had been told before it.
    pub(super) before: Vec<Event>,
    pub(super) steps: Vec<Step>,
}

impl Recording {
    /// All that was told before that step.
    pub(super) fn told_before(&self, end: usize) -> Vec<Event> {
        let told = self.steps[..end].iter().filter_map(|step| match step {
            Step::Told(event) => Some(*event),
            _ => None,
        });
        self.before.iter().copied().chain(told).collect()
    }

    /// Writes, their bytes, and flushes.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        self.steps.iter().fold((0, 0, 0), |(writes, bytes, flushes), step| match step {
            Step::Write { bytes: b, .. } => (writes + 1, bytes + b.len() as u64, flushes),
            Step::Flush => (writes, bytes, flushes + 1),
            _ => (writes, bytes, flushes),
        })
    }

    /// The range of the write that came with that step.
    pub(super) fn write(&self, step: usize) -> Option<(u64, &[u8])> {
        match self.steps.get(step) {
            Some(Step::Write { offset, bytes }) => Some((*offset, bytes)),
            _ => None,
        }
    }
}

/// What a disk holds in its cache, by the numbers of the steps with which it came.
#[derive(Default)]
pub(super) struct Cache {
    /// Not durable, be it that it was confirmed or not.
    pub(super) in_doubt: BTreeSet<usize>,
    confirmed: BTreeSet<usize>,
    /// Flushes under way, and what each has to make durable.
    flushes: BTreeMap<usize, Vec<usize>>,
}

impl Cache {
    /// Takes the next step; what is durable with it, in the order in which it came.
    pub(super) fn take(&mut self, number: usize, step: &Step) -> Vec<usize> {
        match step {
            Step::Write { .. } => drop(self.in_doubt.insert(number)),
            Step::Written(write) => drop(self.confirmed.insert(*write)),
            Step::Flush => drop(self.flushes.insert(number, self.confirmed.iter().copied().collect())),
            Step::Flushed(flush) => {
                let covered = self.flushes.remove(flush).unwrap_or_default();
                self.confirmed.retain(|write| covered.binary_search(write).is_err());
                return covered.into_iter().filter(|write| self.in_doubt.remove(write)).collect();
            }
            Step::Told(_) => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64) -> Step {
        Step::Write { offset, bytes: vec![1; 512].into() }
    }

    #[test]
    fn a_flush_makes_durable_what_was_confirmed_before_it_came() {
        let steps = [write(0), write(512), Step::Written(0), Step::Flush, Step::Written(1), write(1024), Step::Flushed(3)];
        let mut cache = Cache::default();
        let durable: Vec<Vec<usize>> = steps.iter().enumerate().map(|(n, step)| cache.take(n, step)).collect();
        assert_eq!(durable.concat(), [0]);
        assert_eq!(Vec::from_iter(cache.in_doubt.iter().copied()), [1, 5]);
        // The next flush covers the other that was confirmed, and not the one that was not.
        assert!(cache.take(7, &Step::Flush).is_empty());
        assert_eq!(cache.take(8, &Step::Flushed(7)), [1]);
        assert_eq!(Vec::from_iter(cache.in_doubt), [5]);
    }

    #[test]
    fn flushes_may_overlap() {
        let mut cache = Cache::default();
        let steps = [
            write(0),
            Step::Written(0),
            Step::Flush,
            write(512),
            Step::Written(3),
            Step::Flush,
            Step::Flushed(5),
            Step::Flushed(2),
        ];
        let durable: Vec<Vec<usize>> = steps.iter().enumerate().map(|(n, step)| cache.take(n, step)).collect();
        assert_eq!(durable[6..], [vec![0, 3], vec![]]);
        assert!(cache.in_doubt.is_empty());
    }
}
