//! What the micro-benchmarks and the simulators share: parts of the engine that are nobody's business otherwise.
//!
//! The files of the engine themselves are included by path, so that nothing is public in the engine for the sake of a measurement, and
//! what is measured is what runs. Their `crate::…` are found here, by the names that they know.
//!
//! - [`nodes`]: one page of a tree, searched and changed (`engine/src/btree`);
//! - [`pool_policy`]: which page leaves memory (`bufferpool/src/policy.rs`), as the pool runs it;
//! - [`Space`]: which blocks of the file are free, and where images go (`engine/src/store/space.rs`);
//! - [`data`]: keys that the benchmarks have in common.

pub mod data;
pub mod nodes;
pub mod pool_policy;

/// The included files, whole: not all of what they have is used here.
macro_rules! included {
    ($($path:literal $name:ident;)*) => {
        $(#[path = $path] #[allow(dead_code, unreachable_pub, clippy::all)] mod $name;)*
    };
}

included! {
    "../../bufferpool/src/block_ptr.rs" block_ptr;
    "../../bufferpool/src/ghost.rs" ghost;
    "../../bufferpool/src/lists.rs" lists;
    "../../bufferpool/src/page_id.rs" page_id;
    "../../bufferpool/src/policy.rs" policy;
    "../../bufferpool/src/slot.rs" slot;
}

/// In a folder of its own, so that the included file finds its child.
#[path = "../../engine/src/store"]
#[allow(dead_code, unused_imports, unreachable_pub, clippy::all)]
mod store {
    pub(crate) mod space;
}

pub use store::space::{Extent, Space};
