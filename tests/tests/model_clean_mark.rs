//! Random model of the clean mark: superblocks in two slots of two copies, a log, closes and opens, and a crash at any write. No engine
//! code: the rule itself is under test, and each wrong variant of it must be caught.
//!
//! Checked at each open: every confirmed commit is there, with all before it and nothing that never was. Copies that rot (one at a time,
//! as the format promises to bear) change nothing of that. Superblocks that a disk confirms and loses, both copies of one, may make an open
//! refuse, never show less.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The parts of the rule that can be got wrong. `GOOD` is the design.
#[derive(Clone, Copy)]
struct Rules {
    /// The mark is written when the checkpoint is durable; else before.
    after_the_checkpoint: bool,
    /// The mark is written only where the log ends at C and is at rest; else at every close, with commits of other handles on their way.
    only_at_rest: bool,
    /// After the mark nothing is appended; else a thread may still vouch for the last flush, and whoever has a handle commits.
    sealed: bool,
    /// An open's own superblock has no mark; else it has what it found.
    cleared_by_the_open: bool,
    /// The open's superblock is durable before the first flush; else it may still be on its way.
    cleared_first: bool,
    /// It is written to both copies of its slot; else to one.
    both_copies: bool,
    /// An open that finds a mark looks whether a flush stands at C.
    looks_at_c: bool,
}

const GOOD: Rules = Rules {
    after_the_checkpoint: true,
    only_at_rest: true,
    sealed: true,
    cleared_by_the_open: true,
    cleared_first: true,
    both_copies: true,
    looks_at_c: true,
};

/// What the disk does beside what it is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Sound,
    /// One copy of a superblock may rot at a time.
    Rots,
    /// Both copies of a superblock may be lost though they were confirmed.
    Loses,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Superblock {
    number: u32,
    incarnation: u32,
    incarnation_at_c: u32,
    /// Where replay starts, in flushes.
    c: usize,
    /// How many commits the checkpoint has.
    commits: usize,
    clean: bool,
}

/// A flush: of one commit, or of none (it vouches).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flush {
    incarnation: u32,
    commit: Option<usize>,
}

/// Whoever writes is stopped here.
struct Crash;

type Step<T> = Result<T, Crash>;

struct Model {
    rng: ChaCha8Rng,
    rules: Rules,
    disk: Disk,
    /// Primary and mirror of slot 0, of slot 1; `None`: bad.
    copies: [[Option<Superblock>; 2]; 2],
    /// Slot and superblock that were written and not synced.
    unsynced: Option<(usize, Superblock)>,
    log: Vec<Flush>,
    /// How many commits there ever were, and how many of them were confirmed.
    appended: usize,
    confirmed: usize,
    // Of the process.
    current: Superblock,
    slot: usize,
    applied: usize,
    /// Commits whose flush is not written yet.
    pending: usize,
}

impl Model {
    fn new(rules: Rules, disk: Disk, seed: u64) -> Model {
        let first = Superblock { number: 1, incarnation: 0, incarnation_at_c: 0, c: 0, commits: 0, clean: false };
        Model {
            rng: ChaCha8Rng::seed_from_u64(seed),
            rules,
            disk,
            copies: [[Some(first); 2]; 2],
            unsynced: None,
            log: Vec::new(),
            appended: 0,
            confirmed: 0,
            current: first,
            slot: 0,
            applied: 0,
            pending: 0,
        }
    }

    /// A write is about to be made: the machine may stop before it, or in the middle of it.
    fn may_crash(&mut self) -> Step<()> {
        if self.rng.random_bool(0.08) { Err(Crash) } else { Ok(()) }
    }

    fn write_copy(&mut self, slot: usize, copy: usize, superblock: Superblock) -> Step<()> {
        self.may_crash()?;
        if self.rng.random_bool(0.06) {
            // There, gone, or torn.
            match self.rng.random_range(0..3) {
                0 => self.copies[slot][copy] = Some(superblock),
                1 => self.copies[slot][copy] = None,
                _ => {}
            }
            return Err(Crash);
        }
        self.copies[slot][copy] = Some(superblock);
        Ok(())
    }

    /// Writes a superblock, both copies, each synced.
    fn write(&mut self, superblock: Superblock, copies: usize) -> Step<()> {
        let slot = 1 - self.slot;
        if self.disk == Disk::Loses && self.rng.random_bool(0.05) {
            self.may_crash()?;
        } else {
            for copy in 0..copies {
                self.write_copy(slot, copy, superblock)?;
            }
        }
        (self.slot, self.current) = (slot, superblock);
        Ok(())
    }

    /// The superblock of a slot: its newest whole copy.
    fn of_slot(&self, slot: usize) -> Option<Superblock> {
        self.copies[slot].iter().flatten().copied().max_by_key(|s| s.number)
    }

    /// What an open finds: its slot, its superblock, and the commits of the checkpoint and the log; `None`: it refuses.
    fn found(&self) -> Option<(usize, Superblock, usize)> {
        let (zero, one) = (self.of_slot(0)?, self.of_slot(1)?);
        let (slot, chosen) = if one.number > zero.number { (1, one) } else { (0, zero) };
        let behind = self.log.get(chosen.c..).unwrap_or_default();
        let counts = |flush: &&Flush| flush.incarnation >= chosen.incarnation_at_c;
        if chosen.clean {
            let contradicts = behind.first().filter(counts).is_some();
            return (!contradicts || !self.rules.looks_at_c).then_some((slot, chosen, chosen.commits));
        }
        if behind.iter().any(|flush| flush.incarnation > chosen.incarnation) {
            return None;
        }
        let commits = behind.iter().take_while(counts).filter_map(|flush| flush.commit);
        Some((slot, chosen, commits.fold(chosen.commits, |newest, commit| newest.max(commit))))
    }

    /// Opens for writing. The outer error: what was wrong.
    fn open(&mut self) -> Result<Step<()>, String> {
        let Some((slot, chosen, commits)) = self.found() else {
            return match self.disk {
                Disk::Loses => Ok(Err(Crash)),
                _ => Err("refused, and nothing but one copy was damaged".into()),
            };
        };
        if commits < self.confirmed || commits > self.appended {
            return Err(format!("{commits} commits of {}, {} were confirmed: {chosen:?}", self.appended, self.confirmed));
        }
        Ok(self.open_at(slot, chosen, commits))
    }

    fn open_at(&mut self, slot: usize, chosen: Superblock, commits: usize) -> Step<()> {
        let end = chosen.c + if chosen.clean { 0 } else { self.log.len() - chosen.c };
        for (slot, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let newest = self.of_slot(slot).unwrap_or(chosen);
            if self.copies[slot][copy] != Some(newest) {
                self.write_copy(slot, copy, newest)?;
            }
        }
        self.slot = slot;
        let own = Superblock {
            number: chosen.number + 1,
            incarnation: chosen.incarnation + 1,
            clean: chosen.clean && !self.rules.cleared_by_the_open,
            ..chosen
        };
        if self.rules.cleared_first {
            self.write(own, if self.rules.both_copies { 2 } else { 1 })?;
        } else {
            self.unsynced = Some((1 - self.slot, own));
            (self.slot, self.current) = (1 - self.slot, own);
        }
        // What was found is as good as confirmed: somebody has read it.
        (self.appended, self.confirmed, self.applied, self.pending) = (commits, commits, commits, 0);
        self.log.truncate(end);
        Ok(())
    }

    fn flush(&mut self, commit: Option<usize>) -> Step<()> {
        self.may_crash()?;
        self.log.push(Flush { incarnation: self.current.incarnation, commit });
        // Written, and not yet told to anybody.
        self.may_crash()
    }

    fn commit(&mut self) {
        self.appended += 1;
        self.applied = self.appended;
        self.pending += 1;
    }

    fn make_durable(&mut self) -> Step<()> {
        while self.pending > 0 {
            self.flush(Some(self.appended - self.pending + 1))?;
            self.pending -= 1;
            self.confirmed = self.appended - self.pending;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Step<()> {
        let commits = self.applied;
        self.make_durable()?;
        let c = self.log.len();
        let next = Superblock {
            number: self.current.number + 1,
            incarnation_at_c: self.current.incarnation,
            c,
            commits,
            ..self.current
        };
        self.settle();
        self.write(next, 2)
    }

    /// What was on its way to the disk has come there.
    fn settle(&mut self) {
        if let Some((slot, superblock)) = self.unsynced.take() {
            self.copies[slot] = [Some(superblock); 2];
        }
    }

    fn mark(&mut self) -> Step<bool> {
        let at_rest = self.pending == 0 && self.log.len() == self.current.c;
        if self.rules.only_at_rest && !at_rest {
            return Ok(false);
        }
        self.settle();
        let c = if self.rules.after_the_checkpoint { self.current.c } else { self.log.len() };
        self.write(Superblock { number: self.current.number + 1, c, clean: true, ..self.current }, 2)?;
        Ok(true)
    }

    /// Closes one handle; with others alive these go on.
    fn close(&mut self, others: bool) -> Step<()> {
        self.make_durable()?;
        if self.rng.random_bool(0.5) {
            self.flush(None)?;
        }
        if !self.rules.after_the_checkpoint {
            self.mark()?;
            self.current.clean = false;
        }
        self.checkpoint()?;
        if others {
            for _ in 0..self.rng.random_range(0..3) {
                self.commit();
            }
            if self.rng.random_bool(0.5) {
                self.make_durable()?;
            }
        }
        let marked = self.rules.after_the_checkpoint && self.mark()?;
        if !marked || !self.rules.sealed {
            // The last handle's drop; or whoever is not stopped by a seal.
            if !self.rules.sealed && self.rng.random_bool(0.5) {
                self.commit();
            }
            self.make_durable()?;
        }
        Ok(())
    }

    /// One life, from an open to its end.
    fn live(&mut self) -> Step<()> {
        for _ in 0..self.rng.random_range(0..6) {
            match self.rng.random_range(0..10) {
                0..4 => self.commit(),
                4..7 => self.make_durable()?,
                7 => self.flush(None)?,
                8 => self.checkpoint()?,
                _ => self.settle(),
            }
        }
        match self.rng.random_range(0..4) {
            0 => Err(Crash),
            1 => self.make_durable(),
            _ => {
                let others = self.rng.random_bool(0.3);
                self.close(others)
            }
        }
    }

    fn rot(&mut self) {
        let (slot, copy) = (self.rng.random_range(0..2), self.rng.random_range(0..2));
        // Only one is bad at a time: where a crash has left none.
        if self.copies.iter().flatten().all(Option::is_some) {
            self.copies[slot][copy] = None;
        }
    }
}

fn history(rules: Rules, disk: Disk, seed: u64) -> Result<(), String> {
    let mut model = Model::new(rules, disk, seed);
    for life in 0..model.rng.random_range(2..8) {
        if model.rng.random_bool(0.5) {
            model.unsynced = None;
        }
        model.settle();
        if disk == Disk::Rots && model.rng.random_bool(0.5) {
            model.rot();
        }
        if model.open().map_err(|what| format!("life {life}: {what}"))?.is_ok() {
            let _ = model.live();
        } else if disk == Disk::Loses && model.found().is_none() {
            return Ok(());
        }
    }
    Ok(())
}

#[test]
fn the_rule_holds() {
    for disk in [Disk::Sound, Disk::Rots, Disk::Loses] {
        for seed in 0..60_000 {
            if let Err(what) = history(GOOD, disk, seed) {
                panic!("seed {seed}: {what}");
            }
        }
    }
}

#[test]
fn each_wrong_variant_shows() {
    let wrong = [
        (
            "written before the checkpoint",
            Disk::Sound,
            Rules { after_the_checkpoint: false, only_at_rest: false, looks_at_c: false, ..GOOD },
        ),
        ("the same, looking at C", Disk::Sound, Rules { after_the_checkpoint: false, only_at_rest: false, ..GOOD }),
        ("written with a flush on its way", Disk::Sound, Rules { only_at_rest: false, looks_at_c: false, ..GOOD }),
        ("written before the last flush", Disk::Sound, Rules { sealed: false, looks_at_c: false, ..GOOD }),
        ("left by the next open", Disk::Sound, Rules { cleared_by_the_open: false, looks_at_c: false, ..GOOD }),
        ("the same, looking at C", Disk::Sound, Rules { cleared_by_the_open: false, ..GOOD }),
        ("cleared not before the first flush", Disk::Sound, Rules { cleared_first: false, looks_at_c: false, ..GOOD }),
        ("the same, looking at C", Disk::Sound, Rules { cleared_first: false, ..GOOD }),
        ("cleared in one copy", Disk::Rots, Rules { both_copies: false, looks_at_c: false, ..GOOD }),
        ("not looking at C, on a disk that loses", Disk::Loses, Rules { looks_at_c: false, ..GOOD }),
    ];
    for (what, disk, rules) in wrong {
        assert!((0..60_000).any(|seed| history(rules, disk, seed).is_err()), "not caught: {what}");
    }
}
