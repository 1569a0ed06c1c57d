//! A snapshot's read of a key that was changed since: the leaf is too new, and a before-image is looked for.
//!
//! The before-images of a leaf stand in one list, newest first, so that what a read costs grows with all changes of the leaf that are
//! newer than the snapshot, not only with those of the key.
//!
//! `cargo bench -p ashlar-benches --bench versions` (directory: `ASHLAR_TEST_DIR`, default the current one)
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends by panicking; criterion's macros make undocumented items")]

use ashlar_benches::data::{Walk, key};
use ashlardb::{Database, Durability, Keyspace, Options, Snapshot};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const ENTRIES: u64 = 5_000;

struct Changed {
    _dir: tempfile::TempDir,
    _db: Database,
    keyspace: Keyspace,
    snapshot: Snapshot,
}

/// Every key holds 1 in the snapshot, and was overwritten `rounds` times since.
fn changed(rounds: u8) -> Changed {
    let base = std::env::var("ASHLAR_TEST_DIR").unwrap_or_else(|_| ".".into());
    let dir = tempfile::tempdir_in(base).unwrap();
    let options = Options::new().cache_size(256 << 20).durability(Durability::Eventual);
    let db = options.open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("bench").unwrap();
    write_all(&db, &keyspace, 1);
    let snapshot = db.snapshot().unwrap();
    (0..rounds).for_each(|round| write_all(&db, &keyspace, 2 + round));
    Changed { _dir: dir, _db: db, keyspace, snapshot }
}

fn write_all(db: &Database, keyspace: &Keyspace, value: u8) {
    for chunk in (0..ENTRIES).collect::<Vec<_>>().chunks(1000) {
        let mut batch = db.batch();
        chunk.iter().for_each(|&n| batch.insert(keyspace, key(n), [value; 100]).unwrap());
        batch.commit().unwrap();
    }
}

fn versions(c: &mut Criterion) {
    let mut group = c.benchmark_group("read in a snapshot");
    for rounds in [0, 1, 4, 16] {
        let changed = changed(rounds);
        let mut walk = Walk::below(ENTRIES);
        group.bench_function(format!("a key that was changed {rounds} times since"), |b| {
            b.iter(|| {
                let value = changed.snapshot.get(&changed.keyspace, black_box(key(walk.step()))).unwrap().unwrap();
                assert_eq!((value.len(), value[0]), (100, 1));
            });
        });
        let now = changed.keyspace.get(key(0)).unwrap().unwrap();
        assert_eq!(now[0], 1 + rounds, "the newest value is another");
    }
    group.finish();
}

criterion_group!(benches, versions);
criterion_main!(benches);
