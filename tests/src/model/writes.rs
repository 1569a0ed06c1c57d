//! Writes of every kind: single ones, batches across keyspaces with repeated keys, ranges, whole keyspaces; and those that must
//! be refused without effect.

use super::{Checked, Machine, NAMES};
use crate::dump::Mismatch;
use crate::state::{Write, show};
use crate::workload::{value, value_len};
use ashlardb::{Durability, Error, Keyspace};
use rand::RngExt;
use std::sync::Arc;

impl Machine {
    pub(super) fn write(&mut self) -> Checked {
        match self.rng.random_range(0..100) {
            0..50 => self.insert(),
            50..68 => self.remove(),
            68..73 => self.remove_range(),
            73..93 => self.batch(),
            93 => self.clear(),
            94 => self.drop_keyspace(),
            95 => self.use_dropped(),
            96 => self.refused_keys(),
            97 => self.refused_names(),
            _ => self.too_large(),
        }
    }

    fn durability(&mut self) -> Durability {
        if self.rng.random_range(0..4) == 0 { Durability::Immediate } else { Durability::Eventual }
    }

    fn draw_put(&mut self, keyspace: &str) -> Write {
        let key = self.keys.pick(&mut self.rng);
        let len = value_len(&mut self.rng, &self.geometry, key.len());
        self.writes += 1;
        Write::Put { keyspace: keyspace.into(), key, value: value(self.writes, len) }
    }

    fn insert(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        let write = self.draw_put(keyspace.name());
        let durability = self.durability();
        self.note(format!("{write:?}, {durability:?}"));
        if let Write::Put { key, value, .. } = &write {
            match keyspace.insert_with(key, value, durability) {
                Err(Error::TransactionTooLarge { .. }) if self.may_be_too_large(value.len()) => return Ok(()),
                outcome => outcome?,
            }
        }
        write.apply(&mut self.model);
        Ok(())
    }

    /// A record is at most a quarter of the log's limit, counted at its worst.
    fn may_be_too_large(&self, bytes_in_record: usize) -> bool {
        bytes_in_record as u64 * 2 > self.geometry.log_limit / 4
    }

    fn remove(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        let key = self.keys.near(&mut self.rng);
        let durability = self.durability();
        let write = Write::Remove { keyspace: keyspace.name().into(), key };
        self.note(format!("{write:?}, {durability:?}"));
        if let Write::Remove { key, .. } = &write {
            keyspace.remove_with(key, durability)?;
        }
        write.apply(&mut self.model);
        Ok(())
    }

    fn remove_range(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        let range = if self.rng.random() { self.keys.short_range(&mut self.rng) } else { self.keys.range(&mut self.rng) };
        let write = Write::RemoveRange { keyspace: keyspace.name().into(), range: range.clone() };
        self.note(format!("{write:?}"));
        keyspace.remove_range(range)?;
        write.apply(&mut self.model);
        Ok(())
    }

    fn batch(&mut self) -> Checked {
        let keyspaces: Vec<Keyspace> =
            (0..self.rng.random_range(1..4)).map(|_| self.some_keyspace()).collect::<Result<_, Mismatch>>()?;
        let count = match self.rng.random_range(0..10) {
            0 => 0,
            1 => self.rng.random_range(10..60),
            _ => self.rng.random_range(1..10),
        };
        let mut batch = self.db.batch();
        let mut writes = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            let keyspace = &keyspaces[self.rng.random_range(0..keyspaces.len())];
            let write = self.draw_write(keyspace.name());
            match &write {
                Write::Put { key, value, .. } => {
                    let logged = if value.len() > self.geometry.blob_threshold { 64 } else { value.len() };
                    bytes += key.len() + logged + 32;
                    batch.insert(keyspace, key, value)?;
                }
                Write::Remove { key, .. } => batch.remove(keyspace, key)?,
                Write::RemoveRange { range, .. } => batch.remove_range(keyspace, range.clone())?,
                _ => {}
            }
            writes.push(write);
        }
        let durability = self.durability();
        self.note(format!("batch, {durability:?}: {writes:?}"));
        match batch.commit_with(durability) {
            Err(Error::TransactionTooLarge { .. }) if self.may_be_too_large(bytes) => return Ok(()),
            outcome => outcome?,
        }
        writes.iter().for_each(|w| w.apply(&mut self.model));
        Ok(())
    }

    fn draw_write(&mut self, keyspace: &str) -> Write {
        let keyspace: Arc<str> = keyspace.into();
        match self.rng.random_range(0..12) {
            0..8 => self.draw_put(&keyspace),
            8..11 => Write::Remove { keyspace, key: self.keys.near(&mut self.rng) },
            _ => Write::RemoveRange { keyspace, range: self.keys.short_range(&mut self.rng) },
        }
    }

    fn clear(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        self.note(format!("clear {}", keyspace.name()));
        keyspace.clear()?;
        Write::Clear { keyspace: keyspace.name().into() }.apply(&mut self.model);
        Ok(())
    }

    fn drop_keyspace(&mut self) -> Checked {
        let name = NAMES[self.rng.random_range(0..NAMES.len())];
        self.note(format!("drop {name}"));
        let there = self.db.drop_keyspace(name)?;
        self.expect_equal("drop_keyspace", &there, &self.model.contains_key(name), |b| b.to_string())?;
        self.model.remove(name);
        Ok(())
    }

    /// A handle on a dropped keyspace is of no use, whether or not there is another one of that name.
    fn use_dropped(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        let name = keyspace.name().to_owned();
        self.note(format!("use {name} after dropping it"));
        self.db.drop_keyspace(&name)?;
        self.model.remove(&name);
        if self.rng.random() {
            self.db.keyspace(&name)?;
            Write::Create { keyspace: name.as_str().into() }.apply(&mut self.model);
        }
        let mut batch = self.db.batch();
        batch.insert(&keyspace, b"k", b"v")?;
        let other = self.some_keyspace()?;
        batch.insert(&other, b"k", b"v")?;
        let outcomes = [
            keyspace.get(b"k").map(drop),
            keyspace.insert(b"k", b"v"),
            keyspace.remove(b"k"),
            keyspace.clear(),
            keyspace.len().map(drop),
            keyspace.iter().next().transpose().map(drop),
            batch.commit(),
        ];
        match outcomes.iter().find(|o| !matches!(o, Err(Error::NoSuchKeyspace { .. }))) {
            Some(wrong) => Err(Mismatch::Wrong(format!("a dropped keyspace was used: {wrong:?} among {outcomes:?}"))),
            None => Ok(()),
        }
    }

    fn refused_keys(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        let key = vec![b'x'; self.db.key_len_max() + self.rng.random_range(1..3)];
        self.note(format!("a key of {} bytes", key.len()));
        let mut batch = self.db.batch();
        let outcomes = [keyspace.insert(&key, b""), keyspace.remove(&key), batch.insert(&keyspace, &key, b"")];
        match outcomes.iter().find(|o| !matches!(o, Err(Error::KeyTooLarge { .. }))) {
            Some(wrong) => Err(Mismatch::Wrong(format!("a key that is too long was taken: {wrong:?}"))),
            // Reading one is no error: it is not there.
            None => self.expect_equal("get", &keyspace.get(&key)?.map(|v| v.to_vec()), &None, |v| format!("{v:?}")),
        }
    }

    fn refused_names(&mut self) -> Checked {
        self.note("impossible names".into());
        for name in [String::new(), "n".repeat(ashlardb::KEYSPACE_NAME_MAX + 1)] {
            if let Ok(keyspace) = self.db.keyspace(&name) {
                return Err(Mismatch::Wrong(format!("there can be a keyspace {:?}", keyspace.name())));
            }
        }
        Ok(())
    }

    /// A batch whose record can never have room: refused, nothing applied.
    fn too_large(&mut self) -> Checked {
        let keyspace = self.some_keyspace()?;
        let mut batch = self.db.batch();
        let len = 500;
        let count = self.geometry.log_limit / 4 / len as u64 + 1;
        self.note(format!("{count} values of {len} bytes, more than the log takes"));
        for n in 0..count {
            batch.insert(&keyspace, n.to_be_bytes(), value(n, len))?;
        }
        match batch.commit() {
            Err(Error::TransactionTooLarge { .. }) => Ok(()),
            outcome => Err(Mismatch::Wrong(format!("a batch of {count} values of {} gave {outcome:?}", show(&value(0, len))))),
        }
    }
}
