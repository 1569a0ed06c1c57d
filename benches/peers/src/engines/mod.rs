//! The engines that this build knows: Ashlar always, each peer where its feature is on.

mod ashlar;
#[cfg(feature = "bf-tree")]
mod bf_tree;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;

use crate::engine::Spec;
use anyhow::{Result, bail};

/// The name of the engine that the others are compared with.
pub const OURS: &str = "ashlar";

/// All that were built in, in the order of reports.
pub fn all() -> Vec<&'static Spec> {
    vec![
        &ashlar::SPEC,
        #[cfg(feature = "lmdb")]
        &lmdb::SPEC,
        #[cfg(feature = "lmdb")]
        &lmdb::NO_SYNC,
        #[cfg(feature = "redb")]
        &redb::SPEC,
        #[cfg(feature = "sqlite")]
        &sqlite::SPEC,
        #[cfg(feature = "rocksdb")]
        &rocksdb::SPEC,
        #[cfg(feature = "fjall")]
        &fjall::SPEC,
        #[cfg(feature = "bf-tree")]
        &bf_tree::SPEC,
        #[cfg(feature = "sled")]
        &sled::SPEC,
    ]
}

/// The one of that name.
///
/// # Errors
/// There is none; the message names those that there are.
pub fn find(name: &str) -> Result<&'static Spec> {
    let known = all();
    match known.iter().find(|spec| spec.name == name) {
        Some(spec) => Ok(spec),
        None => {
            let names: Vec<_> = known.iter().map(|spec| spec.name).collect();
            bail!("no engine {name} in this build: there are {}; build with --features all for all of them", names.join(", "))
        }
    }
}
