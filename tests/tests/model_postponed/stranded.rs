//! Leaves that can't be read, and versions that are stranded because of it.

use super::*;

impl Model {
    pub(super) fn is_unreadable(&self, key: Key) -> bool {
        self.leaves[&self.leaf_of(key)].unreadable
    }

    /// A leaf can't be read any more, or again; one that is latched is in memory. What a removal is about was read before.
    pub(super) fn spoil(&mut self) {
        let nth = self.rng.random_range(0..self.leaves.len());
        let unreadable = self.rng.random_bool(0.5);
        let removes = self.todo.iter().any(|step| matches!(step, Do::Remove { .. }));
        let leaf = self.leaves.iter_mut().nth(nth).filter(|(_, leaf)| leaf.shared == 0 && !removes);
        if let Some((&lower, leaf)) = leaf.filter(|(_, leaf)| leaf.unreadable != unreadable) {
            leaf.unreadable = unreadable;
            self.note(|| format!("the leaf at {lower} can't be read: {unreadable}"));
        }
    }

    /// A removal whose leaves can't be read has been refused.
    pub(super) fn make_readable(&mut self, range: Range<Key>) {
        for key in range {
            let lower = self.leaf_of(key);
            self.leaf(lower).unreadable = false;
        }
    }

    /// A reader ends as an error, unless it was to look up one key of which it may see what is stranded.
    pub(super) fn unreadable(&mut self, nth: usize, lsn: Lsn, key: Key, is_get: bool) -> Result<bool, String> {
        self.note(|| format!("reader {nth} at {lsn} can't read the leaf of key {key}"));
        match self.waiting(STRANDED, key, lsn).filter(|_| is_get) {
            Some((stranded, _)) => {
                Err(format!("reader {nth} at {lsn} can't read the leaf of key {key}, and {stranded} is stranded"))
            }
            // A view may go on.
            None => Ok(self.slots[nth].is_some()),
        }
    }

    /// The stranded versions of a key, oldest first.
    pub(super) fn stranded_of(&self, key: Key) -> Vec<(Lsn, Option<Lsn>)> {
        self.tables[STRANDED].range((key, 0)..=(key, Lsn::MAX)).map(|(&(_, lsn), &value)| (lsn, value)).collect()
    }

    /// The keys of a range of which something is stranded.
    pub(super) fn stranded_in(&self, range: Range<Key>) -> Vec<Key> {
        let mut keys: Vec<Key> =
            self.tables[STRANDED].range((range.start, 0)..(range.end, 0)).map(|(&(key, _), _)| key).collect();
        keys.dedup();
        keys
    }

    /// For the cut.
    pub(super) fn newest_stranded(&self) -> Table {
        let newest: BTreeMap<Key, (Lsn, Option<Lsn>)> =
            self.tables[STRANDED].iter().map(|(&(key, lsn), &value)| (key, (lsn, value))).collect();
        newest.into_iter().map(|(key, (lsn, value))| ((key, lsn), value)).collect()
    }

    /// A version goes to its leaf, behind what is stranded of its key, or is stranded.
    pub(super) fn put(&mut self, key: Key, lsn: Lsn, value: Option<Lsn>, image: bool) {
        if self.is_unreadable(key) {
            // Whatever the leaf is by then.
            let leaves = self.is(M::StrandedTooLate).then_some(Do::RemoveEntry(key, lsn));
            self.do_first(leaves.into_iter().chain([Do::Strand { key, lsn, value }, Do::LeaveSuperseded]).collect::<Vec<_>>());
        } else if self.stranded_of(key).is_empty() || self.is(M::WrittenOverStranded) {
            let by = self.write(key, lsn, value, image);
            *self.deltas.entry(lsn).or_default() += by;
        } else {
            self.do_first([Do::TryAgain(key), Do::Write { key, lsn, value, image }]);
        }
    }

    pub(super) fn strand(&mut self, key: Key, lsn: Lsn, value: Option<Lsn>) {
        self.note(|| format!("  {lsn} is stranded: key {key} holds {value:?}"));
        self.tables[STRANDED].insert((key, lsn), value);
    }

    /// What is stranded of a key goes to the tree, then it counts, then it is not stranded any more, all of it oldest first.
    pub(super) fn try_again(&mut self, key: Key) {
        let versions = self.stranded_of(key);
        let old = versions.partition_point(|&(lsn, _)| lsn <= self.pruned_to);
        // What nobody can see need not be written.
        let skipped = if self.rng.random_bool(0.5) { old.saturating_sub(1) } else { 0 };
        let mut steps = Vec::new();
        for (nth, &(lsn, value)) in versions.iter().enumerate().skip(skipped) {
            let image = nth >= old && !self.is(M::LateWithoutImages);
            steps.push(Do::Late { key, lsn, value, image });
        }
        let written = steps.len();
        steps.extend(versions.iter().skip(skipped).map(|&(lsn, _)| Do::LateLen(lsn)));
        let mut leave: Vec<Do> = versions.iter().map(|&(lsn, _)| Do::Leave(key, lsn)).collect();
        if self.is(M::StrandedNewestFirst) {
            leave.reverse();
        }
        let at = match self.mistake {
            M::LeftBeforeWritten => 0,
            M::LeftBeforeLens => written,
            _ => steps.len(),
        };
        steps.splice(at..at, leave);
        self.do_first(steps);
    }

    pub(super) fn write_late(&mut self, key: Key, lsn: Lsn, value: Option<Lsn>, image: bool) {
        if self.is_unreadable(key) {
            // Again: this one stays stranded, and those after it.
            let stays = |step: &Do| match *step {
                Do::Late { key: of, .. } => of == key,
                Do::Leave(of, at) => of == key && at >= lsn,
                _ => false,
            };
            self.todo.retain(|step| !stays(step));
            return;
        }
        let by = self.write(key, lsn, value, image);
        let late = if self.is(M::LateLenWithWindow) && self.pair.merging.is_some() { &mut self.deltas } else { &mut self.late };
        *late.entry(lsn).or_default() += by;
    }

    pub(super) fn add_late_len(&mut self, lsn: Lsn) {
        if let Some(by) = self.late.remove(&lsn) {
            self.add_len(lsn, by);
        }
    }

    /// The number of entries changes, as of `lsn`. What was stranded may have come before with a higher one.
    pub(super) fn add_len(&mut self, lsn: Lsn, by: i64) {
        self.len += by;
        let place = self.lens.partition_point(|&(at, _)| at <= lsn);
        self.lens.insert(if self.is(M::LateLenAtEnd) { self.lens.len() } else { place }, (lsn, by));
    }

    /// What nobody can see any more, because a later one is stranded, goes, the oldest first.
    pub(super) fn leave_superseded(&mut self) {
        let bound = if self.is(M::SupersededAtWatermark) { self.watermark } else { self.pruned_to };
        let mut tables = vec![STRANDED];
        if self.is(M::SupersededByWaiting) {
            tables.extend([Some(self.pair.newest), self.pair.merging].into_iter().flatten());
        }
        let has_next = |key, lsn| tables.iter().any(|&table| self.waiting(table, key, bound).is_some_and(|(next, _)| next > lsn));
        let superseded = self.tables[STRANDED].keys().filter(|&&(key, lsn)| has_next(key, lsn));
        let leave: Vec<Do> = superseded.map(|&(key, lsn)| Do::Leave(key, lsn)).collect();
        self.do_first(leave);
    }

    /// The checkpoint's leaves, some of which can't be read, and what is stranded in it.
    pub(super) fn load(&mut self) {
        let Checkpoint { mut leaves, stranded, len, .. } = self.checkpoint.clone();
        for (&lower, leaf) in &mut leaves {
            leaf.unreadable = self.spoils > 0.0 && self.rng.random_bool(if self.is_unreadable(lower) { 0.5 } else { 0.1 });
        }
        let stranded = if self.is(M::StrandedNotLoaded) { Table::new() } else { stranded };
        (self.leaves, self.tables, self.len) = (leaves, vec![stranded, Table::new()], len);
    }

    /// In replay: what is stranded of a key goes to its leaf, if that can be read.
    pub(super) fn settle(&mut self, key: Key) {
        if !self.is_unreadable(key) {
            for (lsn, value) in self.stranded_of(key) {
                self.put_again(key, lsn, value);
                self.tables[STRANDED].remove(&(key, lsn));
            }
        }
    }

    /// In replay: a version goes to its leaf.
    pub(super) fn put_again(&mut self, key: Key, lsn: Lsn, value: Option<Lsn>) {
        self.len += self.write(key, lsn, value, false);
    }
}
