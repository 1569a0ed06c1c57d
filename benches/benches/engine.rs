//! The engine's hot paths with everything in memory: a point read, a small commit, a short scan.
//!
//! `cargo bench -p ashlar-benches` (directory: `ASHLAR_TEST_DIR`, default the current one).
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends by panicking; criterion's macros make undocumented items")]

use ashlardb::{Database, Durability, Keyspace, Options};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const ENTRIES: u64 = 200_000;

/// Spreads consecutive numbers over the key space.
fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

fn open() -> (tempfile::TempDir, Database, Keyspace) {
    let base = std::env::var("ASHLAR_TEST_DIR").unwrap_or_else(|_| ".".into());
    let dir = tempfile::tempdir_in(base).unwrap();
    let db = Options::new().cache_size(256 << 20).durability(Durability::Eventual).open(dir.path().join("db")).unwrap();
    let keyspace = db.keyspace("bench").unwrap();
    for chunk in (0..ENTRIES).collect::<Vec<_>>().chunks(1000) {
        let mut batch = db.batch();
        chunk.iter().for_each(|&n| batch.insert(&keyspace, key(n), [7; 100]).unwrap());
        batch.commit().unwrap();
    }
    (dir, db, keyspace)
}

fn engine(c: &mut Criterion) {
    let (_dir, _db, keyspace) = open();
    let mut n = 0;
    let mut next = move || {
        n = (n + 7919) % ENTRIES;
        n
    };
    let mut value = Vec::new();
    c.bench_function("get a value of 100 bytes", |b| {
        b.iter(|| assert!(keyspace.get_into(black_box(key(next())), &mut value).unwrap()));
    });
    c.bench_function("look for an absent key", |b| {
        b.iter(|| assert!(!keyspace.contains_key(black_box(key(ENTRIES + next()))).unwrap()));
    });
    c.bench_function("overwrite a value of 100 bytes, eventual", |b| {
        b.iter(|| keyspace.insert(black_box(key(next())), [8; 100]).unwrap());
    });
    c.bench_function("scan 100 entries", |b| {
        b.iter(|| assert_eq!(keyspace.range(key(next())..).take(100).filter(|e| e.is_ok()).count().min(1), 1));
    });
}

criterion_group!(benches, engine);
criterion_main!(benches);
