//! The engine itself, beside the simulation of what it does: are its writes as many as the simulator says?
//!
//! Everything is in memory, so that a checkpoint writes what a transaction has changed, and nothing is read or evicted. The engine also
//! writes nodes of its page map, one by one, which the simulator leaves out.

use ashlardb::{Database, Durability, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// What was seen of a database.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Seen {
    pub(crate) pages: u64,
    /// Pages that a checkpoint wrote, on the average.
    pub(crate) batch: u64,
    /// Share of the file in use, in percent.
    pub(crate) used: f64,
    /// Writes for each page written.
    pub(crate) writes_a_page: f64,
}

/// What is done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) entries: u64,
    /// Entries that a transaction changes; then comes a checkpoint.
    pub(crate) changes: u64,
    pub(crate) checkpoints: u64,
    pub(crate) seed: u64,
}

/// Entries of a transaction while loading.
const LOADED_AT_ONCE: u64 = 5000;

/// Makes a database in `dir`, which must not be there, and changes it; the second half of all checkpoints counts.
pub(crate) fn measure(dir: &Path, work: Work) -> ashlardb::Result<Seen> {
    // Grown in small steps, so that most of the file is in use.
    let options = Options::new().cache_size(work.entries * 400 + (64 << 20)).grow_step(1 << 20);
    let db = options.durability(Durability::Eventual).open(dir)?;
    load(&db, work.entries)?;
    let mut random = ChaCha8Rng::seed_from_u64(work.seed);
    let mut before = db.stats();
    for n in 0..work.checkpoints {
        if n == work.checkpoints / 2 {
            before = db.stats();
        }
        let mut batch = db.batch();
        for _ in 0..work.changes {
            batch.insert(&db.keyspace("k")?, random.random_range(0..work.entries).to_be_bytes(), [n as u8; 100])?;
        }
        batch.commit()?;
        db.checkpoint()?;
    }
    let after = db.stats();
    db.close()?;
    let written = after.pages_written - before.pages_written;
    Ok(Seen {
        pages: after.space.pages,
        batch: written / (work.checkpoints - work.checkpoints / 2).max(1),
        used: 100.0 * (1.0 - (after.space.free + after.space.waiting) as f64 / after.space.file as f64),
        writes_a_page: (after.page_writes - before.page_writes) as f64 / written as f64,
    })
}

fn load(db: &Database, entries: u64) -> ashlardb::Result<()> {
    let keyspace = db.keyspace("k")?;
    for first in (0..entries).step_by(LOADED_AT_ONCE as usize) {
        let mut batch = db.batch();
        for key in first..(first + LOADED_AT_ONCE).min(entries) {
            batch.insert(&keyspace, key.to_be_bytes(), [0; 100])?;
        }
        batch.commit()?;
    }
    db.checkpoint()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_writes_as_often_as_the_simulator_says() {
        let dir = tempfile::tempdir_in(std::env::var("ASHLAR_TEST_DIR").unwrap_or(".".into())).unwrap();
        let work = Work { entries: 200_000, changes: 150, checkpoints: 120, seed: 3 };
        let seen = measure(&dir.path().join("db"), work).unwrap();
        assert!((60.0..99.5).contains(&seen.used), "{seen:?}");
        let simulated = crate::simulated(&seen, 3).expect("there is room");
        // A few of the engine's writes are of its page map.
        let ratio = seen.writes_a_page / simulated;
        assert!((0.97..1.05).contains(&ratio), "{seen:?}, simulated {simulated}");
    }
}
