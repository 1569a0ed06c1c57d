//! The holder of the apply lock: applies, merges, prunes, moves keys between leaves and cuts, one step at a time.

use super::*;

impl Model {
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
                self.todo.push_back(Do::LeaveSuperseded);
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
    pub(super) fn do_first(&mut self, steps: impl IntoIterator<Item = Do, IntoIter: DoubleEndedIterator>) {
        steps.into_iter().rev().for_each(|step| self.todo.push_front(step));
    }

    /// The holder's next step, if no latch is in its way.
    pub(super) fn hold(&mut self) {
        let Some(step) = self.todo.pop_front() else {
            self.take_lock();
            return;
        };
        match step {
            Do::Write { key, .. } | Do::Late { key, .. } if self.leaves[&self.leaf_of(key)].shared > 0 => {
                self.todo.push_front(step)
            }
            Do::Remove { ref range, .. } if self.leaves[&self.leaf_of(range.start)].shared > 0 => self.todo.push_front(step),
            // Leaves are divided and joined by what is written, too.
            Do::Write { .. } | Do::Late { .. } if self.rng.random_bool(0.05) => {
                self.todo.push_front(step);
                self.move_keys();
            }
            Do::Write { key, lsn, value, image } => self.put(key, lsn, value, image),
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
                self.add_len(lsn, by);
            }
            Do::Merged(lsn) => self.merged = lsn,
            // Commits without writes may have come since the window began.
            Do::WindowMerged(_) if self.tables[self.pair.newest].is_empty() && !self.is(M::LastOfTable) => {
                self.merged = self.applied
            }
            Do::WindowMerged(last) => self.merged = last,
            Do::Applied(lsn) => self.applied = lsn,
            Do::RaiseWatermark => self.raise_watermark(),
            Do::BeginWindow => self.begin_window(),
            Do::SetMerging(table) => self.pair.merging = Some(table),
            Do::Lot { all } => self.lot(all),
            Do::RemoveEntry(key, lsn) => {
                if let Some(merging) = self.pair.merging {
                    self.tables[merging].remove(&(key, lsn));
                }
            }
            Do::DropMerging => {
                self.note(|| "the window ends".to_owned());
                self.pair.merging = None;
            }
            Do::Strand { key, lsn, value } => self.strand(key, lsn, value),
            Do::TryAgain(key) => self.try_again(key),
            Do::Late { key, lsn, value, image } => self.write_late(key, lsn, value, image),
            Do::LateLen(lsn) => self.add_late_len(lsn),
            Do::Leave(key, lsn) => {
                self.note(|| format!("  {lsn} of key {key} is not stranded any more"));
                self.tables[STRANDED].remove(&(key, lsn));
            }
            Do::LeaveSuperseded => self.leave_superseded(),
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
            What::Removal(range) => {
                self.make_readable(range.clone());
                let again = if self.is(M::RemovalLeavesStranded) { Vec::new() } else { self.stranded_in(range.clone()) };
                self.todo.extend(again.into_iter().map(Do::TryAgain));
                self.todo.push_back(Do::Remove { range, lsn });
            }
            What::Writes(writes) => {
                let write = |(key, put): (Key, bool)| Do::Write { key, lsn, value: put.then_some(lsn), image: true };
                self.todo.extend(writes.into_iter().map(write));
            }
        }
        self.todo.extend([Do::Len(lsn), Do::Merged(lsn), Do::Applied(lsn), Do::RaiseWatermark]);
    }

    /// By how much the number of entries changes.
    pub(super) fn write(&mut self, key: Key, lsn: Lsn, value: Option<Lsn>, image: bool) -> i64 {
        self.note(|| format!("  {lsn} to the tree: key {key} holds {value:?}, before-image: {image}"));
        let (lower, falls) = (self.leaf_of(key), self.is(M::LeafLsnFalls));
        let leaf = self.leaf(lower);
        let held = leaf.cells.get(&key).copied();
        if image {
            leaf.before.push(Before { key, lsn, held });
        }
        leaf.change(key, value);
        leaf.lsn = if falls { lsn } else { leaf.lsn.max(lsn) };
        i64::from(value.is_some()) - i64::from(held.is_some())
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

    pub(super) fn begin_window(&mut self) {
        let old = self.pair.newest;
        self.window_lsns = self.tables[old].keys().map(|&(_, lsn)| lsn).collect();
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
        let at = if self.is(M::RemovedBeforeMerged) { 0 } else { steps.len() };
        steps.splice(at..at, keys.iter().flat_map(|&key| self.remove_key(merging, key)));
        if is_last {
            self.end_window(last, &mut steps);
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

    /// What was merged of a key goes, the oldest first.
    fn remove_key(&self, merging: usize, key: Key) -> Vec<Do> {
        let versions = self.tables[merging].range((key, 0)..=(key, Lsn::MAX)).map(|(&(key, lsn), _)| Do::RemoveEntry(key, lsn));
        let mut steps: Vec<Do> = versions.collect();
        if self.is(M::RemovedNewestFirst) {
            steps.reverse();
        }
        steps
    }

    fn end_window(&mut self, last: Lsn, steps: &mut Vec<Do>) {
        self.window = None;
        let lsns = std::mem::take(&mut self.window_lsns);
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
        steps.push(Do::DropMerging);
    }

    /// Keys go to a new leaf, or to a neighbour, with their before-images.
    fn move_keys(&mut self) {
        let lowers: Vec<Key> = self.leaves.keys().copied().collect();
        let nth = self.rng.random_range(0..lowers.len());
        let (lower, upper) = (lowers[nth], self.upper_of(lowers[nth]));
        let middle = self.rng.random_range(lower..upper);
        if self.leaves[&lower].shared > 0 || self.leaves[&lower].unreadable {
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
        if self.leaves[&left].shared > 0 || self.leaves[&left].unreadable {
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
        Leaf { lsn: leaf.lsn, cells, before, shared: 0, unreadable: false }
    }
}
