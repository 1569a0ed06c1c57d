//! Random model of where the log ends: flushes, incarnations, crashes with writes in flight. No engine code: the rules of
//! recovery are under test, and each rule left out must show.
//!
//! A history is several runs, each from a recovery to a crash (or a checkpoint and on). Checked at each recovery: what is
//! replayed is a prefix of what was appended, with every confirmed transaction, nothing torn and nothing older. Another check
//! damages confirmed flushes: recovery must refuse to start instead of ending the log there. Segments were all in use before: where
//! nothing was written yet stands what recycling left.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How many blocks the longest flush has, and how many flushes are in flight at most.
const FLUSH_BLOCKS_MAX: u64 = 2;
const IN_FLIGHT_MAX: usize = 3;

/// Blocks of a segment.
const SEGMENT: u64 = 6;

/// Which flushes past a gap are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// All.
    All,
    /// Those in the gap's segment, in the next one, and in each further one that does not begin with what recycling left.
    Entered,
    /// The same, and the next one like the further ones.
    EnteredFromTheNext,
    /// Those in the gap's segment and the next one.
    Near,
    /// Those that could have been in flight with what stood at the gap.
    InFlight,
}

/// The rules of recovery and of opening that can be left out. `GOOD` is the design.
#[derive(Clone, Copy)]
struct Rules {
    /// The first flush must not be of an incarnation below the one the superblock gives for C.
    floor_from_superblock: bool,
    search: Search,
    /// A record never continues across a change of incarnation.
    records_end_with_incarnation: bool,
    /// Each run has an incarnation of its own that no run before it had; else one more than the newest that was found.
    incarnation_is_new: bool,
    /// A run's first flush is alone and durable before the next one is written.
    first_flush_alone: bool,
    /// Records span flushes.
    records_span: bool,
    /// The superblock's C moves.
    checkpoints: bool,
    /// An empty flush vouches for the last one when the log is idle.
    witness: bool,
}

const GOOD: Rules = Rules {
    floor_from_superblock: true,
    search: Search::Entered,
    records_end_with_incarnation: true,
    incarnation_is_new: true,
    first_flush_alone: false,
    records_span: true,
    checkpoints: true,
    witness: true,
};

/// One of the pieces of a transaction's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    transaction: u32,
    index: u32,
    count: u32,
}

#[derive(Debug)]
struct Flush {
    incarnation: u32,
    start: u64,
    blocks: u64,
    /// What was known to be durable when it was written.
    durable: u64,
    pieces: Vec<Piece>,
}

/// Which flush's which block each block of the log holds; those that were written since their segments were recycled.
type Disk = BTreeMap<u64, (Rc<Flush>, u64)>;

#[derive(Clone, Copy, Default)]
struct Superblock {
    c: u64,
    incarnation_at_c: u32,
}

fn put(disk: &mut Disk, flush: &Rc<Flush>, landed: impl FnMut(&u64) -> bool) {
    for block in (0..flush.blocks).filter(landed) {
        disk.insert(flush.start + block, (flush.clone(), block));
    }
}

/// The whole flush that begins at `position`, if there is one.
fn valid(disk: &Disk, position: u64) -> Option<&Rc<Flush>> {
    let (flush, _) = disk.get(&position).filter(|(flush, block)| *block == 0 && flush.start == position)?;
    let has = |block| disk.get(&(position + block)).is_some_and(|(f, b)| Rc::ptr_eq(f, flush) && *b == block);
    (0..flush.blocks).all(has).then_some(flush)
}

/// What recovery finds.
struct Log {
    /// Transactions in order; `None` is garbage.
    transactions: Vec<Option<u32>>,
    end: u64,
    newest_incarnation: u32,
}

/// Reads the log; `None`: refuses, because something that was durable is missing.
fn recover(disk: &Disk, superblock: Superblock, rules: Rules) -> Option<Log> {
    let floor = if rules.floor_from_superblock { superblock.incarnation_at_c } else { 0 };
    let (mut end, mut newest, mut chain) = (superblock.c, floor, Vec::new());
    while let Some(flush) = valid(disk, end).filter(|f| f.incarnation >= newest) {
        newest = flush.incarnation;
        end += flush.blocks;
        chain.push(flush);
    }
    let segment = |position: u64| position / SEGMENT;
    let begins_with_leftovers = |position: u64| !disk.contains_key(&(segment(position) * SEGMENT));
    let looked_at = |&position: &u64| match rules.search {
        Search::All => true,
        Search::Entered => segment(position) <= segment(end) + 1 || !begins_with_leftovers(position),
        Search::EnteredFromTheNext => segment(position) == segment(end) || !begins_with_leftovers(position),
        Search::Near => segment(position) <= segment(end) + 1,
        Search::InFlight => position < end + IN_FLIGHT_MAX as u64 * FLUSH_BLOCKS_MAX,
    };
    let positions = disk.range(end + 1..).map(|(&position, _)| position).filter(looked_at);
    let past_the_gap = positions.filter_map(|position| valid(disk, position));
    let vouches = |flush: &Rc<Flush>| flush.incarnation >= floor && flush.durable > end;
    if past_the_gap.into_iter().any(vouches) {
        return None;
    }
    Some(Log { transactions: records(&chain, rules), end, newest_incarnation: newest })
}

/// Puts the pieces of the flushes together.
fn records(chain: &[&Rc<Flush>], rules: Rules) -> Vec<Option<u32>> {
    let mut found = Vec::new();
    let mut open: Vec<Piece> = Vec::new();
    let mut incarnation = 0;
    for flush in chain {
        if rules.records_end_with_incarnation && flush.incarnation != incarnation {
            open.clear();
        }
        for &piece in &flush.pieces {
            if open.is_empty() {
                incarnation = flush.incarnation;
                if piece.index != 0 {
                    found.push(None);
                    continue;
                }
            }
            open.push(piece);
            if open.len() == open[0].count as usize {
                let fits = |(index, p): (usize, &Piece)| p.transaction == open[0].transaction && p.index as usize == index;
                found.push(open.iter().enumerate().all(fits).then_some(open[0].transaction));
                open.clear();
            }
        }
    }
    found
}

/// A process that writes the log, from one recovery to the crash.
struct Run<'a> {
    disk: &'a mut Disk,
    rng: &'a mut ChaCha8Rng,
    rules: Rules,
    incarnation: u32,
    position: u64,
    durable: u64,
    in_flight: Vec<Rc<Flush>>,
    flushes: Vec<Rc<Flush>>,
    /// What of the newest record has no flush yet.
    unwritten: Vec<Piece>,
    appended: Vec<u32>,
}

impl Run<'_> {
    fn flush(&mut self, blocks: u64, pieces: Vec<Piece>) -> Rc<Flush> {
        let (incarnation, start, durable) = (self.incarnation, self.position, self.durable);
        self.position += blocks;
        Rc::new(Flush { incarnation, start, blocks, durable, pieces })
    }

    fn next_piece(&mut self, next_transaction: &mut u32) -> Piece {
        if self.unwritten.is_empty() {
            let count = if self.rules.records_span { self.rng.random_range(1..4) } else { 1 };
            let transaction = *next_transaction;
            self.unwritten = (0..count).rev().map(|index| Piece { transaction, index, count }).collect();
            self.appended.push(transaction);
            *next_transaction += 1;
        }
        self.unwritten.pop().expect("a record has a piece")
    }

    fn submit(&mut self, pieces: Vec<Piece>) {
        let left = SEGMENT - self.position % SEGMENT;
        let blocks = self.rng.random_range(1..=FLUSH_BLOCKS_MAX.min(left));
        let flush = self.flush(blocks, pieces);
        self.in_flight.push(flush.clone());
        self.flushes.push(flush);
    }

    fn complete_one(&mut self) {
        let nth = self.rng.random_range(0..self.in_flight.len());
        let flush = self.in_flight.remove(nth);
        put(self.disk, &flush, |_| true);
        self.durable = self.in_flight.iter().map(|f| f.start).min().unwrap_or(self.position);
    }

    fn complete_all(&mut self) {
        for flush in std::mem::take(&mut self.in_flight) {
            put(self.disk, &flush, |_| true);
        }
        self.durable = self.position;
    }

    /// The transactions whose last piece is durable.
    fn confirmed(&self) -> BTreeSet<u32> {
        let durable = self.flushes.iter().filter(|f| f.start + f.blocks <= self.durable);
        let pieces = durable.flat_map(|f| &f.pieces);
        pieces.filter(|p| p.index + 1 == p.count).map(|p| p.transaction).collect()
    }

    /// Each block in flight lands or does not.
    fn crash(mut self) {
        for flush in std::mem::take(&mut self.in_flight) {
            let luck = self.rng.random_range(0..4);
            let rng = &mut self.rng;
            put(self.disk, &flush, |_| luck == 3 || luck == 2 && rng.random_bool(0.5));
        }
    }
}

/// Runs one history; the violation, if there is one.
fn history(rules: Rules, seed: u64) -> Result<(), String> {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut disk = Disk::new();
    let mut superblock = Superblock::default();
    let (mut timeline, mut confirmed): (Vec<u32>, usize) = (Vec::new(), 0);
    let (mut next_transaction, mut newest_run) = (1, 0);
    for run_number in 0..rng.random_range(2..6) {
        let log = recover(&disk, superblock, rules).ok_or("refused, and nothing was damaged")?;
        let expected: Vec<_> = timeline.iter().copied().map(Some).collect();
        if !expected.starts_with(&log.transactions) || log.transactions.len() < confirmed {
            let found = log.transactions;
            return Err(format!("run {run_number}: recovered {found:?} of {timeline:?}, confirmed {confirmed}"));
        }
        timeline.truncate(log.transactions.len());
        confirmed = timeline.len();
        newest_run = if rules.incarnation_is_new { newest_run } else { log.newest_incarnation } + 1;
        let mut run = Run {
            disk: &mut disk,
            rng,
            rules,
            incarnation: newest_run,
            position: log.end,
            durable: log.end,
            in_flight: Vec::new(),
            flushes: Vec::new(),
            unwritten: Vec::new(),
            appended: Vec::new(),
        };
        if rules.first_flush_alone {
            let first = run.flush(1, Vec::new());
            let (crashes, lands) = (run.rng.random_bool(0.2), run.rng.random_bool(0.5));
            put(run.disk, &first, |_| !crashes || lands);
            if crashes {
                continue;
            }
            run.durable = run.position;
        }
        for _ in 0..run.rng.random_range(0..7) {
            match run.rng.random_range(0..100) {
                0..50 if run.in_flight.len() < IN_FLIGHT_MAX => {
                    let count = run.rng.random_range(1..3);
                    let pieces = (0..count).map(|_| run.next_piece(&mut next_transaction)).collect();
                    run.submit(pieces);
                }
                50..85 if !run.in_flight.is_empty() => run.complete_one(),
                85..95 if run.unwritten.is_empty() && rules.checkpoints => {
                    run.complete_all();
                    superblock = Superblock { c: run.position, incarnation_at_c: run.incarnation };
                    run.appended.clear();
                    timeline.clear();
                    confirmed = 0;
                }
                _ => {}
            }
        }
        let done = run.confirmed();
        // A record that is not whole in the log may only vanish.
        let cut_off = run.unwritten.first().map(|p| p.transaction);
        timeline.extend(run.appended.iter().filter(|&&t| Some(t) != cut_off));
        confirmed += timeline[confirmed..].iter().take_while(|t| done.contains(t)).count();
        run.crash();
    }
    Ok(())
}

/// What is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    /// One confirmed flush can't be read any more.
    OneFlush,
    /// A stretch of at most a segment's length, from a confirmed flush on, holds what recycling had left.
    Stretch,
    /// Any flushes but the last one can't be read any more.
    Any,
}

/// Writes a log, damages it, recovers: `true` if the log just seems to end there though something later vouches for what is missing.
fn damage_goes_unseen(rules: Rules, damage: Damage, seed: u64) -> bool {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut disk = Disk::new();
    let (in_flight, flushes, unwritten, appended) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut run =
        Run { disk: &mut disk, rng, rules, incarnation: 1, position: 0, durable: 0, in_flight, flushes, unwritten, appended };
    for transaction in 0..run.rng.random_range(4..60) {
        if run.rng.random_bool(0.6) && run.in_flight.len() < IN_FLIGHT_MAX {
            run.submit(vec![Piece { transaction, index: 0, count: 1 }]);
        } else if !run.in_flight.is_empty() {
            run.complete_one();
        }
    }
    if rules.witness {
        run.complete_all();
        let witness = run.flush(1, Vec::new());
        put(run.disk, &witness, |_| true);
    }
    let confirmed: Vec<Rc<Flush>> = run.flushes.iter().filter(|f| f.start + f.blocks <= run.durable).cloned().collect();
    if confirmed.is_empty() {
        return false;
    }
    let hit = &confirmed[rng.random_range(0..confirmed.len())];
    let unreadable = || (Rc::new(Flush { incarnation: 0, start: u64::MAX, blocks: 1, durable: 0, pieces: Vec::new() }), 0);
    match damage {
        Damage::OneFlush => {
            disk.insert(hit.start, unreadable());
        }
        Damage::Stretch => {
            let end = hit.start + rng.random_range(1..=SEGMENT);
            disk.retain(|&position, _| !(hit.start..end).contains(&position));
        }
        Damage::Any => {
            for flush in confirmed.iter().filter(|flush| flush.start == hit.start || rng.random_bool(0.7)) {
                disk.insert(flush.start, unreadable());
            }
        }
    }
    let missing = confirmed.iter().map(|flush| flush.start).find(|&start| valid(&disk, start).is_none()).expect("one was hit");
    let vouched = disk.keys().filter_map(|&position| valid(&disk, position)).any(|flush| flush.durable > missing);
    vouched && recover(&disk, Superblock { c: 0, incarnation_at_c: 1 }, rules).is_some()
}

#[test]
fn the_rules_hold() {
    let from_the_log = Rules { incarnation_is_new: false, first_flush_alone: true, ..GOOD };
    for rules in [GOOD, from_the_log] {
        for seed in 0..40_000 {
            if let Err(what) = history(rules, seed) {
                panic!("seed {seed}: {what}");
            }
        }
    }
}

#[test]
fn each_rule_left_out_shows() {
    let wrong = [
        ("no incarnation at C", Rules { floor_from_superblock: false, ..GOOD }),
        ("a record continues across incarnations", Rules { records_end_with_incarnation: false, ..GOOD }),
        ("an incarnation is used twice", Rules { incarnation_is_new: false, ..GOOD }),
        (
            "an incarnation is used twice, without checkpoints and spanning records",
            Rules { incarnation_is_new: false, checkpoints: false, records_span: false, ..GOOD },
        ),
    ];
    for (what, rules) in wrong {
        assert!((0..20_000).any(|seed| history(rules, seed).is_err()), "not caught: {what}");
    }
}

#[test]
fn damage_to_a_confirmed_flush_is_never_taken_for_the_end() {
    for damage in [Damage::OneFlush, Damage::Stretch, Damage::Any] {
        for search in [Search::All, Search::Entered] {
            let unseen = (0..40_000).find(|&seed| damage_goes_unseen(Rules { search, ..GOOD }, damage, seed));
            assert_eq!(unseen, None, "{damage:?}");
        }
        let in_flight = Rules { search: Search::InFlight, ..GOOD };
        assert!((0..2_000).any(|seed| damage_goes_unseen(in_flight, damage, seed)), "{damage:?}");
    }
    for (damage, search) in [(Damage::Stretch, Search::EnteredFromTheNext), (Damage::Any, Search::Near)] {
        assert!((0..20_000).any(|seed| damage_goes_unseen(Rules { search, ..GOOD }, damage, seed)), "{damage:?}");
    }
}

/// Without the witness nothing vouches for the last flush.
#[test]
fn the_last_flush_needs_a_witness() {
    let last_is_lost = |rules: Rules, seed| {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut disk = Disk::new();
        let (in_flight, flushes, unwritten, appended) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut run =
            Run { disk: &mut disk, rng, rules, incarnation: 1, position: 0, durable: 0, in_flight, flushes, unwritten, appended };
        run.submit(vec![Piece { transaction: 1, index: 0, count: 1 }]);
        run.complete_all();
        if rules.witness {
            let witness = run.flush(1, Vec::new());
            put(run.disk, &witness, |_| true);
        }
        disk.remove(&0);
        recover(&disk, Superblock { c: 0, incarnation_at_c: 1 }, rules).is_some()
    };
    assert!(!(0..100).any(|seed| last_is_lost(GOOD, seed)));
    assert!((0..100).all(|seed| last_is_lost(Rules { witness: false, ..GOOD }, seed)));
}
