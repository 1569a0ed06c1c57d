//! The committer, the log, the checkpoint, and an open after a crash.

use super::*;

impl Model {
    pub(super) fn append(&mut self) {
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
                if put {
                    state.insert(key, lsn)
                } else {
                    state.remove(&key)
                };
            }),
        }
        let immediate = self.rng.random_bool(0.4);
        self.note(|| format!("append {lsn}, immediate: {immediate}, {what:?}"));
        self.commits.push(Commit { what, immediate, told: false });
        self.states.push(state);
    }

    /// Whoever made a commit is told that it is done.
    pub(super) fn tell(&mut self) {
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

    pub(super) fn flush(&mut self) {
        if let Some(lsn) = self.flushing.take() {
            self.durable = lsn;
            self.note(|| format!("durable up to {lsn}"));
            self.raise_watermark();
        } else if self.durable < self.appended() {
            self.flushing = Some(self.rng.random_range(self.durable + 1..=self.appended()));
        }
    }

    pub(super) fn raise_watermark(&mut self) {
        while self.watermark < self.applied && (!self.commit(self.watermark + 1).immediate || self.durable > self.watermark) {
            self.watermark += 1;
        }
        self.note_watermark();
    }

    fn note_watermark(&mut self) {
        let (watermark, applied) = (self.watermark, self.applied);
        self.note(|| format!("watermark {watermark}, applied {applied}"));
    }

    pub(super) fn write_superblock(&mut self) {
        if let Some(cut) = self.cut.take_if(|cut| cut.lsn <= self.durable) {
            self.note(|| format!("SUPERBLOCK of the cut at {}", cut.lsn));
            self.checkpoint = cut;
        }
    }

    pub(super) fn cut(&mut self) {
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
        let stranded = if self.is(M::CutWithoutStranded) { Table::new() } else { self.newest_stranded() };
        self.cut = Some(Checkpoint { leaves, stranded, len: self.len, lsn, replay_from });
    }

    /// The machine stops, and the database is opened again.
    pub(super) fn crash(&mut self) -> Checked {
        let survives = self.rng.random_range(self.durable..=self.appended());
        self.note(|| format!("CRASH, the log ends at {survives}"));
        if let Some(lost) = (survives + 1..=self.appended()).find(|&lsn| self.commit(lsn).immediate && self.commit(lsn).told) {
            return Err(format!("commit {lost} was confirmed, and the log ends at {survives}"));
        }
        let Checkpoint { leaves, stranded, len, lsn, replay_from } = &self.checkpoint;
        let (all, want, lsn, replay_from) = (state_of(leaves, stranded), &self.states[*lsn as usize], *lsn, *replay_from);
        if all != *want || *len != cells(leaves) {
            return Err(format!(
                "the checkpoint at {lsn} has {len} entries, {all:?}, {stranded:?} of it stranded; want {want:?}"
            ));
        }
        if let Some(newest) = leaves.values().map(|leaf| leaf.lsn).find(|&newest| newest > lsn) {
            return Err(format!("the checkpoint at {lsn} has a leaf with LSN {newest}"));
        }
        self.reopen(survives);
        self.stranded_in(0..KEYS).into_iter().for_each(|key| self.settle(key));
        let beyond = replay_from.max(lsn + 1)..=survives;
        let is_removal = |lsn: Lsn| matches!(self.commit(lsn).what, What::Removal(_));
        let has_removal = beyond.clone().any(is_removal);
        if self.rng.random_bool(0.5) && (!has_removal || self.is(M::WaitsAgainOverRemoval)) {
            self.wait_again(lsn, beyond);
        } else {
            beyond.for_each(|lsn| self.replay(lsn));
        }
        let mut all = state_of(&self.leaves, &self.tables[STRANDED]);
        self.pair.merging.into_iter().for_each(|waits| lay_over(&mut all, &self.tables[waits]));
        let want = &self.states[survives as usize];
        if all != *want || self.len != cells(&self.leaves) {
            return Err(format!("recovered at {survives}: {} entries, {all:?}; want {want:?}", self.len));
        }
        Ok(())
    }

    /// What the checkpoint has is there again, and of the log what is up to `lsn`.
    fn reopen(&mut self, lsn: Lsn) {
        self.commits.truncate(lsn as usize);
        self.states.truncate(lsn as usize + 1);
        self.commits.iter_mut().for_each(|commit| commit.told = true);
        self.load();
        self.pair = Pair { newest: 1, merging: None };
        (self.window, self.cut, self.flushing, self.telling) = (None, None, None, None);
        (self.applied, self.merged, self.watermark, self.own, self.told, self.durable) = (lsn, lsn, lsn, lsn, lsn, lsn);
        (self.horizon, self.pruned_to) = (lsn, lsn);
        (self.lens, self.deltas, self.late, self.todo) = Default::default();
        self.slots = vec![None; READERS];
        self.readers = vec![Reader::Idle; READERS];
        self.merge_wanted = false;
    }

    /// What was committed beyond the checkpoint at `cut` waits: of each key the last, all as of the last commit. It is a window of its own,
    /// which has begun.
    fn wait_again(&mut self, cut: Lsn, beyond: std::ops::RangeInclusive<Lsn>) {
        let (newest, last) = (self.pair.newest, *beyond.end());
        for lsn in beyond {
            self.note(|| format!("{lsn} waits again"));
            match self.commit(lsn).what.clone() {
                What::Removal(_) => self.replay(lsn),
                What::Writes(writes) => {
                    for (key, put) in writes {
                        match self.is(M::FirstWaitsAgain) {
                            true => self.tables[newest].entry((key, last)).or_insert(put.then_some(lsn)),
                            false => self.tables[newest].entry((key, last)).insert_entry(put.then_some(lsn)).into_mut(),
                        };
                    }
                }
            }
        }
        // Otherwise nothing would ever be merged that is told as such.
        if !self.tables[newest].is_empty() {
            self.merged = if self.is(M::WaitsAgainAsMerged) { last } else { cut };
            self.begin_window();
            // Before anybody reads: not in two steps, whatever a mistake has windows do.
            (self.pair.merging, self.todo) = (Some(newest), Default::default());
        }
    }

    /// A commit is applied again; nobody reads.
    fn replay(&mut self, lsn: Lsn) {
        self.note(|| format!("replay {lsn}"));
        match self.commit(lsn).what.clone() {
            What::Removal(range) => {
                self.make_readable(range.clone());
                for key in range {
                    self.settle(key);
                    self.put_again(key, lsn, None);
                }
            }
            What::Writes(writes) => {
                for (key, put) in writes {
                    if self.spoils > 0.0 && self.rng.random_bool(0.2) {
                        self.spoil();
                    }
                    if !self.is(M::ReplayOverStranded) {
                        self.settle(key);
                    }
                    let over = self.is(M::ReplayOverStranded) || self.stranded_of(key).is_empty();
                    if over && !self.is_unreadable(key) {
                        self.put_again(key, lsn, put.then_some(lsn));
                    } else {
                        self.tables[STRANDED].insert((key, lsn), put.then_some(lsn));
                    }
                }
            }
        }
    }
}

fn cells(leaves: &BTreeMap<Key, Leaf>) -> i64 {
    leaves.values().map(|leaf| leaf.cells.len() as i64).sum()
}

/// What leaves hold, and what is stranded over it.
fn state_of(leaves: &BTreeMap<Key, Leaf>, stranded: &Table) -> State {
    let mut state = leaves.values().flat_map(|leaf| leaf.cells.clone()).collect::<State>();
    lay_over(&mut state, stranded);
    state
}

fn lay_over(state: &mut State, table: &Table) {
    for (&(key, _), &value) in table {
        match value {
            Some(value) => state.insert(key, value),
            None => state.remove(&key),
        };
    }
}
