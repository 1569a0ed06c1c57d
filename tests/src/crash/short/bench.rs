//! The database that short sequences work on, and what is known of it.

use super::Step;
use crate::dump;
use crate::geometry::Geometry;
use crate::history::{Commit, CommitId, History};
use crate::state::Write;
use crate::workload::value;
use ashlar_disk::Fs;
use ashlar_disk::sim::{Sim, SimOptions};
use ashlardb::{Background, Database, Durability, Error};
use std::ops::Bound;
use std::sync::Arc;

const GEOMETRY: Geometry = Geometry::SMALLEST;

/// A machine with the database, and what is known of it.
pub(super) struct Bench {
    pub(super) sim: Sim,
    pub(super) db: Option<Database>,
    pub(super) history: History,
    clock: u64,
    seq: u32,
}

impl Bench {
    /// The database: a part stands in a checkpoint, a part in the log alone.
    pub(super) fn new(seed: u64) -> Result<Bench, Error> {
        let sim = Sim::new(SimOptions::new(seed));
        let mut bench = Bench { sim, db: None, history: History::default(), clock: 0, seq: 0 };
        bench.open()?;
        let steps = [Step::Create, Step::Batch, Step::Overflow, Step::Blob, Step::Checkpoint];
        steps.into_iter().try_for_each(|step| bench.step(step))?;
        // From here on in the log alone.
        [Step::Inline, Step::Blob].into_iter().try_for_each(|step| bench.step(step))?;
        bench.flush()?;
        Ok(bench)
    }

    /// Opens it.
    pub(super) fn open(&mut self) -> Result<(), Error> {
        let fs: Arc<dyn Fs> = self.sim.fs();
        self.db = Some(GEOMETRY.options(Some(fs), Background::Manual).open("/db")?);
        Ok(())
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("open but in `step` itself")
    }

    fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn flush(&mut self) -> Result<(), Error> {
        let begun = self.now();
        self.db().flush()?;
        self.history.add_flush(begun);
        Ok(())
    }

    /// Does a step.
    pub(super) fn step(&mut self, step: Step) -> Result<(), Error> {
        let name = |n: u32| format!("key {}", n % 7).into_bytes();
        let seq = self.seq;
        let put = |keyspace: &str, key: Vec<u8>, nth: usize, len: usize| Write::Put {
            keyspace: keyspace.into(),
            key,
            value: value(CommitId { writer: 1, seq }.tag(nth), len),
        };
        let two = ["left", "right"];
        match step {
            Step::Inline => self.commit(vec![put("left", name(seq), 0, 100)], true),
            Step::Eventual => self.commit(vec![put("left", name(seq), 0, 100)], false),
            Step::Overflow => self.commit(vec![put("left", b"overflow".to_vec(), 0, 3000)], true),
            Step::Blob => self.commit(vec![put("left", b"blob".to_vec(), 0, 20_000)], true),
            Step::RemoveBlob => self.commit(vec![Write::Remove { keyspace: "left".into(), key: b"blob".to_vec() }], true),
            Step::RemoveRange => {
                let range = (Bound::Included(b"key 2".to_vec()), Bound::Excluded(b"key 5".to_vec()));
                self.commit(vec![Write::RemoveRange { keyspace: "left".into(), range }], true)
            }
            Step::Batch => {
                let writes = (0..14).map(|n| put(two[n % 2], name(n as u32), n, 40 + 100 * (n % 3))).collect();
                self.commit(writes, true)
            }
            Step::Clear => self.whole(Write::Clear { keyspace: "left".into() }),
            Step::Drop => self.whole(Write::Drop { keyspace: "left".into() }),
            Step::Create => two.into_iter().try_for_each(|k| self.whole(Write::Create { keyspace: k.into() })),
            Step::Checkpoint => self.db().checkpoint(),
            Step::Compact => self.db().compact().map(drop),
            Step::Maintain => (0..3).try_for_each(|_| self.db().maintain().map(drop)),
            Step::Flush => self.flush(),
            Step::Reopen => {
                self.flush()?;
                drop(self.db.take());
                self.open()
            }
            Step::Close => {
                let begun = self.now();
                self.db.take().map_or(Ok(()), Database::close)?;
                self.history.add_flush(begun);
                self.open()
            }
        }
    }

    /// A batch; one to a keyspace that is not there has no effect.
    fn commit(&mut self, writes: Vec<Write>, immediate: bool) -> Result<(), Error> {
        self.record(writes, immediate, |db, writes| {
            let mut batch = db.batch();
            for write in writes {
                let Some(keyspace) = db.existing_keyspace(write.keyspace())? else { return Ok(false) };
                match write {
                    Write::Put { key, value, .. } => batch.insert(&keyspace, key, value)?,
                    Write::Remove { key, .. } => batch.remove(&keyspace, key)?,
                    Write::RemoveRange { range, .. } => batch.remove_range(&keyspace, range.clone())?,
                    _ => {}
                }
            }
            batch.commit_with(if immediate { Durability::Immediate } else { Durability::Eventual }).map(|()| true)
        })
    }

    fn whole(&mut self, write: Write) -> Result<(), Error> {
        self.record(vec![write], true, |db, writes| match &writes[0] {
            // One that is there already is no commit.
            Write::Create { keyspace } => {
                let is_new = db.existing_keyspace(keyspace)?.is_none();
                db.keyspace(keyspace).map(|_| is_new)
            }
            Write::Drop { keyspace } => db.drop_keyspace(keyspace),
            Write::Clear { keyspace } => match db.existing_keyspace(keyspace)? {
                Some(keyspace) => keyspace.clear().map(|()| true),
                None => Ok(false),
            },
            _ => Ok(false),
        })
    }

    fn record(
        &mut self,
        writes: Vec<Write>,
        immediate: bool,
        call: impl FnOnce(&Database, &[Write]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let id = CommitId { writer: 1, seq: self.seq };
        self.seq += 1;
        let begun = self.now();
        let outcome = call(self.db(), &writes);
        let ended = self.now();
        let commit = |visible, confirmed| Commit { id, writes, journaled: false, immediate, begun, visible, confirmed };
        match outcome {
            Ok(true) => self.history.add_commits(vec![commit(Some(ended), immediate)]),
            Ok(false) => {}
            Err(e) => {
                self.history.add_commits(vec![commit(None, false)]);
                return Err(e);
            }
        }
        Ok(())
    }

    /// What is known, beside another disk.
    pub(super) fn beside(&self, sim: Sim) -> Bench {
        Bench { sim, db: None, history: self.history.clone(), clock: self.clock, seq: self.seq }
    }

    /// Opens what a crash has left, compares and verifies everything, and goes on.
    pub(super) fn look(&mut self) -> Result<(), String> {
        self.open().map_err(|e| format!("open: {e}"))?;
        let found = dump::dump(self.db()).map_err(|e| format!("reading everything: {e}"))?;
        self.history.settle(found)?;
        dump::check(self.db(), self.history.base()).map_err(|e| e.to_string())?;
        dump::verify(self.db()).map_err(|e| e.to_string())?;
        for step in [Step::Create, Step::Blob, Step::Inline, Step::Checkpoint, Step::Compact] {
            self.step(step).map_err(|e| format!("{step:?} afterwards: {e}"))?;
        }
        let found = dump::dump(self.db()).map_err(|e| format!("reading everything afterwards: {e}"))?;
        self.history.settle(found)?;
        dump::verify(self.db()).map_err(|e| format!("afterwards: {e}"))
    }
}
