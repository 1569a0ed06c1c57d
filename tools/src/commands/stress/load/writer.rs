//! A writer: one commit after the other, each told before and after.

use super::super::journal::Event;
use super::super::ops::{Form, Op, Write};
use super::super::value::{self, MAPS, OWN, Place, Stamp};
use super::Work;
use ashlardb::{Database, Durability, Keyspace, Result, Transaction, TransactionOptions};

/// The keyspace of what transactions count and move.
pub(in super::super) const SHARED: &str = "shared";
/// The key of the count.
pub(in super::super) const TURNS: &[u8] = b"turns";

/// The key of an account.
pub(in super::super) fn account(number: usize) -> Vec<u8> {
    format!("account/{number:02}").into_bytes()
}

/// The key under which a writer's last transaction leaves its number and what it counted.
pub(in super::super) fn mark(writer: u8) -> Vec<u8> {
    format!("mark/{writer:02}").into_bytes()
}

/// Makes the keyspaces that all writers share.
pub(super) fn prepare(work: &Work<'_>) -> Result<()> {
    for map in 0..MAPS {
        work.db.keyspace(&value::keyspace(0, map))?;
    }
    work.db.keyspace(SHARED).map(drop)
}

/// The keyspaces that a writer writes to.
struct Maps {
    writer: u8,
    maps: Vec<Keyspace>,
    shared: Keyspace,
}

impl Maps {
    fn open(db: &Database, writer: u8) -> Result<Maps> {
        let maps: Result<_> = (0..=MAPS).map(|map| db.keyspace(&value::keyspace(writer, map))).collect();
        Ok(Maps { writer, maps: maps?, shared: db.keyspace(SHARED)? })
    }

    fn of(&self, map: u8) -> &Keyspace {
        &self.maps[usize::from(map)]
    }

    fn value(&self, map: u8, key: u16, stamp: Stamp) -> Vec<u8> {
        value::value(Place { writer: self.writer, map, key }, stamp)
    }

    fn key(&self, key: u16) -> Vec<u8> {
        value::key(self.writer, key)
    }
}

/// Commits from number `first` on until the work ends.
pub(super) fn run(work: &Work<'_>, writer: u8, first: u32) -> std::result::Result<(), String> {
    let failed = |what: &str, e: &dyn std::fmt::Display| format!("writer {writer}, {what}: {e}");
    let mut maps = Maps::open(work.db, writer).map_err(|e| failed("its keyspaces", &e))?;
    let mut number = first;
    while work.goes_on() {
        let op = Op::draw(work.seed, work.life, writer, number, &work.shape);
        work.journal.tell(Event::Began { writer, number, life: work.life })?;
        let turn = commit(work, &mut maps, &op, number).map_err(|e| failed(&format!("commit {number}: {op:?}"), &e))?;
        let immediate = op.immediate || work.lie;
        work.journal.tell(Event::Ended { writer, number, immediate, turn })?;
        number += 1;
    }
    Ok(())
}

fn commit(work: &Work<'_>, maps: &mut Maps, op: &Op, number: u32) -> Result<Option<u64>> {
    let durability = if op.immediate { Durability::Immediate } else { Durability::Eventual };
    match op.form {
        Form::Single => op.writes.iter().try_for_each(|write| single(maps, write, number, durability))?,
        Form::Batch => {
            let mut batch = work.db.batch();
            for write in &op.writes {
                match *write {
                    Write::Put { map, key, len } => {
                        batch.insert(maps.of(map), maps.key(key), maps.value(map, key, Stamp { number, len }))?;
                    }
                    Write::Remove { map, key } => batch.remove(maps.of(map), maps.key(key))?,
                    Write::RemoveRange { map, from, to } => {
                        batch.remove_range(maps.of(map), maps.key(from)..maps.key(to))?;
                    }
                }
            }
            batch.commit_with(durability)?;
        }
        Form::Transaction { from, to, amount } => {
            let options = TransactionOptions { durability: Some(durability), ..TransactionOptions::default() };
            let turn = work.db.transact_with(options, |tx| {
                op.writes.iter().try_for_each(|write| within(tx, maps, write, number))?;
                add(tx, &maps.shared, &account(from), -amount)?;
                add(tx, &maps.shared, &account(to), amount)?;
                let turn = add(tx, &maps.shared, TURNS, 1)? as u64;
                let said = [u64::from(number).to_le_bytes(), turn.to_le_bytes()].concat();
                tx.insert(&maps.shared, mark(maps.writer), said)?;
                Ok::<_, ashlardb::Error>(turn)
            })?;
            return Ok(Some(turn));
        }
        Form::Clear => maps.of(OWN).clear()?,
        Form::Replace => {
            let name = value::keyspace(maps.writer, OWN);
            let options = TransactionOptions { durability: Some(durability), ..TransactionOptions::default() };
            let own = work.db.transact_with(options, |tx| {
                tx.drop_keyspace(&name)?;
                maps.maps[usize::from(OWN)] = tx.keyspace(&name)?;
                op.writes.iter().try_for_each(|write| within(tx, maps, write, number))?;
                Ok::<_, ashlardb::Error>(maps.of(OWN).clone())
            })?;
            maps.maps[usize::from(OWN)] = own;
        }
    }
    Ok(None)
}

fn single(maps: &Maps, write: &Write, number: u32, durability: Durability) -> Result<()> {
    match *write {
        Write::Put { map, key, len } => {
            maps.of(map).insert_with(maps.key(key), maps.value(map, key, Stamp { number, len }), durability)
        }
        Write::Remove { map, key } => maps.of(map).remove_with(maps.key(key), durability),
        Write::RemoveRange { map, from, to } => maps.of(map).remove_range(maps.key(from)..maps.key(to)),
    }
}

fn within(tx: &mut Transaction, maps: &Maps, write: &Write, number: u32) -> Result<()> {
    match *write {
        Write::Put { map, key, len } => tx.insert(maps.of(map), maps.key(key), maps.value(map, key, Stamp { number, len })),
        Write::Remove { map, key } => tx.remove(maps.of(map), maps.key(key)),
        Write::RemoveRange { map, from, to } => tx.remove_range(maps.of(map), maps.key(from)..maps.key(to)),
    }
}

/// Adds to a number and gives what it is then.
fn add(tx: &mut Transaction, shared: &Keyspace, key: &[u8], amount: i64) -> Result<i64> {
    let before = tx.get(shared, key)?.and_then(|v| Some(i64::from_le_bytes(v[..].try_into().ok()?)));
    let after = before.unwrap_or(0) + amount;
    tx.insert(shared, key, after.to_le_bytes())?;
    Ok(after)
}
