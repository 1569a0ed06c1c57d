//! Point reads that miss the cache: one after the other, and many in flight from one thread.
//!
//! `cargo run --release --example many_reads`

use ashlardb::Options;
use std::time::Instant;

const ENTRIES: u64 = 400_000;
const READS: u64 = 20_000;

/// A key in no order at first sight.
fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::path::Path::new("ashlar-reads");
    // A cache far smaller than the data.
    let db = Options::new().cache_size(4 << 20).open(path)?;
    let entries = db.keyspace("entries")?;
    let mut sorted: Vec<[u8; 8]> = (0..ENTRIES).map(key).collect();
    sorted.sort_unstable();
    entries.bulk_load(sorted.iter().map(|key| Ok::<_, ashlardb::Error>((key, [7; 150]))))?;

    let started = Instant::now();
    for i in 0..READS {
        entries.get(key(i * 19 % ENTRIES))?.ok_or("an entry is missing")?;
    }
    let one_by_one = started.elapsed();
    let started = Instant::now();
    for batch in 0..READS / 500 {
        let keys = (0..500).map(|i| key((batch * 500 + i) * 23 % ENTRIES));
        if entries.get_many(keys)?.iter().any(Option::is_none) {
            return Err("an entry is missing".into());
        }
    }
    let together = started.elapsed();
    let rate = |took: std::time::Duration| READS as f64 / took.as_secs_f64();
    println!("{READS} reads one by one: {:.0}/s; {} of 500 in flight: {:.0}/s", rate(one_by_one), READS / 500, rate(together));
    db.close()?;
    std::fs::remove_dir_all(path)?;
    Ok(())
}
