//! Many point reads with their misses in flight together.

use crate::btree::{Stop, Tree};
use crate::database::Shared;
use crate::error::Result;
use crate::read::View;
use crate::value::Value;
use ashlar_bufferpool::PageId;
use std::borrow::Borrow;
use std::collections::VecDeque;

/// Keys whose pages are being read at once, at most.
const WINDOW: usize = 64;

/// Pages that are asked for with one submission: the device begins with these while the next keys are looked up.
const ASKED_AT_ONCE: usize = 8;

/// So many keys ahead of the one that is looked up, the memory of what is in the cache is fetched.
const FETCHED_AHEAD: usize = 4;

/// Reads `keys` under a view, and gives of each what it holds and the LSN of its leaf: a sliding window of look-ups, each of which asks
/// for the page that it misses and is tried again when that has come. Waiting for the oldest only, never for all: what is read behind it
/// goes on meanwhile.
pub(crate) fn get_many<K: AsRef<[u8]>, H: Borrow<Shared>>(
    view: &View<H>,
    tree: Tree,
    keys: &[K],
) -> Result<Vec<(Option<Value>, u64)>> {
    let mut reads = Reads { view, tree, keys, out: Vec::new(), waiting: VecDeque::new(), asked: Vec::new(), fetched: 0 };
    reads.out.resize_with(keys.len(), || (None, 0));
    let mut next = 0;
    loop {
        while next < keys.len() && reads.waiting.len() < WINDOW {
            reads.fetch_to(next + FETCHED_AHEAD);
            reads.look(next)?;
            next += 1;
            if reads.asked.len() == ASKED_AT_ONCE {
                reads.ask();
            }
        }
        reads.ask();
        if reads.waiting.is_empty() {
            return Ok(reads.out);
        }
        reads.finish_oldest()?;
    }
}

struct Reads<'a, K, H: Borrow<Shared>> {
    view: &'a View<H>,
    tree: Tree,
    keys: &'a [K],
    out: Vec<(Option<Value>, u64)>,
    /// Those that wait for a page, and for which.
    waiting: VecDeque<(usize, PageId)>,
    /// Pages to be asked for, all at once.
    asked: Vec<PageId>,
    /// The first key whose leaf has not been fetched.
    fetched: usize,
}

impl<K: AsRef<[u8]>, H: Borrow<Shared>> Reads<'_, K, H> {
    fn read(&mut self, index: usize) -> Result<()> {
        self.out[index] = self.view.get(self.tree, self.keys[index].as_ref(), Value::copy_of)?;
        Ok(())
    }

    /// Completes the oldest look-up, then goes on with those behind it whose pages have come.
    fn finish_oldest(&mut self) -> Result<()> {
        if let Some((oldest, _)) = self.waiting.pop_front() {
            self.read(oldest)?;
        }
        for _ in 0..self.waiting.len() {
            let Some((index, page)) = self.waiting.pop_front() else { break };
            if self.view.pool().is_being_read(page) {
                self.waiting.push_back((index, page));
            } else {
                self.look(index)?;
            }
        }
        Ok(())
    }

    /// Completes a look-up, or notes for which page it waits.
    fn look(&mut self, index: usize) -> Result<()> {
        let key = self.keys[index].as_ref();
        match self.view.look(self.tree, key, Value::copy_of) {
            Ok((stored, leaf_lsn)) => {
                self.view.check()?;
                self.out[index] = (self.view.value_of(stored, key)?, leaf_lsn);
                Ok(())
            }
            Err(Stop::Missing(page)) => {
                self.asked.push(page);
                self.waiting.push_back((index, page));
                Ok(())
            }
            // Told as every read tells it.
            Err(Stop::Corrupt(_)) => self.read(index),
        }
    }

    /// Has the processor fetch the leaves of the keys below `end`, as far as they are in memory: the misses of several look-ups at once.
    fn fetch_to(&mut self, end: usize) {
        while self.fetched < end.min(self.keys.len()) {
            self.tree.hint(self.view.pool(), self.keys[self.fetched].as_ref());
            self.fetched += 1;
        }
    }

    fn ask(&mut self) {
        self.view.pool().prefetch(&self.asked);
        self.asked.clear();
    }
}
