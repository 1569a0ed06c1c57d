//! Reads of every kind, compared with the model.

use super::{Checked, Machine};
use crate::dump::{Mismatch, entries};
use crate::state::{Bytes, Entries, KeyRange, difference_of_entries, in_range, show, show_range};
use ashlardb::{Keyspace, Range};
use rand::RngExt;

type Entry = Option<(Vec<u8>, Bytes)>;

impl Machine {
    pub(super) fn read(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        let entries = self.model.get(keyspace.name()).cloned().unwrap_or_default();
        match self.rng.random_range(0..100) {
            0..40 => self.get(&keyspace, &entries),
            40..55 => self.get_many(&keyspace, &entries),
            55..75 => self.range(&keyspace, &entries),
            75..85 => self.both_ends(&keyspace, &entries),
            85..93 => self.prefix(&keyspace, &entries),
            93..98 => self.ends(&keyspace, &entries),
            _ => self.names(),
        }
    }

    fn get(&mut self, keyspace: &Keyspace, entries: &Entries) -> Checked {
        let key = self.keys.near(&mut self.rng);
        self.note(format!("get {}/{}", keyspace.name(), show(&key)));
        let expected = entries.get(&key).map(|v| v.to_vec());
        let show_value = |v: &Option<Vec<u8>>| v.as_deref().map_or("nothing".into(), show);
        self.expect_equal("get", &keyspace.get(&key)?.map(|v| v.to_vec()), &expected, show_value)?;
        let mut out = b"left over".to_vec();
        let there = keyspace.get_into(&key, &mut out)?;
        self.expect_equal("get_into", &there.then_some(out), &expected, show_value)?;
        self.expect_equal("contains_key", &keyspace.contains_key(&key)?, &expected.is_some(), bool::to_string)
    }

    fn get_many(&mut self, keyspace: &Keyspace, entries: &Entries) -> Checked {
        let count = self.rng.random_range(0..100);
        let keys: Vec<Vec<u8>> = (0..count).map(|_| self.keys.near(&mut self.rng)).collect();
        self.note(format!("get_many of {count} keys of {}", keyspace.name()));
        let found: Vec<Option<Vec<u8>>> = keyspace.get_many(&keys)?.into_iter().map(|v| v.map(|v| v.to_vec())).collect();
        self.expect_equal("the number of answers", &found.len(), &keys.len(), usize::to_string)?;
        for (key, found) in keys.iter().zip(&found) {
            let expected = entries.get(key).map(|v| v.to_vec());
            let show_value = |v: &Option<Vec<u8>>| format!("{} for {}", v.as_deref().map_or("nothing".into(), show), show(key));
            self.expect_equal("get_many", found, &expected, show_value)?;
        }
        Ok(())
    }

    fn range(&mut self, keyspace: &Keyspace, all: &Entries) -> Checked {
        let range = self.keys.range(&mut self.rng);
        let from_back = self.rng.random();
        self.note(format!("range {}/{}, from the back: {from_back}", keyspace.name(), show_range(&range)));
        let found = entries(keyspace.range(range.clone()), from_back)?;
        compare("range", &within(all, &range), &found)
    }

    /// Takes from either end at random, until they meet; then neither gives more.
    fn both_ends(&mut self, keyspace: &Keyspace, all: &Entries) -> Checked {
        let range = self.keys.range(&mut self.rng);
        self.note(format!("range {}/{} from both ends", keyspace.name(), show_range(&range)));
        let mut expected: std::collections::VecDeque<(Vec<u8>, Bytes)> = within(all, &range).into_iter().collect();
        let mut iter = keyspace.range(range);
        let lean = self.rng.random_range(1..8);
        loop {
            let front = self.rng.random_range(0..8) < lean;
            let found = take(&mut iter, front)?;
            let wanted = if front { expected.pop_front() } else { expected.pop_back() };
            let ended = wanted.is_none();
            self.expect_equal("a range from both ends", &found, &wanted, show_entry)?;
            if ended {
                break;
            }
        }
        self.expect_equal("an ended range", &take(&mut iter, true)?, &None, show_entry)?;
        self.expect_equal("an ended range", &take(&mut iter, false)?, &None, show_entry)
    }

    fn prefix(&mut self, keyspace: &Keyspace, all: &Entries) -> Checked {
        let mut prefix = self.keys.near(&mut self.rng);
        prefix.truncate(self.rng.random_range(0..4));
        let from_back = self.rng.random();
        self.note(format!("prefix {}/{}, from the back: {from_back}", keyspace.name(), show(&prefix)));
        let found = entries(keyspace.prefix(&prefix), from_back)?;
        let expected = all.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(k, v)| (k.clone(), v.clone())).collect();
        compare("prefix", &expected, &found)
    }

    fn ends(&mut self, keyspace: &Keyspace, all: &Entries) -> Checked {
        self.note(format!("first, last and len of {}", keyspace.name()));
        let own = |e: Option<(Vec<u8>, ashlardb::Value)>| e.map(|(k, v)| (k, Bytes::from(&v[..])));
        let pair = |e: Option<(&Vec<u8>, &Bytes)>| e.map(|(k, v)| (k.clone(), v.clone()));
        self.expect_equal("first", &own(keyspace.first()?), &pair(all.first_key_value()), show_entry)?;
        self.expect_equal("last", &own(keyspace.last()?), &pair(all.last_key_value()), show_entry)?;
        self.expect_equal("len", &keyspace.len()?, &(all.len() as u64), u64::to_string)?;
        self.expect_equal("is_empty", &keyspace.is_empty()?, &all.is_empty(), bool::to_string)
    }

    fn names(&mut self) -> Checked {
        self.note("keyspaces".into());
        let expected: Vec<String> = self.model.keys().cloned().collect();
        self.expect_equal("keyspaces", &self.db.keyspaces()?, &expected, |n| format!("{n:?}"))?;
        for name in super::NAMES {
            let there = self.db.existing_keyspace(name)?.is_some();
            self.expect_equal("existing_keyspace", &there, &self.model.contains_key(name), bool::to_string)?;
        }
        Ok(())
    }
}

fn within(all: &Entries, range: &KeyRange) -> Entries {
    all.iter().filter(|(k, _)| in_range(range, k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn compare(what: &str, expected: &Entries, found: &Entries) -> Checked {
    difference_of_entries(expected, found).map_or(Ok(()), |text| Err(Mismatch::Wrong(format!("{what}: {text}"))))
}

fn take(iter: &mut Range, front: bool) -> Result<Entry, Mismatch> {
    let item = if front { iter.next() } else { iter.next_back() };
    Ok(item.transpose()?.map(|(k, v)| (k, Bytes::from(&v[..]))))
}

fn show_entry(entry: &Entry) -> String {
    entry.as_ref().map_or("nothing".into(), |(k, v)| format!("{} = {}", show(k), show(v)))
}
