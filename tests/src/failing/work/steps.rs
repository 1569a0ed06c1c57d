//! The pieces of the work, and their order.

use super::super::states::Ended;
use super::{Done, GEOMETRY, PATH, Work};
use crate::geometry::Geometry;
use crate::state::Write;
use crate::workload::value;
use ashlardb::{Background, Database, Durability, Error};
use std::ops::Bound;

impl Work {
    pub(super) fn commit(&mut self, writes: Vec<Write>, durability: Durability) -> Done {
        self.record(&writes, durability, |db, writes| {
            let mut batch = db.batch();
            for write in writes {
                let Some(keyspace) = db.existing_keyspace(write.keyspace())? else { return Ok(false) };
                match write {
                    Write::Put { key, value, .. } => batch.insert(&keyspace, key, value)?,
                    Write::Remove { key, .. } => batch.remove(&keyspace, key)?,
                    Write::RemoveRange { range, .. } => batch.remove_range(&keyspace, range.clone())?,
                    _ => {}
                }
            }
            batch.commit_with(durability).map(|()| true)
        })
    }

    pub(super) fn create(&mut self, name: &str) -> Done {
        self.record(&[Write::Create { keyspace: name.into() }], Durability::Immediate, |db, _| db.keyspace(name).map(|_| true))
    }

    pub(super) fn drop_keyspace(&mut self, name: &str) -> Done {
        self.record(&[Write::Drop { keyspace: name.into() }], Durability::Immediate, |db, _| db.drop_keyspace(name))
    }

    pub(super) fn load(&mut self, name: &str) -> Done {
        let put = |n: u8| Write::Put {
            keyspace: name.into(),
            key: vec![n],
            value: value(u64::from(n), if n == 3 { 9000 } else { 40 }),
        };
        let writes: Vec<Write> = (0..12).map(put).collect();
        self.record(&writes, Durability::Immediate, |db, writes| {
            let Some(keyspace) = db.existing_keyspace(name)? else { return Ok(false) };
            let entries = writes.iter().filter_map(|write| match write {
                Write::Put { key, value, .. } => Some(Ok::<_, Error>((key, value))),
                _ => None,
            });
            keyspace.bulk_load(entries).map(|_| true)
        })
    }

    pub(super) fn record(
        &mut self,
        writes: &[Write],
        durability: Durability,
        call: impl FnOnce(&Database, &[Write]) -> Result<bool, Error>,
    ) -> Done {
        let Some(db) = self.db.clone() else { return Ok(Ok(())) };
        let before = self.script.hits().len();
        match (call(&db, writes), durability) {
            (Ok(true), Durability::Immediate) => {
                self.check_may_confirm("a commit", before)?;
                self.states.commit(writes, Ended::Durable);
            }
            (Ok(true), Durability::Eventual) => self.states.commit(writes, Ended::Applied),
            (Ok(false), _) => {}
            (Err(e @ Error::OutcomeUnknown { .. }), _) => {
                self.states.commit(writes, Ended::Unknown);
                return Ok(Err(e));
            }
            (Err(e), _) => return Ok(Err(e)),
        }
        Ok(Ok(()))
    }

    pub(super) fn put(&mut self, keyspace: &str, key: &[u8], len: usize, durability: Durability) -> Done {
        self.seq += 1;
        let value = value(u64::from(self.seq) << 8, len);
        self.commit(vec![Write::Put { keyspace: keyspace.into(), key: key.to_vec(), value }], durability)
    }

    pub(super) fn batch(&mut self) -> Done {
        self.seq += 1;
        let put = |n: u64| Write::Put {
            keyspace: ["left", "right"][n as usize % 2].into(),
            key: format!("key {}", n % 9).into_bytes(),
            value: value(u64::from(self.seq) << 8 | n, 40 + 100 * (n as usize % 3)),
        };
        self.commit((0..14).map(put).collect(), Durability::Immediate)
    }

    /// More than the cache holds.
    pub(super) fn many(&mut self) -> Done {
        for n in 0..40u8 {
            let done = self.put("big", &[n], 700, Durability::Eventual)?;
            if done.is_err() {
                return Ok(done);
            }
        }
        Ok(Ok(()))
    }

    pub(super) fn remove_range(&mut self) -> Done {
        let range = (Bound::Included(b"key 2".to_vec()), Bound::Excluded(b"key 5".to_vec()));
        self.commit(vec![Write::RemoveRange { keyspace: "left".into(), range }], Durability::Immediate)
    }

    pub(super) fn read_only(&mut self) -> Done {
        if self.db.is_none() {
            return self.open();
        }
        let flushed = self.flush()?;
        if let Err(e) = flushed {
            self.note(&e)?;
        }
        self.db = None;
        let roomy = Geometry { frames: 512, ..GEOMETRY };
        match roomy.options(Some(self.fs.clone()), Background::Manual).read_only(true).open(PATH) {
            Ok(db) => {
                self.db = Some(db);
                let looked = self.look_at_all()?;
                self.db = None;
                if let Err(e) = looked {
                    self.note(&e)?;
                }
            }
            Err(e) => self.note(&e)?,
        }
        self.open()
    }
}

pub(super) type Step = fn(&mut Work) -> Done;

/// The work. Every kind of call comes in it: [`Call`].
pub(super) const STEPS: &[Step] = &[
    Work::open,
    |w| w.create("left"),
    |w| w.create("right"),
    |w| w.create("big"),
    Work::batch,
    |w| w.put("left", b"overflow", 3000, Durability::Immediate),
    |w| w.put("left", b"blob", 20_000, Durability::Immediate),
    |w| w.call(Database::checkpoint),
    |w| w.put("left", b"key 1", 60, Durability::Immediate),
    Work::many,
    Work::look,
    Work::flush,
    |w| w.put("left", b"key 2", 60, Durability::Immediate),
    |w| w.put("left", b"blob", 9000, Durability::Immediate),
    Work::remove_range,
    |w| w.call(|db| db.maintain().map(drop)),
    |w| w.put("right", b"key 3", 60, Durability::Eventual),
    |w| w.call(|db| db.maintain().map(drop)),
    |w| w.put("right", b"key 4", 60, Durability::Immediate),
    // What the log holds is replayed.
    Work::open,
    |w| w.create("loaded"),
    |w| w.load("loaded"),
    Work::batch,
    |w| w.drop_keyspace("big"),
    |w| w.call(|db| (0..20).try_for_each(|_| db.maintain().map(drop))),
    |w| w.call(|db| db.compact().map(drop)),
    |w| w.put("left", b"key 6", 60, Durability::Immediate),
    |w| w.put("right", b"blob", 30_000, Durability::Immediate),
    Work::look,
    Work::close,
    |w| w.commit(vec![Write::Remove { keyspace: "right".into(), key: b"blob".to_vec() }], Durability::Immediate),
    |w| w.put("left", b"key 7", 60, Durability::Eventual),
    Work::read_only,
    |w| w.put("left", b"key 8", 60, Durability::Immediate),
    |w| w.call(Database::checkpoint),
    |w| w.put("left", b"key 8", 70, Durability::Eventual),
    Work::look,
];
