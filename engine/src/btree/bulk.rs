//! Building a tree from the bottom up, out of entries that come in order, into full pages.
//!
//! A page's separator, and with it its prefix, is known only when the first key of the next page is. So each level keeps the
//! entries of the page that comes next, until they are certainly more than one page; then it closes the page behind as many of
//! them as fit, and hands its id and lower fence to the level above. A page that is closed is not seen again: where it goes is
//! for a [`PageSink`] to say.

use super::build::{Blank, Builder, common_len};
use super::edit::Entry;
use super::layout::{Limits, capacity, inner_entry_len, leaf_entry_len, limits};
use super::{Tree, TreeError, TreeId};
use ashlar_bufferpool::{PageId, PageMut, PageStore, Pool};
use std::error::Error;
use std::fmt;

/// Where the pages of a bulk build go.
pub trait PageSink {
    /// Why a page can't be taken.
    type Error;

    /// Takes the next page, and gives it an id.
    ///
    /// # Errors
    /// The build ends.
    fn put(&mut self, page: Built<'_>) -> Result<PageId, Self::Error>;
}

/// A page that was built and has no id yet.
pub struct Built<'a>(&'a mut Builder);

impl Built<'_> {
    /// Makes `page` this page.
    pub fn install(self, page: &mut PageMut, id: PageId) {
        self.0.install(page, id);
    }
}

impl<'a> Built<'a> {
    /// Its bytes but for what is free between them: up to the end of the slots, and from the start of the heap on.
    pub(crate) fn parts(self, id: PageId) -> (&'a [u8], &'a [u8]) {
        self.0.parts(id)
    }
}

/// Puts the pages into the pool, as dirty pages like any other.
pub struct PoolSink<'a, S: PageStore>(pub &'a Pool<S>);

impl<S: PageStore> PageSink for PoolSink<'_, S> {
    type Error = TreeError<S::Error>;

    fn put(&mut self, page: Built<'_>) -> Result<PageId, Self::Error> {
        let mut frames = self.0.reserve(1)?;
        let mut guard = self.0.create(&mut frames);
        let id = guard.page();
        page.install(&mut guard, id);
        Ok(id)
    }
}

/// Why a bulk build has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BulkError<E> {
    /// A key or value is above the limits of the page size.
    TooLarge,
    /// The sink has refused a page.
    Sink(E),
}

impl<E: fmt::Display> fmt::Display for BulkError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BulkError::TooLarge => f.write_str("a key or value is too large for the tree's pages"),
            BulkError::Sink(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for BulkError<E> {}

/// What is settled for all pages of a build.
#[derive(Clone, Copy, Debug)]
pub struct BulkOptions {
    /// The identity of the tree.
    pub tree: TreeId,
    /// The LSN that all pages carry.
    pub lsn: u64,
    /// In bytes, as the sink's pages are.
    pub page_size: usize,
    /// How full a page may be, in percent of its room, 50 to 100.
    pub fill_percent: usize,
    /// As [`Tree::slots_max`].
    pub slots_max: u16,
}

/// A tree being built.
pub struct Bulk<P: PageSink> {
    options: BulkOptions,
    limits: Limits,
    /// Bytes that a page may use.
    used_max: usize,
    sink: P,
    levels: Vec<Level>,
    builder: Builder,
}

/// An entry that waits for its page. Its bytes are in its level's memory.
#[derive(Clone, Copy)]
struct Waiting {
    key_at: usize,
    key_len: usize,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// Behind the key: kind and length.
    Value(u8, usize),
    Child(PageId),
}

/// The entries of one level that are not yet in a page.
#[derive(Default)]
struct Level {
    bytes: Vec<u8>,
    waiting: Vec<Waiting>,
    /// The lower fence of the page that comes next.
    lower: Vec<u8>,
    /// Bytes that the entries take with their whole keys.
    whole_len: usize,
    pages: usize,
}

impl Level {
    fn key(&self, index: usize) -> &[u8] {
        let waiting = self.waiting[index];
        &self.bytes[waiting.key_at..waiting.key_at + waiting.key_len]
    }

    fn entry(&self, index: usize) -> Entry<'_> {
        let Waiting { key_at, key_len, what } = self.waiting[index];
        match what {
            What::Value(kind, len) => Entry::Value(kind, &self.bytes[key_at + key_len..key_at + key_len + len]),
            What::Child(child) => Entry::Child(child),
        }
    }

    fn push(&mut self, key: &[u8], entry: Entry<'_>) {
        let key_at = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let (what, len) = match entry {
            Entry::Value(kind, bytes) => {
                self.bytes.extend_from_slice(bytes);
                (What::Value(kind, bytes.len()), leaf_entry_len(key.len(), bytes.len()))
            }
            Entry::Child(child) => (What::Child(child), inner_entry_len(key.len())),
        };
        self.whole_len += len;
        self.waiting.push(Waiting { key_at, key_len: key.len(), what });
    }

    /// What the entries take at least, whatever the page's upper fence: with the longest prefix there can be.
    fn least_len(&self) -> usize {
        let Some(last) = self.waiting.len().checked_sub(1) else { return 0 };
        let prefix = common_len(&self.lower, self.key(last));
        self.whole_len.saturating_sub(self.waiting.len() * prefix) + self.lower.len()
    }

    /// What the first `count` entries take exactly in a page whose upper fence is `upper`.
    fn exact_len(&self, count: usize, upper: &[u8]) -> usize {
        let prefix = common_len(&self.lower, upper);
        let entries = self.waiting[..count].iter().enumerate().map(|(index, waiting)| match waiting.what {
            What::Value(_, len) => leaf_entry_len(waiting.key_len - prefix, len),
            What::Child(_) if index == 0 => inner_entry_len(0),
            What::Child(_) => inner_entry_len(waiting.key_len - prefix),
        });
        self.lower.len() + upper.len() + entries.sum::<usize>()
    }

    /// Takes the first `count` entries away.
    fn drop_first(&mut self, count: usize) {
        let rest_at = self.waiting.get(count).map_or(self.bytes.len(), |waiting| waiting.key_at);
        self.bytes.drain(..rest_at);
        self.waiting.drain(..count);
        self.whole_len = 0;
        for waiting in &mut self.waiting {
            waiting.key_at -= rest_at;
            self.whole_len += match waiting.what {
                What::Value(_, len) => leaf_entry_len(waiting.key_len, len),
                What::Child(_) => inner_entry_len(waiting.key_len),
            };
        }
    }
}

impl<P: PageSink> Bulk<P> {
    /// Begins an empty tree.
    pub fn new(sink: P, options: BulkOptions) -> Bulk<P> {
        let BulkOptions { page_size, fill_percent, .. } = options;
        let (limits, builder) = (limits(page_size), Builder::new(page_size));
        let used_max = capacity(page_size) * fill_percent.clamp(50, 100) / 100;
        Bulk { options, limits, used_max, sink, levels: vec![Level::default()], builder }
    }

    /// Where the pages go.
    pub fn sink(&mut self) -> &mut P {
        &mut self.sink
    }

    /// What an entry may take.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Appends an entry, whose key the caller knows to be above that of the one before.
    ///
    /// # Errors
    /// See [`BulkError`]. The build can't go on after one of the sink.
    ///
    /// # Panics
    /// In debug builds, where the key is not above the one before.
    pub fn push(&mut self, key: &[u8], kind: u8, value: &[u8]) -> Result<(), BulkError<P::Error>> {
        if key.len() > self.limits.key_max || value.len() > self.limits.inline_value_max(key.len()) {
            return Err(BulkError::TooLarge);
        }
        let leaves = &self.levels[0];
        debug_assert!(leaves.waiting.len().checked_sub(1).is_none_or(|last| leaves.key(last) < key), "keys ascend");
        self.append(0, key, Entry::Value(kind, value))
    }

    /// Closes the last pages and gives the tree, and the sink.
    ///
    /// # Errors
    /// [`BulkError::Sink`].
    pub fn finish(mut self) -> Result<(Tree, P), BulkError<P::Error>> {
        let mut level = 0;
        loop {
            if let Some(root) = self.close_last(level)? {
                let BulkOptions { tree, slots_max, .. } = self.options;
                return Ok((Tree { id: tree, root, slots_max }, self.sink));
            }
            level += 1;
        }
    }

    fn append(&mut self, level: usize, key: &[u8], entry: Entry<'_>) -> Result<(), BulkError<P::Error>> {
        if level == self.levels.len() {
            self.levels.push(Level::default());
        }
        self.levels[level].push(key, entry);
        while self.is_certainly_full(level) {
            self.close_one(level)?;
        }
        Ok(())
    }

    /// Whether the entries that wait on `level` can't all stand in the next page.
    fn is_certainly_full(&self, level: usize) -> bool {
        let waiting = &self.levels[level];
        let (count, used_max) = (waiting.waiting.len(), self.used_max);
        // The first is quickly told, and mostly enough.
        let too_long = || waiting.whole_len + waiting.lower.len() > used_max && waiting.least_len() > used_max;
        count > 1 && (too_long() || !self.slots_allow(count))
    }

    /// Closes the page that comes next on `level` behind as many entries as fit, but not behind the last.
    fn close_one(&mut self, level: usize) -> Result<(), BulkError<P::Error>> {
        let count = self.levels[level].waiting.len();
        for first_out in (1..count).rev() {
            let entries = &self.levels[level];
            let separator = match level {
                0 => shortest_between(entries.key(first_out - 1), entries.key(first_out)),
                _ => entries.key(first_out).to_vec(),
            };
            // Looked at before anything is copied.
            let len = entries.exact_len(first_out, &separator);
            if (first_out == 1 || len <= self.used_max) && self.build(level, first_out, Some(&separator)) {
                debug_assert_eq!(self.builder.used(), len);
                return self.put(level, first_out, separator);
            }
        }
        // A page holds any one entry between any two fences: see `Limits`.
        Err(BulkError::TooLarge)
    }

    /// Closes the last pages of `level`. If there is only one, it is the root.
    fn close_last(&mut self, level: usize) -> Result<Option<PageId>, BulkError<P::Error>> {
        loop {
            let count = self.levels[level].waiting.len();
            if self.slots_allow(count) && self.build(level, count, None) {
                break;
            }
            self.close_one(level)?;
        }
        if self.levels[level].pages > 0 {
            let count = self.levels[level].waiting.len();
            return self.put(level, count, Vec::new()).map(|()| None);
        }
        self.sink.put(Built(&mut self.builder)).map(Some).map_err(BulkError::Sink)
    }

    /// Builds the next page of `level` out of the first `count` entries. False: they don't fit.
    fn build(&mut self, level: usize, count: usize, upper: Option<&[u8]>) -> bool {
        let BulkOptions { tree, lsn, .. } = self.options;
        let entries = &self.levels[level];
        // A tree of 255 levels would have more pages than there are ids.
        let blank = Blank { tree, level: level as u8, lsn, lower: &entries.lower, upper };
        self.builder.start(blank)
            && (0..count).all(|index| match entries.entry(index) {
                Entry::Child(child) if index == 0 => self.builder.push_first(child),
                entry => self.builder.push(entries.key(index), entry) == Ok(true),
            })
    }

    /// Hands the page that was built to the sink and to the level above, and begins the next one at `separator`.
    fn put(&mut self, level: usize, count: usize, separator: Vec<u8>) -> Result<(), BulkError<P::Error>> {
        self.builder.close_gap();
        let page = self.sink.put(Built(&mut self.builder)).map_err(BulkError::Sink)?;
        let entries = &mut self.levels[level];
        entries.drop_first(count);
        entries.pages += 1;
        let lower = std::mem::replace(&mut entries.lower, separator);
        self.append(level + 1, &lower, Entry::Child(page))
    }

    fn slots_allow(&self, count: usize) -> bool {
        self.options.slots_max == 0 || count <= usize::from(self.options.slots_max)
    }
}

/// The shortest key above `below` and not above `above`.
fn shortest_between(below: &[u8], above: &[u8]) -> Vec<u8> {
    above[..common_len(below, above) + 1].to_vec()
}
