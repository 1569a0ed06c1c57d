//! When checkpoints are due: images of pages that are dirty in memory are no reason for one, whoever made the data.
#![allow(clippy::unwrap_used, reason = "tests")]

use ashlardb::{Background, Database, Durability, Options};

const ENTRIES: u32 = 20_000;

fn options() -> Options {
    Options::new().cache_size(64 << 20).grow_step(64 << 10).background(Background::Manual).durability(Durability::Eventual)
}

fn update_all(db: &Database, value: &[u8]) {
    let data = db.keyspace("data").unwrap();
    for i in 0..ENTRIES {
        // Coprime with the number of entries: each once, all over the tree.
        let key = (i * 7919 % ENTRIES).to_be_bytes();
        data.insert(key, value).unwrap();
    }
}

#[test]
fn updates_of_what_fits_the_cache_make_no_checkpoints_after_a_reopen_either() {
    let dir = tempfile::tempdir().unwrap();
    let db = options().open(dir.path()).unwrap();
    update_all(&db, &[1; 100]);
    db.close().unwrap();
    let db = options().open(dir.path()).unwrap();
    let before = db.stats().checkpoints;
    for round in 2..5 {
        update_all(&db, &[round; 100]);
    }
    let made = db.stats().checkpoints - before;
    assert!(made <= 2, "{made} checkpoints while all that was replaced is dirty in memory");
    db.close().unwrap();
}
