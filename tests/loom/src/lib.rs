//! Ashlar's lock-free protocols under [loom](https://docs.rs/loom), which runs a model in every interleaving that matters, with every
//! value that a load may give.
//!
//! What is checked are the files of the engine themselves, included by path. They import from this crate, under the names of those
//! that they know, what stands below them: atomics, locks and waits ([`sync`]), memory ([`memory`]), deferred freeing ([`epoch`]).
//!
//! 1. A model is small: two or three threads, a few steps each; it asserts what the file's header promises.
//! 2. Each model is also run with single operations weakened or left out ([`mutation`]): those runs must fail, else the model would
//!    prove nothing. No file is changed for that; an operation is found by its text.
//! 3. `SeqCst` accesses, which loom takes for acquire and release, are ordered by a second word (`seam/atomic.rs`). Of what the
//!    language allows, loom does not explore loads that see what is stored later, and a weak compare-exchange that fails for no reason.
//!
//! Reading order: `models/`, then what they include in the list below.

// Names of the crates that the included files know.
extern crate self as ashlar_bufferpool;
extern crate self as ashlar_disk;
extern crate self as crossbeam;

mod commit;
pub mod epoch;
pub mod memory;
pub mod models;
pub mod mutation;
#[path = "seam/mod.rs"]
pub mod sync;

pub use memory::{AlignedBuf, ArenaSlice, Error, Reserved, Result};
pub use page_id::PageId;

/// Stands in for `crossbeam::utils`.
pub mod utils {
    pub use crate::memory::CachePadded;
}

/// The included files, whole (not all of what they have is used here), and what stands in for those that do not fit.
macro_rules! included {
    ($($path:literal $name:ident;)*) => {
        $(#[path = $path] #[allow(dead_code, clippy::all)] mod $name;)*
    };
}

included! {
    "../../../bufferpool/src/block_ptr.rs" block_ptr;
    "../../../bufferpool/src/change.rs" change;
    "../../../bufferpool/src/evict.rs" evict;
    "../../../bufferpool/src/free_list.rs" free_list;
    "../../../bufferpool/src/ghost.rs" ghost;
    "../../../bufferpool/src/guard.rs" guard;
    "../../../bufferpool/src/hold.rs" hold;
    "../../../bufferpool/src/latch.rs" latch;
    "../../../bufferpool/src/ledger.rs" ledger;
    "../../../bufferpool/src/lists.rs" lists;
    "../../../bufferpool/src/load.rs" load;
    "../../../bufferpool/src/page_id.rs" page_id;
    "../../../bufferpool/src/page_table.rs" page_table;
    "../../../bufferpool/src/policy.rs" policy;
    "../../../bufferpool/src/progress.rs" progress;
    "../../../bufferpool/src/slot.rs" slot;
    "../../../bufferpool/src/states.rs" states;
    "../../../bufferpool/src/stats.rs" stats;
    "../../../bufferpool/src/store.rs" store;
    "../../../bufferpool/src/ticket.rs" ticket;
    "../../../bufferpool/src/view.rs" view;
    "../../../disk/src/words.rs" words;
    "pool/core.rs" core;
    "pool/frame.rs" frame;
    "pool/held.rs" held;
    "pool/mod.rs" pool;
    "../../../engine/src/fault.rs" fault;
    "../../../engine/src/versions/mod.rs" versions;
}

/// Stands in for the engine's trees.
mod btree {
    /// The identity of a tree.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    pub struct TreeId(pub u64);
}

/// Stands in for the engine's options.
mod options {
    /// What must have happened when a commit returns.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Durability {
        Immediate,
    }
}

/// Stands in for the engine's transactions.
mod txn {
    /// Relies on everything: whatever was committed meanwhile changes it.
    pub(crate) struct Footprint;

    impl Footprint {
        pub(crate) fn is_changed_by(&self, _record: &[u8], _lsn: u64) -> Result<bool, crate::commit::Refused> {
            Ok(true)
        }
    }
}
