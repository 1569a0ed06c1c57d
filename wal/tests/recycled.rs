//! Damage to a log whose segments were recycled, over several incarnations: it is told as long as any whole flush vouches for what is missing,
//! and what happens to places that don't count harms nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use ashlar_disk::{Access, AlignedBuf, Create, OpenHow};
use ashlar_wal::{Error, FlushInfo, LogStart, Lsn, WalOptions, read_closed_log};
use common::faulty::{Fault, FaultyFs};
use common::{Log, body, memory, small};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

const BLOCK: usize = 4096;

/// A log, what its segments hold, and what segments held that were recycled.
struct Recycled {
    log: Log,
    first: u64,
    now: Vec<Vec<u8>>,
    past: Vec<Vec<u8>>,
}

impl Recycled {
    fn new(rng: &mut ChaCha8Rng) -> Recycled {
        let flush_size_max = BLOCK << rng.random_range(0..5);
        let log_limit = rng.random_range(4..20) * (64 << 10);
        let mut log = Log::create(memory(), Path::new("/wal"), WalOptions { flush_size_max, log_limit, ..small() }).unwrap();
        let (mut past, mut id) = (Vec::new(), 0);
        let lives = rng.random_range(2..5);
        for life in 0..lives {
            let (wal, _) = log.open().unwrap();
            for _ in 0..rng.random_range(0..20) {
                let long = rng.random_ratio(1, 3);
                wal.append(body(id, if long { rng.random_range(8..100_000) } else { rng.random_range(8..300) }));
                id += 1;
                if rng.random_bool(0.7) {
                    wal.flush_to(wal.appended()).unwrap();
                }
            }
            if life + 1 < lives && rng.random_bool(0.8) {
                let (c, newest) = (wal.cut_point(), log.start.newest_incarnation);
                wal.flush_to(wal.appended()).unwrap();
                log.start = LogStart { c, incarnation_at_c: newest, newest_incarnation: newest, durable: wal.appended() };
                let old = (0..c.0 / log.options.segment_size).filter(|&segment| is_there(&log, segment));
                past.extend(old.map(|segment| read(&log, segment)));
                wal.recycle_below(c).unwrap();
            }
            wal.close().unwrap();
        }
        let first = (0..).find(|&segment| is_there(&log, segment)).unwrap();
        let now = (first..).take_while(|&segment| is_there(&log, segment)).map(|segment| read(&log, segment)).collect();
        Recycled { log, first, now, past }
    }

    /// The segments' bytes as one, and where the byte at `lsn` stands there.
    fn at(&self, lsn: Lsn) -> usize {
        (lsn.0 - self.first * self.log.options.segment_size) as usize
    }

    fn write(&self, bytes: &[u8]) {
        let segment_size = self.log.options.segment_size;
        for (nth, (new, old)) in bytes.chunks(segment_size as usize).zip(&self.now).enumerate() {
            let lsn = Lsn((self.first + nth as u64) * segment_size);
            if new != old || self.log.peek(lsn, old.len())[..] != old[..] {
                self.log.poke(lsn, &mut AlignedBuf::from_bytes(new));
            }
        }
    }
}

fn is_there(log: &Log, segment: u64) -> bool {
    log.segments().contains(&format!("{segment:012}.wal"))
}

fn read(log: &Log, segment: u64) -> Vec<u8> {
    log.peek(Lsn(segment * log.options.segment_size), log.options.segment_size as usize).to_vec()
}

/// One fault of a disk.
fn maim(bytes: &mut [u8], log: &Recycled, flushes: &[FlushInfo], rng: &mut ChaCha8Rng) {
    let (segment_size, blocks) = (log.log.options.segment_size as usize, bytes.len() / BLOCK);
    let hit = Some(rng.random_range(0..flushes.len())).filter(|_| rng.random_bool(0.7)).map(|nth| &flushes[nth]);
    let start = hit.map_or_else(|| rng.random_range(0..blocks) * BLOCK, |flush| log.at(flush.lsn));
    let end = (start + rng.random_range(1..=segment_size / BLOCK) * BLOCK).min(bytes.len());
    match (rng.random_range(0..6), hit) {
        (0, _) => bytes[start..end].fill(0),
        (1, _) => rng.fill_bytes(&mut bytes[start..end]),
        (2, _) if !log.past.is_empty() => {
            for at in (start..end).step_by(BLOCK) {
                let old = &log.past[(at / segment_size + end) % log.past.len()];
                bytes[at..at + BLOCK].copy_from_slice(&old[at % segment_size..][..BLOCK]);
            }
        }
        // A write that went to another place.
        (3, Some(flush)) => {
            let whole = bytes[start..start + flush.end.since(flush.lsn) as usize].to_vec();
            bytes[start..start + whole.len()].fill(0);
            let to = rng.random_range(0..=(bytes.len() - whole.len()) / BLOCK) * BLOCK;
            bytes[to..to + whole.len()].copy_from_slice(&whole);
        }
        (4, _) => {
            let field = start + rng.random_range(0..12) * 4;
            let value: u32 = if rng.random() { rng.random() } else { rng.random_range(0..70_000) };
            bytes[field..field + 4].copy_from_slice(&value.to_le_bytes());
        }
        _ => bytes[start + rng.random_range(0..64)] ^= 1 << rng.random_range(0..8),
    }
}

#[test]
fn damage_is_told_while_any_whole_flush_vouches_for_what_is_missing() {
    let (mut told, mut harmless, mut last) = (0, 0, 0);
    let seeds = std::env::var("ASHLAR_WAL_HISTORIES").ok().and_then(|value| value.parse().ok()).unwrap_or(16);
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let log = Recycled::new(&mut rng);
        let (start, whole) = (log.log.start, log.now.concat());
        let flushes = log.log.flushes().unwrap();
        let end = log.log.scan().unwrap().tail().end;
        if flushes.is_empty() {
            continue;
        }
        for round in 0..50 {
            let mut bytes = whole.clone();
            maim(&mut bytes, &log, &flushes, &mut rng);
            log.write(&bytes);
            let is_whole = |flush: &&FlushInfo| {
                let range = log.at(flush.lsn)..log.at(flush.lsn) + flush.length as usize;
                bytes[range.clone()] == whole[range]
            };
            let found = log.log.scan();
            let what = format!("seed {seed}, round {round}: {:?}", found.as_ref().map(|scan| *scan.tail()));
            match flushes.iter().find(|flush| !is_whole(flush)) {
                None => {
                    assert_eq!(found.expect(&what).tail().end, end, "{what}");
                    harmless += 1;
                }
                Some(gap) if flushes.iter().any(|flush| flush.durable > gap.lsn && is_whole(&flush)) => {
                    assert!(matches!(found, Err(Error::Corrupted { from, .. }) if from == gap.lsn), "{what}");
                    told += 1;
                }
                Some(_) => last += 1,
            }
            // As if it had been closed there: whatever is found, no panic.
            let _ = read_closed_log(&log.log.fs, &log.log.dir, &log.log.options, &start);
            log.write(&whole);
        }
    }
    println!("told {told}, harmless {harmless}, of what nothing vouches for {last}");
    assert!(told > 200 && harmless > 50 && last > 20);
}

/// Numbers that no position of a log belongs to.
#[test]
fn a_file_with_an_impossible_number_is_none_of_ours() {
    let log = Recycled::new(&mut ChaCha8Rng::seed_from_u64(1)).log;
    let (dir, end) = (&log.dir, log.scan().unwrap().tail().end);
    let closed = LogStart { c: end, incarnation_at_c: log.start.newest_incarnation, ..log.start };
    for number in [u64::MAX / log.options.segment_size, u64::MAX - 1, u64::MAX] {
        let odd = dir.join(format!("{number:012}.wal"));
        let how = OpenHow { access: Access::ReadWrite, create: Create::New, mode: log.options.mode, block: log.options.block };
        log.fs.open(&odd, &how).unwrap().set_len(log.options.segment_size).unwrap();
        assert_eq!(log.scan().unwrap().tail().end, end, "{number}");
        read_closed_log(&log.fs, dir, &log.options, &closed).unwrap();
        let (wal, _) = log.clone().open().unwrap();
        drop(wal);
        log.fs.remove(&odd).unwrap();
    }
}

/// A log with many segments behind its end, which begin with long flushes; and what a superblock says that was written at its end.
fn long_recycled() -> (Log, LogStart) {
    let mut logs = (0..).map(|seed| Recycled::new(&mut ChaCha8Rng::seed_from_u64(seed)));
    let end_of = |log: &Recycled| log.log.scan().unwrap().tail().end;
    let behind = |log: &Recycled| log.first + log.now.len() as u64 - end_of(log).0 / log.log.options.segment_size;
    let log = logs.find(|log| log.log.options.flush_size_max > 8 * BLOCK && behind(log) > 5).unwrap();
    let closed = LogStart { c: end_of(&log), incarnation_at_c: log.log.start.newest_incarnation, ..log.log.start };
    (log.log, closed)
}

/// Of what recycling has left one block is read in each segment but two, and nothing else where the log is closed.
#[test]
fn little_is_read_of_what_recycling_has_left() {
    let (mut log, closed) = long_recycled();
    let (segments, segment_size) = (log.segments().len() as u64, log.options.segment_size);
    let (fs, plan) = FaultyFs::over(log.fs.clone(), Fault::Eio);
    log.fs = fs;
    let end = log.scan().unwrap().tail().end;
    let length = end.since(log.start.c);
    let before = plan.read_bytes();
    log.scan().unwrap();
    let read = plan.read_bytes() - before;
    // What is read at once may reach a segment beyond the log's end, and was not all used.
    assert!(read <= length + 3 * segment_size + segments * BLOCK as u64, "{read} of {segments} segments, {length} of log");
    let before = plan.read_bytes();
    read_closed_log(&log.fs, &log.dir, &log.options, &closed).unwrap();
    let read = plan.read_bytes() - before;
    assert!(read <= segments * BLOCK as u64, "{read} of {segments} segments");
}

/// Whichever of its reads fails, of a first block or of all the rest: that is not taken for the end.
#[test]
fn an_error_of_the_disk_is_no_end() {
    let (mut log, closed) = long_recycled();
    let (fs, plan) = FaultyFs::over(log.fs.clone(), Fault::Eio);
    log.fs = fs;
    for is_closed in [false, true] {
        let read = || match is_closed {
            true => read_closed_log(&log.fs, &log.dir, &log.options, &closed),
            false => log.scan(),
        };
        let before = plan.calls();
        read().unwrap();
        let calls = plan.calls() - before;
        assert!(calls > 12, "it looks at more than two segments: {calls} calls");
        for nth in 1..=calls {
            plan.fail_after(nth);
            assert!(matches!(read(), Err(Error::Disk(_))), "call {nth} of {calls}");
        }
        plan.fail_after(u64::MAX / 2);
    }
}
