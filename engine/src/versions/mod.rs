//! What keys held before recent commits: in memory, for those who read at an older LSN than the newest.
//!
//! The trees hold only the newest applied state. For every key that a commit changes, an *entry* says what it held before: a
//! before-image, or that it was absent.
//!
//! ```text
//!   leaf 7, newest LSN 50:   apple = 3          pear = 9
//!   entries of leaf 7:       apple@50 was 2     fig@40 was 5     apple@30 absent
//!
//!   at LSN 50   apple = 3           pear = 9      the leaf is right: its LSN is not newer
//!   at LSN 45   apple = 2           pear = 9      apple@50 is the oldest entry of apple above 45
//!   at LSN 35   apple = 2  fig = 5  pear = 9      fig is seen though the leaf no longer has it
//!   at LSN 25              fig = 5  pear = 9
//! ```
//!
//! Invariants:
//! 1. Entries are added under the leaf's exclusive latch, before the leaf changes, and looked for under its shared latch: a reader
//!    meets both or neither.
//! 2. Reading key `k` at `S` on a leaf newer than `S`: of `k`'s entries above `S` the oldest is right, of equal LSN the one added
//!    first; where there is none, the leaf is right.
//! 3. A leaf that receives a range of keys from another takes their entries along, deleted keys' too. Only a leaf without entries is
//!    freed.
//! 4. An entry may go when the watermark and every live snapshot are at or past its LSN; nothing above the watermark ever goes.
//!    The protocol between those who begin to read and the one who prunes is in [`slots`].
//! 5. A snapshot that is taken away for memory is marked before anything that it needs goes.
//! 6. Only before-images that stand in their cells are copies. What an overflow or blob cell names stays allocated, and is *retired*:
//!    gone from the page map of the epoch that replaced it, but readable until no live snapshot can see it.
//!
//! Nothing of this is on disk: after a restart no snapshot is alive.

mod list;
pub(crate) mod slots;

use crate::btree::TreeId;
use crate::fault::Fault;
use ashlar_bufferpool::PageId;
use ashlar_disk::words;
use crossbeam::epoch;
use list::{Entry, List};
use slots::Slots;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Before-images as readers see them.
pub(crate) struct Versions {
    /// By a hash of the page id; entries of several pages may share a list.
    lists: Box<[List]>,
    pub(crate) slots: Slots,
    bytes: AtomicU64,
    entries: AtomicU64,
    /// Most bytes that entries may take while there is a snapshot to take away.
    limit: u64,
}

impl std::fmt::Debug for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Versions({} entries, {} bytes)", self.entries(), self.bytes())
    }
}

/// What a key held at the LSN that was asked for, where the leaf says something newer. An owned copy.
pub(crate) type Before = (Box<[u8]>, Option<(u8, Box<[u8]>)>);

impl Versions {
    fn list(&self, page: PageId) -> (usize, &List) {
        // Fibonacci hashing (Knuth, TAOCP 6.4): neighbouring ids go to lists far apart. The number of lists is a power of two.
        let hash = page.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let index = hash as usize & (self.lists.len() - 1);
        (index, &self.lists[index])
    }

    /// Asks the processor for what adding an entry of `page` touches first.
    #[inline]
    pub(crate) fn fetch(&self, page: PageId) {
        words::fetch(self.list(page).1);
    }

    /// Gives `found` what `key` on `page` held at `lsn`: `Some(None)` if it was absent, `None` if the leaf is right. Under the leaf's
    /// latch, the leaf being newer than `lsn`.
    pub(crate) fn before<R>(
        &self,
        page: PageId,
        key: &[u8],
        lsn: u64,
        found: impl FnOnce(Option<Option<(u8, &[u8])>>) -> R,
    ) -> R {
        let guard = epoch::pin();
        let newer = self.list(page).1.iter(&guard).take_while(|e| e.lsn > lsn);
        found(newer.filter(|e| e.page == page && e.key() == key).last().map(Entry::before))
    }

    /// Puts into `out`, sorted by key, each key on `page` for which the leaf is not right at `lsn`, with what it held. Under the leaf's
    /// latch.
    pub(crate) fn all_before(&self, page: PageId, lsn: u64, out: &mut Vec<Before>) {
        out.clear();
        let guard = epoch::pin();
        let mut newer: Vec<&Entry> =
            self.list(page).1.iter(&guard).take_while(|e| e.lsn > lsn).filter(|e| e.page == page).collect();
        // Oldest first, and stably: of each key the first is the right one.
        newer.reverse();
        newer.sort_by(|a, b| a.key().cmp(b.key()));
        newer.dedup_by(|later, first| later.key() == first.key());
        out.extend(newer.iter().map(|e| (e.key().into(), e.before().map(|(kind, bytes)| (kind, bytes.into())))));
    }

    /// Bytes that entries take, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    /// Most bytes that entries may take while there is a snapshot to take away.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }
}

/// Something that before-images alone still name.
#[derive(Debug)]
pub(crate) struct Retired {
    lsn: u64,
    pub(crate) kind: u8,
    pub(crate) bytes: Box<[u8]>,
}

/// The one who adds and prunes: whoever holds the apply lock.
#[derive(Debug)]
pub(crate) struct Writer {
    versions: Arc<Versions>,
    /// LSN and list of every entry added, oldest first; but for those that came out of order.
    added: VecDeque<(u64, u32)>,
    /// Entries that moved with their keys, and those of commits that were merged into the trees in the order of their keys.
    out_of_order: BinaryHeap<Reverse<(u64, u32)>>,
    /// Cells that were replaced and name something beside themselves, oldest first.
    retired: VecDeque<Retired>,
    /// Leaves that became sparse and could not be joined: the last commit that touched them, and a key on them.
    sparse: VecDeque<(u64, TreeId, Box<[u8]>)>,
    /// Everything needed begins above this.
    pruned_to: u64,
    /// Entries added since the last look at what may go.
    since_pruned: usize,
    /// After so many it is time to.
    prune_every: usize,
    /// Memory for the lists that a look finds something in.
    old: Vec<u32>,
}

/// After so many new entries it is time to look at what may go.
const PRUNE_EVERY: usize = 256;

impl Writer {
    /// No versions yet, in `lists` lists (rounded up to a power of two), of at most `limit` bytes; a commit above `applied` is
    /// the next.
    pub(crate) fn new(lists: usize, limit: u64, applied: u64, fault: Fault) -> Writer {
        let lists = (0..lists.next_power_of_two().clamp(64, 1 << 20)).map(|_| List::default()).collect();
        let (bytes, entries) = (AtomicU64::new(0), AtomicU64::new(0));
        let versions = Arc::new(Versions { lists, slots: Slots::new(fault), bytes, entries, limit });
        let (added, out_of_order, retired, sparse) = Default::default();
        Writer {
            versions,
            added,
            out_of_order,
            retired,
            sparse,
            pruned_to: applied,
            since_pruned: 0,
            prune_every: PRUNE_EVERY,
            old: Vec::new(),
        }
    }

    /// The same, pruned after so many new entries; `None`: as many as is good.
    pub(crate) fn pruned_every(self, entries: Option<usize>) -> Writer {
        Writer { prune_every: entries.unwrap_or(PRUNE_EVERY), ..self }
    }

    /// What readers use.
    pub(crate) fn versions(&self) -> &Arc<Versions> {
        &self.versions
    }

    /// `key` on `page` held `before` until the commit at `lsn`, the newest so far. Under the page's exclusive latch, before the page
    /// changes.
    pub(crate) fn add(&mut self, page: PageId, lsn: u64, key: &[u8], before: Option<(u8, &[u8])>) {
        self.insert(Entry::new(page, lsn, key, before), &epoch::pin());
        self.since_pruned += 1;
    }

    fn insert(&mut self, entry: Entry, guard: &epoch::Guard) {
        let (index, list) = self.versions.list(entry.page);
        self.versions.bytes.fetch_add(entry.size(), Relaxed);
        self.versions.entries.fetch_add(1, Relaxed);
        match self.added.back() {
            Some((newest, _)) if *newest > entry.lsn => self.out_of_order.push(Reverse((entry.lsn, index as u32))),
            _ => self.added.push_back((entry.lsn, index as u32)),
        }
        list.insert(entry, guard);
    }

    /// All keys from `lower` on and below `upper` have moved from one page to another. Under the exclusive latches of both.
    pub(crate) fn moved(&mut self, source: PageId, target: PageId, lower: &[u8], upper: Option<&[u8]>) {
        let guard = epoch::pin();
        let moving = |e: &&Entry| e.page == source && e.key() >= lower && upper.is_none_or(|upper| e.key() < upper);
        let mut copies: Vec<Entry> =
            self.versions.list(source).1.iter(&guard).filter(moving).map(|e| e.on_page(target)).collect();
        // What stands on the source stays there until it is old enough to go. Should the keys come back, it is met twice, and says
        // the same.
        while let Some(oldest) = copies.pop() {
            self.insert(oldest, &guard);
        }
    }

    /// Whether a page has entries.
    pub(crate) fn has_entries(&self, page: PageId) -> bool {
        self.versions.list(page).1.iter(&epoch::pin()).any(|e| e.page == page)
    }

    /// The commit at `lsn` has replaced a cell that names something beside itself.
    pub(crate) fn retire(&mut self, lsn: u64, kind: u8, bytes: Box<[u8]>) {
        self.retired.push_back(Retired { lsn, kind, bytes });
    }

    /// The leaf in which `key` lies is sparse, and has entries.
    pub(crate) fn left_sparse(&mut self, lsn: u64, tree: TreeId, key: &[u8]) {
        if self.sparse.back().is_none_or(|(_, t, k)| *t != tree || **k != *key) {
            self.sparse.push_back((lsn, tree, key.into()));
        }
    }

    /// Everything that anybody may still read at is at or above this.
    pub(crate) fn pruned_to(&self) -> u64 {
        self.pruned_to
    }

    /// Whether it is time to prune.
    pub(crate) fn is_due(&self) -> bool {
        self.since_pruned >= self.prune_every || self.versions.bytes() > self.versions.limit
    }

    /// Lets all entries go that nobody needs with the watermark where it is. Where they are over their limit all the same, the oldest
    /// snapshots are taken away.
    pub(crate) fn prune(&mut self, watermark: u64) {
        self.since_pruned = 0;
        loop {
            self.pruned_to = self.pruned_to.max(self.versions.slots.raise_horizon(watermark));
            self.cut();
            if self.versions.bytes() <= self.versions.limit || !self.versions.slots.take_oldest_away(watermark, None) {
                return;
            }
        }
    }

    fn cut(&mut self) {
        let horizon = self.pruned_to;
        let (mut old, mut count) = (std::mem::take(&mut self.old), 0);
        let is_old = |(lsn, _): &(u64, u32)| *lsn <= horizon;
        let in_order = std::iter::from_fn(|| self.added.pop_front_if(|oldest| is_old(oldest)));
        for (_, list) in in_order {
            old.push(list);
            count += 1;
        }
        while let Some(oldest) = self.out_of_order.peek_mut()
            && is_old(&oldest.0)
        {
            old.push(PeekMut::pop(oldest).0.1);
            count += 1;
        }
        if old.is_empty() {
            return;
        }
        old.sort_unstable();
        old.dedup();
        let guard = epoch::pin();
        let freed: u64 = old.drain(..).map(|list| self.versions.lists[list as usize].cut(horizon, &guard)).sum();
        self.old = old;
        self.versions.bytes.fetch_sub(freed, Relaxed);
        self.versions.entries.fetch_sub(count, Relaxed);
    }

    /// The next cell that nobody can see any more.
    pub(crate) fn next_retired(&mut self) -> Option<Retired> {
        let is_old = self.retired.front().is_some_and(|r| r.lsn <= self.pruned_to);
        if is_old { self.retired.pop_front() } else { None }
    }

    /// The next leaf that is to be joined with a neighbour, if it is still sparse.
    pub(crate) fn next_sparse(&mut self) -> Option<(TreeId, Box<[u8]>)> {
        let is_old = self.sparse.front().is_some_and(|(lsn, ..)| *lsn <= self.pruned_to);
        if is_old { self.sparse.pop_front().map(|(_, tree, key)| (tree, key)) } else { None }
    }

    /// Whether [`Writer::next_sparse`] has something.
    pub(crate) fn has_sparse(&self) -> bool {
        self.sparse.front().is_some_and(|(lsn, ..)| *lsn <= self.pruned_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slots::Kind;

    const PAGE: PageId = PageId(7);

    fn read(versions: &Versions, key: &str, lsn: u64) -> Option<Option<Vec<u8>>> {
        versions.before(PAGE, key.as_bytes(), lsn, |found| found.map(|v| v.map(|(_, bytes)| bytes.to_vec())))
    }

    /// The drawing in the header.
    fn drawn() -> Writer {
        let mut writer = Writer::new(64, 1 << 20, 0, Fault::None);
        writer.add(PAGE, 30, b"apple", None);
        writer.add(PAGE, 40, b"fig", Some((0, b"5")));
        writer.add(PAGE, 50, b"apple", Some((0, b"2")));
        writer
    }

    #[test]
    fn the_oldest_entry_above_is_right() {
        let writer = drawn();
        let v = writer.versions();
        assert_eq!(read(v, "apple", 50), None);
        assert_eq!(read(v, "apple", 45), Some(Some(b"2".to_vec())));
        assert_eq!(read(v, "apple", 30), Some(Some(b"2".to_vec())));
        assert_eq!(read(v, "apple", 29), Some(None));
        assert_eq!(read(v, "pear", 0), None);
        let mut all = Vec::new();
        v.all_before(PAGE, 35, &mut all);
        let shown: Vec<_> = all.iter().map(|(k, v)| (&**k, v.as_ref().map(|(_, b)| &**b))).collect();
        assert_eq!(shown, [(&b"apple"[..], Some(&b"2"[..])), (b"fig", Some(b"5"))]);
        v.all_before(PAGE, 25, &mut all);
        assert_eq!(all.iter().map(|(k, v)| (k.len(), v.is_some())).collect::<Vec<_>>(), [(5, false), (3, true)]);
        v.all_before(PageId(8), 0, &mut all);
        assert!(all.is_empty());
    }

    #[test]
    fn of_one_commit_the_entry_added_first_counts() {
        let mut writer = Writer::new(64, 1 << 20, 0, Fault::None);
        writer.add(PAGE, 5, b"k", Some((0, b"before the commit")));
        writer.add(PAGE, 5, b"k", None);
        assert_eq!(read(writer.versions(), "k", 4), Some(Some(b"before the commit".to_vec())));
    }

    #[test]
    fn entries_move_with_their_keys_and_count_once_when_they_come_back() {
        let mut writer = drawn();
        let target = PageId(9);
        writer.moved(PAGE, target, b"b", None);
        assert!(writer.has_entries(target));
        writer.versions().before(target, b"fig", 35, |found| assert_eq!(found, Some(Some((0, &b"5"[..])))));
        writer.versions().before(target, b"apple", 0, |found| assert!(found.is_none()));
        writer.moved(target, PAGE, b"b", None);
        let mut all = Vec::new();
        writer.versions().all_before(PAGE, 0, &mut all);
        assert_eq!(all.len(), 2);
        writer.prune(50);
        assert!(!writer.has_entries(PAGE) && !writer.has_entries(target));
        assert_eq!((writer.versions().bytes(), writer.versions().entries()), (0, 0));
    }

    #[test]
    fn what_came_out_of_order_goes_as_soon_as_nobody_needs_it() {
        let mut writer = Writer::new(64, 1 << 20, 0, Fault::None);
        for lsn in [50, 20, 40, 10, 60, 30] {
            writer.add(PageId(lsn), lsn, b"k", None);
        }
        writer.prune(35);
        assert_eq!(
            [10, 20, 30, 40, 50, 60].map(|page| writer.has_entries(PageId(page))),
            [false, false, false, true, true, true]
        );
        assert_eq!(writer.versions().entries(), 3);
        writer.prune(60);
        assert_eq!((writer.versions().bytes(), writer.versions().entries()), (0, 0));
    }

    #[test]
    fn a_snapshot_holds_back_what_it_needs() {
        let mut writer = drawn();
        let claim = writer.versions().slots.claim(Kind::Reads, || 35);
        writer.retire(40, 1, b"cell".as_slice().into());
        writer.left_sparse(40, TreeId(1), b"x");
        writer.prune(60);
        assert_eq!(writer.versions().entries(), 2);
        assert!(writer.next_retired().is_none() && !writer.has_sparse());
        writer.versions().slots.release(&claim);
        writer.prune(60);
        assert_eq!(writer.versions().entries(), 0);
        assert!(writer.next_retired().is_some() && writer.next_sparse().is_some());
    }

    #[test]
    fn over_the_limit_the_oldest_snapshot_goes_and_nothing_above_the_watermark() {
        let mut writer = Writer::new(64, 2000, 0, Fault::None);
        let claims = [10, 20].map(|lsn| writer.versions().slots.claim(Kind::Reads, || lsn));
        for lsn in 1..60 {
            writer.add(PAGE, lsn, b"key", Some((0, b"value")));
        }
        writer.prune(15);
        assert!(writer.versions().slots.is_gone(&claims[0]) && !writer.versions().slots.is_gone(&claims[1]));
        assert_eq!(writer.versions().entries(), 59 - 15);
        writer.prune(60);
        assert!(writer.versions().slots.is_gone(&claims[1]));
        assert_eq!(writer.versions().bytes(), 0);
    }
}
