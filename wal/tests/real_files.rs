//! The log on real files: direct I/O where the build directory's file system has it.

mod common;

use ashlar_disk::real::{RealFs, RealOptions};
use ashlar_disk::sync::spawn;
use ashlar_disk::{Fs, IoMode};
use ashlar_wal::{Error, WalOptions};
use common::{Log, body, id_of, small};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A log in a new directory; buffered where the file system refuses direct I/O, and says so.
fn new_log(dir: &Path, options: WalOptions) -> Log {
    let fs: Arc<dyn Fs> = RealFs::new(RealOptions::default()).expect("the kernel's file systems");
    let created = Log::create(fs.clone(), &dir.join("wal"), options.clone());
    if let Err(Error::Disk(error @ ashlar_disk::Error::DirectIoUnsupported { .. })) = &created {
        println!("buffered: {error}");
        let options = WalOptions { mode: IoMode::Buffered, ..options };
        return Log::create(fs, &dir.join("buffered"), options).expect("create");
    }
    created.expect("create")
}

fn ids(log: &Log) -> Result<Vec<u64>, Error> {
    Ok(log.records()?.iter().map(|record| id_of(&record.body).expect("a record that was written")).collect())
}

#[test]
fn what_threads_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let options = WalOptions { segment_size: 256 << 10, flush_size_max: 64 << 10, log_limit: 16 << 20, ..small() };
    let mut log = new_log(dir.path(), options);
    for round in 0..3u64 {
        let (wal, records) = log.open().expect("open");
        assert_eq!(records.len() as u64, round * 400);
        let wal = Arc::new(wal);
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                let wal = wal.clone();
                let commit = move || {
                    for i in 0..100 {
                        let id = (round * 4 + thread) * 1000 + i;
                        let room = wal.reserve(600).expect("room");
                        let appended = wal.append_with(room, body(id, 100 + (i as usize * 5)));
                        wal.flush_to(appended.lsn).expect("flush");
                    }
                };
                spawn("committer", commit).expect("a thread")
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        wal.prepare_segments().expect("prepare");
        if round == 1 {
            wal.close().expect("close");
        }
        println!("{:?}", wal.stats());
    }
    let mut found = ids(&log).expect("read");
    found.sort_unstable();
    let wanted: Vec<_> = (0..12).flat_map(|thread| (0..100).map(move |i| thread * 1000 + i)).collect();
    assert_eq!(found, wanted);
}

#[test]
fn a_flipped_bit_on_the_disk_is_told() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut log = new_log(dir.path(), small());
    let (wal, _) = log.open().expect("open");
    let first = wal.append(body(0, 100));
    wal.append(body(1, 50_000));
    wal.close().expect("close");
    assert_eq!(ids(&log).expect("read"), [0, 1]);
    let path = log.dir.join("000000000000.wal");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, first.start.0 + 50).expect("read");
    file.write_all_at(&[byte[0] ^ 4], first.start.0 + 50).expect("write");
    file.sync_all().expect("sync");
    assert!(matches!(ids(&log), Err(Error::Corrupted { .. })));
}

#[test]
fn a_segment_cut_short_is_told() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut log = new_log(dir.path(), small());
    let (wal, _) = log.open().expect("open");
    wal.append(body(0, 100_000));
    wal.close().expect("close");
    let file = std::fs::OpenOptions::new().write(true).open(log.dir.join("000000000001.wal")).expect("open");
    file.set_len(8192).expect("cut");
    let told = ids(&log).map_err(|error| error.to_string());
    assert!(told.as_ref().is_err_and(|text| text.contains("8192 bytes long instead of 65536")), "{told:?}");
}
