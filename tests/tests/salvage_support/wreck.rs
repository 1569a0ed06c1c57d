//! Ways to wreck a database's files, and what must come back nevertheless.

use super::{Checkpoint, History, State};
use crate::common::damage::{self, BLOCK, COPY_OFFSETS, Kind};
use crate::common::{copy_database, quiet, shown, value_of};
use ashlardb::salvage::{Evidence, FindingKind, Report, SuperblockState};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// What is destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wreck {
    Nothing,
    /// Blocks of `data`, one in a hundred, behind the superblocks.
    Blocks,
    /// All copies of the superblock and all nodes of the page map.
    SuperblocksAndMap,
    /// That, and one block in a hundred.
    SuperblocksMapAndBlocks,
    /// Nodes of the page map, and one block in a hundred.
    MapAndBlocks,
    /// Both copies of the slot of the newest superblock.
    NewestSlot,
    /// Both copies of the other slot.
    OlderSlot,
    /// The log, all of it.
    Log,
    /// One segment of the log.
    Segment,
    /// Blocks of the log.
    LogBlocks,
    /// The end of `data`.
    Cut,
    /// One block in a hundred, wherever.
    Anything,
}

impl Wreck {
    pub(crate) const ALL: [Wreck; 12] = [
        Wreck::Nothing,
        Wreck::Blocks,
        Wreck::SuperblocksAndMap,
        Wreck::SuperblocksMapAndBlocks,
        Wreck::MapAndBlocks,
        Wreck::NewestSlot,
        Wreck::OlderSlot,
        Wreck::Log,
        Wreck::Segment,
        Wreck::LogBlocks,
        Wreck::Cut,
        Wreck::Anything,
    ];

    fn hits_log(self) -> bool {
        matches!(self, Wreck::Log | Wreck::Segment | Wreck::LogBlocks | Wreck::Anything)
    }

    /// Whether what stands where is still known for certain.
    fn leaves_map(self) -> bool {
        !matches!(self, Wreck::SuperblocksAndMap | Wreck::SuperblocksMapAndBlocks | Wreck::MapAndBlocks)
    }

    /// Destroys it in the database in `dir`; gives what is left of it.
    pub(crate) fn damage(self, dir: &Path, history: &History, seed: u64) -> Survivors {
        let data = dir.join("data");
        let mut bytes = damage::bytes_of(&data);
        let checkpoint = Checkpoint::read(&bytes);
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0xDA3A);
        let total = (bytes.len() / BLOCK) as u64;
        let mut hurt = BTreeSet::new();
        let hundredth = (total / 100).max(3);
        match self {
            Wreck::Blocks | Wreck::SuperblocksMapAndBlocks | Wreck::MapAndBlocks => {
                hurt.extend((0..hundredth).map(|_| random.random_range(256..total)));
            }
            Wreck::Anything => hurt.extend((0..hundredth).map(|_| random.random_range(0..total))),
            _ => {}
        }
        match self {
            Wreck::SuperblocksAndMap | Wreck::SuperblocksMapAndBlocks => {
                hurt.extend(COPY_OFFSETS.map(|offset| offset / BLOCK as u64));
                let nodes = damage::images(&bytes, history.page_size);
                hurt.extend(nodes.iter().filter(|image| image.kind == Kind::Map).map(|image| image.block));
            }
            Wreck::MapAndBlocks if !checkpoint.map.is_empty() => {
                let node = random.random_range(0..checkpoint.map.len());
                hurt.insert(checkpoint.map[node].start);
            }
            Wreck::NewestSlot | Wreck::OlderSlot => {
                let slot = if self == Wreck::NewestSlot { checkpoint.slot } else { 1 - checkpoint.slot };
                hurt.extend([slot, slot + 2].map(|copy| COPY_OFFSETS[copy] / BLOCK as u64));
            }
            _ => {}
        }
        for &block in &hurt {
            spoil(&mut bytes[block as usize * BLOCK..][..BLOCK], &mut random);
        }
        if self == Wreck::Cut {
            let keep = random.random_range(256..total);
            hurt.extend(keep..total);
            bytes.truncate(keep as usize * BLOCK + random.random_range(0..BLOCK));
        }
        std::fs::write(&data, &bytes).unwrap();
        self.damage_log(dir, &mut random);
        let superblocks_hurt = COPY_OFFSETS.iter().any(|offset| hurt.contains(&(offset / BLOCK as u64)));
        Survivors { wreck: self, checkpoint, hurt, superblocks_hurt }
    }

    /// The same, whatever the seed.
    pub(crate) fn apply(self, dir: &Path, history: &History) {
        self.damage(dir, history, 1);
    }

    fn damage_log(self, dir: &Path, random: &mut ChaCha8Rng) {
        let segments = damage::segments(dir);
        match self {
            Wreck::Log if random.random_range(0..2) == 0 => std::fs::remove_dir_all(dir.join("wal")).unwrap(),
            Wreck::Log => {
                for segment in segments {
                    let len = std::fs::metadata(&segment).unwrap().len() as usize;
                    std::fs::write(segment, value_of(random.random_range(0..1 << 40), len)).unwrap();
                }
            }
            Wreck::Segment => std::fs::remove_file(&segments[random.random_range(0..segments.len())]).unwrap(),
            Wreck::LogBlocks | Wreck::Anything => {
                for segment in segments {
                    let mut bytes = damage::bytes_of(&segment);
                    for _ in 0..random.random_range(0..3) {
                        let block = random.random_range(0..bytes.len() / BLOCK);
                        spoil(&mut bytes[block * BLOCK..][..BLOCK], random);
                    }
                    std::fs::write(segment, bytes).unwrap();
                }
            }
            _ => {}
        }
    }
}

/// A report, whole.
fn told(report: &Report) -> String {
    let keyspaces: String = report.keyspaces.iter().map(|keyspace| format!("\n  {keyspace:?}")).collect();
    let findings: String = report.findings.iter().map(|finding| format!("\n  {finding}")).collect();
    format!("{report}{keyspaces}{findings}\n  {:?}", report.doubts)
}

/// A key of a keyspace, and what it holds.
type Held<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);

/// Whether the engine, with the log that is left beside the data as it was, finds the same under these keys.
fn open_gives(dir: &Path, held: &[Held<'_>]) -> bool {
    let judge = dir.with_file_name("judge");
    let _ = std::fs::remove_dir_all(&judge);
    copy_database(dir, &judge);
    std::fs::copy(dir.with_file_name("live").join("data"), judge.join("data")).unwrap();
    let Ok(db) = quiet().read_only(true).cache_size(64 << 20).open(&judge) else { return false };
    held.iter().all(|&(name, key, value)| {
        let found = db.existing_keyspace(name).and_then(|keyspace| keyspace.map_or(Ok(None), |keyspace| keyspace.get(key)));
        found.is_ok_and(|found| found.as_deref() == value)
    })
}

/// Zeros, junk, or one bit.
fn spoil(block: &mut [u8], random: &mut ChaCha8Rng) {
    match random.random_range(0..3) {
        0 => block.fill(0),
        1 => block.copy_from_slice(&value_of(random.random_range(0..1 << 40), block.len())),
        _ => {
            let bit = random.random_range(0..64 * 8);
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// What a wreck has left, and what has come back.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) runs: u64,
    /// Entries none of whose blocks were hurt, and that had to come back.
    pub(crate) intact: u64,
    /// Of them those that came back from a newer state that a crash had taken back: said to be possible.
    pub(crate) unconfirmed: u64,
    /// Entries of the model that had not to come back.
    pub(crate) hurt: u64,
    /// Of these those that came back as they were.
    pub(crate) hurt_right: u64,
    /// Values that are not the last, or keys that had been deleted: all of them announced.
    pub(crate) older: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, other: Sum) {
        self.runs += other.runs;
        self.intact += other.intact;
        self.unconfirmed += other.unconfirmed;
        self.hurt += other.hurt;
        self.hurt_right += other.hurt_right;
        self.older += other.older;
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sum { runs, intact, unconfirmed, hurt, hurt_right, older } = self;
        write!(f, "{runs} salvages: {intact} intact entries, all back ({unconfirmed} of them with an unconfirmed value); ")?;
        write!(
            f,
            "{hurt} hurt or not certain, {hurt_right} of them back as they were; {older} older or deleted ones, all announced"
        )
    }
}

/// A wrecked database.
pub(crate) struct Survivors {
    wreck: Wreck,
    checkpoint: Checkpoint,
    hurt: BTreeSet<u64>,
    superblocks_hurt: bool,
}

/// What must become of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Demand {
    /// It must come back as it was.
    Exact,
    /// Nothing is asked.
    Nothing,
}

impl Survivors {
    fn is_hurt(&self, blocks: &Range<u64>) -> bool {
        self.hurt.range(blocks.clone()).next().is_some()
    }

    /// Compares what came back with what was there.
    pub(crate) fn check(&self, dir: &Path, found: &State, report: &Report, history: &History, what: &str) -> Sum {
        let mut sum = Sum { runs: 1, ..Sum::default() };
        let mut silent: Vec<Held<'_>> = Vec::new();
        self.check_state(report, what);
        for (name, expected) in &history.model {
            for (key, value) in expected {
                let (demand, tree) = self.demand(name, key, value, history, report);
                // Where the catalog is lost its tree has a made-up name; what the log alone holds may be in any.
                let made_up = |name: &str| match tree {
                    Some(tree) => name == format!("lost+found-tree-{tree}"),
                    None => name.starts_with("lost+found-tree-"),
                };
                let among = found.iter().filter(|(name, _)| made_up(name)).filter_map(|(_, all)| all.get(key));
                let lost = among.max_by_key(|&back| back == value);
                // An older entry of the catalog may give the name to a tree that the keyspace had before.
                let named = found.get(name).and_then(|all| all.get(key));
                let back = lost.filter(|back| *back == value).or(named).or(lost);
                if demand == Demand::Nothing {
                    sum.hurt += 1;
                    sum.hurt_right += u64::from(back == Some(value));
                    continue;
                }
                sum.intact += 1;
                if back != Some(value) {
                    // What a crash took back may be what comes back, and that may be that the key was deleted.
                    let taken_back = history.taken_back.contains(&(name.clone(), key.clone()));
                    let may_be = history.killed && (taken_back || history.taken_back_whole.contains(name));
                    let state = format!("{demand:?} in tree {tree:?}, {:?} bytes back of {}", back.map(Vec::len), value.len());
                    assert!(
                        may_be && report.evidence != Evidence::Map,
                        "{what}: key {} of {name} ({state}): {}",
                        shown(key),
                        told(report)
                    );
                    sum.unconfirmed += 1;
                }
            }
        }
        for (name, all) in found {
            for (key, value) in all {
                // A made-up name says that its tree may have been dropped.
                let made_up = name.starts_with("lost+found-tree-");
                let mut named = history.model.iter().filter(|(own, _)| made_up || *own == name);
                if named.any(|(_, expected)| expected.get(key) == Some(value)) {
                    continue;
                }
                let known = history.ever.get(key).is_some_and(|ever| ever.contains(value));
                assert!(known, "{what}: key {} of {name} never held {} bytes that came back", shown(key), value.len());
                sum.older += 1;
                if !made_up && report.doubts.is_empty() {
                    silent.push((name, key, Some(value)));
                }
            }
        }
        if !silent.is_empty() {
            let count = silent.len();
            // Where nothing of the log is left, not even recovery can tell that it did not end there.
            assert!(self.wreck.hits_log(), "{what}: {count} entries are older, and no word of it: {}", told(report));
            assert!(open_gives(dir, &silent), "{what}: {count} entries are older than what an open gives, and no word of it");
        }
        self.check_lost(dir, found, report, history, what);
        sum
    }

    fn check_state(&self, report: &Report, what: &str) {
        let state = match self.wreck {
            Wreck::SuperblocksAndMap | Wreck::SuperblocksMapAndBlocks => SuperblockState::Lost,
            Wreck::NewestSlot | Wreck::OlderSlot => SuperblockState::MaybeOlder,
            Wreck::Anything => return,
            _ => SuperblockState::Known,
        };
        assert_eq!(report.superblock, state, "{what}");
        if self.wreck == Wreck::Nothing {
            assert!(report.is_whole(), "{what}: {report}: {:?} {:?}", report.findings, report.doubts);
        }
        if !self.wreck.leaves_map() && !self.checkpoint.map.is_empty() {
            assert_ne!(report.evidence, Evidence::Map, "{what}");
            assert!(!report.doubts.is_empty(), "{what}");
        }
        if self.superblocks_hurt {
            assert!(report.findings.iter().any(|finding| finding.kind == FindingKind::Superblock), "{what}");
        }
    }

    /// Whether an entry has to come back, and in which tree it was in the checkpoint.
    fn demand(&self, name: &str, key: &[u8], value: &[u8], history: &History, report: &Report) -> (Demand, Option<u64>) {
        let stored = self.checkpoint.entries.get(&(name.to_owned(), key.to_vec()));
        let tree = stored.map(|entry| entry.tree);
        let touched = history.whole.contains(name) || history.touched.contains(&(name.to_owned(), key.to_vec()));
        // With one slot lost, what is newest is a matter of the log as well.
        let log_is_whole = !self.wreck.hits_log();
        let demand = match stored {
            Some(entry) if entry.value == value => {
                let blob_found = !entry.is_blob || report.evidence == Evidence::Map || self.wreck == Wreck::NewestSlot;
                let whole = !self.is_hurt(&entry.leaf) && entry.blocks.iter().all(|blocks| !self.is_hurt(blocks));
                whole && blob_found && (log_is_whole || !touched) && !(entry.is_blob && self.wreck == Wreck::NewestSlot)
            }
            // It is in the log alone.
            _ => touched && log_is_whole && !history.whole.contains(name) && value.len() <= 60_000,
        };
        (if demand { Demand::Exact } else { Demand::Nothing }, tree)
    }

    /// What is missing is said: a key of the model that is not back lies in a range that is lost, or its value is, or the log or the names
    /// are hurt.
    fn check_lost(&self, dir: &Path, found: &State, report: &Report, history: &History, what: &str) {
        let vague = [FindingKind::Log, FindingKind::MapNode, FindingKind::Keyspace, FindingKind::Unreadable];
        if report.findings_total > report.findings.len() as u64 || report.findings.iter().any(|f| vague.contains(&f.kind)) {
            return;
        }
        for (name, expected) in &history.model {
            for key in expected.keys().filter(|key| found.get(name).is_none_or(|all| !all.contains_key(*key))) {
                let said = report.findings.iter().any(|finding| {
                    let here = finding.keyspace.as_ref() == Some(name) || finding.tree == Some(1);
                    let in_range = |(from, to): &(Vec<u8>, Option<Vec<u8>>)| from <= key && to.as_ref().is_none_or(|to| key < to);
                    let is_it = finding.key.as_ref() == Some(key) || finding.range.as_ref().is_some_and(in_range);
                    here && (is_it || finding.tree == Some(1))
                });
                let may_be = report.evidence != Evidence::Map && !report.doubts.is_empty()
                    || self.wreck.hits_log() && open_gives(dir, &[(name, key, None)]);
                assert!(said || may_be, "{what}: key {} of {name} is gone without a word: {}", shown(key), told(report));
            }
        }
    }
}

/// Changes bytes in images of pages, superblocks and flushes, and makes their checksums right again: what no disk does, but a program
/// that writes nonsense.
pub(crate) fn corrupt_sealed(dir: &Path, page_size: usize, random: &mut ChaCha8Rng) {
    let data = dir.join("data");
    let mut bytes = damage::bytes_of(&data);
    let mut change = |part: &mut [u8], front: usize| {
        for _ in 0..random.random_range(1..4) {
            let limit = if random.random_range(0..2) == 0 { front.min(part.len()) } else { part.len() };
            let (at, byte) = (random.random_range(4..limit), random.random());
            part[at] = [0, 0xFF, byte][random.random_range(0..3)];
        }
    };
    for image in damage::images(&bytes, page_size).iter().step_by(2) {
        let part = &mut bytes[image.block as usize * BLOCK..][..image.len];
        change(part, 120);
        let crc = damage::crc32c(&part[4..]);
        part[..4].copy_from_slice(&crc.to_le_bytes());
    }
    // Of the superblock what says how much there is, and where.
    for offset in COPY_OFFSETS {
        let copy = &mut bytes[offset as usize..][..4096];
        change(&mut copy[60..124], 64);
        let crc = damage::crc32c(&copy[..4092]);
        copy[4092..].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&data, bytes).unwrap();
    for segment in damage::segments(dir) {
        let mut bytes = damage::bytes_of(&segment);
        for flush in damage::flushes(&bytes).iter().step_by(3) {
            let part = &mut bytes[flush.offset as usize..][..flush.length as usize];
            change(part, 120);
            let crc = damage::crc32c(&part[4..]);
            part[..4].copy_from_slice(&crc.to_le_bytes());
        }
        std::fs::write(segment, bytes).unwrap();
    }
}
