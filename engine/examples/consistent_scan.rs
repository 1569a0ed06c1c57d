//! A scan that shows one moment, from either end, while another thread changes every entry again and again.
//!
//! `cargo run --release --example consistent_scan`

use ashlardb::{Database, Durability, Options};
use std::sync::atomic::{AtomicBool, Ordering};

const ENTRIES: u32 = 10_000;

/// Gives all entries the same new value, in one commit.
fn write_all(db: &Database, round: u32) -> ashlardb::Result<()> {
    let entries = db.keyspace("entries")?;
    let mut batch = db.batch();
    (0..ENTRIES).try_for_each(|i| batch.insert(&entries, i.to_be_bytes(), round.to_be_bytes()))?;
    batch.commit_with(Durability::Eventual)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::path::Path::new("ashlar-scan");
    let db = Options::new().cache_size(64 << 20).open(path)?;
    write_all(&db, 0)?;
    let entries = db.keyspace("entries")?;
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| -> Result<u32, Box<dyn std::error::Error>> {
        let writer = scope.spawn(|| -> ashlardb::Result<u32> {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                write_all(&db, round)?;
            }
            Ok(round)
        });
        let scanned = (0..20).try_for_each(|scan| -> Result<(), Box<dyn std::error::Error>> {
            // Keys and values are lent: nothing is allocated for an entry.
            let mut cursor = entries.cursor::<&[u8]>(..);
            let (mut count, mut seen) = (0, None);
            while let Some((_, value)) = if scan % 2 == 0 { cursor.next()? } else { cursor.next_back()? } {
                let round = value.to_vec();
                if *seen.get_or_insert_with(|| round.clone()) != round {
                    return Err("the scan has met two rounds".into());
                }
                count += 1;
            }
            println!("{count} entries, all of round {}", u32::from_be_bytes(seen.unwrap_or_default()[..].try_into()?));
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let rounds = writer.join().map_err(|_| "the writer panicked")??;
        scanned.map(|()| rounds)
    })?;
    println!("{rounds} rounds were written meanwhile; {} bytes of before-images are left", db.stats().version_bytes);
    db.close()?;
    std::fs::remove_dir_all(path)?;
    Ok(())
}
