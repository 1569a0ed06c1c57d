//! What a disk was told to do, and what was said of the database meanwhile, in one order.

use super::super::journal::Event;
use super::image::Image;
use std::sync::Arc;

/// One thing that happened.
#[derive(Clone)]
pub(super) enum Step {
    /// Bytes were written; on a disk with a cache that says nothing of what survives.
    Write { offset: u64, bytes: Arc<[u8]> },
    /// The disk was told to make all that it had taken before durable, and has done so.
    Flush,
    /// The process at work told this.
    Told(Event),
}

/// Everything from one moment on.
#[derive(Clone)]
pub(super) struct Recording {
    /// The disk at that moment.
    pub(super) base: Image,
    pub(super) steps: Vec<Step>,
}

impl Recording {
    /// What was told before that step.
    pub(super) fn told_before(&self, end: usize) -> impl Iterator<Item = Event> {
        self.steps[..end].iter().filter_map(|step| match step {
            Step::Told(event) => Some(*event),
            _ => None,
        })
    }

    /// The steps of that kind, by number.
    pub(super) fn positions(&self, wanted: impl Fn(&Step) -> bool) -> Vec<usize> {
        self.steps.iter().enumerate().filter(|(_, step)| wanted(step)).map(|(n, _)| n).collect()
    }

    /// Writes, their bytes, and flushes.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        self.steps.iter().fold((0, 0, 0), |(writes, bytes, flushes), step| match step {
            Step::Write { bytes: b, .. } => (writes + 1, bytes + b.len() as u64, flushes),
            Step::Flush => (writes, bytes, flushes + 1),
            Step::Told(_) => (writes, bytes, flushes),
        })
    }
}
