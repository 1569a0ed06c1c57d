//! Random model of writes that wait in memory and are merged into the tree later. No engine code: the protocol itself is under test, and
//! each mistake in it that once looked right must be caught.
//!
//! What is one step here is atomic in the engine, or made under a leaf's latch: readers, the holder of the apply lock (who applies,
//! merges, prunes, moves keys between leaves and cuts), a committer, the log and the checkpoint take theirs in any order.
//!
//! Checked: a view finds the history's state at its LSN, key by key, by leaves and in number; a look-up without a view what some LSN
//! between the watermark at its beginning and at its end says, and nothing older than what had been told before; a transaction ends
//! only when all that it has met is visible; a checkpoint is the state at its LSN, and with the log behind it everything durable.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

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

/// What can be got wrong. `None` is the design.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    /// A reader looks at the tree first, then at the tables.
    TablesAfterTree,
    /// A scan lets go of the leaf, then looks at the tables.
    OverlayAfterLatch,
    /// The tables are taken before it is known at which LSN will be read.
    TablesBeforeLsn,
    /// Versions in `newest` hide those in `merging` even where they are too new.
    NewestHides,
    /// Of the two tables `merging` wins.
    MergingWins,
    /// A fresh `newest` is put in its place in one step, `merging` in another.
    TwoStores,
    /// `merging` is dropped before its last lot.
    DroppedEarly,
    /// The window's entries go one by one, newest first, before the pointer does.
    RemovedNewestFirst,
    /// All versions of a key count as one, whatever the horizon.
    CollapsedAlways,
    /// The watermark is the horizon, whoever reads below.
    CollapsedBelowWatermark,
    /// A reader does not look at the horizon again when it has its slot.
    HorizonNotReread,
    /// Versions above the horizon have no before-images.
    NoBeforeImages,
    /// A key has one before-image, of its newest version.
    OneBeforeImage,
    /// Versions of a key are applied newest first.
    NewestFirst,
    /// A leaf's LSN is that of what was applied to it last.
    LeafLsnFalls,
    /// A commit is applied directly though others wait in `newest`.
    Overtakes,
    /// A commit is applied directly though others wait in `merging`.
    OvertakesWindow,
    /// A range is removed from the tree though writes wait.
    RemovalOvertakes,
    /// What this process was told of is not waited for where it stands in a table.
    OwnNotAwaited,
    /// What it was told of is held against a watermark that is asked for anew.
    OwnAgainstNewWatermark,
    /// The number of entries is taken without merging first.
    LenUnmerged,
    /// `merged` rises before the numbers of entries are set.
    MergedBeforeLens,
    /// A window changes the number of entries at once, as of its last LSN.
    LenAtOnce,
    /// A window's last LSN is the newest in its table, and no commit without writes counts.
    LastOfTable,
    /// A transaction notes the LSN of the leaf alone as met.
    MetOfLeafOnly,
    /// The cut is made inside a window and says that all of it is there.
    CutClaimsWindow,
    /// The cut is made inside a window and says that none of it is there.
    CutDeniesWindow,
    /// The cut says that all that is applied is there.
    CutClaimsApplied,
    /// Replay starts behind what waits.
    ReplayBehindWaiting,
    /// A leaf that is joined between two lots bears the newest applied LSN.
    JoinStampsApplied,
}

use Mistake as M;

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
    /// A version goes to its leaf, with a before-image or without.
    Write { key: Key, lsn: Lsn, value: Option<Lsn>, image: bool },
    /// A range goes from the leaves, one at a time.
    Remove { range: Range<Key>, lsn: Lsn },
    /// A version goes to `newest`.
    Wait { key: Key, lsn: Lsn, value: Option<Lsn> },
    /// The number of entries as of `lsn`.
    Len(Lsn),
    Merged(Lsn),
    /// All of the window is merged, up to here.
    WindowMerged(Lsn),
    Applied(Lsn),
    RaiseWatermark,
    BeginWindow,
    SetMerging(usize),
    Lot { all: bool },
    RemoveEntries,
    DropMerging,
    MergeAll,
    Directly(Lsn),
    Horizon,
    LookAtSlot(usize),
    Prune(Key),
    Forget,
    MoveKeys,
    Cut,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Tables,
    Newest,
    Merging,
    Latch,
    Before,
    Unlatch,
}

use Stage::{Latch, Merging, Newest, Tables, Unlatch};

/// A view's way through the leaves between two keys.
#[derive(Clone, Debug)]
struct Look {
    keys: Range<Key>,
    is_get: bool,
    stages: &'static [Stage],
    at: usize,
    pair: Pair,
    overlay: BTreeMap<Key, (Lsn, Option<Lsn>)>,
    /// The leaf's lower fence, its LSN, its keys.
    latched: Option<Key>,
    leaf_lsn: Lsn,
    found: State,
    here: Range<Key>,
}

#[derive(Clone, Debug)]
enum ViewAt {
    WaitOwn,
    Take,
    Store,
    Reread,
    Choose,
    Looks(Box<Look>),
    Len { merged: bool },
    End,
}

#[derive(Clone, Debug)]
struct View {
    /// Of all that is applied, and ends when what it has met is visible.
    transaction: bool,
    told: Lsn,
    lsn: Lsn,
    early: Pair,
    at: ViewAt,
    left: u32,
    met: Lsn,
    truly_met: Lsn,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PlainAt {
    Watermark,
    Tables,
    Newest,
    Merging,
    Own,
    Leaf,
    WatermarkAgain,
    OwnAgain,
    Before,
    WaitFor(Lsn),
}

/// A look-up without a view.
#[derive(Clone, Debug)]
struct Plain {
    key: Key,
    began_at: Lsn,
    told: Lsn,
    at: PlainAt,
    lsn: Lsn,
    pair: Pair,
    early: Pair,
    found: Option<Option<Lsn>>,
    newer: Vec<Lsn>,
    latched: Key,
    /// The watermark, asked for under the latch.
    again: Lsn,
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
    len: i64,
    /// It has everything up to here.
    lsn: Lsn,
    /// The first record of the log that is kept for it.
    replay_from: Lsn,
}

struct Model {
    rng: ChaCha8Rng,
    mistake: Mistake,
    /// How often each actor has its turn, and how often a leaf is in memory.
    weights: [u32; 5],
    in_memory: f64,
    // The log, and what it should come to.
    commits: Vec<Commit>,
    states: Vec<State>,
    durable: Lsn,
    flushing: Option<Lsn>,
    checkpoint: Checkpoint,
    cut: Option<Checkpoint>,
    // In memory.
    leaves: BTreeMap<Key, Leaf>,
    tables: Vec<Table>,
    pair: Pair,
    /// The window's last LSN, and the key from which on it is not merged.
    window: Option<(Lsn, Key)>,
    applied: Lsn,
    merged: Lsn,
    watermark: Lsn,
    own: Lsn,
    told: Lsn,
    telling: Option<Lsn>,
    len: i64,
    lens: Vec<(Lsn, i64)>,
    /// By how much the commit or window under way changes the number of entries.
    deltas: BTreeMap<Lsn, i64>,
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
            rng,
            mistake,
            weights,
            commits: Vec::new(),
            states: vec![State::new()],
            durable: 0,
            flushing: None,
            checkpoint: Checkpoint { leaves: leaves.clone(), len: 0, lsn: 0, replay_from: 1 },
            cut: None,
            leaves,
            tables: vec![Table::new()],
            pair: Pair { newest: 0, merging: None },
            window: None,
            applied: 0,
            merged: 0,
            watermark: 0,
            own: 0,
            told: 0,
            telling: None,
            len: 0,
            lens: Vec::new(),
            deltas: BTreeMap::new(),
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

    // The committer, the log, the checkpoint.

    fn append(&mut self) {
        if self.commits.len() == COMMITS || self.appended() - self.applied > 3 {
            return;
        }
        let (lsn, mut state) = (self.appended() + 1, self.states[self.appended() as usize].clone());
        let what = if self.rng.random_bool(0.06) {
            let from = self.rng.random_range(0..KEYS);
            What::Removal(from..self.rng.random_range(from + 1..=KEYS))
        } else {
            // Now and then none: what was to be written may have been there.
            let writes = if self.rng.random_bool(0.1) { 0 } else { self.rng.random_range(1..=3) };
            What::Writes((0..writes).map(|_| (self.rng.random_range(0..KEYS), self.rng.random_bool(0.65))).collect())
        };
        match &what {
            What::Removal(range) => state.retain(|key, _| !range.contains(key)),
            What::Writes(writes) => writes.iter().for_each(|(&key, &put)| {
                if put { state.insert(key, lsn) } else { state.remove(&key) };
            }),
        }
        let immediate = self.rng.random_bool(0.4);
        self.note(|| format!("append {lsn}, immediate: {immediate}, {what:?}"));
        self.commits.push(Commit { what, immediate, told: false });
        self.states.push(state);
    }

    /// Whoever made a commit is told that it is done.
    fn tell(&mut self) {
        if let Some(lsn) = self.telling.take() {
            if !self.commit(lsn).immediate && lsn > self.watermark {
                self.own = self.own.max(lsn);
            }
            self.note(|| format!("told of {lsn}"));
            self.told = self.told.max(lsn);
            return;
        }
        let can = |lsn: &Lsn| {
            let commit = self.commit(*lsn);
            !commit.told && if commit.immediate { self.watermark >= *lsn } else { self.applied >= *lsn }
        };
        if let Some(lsn) = (1..=self.appended()).find(can) {
            self.commits[lsn as usize - 1].told = true;
            self.telling = Some(lsn);
        }
    }

    fn flush(&mut self) {
        if let Some(lsn) = self.flushing.take() {
            self.durable = lsn;
            self.note(|| format!("durable up to {lsn}"));
            self.raise_watermark();
        } else if self.durable < self.appended() {
            self.flushing = Some(self.rng.random_range(self.durable + 1..=self.appended()));
        }
    }

    fn raise_watermark(&mut self) {
        while self.watermark < self.applied && (!self.commit(self.watermark + 1).immediate || self.durable > self.watermark) {
            self.watermark += 1;
        }
        self.note_watermark();
    }

    fn note_watermark(&mut self) {
        let (watermark, applied) = (self.watermark, self.applied);
        self.note(|| format!("watermark {watermark}, applied {applied}"));
    }

    fn write_superblock(&mut self) {
        if let Some(cut) = self.cut.take_if(|cut| cut.lsn <= self.durable) {
            self.note(|| format!("SUPERBLOCK of the cut at {}", cut.lsn));
            self.checkpoint = cut;
        }
    }

    fn cut(&mut self) {
        let (mistake, inside) = (self.mistake, self.pair.merging.is_some());
        if inside && !matches!(mistake, M::CutClaimsWindow | M::CutDeniesWindow) {
            self.todo.extend([Do::Lot { all: true }, Do::Cut]);
            return;
        }
        let lsn = match self.window {
            Some((last, _)) if mistake == M::CutClaimsWindow => last,
            _ if mistake == M::CutClaimsApplied => self.applied,
            _ => self.merged,
        };
        let replay_from = 1 + if mistake == M::ReplayBehindWaiting { self.applied } else { lsn };
        let bare = |(&lower, leaf): (&Key, &Leaf)| (lower, Leaf { before: Vec::new(), shared: 0, ..leaf.clone() });
        let leaves: BTreeMap<Key, Leaf> = self.leaves.iter().map(bare).collect();
        self.note(|| format!("CUT at {lsn}"));
        self.cut = Some(Checkpoint { leaves, len: self.len, lsn, replay_from });
    }

    /// The machine stops, and the database is opened again.
    fn crash(&mut self) -> Checked {
        let survives = self.rng.random_range(self.durable..=self.appended());
        self.note(|| format!("CRASH, the log ends at {survives}"));
        if let Some(lost) = (survives + 1..=self.appended()).find(|&lsn| self.commit(lsn).immediate && self.commit(lsn).told) {
            return Err(format!("commit {lost} was confirmed, and the log ends at {survives}"));
        }
        let Checkpoint { mut leaves, mut len, lsn, replay_from } = self.checkpoint.clone();
        let all = |leaves: &BTreeMap<Key, Leaf>| leaves.values().flat_map(|leaf| leaf.cells.clone()).collect::<State>();
        let want = &self.states[lsn as usize];
        if all(&leaves) != *want || len != want.len() as i64 {
            return Err(format!("the checkpoint at {lsn} has {len} entries, {:?}; want {want:?}", all(&leaves)));
        }
        if let Some(newest) = leaves.values().map(|leaf| leaf.lsn).find(|&newest| newest > lsn) {
            return Err(format!("the checkpoint at {lsn} has a leaf with LSN {newest}"));
        }
        for lsn in replay_from.max(lsn + 1)..=survives {
            for (&lower, leaf) in &mut leaves {
                let upper = self.leaves_upper(lower);
                len += replay(&self.commits[lsn as usize - 1].what, lsn, lower..upper, leaf);
            }
        }
        let want = &self.states[survives as usize];
        if all(&leaves) != *want || len != want.len() as i64 {
            return Err(format!("recovered at {survives}: {len} entries, {:?}; want {want:?}", all(&leaves)));
        }
        self.reopen(leaves, len, survives);
        Ok(())
    }

    /// The upper fence of a leaf of the checkpoint.
    fn leaves_upper(&self, lower: Key) -> Key {
        self.checkpoint.leaves.range(lower + 1..).next().map_or(KEYS, |(&upper, _)| upper)
    }

    fn reopen(&mut self, leaves: BTreeMap<Key, Leaf>, len: i64, lsn: Lsn) {
        (self.leaves, self.len) = (leaves, len);
        self.commits.truncate(lsn as usize);
        self.states.truncate(lsn as usize + 1);
        self.commits.iter_mut().for_each(|commit| commit.told = true);
        self.tables = vec![Table::new()];
        self.pair = Pair { newest: 0, merging: None };
        (self.window, self.cut, self.flushing, self.telling) = (None, None, None, None);
        (self.applied, self.merged, self.watermark, self.own, self.told, self.durable) = (lsn, lsn, lsn, lsn, lsn, lsn);
        (self.horizon, self.pruned_to) = (lsn, lsn);
        (self.lens, self.deltas, self.todo) = Default::default();
        self.slots = vec![None; READERS];
        self.readers = vec![Reader::Idle; READERS];
        self.merge_wanted = false;
    }

    // The holder of the apply lock.

    /// Somebody takes the apply lock.
    fn take_lock(&mut self) {
        let chance = self.rng.random_range(0..100);
        match chance {
            0..40 if self.applied < self.appended() => self.apply(self.applied + 1),
            40..70 if self.is_waiting() => self.merge(),
            _ if self.merge_wanted => {
                self.merge_wanted = false;
                self.todo.push_back(Do::MergeAll);
            }
            70..84 => {
                self.todo.push_back(Do::Horizon);
                self.todo.extend((0..READERS).map(Do::LookAtSlot));
                self.todo.extend(self.leaves.keys().map(|&lower| Do::Prune(lower)));
                self.todo.push_back(Do::Forget);
            }
            84..95 => self.todo.push_back(Do::MoveKeys),
            95.. if self.cut.is_none() => self.todo.push_back(Do::Cut),
            _ => {}
        }
    }

    /// Merges some lots, perhaps none.
    fn merge(&mut self) {
        if self.pair.merging.is_none() {
            self.todo.push_back(Do::BeginWindow);
        }
        for _ in 0..self.rng.random_range(0..3) {
            self.todo.push_back(Do::Lot { all: false });
        }
    }

    fn apply(&mut self, lsn: Lsn) {
        let waits = match self.mistake {
            M::Overtakes => false,
            M::OvertakesWindow => !self.tables[self.pair.newest].is_empty(),
            _ => self.is_waiting(),
        };
        match &self.commit(lsn).what {
            What::Removal(_) => {
                if !self.is(M::RemovalOvertakes) {
                    self.todo.push_back(Do::MergeAll);
                }
                self.todo.push_back(Do::Directly(lsn));
            }
            What::Writes(writes) => {
                let writes: Vec<(Key, Option<Lsn>)> = writes.iter().map(|(&key, &put)| (key, put.then_some(lsn))).collect();
                if !waits && (writes.is_empty() || self.rng.random_bool(self.in_memory)) {
                    self.todo.push_back(Do::Directly(lsn));
                } else {
                    self.todo.extend(writes.into_iter().map(|(key, value)| Do::Wait { key, lsn, value }));
                    self.todo.extend([Do::Applied(lsn), Do::RaiseWatermark]);
                }
            }
        }
    }

    /// Puts `steps` before everything else, in their order.
    fn do_first(&mut self, steps: impl IntoIterator<Item = Do, IntoIter: DoubleEndedIterator>) {
        steps.into_iter().rev().for_each(|step| self.todo.push_front(step));
    }

    /// The holder's next step, if no latch is in its way.
    fn hold(&mut self) {
        let Some(step) = self.todo.pop_front() else {
            self.take_lock();
            return;
        };
        match step {
            Do::Write { key, .. } if self.leaves[&self.leaf_of(key)].shared > 0 => self.todo.push_front(step),
            Do::Remove { ref range, .. } if self.leaves[&self.leaf_of(range.start)].shared > 0 => self.todo.push_front(step),
            // Leaves are divided and joined by what is written, too.
            Do::Write { .. } if self.rng.random_bool(0.05) => {
                self.todo.push_front(step);
                self.move_keys();
            }
            Do::Write { key, lsn, value, image } => self.write(key, lsn, value, image),
            Do::Remove { range, lsn } => self.remove(range, lsn),
            Do::Wait { key, lsn, value } => {
                self.note(|| format!("  {lsn} waits: key {key} holds {value:?}"));
                self.tables[self.pair.newest].insert((key, lsn), value);
            }
            Do::Len(lsn) => {
                let by = match self.is(M::LenAtOnce) {
                    true => std::mem::take(&mut self.deltas).values().sum(),
                    false => self.deltas.remove(&lsn).unwrap_or(0),
                };
                self.len += by;
                self.lens.push((lsn, by));
            }
            Do::Merged(lsn) => self.merged = lsn,
            // Commits without writes may have come since the window began.
            Do::WindowMerged(_) if self.tables[self.pair.newest].is_empty() && !self.is(M::LastOfTable) => self.merged = self.applied,
            Do::WindowMerged(last) => self.merged = last,
            Do::Applied(lsn) => self.applied = lsn,
            Do::RaiseWatermark => self.raise_watermark(),
            Do::BeginWindow => self.begin_window(),
            Do::SetMerging(table) => self.pair.merging = Some(table),
            Do::Lot { all } => self.lot(all),
            Do::RemoveEntries => self.remove_entries(),
            Do::DropMerging => {
                self.note(|| "the window ends".to_owned());
                self.pair.merging = None;
            }
            Do::MergeAll if self.pair.merging.is_some() => self.do_first([Do::Lot { all: true }, Do::MergeAll]),
            Do::MergeAll if self.is_waiting() => self.do_first([Do::BeginWindow, Do::MergeAll]),
            Do::MergeAll => {}
            Do::Directly(lsn) => self.directly(lsn),
            Do::Horizon => {
                self.take_one_away();
                self.horizon = self.horizon.max(self.watermark);
                self.looked = self.horizon;
            }
            Do::LookAtSlot(index) => {
                let live = self.slots[index].filter(|slot| !slot.gone);
                self.looked = live.map_or(self.looked, |slot| self.looked.min(slot.lsn));
                if index + 1 == READERS {
                    self.pruned_to = self.pruned_to.max(self.looked);
                }
            }
            Do::Prune(lower) => {
                let needed = self.pruned_to;
                self.leaf(lower).before.retain(|b| b.lsn > needed);
            }
            Do::Forget => self.lens.retain(|&(lsn, _)| lsn > self.pruned_to),
            Do::MoveKeys => self.move_keys(),
            Do::Cut => self.cut(),
        }
    }

    /// Now and then the oldest snapshot is taken away, before anything that it needs goes.
    fn take_one_away(&mut self) {
        if self.rng.random_bool(0.1)
            && let Some(oldest) = self.slots.iter_mut().flatten().min_by_key(|slot| slot.lsn)
        {
            oldest.gone = true;
        }
    }

    fn directly(&mut self, lsn: Lsn) {
        match self.commit(lsn).what.clone() {
            What::Removal(range) => self.todo.push_back(Do::Remove { range, lsn }),
            What::Writes(writes) => {
                let write = |(key, put): (Key, bool)| Do::Write { key, lsn, value: put.then_some(lsn), image: true };
                self.todo.extend(writes.into_iter().map(write));
            }
        }
        self.todo.extend([Do::Len(lsn), Do::Merged(lsn), Do::Applied(lsn), Do::RaiseWatermark]);
    }

    fn write(&mut self, key: Key, lsn: Lsn, value: Option<Lsn>, image: bool) {
        self.note(|| format!("  {lsn} to the tree: key {key} holds {value:?}, before-image: {image}"));
        let (lower, falls) = (self.leaf_of(key), self.is(M::LeafLsnFalls));
        let leaf = self.leaf(lower);
        let held = leaf.cells.get(&key).copied();
        if image {
            leaf.before.push(Before { key, lsn, held });
        }
        leaf.change(key, value);
        leaf.lsn = if falls { lsn } else { leaf.lsn.max(lsn) };
        *self.deltas.entry(lsn).or_default() += i64::from(value.is_some()) - i64::from(held.is_some());
    }

    fn remove(&mut self, range: Range<Key>, lsn: Lsn) {
        let lower = self.leaf_of(range.start);
        let upper = self.upper_of(lower).min(range.end);
        self.note(|| format!("  {lsn} to the tree: keys {range:?} go from the leaf at {lower}"));
        let leaf = self.leaf(lower);
        leaf.lsn = leaf.lsn.max(lsn);
        let gone: Vec<(Key, Lsn)> = leaf.cells.range(range.start..upper).map(|(&key, &held)| (key, held)).collect();
        for &(key, held) in &gone {
            leaf.before.push(Before { key, lsn, held: Some(held) });
            leaf.change(key, None);
        }
        *self.deltas.entry(lsn).or_default() -= gone.len() as i64;
        if upper < range.end {
            self.todo.push_front(Do::Remove { range: upper..range.end, lsn });
        }
    }

    fn begin_window(&mut self) {
        let old = self.pair.newest;
        self.tables.push(Table::new());
        self.pair.newest = self.tables.len() - 1;
        self.window = Some((self.applied, 0));
        self.note(|| "a window begins".to_owned());
        if self.is(M::TwoStores) {
            self.todo.push_front(Do::SetMerging(old));
        } else {
            self.pair.merging = Some(old);
        }
    }

    /// Some keys in their order, all versions of each.
    fn lot(&mut self, all: bool) {
        let (Some((last, from)), Some(merging)) = (self.window, self.pair.merging) else { return };
        let mut keys: Vec<Key> = self.tables[merging].keys().map(|&(key, _)| key).filter(|&key| key >= from).collect();
        keys.dedup();
        let count = if all { keys.len() } else { self.rng.random_range(1..=2) };
        let is_last = keys.len() <= count;
        keys.truncate(count);
        self.note(|| format!("a lot: keys {keys:?}"));
        let mut steps: Vec<Do> = keys.iter().flat_map(|&key| self.merge_key(merging, key)).collect();
        if is_last {
            self.end_window(last, merging, &mut steps);
        } else {
            self.window = keys.last().map(|key| (last, key + 1));
        }
        self.do_first(steps);
    }

    /// What is to be done for one key of the window.
    fn merge_key(&self, merging: usize, key: Key) -> Vec<Do> {
        let horizon = match self.mistake {
            M::CollapsedAlways => Lsn::MAX,
            M::CollapsedBelowWatermark => self.watermark,
            _ => self.pruned_to,
        };
        let versions: Vec<(Lsn, Option<Lsn>)> =
            self.tables[merging].range((key, 0)..=(key, Lsn::MAX)).map(|(&(_, lsn), &value)| (lsn, value)).collect();
        let old = versions.partition_point(|&(lsn, _)| lsn <= horizon);
        let mut steps = Vec::new();
        for (nth, &(lsn, value)) in versions.iter().enumerate().skip(old.saturating_sub(1)) {
            let image = nth >= old && !self.is(M::NoBeforeImages);
            steps.push(Do::Write { key, lsn, value, image });
        }
        match self.mistake {
            M::NewestFirst => steps.reverse(),
            M::OneBeforeImage if versions.len() > old => {
                let (lsn, value) = versions[versions.len() - 1];
                return vec![Do::Write { key, lsn, value, image: true }];
            }
            _ => {}
        }
        steps
    }

    fn end_window(&mut self, last: Lsn, merging: usize, steps: &mut Vec<Do>) {
        self.window = None;
        let mut lsns: Vec<Lsn> = self.tables[merging].keys().map(|&(_, lsn)| lsn).collect();
        lsns.sort_unstable();
        lsns.dedup();
        if self.is(M::DroppedEarly) {
            steps.insert(0, Do::DropMerging);
        }
        let at = steps.len();
        match self.is(M::LenAtOnce) {
            true => steps.push(Do::Len(last)),
            false => steps.extend(lsns.iter().map(|&lsn| Do::Len(lsn))),
        }
        let last = if self.is(M::LastOfTable) { lsns.last().copied().unwrap_or(last) } else { last };
        steps.insert(if self.is(M::MergedBeforeLens) { at } else { steps.len() }, Do::WindowMerged(last));
        if self.is(M::RemovedNewestFirst) {
            steps.push(Do::RemoveEntries);
        }
        steps.push(Do::DropMerging);
    }

    fn remove_entries(&mut self) {
        let Some(merging) = self.pair.merging else { return };
        let newest = self.tables[merging].keys().max_by_key(|(_, lsn)| *lsn).copied();
        if let Some(newest) = newest {
            self.tables[merging].remove(&newest);
            self.todo.push_front(Do::RemoveEntries);
        }
    }

    /// Keys go to a new leaf, or to a neighbour, with their before-images.
    fn move_keys(&mut self) {
        let lowers: Vec<Key> = self.leaves.keys().copied().collect();
        let nth = self.rng.random_range(0..lowers.len());
        let (lower, upper) = (lowers[nth], self.upper_of(lowers[nth]));
        let middle = self.rng.random_range(lower..upper);
        if self.leaves[&lower].shared > 0 {
            return;
        }
        if lower == 0 || self.rng.random_bool(0.5) {
            if middle > lower {
                let taken = self.take_keys(lower, middle, upper);
                self.note(|| format!("the leaf at {lower} is divided at {middle}"));
                self.leaves.insert(middle, taken);
            }
            return;
        }
        let left = lowers[nth - 1];
        if self.leaves[&left].shared > 0 {
            return;
        }
        // All of it, if nothing is left that a reader may need there; else some of it.
        let joins = self.leaves[&lower].before.is_empty() && self.rng.random_bool(0.7);
        let end = if joins { upper } else { middle };
        let taken = self.take_keys(lower, lower, end);
        self.note(|| format!("keys {lower}..{end} go to the leaf at {left}"));
        let stamp = if self.is(M::JoinStampsApplied) { self.applied } else { 0 };
        let into = self.leaf(left);
        into.lsn = into.lsn.max(taken.lsn).max(stamp);
        into.cells.extend(taken.cells);
        into.before.extend(taken.before);
        if let Some(rest) = self.leaves.remove(&lower).filter(|_| !joins) {
            self.leaves.insert(end, rest);
        }
    }

    /// Keys with copies of their before-images, and the LSN that they need.
    fn take_keys(&mut self, leaf: Key, from: Key, to: Key) -> Leaf {
        let leaf = self.leaf(leaf);
        let moving = |key: &Key| (from..to).contains(key);
        let cells = leaf.cells.extract_if(.., |key, _| moving(key)).collect();
        let before = leaf.before.iter().filter(|b| moving(&b.key)).cloned().collect();
        Leaf { lsn: leaf.lsn, cells, before, shared: 0 }
    }

    // Readers.

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
        let (told, early) = (self.told, self.pair);
        if self.rng.random_bool(0.5) {
            return Reader::Plain(Plain {
                key: self.rng.random_range(0..KEYS),
                began_at: self.watermark,
                told,
                at: PlainAt::Watermark,
                lsn: 0,
                pair: early,
                early,
                found: None,
                newer: Vec::new(),
                latched: 0,
                again: 0,
            });
        }
        let transaction = self.rng.random_bool(0.4);
        let at = if transaction { ViewAt::Take } else { ViewAt::WaitOwn };
        let left = self.rng.random_range(1..=4);
        Reader::View(View { transaction, told, lsn: 0, early, at, left, met: 0, truly_met: 0 })
    }

    /// False: it has ended.
    fn view_step(&mut self, nth: usize, view: &mut View) -> Result<bool, String> {
        match &mut view.at {
            ViewAt::WaitOwn => {
                if self.own <= self.watermark {
                    view.at = ViewAt::Take;
                }
            }
            ViewAt::Take => {
                view.lsn = if view.transaction { self.applied } else { self.watermark };
                view.at = ViewAt::Store;
            }
            ViewAt::Store => {
                self.slots[nth] = Some(Slot { lsn: view.lsn, gone: false });
                view.at = ViewAt::Reread;
            }
            ViewAt::Reread => {
                view.at = if self.horizon > view.lsn && !self.is(M::HorizonNotReread) { ViewAt::Take } else { ViewAt::Choose };
                let lsn = view.lsn;
                self.note(|| format!("reader {nth} has a view at {lsn}"));
                if matches!(view.at, ViewAt::Choose) && view.lsn < view.told {
                    return Err(format!("a view at {lsn} begins, and {} was told before", view.told));
                }
            }
            ViewAt::Choose if view.left == 0 => view.at = ViewAt::End,
            ViewAt::Choose => {
                view.left -= 1;
                view.at = self.choose(view.early);
            }
            ViewAt::Len { merged } => {
                if !*merged {
                    *merged = self.merged >= view.lsn || self.is(M::LenUnmerged);
                    self.merge_wanted |= !*merged;
                    return Ok(true);
                }
                let newer: i64 = self.lens.iter().filter(|(lsn, _)| *lsn > view.lsn).map(|(_, by)| by).sum();
                let (found, want) = (self.len - newer, self.states[view.lsn as usize].len() as i64);
                if found != want && !self.is_gone(nth) {
                    return Err(format!("reader {nth} at {}: {found} entries, want {want}", view.lsn));
                }
                (view.met, view.truly_met, view.at) = (view.lsn, view.lsn, ViewAt::Choose);
            }
            ViewAt::Looks(_) => return self.look(nth, view),
            ViewAt::End => {
                if view.transaction && self.watermark < view.met {
                    return Ok(true);
                }
                if view.transaction && self.watermark < view.truly_met {
                    return Err(format!("a transaction has met {} and ends at watermark {}", view.truly_met, self.watermark));
                }
                self.slots[nth] = None;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn choose(&mut self, early: Pair) -> ViewAt {
        const GET: &[Stage] = &[Tables, Newest, Merging, Latch, Stage::Before, Unlatch];
        const SCAN: &[Stage] = &[Latch, Stage::Before, Tables, Newest, Merging, Unlatch];
        const TREE_FIRST: &[Stage] = &[Latch, Stage::Before, Unlatch, Tables, Newest, Merging];
        let kind = self.rng.random_range(0..5);
        if kind == 0 {
            return ViewAt::Len { merged: false };
        }
        let (is_get, from) = (kind < 3, self.rng.random_range(0..KEYS));
        let keys = from..if is_get { from + 1 } else { self.rng.random_range(from + 1..=KEYS) };
        let stages = match (is_get, self.mistake) {
            (true, M::TablesAfterTree) | (false, M::OverlayAfterLatch) => TREE_FIRST,
            (true, _) => GET,
            // Both are right: what a view sees in the tables does not change.
            (false, _) => [SCAN, GET][usize::from(self.rng.random_bool(0.3))],
        };
        let (overlay, found) = Default::default();
        let look = Look { keys, is_get, stages, at: 0, pair: early, overlay, latched: None, leaf_lsn: 0, found, here: 0..0 };
        ViewAt::Looks(Box::new(look))
    }

    fn is_gone(&self, nth: usize) -> bool {
        self.slots[nth].is_some_and(|slot| slot.gone)
    }

    fn look(&mut self, nth: usize, view: &mut View) -> Result<bool, String> {
        let ViewAt::Looks(look) = &mut view.at else { return Ok(true) };
        let stage = look.stages[look.at];
        match stage {
            Tables if self.is(M::TablesBeforeLsn) => {}
            Tables => look.pair = self.pair,
            Newest | Merging => {
                let other = look.pair.merging.unwrap_or(look.pair.newest);
                let table = if (stage == Newest) != self.is(M::MergingWins) { look.pair.newest } else { other };
                for key in look.keys.clone() {
                    let hidden = self.is(M::NewestHides)
                        && stage == Merging
                        && self.tables[look.pair.newest].range((key, 0)..=(key, Lsn::MAX)).next().is_some();
                    if let Some(version) = self.waiting(table, key, view.lsn).filter(|_| !hidden) {
                        look.overlay.entry(key).or_insert(version);
                    }
                }
            }
            Latch => {
                let lower = self.leaf_of(look.keys.start);
                look.here = look.keys.start..self.upper_of(lower).min(look.keys.end);
                let (leaf, here) = (self.leaf(lower), look.here.clone());
                leaf.shared += 1;
                (look.latched, look.leaf_lsn) = (Some(lower), leaf.lsn);
                look.found = leaf.cells.range(here).map(|(&key, &value)| (key, value)).collect();
            }
            Stage::Before => {
                let leaf = &self.leaves[&look.latched.unwrap_or(0)];
                for key in look.here.clone().filter(|_| look.leaf_lsn > view.lsn) {
                    if let Some(held) = leaf.before(key, view.lsn) {
                        look.found.remove(&key);
                        look.found.extend(held.map(|value| (key, value)));
                    }
                }
            }
            Unlatch => {
                let lower = look.latched.take().unwrap_or(0);
                self.leaf(lower).shared -= 1;
            }
        }
        look.at += 1;
        let is_found = look.is_get && stage == Merging && look.stages[0] == Tables && !look.overlay.is_empty();
        if is_found {
            look.here = look.keys.clone();
        }
        if is_found || look.at == look.stages.len() {
            if !self.is_gone(nth) {
                self.judge(nth, view.lsn, look)?;
            }
            let noted = look.overlay.iter().filter(|(key, _)| look.here.contains(key)).map(|(_, (lsn, _))| *lsn).max().unwrap_or(0);
            let noted = if self.is(M::MetOfLeafOnly) { 0 } else { noted };
            view.met = view.met.max(noted).max(look.leaf_lsn.min(view.lsn));
            let truly = look.here.clone().map(|key| self.changed_at(key, view.lsn)).max().unwrap_or(0);
            view.truly_met = view.truly_met.max(truly);
            look.keys.start = look.here.end;
            (look.at, look.leaf_lsn) = (0, 0);
            look.overlay.clear();
            if look.keys.is_empty() || self.is_gone(nth) {
                view.at = ViewAt::Choose;
            }
        }
        Ok(true)
    }

    /// What was found between two fences, against what should be there.
    fn judge(&self, nth: usize, lsn: Lsn, look: &Look) -> Checked {
        for key in look.here.clone() {
            let found = look.overlay.get(&key).map_or_else(|| look.found.get(&key).copied(), |(_, value)| *value);
            let want = self.states[lsn as usize].get(&key).copied();
            if found != want {
                return Err(format!("reader {nth} at {lsn}: key {key} holds {found:?}, want {want:?}"));
            }
        }
        Ok(())
    }

    /// False: it has ended.
    fn plain_step(&mut self, nth: usize, plain: &mut Plain) -> Result<bool, String> {
        use PlainAt as At;
        let key = plain.key;
        match plain.at {
            At::Watermark => {
                (plain.lsn, plain.found) = (self.watermark, None);
                plain.newer.clear();
                plain.at = if self.is(M::TablesAfterTree) { At::Leaf } else { At::Tables };
            }
            At::Tables => {
                plain.pair = if self.is(M::TablesBeforeLsn) { plain.early } else { self.pair };
                plain.at = At::Newest;
            }
            At::Newest | At::Merging => {
                let is_newest = plain.at == At::Newest;
                let table = if is_newest { Some(plain.pair.newest) } else { plain.pair.merging };
                if let Some(table) = table {
                    let found = self.waiting(table, key, plain.lsn);
                    let is_hidden = self.is(M::NewestHides) && !plain.newer.is_empty();
                    if (plain.found.is_none() || self.is(M::MergingWins)) && !is_hidden {
                        plain.found = found.map(|(_, value)| value).or(plain.found);
                    }
                    plain.newer.extend(self.tables[table].range((key, plain.lsn + 1)..=(key, Lsn::MAX)).map(|(&(_, lsn), _)| lsn));
                }
                plain.at = if is_newest { At::Merging } else { At::Own };
            }
            At::Own => {
                let told = plain.newer.iter().copied().filter(|&lsn| lsn <= self.own).max();
                let against = if self.is(M::OwnAgainstNewWatermark) { self.watermark } else { plain.lsn };
                plain.at = match told {
                    Some(lsn) if self.own > against && !self.is(M::OwnNotAwaited) => At::WaitFor(lsn),
                    _ if plain.found.is_some() => return self.plain_found(nth, plain, plain.found.flatten()),
                    _ => At::Leaf,
                };
            }
            At::Leaf => {
                plain.latched = self.leaf_of(key);
                self.leaf(plain.latched).shared += 1;
                plain.at = At::WatermarkAgain;
            }
            At::WatermarkAgain => {
                plain.again = self.watermark;
                if self.leaves[&plain.latched].lsn <= plain.again {
                    let found = self.leaves[&plain.latched].cells.get(&key).copied();
                    self.leaf(plain.latched).shared -= 1;
                    return self.plain_tree(nth, plain, found);
                }
                plain.at = At::OwnAgain;
            }
            At::OwnAgain => {
                plain.at = At::Before;
                if self.own > plain.again {
                    let wait_for = self.own.min(self.leaves[&plain.latched].lsn);
                    self.leaf(plain.latched).shared -= 1;
                    plain.at = At::WaitFor(wait_for);
                }
            }
            At::Before => {
                let leaf = self.leaf(plain.latched);
                let found = leaf.before(key, plain.again).unwrap_or(leaf.cells.get(&key).copied());
                leaf.shared -= 1;
                return self.plain_tree(nth, plain, found);
            }
            At::WaitFor(lsn) => {
                if self.watermark >= lsn {
                    plain.at = At::Watermark;
                }
            }
        }
        Ok(true)
    }

    /// What the tree says. The mistake goes on to the tables only now.
    fn plain_tree(&mut self, nth: usize, plain: &mut Plain, found: Option<Lsn>) -> Result<bool, String> {
        let found = if self.is(M::TablesAfterTree) {
            let newer = |table: Option<usize>| table.and_then(|table| self.waiting(table, plain.key, plain.lsn));
            newer(Some(self.pair.newest)).or(newer(self.pair.merging)).map_or(found, |(_, value)| value)
        } else {
            found
        };
        self.plain_found(nth, plain, found)
    }

    fn plain_found(&mut self, nth: usize, plain: &Plain, found: Option<Lsn>) -> Result<bool, String> {
        let Plain { key, began_at, told, .. } = *plain;
        self.note(|| format!("reader {nth} without a view: key {key} holds {found:?}"));
        let newest_told = self.changed_at(key, told);
        let says = |lsn: &Lsn| self.states[*lsn as usize].get(&key).copied() == found && newest_told <= *lsn;
        match (began_at..=self.watermark).any(|lsn| says(&lsn)) {
            true => Ok(false),
            false => Err(format!(
                "reader {nth} without a view, watermark {began_at} to {}, told of {told}: key {key} holds {found:?}",
                self.watermark
            )),
        }
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
                    false => Err(format!("nothing waits, {} is applied, {} merged: a number of entries is never told", self.applied, self.merged)),
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
        if self.rng.random_bool(0.001) { self.crash() } else { Ok(()) }
    }
}

/// Steps in which whatever has begun comes to its end.
const STEPS_TO_END: usize = 20_000;

/// What a commit does to a leaf in replay; by how much the number of entries changes.
fn replay(what: &What, lsn: Lsn, keys: Range<Key>, leaf: &mut Leaf) -> i64 {
    let before = leaf.cells.len() as i64;
    match what {
        What::Removal(range) => leaf.cells.retain(|key, _| !range.contains(key)),
        What::Writes(writes) => {
            writes.iter().filter(|(key, _)| keys.contains(key)).for_each(|(&key, &put)| leaf.change(key, put.then_some(lsn)));
        }
    }
    leaf.lsn = leaf.lsn.max(lsn);
    leaf.cells.len() as i64 - before
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
    let all = [
        M::TablesAfterTree,
        M::OverlayAfterLatch,
        M::TablesBeforeLsn,
        M::NewestHides,
        M::MergingWins,
        M::TwoStores,
        M::DroppedEarly,
        M::RemovedNewestFirst,
        M::CollapsedAlways,
        M::CollapsedBelowWatermark,
        M::HorizonNotReread,
        M::NoBeforeImages,
        M::OneBeforeImage,
        M::NewestFirst,
        M::LeafLsnFalls,
        M::Overtakes,
        M::OvertakesWindow,
        M::RemovalOvertakes,
        M::OwnNotAwaited,
        M::OwnAgainstNewWatermark,
        M::LenUnmerged,
        M::MergedBeforeLens,
        M::LenAtOnce,
        M::LastOfTable,
        M::MetOfLeafOnly,
        M::CutClaimsWindow,
        M::CutDeniesWindow,
        M::CutClaimsApplied,
        M::ReplayBehindWaiting,
        M::JoinStampsApplied,
    ];
    for mistake in all {
        let caught = (0..4000).find(|&seed| history(mistake, seed, false).is_err());
        if let Some(seed) = caught { let n = (0..500).filter(|&s| history(mistake, s, false).is_err()).count(); println!("{mistake:?}: {seed} ({n} of 500): {}", history(mistake, seed, true).unwrap_err().0); }
        assert!(caught.is_some(), "not caught: {mistake:?}");
    }
}
