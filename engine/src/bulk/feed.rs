//! The entries of a bulk load, from the caller's thread to the one that builds pages of them.
//!
//! 1. Entries are handed over many at a time, in their order; few of these wait, and their memory is used again.
//! 2. A load that is smaller than one such lot is built by the caller, as is each where the engine may have no threads.
//! 3. No thread is left when a [`Feed`] is gone, however it ends; and all that it has written is its [`Bulk`]'s, or given back.

use super::loading::Loading;
use crate::Background;
use crate::btree::{Bulk, BulkError, BulkOptions, TreeId, limits};
use crate::database::Shared;
use crate::error::{Error, Result};
use crate::handover::{self, Giver, Next};
use crate::value::cell;
use ashlar_disk::sync::{JoinHandle, Mutex, spawn};
use std::sync::Arc;

/// Lots that may wait for the thread.
const WAITING_LOTS: usize = 2;

/// What an entry brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Brings {
    /// A value that stands in the tree's pages.
    Value,
    /// The name of a blob that was written.
    Blob,
}

/// Entries that follow each other.
#[derive(Default)]
struct Lot {
    /// Keys and what they bring, one behind the other.
    bytes: Vec<u8>,
    /// Of each entry, the lengths of both.
    entries: Vec<(usize, usize, Brings)>,
}

impl Lot {
    fn last_key(&self) -> Option<&[u8]> {
        let &(key_len, len, _) = self.entries.last()?;
        let at = self.bytes.len() - len - key_len;
        Some(&self.bytes[at..at + key_len])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// Builds a tree out of lots.
struct Builder {
    bulk: Bulk<Loading>,
    shared: Arc<Shared>,
    tree: TreeId,
}

impl Builder {
    fn build(&mut self, lot: &Lot) -> Result<()> {
        let limits = limits(self.shared.pool.page_size());
        let mut rest = &lot.bytes[..];
        for &(key_len, len, brings) in &lot.entries {
            let (key, behind) = rest.split_at(key_len);
            let (bytes, behind) = behind.split_at(len);
            rest = behind;
            let outcome = match (brings, len <= limits.inline_value_max(key_len)) {
                (Brings::Value, true) => self.bulk.push(key, cell::INLINE, bytes),
                (Brings::Value, false) => self.push_long(key, cell::OVERFLOW, bytes)?,
                (Brings::Blob, true) => self.bulk.push(key, cell::BLOB, bytes),
                (Brings::Blob, false) => self.push_long(key, cell::LONG_BLOB, bytes)?,
            };
            outcome.map_err(|e| match e {
                BulkError::Sink(e) => e,
                BulkError::TooLarge => Error::KeyTooLarge { len: key_len, max: limits.key_max },
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
    /// The last key that was handed over, if any was.
    last: Option<Vec<u8>>,
    /// Until a thread has it.
    builder: Option<Box<Builder>>,
    thread: Option<Thread>,
}

impl Feed {
    pub(super) fn new(shared: &Arc<Shared>, options: BulkOptions) -> Feed {
        let bulk = Bulk::new(Loading::new(shared.clone()), options);
        let builder = Box::new(Builder { bulk, shared: shared.clone(), tree: options.tree });
        Feed { shared: shared.clone(), lot: Lot::default(), last: None, builder: Some(builder), thread: None }
    }

    /// Whether an entry with this key may come next.
    pub(super) fn is_next(&self, key: &[u8]) -> bool {
        self.lot.last_key().or(self.last.as_deref()).is_none_or(|last| last < key)
    }

    /// Adds the next entry. Its key is above that of the one before.
    ///
    /// # Errors
    /// What was handed over can't be built, this entry or an earlier one.
    pub(super) fn add(&mut self, key: &[u8], brings: Brings, bytes: &[u8]) -> Result<()> {
        self.lot.bytes.extend_from_slice(key);
        self.lot.bytes.extend_from_slice(bytes);
        self.lot.entries.push((key.len(), bytes.len(), brings));
        if self.lot.bytes.len() < self.shared.options.bulk_lot { Ok(()) } else { self.hand_over() }
    }

    fn hand_over(&mut self) -> Result<()> {
        if let Some(key) = self.lot.last_key() {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
        let may_start = self.shared.options.background != Background::Manual;
        if let Some(builder) = self.builder.take_if(|_| may_start) {
            self.thread = Some(Thread::start(builder)?);
        }
        if let Some(builder) = &mut self.builder {
            builder.build(&self.lot)?;
            self.lot.clear();
            return Ok(());
        }
        match self.thread.as_mut().is_some_and(|thread| thread.give(&mut self.lot)) {
            true => Ok(()),
            // It tells why it takes nothing any more.
            false => self.end().and_then(|_| Err(self.shared.fail_now(GONE.into()))),
        }
    }

    /// There is no further entry: the tree, but for its last pages.
    ///
    /// # Errors
    /// As [`Feed::add`].
    pub(super) fn finish(mut self) -> Result<Bulk<Loading>> {
        if let Some(mut builder) = self.builder.take() {
            builder.build(&self.lot)?;
            return Ok(builder.bulk);
        }
        self.hand_over()?;
        self.end()
    }

    fn end(&mut self) -> Result<Bulk<Loading>> {
        let ended = self.thread.take().and_then(Thread::end);
        ended.unwrap_or_else(|| Err(self.shared.fail_now(GONE.into())))
    }
}

/// Why a load ends whose thread has not told why.
const GONE: &str = "the thread that builds the pages of a bulk load has panicked: see what it said";

/// The thread that builds. With this it ends.
struct Thread {
    giver: Option<Giver<Lot>>,
    handle: Option<JoinHandle>,
    /// Lots whose memory is to be used again.
    spares: Arc<Mutex<Vec<Lot>>>,
    outcome: Arc<Mutex<Option<Result<Bulk<Loading>>>>>,
}

impl Thread {
    fn start(mut builder: Box<Builder>) -> Result<Thread> {
        let (giver, taker) = handover::queue::<Lot>(WAITING_LOTS * builder.shared.options.bulk_lot);
        let (spares, outcome): (Arc<Mutex<Vec<Lot>>>, Arc<Mutex<_>>) = Default::default();
        let (kept, told) = (spares.clone(), outcome.clone());
        let handle = spawn("ashlar-bulk", move || {
            let mut built = Ok(());
            while built.is_ok()
                && let Next::Given(mut lot) = taker.next(true)
            {
                built = builder.build(&lot);
                lot.clear();
                kept.lock().push(lot);
            }
            *told.lock() = Some(built.map(|()| builder.bulk));
        })?;
        Ok(Thread { giver: Some(giver), handle: Some(handle), spares, outcome })
    }

    /// Hands a lot over, and leaves an empty one. False: it takes nothing any more.
    fn give(&mut self, lot: &mut Lot) -> bool {
        let full = std::mem::replace(lot, self.spares.lock().pop().unwrap_or_default());
        let weight = full.bytes.len();
        self.giver.as_ref().is_some_and(|giver| giver.give(full, weight))
    }

    /// Waits until it has built what it was given; `None`: it has panicked.
    fn end(mut self) -> Option<Result<Bulk<Loading>>> {
        self.join();
        self.outcome.lock().take()
    }

    fn join(&mut self) {
        self.giver = None;
        // A panic has been told; that there is no outcome says the rest.
        let _ = self.handle.take().map(JoinHandle::join);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.join();
    }
}
