//! Appending to the log in memory: what a commit does with the log's lock held. Bodies are handed over, not copied; the flush, which
//! copies them, is not measured.
//!
//! The log stands on the simulated disk, which is memory, so that the disk's speed is nowhere in it.
//!
//! `cargo bench -p ashlar-benches --bench log`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends by panicking; criterion's macros make undocumented items")]

use ashlar_disk::Fs;
use ashlar_disk::sim::{Sim, SimOptions};
use ashlar_wal::{LogStart, Lsn, Wal, WalOptions, read_log};
use criterion::{Criterion, criterion_group, criterion_main};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that are appended between two flushes, about.
const GROUP_BYTES: u64 = 4 << 20;

struct Log {
    fs: Arc<dyn Fs>,
    options: WalOptions,
    wal: Wal,
    /// The start of what was appended since the last flush.
    from: Lsn,
}

const DIR: &str = "/wal";

impl Log {
    fn new() -> Log {
        let fs: Arc<dyn Fs> = Sim::new(SimOptions::new(1)).fs();
        let options = WalOptions::new([7; 16]);
        fs.create_dir(Path::new(DIR)).unwrap();
        Wal::create_first_segment(&fs, Path::new(DIR), &options).unwrap();
        let scan = read_log(&fs, Path::new(DIR), &options, &start_at(Lsn(0), Lsn(0))).unwrap();
        let wal = Wal::open(&fs, Path::new(DIR), options.clone(), scan.tail(), 1).unwrap();
        Log { fs, options, wal, from: Lsn(0) }
    }

    /// Appends `count` records, measured; then flushes them, reads them back, and gives their room to the next.
    fn round(&mut self, count: u64, size: usize) -> Duration {
        let bodies: Vec<Vec<u8>> = (0..count).map(|n| body(n, size)).collect();
        let rooms: Vec<_> = (0..count).map(|_| self.wal.reserve(size as u64).unwrap()).collect();
        let mut last = self.from;
        let start = Instant::now();
        for (room, body) in rooms.into_iter().zip(bodies) {
            let appended = self.wal.append_with(room, body);
            assert!(appended.lsn > last);
            last = appended.lsn;
        }
        let spent = start.elapsed();
        self.wal.flush_to(last).unwrap();
        self.assert_holds(count, size, last);
        self.from = self.wal.cut_point();
        self.wal.recycle_below(self.from).unwrap();
        spent
    }

    fn assert_holds(&self, count: u64, size: usize, end: Lsn) {
        let start = start_at(self.from, self.wal.durable());
        let scan = read_log(&self.fs, Path::new(DIR), &self.options, &start).unwrap();
        let mut found = 0;
        for record in scan.records().unwrap() {
            let record = record.unwrap();
            assert_eq!(record.body, body(found, size));
            found += 1;
            assert!(found < count || record.lsn == end);
        }
        assert_eq!(found, count);
    }
}

fn start_at(c: Lsn, durable: Lsn) -> LogStart {
    LogStart { c, incarnation_at_c: u32::from(c > Lsn(0)), newest_incarnation: 1, durable }
}

/// The body of the n-th record of a round.
fn body(n: u64, size: usize) -> Vec<u8> {
    n.to_le_bytes().into_iter().cycle().take(size).collect()
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append to the log");
    group.sample_size(20);
    for size in [32usize, 128, 1024, 16384] {
        let mut log = Log::new();
        let round = (GROUP_BYTES / size as u64).min(10_000);
        group.bench_function(format!("a record of {size} bytes"), |b| {
            b.iter_custom(|iterations| {
                let rounds = iterations / round;
                let whole: Duration = (0..rounds).map(|_| log.round(round, size)).sum();
                match iterations % round {
                    0 => whole,
                    rest => whole + log.round(rest, size),
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
