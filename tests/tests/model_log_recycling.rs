//! Random model of how far the log's end is looked for, with segments that really move: files get new numbers and keep what stands in them,
//! some are removed when the log's limit shrinks, a crash keeps any of the names that were being given; several incarnations, one flush in
//! flight at a time. No engine code: the rule is under test.
//!
//! 1. Without damage every recovery gives what was confirmed, and refuses nothing.
//! 2. With one fault of the disk (a lost or misdirected write, a stretch of up to a segment that is zeros, junk or has old contents back, a
//!    flipped bit in a header) or with any number of unreadable flushes and a flipped bit, passing over segments that begin with what recycling
//!    left decides as searching all of them does.
//! 3. Each part of the rule that is needed for that shows when it is left out.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Blocks of a segment; a flush may have as many.
const SEGMENT: u64 = 4;

#[derive(Debug)]
struct Flush {
    incarnation: u32,
    start: u64,
    blocks: u64,
}

impl Flush {
    /// One flush is in flight at a time.
    fn durable(&self) -> u64 {
        self.start
    }
}

#[derive(Clone, Debug)]
enum Block {
    Zeros,
    Junk,
    /// The nth block of a flush.
    Of(Rc<Flush>, u64),
    /// A header of which a bit is wrong: the position it names, and what it says to be durable.
    Broken(u64, u64),
}

/// A segment's file, and what stood in it before: at each write, and when it got its number.
#[derive(Clone, Debug)]
struct File {
    now: Vec<Block>,
    before: Vec<Vec<Block>>,
}

impl File {
    fn new() -> File {
        File { now: vec![Block::Zeros; SEGMENT as usize], before: Vec::new() }
    }

    /// The whole flush that begins at this block, wherever it belongs.
    fn flush_at(&self, offset: u64) -> Option<&Rc<Flush>> {
        let Some(Block::Of(flush, 0)) = self.now.get(offset as usize) else { return None };
        let is = |nth: u64| matches!(self.now.get((offset + nth) as usize), Some(Block::Of(f, n)) if Rc::ptr_eq(f, flush) && *n == nth);
        (0..flush.blocks).all(is).then_some(flush)
    }

    fn put(&mut self, offset: u64, flush: &Rc<Flush>, mut landed: impl FnMut() -> bool) {
        for nth in (0..flush.blocks).filter(|_| landed()) {
            self.now[(offset + nth) as usize] = Block::Of(flush.clone(), nth);
        }
    }
}

type Disk = BTreeMap<u64, File>;

fn segment_of(position: u64) -> u64 {
    position / SEGMENT
}

#[derive(Clone, Copy, Debug)]
struct Superblock {
    c: u64,
    incarnation_at_c: u32,
}

/// Which segments are looked at beyond the gap's, and what is taken for left over in the others. `RULE` is the design.
#[derive(Clone, Copy)]
struct Rule {
    passes_over: bool,
    /// The one after the gap's is looked at whatever it begins with.
    next_too: bool,
    /// It belonged below C's segment.
    below_c: bool,
    /// What it says to be durable is not beyond it.
    durable: bool,
    /// It began a segment.
    begins: bool,
}

const ALL: Rule = Rule { passes_over: false, ..RULE };
const RULE: Rule = Rule { passes_over: true, next_too: true, below_c: true, durable: true, begins: true };

fn begins_with_leftovers(file: &File, c: u64, rule: Rule) -> bool {
    let (position, durable) = match &file.now[0] {
        Block::Of(flush, 0) => (flush.start, flush.durable()),
        Block::Broken(position, durable) => (*position, *durable),
        _ => return false,
    };
    let below = position < segment_of(c) * SEGMENT || !rule.below_c;
    below && (position.is_multiple_of(SEGMENT) || !rule.begins) && (durable <= position || !rule.durable)
}

/// Where the log ends, and its last incarnation; `None`: refused.
fn recover(disk: &Disk, superblock: Superblock, rule: Rule) -> Option<(u64, u32)> {
    let (mut end, mut newest) = (superblock.c, superblock.incarnation_at_c);
    while let Some(flush) = disk.get(&segment_of(end))?.flush_at(end % SEGMENT) {
        if flush.start != end || flush.incarnation < newest {
            break;
        }
        (end, newest) = (end + flush.blocks, flush.incarnation);
    }
    let own = segment_of(end);
    let vouches = |flush: &Rc<Flush>| flush.durable() > end && flush.incarnation >= superblock.incarnation_at_c;
    for (&segment, file) in disk.range(own..) {
        let always = segment == own || segment == own + 1 && rule.next_too;
        if rule.passes_over && !always && begins_with_leftovers(file, superblock.c, rule) {
            continue;
        }
        let first = if segment == own { end % SEGMENT } else { 0 };
        if (first..SEGMENT).filter_map(|offset| file.flush_at(offset)).any(vouches) {
            return None;
        }
    }
    let needed = if end.is_multiple_of(SEGMENT) { own } else { own + 1 };
    disk.contains_key(&needed).then_some((end, newest))
}

/// A write that does not do what it is told, once in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Astray {
    Never,
    Lost(u32),
    Elsewhere(u32),
}

struct Model {
    rng: ChaCha8Rng,
    disk: Disk,
    superblock: Superblock,
    /// How many segments are kept for reuse at most.
    spare: u64,
    incarnation: u32,
    end: u64,
    ready_end: u64,
    writes: u32,
    astray: Astray,
}

/// Whoever writes is stopped here.
struct Crash;

impl Model {
    fn new(seed: u64, faulty: bool) -> Model {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let astray = match rng.random_range(0..3) {
            _ if !faulty => Astray::Never,
            0 => Astray::Lost(rng.random_range(0..40)),
            1 => Astray::Elsewhere(rng.random_range(0..40)),
            _ => Astray::Never,
        };
        let disk = Disk::from([(0, File::new())]);
        let superblock = Superblock { c: 0, incarnation_at_c: 0 };
        Model { rng, disk, superblock, spare: 0, incarnation: 0, end: 0, ready_end: 1, writes: 0, astray }
    }

    /// Opens for writing. `None`: refused.
    fn open(&mut self) -> Option<()> {
        let (end, _) = recover(&self.disk, self.superblock, RULE)?;
        self.incarnation += 1;
        self.end = end;
        self.ready_end = segment_of(self.superblock.c);
        while self.disk.contains_key(&self.ready_end) {
            self.ready_end += 1;
        }
        self.spare = self.rng.random_range(0..6);
        Some(())
    }

    fn rename(&mut self, from: u64, to: u64) {
        let mut file = self.disk.remove(&from).expect("it is there");
        file.before.push(file.now.clone());
        self.disk.insert(to, file);
    }

    /// Sees to it that `last` is there: one below C's, or from beyond a hole, or a new one.
    fn ensure(&mut self, last: u64) {
        while self.ready_end <= last {
            let (first, next) = (segment_of(self.superblock.c), self.ready_end);
            let free = self.disk.keys().copied().find(|&segment| segment < first || segment > next);
            match free {
                _ if self.disk.contains_key(&next) => {}
                Some(free) => self.rename(free, next),
                None => drop(self.disk.insert(next, File::new())),
            }
            self.ready_end += 1;
        }
    }

    fn flush(&mut self, completes: bool) -> Result<(), Crash> {
        let blocks = if self.rng.random_bool(0.3) { SEGMENT } else { 1 }.min(SEGMENT - self.end % SEGMENT);
        let flush = Rc::new(Flush { incarnation: self.incarnation, start: self.end, blocks });
        self.ensure(segment_of(self.end) + 1);
        self.writes += 1;
        let (mut segment, mut offset) = (segment_of(self.end), self.end % SEGMENT);
        let file = self.disk.get_mut(&segment).expect("it is ready");
        file.before.push(file.now.clone());
        if self.astray == Astray::Elsewhere(self.writes) {
            let nth = self.rng.random_range(0..self.disk.len());
            segment = *self.disk.keys().nth(nth).expect("there are as many");
            offset = self.rng.random_range(0..=SEGMENT - blocks);
        }
        let file = self.disk.get_mut(&segment).expect("it is there");
        if self.astray != Astray::Lost(self.writes) {
            let rng = &mut self.rng;
            file.put(offset, &flush, || completes || rng.random_bool(0.5));
        }
        if !completes {
            return Err(Crash);
        }
        self.end += blocks;
        Ok(())
    }

    /// A checkpoint of all there is, and recycling; of the names that are being given when it crashes any are kept.
    fn checkpoint(&mut self) -> Result<(), Crash> {
        self.superblock = Superblock { c: self.end, incarnation_at_c: self.incarnation };
        let crashes = self.rng.random_bool(0.15);
        let (first, wanted) = (segment_of(self.end), segment_of(self.end) + 2 + self.spare);
        let free: Vec<u64> = self.disk.keys().copied().filter(|&s| s < first || s >= self.ready_end).collect();
        let mut next = self.ready_end;
        for segment in free {
            let kept = !crashes || self.rng.random_bool(0.5);
            if next < wanted && (segment < first || segment > next) {
                // A name beyond a hole is taken as it is; another file never gets it.
                if kept && !self.disk.contains_key(&next) {
                    self.rename(segment, next);
                }
                next += 1;
            } else if segment < first && kept {
                self.disk.remove(&segment);
            }
        }
        if crashes {
            return Err(Crash);
        }
        while self.disk.contains_key(&self.ready_end) {
            self.ready_end += 1;
        }
        Ok(())
    }

    fn live(&mut self) -> Result<(), Crash> {
        for _ in 0..self.rng.random_range(0..30) {
            match self.rng.random_range(0..12) {
                0 => self.checkpoint()?,
                1 if self.rng.random_bool(0.3) => self.flush(false)?,
                _ => self.flush(true)?,
            }
        }
        Ok(())
    }

    /// Some lives; the end of what was confirmed last. `None`: a fault made an open refuse, or the log shorter.
    fn lives(&mut self) -> Result<Option<()>, String> {
        for life in 0..self.rng.random_range(1..5) {
            let confirmed = self.end;
            let opened = self.open();
            if self.astray == Astray::Never && (opened.is_none() || self.end < confirmed) {
                return Err(format!("life {life}: ends at {}, confirmed up to {confirmed}", self.end));
            }
            if opened.is_none() || self.end < confirmed {
                return Ok(None);
            }
            let _ = self.live();
        }
        Ok(Some(()))
    }

    /// Changes a bit of what the header at a block says.
    fn flip(&mut self, segment: u64, offset: usize) {
        let file = self.disk.get_mut(&segment).expect("it is there");
        if let Block::Of(flush, 0) = &file.now[offset] {
            let bit = 1 << self.rng.random_range(0..8);
            let (position, durable) = (flush.start, flush.durable());
            let in_position = self.rng.random_bool(0.5);
            file.now[offset] =
                if in_position { Block::Broken(position ^ bit, durable) } else { Block::Broken(position, durable ^ bit) };
        }
    }

    fn any_segment(&mut self) -> u64 {
        let nth = self.rng.random_range(0..self.disk.len());
        *self.disk.keys().nth(nth).expect("there are as many")
    }

    /// A stretch of a segment's length at most, over two that follow each other at most.
    fn damage_stretch(&mut self) {
        let from = self.any_segment() * SEGMENT + self.rng.random_range(0..SEGMENT);
        let (kind, age) = (self.rng.random_range(0..3), self.rng.random_range(0..4));
        for position in from..from + self.rng.random_range(1..=SEGMENT) {
            let Some(file) = self.disk.get_mut(&segment_of(position)) else { continue };
            let offset = (position % SEGMENT) as usize;
            let old = file.before.iter().rev().nth(age).or(file.before.first());
            file.now[offset] = match kind {
                0 => Block::Zeros,
                1 => Block::Junk,
                _ => old.map_or(Block::Zeros, |old| old[offset].clone()),
            };
        }
    }

    /// Any number of blocks can't be read for what they are, and one bit of one header is wrong.
    fn damage_many(&mut self) {
        for file in self.disk.values_mut() {
            for block in 0..SEGMENT as usize {
                // First blocks stay or say something wrong.
                if self.rng.random_bool(0.6) && (block > 0 || self.rng.random_bool(0.3)) {
                    file.now[block] = Block::Junk;
                }
            }
        }
        let segment = self.any_segment();
        self.flip(segment, 0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    One,
    Many,
}

/// Whether `rule` finds an end where searching all refuses. `None`: nothing was damaged to speak of.
fn unseen(seed: u64, damage: Damage, rule: Rule) -> Option<bool> {
    let mut model = Model::new(seed, damage == Damage::One);
    model.lives().ok()??;
    match damage {
        Damage::One if model.astray == Astray::Never => match model.rng.random_bool(0.7) {
            true => model.damage_stretch(),
            false => {
                let (segment, offset) = (model.any_segment(), model.rng.random_range(0..SEGMENT));
                model.flip(segment, offset as usize);
            }
        },
        Damage::One => {}
        Damage::Many => model.damage_many(),
    }
    let all = recover(&model.disk, model.superblock, ALL);
    let found = recover(&model.disk, model.superblock, rule);
    assert!(all.is_none() || found == all, "seed {seed}: searching less refuses more");
    all.is_none().then_some(found.is_some())
}

#[test]
fn nothing_confirmed_is_lost_and_no_healthy_log_is_refused() {
    let mut moved = 0;
    for seed in 0..20_000 {
        let mut model = Model::new(seed, false);
        if let Err(what) = model.lives() {
            panic!("seed {seed}: {what}");
        }
        let (end, all) = (recover(&model.disk, model.superblock, RULE), recover(&model.disk, model.superblock, ALL));
        assert_eq!(end, all, "seed {seed}");
        moved += u32::from(model.disk.values().any(|file| begins_with_leftovers(file, model.superblock.c, RULE)));
    }
    assert!(moved > 5_000, "{moved}");
}

#[test]
fn damage_is_seen_as_if_all_had_been_searched() {
    for damage in [Damage::One, Damage::Many] {
        let (mut refused, seeds) = (0, 40_000);
        for seed in 0..seeds {
            match unseen(seed, damage, RULE) {
                Some(true) => panic!("seed {seed}: {damage:?} is not seen"),
                Some(false) => refused += 1,
                None => {}
            }
        }
        assert!(refused > seeds / 20, "{damage:?}: {refused}");
    }
}

#[test]
fn each_part_of_the_rule_shows() {
    let wrong = [
        ("the next segment is passed over too", Damage::One, Rule { next_too: false, ..RULE }),
        ("what belonged above C is passed over", Damage::Many, Rule { below_c: false, ..RULE }),
        ("what it says to be durable is not looked at", Damage::Many, Rule { durable: false, ..RULE }),
    ];
    for (what, damage, rule) in wrong {
        assert!((0..60_000).any(|seed| unseen(seed, damage, rule) == Some(true)), "not caught: {what}");
    }
}
