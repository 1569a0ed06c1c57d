//! The models, one file for each protocol, and how they are run.

pub mod horizon;
pub mod latch;
pub mod list;
pub mod pool;
pub mod visibility;
pub use crate::commit::recent_models as recent;

use crate::mutation::{self, Mutated, Source};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// A model: what each interleaving runs.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// For the report.
    pub name: &'static str,
    /// Most times a thread loses the processor where it could go on; `None`: any number. `LOOM_MAX_PREEMPTIONS` overrides it.
    pub preemptions: Option<usize>,
    /// What is run, and what it asserts.
    pub body: fn(),
}

impl Model {
    /// Runs it in all interleavings; fails with the first in which an assertion does, or in which nobody can move.
    pub fn holds(&self) {
        let started = Instant::now();
        let count = Arc::default();
        self.run(Arc::clone(&count));
        let bound = self.preemptions.map_or(String::new(), |n| format!(", {n} preemptions at most"));
        println!("{}: {} interleavings{bound}, {:.1?}", self.name, count.load(Relaxed), started.elapsed());
    }

    /// Runs it with operations mutated: some interleaving must fail.
    pub fn fails_with(&self, mutations: &[(Source, &str, Mutated)]) {
        let count = Arc::default();
        let outcome = mutation::with(mutations, || catch_unwind(AssertUnwindSafe(|| self.run(Arc::clone(&count)))));
        let what: Vec<String> = mutations
            .iter()
            .map(|(_, text, to)| format!("`{}` {to:?}", text.lines().last().unwrap_or_default().trim()))
            .collect();
        let (what, count) = (what.join(" and "), count.load(Relaxed));
        assert!(outcome.is_err(), "{}: {what} goes unnoticed in {count} interleavings", self.name);
        println!("{}: {what} is noticed in interleaving {count}", self.name);
    }

    fn run(&self, count: Arc<AtomicUsize>) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(self.preemptions);
        builder.max_branches = 10_000;
        let body = self.body;
        builder.check(move || {
            count.fetch_add(1, Relaxed);
            crate::epoch::begin();
            body();
            crate::epoch::end();
        });
    }
}
