//! Damage of what was confirmed is told; nothing that was not written is ever read.

mod common;

use ashlar_disk::AlignedBuf;
use ashlar_wal::{Damage, Error, FlushInfo, LogEnd, LogStart, Lsn, Result};
use common::{Log, body, id_of, memory, small};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// A log of many records over several segments and incarnations, closed cleanly; the ids of its records in order.
fn written(seed: u64) -> (Log, Vec<u64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut log = Log::create(memory(), Path::new("/wal"), small()).expect("create");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (wal, _) = log.open().expect("open");
        for _ in 0..rng.random_range(1..25) {
            let id = ids.len() as u64;
            let len = if rng.random_ratio(1, 6) { rng.random_range(8..40_000) } else { rng.random_range(8..300) };
            wal.append(body(id, len));
            ids.push(id);
            if rng.random_bool(0.5) {
                wal.flush_to(wal.appended()).expect("flush");
            }
        }
        wal.close().expect("close");
    }
    (log, ids)
}

fn ids(log: &Log) -> Result<Vec<u64>> {
    Ok(log.records()?.iter().map(|record| id_of(&record.body).expect("a record that was written")).collect())
}

/// Damages the flush somewhere in what counts.
fn damage(log: &Log, flush: &FlushInfo, rng: &mut impl Rng) {
    let at = match rng.random_range(0..3) {
        0 => rng.random_range(0..64),
        1 => flush.length - 1,
        _ => rng.random_range(0..flush.length),
    };
    log.flip(flush.lsn.plus(u64::from(at)), 1 << rng.random_range(0..8));
}

#[test]
fn damage_of_any_confirmed_flush_but_the_last_is_told() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (log, all) = written(seed);
        let flushes = log.flushes().expect("inspect");
        assert_eq!(ids(&log).expect("read"), all);
        for (index, flush) in flushes.iter().enumerate() {
            let whole = log.peek(flush.lsn, flush.end.since(flush.lsn) as usize);
            damage(&log, flush, &mut rng);
            let found = ids(&log);
            if index + 1 == flushes.len() {
                assert_eq!(found.expect("damage of the witness costs nothing"), all);
            } else {
                let next = &flushes[index + 1];
                let Err(Error::Corrupted { from, to, damage, .. }) = found else { panic!("seed {seed}: {found:?}") };
                assert_eq!((from, to), (flush.lsn, next.durable));
                assert_eq!(damage, Damage::Confirmed { witness: next.lsn, durable: flush.end });
            }
            let mut whole = whole;
            log.poke(flush.lsn, &mut whole);
        }
        assert_eq!(ids(&log).expect("read"), all);
    }
}

#[test]
fn damage_up_to_the_last_whole_flush_is_told_however_wide() {
    let (log, _) = written(5);
    let flushes = log.flushes().expect("inspect");
    for flush in &flushes[..flushes.len() - 1] {
        let len = log.options.block.bytes();
        log.poke(flush.lsn, &mut AlignedBuf::zeroed(len));
    }
    let found = ids(&log);
    assert!(matches!(found, Err(Error::Corrupted { from: Lsn(0), .. })), "{found:?}");
}

/// A log whose later segments were recycled and not yet written to: what stands in them is only looked at where their beginning says that it
/// may count, and always in the segment behind the end's.
#[test]
fn what_recycling_left_is_passed_over_where_it_says_so() {
    let mut log = Log::create(memory(), Path::new("/wal"), small()).expect("create");
    let (wal, _) = log.open().expect("open");
    let fill = |kib: u64| {
        for id in 0..kib / 4 {
            wal.append(body(id, 4000));
            wal.flush_to(wal.appended()).expect("flush");
        }
    };
    fill(8 * 64);
    let c = wal.cut_point();
    assert!(c.0.is_multiple_of(log.options.segment_size), "C begins a segment");
    log.start = LogStart { c, incarnation_at_c: 1, newest_incarnation: 1, durable: wal.appended() };
    wal.recycle_below(c).expect("recycle");
    fill(80);
    wal.close().expect("close");
    let flushes = log.flushes().expect("inspect");
    let (lost, witness) = (&flushes[flushes.len() - 2], &flushes[flushes.len() - 1]);
    let (block, size) = (log.options.block.bytes(), log.options.segment_size);
    let first_of = |nth: u64| Lsn((lost.lsn.0 / size + nth) * size);
    let last = log.segments().iter().filter_map(|name| name.strip_suffix(".wal")?.parse::<u64>().ok()).max().expect("segments");
    assert!(last * size > first_of(2).0, "there are recycled segments: {:?}", log.segments());
    // Nothing vouches for the last records but a copy of the witness, in the middle of what recycling left.
    let mut copy = log.peek(witness.lsn, block);
    log.flip(lost.lsn, 1);
    log.flip(witness.lsn, 1);
    for segment in 1..=last - first_of(0).0 / size {
        assert!(log.scan().is_ok(), "nothing vouches");
        let (first, middle) = (first_of(segment), first_of(segment).plus(3 * block as u64));
        let mut before = log.peek(middle, block);
        log.poke(middle, &mut copy);
        let found = log.scan().map(|_| ());
        assert_eq!(found.is_err(), segment == 1, "segment {segment} behind the end's: {found:?}");
        let mut beginning = log.peek(first, block);
        for damaged in [0, 8, 16, 24, 32, 100] {
            log.flip(first.plus(damaged), 0x80);
            let found = log.scan().map(|_| ());
            // Its length, its checksum and what it carries don't matter; whose it is, where it belonged and what it claims do.
            assert_eq!(found.is_err(), segment == 1 || [16, 24, 32].contains(&damaged), "byte {damaged}: {found:?}");
            log.poke(first, &mut beginning);
        }
        // Nothing, the inside of a segment that was recycled, the beginning of the segment that C is in.
        for from in [None, Some(first.plus(block as u64)), Some(c)] {
            let mut other = from.map_or_else(|| AlignedBuf::zeroed(block), |from| log.peek(from, block));
            log.poke(first, &mut other);
            assert!(log.scan().is_err(), "segment {segment} may have been written to");
            log.poke(first, &mut beginning);
        }
        log.poke(middle, &mut before);
    }
}

#[test]
fn without_a_witness_the_last_flush_is_taken_for_a_torn_tail_unless_the_superblock_knows_better() {
    let mut log = Log::create(memory(), Path::new("/wal"), small()).expect("create");
    let (wal, _) = log.open().expect("open");
    let kept = wal.append(body(0, 100));
    wal.flush_to(kept.lsn).expect("flush");
    let lost = wal.append(body(1, 100));
    wal.flush_to(lost.lsn).expect("flush");
    log.flip(lost.start, 1);
    let scan = log.scan().expect("read");
    assert_eq!((scan.tail().why, scan.tail().records), (LogEnd::Torn, 1));
    log.start.durable = lost.lsn;
    let found = log.scan().map(|_| ());
    assert!(
        matches!(found, Err(Error::Corrupted { damage: Damage::ConfirmedBySuperblock { durable }, .. }) if durable == lost.lsn),
        "{found:?}"
    );
}

#[test]
fn a_missing_or_short_segment_is_named() {
    let (log, _) = written(3);
    let end = log.scan().expect("read").tail().end;
    let last_needed = end.0 / log.options.segment_size + 1;
    for segment in 0..=last_needed {
        let path = log.dir.join(format!("{segment:012}.wal"));
        let aside = log.dir.join("aside");
        log.fs.rename(&path, &aside).expect("rename");
        let found = log.scan().map(|_| ());
        let Err(Error::Corrupted { path: named, damage, .. }) = found else { panic!("segment {segment}: {found:?}") };
        assert_eq!(damage, Damage::MissingSegment);
        // With the end's segment in the middle of the log gone, the one named is still the one that is missing.
        assert_eq!(named, path);
        log.fs.rename(&aside, &path).expect("rename");
    }
    let path = log.dir.join("000000000000.wal");
    let how = ashlar_disk::OpenHow {
        access: ashlar_disk::Access::ReadWrite,
        create: ashlar_disk::Create::Never,
        mode: log.options.mode,
        block: log.options.block,
    };
    log.fs.open(&path, &how).expect("open").set_len(4096).expect("cut");
    let found = log.scan().map(|_| ());
    let wanted = Damage::SegmentLength { found: 4096, expected: 65536 };
    assert!(matches!(&found, Err(Error::Corrupted { damage, .. }) if *damage == wanted), "{found:?}");
}

#[test]
fn a_flush_from_the_superblocks_future_is_refused() {
    let (mut log, _) = written(4);
    log.start.newest_incarnation -= 1;
    let found = log.scan().map(|_| ());
    assert!(
        matches!(found, Err(Error::Corrupted { damage: Damage::UnknownIncarnation { found: 3, newest: 2 }, .. })),
        "{found:?}"
    );
}

#[test]
fn another_databases_log_is_told() {
    let (mut log, _) = written(4);
    log.options.uuid[0] ^= 1;
    let Err(Error::Corrupted { damage, .. }) = log.scan() else { panic!("another database's log was taken for an empty one") };
    assert_eq!(damage, Damage::ForeignSegment);
}

#[test]
fn what_an_older_incarnation_left_behind_the_end_is_not_followed() {
    // Incarnation 1 had two flushes in its log; the power cut that took the first, unconfirmed, has left the second.
    let mut log = Log::create(memory(), Path::new("/wal"), small()).expect("create");
    let (wal, _) = log.open().expect("open");
    for id in 0..2 {
        wal.flush_to(wal.append(body(id, 100)).lsn).expect("flush");
    }
    let mut left = log.peek(Lsn(4096), 4096);
    log.poke(Lsn(0), &mut ashlar_disk::AlignedBuf::zeroed(8192));
    drop(wal);
    // Incarnation 2 begins where the log ends now, and its first flush is as long as the lost one.
    let (wal, records) = log.open().expect("open");
    assert!(records.is_empty());
    wal.flush_to(wal.append(body(2, 100)).lsn).expect("flush");
    log.poke(Lsn(4096), &mut left);
    assert_eq!(ids(&log).expect("read"), [2]);
    assert_eq!(log.scan().expect("read").tail().why, LogEnd::OlderIncarnation(1));
    #[cfg(feature = "faults")]
    {
        // The deliberate mistake makes a difference: a commit that never was.
        let options = ashlar_wal::WalOptions { mistake: ashlar_wal::Mistake::AnyIncarnation, ..log.options.clone() };
        assert_eq!(ids(&Log { options, ..log.clone() }).expect("read"), [2, 1]);
    }
    // The next one goes on there, over what is left.
    drop(wal);
    let (wal, _) = log.open().expect("open");
    wal.flush_to(wal.append(body(3, 100)).lsn).expect("flush");
    assert_eq!(ids(&log).expect("read"), [2, 3]);
}

#[test]
fn an_unfinished_record_is_void_from_the_next_incarnation_on() {
    // Of two flushes of a record the power cut has left the first.
    let mut log = Log::create(memory(), Path::new("/wal"), small()).expect("create");
    let (wal, _) = log.open().expect("open");
    wal.flush_to(wal.append(body(0, 100)).lsn).expect("flush");
    wal.flush_to(wal.append(body(1, 20_000)).lsn).expect("flush");
    let flushes = log.flushes().expect("inspect");
    assert_eq!(flushes.len(), 3);
    log.poke(flushes[2].lsn, &mut ashlar_disk::AlignedBuf::zeroed(4096));
    drop(wal);
    // The next incarnation writes behind it.
    let (wal, records) = log.open().expect("open");
    assert_eq!(records.len(), 1);
    wal.flush_to(wal.append(body(2, 5000)).lsn).expect("flush");
    assert_eq!(log.flushes().expect("inspect").last().map(|flush| flush.lsn), Some(flushes[2].lsn));
    assert_eq!(ids(&log).expect("read"), [0, 2]);
    #[cfg(feature = "faults")]
    {
        // The deliberate mistake makes a difference: the new record is taken for the rest of the old one.
        let options = ashlar_wal::WalOptions { mistake: ashlar_wal::Mistake::RecordGoesOn, ..log.options.clone() };
        let found = ids(&Log { options, ..log.clone() });
        assert!(matches!(&found, Err(Error::Corrupted { damage: Damage::Framing, .. })), "{found:?}");
    }
}

/// Whatever is done to the files: no panic, no record that was not written, no order that was not the order.
#[test]
fn junk_never_becomes_a_record() {
    let (log, all) = written(11);
    let segments: Vec<_> = (0..log.segments().len() as u64).collect();
    let segment_size = log.options.segment_size as usize;
    let image: Vec<_> = segments.iter().map(|&n| log.peek(Lsn(n * log.options.segment_size), segment_size).to_vec()).collect();
    let flushes = log.flushes().expect("inspect");
    let (mut whole, mut refused, mut shorter) = (0, 0, 0);
    for seed in 0..3000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let segment = rng.random_range(0..segments.len());
        let at = Lsn(segment as u64 * log.options.segment_size);
        let mut bytes = image[segment].clone();
        for _ in 0..rng.random_range(1..4) {
            maim(&mut bytes, &image, &mut rng);
        }
        log.poke(at, &mut ashlar_disk::AlignedBuf::from_bytes(&bytes));
        match ids(&log) {
            Ok(found) if found == all => whole += 1,
            Ok(found) => {
                assert_eq!(found[..], all[..found.len()], "seed {seed}");
                let end = log.scan().expect("read again").tail().end;
                let lost = flushes.iter().filter(|flush| flush.lsn >= end);
                let offset = |lsn: Lsn| lsn.since(at) as usize;
                let damaged = |flush: &FlushInfo| {
                    let range = offset(flush.lsn)..offset(flush.lsn) + flush.length as usize;
                    flush.lsn >= at && bytes.get(range.clone()) != image[segment].get(range)
                };
                assert!(lost.clone().all(damaged), "seed {seed}: a whole flush behind the damage, and nothing was told");
                shorter += 1;
            }
            Err(_) => refused += 1,
        }
        log.poke(at, &mut ashlar_disk::AlignedBuf::from_bytes(&image[segment]));
    }
    println!("whole {whole}, refused {refused}, shorter {shorter}");
    assert!(whole > 0 && refused > 0 && shorter > 0);
}

fn maim(bytes: &mut [u8], image: &[Vec<u8>], rng: &mut impl Rng) {
    const BLOCK: usize = 4096;
    let blocks = bytes.len() / BLOCK;
    let block = rng.random_range(0..blocks) * BLOCK;
    match rng.random_range(0..6) {
        0 => bytes[rng.random_range(0..bytes.len() / 8)] ^= 1 << rng.random_range(0..8),
        1 => bytes[block..block + BLOCK].fill(0),
        2 => rng.fill_bytes(&mut bytes[block..block + BLOCK]),
        3 => rng.fill_bytes(&mut bytes[block..block + 64]),
        4 => {
            let other = &image[rng.random_range(0..image.len())];
            let from = rng.random_range(0..blocks) * BLOCK;
            bytes[block..block + BLOCK].copy_from_slice(&other[from..from + BLOCK]);
        }
        _ => {
            let field = block + rng.random_range(0..12) * 4;
            let value: u32 = if rng.random() { rng.random() } else { rng.random_range(0..70_000) };
            bytes[field..field + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
}
