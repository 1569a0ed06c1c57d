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
        self.cut = Some(Checkpoint { leaves, len: self.len, lsn, replay_from });
    }

    /// The machine stops, and the database is opened again.
    pub(super) fn crash(&mut self) -> Checked {
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
}

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
