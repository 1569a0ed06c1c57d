//! A thread that commits: batches with an entry in the journal, single writes, operations on whole keyspaces.

use super::events::Event;
use super::world::{Stop, World};
use crate::history::{Commit, CommitId, History, JOURNAL, Moment, Observation};
use crate::state::{Bytes, Write};
use crate::workload::{value, value_len};
use ashlar_disk::sync::Mutex;
use ashlardb::{Durability, Error, Keyspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Keyspaces that all threads write to. The first is never dropped.
pub(super) const SHARED: [&str; 2] = ["shared", "shared too"];

/// What the threads of a life have done and seen.
#[derive(Default)]
pub(super) struct Records {
    pub(super) commits: Vec<Commit>,
    pub(super) observations: Vec<Observation>,
    flushes: Vec<Moment>,
    /// The lowest number that no commit has.
    pub(super) next_seq: u32,
}

impl Records {
    /// Enters everything into the history.
    pub(super) fn tell(self, history: &mut History) {
        history.add_commits(self.commits);
        history.add_observations(self.observations);
        self.flushes.into_iter().for_each(|begun| history.add_flush(begun));
    }
}

/// One writer.
pub(super) struct Writer {
    number: u16,
    seq: u32,
    rng: ChaCha8Rng,
    /// How many commits it makes; none: as many as the shape says.
    commits: Option<u32>,
    /// How many at most.
    commits_max: u32,
    /// The outcome of its last commit is not known: the database takes no more, and whoever comes next can't be told apart from that.
    is_unknown: bool,
    records: Records,
}

/// After so many errors a writer gives up.
const ERRORS_MAX: u32 = 12;

/// What a commit promises.
#[derive(Clone, Copy)]
enum Promise {
    /// That it is durable when it returns.
    Durable,
    /// That it is applied.
    Applied,
}

impl Writer {
    /// A writer whose commits are numbered from `seq` on.
    pub(super) fn new(number: u16, seq: u32, seed: u64) -> Writer {
        Writer {
            number,
            seq,
            rng: ChaCha8Rng::seed_from_u64(seed),
            commits: None,
            commits_max: u32::MAX,
            is_unknown: false,
            records: Records::default(),
        }
    }

    /// The same with that many commits.
    pub(super) fn commits(self, commits: u32) -> Writer {
        Writer { commits: Some(commits), ..self }
    }

    /// The same with at most that many commits.
    pub(super) fn at_most(self, commits: u32) -> Writer {
        Writer { commits_max: commits, ..self }
    }

    /// Commits until done or crashed, and hands in what it did either way.
    pub(super) fn run(mut self, world: &World, records: &Mutex<Records>) -> Result<(), Stop> {
        let outcome = self.work(world);
        world.working.fetch_sub(1, Relaxed);
        let mut all = records.lock();
        all.commits.append(&mut self.records.commits);
        all.observations.append(&mut self.records.observations);
        all.flushes.append(&mut self.records.flushes);
        all.next_seq = all.next_seq.max(self.seq);
        outcome
    }

    fn work(&mut self, world: &World) -> Result<(), Stop> {
        let own = format!("own {}", self.number);
        let commits = self.commits.unwrap_or_else(|| self.rng.random_range(1..=world.shape.commits_max));
        let mut errors = 0;
        for _ in 0..commits.min(self.commits_max) {
            let whole = if world.shape.whole { 3 } else { 0 };
            let outcome = match self.rng.random_range(0..40 + whole) {
                _ if self.is_unknown => self.is_refused(world).and_then(|()| self.read(world)),
                0..34 => self.commit(world, &own),
                34..37 => self.single(world),
                37..39 => self.read(world),
                39 => self.flush(world),
                _ => self.whole(world, &own),
            };
            match outcome {
                // What failed because of a fault had no effect, or the database takes no more writes: either way it must go on working.
                Err(Stop::Told) if errors < ERRORS_MAX => errors += 1,
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn next_id(&mut self) -> CommitId {
        self.seq += 1;
        CommitId { writer: self.number, seq: self.seq - 1 }
    }

    /// A keyspace of that name, made if it is missing.
    fn keyspace(&mut self, world: &World, name: &str) -> Result<Keyspace, Stop> {
        match world.db.existing_keyspace(name) {
            Ok(Some(keyspace)) => return Ok(keyspace),
            Ok(None) => {}
            Err(e) => return Err(world.stop("existing_keyspace", &e)),
        }
        let writes = vec![Write::Create { keyspace: name.into() }];
        let mut made = None;
        self.record(world, writes, Promise::Durable, |_| {
            made = Some(world.db.keyspace(name)?);
            Ok(true)
        })?;
        match made {
            Some(keyspace) => Ok(keyspace),
            None => self.keyspace(world, name),
        }
    }

    /// Calls a commit and records it. `call` tells whether anything was committed. Errors without effect leave no record.
    fn record(
        &mut self,
        world: &World,
        writes: Vec<Write>,
        promise: Promise,
        call: impl FnOnce(&[Write]) -> Result<bool, Error>,
    ) -> Result<(), Stop> {
        let journaled_as = match writes.first() {
            Some(Write::Put { keyspace, key, .. }) if &**keyspace == JOURNAL => CommitId::of_journal_key(key),
            _ => None,
        };
        let id = journaled_as.unwrap_or_else(|| self.next_id());
        let (journaled, immediate) = (journaled_as.is_some(), matches!(promise, Promise::Durable));
        let mut commit = Commit { id, writes, journaled, immediate, begun: world.now(), visible: None, confirmed: false };
        world.tell(|| Event::begun(&commit));
        match call(&commit.writes) {
            Ok(true) => {
                commit.visible = Some(world.now());
                commit.confirmed = immediate;
                world.tell(|| Event::ended(&commit));
                self.records.commits.push(commit);
                Ok(())
            }
            Ok(false) | Err(Error::NoSuchKeyspace { .. } | Error::TransactionTooLarge { .. }) => {
                world.tell(|| Event::without_effect(id));
                Ok(())
            }
            Err(e) => {
                let stop = world.stop("commit", &e);
                // Any error but this one says that nothing was applied.
                let is_without_effect = matches!(stop, Stop::Told) && !matches!(e, Error::OutcomeUnknown { .. });
                if !is_without_effect {
                    self.records.commits.push(commit);
                    self.is_unknown = true;
                }
                Err(stop)
            }
        }
    }

    /// A batch over some keyspaces, with repeated keys, removals and ranges, and an entry in the journal.
    fn commit(&mut self, world: &World, own: &str) -> Result<(), Stop> {
        let journal = self.keyspace(world, JOURNAL)?;
        let mut keyspaces = vec![self.keyspace(world, SHARED[0])?];
        if self.rng.random() {
            keyspaces.push(self.keyspace(world, SHARED[1])?);
        }
        if self.rng.random() {
            keyspaces.push(self.keyspace(world, own)?);
        }
        let id = self.next_id();
        let count = [1, 3, 8][self.rng.random_range(0..3)];
        let mut writes = vec![Write::Put { keyspace: JOURNAL.into(), key: id.journal_key(), value: value(id.tag(0), 12) }];
        for nth in 1..=self.rng.random_range(1..=count) {
            let keyspace = keyspaces[self.rng.random_range(0..keyspaces.len())].name();
            writes.push(self.draw_write(world, id, nth, keyspace.into()));
        }
        let immediate = self.rng.random_range(0..16) < world.shape.immediate;
        let (durability, promise) = match immediate {
            true => (Durability::Immediate, Promise::Durable),
            false => (Durability::Eventual, Promise::Applied),
        };
        self.record(world, writes, promise, |writes| {
            let mut batch = world.db.batch();
            let of_name = |name: &str| keyspaces.iter().find(|k| k.name() == name).unwrap_or(&journal);
            for write in writes {
                match write {
                    Write::Put { keyspace, key, value } => batch.insert(of_name(keyspace), key, value)?,
                    Write::Remove { keyspace, key } => batch.remove(of_name(keyspace), key)?,
                    Write::RemoveRange { keyspace, range } => batch.remove_range(of_name(keyspace), range.clone())?,
                    _ => {}
                }
            }
            batch.commit_with(durability).map(|()| true)
        })
    }

    fn draw_write(&mut self, world: &World, id: CommitId, nth: usize, keyspace: Arc<str>) -> Write {
        match self.rng.random_range(0..24) {
            0..17 => self.draw_put(world, id, nth, keyspace),
            17..23 => Write::Remove { keyspace, key: world.keys.pick(&mut self.rng) },
            _ => Write::RemoveRange { keyspace, range: world.keys.short_range(&mut self.rng) },
        }
    }

    fn draw_put(&mut self, world: &World, id: CommitId, nth: usize, keyspace: Arc<str>) -> Write {
        let key = world.keys.pick(&mut self.rng);
        let len = value_len(&mut self.rng, &world.geometry, key.len());
        Write::Put { keyspace, key, value: value(id.tag(nth), len) }
    }

    /// A write without a batch, and so without an entry in the journal: durable, so that only the one under way is in doubt.
    fn single(&mut self, world: &World) -> Result<(), Stop> {
        let keyspace = self.keyspace(world, SHARED[0])?;
        let id = CommitId { writer: self.number, seq: self.seq };
        let write = self.draw_write(world, id, 0, SHARED[0].into());
        self.record(world, vec![write], Promise::Durable, |writes| {
            match &writes[0] {
                Write::Put { key, value, .. } => keyspace.insert_with(key, value, Durability::Immediate)?,
                Write::Remove { key, .. } => keyspace.remove_with(key, Durability::Immediate)?,
                Write::RemoveRange { range, .. } => keyspace.remove_range(range.clone())?,
                _ => {}
            }
            Ok(true)
        })
    }

    /// Makes, drops or clears a keyspace.
    fn whole(&mut self, world: &World, own: &str) -> Result<(), Stop> {
        let name = if self.rng.random() { own } else { SHARED[1] };
        match self.rng.random_range(0..3) {
            0 => {
                let writes = vec![Write::Drop { keyspace: name.into() }];
                self.record(world, writes, Promise::Durable, |_| world.db.drop_keyspace(name))
            }
            1 => {
                let keyspace = self.keyspace(world, name)?;
                let writes = vec![Write::Clear { keyspace: name.into() }];
                self.record(world, writes, Promise::Durable, |_| keyspace.clear().map(|()| true))
            }
            _ => self.keyspace(world, name).map(drop),
        }
    }

    /// A database that could not say what became of a commit takes no other.
    fn is_refused(&mut self, world: &World) -> Result<(), Stop> {
        let Some(keyspace) = world.db.existing_keyspace(SHARED[0]).map_err(|e| world.stop("existing_keyspace", &e))? else {
            return Ok(());
        };
        match keyspace.insert(b"refused", b"") {
            Err(Error::ReadOnly { .. }) => Ok(()),
            Err(e) => Err(world.stop("a commit after one whose outcome is not known", &e)),
            Ok(()) => Err(Stop::Failed("a commit was taken after one whose outcome is not known".into())),
        }
    }

    fn flush(&mut self, world: &World) -> Result<(), Stop> {
        let begun = world.now();
        world.db.flush().map_err(|e| world.stop("flush", &e))?;
        world.tell(|| Event::flushed(begun));
        self.records.flushes.push(begun);
        Ok(())
    }

    fn read(&mut self, world: &World) -> Result<(), Stop> {
        let Some(keyspace) = world.db.existing_keyspace(SHARED[0]).map_err(|e| world.stop("existing_keyspace", &e))? else {
            return Ok(());
        };
        let key = world.keys.pick(&mut self.rng);
        self.records.observations.extend(observe(world, &keyspace, key)?);
        Ok(())
    }
}

/// Reads one key. Nothing where the keyspace has been dropped.
pub(super) fn observe(world: &World, keyspace: &Keyspace, key: Vec<u8>) -> Result<Option<Observation>, Stop> {
    let begun = world.now();
    let found = match keyspace.get(&key) {
        Ok(found) => found.map(|v| Bytes::from(&v[..])),
        Err(Error::NoSuchKeyspace { .. }) => return Ok(None),
        Err(e) => return Err(world.stop("get", &e)),
    };
    if world.has_failed() {
        return Ok(None);
    }
    let seen = Observation { keyspace: keyspace.name().into(), key, found, begun, ended: world.now() };
    world.tell(|| Event::seen(&seen));
    Ok(Some(seen))
}
