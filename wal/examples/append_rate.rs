//! How fast records are appended and made durable, in a directory: `append_rate DIR [records] [body bytes] [threads]`.
//!
//! Prints records a second for: appending alone (one thread, nothing written), appending beside a flusher (one thread, what an
//! eventual commit costs), and committing (each thread waits for each of its records).

use ashlar_disk::real::{RealFs, RealOptions};
use ashlar_disk::sync::spawn;
use ashlar_disk::{Fs, IoMode};
use ashlar_wal::{LogStart, Lsn, Result, Wal, WalOptions, read_log};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| ".".into()));
    let mut number = |default: u64| args.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (records, size, threads) = (number(1_000_000), number(100) as usize, number(8));
    let fs: Arc<dyn Fs> = RealFs::new(RealOptions::default())?;

    let wal = new_log(&fs, &dir)?;
    let bodies: Vec<_> = (0..records).map(|_| vec![7u8; size]).collect();
    let begun = Instant::now();
    for body in bodies {
        wal.append(body);
    }
    report("append, nothing written", records, begun, &wal);
    let begun = Instant::now();
    wal.flush_to(wal.appended())?;
    report("  and written in one batch", records, begun, &wal);

    let wal = Arc::new(new_log(&fs, &dir)?);
    let done = Arc::new(AtomicBool::new(false));
    let flusher = {
        let (wal, done) = (wal.clone(), done.clone());
        let flush = move || {
            while !done.load(Relaxed) && wal.flush_to(wal.appended()).is_ok() {
                wal.recycle_below(wal.durable()).expect("recycle");
            }
        };
        spawn("flusher", flush)?
    };
    let begun = Instant::now();
    for _ in 0..records {
        let room = wal.reserve(size as u64)?;
        wal.append_with(room, vec![7u8; size]);
    }
    wal.flush_to(wal.appended())?;
    report("reserve, allocate and append beside a flusher", records, begun, &wal);
    done.store(true, Relaxed);
    flusher.join().expect("the flusher does not panic");

    let wal = Arc::new(new_log(&fs, &dir)?);
    let each = (records / 50 / threads).max(1);
    let begun = Instant::now();
    let committers = (0..threads).map(|_| {
        let wal = wal.clone();
        let commit = move || {
            for _ in 0..each {
                let lsn = wal.append(vec![7u8; size]).lsn;
                wal.flush_to(lsn).expect("flush");
            }
        };
        spawn("committer", commit)
    });
    let committers: Vec<_> = committers.collect::<std::result::Result<_, _>>()?;
    committers.into_iter().for_each(|thread| thread.join().expect("a committer does not panic"));
    report(&format!("durable commits of {threads} threads"), each * threads, begun, &wal);
    remove(&fs, &dir)
}

fn new_log(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Wal> {
    let path = dir.join("append_rate.wal");
    if !fs.exists(&path)? {
        fs.create_dir(&path)?;
    }
    ashlar_wal::remove_segments(fs, &path)?;
    let mut options = WalOptions { log_limit: 1 << 30, ..WalOptions::new([1; 16]) };
    if std::env::var_os("BUFFERED").is_some() {
        options.mode = IoMode::Buffered;
    }
    Wal::create_first_segment(fs, &path, &options)?;
    let start = LogStart { c: Lsn(0), incarnation_at_c: 1, newest_incarnation: 1, durable: Lsn(0) };
    let scan = read_log(fs, &path, &options, &start)?;
    let wal = Wal::open(fs, &path, options, scan.tail(), 1)?;
    wal.prepare_segments()?;
    Ok(wal)
}

fn remove(fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
    ashlar_wal::remove_segments(fs, &dir.join("append_rate.wal"))
}

fn report(what: &str, records: u64, begun: Instant, wal: &Wal) {
    let seconds = begun.elapsed().as_secs_f64();
    let stats = wal.stats();
    println!(
        "{what}: {:.0} records/s, {} flushes, {:.1} MB written",
        records as f64 / seconds,
        stats.flushes,
        stats.bytes_written as f64 / 1e6
    );
}
