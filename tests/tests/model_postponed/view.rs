//! Readers with a view: look-ups, scans leaf by leaf, the number of entries.

use super::*;

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
