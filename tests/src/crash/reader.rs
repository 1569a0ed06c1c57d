//! A thread that reads beside the writers, each way there is.

use super::world::{Stop, World};
use super::writer::{Records, SHARED, observe};
use crate::history::Observation;
use crate::state::Bytes;
use ashlar_disk::sync::Mutex;
use ashlardb::{Error, Keyspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::Ordering::Relaxed;

/// Reads until the writers have ended.
pub(super) fn run(world: &World, seed: u64, records: &Mutex<Records>) -> Result<(), Stop> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = Vec::new();
    let outcome = read(world, &mut rng, &mut seen);
    records.lock().observations.append(&mut seen);
    outcome
}

fn read(world: &World, rng: &mut ChaCha8Rng, seen: &mut Vec<Observation>) -> Result<(), Stop> {
    let reads_max = rng.random_range(1..60);
    while world.working.load(Relaxed) > 0 && seen.len() < reads_max {
        let name = SHARED[rng.random_range(0..SHARED.len())];
        let keyspace = world.db.existing_keyspace(name).map_err(|e| world.stop("existing_keyspace", &e))?;
        let Some(keyspace) = keyspace else {
            ashlar_disk::sync::sleep(std::time::Duration::from_micros(100));
            continue;
        };
        match rng.random_range(0..8) {
            0 => scan(world, rng, &keyspace, seen)?,
            1 => get_many(world, rng, &keyspace, seen)?,
            _ => seen.extend(observe(world, &keyspace, world.keys.pick(rng))?),
        }
    }
    Ok(())
}

/// A scan of a range, from one of its ends: each entry, and each key between that was not there.
fn scan(world: &World, rng: &mut ChaCha8Rng, keyspace: &Keyspace, seen: &mut Vec<Observation>) -> Result<(), Stop> {
    let range = world.keys.range(rng);
    let begun = world.now();
    let found = match crate::dump::entries(keyspace.range(range.clone()), rng.random()) {
        Ok(found) => found,
        Err(Error::NoSuchKeyspace { .. }) => return Ok(()),
        Err(e) => return Err(world.stop("scan", &e)),
    };
    let ended = world.now();
    if world.has_failed() {
        return Ok(());
    }
    let keys: std::collections::BTreeSet<Vec<u8>> = world.keys.within(&range).chain(found.keys().cloned()).collect();
    for key in keys {
        let found = found.get(&key).cloned();
        seen.push(Observation { keyspace: keyspace.name().into(), key, found, begun, ended });
    }
    Ok(())
}

fn get_many(world: &World, rng: &mut ChaCha8Rng, keyspace: &Keyspace, seen: &mut Vec<Observation>) -> Result<(), Stop> {
    let keys: Vec<Vec<u8>> = (0..rng.random_range(1..12)).map(|_| world.keys.pick(rng)).collect();
    let begun = world.now();
    let values = match keyspace.get_many(&keys) {
        Ok(values) => values,
        Err(Error::NoSuchKeyspace { .. }) => return Ok(()),
        Err(e) => return Err(world.stop("get_many", &e)),
    };
    let ended = world.now();
    if world.has_failed() {
        return Ok(());
    }
    for (key, value) in keys.into_iter().zip(values) {
        let found = value.map(|v| Bytes::from(&v[..]));
        seen.push(Observation { keyspace: keyspace.name().into(), key, found, begun, ended });
    }
    Ok(())
}
