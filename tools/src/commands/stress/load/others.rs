//! Who works beside the writers: a reader and a keeper.

use super::super::journal::Event;
use super::super::ops::ACCOUNTS;
use super::super::value::{self, MAPS, OWN, Place};
use super::Work;
use super::writer::{SHARED, account};
use ashlardb::{Database, Error};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Looks at keys here and there until the work ends.
pub(super) fn read(work: &Work<'_>) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(work.seed ^ u64::from(work.life) << 32 ^ 0x4EAD);
    while work.goes_on() {
        let (writer, map) = (rng.random_range(0..work.shape.writers), rng.random_range(0..=MAPS));
        match rng.random_range(0..8) {
            0 => money(work.db).map_err(|e| format!("a snapshot: {e}"))?,
            1 => scan(work, writer, map, rng.random_range(0..work.shape.keys))?,
            2 => several(work, writer, map, &mut rng)?,
            _ => one(work, writer, map, rng.random_range(0..work.shape.keys))?,
        }
        if rng.random_range(0..16) == 0 {
            work.rest(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// A keyspace, unless it is not there at the moment: own ones are dropped and made again.
fn keyspace(work: &Work<'_>, writer: u8, map: u8) -> Result<Option<ashlardb::Keyspace>, String> {
    work.db.existing_keyspace(&value::keyspace(writer, map)).map_err(|e| format!("a reader: {e}"))
}

/// `None` where the keyspace was dropped meanwhile.
fn unless_dropped<T>(map: u8, outcome: Result<T, Error>) -> Result<Option<T>, String> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoSuchKeyspace { .. }) if map == OWN => Ok(None),
        Err(e) => Err(format!("a reader: {e}")),
    }
}

fn one(work: &Work<'_>, writer: u8, map: u8, key: u16) -> Result<(), String> {
    let Some(keyspace) = keyspace(work, writer, map)? else { return Ok(()) };
    match unless_dropped(map, keyspace.get(value::key(writer, key)))?.flatten() {
        Some(found) => value::read(Place { writer, map, key }, &found).map(drop),
        None => Ok(()),
    }
}

fn several(work: &Work<'_>, writer: u8, map: u8, rng: &mut ChaCha8Rng) -> Result<(), String> {
    let Some(keyspace) = keyspace(work, writer, map)? else { return Ok(()) };
    let keys: Vec<u16> = (0..32).map(|_| rng.random_range(0..work.shape.keys)).collect();
    let outcome = keyspace.get_many(keys.iter().map(|&key| value::key(writer, key)));
    for (found, &key) in unless_dropped(map, outcome)?.into_iter().flatten().zip(&keys) {
        found.map_or(Ok(()), |found| value::read(Place { writer, map, key }, &found).map(drop))?;
    }
    Ok(())
}

fn scan(work: &Work<'_>, writer: u8, map: u8, from: u16) -> Result<(), String> {
    let Some(keyspace) = keyspace(work, writer, map)? else { return Ok(()) };
    let range = keyspace.range(value::key(writer, from)..);
    for entry in range.take(50) {
        let Some((key, found)) = unless_dropped(map, entry)? else { return Ok(()) };
        let (writer, key) = value::parse_key(&key).ok_or_else(|| format!("a scan gives key {:?}", key.escape_ascii()))?;
        value::read(Place { writer, map, key }, &found)?;
    }
    Ok(())
}

/// In a snapshot no money comes or goes.
fn money(db: &Database) -> Result<(), String> {
    let text = |e: Error| e.to_string();
    let Some(shared) = db.existing_keyspace(SHARED).map_err(text)? else { return Ok(()) };
    let snapshot = db.snapshot().map_err(text)?;
    let found = match snapshot.get_many(&shared, (0..ACCOUNTS).map(account)) {
        Ok(found) => found,
        Err(Error::SnapshotTooOld { .. }) => return Ok(()),
        Err(e) => return Err(text(e)),
    };
    let mut sum = 0;
    for value in found.into_iter().flatten() {
        sum += i64::from_le_bytes(value[..].try_into().map_err(|_| format!("an account of {} bytes", value.len()))?);
    }
    if sum == 0 { Ok(()) } else { Err(format!("the accounts' sum is {sum}: half of a transaction was seen")) }
}

/// Checkpoints, flushes, compaction, verification, until the work ends.
pub(super) fn keep(work: &Work<'_>, manual: bool) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(work.seed ^ u64::from(work.life) << 32 ^ 0x6EE9);
    let pause = [1, 5, 30, 150][rng.random_range(0..4)];
    let failed = |what: &str, e: Error| format!("{what}: {e}");
    while work.goes_on() {
        work.rest(Duration::from_micros(rng.random_range(0..=pause * 2000)));
        match rng.random_range(0..12) {
            0..4 => barrier(work, |db| db.checkpoint()).map_err(|e| format!("checkpoint: {e}"))?,
            4..8 => barrier(work, |db| db.flush()).map_err(|e| format!("flush: {e}"))?,
            8 => drop(work.db.compact().map_err(|e| failed("compact", e))?),
            9 if pause > 5 => clean(work.db)?,
            _ if manual => drop(work.db.maintain().map_err(|e| failed("maintain", e))?),
            _ => {}
        }
    }
    Ok(())
}

fn barrier(work: &Work<'_>, act: impl FnOnce(&Database) -> Result<(), Error>) -> Result<(), String> {
    work.journal.tell(Event::BarrierBegan { by: 0 })?;
    act(work.db).map_err(|e| e.to_string())?;
    work.journal.tell(Event::BarrierEnded { by: 0 })
}

/// Verifies beside the work.
fn clean(db: &Database) -> Result<(), String> {
    let report = db.verify().map_err(|e| format!("verify: {e}"))?;
    if report.is_clean() { Ok(()) } else { Err(findings(&report)) }
}

/// A report's findings as one text.
pub(in super::super) fn findings(report: &ashlardb::verify::Report) -> String {
    report.findings.iter().take(20).fold(format!("verification: {report}"), |text, finding| format!("{text}\n  {finding}"))
}
