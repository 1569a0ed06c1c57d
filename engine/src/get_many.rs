//! Many point reads with their misses in flight together.

use crate::btree::Stop;
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::value::Value;
use std::collections::VecDeque;

/// Keys whose pages are being read at once, at most.
const WINDOW: usize = 64;

/// Reads `keys`: a sliding window of look-ups, each of which asks for the page that it misses and is tried again when the oldest
/// one's page has come. Waiting for the oldest only, never for all: what is read behind it goes on meanwhile.
pub(crate) fn get_many<K: AsRef<[u8]>>(keyspace: &Keyspace, keys: &[K]) -> Result<Vec<Option<Value>>> {
    let mut out: Vec<Option<Value>> = Vec::new();
    out.resize_with(keys.len(), || None);
    let mut waiting: VecDeque<usize> = VecDeque::new();
    for index in 0..keys.len() {
        if !try_prefetch(keyspace, keys[index].as_ref())? {
            out[index] = keyspace.get(&keys[index])?;
            continue;
        }
        waiting.push_back(index);
        if waiting.len() == WINDOW {
            finish_oldest(keyspace, keys, &mut waiting, &mut out)?;
        }
    }
    while !waiting.is_empty() {
        finish_oldest(keyspace, keys, &mut waiting, &mut out)?;
    }
    Ok(out)
}

/// Completes the oldest look-up, then advances those behind it: one whose inner page has come asks for the next.
fn finish_oldest<K: AsRef<[u8]>>(
    keyspace: &Keyspace,
    keys: &[K],
    waiting: &mut VecDeque<usize>,
    out: &mut [Option<Value>],
) -> Result<()> {
    if let Some(oldest) = waiting.pop_front() {
        out[oldest] = keyspace.get(&keys[oldest])?;
    }
    let mut still = VecDeque::with_capacity(waiting.len());
    for index in waiting.drain(..) {
        if try_prefetch(keyspace, keys[index].as_ref())? {
            still.push_back(index);
        } else {
            out[index] = keyspace.get(&keys[index])?;
        }
    }
    *waiting = still;
    Ok(())
}

/// Whether the key's way is not yet in memory; the page that is missing has been asked for.
fn try_prefetch(keyspace: &Keyspace, key: &[u8]) -> Result<bool> {
    let tree = keyspace.state().tree()?;
    let pool = &keyspace.shared().pool;
    match tree.get(pool, key, |_| ()) {
        Err(Stop::Missing(page)) => {
            pool.prefetch(&[page]);
            Ok(true)
        }
        _ => Ok(false),
    }
}
