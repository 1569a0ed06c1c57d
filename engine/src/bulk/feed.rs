//! The entries of a bulk load, from the caller's thread to the one that builds pages of them.
//!
//! 1. Entries are handed over many at a time, in their order; few of these wait, and their memory is used again.
//! 2. A load that is smaller than one such lot is built by the caller, as is each where the engine may have no threads.
//! 3. No thread is left when a [`Feed`] is gone, however it ends; and all that it has written is its [`Bulk`]'s, or given back.

use super::lot::{Brings, Lot};
use super::packing::Packing;
use super::stage::{Stage, gone};
use crate::Background;
use crate::btree::{Bulk, BulkError, BulkOptions, TreeId};
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::value::cell;
use ashlar_disk::sync::Mutex;
use std::sync::Arc;

/// Builds a tree out of lots.
struct Builder {
    bulk: Bulk<Packing>,
    tree: TreeId,
}

impl Builder {
    fn build(&mut self, lot: &Lot) -> Result<()> {
        let limits = self.bulk.limits();
        for (key, brings, bytes) in lot.entries() {
            let outcome = match (brings, bytes.len() <= limits.inline_value_max(key.len())) {
                (Brings::Value, true) => self.bulk.push(key, cell::INLINE, bytes),
                (Brings::Value, false) => self.push_long(key, cell::OVERFLOW, bytes)?,
                (Brings::Blob, true) => self.bulk.push(key, cell::BLOB, bytes),
                (Brings::Blob, false) => self.push_long(key, cell::LONG_BLOB, bytes)?,
            };
            outcome.map_err(|e| match e {
                BulkError::Sink(e) => e,
                BulkError::TooLarge => Error::KeyTooLarge { len: key.len(), max: limits.key_max },
            })?;
        }
        Ok(())
    }

    /// An entry whose bytes stand on pages of their own.
    fn push_long(&mut self, key: &[u8], kind: u8, bytes: &[u8]) -> Result<std::result::Result<(), BulkError<Error>>> {
        let list = cell::encode_overflow(&self.bulk.sink().overflow(self.tree, bytes)?);
        Ok(self.bulk.push(key, kind, &list))
    }
}

/// See the module.
pub(super) struct Feed {
    shared: Arc<Shared>,
    lot: Lot,
    /// The last key, if there is one.
    last: Option<Vec<u8>>,
    /// Until a thread has it.
    builder: Option<Box<Builder>>,
    thread: Option<Stage<Lot, Box<Builder>>>,
    /// Lots whose memory is to be used again.
    spares: Arc<Mutex<Vec<Lot>>>,
}

impl Feed {
    pub(super) fn new(shared: &Arc<Shared>, options: BulkOptions) -> Feed {
        let bulk = Bulk::new(Packing::new(shared.clone()), options);
        let builder = Box::new(Builder { bulk, tree: options.tree });
        Feed {
            shared: shared.clone(),
            lot: Lot::new(shared.options.bulk_lot),
            last: None,
            builder: Some(builder),
            thread: None,
            spares: Arc::default(),
        }
    }

    /// Whether an entry with this key may come next.
    pub(super) fn is_next(&self, key: &[u8]) -> bool {
        self.last.as_deref().is_none_or(|last| last < key)
    }

    /// Adds the next entry. Its key is above that of the one before.
    ///
    /// # Errors
    /// What was handed over can't be built, this entry or an earlier one.
    pub(super) fn add(&mut self, key: &[u8], brings: Brings, bytes: &[u8]) -> Result<()> {
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        self.lot.add(key, brings, bytes);
        if self.lot.len() < self.shared.options.bulk_lot { Ok(()) } else { self.hand_over() }
    }

    fn hand_over(&mut self) -> Result<()> {
        self.lot.close();
        let may_start = self.shared.options.background != Background::Manual;
        if let Some(builder) = self.builder.take_if(|_| may_start) {
            let (spares, weight) = (self.spares.clone(), self.shared.options.bulk_lot);
            self.thread = Some(Stage::start("ashlar-bulk", weight, builder, move |builder: &mut Box<Builder>, mut lot: Lot| {
                builder.build(&lot)?;
                lot.clear();
                spares.lock().push(lot);
                Ok(())
            })?);
        }
        if let Some(builder) = &mut self.builder {
            builder.build(&self.lot)?;
            self.lot.clear();
            return Ok(());
        }
        let next = self.spares.lock().pop().unwrap_or_else(|| Lot::new(self.shared.options.bulk_lot));
        let full = std::mem::replace(&mut self.lot, next);
        let weight = full.len();
        match self.thread.as_ref().is_some_and(|thread| thread.give(full, weight)) {
            true => Ok(()),
            // It tells why it takes nothing any more.
            false => self.end().and_then(|_| Err(gone(&self.shared))),
        }
    }

    /// There is no further entry: the tree, but for its last pages.
    ///
    /// # Errors
    /// As [`Feed::add`].
    pub(super) fn finish(mut self) -> Result<Bulk<Packing>> {
        if let Some(mut builder) = self.builder.take() {
            self.lot.close();
            builder.build(&self.lot)?;
            return Ok(builder.bulk);
        }
        self.hand_over()?;
        self.end()
    }

    fn end(&mut self) -> Result<Bulk<Packing>> {
        let thread = self.thread.take().ok_or_else(|| gone(&self.shared))?;
        Ok(thread.end(|| gone(&self.shared))?.bulk)
    }
}
