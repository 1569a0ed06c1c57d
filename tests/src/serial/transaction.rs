//! The transactions of a thread.

use super::record::{End, Step, Transaction as Record};
use super::seen::Seen;
use super::source::read;
use super::worker::Worker;
use super::world::{LASTING, PASSING, World};
use crate::history::Moment;
use crate::state::Write;
use crate::stop::Stop;
use ashlar_disk::sync;
use ashlardb::{Error, Isolation, Savepoint, Transaction, TransactionOptions, probe};
use rand::RngExt;
use std::time::Duration;

/// Why a closure gives up.
enum Quit {
    Failed(Error),
    /// For no reason.
    Whim,
}

impl From<Error> for Quit {
    fn from(e: Error) -> Quit {
        Quit::Failed(e)
    }
}

/// What is drawn before a transaction begins.
#[derive(Clone, Copy)]
struct Plan {
    isolation: Isolation,
    reads: usize,
    writes: usize,
}

impl Worker {
    fn draw_plan(&mut self) -> Plan {
        let isolation = if self.rng.random_ratio(1, 5) { Isolation::Snapshot } else { Isolation::Serializable };
        Plan { isolation, reads: self.rng.random_range(0..4), writes: self.rng.random_range(0..4) }
    }

    /// One that begins, reads, writes and ends in any way, once.
    pub(super) fn transaction(&mut self, world: &World) -> Result<(), Stop> {
        let plan = self.draw_plan();
        let begun = world.now();
        let mut transaction = world.db.begin_with(plan.isolation).map_err(|e| world.stop("begin", &e))?;
        let mut record = self.record(world, plan, begun, &transaction);
        let outcome = self.fill(world, plan, &mut transaction, &mut record);
        if self.rng.random_ratio(1, 8) {
            sync::sleep(Duration::from_micros(self.rng.random_range(0..300)));
        }
        match outcome {
            Ok(()) if self.rng.random_range(0..8) < 6 => self.commit_transaction(world, transaction, record),
            Ok(()) | Err(Error::SnapshotTooOld { .. }) if self.rng.random() => {
                drop(transaction);
                let end = if world.has_crashed() { End::Failed } else { End::RolledBack };
                self.end(world, record, end);
                Ok(())
            }
            Ok(()) => self.roll_back(world, transaction, record),
            Err(e) => {
                self.excuse(world, "transaction", &e)?;
                self.roll_back(world, transaction, record)
            }
        }
    }

    fn record(&self, world: &World, plan: Plan, begun: Moment, transaction: &Transaction) -> Record {
        Record {
            thread: self.number,
            isolation: plan.isolation,
            begun,
            in_being: world.now(),
            read_lsn: transaction.read_lsn(),
            steps: Vec::new(),
            lsn: None,
            end: End::Failed,
            ended: 0,
        }
    }

    fn end(&mut self, world: &World, record: Record, end: End) {
        self.records.transactions.push(Record { end, ended: world.now(), ..record });
    }

    fn roll_back(&mut self, world: &World, transaction: Transaction, record: Record) -> Result<(), Stop> {
        let outcome = transaction.rollback();
        self.end(world, record, if outcome.is_ok() { End::RolledBack } else { End::Failed });
        outcome.map_err(|e| world.stop("rollback", &e))
    }

    fn commit_transaction(&mut self, world: &World, transaction: Transaction, mut record: Record) -> Result<(), Stop> {
        let durability = self.durability(world);
        probe::take_lsn();
        let begun = world.now();
        let outcome = transaction.commit_with(durability);
        record.lsn = probe::take_lsn();
        self.note_commit(world, record.lsn, record.writes(), durability, begun, outcome.is_ok());
        let end = match &outcome {
            Ok(()) => End::Committed,
            Err(Error::Conflict) => End::Conflict,
            Err(Error::SnapshotTooOld { .. }) => End::RolledBack,
            Err(_) => End::Failed,
        };
        self.end(world, record, end);
        match outcome {
            Ok(()) | Err(Error::Conflict) => Ok(()),
            Err(e) => self.excuse(world, "commit", &e),
        }
    }

    /// One that is tried until it commits, or gives up.
    pub(super) fn transact(&mut self, world: &World) -> Result<(), Stop> {
        let (plan, durability, whim) = (self.draw_plan(), self.durability(world), self.rng.random_ratio(1, 6));
        let options = TransactionOptions { isolation: plan.isolation, durability: Some(durability) };
        let mut begun = world.now();
        let mut current: Option<Record> = None;
        let mut lost: Vec<Record> = Vec::new();
        probe::take_lsn();
        let outcome = world.db.transact_with(options, |transaction| {
            lost.extend(current.take());
            let record = current.insert(self.record(world, plan, begun, transaction));
            let filled = self.fill(world, plan, transaction, record);
            begun = world.now();
            filled?;
            if whim { Err(Quit::Whim) } else { Ok(()) }
        });
        let Some(mut record) = current else { return outcome.map_err(|quit| self.quit(world, quit)) };
        record.lsn = probe::take_lsn();
        self.note_commit(world, record.lsn, record.writes(), durability, begun, outcome.is_ok());
        let end = match &outcome {
            Ok(()) => End::Committed,
            Err(Quit::Whim | Quit::Failed(Error::SnapshotTooOld { .. })) => End::RolledBack,
            Err(Quit::Failed(_)) => End::Failed,
        };
        // What those have read that were tried again, the closure may have kept: it is told with the last one's end.
        for lost in lost {
            self.end(world, lost, if end == End::Failed { end } else { End::Conflict });
        }
        self.end(world, record, end);
        match outcome {
            Ok(()) | Err(Quit::Whim) => Ok(()),
            Err(Quit::Failed(e)) => self.excuse(world, "transact", &e),
        }
    }

    fn quit(&self, world: &World, quit: Quit) -> Stop {
        match quit {
            Quit::Failed(e) => world.stop("transact", &e),
            Quit::Whim => Stop::Failed("a closure that was not called gave up".into()),
        }
    }

    /// Reads and writes; what was read until an error is noted.
    fn fill(&mut self, world: &World, plan: Plan, transaction: &mut Transaction, record: &mut Record) -> Result<(), Error> {
        let mut savepoints: Vec<Savepoint> = Vec::new();
        // Those that no rollback has passed, by number.
        let mut valid: Vec<usize> = Vec::new();
        for nth in 0..plan.reads + plan.writes {
            let keyspace = match self.is_passing(world) {
                true => self.passing(transaction, record)?,
                false => None,
            };
            let keyspace = keyspace.unwrap_or_else(|| self.lasting.clone());
            let writes = nth >= plan.reads;
            match self.rng.random_range(0..24) {
                0 => {
                    valid.push(savepoints.len());
                    savepoints.push(transaction.savepoint());
                    record.steps.push(Step::Savepoint);
                }
                1 | 2 if !valid.is_empty() => {
                    let at = self.rng.random_range(0..valid.len());
                    transaction.rollback_to(&savepoints[valid[at]])?;
                    record.steps.push(Step::RollBack(valid[at]));
                    valid.truncate(at + 1);
                }
                3 if writes && self.rng.random_ratio(1, 3) => self.whole_in(transaction, &keyspace, record)?,
                4..20 if writes => {
                    let write = self.draw_write(world, keyspace.name());
                    match &write {
                        Write::Put { key, value, .. } => transaction.insert(&keyspace, key, value)?,
                        Write::Remove { key, .. } => transaction.remove(&keyspace, key)?,
                        Write::RemoveRange { range, .. } => transaction.remove_range(&keyspace, range.clone())?,
                        _ => {}
                    }
                    record.steps.push(Step::Write(write));
                }
                _ => record.steps.push(Step::Read(read(transaction, &keyspace, &world.keys, &mut self.rng)?)),
            }
            if self.rng.random_ratio(1, 4) {
                sync::yield_point();
            }
        }
        Ok(())
    }

    /// The keyspace that comes and goes, as the transaction sees it.
    fn passing(&mut self, transaction: &mut Transaction, record: &mut Record) -> Result<Option<ashlardb::Keyspace>, Error> {
        let found = transaction.existing_keyspace(PASSING)?;
        record.steps.push(Step::Read(Seen::Keyspace { keyspace: PASSING.into(), found: found.is_some() }));
        if found.is_some() || self.rng.random_ratio(2, 3) {
            return Ok(found);
        }
        let made = transaction.keyspace(PASSING)?;
        record.steps.push(Step::Write(Write::Create { keyspace: PASSING.into() }));
        Ok(Some(made))
    }

    /// Clears a keyspace within the transaction, or drops it.
    fn whole_in(
        &mut self,
        transaction: &mut Transaction,
        keyspace: &ashlardb::Keyspace,
        record: &mut Record,
    ) -> Result<(), Error> {
        let name: std::sync::Arc<str> = keyspace.name().into();
        if &*name == LASTING || self.rng.random() {
            transaction.clear(keyspace)?;
            record.steps.push(Step::Write(Write::Clear { keyspace: name }));
        } else {
            let found = transaction.drop_keyspace(&name)?;
            record.steps.push(Step::Read(Seen::Keyspace { keyspace: name.clone(), found }));
            record.steps.push(Step::Write(Write::Drop { keyspace: name }));
        }
        Ok(())
    }
}
