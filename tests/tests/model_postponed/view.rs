//! Readers with a view: look-ups, scans leaf by leaf, the number of entries.

use super::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Tables,
    Newest,
    Merging,
    Stranded,
    Latch,
    Before,
    Unlatch,
}

use Stage::{Latch, Merging, Newest, Stranded, Tables, Unlatch};

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
    /// Whether all up to the view is merged, and whether something is stranded.
    Len {
        merged: bool,
        stranded: Option<bool>,
    },
    End,
}

#[derive(Clone, Debug)]
pub(super) struct View {
    /// Of all that is applied, and ends when what it has met is visible.
    transaction: bool,
    told: Lsn,
    lsn: Lsn,
    early: Pair,
    /// The tables that it was the first to take.
    first: Option<Pair>,
    at: ViewAt,
    left: u32,
    met: Lsn,
    truly_met: Lsn,
}

impl View {
    pub(super) fn begin(model: &mut Model) -> View {
        let transaction = model.rng.random_bool(0.4);
        let at = if transaction { ViewAt::Take } else { ViewAt::WaitOwn };
        let left = model.rng.random_range(1..=4);
        View { transaction, told: model.told, lsn: 0, early: model.pair, first: None, at, left, met: 0, truly_met: 0 }
    }
}

impl Model {
    /// False: it has ended.
    pub(super) fn view_step(&mut self, nth: usize, view: &mut View) -> Result<bool, String> {
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
            ViewAt::Len { merged, stranded } => {
                if stranded.is_none() && (*merged || self.is(M::StrandedAskedFirst)) {
                    *stranded = Some(!self.tables[STRANDED].is_empty() && !self.is(M::StrandedNotCounted));
                    if self.rng.random_bool(0.5) {
                        return Ok(true);
                    }
                }
                if !*merged {
                    *merged = self.merged >= view.lsn || self.is(M::LenUnmerged);
                    self.merge_wanted |= !*merged;
                    return Ok(true);
                }
                if *stranded == Some(true) {
                    // One by one: a pass over everything, whose every key is judged.
                    view.at = self.look_at(0..KEYS, false, view.early);
                    return Ok(true);
                }
                let newer: i64 = self.lens.iter().rev().take_while(|(lsn, _)| *lsn > view.lsn).map(|(_, by)| by).sum();
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
        let kind = self.rng.random_range(0..5);
        if kind == 0 {
            return ViewAt::Len { merged: false, stranded: None };
        }
        let (is_get, from) = (kind < 3, self.rng.random_range(0..KEYS));
        let to = if is_get { from + 1 } else { self.rng.random_range(from + 1..=KEYS) };
        self.look_at(from..to, is_get, early)
    }

    fn look_at(&mut self, keys: Range<Key>, is_get: bool, early: Pair) -> ViewAt {
        const GET: &[Stage] = &[Tables, Newest, Merging, Stranded, Latch, Stage::Before, Unlatch];
        const SCAN: &[Stage] = &[Latch, Stage::Before, Tables, Newest, Merging, Stranded, Unlatch];
        const TREE_FIRST: &[Stage] = &[Latch, Stage::Before, Unlatch, Tables, Newest, Merging, Stranded];
        const STRANDED_FIRST: &[Stage] = &[Tables, Newest, Stranded, Merging, Latch, Stage::Before, Unlatch];
        const STRANDED_LAST: &[Stage] = &[Tables, Newest, Merging, Latch, Stage::Before, Unlatch, Stranded];
        let stages = match (is_get, self.mistake) {
            (true, M::TablesAfterTree) | (false, M::OverlayAfterLatch) => TREE_FIRST,
            (true, M::StrandedAfterTree) => STRANDED_LAST,
            (true, M::StrandedBeforeMerging) => STRANDED_FIRST,
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
            Tables => {
                // It may go on with those that it took first: what it sees there does not change.
                let kept = view.first.filter(|_| self.rng.random_bool(0.2));
                look.pair = kept.unwrap_or(self.pair);
                view.first.get_or_insert(look.pair);
            }
            Newest | Merging => {
                let other = look.pair.merging.unwrap_or(look.pair.newest);
                let table = if (stage == Newest) != self.is(M::MergingWins) { look.pair.newest } else { other };
                for key in look.keys.clone() {
                    let hidden = self.is(M::NewestHides)
                        && stage == Merging
                        && self.tables[look.pair.newest].range((key, 0)..=(key, Lsn::MAX)).next().is_some();
                    if let Some(version) = self.waiting(table, key, view.lsn).filter(|_| !hidden) {
                        let over = look.overlay.entry(key).or_insert(version);
                        if self.is(M::StrandedBeforeMerging) {
                            *over = version.max(*over);
                        }
                    }
                }
            }
            Stranded if self.is(M::PassWithoutStranded) && !look.is_get => {}
            Stranded => {
                for key in look.keys.clone() {
                    if let Some((lsn, value)) = self.waiting(STRANDED, key, view.lsn) {
                        let version = (if self.is(M::StrandedNotMet) { 0 } else { lsn }, value);
                        match self.is(M::StrandedWins) && !look.is_get {
                            true => look.overlay.insert(key, version),
                            false => Some(*look.overlay.entry(key).or_insert(version)),
                        };
                    }
                }
            }
            Latch if self.is_unreadable(look.keys.start) => {
                let (key, is_get) = (look.keys.start, look.is_get);
                view.at = ViewAt::Choose;
                return self.unreadable(nth, view.lsn, key, is_get && !self.is_gone(nth));
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
        let is_found = look.is_get && look.stages.get(look.at) == Some(&Latch) && !look.overlay.is_empty();
        if is_found {
            look.here = look.keys.clone();
        }
        if is_found || look.at == look.stages.len() {
            if !self.is_gone(nth) {
                self.judge(nth, view.lsn, look)?;
            }
            let noted =
                look.overlay.iter().filter(|(key, _)| look.here.contains(key)).map(|(_, (lsn, _))| *lsn).max().unwrap_or(0);
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
}
