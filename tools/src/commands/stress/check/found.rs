//! Reads all that a database holds, in several ways that must agree.

use super::super::load::{SHARED, TURNS, account, mark};
use super::super::ops::ACCOUNTS;
use super::super::value::{self, Place};
use super::state::State;
use ashlardb::{Database, Keyspace};

/// Everything there is; an error where something is there that was never written, or two ways of reading differ.
pub(in super::super) fn read(db: &Database) -> Result<State, String> {
    let mut state = State::default();
    for name in db.keyspaces().map_err(|e| format!("listing the keyspaces: {e}"))? {
        let keyspace = db.existing_keyspace(&name).map_err(|e| format!("keyspace {name}: {e}"))?;
        let keyspace = keyspace.ok_or_else(|| format!("keyspace {name} is listed and can't be found"))?;
        if name == SHARED {
            shared(&keyspace, &mut state)?;
        } else {
            let map = value::map_of(&name).ok_or_else(|| format!("keyspace {name} was never made"))?;
            entries(&keyspace, map, &mut state).map_err(|e| format!("keyspace {name}: {e}"))?;
        }
    }
    Ok(state)
}

fn entries(keyspace: &Keyspace, map: u8, state: &mut State) -> Result<(), String> {
    let mut keys = Vec::new();
    for entry in keyspace.iter() {
        let (bytes, found) = entry.map_err(|e| format!("a scan: {e}"))?;
        let unknown = || format!("key {:?} was never written", bytes.escape_ascii().to_string());
        let (writer, key) = value::parse_key(&bytes).ok_or_else(unknown)?;
        let place = Place { writer, map, key };
        if keyspace.name() != value::keyspace(writer, map) {
            return Err(unknown());
        }
        if state.entries.insert(place, value::read(place, &found)?).is_some() {
            return Err(format!("{place} is there twice"));
        }
        keys.push(bytes);
    }
    let len = keyspace.len().map_err(|e| format!("len: {e}"))?;
    if len != keys.len() as u64 {
        return Err(format!("it says that it has {len} entries, and a scan gives {}", keys.len()));
    }
    by_key(keyspace, &keys)?;
    for (entry, key) in keyspace.iter().rev().zip(keys.iter().rev()) {
        let (found, _) = entry.map_err(|e| format!("a scan backwards: {e}"))?;
        if found != *key {
            return Err(format!("a scan backwards gives {} at {}", found.escape_ascii(), key.escape_ascii()));
        }
    }
    Ok(())
}

/// Some keys, looked up one by one and many at once.
fn by_key(keyspace: &Keyspace, keys: &[Vec<u8>]) -> Result<(), String> {
    let some: Vec<&Vec<u8>> = keys.iter().step_by(keys.len() / 64 + 1).collect();
    let many = keyspace.get_many(&some).map_err(|e| format!("many at once: {e}"))?;
    for (key, found) in some.iter().zip(many) {
        let one = keyspace.get(key).map_err(|e| format!("key {}: {e}", key.escape_ascii()))?;
        let (one, found) = (one.map(|v| v.to_vec()), found.map(|v| v.to_vec()));
        if one.is_none() || one != found {
            return Err(format!("key {}: a scan has it, and looked up it is another or not there", key.escape_ascii()));
        }
    }
    Ok(())
}

fn number<const N: usize>(name: &[u8], bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("{} has {} bytes", name.escape_ascii(), bytes.len()))
}

fn shared(keyspace: &Keyspace, state: &mut State) -> Result<(), String> {
    for entry in keyspace.iter() {
        let (key, found) = entry.map_err(|e| format!("a scan of {SHARED}: {e}"))?;
        let account = (0..ACCOUNTS).find(|&n| account(n) == key);
        let writer = (0..=u8::MAX).find(|&writer| mark(writer) == key);
        match (account, writer) {
            (Some(n), _) => state.accounts[n] = i64::from_le_bytes(number(&key, &found)?),
            (_, Some(writer)) => {
                let [number, turn] = *number::<16>(&key, &found)?.as_chunks::<8>().0 else { continue };
                let number = u32::try_from(u64::from_le_bytes(number)).map_err(|e| format!("mark of writer {writer}: {e}"))?;
                state.marks.insert(writer, (number, u64::from_le_bytes(turn)));
            }
            _ if key == TURNS => state.turns = u64::from_le_bytes(number(&key, &found)?),
            _ => return Err(format!("key {} of {SHARED} was never written", key.escape_ascii())),
        }
    }
    Ok(())
}
