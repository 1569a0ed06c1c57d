//! Many point reads with their misses in flight together.

use crate::btree::{Stop, Tree};
use crate::database::Shared;
use crate::error::Result;
use crate::read::View;
use crate::value::fetch::Stored;
use crate::value::{Value, cell, overflow};
use ashlar_bufferpool::PageId;
use std::borrow::Borrow;
use std::collections::VecDeque;

/// Keys whose pages are being read at once, at most.
const WINDOW: usize = 64;

/// One frame in so many is for pages of values that are asked for before their turn, at most.
const VALUES_SHARE: usize = 8;

/// Pages that are asked for with one submission: the device begins with these while the next keys are looked up.
const ASKED_AT_ONCE: usize = 8;

/// So many keys ahead of the one that is looked up, the memory of what is in the cache is fetched.
const FETCHED_AHEAD: usize = 4;

/// Reads `keys` under a view, and gives of each what it holds and the LSN of its leaf: a sliding window of look-ups, each of which asks
/// for the page that it misses and is tried again when that has come; and so with the pages of a value that does not stand in its leaf.
/// Waiting for the oldest only, never for all: what is read behind it goes on meanwhile.
pub(crate) fn get_many<K: AsRef<[u8]>, H: Borrow<Shared>>(
    view: &View<H>,
    tree: Tree,
    keys: &[K],
) -> Result<Vec<(Option<Value>, u64)>> {
    let (out, waiting, asked) = Default::default();
    let mut reads = Reads { view, tree, keys, out, waiting, asked, in_flight: 0, fetched: 0 };
    reads.out.resize_with(keys.len(), || (None, 0));
    let mut next = 0;
    loop {
        while next < keys.len() && reads.waiting.len() < WINDOW {
            reads.fetch_to(next + FETCHED_AHEAD);
            reads.look(next)?;
            next += 1;
            if reads.asked.len() >= ASKED_AT_ONCE {
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

/// What a look-up waits for.
enum Wait {
    /// A page on the way to its leaf.
    Page(PageId),
    /// The value that its leaf, with this LSN, has elsewhere: these pages, or its turn where there are none.
    Value(Stored, u64, Vec<PageId>),
}

struct Reads<'a, K, H: Borrow<Shared>> {
    view: &'a View<H>,
    tree: Tree,
    keys: &'a [K],
    out: Vec<(Option<Value>, u64)>,
    /// Those that wait, and for what.
    waiting: VecDeque<(usize, Wait)>,
    /// Pages to be asked for, all at once.
    asked: Vec<PageId>,
    /// Pages of values that are waited for.
    in_flight: usize,
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
        match self.waiting.pop_front() {
            Some((oldest, Wait::Page(_))) => self.read(oldest)?,
            Some((oldest, Wait::Value(stored, leaf_lsn, pages))) => self.take_value(oldest, stored, leaf_lsn, &pages)?,
            None => {}
        }
        for _ in 0..self.waiting.len() {
            let Some((index, wait)) = self.waiting.pop_front() else { break };
            if self.goes_on(&wait) {
                self.waiting.push_back((index, wait));
                continue;
            }
            match wait {
                Wait::Page(_) => self.look(index)?,
                Wait::Value(stored, leaf_lsn, pages) if pages.is_empty() => self.ask_for_value(index, stored, leaf_lsn)?,
                Wait::Value(stored, leaf_lsn, pages) => self.take_value(index, stored, leaf_lsn, &pages)?,
            }
        }
        Ok(())
    }

    /// Whether what is waited for is still under way.
    fn goes_on(&self, wait: &Wait) -> bool {
        let pool = self.view.pool();
        match wait {
            Wait::Page(page) => pool.is_being_read(*page),
            Wait::Value(_, _, pages) => pages.iter().any(|&page| pool.is_being_read(page)),
        }
    }

    /// Completes a look-up, or notes what it waits for.
    fn look(&mut self, index: usize) -> Result<()> {
        match self.view.look(self.tree, self.keys[index].as_ref(), Value::copy_of) {
            Ok((Some(stored @ Stored::Elsewhere { .. }), leaf_lsn)) => {
                self.view.check()?;
                self.ask_for_value(index, stored, leaf_lsn)
            }
            Ok((stored, leaf_lsn)) => {
                self.view.check()?;
                self.out[index] = (self.view.value_of(stored, self.keys[index].as_ref())?, leaf_lsn);
                Ok(())
            }
            Err(Stop::Missing(page)) => {
                self.asked.push(page);
                self.waiting.push_back((index, Wait::Page(page)));
                Ok(())
            }
            // Told as every read tells it.
            Err(Stop::Corrupt(_)) => self.read(index),
        }
    }

    /// Completes a look-up whose value stands elsewhere, or asks for its pages, as far as there is room for them.
    fn ask_for_value(&mut self, index: usize, stored: Stored, leaf_lsn: u64) -> Result<()> {
        let mut pages = self.missing(&stored);
        if pages.is_empty() {
            return self.take_value(index, stored, leaf_lsn, &[]);
        }
        if self.in_flight + pages.len() > self.view.pool().frames() as usize / VALUES_SHARE {
            pages.clear();
        }
        self.in_flight += pages.len();
        self.asked.extend(&pages);
        self.waiting.push_back((index, Wait::Value(stored, leaf_lsn, pages)));
        Ok(())
    }

    /// The overflow pages of a value that are not in memory.
    fn missing(&self, stored: &Stored) -> Vec<PageId> {
        let pool = self.view.pool();
        let Stored::Elsewhere { kind, bytes } = stored else { return Vec::new() };
        if !pool.may_miss() {
            return Vec::new();
        }
        let mut pages = cell::overflow_pages(*kind, bytes, overflow::piece_len_max(pool.page_size()));
        pages.retain(|&page| !pool.is_resident(page));
        pages
    }

    /// Completes a look-up, for which these pages were asked for.
    fn take_value(&mut self, index: usize, stored: Stored, leaf_lsn: u64, pages: &[PageId]) -> Result<()> {
        self.in_flight -= pages.len();
        self.out[index] = (self.view.value_of(Some(stored), self.keys[index].as_ref())?, leaf_lsn);
        Ok(())
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
