//! The three ways to read: through a handle, from a snapshot, in a transaction; and a read drawn and made by any of them.

use super::seen::{Item, Seen};
use crate::state::{Bytes, KeyRange};
use crate::workload::Keys;
use ashlar_disk::sync;
use ashlardb::{Database, Keyspace, Result, Snapshot, Transaction, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

type Entries<'a> = Box<dyn DoubleEndedIterator<Item = Result<(Vec<u8>, Value)>> + 'a>;

/// Where to read.
pub(super) trait Source {
    fn keyspace(&self, name: &str) -> Result<Option<Keyspace>>;
    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>>;
    fn has(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool>;
    fn get_many(&self, keyspace: &Keyspace, keys: &[Vec<u8>]) -> Result<Vec<Option<Value>>>;
    fn range<'a>(&'a self, keyspace: &'a Keyspace, range: KeyRange) -> Entries<'a>;
    fn len(&self, keyspace: &Keyspace) -> Result<u64>;
}

impl Source for Database {
    fn keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
        self.existing_keyspace(name)
    }
    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>> {
        keyspace.get(key)
    }
    fn has(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool> {
        keyspace.contains_key(key)
    }
    fn get_many(&self, keyspace: &Keyspace, keys: &[Vec<u8>]) -> Result<Vec<Option<Value>>> {
        keyspace.get_many(keys)
    }
    fn range<'a>(&'a self, keyspace: &'a Keyspace, range: KeyRange) -> Entries<'a> {
        Box::new(keyspace.range(range))
    }
    fn len(&self, keyspace: &Keyspace) -> Result<u64> {
        keyspace.len()
    }
}

/// What snapshots and transactions have in common.
macro_rules! source {
    ($kind:ty, $existing:ident) => {
        impl Source for $kind {
            fn keyspace(&self, name: &str) -> Result<Option<Keyspace>> {
                self.$existing(name)
            }
            fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<Value>> {
                self.get(keyspace, key)
            }
            fn has(&self, keyspace: &Keyspace, key: &[u8]) -> Result<bool> {
                self.contains_key(keyspace, key)
            }
            fn get_many(&self, keyspace: &Keyspace, keys: &[Vec<u8>]) -> Result<Vec<Option<Value>>> {
                self.get_many(keyspace, keys)
            }
            fn range<'a>(&'a self, keyspace: &'a Keyspace, range: KeyRange) -> Entries<'a> {
                Box::new(self.range(keyspace, range))
            }
            fn len(&self, keyspace: &Keyspace) -> Result<u64> {
                self.len(keyspace)
            }
        }
    };
}

source!(Snapshot, keyspace);
source!(Transaction, existing_keyspace);

/// A read drawn and made.
pub(super) fn read(source: &dyn Source, keyspace: &Keyspace, keys: &Keys, rng: &mut ChaCha8Rng) -> Result<Seen> {
    let name = keyspace.name().into();
    let own = |value: Option<Value>| value.map(|v| Bytes::from(&v[..]));
    Ok(match rng.random_range(0..16) {
        0..6 => {
            let key = keys.near(rng);
            Seen::Get { keyspace: name, found: own(source.get(keyspace, &key)?), key }
        }
        6 => {
            let key = keys.pick(rng);
            Seen::Has { keyspace: name, found: source.has(keyspace, &key)?, key }
        }
        7..9 => {
            let keys: Vec<Vec<u8>> = (0..rng.random_range(0..4)).map(|_| keys.pick(rng)).collect();
            let found = source.get_many(keyspace, &keys)?.into_iter().map(own).collect();
            Seen::Many { keyspace: name, keys, found }
        }
        9 => Seen::Len { keyspace: name, found: source.len(keyspace)? },
        _ => {
            let range = keys.range(rng);
            let (moves, found) = go_over(source.range(keyspace, range.clone()), rng)?;
            Seen::Range { keyspace: name, range, moves, found }
        }
    })
}

/// Goes over an iterator from its front, its back or both, to its end or not so far.
fn go_over(mut entries: Entries<'_>, rng: &mut ChaCha8Rng) -> Result<(Vec<bool>, Vec<Item>)> {
    let (mut moves, mut found) = (Vec::new(), Vec::new());
    let from_back = [0, 0, 256, 128][rng.random_range(0..4)];
    let moves_max = if rng.random() { rng.random_range(1..4) } else { usize::MAX };
    while moves.len() < moves_max {
        if rng.random_ratio(1, 4) {
            sync::yield_point();
        } else if rng.random_ratio(1, 32) {
            sync::sleep(Duration::from_micros(rng.random_range(0..200)));
        }
        let back = rng.random_range(0..256) < from_back;
        let item = if back { entries.next_back() } else { entries.next() }.transpose()?;
        moves.push(back);
        let ended = item.is_none();
        found.push(item.map(|(key, value)| (key, Bytes::from(&value[..]))));
        if ended {
            break;
        }
    }
    Ok((moves, found))
}
