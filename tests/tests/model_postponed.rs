//! Random model of writes that wait in memory and are merged into the tree later, and of those that are stranded because their leaf can't
//! be read then. No engine code: the protocol itself is under test, and each mistake in it that once looked right must be caught.
//!
//! What is one step here is atomic in the engine, or made under a leaf's latch: readers, the holder of the apply lock (who applies,
//! merges, prunes, moves keys between leaves and cuts), a committer, the log and the checkpoint take theirs in any order.
//!
//! Checked: a view finds the history's state at its LSN, key by key, by leaves and in number; a look-up without a view what some LSN
//! between the watermark at its beginning and at its end says, and nothing older than what had been told before; a transaction ends
//! only when all that it has met is visible; a checkpoint is the state at its LSN, and with the log behind it everything durable. What has
//! to read a leaf that can't be read ends as an error, but no look-up of a key of which something is stranded that it may see.

#[path = "model_postponed/holder.rs"]
mod holder;
#[path = "model_postponed/log.rs"]
mod log;
#[path = "model_postponed/mistakes.rs"]
mod mistakes;
#[path = "model_postponed/plain.rs"]
mod plain;
#[path = "model_postponed/stranded.rs"]
mod stranded;
#[path = "model_postponed/view.rs"]
mod view;

use mistakes::{ALL, Mistake, Mistake as M};
use plain::Plain;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use view::View;

type Key = u8;
type Lsn = u32;
/// What each key holds: its value is the LSN of the commit that put it.
type State = BTreeMap<Key, Lsn>;
/// What breaks the rules: where and how.
type Checked = Result<(), String>;

const KEYS: Key = 6;
const READERS: usize = 3;
const COMMITS: usize = 40;
const STEPS: usize = 1000;
/// In so many whatever has begun comes to its end.
const STEPS_TO_END: usize = 20_000;

/// What is stranded, in its table.
const STRANDED: usize = 0;

/// What became of a key: a value, or none.
type Table = BTreeMap<(Key, Lsn), Option<Lsn>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pair {
    newest: usize,
    merging: Option<usize>,
}

#[derive(Clone, Debug)]
struct Before {
    key: Key,
    lsn: Lsn,
    held: Option<Lsn>,
}

#[derive(Clone, Default, Debug)]
struct Leaf {
    lsn: Lsn,
    cells: State,
    before: Vec<Before>,
    /// How many hold its latch.
    shared: u32,
    unreadable: bool,
}

impl Leaf {
    /// What `key` held at `lsn`, if its before-images say so.
    fn before(&self, key: Key, lsn: Lsn) -> Option<Option<Lsn>> {
        let newer = self.before.iter().filter(|b| b.key == key && b.lsn > lsn);
        newer.min_by_key(|b| b.lsn).map(|b| b.held)
    }

    fn change(&mut self, key: Key, value: Option<Lsn>) {
        match value {
            Some(value) => self.cells.insert(key, value),
            None => self.cells.remove(&key),
        };
    }
}

#[derive(Clone, Debug)]
enum What {
    Writes(BTreeMap<Key, bool>),
    Removal(Range<Key>),
}

#[derive(Clone, Debug)]
struct Commit {
    what: What,
    immediate: bool,
    told: bool,
}

/// What the holder of the apply lock does next.
#[derive(Clone, Debug)]
enum Do {
    /// A version goes to its leaf, with a before-image or without. If the leaf can't be read, it is stranded.
    Write {
        key: Key,
        lsn: Lsn,
        value: Option<Lsn>,
        image: bool,
    },
    /// A range goes from the leaves, one at a time.
    Remove {
        range: Range<Key>,
        lsn: Lsn,
    },
    /// A version goes to `newest`.
    Wait {
        key: Key,
        lsn: Lsn,
        value: Option<Lsn>,
    },
    /// The number of entries as of `lsn`.
    Len(Lsn),
    Merged(Lsn),
    /// All of the window is merged, up to here.
    WindowMerged(Lsn),
    Applied(Lsn),
    RaiseWatermark,
    BeginWindow,
    SetMerging(usize),
    Lot {
        all: bool,
    },
    /// A version that was merged goes from `merging`.
    RemoveEntry(Key, Lsn),
    DropMerging,
    /// A version goes to `stranded`.
    Strand {
        key: Key,
        lsn: Lsn,
        value: Option<Lsn>,
    },
    /// What is stranded of a key is to go to its leaf.
    TryAgain(Key),
    /// A version that was stranded goes to its leaf.
    Late {
        key: Key,
        lsn: Lsn,
        value: Option<Lsn>,
        image: bool,
    },
    /// The number of entries as of `lsn`, by what was stranded.
    LateLen(Lsn),
    /// A version goes from `stranded`.
    Leave(Key, Lsn),
    /// What is stranded goes where nobody can see it.
    LeaveSuperseded,
    MergeAll,
    Directly(Lsn),
    Horizon,
    LookAtSlot(usize),
    Prune(Key),
    Forget,
    MoveKeys,
    Cut,
}

#[derive(Clone, Debug)]
enum Reader {
    Idle,
    View(View),
    Plain(Plain),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    lsn: Lsn,
    gone: bool,
}

#[derive(Clone, Debug)]
struct Checkpoint {
    leaves: BTreeMap<Key, Leaf>,
    /// Of each key the newest version.
    stranded: Table,
    len: i64,
    /// It has everything up to here.
    lsn: Lsn,
    /// The first record of the log that is kept for it.
    replay_from: Lsn,
}

struct Model {
    rng: ChaCha8Rng,
    mistake: Mistake,
    /// How often each actor has its turn, and how often a leaf is in memory, or becomes unreadable or readable.
    weights: [u32; 5],
    in_memory: f64,
    spoils: f64,
    // The log, and what it should come to.
    commits: Vec<Commit>,
    states: Vec<State>,
    durable: Lsn,
    flushing: Option<Lsn>,
    checkpoint: Checkpoint,
    cut: Option<Checkpoint>,
    // In memory.
    leaves: BTreeMap<Key, Leaf>,
    /// The first has what is stranded.
    tables: Vec<Table>,
    pair: Pair,
    /// The window's last LSN, and the key from which on it is not merged.
    window: Option<(Lsn, Key)>,
    /// Of all commits in it that have writes.
    window_lsns: BTreeSet<Lsn>,
    applied: Lsn,
    merged: Lsn,
    watermark: Lsn,
    own: Lsn,
    told: Lsn,
    telling: Option<Lsn>,
    len: i64,
    /// By how much commits have changed it, by LSN.
    lens: Vec<(Lsn, i64)>,
    /// By how much the commit or window under way changes the number of entries.
    deltas: BTreeMap<Lsn, i64>,
    /// And by how much what was stranded does.
    late: BTreeMap<Lsn, i64>,
    slots: Vec<Option<Slot>>,
    horizon: Lsn,
    looked: Lsn,
    pruned_to: Lsn,
    todo: VecDeque<Do>,
    readers: Vec<Reader>,
    merge_wanted: bool,
    trace: Option<Vec<String>>,
}

impl Model {
    fn new(mistake: Mistake, seed: u64, traced: bool) -> Model {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let weights = std::array::from_fn(|_| [1, 3, 9][rng.random_range(0..3)]);
        let leaves = BTreeMap::from([(0, Leaf::default()), (KEYS / 2, Leaf::default())]);
        Model {
            in_memory: [0.2, 0.6, 0.95][rng.random_range(0..3)],
            spoils: [0.0, 0.02, 0.02, 0.1][rng.random_range(0..4)],
            rng,
            mistake,
            weights,
            commits: Vec::new(),
            states: vec![State::new()],
            durable: 0,
            flushing: None,
            checkpoint: Checkpoint { leaves: leaves.clone(), stranded: Table::new(), len: 0, lsn: 0, replay_from: 1 },
            cut: None,
            leaves,
            tables: vec![Table::new(), Table::new()],
            pair: Pair { newest: 1, merging: None },
            window: None,
            window_lsns: BTreeSet::new(),
            applied: 0,
            merged: 0,
            watermark: 0,
            own: 0,
            told: 0,
            telling: None,
            len: 0,
            lens: Vec::new(),
            deltas: BTreeMap::new(),
            late: BTreeMap::new(),
            slots: vec![None; READERS],
            horizon: 0,
            looked: 0,
            pruned_to: 0,
            todo: VecDeque::new(),
            readers: vec![Reader::Idle; READERS],
            merge_wanted: false,
            trace: traced.then(Vec::new),
        }
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }

    fn appended(&self) -> Lsn {
        self.commits.len() as Lsn
    }

    fn commit(&self, lsn: Lsn) -> &Commit {
        &self.commits[lsn as usize - 1]
    }

    fn leaf_of(&self, key: Key) -> Key {
        *self.leaves.range(..=key).next_back().expect("the first leaf begins at 0").0
    }

    fn upper_of(&self, lower: Key) -> Key {
        self.leaves.range(lower + 1..).next().map_or(KEYS, |(&upper, _)| upper)
    }

    fn leaf(&mut self, lower: Key) -> &mut Leaf {
        self.leaves.get_mut(&lower).expect("a leaf that is latched or was just looked up")
    }

    /// The newest version of `key` in a table at or below `lsn`.
    fn waiting(&self, table: usize, key: Key, lsn: Lsn) -> Option<(Lsn, Option<Lsn>)> {
        self.tables[table].range((key, 0)..=(key, lsn)).next_back().map(|(&(_, lsn), &value)| (lsn, value))
    }

    fn is_waiting(&self) -> bool {
        !self.tables[self.pair.newest].is_empty() || self.pair.merging.is_some()
    }

    /// The newest commit at or below `lsn` that changed `key`.
    fn changed_at(&self, key: Key, lsn: Lsn) -> Lsn {
        let changes = |lsn: &Lsn| match &self.commit(*lsn).what {
            What::Writes(writes) => writes.contains_key(&key),
            What::Removal(range) => range.contains(&key),
        };
        (1..=lsn).rev().find(changes).unwrap_or(0)
    }

    fn read(&mut self, nth: usize) -> Checked {
        let mut reader = std::mem::replace(&mut self.readers[nth], Reader::Idle);
        let goes_on = match &mut reader {
            Reader::Idle => {
                reader = self.begin_reading();
                true
            }
            Reader::View(view) => self.view_step(nth, view)?,
            Reader::Plain(plain) => self.plain_step(nth, plain)?,
        };
        if goes_on {
            self.readers[nth] = reader;
        }
        Ok(())
    }

    fn begin_reading(&mut self) -> Reader {
        if self.rng.random_bool(0.5) { Reader::Plain(Plain::begin(self)) } else { Reader::View(View::begin(self)) }
    }

    /// Nothing new begins, and all that has begun ends: who waits, waits for something that comes.
    fn come_to_rest(&mut self) -> Checked {
        self.merge_wanted = true;
        for _ in 0..STEPS_TO_END {
            let reading = (0..READERS).filter(|&nth| !matches!(self.readers[nth], Reader::Idle)).collect::<Vec<_>>();
            let is_at_rest = reading.is_empty() && self.todo.is_empty() && self.applied == self.appended() && !self.is_waiting();
            if is_at_rest {
                return match self.merged == self.applied {
                    true => Ok(()),
                    false => Err(format!(
                        "nothing waits, {} is applied, {} merged: a number of entries is never told",
                        self.applied, self.merged
                    )),
                };
            }
            if !reading.is_empty() {
                let nth = self.rng.random_range(0..reading.len());
                self.read(reading[nth])?;
            }
            self.hold();
            self.flush();
            self.tell();
        }
        Err(format!("there is no end: applied {}, merged {}, {:?}", self.applied, self.merged, self.readers))
    }

    fn step(&mut self) -> Checked {
        let [reads, holds, appends, flushes, tells] = self.weights;
        let actors = [reads * 9, holds * 9, appends * 3, flushes * 2, tells * 3];
        let mut turn = self.rng.random_range(0..actors.iter().sum());
        let mut actor = 0;
        while turn >= actors[actor] {
            turn -= actors[actor];
            actor += 1;
        }
        match actor {
            0 => {
                let nth = self.rng.random_range(0..READERS);
                self.read(nth)?;
            }
            1 => self.hold(),
            2 => self.append(),
            3 if self.rng.random_bool(0.2) => self.write_superblock(),
            3 => self.flush(),
            _ => self.tell(),
        }
        if self.spoils > 0.0 && self.rng.random_bool(self.spoils) {
            self.spoil();
        }
        if self.rng.random_bool(0.001) { self.crash() } else { Ok(()) }
    }
}

/// One history; on a violation what it is and what led to it.
fn history(mistake: Mistake, seed: u64, traced: bool) -> Result<(), (String, Vec<String>)> {
    let mut model = Model::new(mistake, seed, traced);
    let mut result = (0..STEPS).try_for_each(|_| model.step());
    if seed.is_multiple_of(2) {
        result = result.and_then(|()| model.come_to_rest());
    }
    let result = result.and_then(|()| model.crash());
    result.map_err(|what| (what, model.trace.unwrap_or_default()))
}

/// How many histories; with `ASHLAR_POSTPONED` as many as that says.
fn histories() -> u64 {
    std::env::var("ASHLAR_POSTPONED").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

#[test]
fn the_protocol_holds() {
    for seed in 0..histories() {
        if history(M::None, seed, false).is_err() {
            let Err((what, trace)) = history(M::None, seed, true) else { panic!("seed {seed} differs when it is traced") };
            panic!("seed {seed}: {what}\n{}", trace[trace.len().saturating_sub(60)..].join("\n"));
        }
    }
}

#[test]
fn each_mistake_is_caught() {
    for &mistake in ALL {
        assert!((0..4000).any(|seed| history(mistake, seed, false).is_err()), "not caught: {mistake:?}");
    }
}
