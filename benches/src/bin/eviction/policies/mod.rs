//! Caches under one policy each, by which they are named. Each counts pages, all of one size.
//!
//! Where a paper leaves a choice, the one that gives more hits was taken, and the file says so.

mod ashlar;
mod clock;
mod clock2q_plus;
mod ghost;
mod lru;
mod min;
mod s3_fifo;
mod sieve;
mod two_q;

#[cfg(test)]
mod tests;

use crate::traces::Trace;
use ashlar::{How, PoolPolicy};
use clock2q_plus::Sizes;

/// A cache in use.
pub(crate) trait Cache {
    /// Uses `page`; whether it was in the cache.
    fn access(&mut self, page: u32) -> bool;
    /// How many pages are in it.
    #[cfg_attr(not(test), allow(dead_code, reason = "for tests: the simulator counts hits"))]
    fn resident(&self) -> usize;
}

/// A policy: its name, and how a cache of so many frames is made for a trace.
pub(crate) struct Policy {
    pub(crate) name: String,
    make: Box<Make>,
}

type Make = dyn Fn(usize, &Trace) -> Box<dyn Cache>;

impl Policy {
    fn new<C: Cache + 'static>(name: impl Into<String>, make: impl Fn(usize, &Trace) -> C + 'static) -> Policy {
        Policy { name: name.into(), make: Box::new(move |frames, trace| Box::new(make(frames, trace))) }
    }

    /// A cache of `frames` frames, with nothing in it.
    pub(crate) fn cache(&self, frames: usize, trace: &Trace) -> Box<dyn Cache> {
        (self.make)(frames, trace)
    }
}

/// The limit that no policy passes.
pub(crate) fn optimum() -> Policy {
    Policy::new("MIN", min::Min::new)
}

/// What the pool does.
pub(crate) fn ashlar() -> Policy {
    Policy::new("Ashlar", |frames, trace| PoolPolicy::new(frames, trace.pages(), How::in_pool(frames)))
}

/// What is compared with it.
pub(crate) fn others() -> Vec<Policy> {
    vec![
        Policy::new("LRU", |frames, _| lru::Lru::new(frames)),
        Policy::new("CLOCK", |frames, trace| clock::Clock::new(frames, trace.pages())),
        Policy::new("2Q", |frames, _| two_q::TwoQ::new(frames)),
        Policy::new("SIEVE", |frames, trace| sieve::Sieve::new(frames, trace.pages())),
        Policy::new("S3-FIFO", |frames, trace| s3_fifo::S3Fifo::new(frames, trace.pages())),
        Policy::new("Clock2Q+", |frames, trace| clock2q_plus::Clock2QPlus::new(Sizes::published(frames), trace.pages())),
    ]
}

/// The pool's policy with other constants: shares of the frames, in percent. It stands in by Clock2Q+, whose rules it has: the pool's
/// own constants are there as well, so that one sees how near that comes.
pub(crate) fn other_constants() -> Vec<Policy> {
    let one_at_a_time = Policy::new("one victim at a time", |frames, trace| {
        PoolPolicy::new(frames, trace.pages(), How { victims: 1, ..How::in_pool(frames) })
    });
    let without_first = Policy::new("first use not counted", |frames, trace| {
        PoolPolicy::new(frames, trace.pages(), How { first_use_counts: false, ..How::in_pool(frames) })
    });
    let counted = Policy::new("uses counted up to 3", |frames, trace| {
        PoolPolicy::new(frames, trace.pages(), How { uses_max: 3, ..How::in_pool(frames) })
    });
    let counted_without_first = Policy::new("both", |frames, trace| {
        let how = How { uses_max: 3, first_use_counts: false, ..How::in_pool(frames) };
        PoolPolicy::new(frames, trace.pages(), how)
    });
    let shares = [(10, 50), (5, 50), (20, 50), (10, 25), (10, 100), (10, 200)];
    let variants = shares.map(|(probation, ghost)| {
        Policy::new(format!("{probation} % / {ghost} %"), move |frames, trace| {
            clock2q_plus::Clock2QPlus::new(Sizes::shares(frames, probation, ghost), trace.pages())
        })
    });
    [one_at_a_time, without_first, counted, counted_without_first].into_iter().chain(variants).collect()
}
