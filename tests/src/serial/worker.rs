//! A thread: one deed after the other, everything noted that it does and is given.

use super::record::{Commit, Plain, Records, View};
use super::seen::Seen;
use super::source::{Source, read};
use super::world::{LASTING, PASSING, World};
use crate::history::Moment;
use crate::state::{Bytes, Write};
use crate::stop::Stop;
use crate::workload::{value, value_len};
use ashlar_disk::sync;
use ashlardb::{Durability, Error, Keyspace, Snapshot, probe};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Snapshots that a thread keeps at the same time, at most.
const SNAPSHOTS_MAX: usize = 2;

/// See the module.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) rng: ChaCha8Rng,
    pub(super) lasting: Keyspace,
    pub(super) records: Records,
    /// Each with its number among the records.
    snapshots: Vec<(Snapshot, usize)>,
    /// When it asked for the handle that it uses.
    asked: Moment,
}

impl Worker {
    pub(super) fn new(number: usize, seed: u64, lasting: Keyspace) -> Worker {
        let (records, snapshots) = Default::default();
        Worker { number, rng: ChaCha8Rng::seed_from_u64(seed), lasting, records, snapshots, asked: 0 }
    }

    /// Works until done or crashed, and hands in what was noted either way.
    pub(super) fn run(mut self, world: &World) -> Result<(), Stop> {
        let outcome = self.work(world);
        world.working.fetch_sub(1, Relaxed);
        world.records.lock().append(self.records);
        outcome
    }

    fn work(&mut self, world: &World) -> Result<(), Stop> {
        for _ in 0..self.rng.random_range(1..=world.shape.deeds_max) {
            match self.rng.random_range(0..64) {
                0..24 => self.transaction(world)?,
                24..28 => self.transact(world)?,
                28..36 => self.batch(world)?,
                36..42 => self.single(world)?,
                42..48 => self.read_plainly(world)?,
                48..60 => self.read_from_snapshot(world)?,
                60 => self.flush(world)?,
                61 => sync::sleep(Duration::from_micros(self.rng.random_range(0..300))),
                _ => self.whole(world)?,
            }
        }
        Ok(())
    }

    /// Passes over an error that a snapshot was taken away, where that can be.
    pub(super) fn excuse(&mut self, world: &World, what: &str, error: &Error) -> Result<(), Stop> {
        match error {
            Error::SnapshotTooOld { .. } if world.shape.versions_limit.is_some() => {
                self.records.too_old += 1;
                Ok(())
            }
            error => Err(world.stop(what, error)),
        }
    }

    pub(super) fn durability(&mut self, world: &World) -> Durability {
        let immediate = self.rng.random_range(0..16) < world.shape.immediate;
        if immediate { Durability::Immediate } else { Durability::Eventual }
    }

    pub(super) fn is_passing(&mut self, world: &World) -> bool {
        self.rng.random_range(0..16) < world.shape.passing
    }

    /// Calls a commit and notes it, if it takes an LSN. False: it was without effect.
    fn commit(
        &mut self,
        world: &World,
        what: &str,
        writes: Vec<Write>,
        durability: Durability,
        call: impl FnOnce() -> Result<(), Error>,
    ) -> Result<bool, Stop> {
        probe::take_lsn();
        let begun = world.now();
        let outcome = call();
        let lsn = probe::take_lsn();
        self.note_commit(world, lsn, writes, durability, begun, outcome.is_ok());
        match outcome {
            Ok(()) => Ok(lsn.is_some()),
            Err(Error::NoSuchKeyspace { name }) if lsn.is_none() && name == PASSING => {
                self.note_gone(world);
                Ok(false)
            }
            Err(Error::KeyspaceNotEmpty { .. }) if lsn.is_none() => Ok(false),
            Err(e) => Err(world.stop(what, &e)),
        }
    }

    pub(super) fn note_commit(
        &mut self,
        world: &World,
        lsn: Option<u64>,
        writes: Vec<Write>,
        durability: Durability,
        begun: Moment,
        ok: bool,
    ) {
        let Some(lsn) = lsn else { return };
        let returned = ok.then(|| world.now());
        let immediate = durability == Durability::Immediate;
        let (thread, premise) = (self.number, None);
        self.records.commits.push(Commit { lsn, writes, premise, immediate, thread, begun, returned });
    }

    /// A keyspace to write to or to read from.
    fn keyspace(&mut self, world: &World) -> Result<Keyspace, Stop> {
        if !self.is_passing(world) {
            return Ok(self.lasting.clone());
        }
        let begun = world.now();
        self.asked = begun;
        let found = world.db.existing_keyspace(PASSING).map_err(|e| world.stop("existing_keyspace", &e))?;
        self.note_plain(world, begun, Seen::Keyspace { keyspace: PASSING.into(), found: found.is_some() });
        match found {
            Some(keyspace) => Ok(keyspace),
            None if self.rng.random() => self.create(world),
            None => Ok(self.lasting.clone()),
        }
    }

    fn create(&mut self, world: &World) -> Result<Keyspace, Stop> {
        let (begun, mut made) = (world.now(), None);
        self.asked = begun;
        let writes = vec![Write::Create { keyspace: PASSING.into() }];
        let created = self.commit(world, "keyspace", writes, Durability::Immediate, || {
            made = Some(world.db.keyspace(PASSING)?);
            Ok(())
        })?;
        match made {
            Some(keyspace) if created => Ok(keyspace),
            Some(keyspace) => {
                self.note_plain(world, begun, Seen::Keyspace { keyspace: PASSING.into(), found: true });
                Ok(keyspace)
            }
            // Dropped as soon as it was made.
            None => Ok(self.lasting.clone()),
        }
    }

    fn note_plain(&mut self, world: &World, begun: Moment, seen: Seen) {
        let (thread, ended, crashed) = (self.number, world.now(), world.has_crashed());
        self.records.plains.push(Plain { thread, begun, ended, crashed, seen });
    }

    /// The keyspace that comes and goes was dropped since its handle was asked for.
    fn note_gone(&mut self, world: &World) {
        self.note_plain(world, self.asked, Seen::Gone { keyspace: PASSING.into() });
    }

    pub(super) fn draw_write(&mut self, world: &World, keyspace: &str) -> Write {
        let keyspace = keyspace.into();
        match self.rng.random_range(0..16) {
            0..11 => {
                let key = world.keys.pick(&mut self.rng);
                let len = match self.rng.random_ratio(world.shape.long, 24) {
                    true => value_len(&mut self.rng, &world.shape.geometry, key.len()).max(8),
                    false => self.rng.random_range(8..40),
                };
                Write::Put { keyspace, key, value: value(world.next_tag(), len) }
            }
            11..15 => Write::Remove { keyspace, key: world.keys.pick(&mut self.rng) },
            _ => Write::RemoveRange { keyspace, range: world.keys.short_range(&mut self.rng) },
        }
    }

    fn batch(&mut self, world: &World) -> Result<(), Stop> {
        let keyspaces = [self.keyspace(world)?, self.lasting.clone()];
        let mut writes = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let name = keyspaces[self.rng.random_range(0..2)].name();
            writes.push(self.draw_write(world, name));
        }
        let durability = self.durability(world);
        let made = writes.clone();
        self.commit(world, "batch", writes, durability, || {
            let mut batch = world.db.batch();
            for write in &made {
                let keyspace = if &**write.keyspace() == LASTING { &keyspaces[1] } else { &keyspaces[0] };
                match write {
                    Write::Put { key, value, .. } => batch.insert(keyspace, key, value)?,
                    Write::Remove { key, .. } => batch.remove(keyspace, key)?,
                    Write::RemoveRange { range, .. } => batch.remove_range(keyspace, range.clone())?,
                    _ => {}
                }
            }
            batch.commit_with(durability)
        })
        .map(drop)
    }

    fn single(&mut self, world: &World) -> Result<(), Stop> {
        let keyspace = self.keyspace(world)?;
        let write = self.draw_write(world, keyspace.name());
        let durability = match &write {
            Write::RemoveRange { .. } => Durability::Immediate,
            _ => self.durability(world),
        };
        self.commit(world, "single write", vec![write.clone()], durability, || match &write {
            Write::Put { key, value, .. } => keyspace.insert_with(key, value, durability),
            Write::Remove { key, .. } => keyspace.remove_with(key, durability),
            Write::RemoveRange { range, .. } => keyspace.remove_range(range.clone()),
            _ => Ok(()),
        })
        .map(drop)
    }

    /// Clears a keyspace, makes one, drops it, or fills it.
    fn whole(&mut self, world: &World) -> Result<(), Stop> {
        match self.rng.random_range(0..5) {
            0 => {
                let keyspace = self.keyspace(world)?;
                let writes = vec![Write::Clear { keyspace: keyspace.name().into() }];
                self.commit(world, "clear", writes, Durability::Immediate, || keyspace.clear()).map(drop)
            }
            1 if world.shape.passing > 0 => self.create(world).map(drop),
            2 => self.bulk_load(world),
            _ if world.shape.passing > 0 => {
                let (begun, mut found) = (world.now(), false);
                let writes = vec![Write::Drop { keyspace: PASSING.into() }];
                self.commit(world, "drop_keyspace", writes, Durability::Immediate, || {
                    found = world.db.drop_keyspace(PASSING)?;
                    Ok(())
                })?;
                if !found {
                    self.note_plain(world, begun, Seen::Keyspace { keyspace: PASSING.into(), found });
                }
                Ok(())
            }
            _ => self.flush(world),
        }
    }

    /// Fills a keyspace, if it is empty.
    fn bulk_load(&mut self, world: &World) -> Result<(), Stop> {
        let keyspace = self.keyspace(world)?;
        let name: std::sync::Arc<str> = keyspace.name().into();
        let some: Vec<&Vec<u8>> = world.keys.all().iter().filter(|_| self.rng.random_ratio(2, 3)).collect();
        let entries: Vec<(Vec<u8>, Bytes)> = some.into_iter().map(|key| (key.clone(), value(world.next_tag(), 12))).collect();
        let put = |(key, value): &(Vec<u8>, Bytes)| Write::Put { keyspace: name.clone(), key: key.clone(), value: value.clone() };
        let writes = entries.iter().map(put).collect();
        let (begun, mut filled) = (world.now(), false);
        let made = self.commit(world, "bulk_load", writes, Durability::Immediate, || {
            let loaded = keyspace.bulk_load(entries.iter().map(|(key, value)| Ok::<_, Error>((key, value))));
            filled = matches!(loaded, Err(Error::KeyspaceNotEmpty { .. }));
            loaded.map(drop)
        })?;
        if filled {
            self.note_plain(world, begun, Seen::Filled { keyspace: name.clone() });
        }
        if let Some(commit) = self.records.commits.last_mut().filter(|_| made) {
            commit.premise = Some(Seen::Len { keyspace: name, found: 0 });
        }
        Ok(())
    }

    fn flush(&mut self, world: &World) -> Result<(), Stop> {
        let begun = world.now();
        world.db.flush().map_err(|e| world.stop("flush", &e))?;
        self.records.flushes.push(begun);
        Ok(())
    }

    fn read_plainly(&mut self, world: &World) -> Result<(), Stop> {
        let keyspace = self.keyspace(world)?;
        let begun = world.now();
        match read(&world.db, &keyspace, &world.keys, &mut self.rng) {
            Ok(seen) => self.note_plain(world, begun, seen),
            Err(Error::NoSuchKeyspace { name }) if name == PASSING => self.note_gone(world),
            Err(e) => self.excuse(world, "read", &e)?,
        }
        Ok(())
    }

    fn read_from_snapshot(&mut self, world: &World) -> Result<(), Stop> {
        if self.snapshots.is_empty() || self.rng.random_ratio(1, 3) {
            if self.snapshots.len() == SNAPSHOTS_MAX {
                self.snapshots.remove(self.rng.random_range(0..SNAPSHOTS_MAX));
            }
            let of_checkpoint = self.rng.random_ratio(1, 32);
            let begun = world.now();
            let snapshot = if of_checkpoint { world.db.checkpoint_snapshot() } else { world.db.snapshot() };
            let snapshot = snapshot.map_err(|e| world.stop("snapshot", &e))?;
            let lsn = snapshot.lsn();
            // A checkpoint of an earlier life shows what this one's commits don't tell.
            if !of_checkpoint || lsn >= world.first_lsn() {
                let (taken, crashed, reads) = (world.now(), world.has_crashed(), Vec::new());
                self.snapshots.push((snapshot, self.records.views.len()));
                self.records.views.push(View { thread: self.number, begun, taken, lsn, of_checkpoint, crashed, reads });
            }
        }
        if self.snapshots.is_empty() {
            return Ok(());
        }
        let (snapshot, number) = self.snapshots[self.rng.random_range(0..self.snapshots.len())].clone();
        for _ in 0..self.rng.random_range(1..4) {
            match self.look(world, &snapshot, number) {
                Ok(()) => {}
                Err(e) => {
                    self.snapshots.retain(|(_, n)| *n != number);
                    return self.excuse(world, "snapshot read", &e);
                }
            }
        }
        Ok(())
    }

    fn look(&mut self, world: &World, snapshot: &Snapshot, number: usize) -> Result<(), Error> {
        let mut keyspace = self.lasting.clone();
        if self.is_passing(world) {
            let passing = Source::keyspace(snapshot, PASSING)?;
            let found = passing.is_some();
            self.records.views[number].reads.push(Seen::Keyspace { keyspace: PASSING.into(), found });
            keyspace = passing.unwrap_or(keyspace);
        }
        let seen = read(snapshot, &keyspace, &world.keys, &mut self.rng)?;
        self.records.views[number].reads.push(seen);
        Ok(())
    }
}

/// Checkpoints, maintenance and flushes beside the workers.
pub(super) fn keep(world: &World, seed: u64) -> Result<(), Stop> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut flushes = Vec::new();
    while world.working.load(Relaxed) > 0 {
        let begun = world.now();
        let done = match rng.random_range(0..8) {
            0 => world.db.checkpoint(),
            1..6 => world.db.maintain().map(drop),
            _ => {
                sync::sleep(Duration::from_micros(rng.random_range(0..500)));
                continue;
            }
        };
        if let Err(e) = done {
            world.records.lock().flushes.append(&mut flushes);
            return Err(world.stop("upkeep", &e));
        }
        flushes.push(begun);
    }
    world.records.lock().flushes.append(&mut flushes);
    Ok(())
}
