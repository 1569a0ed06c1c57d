//! The same crowd on real threads: what a scheduler that runs one thread at a time can't show.

mod common;

use common::crowd::{Crowd, run};

#[test]
#[cfg_attr(miri, ignore = "takes hours there; `rules` has a small one")]
fn real_threads_see_whole_pages() {
    for seed in 0..6 {
        let deferred = seed % 2 == 1;
        run(Crowd { seed, frames: 24, pages: 48, readers: 3, writes: 4000, deferred, reaper: seed % 3 == 0, simulated: false });
    }
}
