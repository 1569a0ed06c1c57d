//! A list of before-images, newest first, that readers walk without a lock while one writer adds and cuts.
//!
//! Invariants:
//! 1. Entries stand in descending order of their LSNs; of equal ones the one added last stands first.
//! 2. There is one writer at a time: whoever has the [`Writer`](super::Writer) exclusively. An entry never changes once it can be
//!    found, but for what comes after it.
//! 3. An entry is only taken out with all that are behind it, and its memory goes when no reader that could have met it is left
//!    (epoch-based reclamation: Fraser, *Practical lock-freedom*, 2004; the implementation is `crossbeam-epoch`).

use ashlar_bufferpool::PageId;
use ashlar_disk::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crossbeam::epoch::{Atomic, Guard, Owned, Shared};

/// Bytes that an entry takes beside its key and value.
const OVERHEAD: usize = std::mem::size_of::<Entry>() + 32;

/// What a key on a page held before a commit.
pub(crate) struct Entry {
    /// The page on which the key stands.
    pub(crate) page: PageId,
    /// The commit that replaced it.
    pub(crate) lsn: u64,
    /// The kind of the value; `None`: the key was absent.
    kind: Option<u8>,
    key_len: u32,
    /// Key, then value.
    bytes: Box<[u8]>,
    next: Atomic<Entry>,
}

impl Entry {
    pub(crate) fn new(page: PageId, lsn: u64, key: &[u8], before: Option<(u8, &[u8])>) -> Entry {
        let value = before.map_or(&[][..], |(_, bytes)| bytes);
        let mut bytes = Vec::with_capacity(key.len() + value.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        let (kind, key_len) = (before.map(|(kind, _)| kind), key.len() as u32);
        Entry { page, lsn, kind, key_len, bytes: bytes.into(), next: Atomic::null() }
    }

    /// The same on another page.
    pub(crate) fn on_page(&self, page: PageId) -> Entry {
        Entry { page, lsn: self.lsn, kind: self.kind, key_len: self.key_len, bytes: self.bytes.clone(), next: Atomic::null() }
    }

    /// The key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[..self.key_len as usize]
    }

    /// What it held: kind and bytes; `None`: nothing.
    pub(crate) fn before(&self) -> Option<(u8, &[u8])> {
        self.kind.map(|kind| (kind, &self.bytes[self.key_len as usize..]))
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn size(&self) -> u64 {
        (OVERHEAD + self.bytes.len()) as u64
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct List {
    head: Atomic<Entry>,
}

impl List {
    /// The entries, newest first.
    pub(crate) fn iter<'g>(&self, guard: &'g Guard) -> Iter<'g> {
        // Acquire: pairs with the Release in `insert`; who finds an entry sees what stands in it.
        Iter { next: self.head.load(Acquire, guard), guard }
    }

    /// Adds an entry where it belongs. The caller is the only writer (invariant 2).
    pub(super) fn insert(&self, entry: Entry, guard: &Guard) {
        let mut link = &self.head;
        loop {
            let next = link.load(Acquire, guard);
            // SAFETY: only the writer, which is this thread, takes entries out; what `link` names is still in the list.
            match unsafe { next.as_ref() } {
                Some(there) if there.lsn > entry.lsn => link = &there.next,
                _ => {
                    entry.next.store(next, Relaxed);
                    link.store(Owned::new(entry), Release);
                    return;
                }
            }
        }
    }

    /// Takes out all entries whose LSN is `horizon` or below; gives the bytes they took. The caller is the only writer.
    pub(super) fn cut(&self, horizon: u64, guard: &Guard) -> u64 {
        let mut link = &self.head;
        loop {
            let next = link.load(Acquire, guard);
            // SAFETY: as in `insert`.
            match unsafe { next.as_ref() } {
                Some(there) if there.lsn > horizon => link = &there.next,
                Some(_) => {
                    // Release: a reader that sees the end here sees that the snapshots that needed the rest were marked.
                    link.store(Shared::null(), Release);
                    let size = Iter { next, guard }.map(Entry::size).sum();
                    let tail = next.as_raw() as usize;
                    // SAFETY: the tail has just been taken out, by the only writer, so that nobody else frees it; and this runs
                    // when every reader that may have met it has let go of its guard.
                    unsafe { guard.defer_unchecked(move || free_chain(tail as *mut Entry)) };
                    return size;
                }
                None => return 0,
            }
        }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let head = std::mem::replace(&mut self.head, Atomic::null());
        // SAFETY: `&mut self`: nobody else can find the list, and what was taken out of it is not in it.
        let first = unsafe { head.load(Relaxed, crossbeam::epoch::unprotected()) }.as_raw();
        // SAFETY: as above; each entry was made by `Owned::new` and is in one list only.
        unsafe { free_chain(first.cast_mut()) };
    }
}

/// Frees an entry and all behind it, one after the other: a list may be long.
///
/// # Safety
/// Nobody else can reach them, and each was made by `Owned::new`.
unsafe fn free_chain(mut first: *mut Entry) {
    while !first.is_null() {
        // SAFETY: the caller's promise; `Owned` is a box.
        let entry = unsafe { Box::from_raw(first) };
        // SAFETY: nobody else can reach the rest of the chain.
        first = unsafe { entry.next.load(Relaxed, crossbeam::epoch::unprotected()) }.as_raw().cast_mut();
    }
}

/// Entries of a list, newest first.
pub(crate) struct Iter<'g> {
    next: Shared<'g, Entry>,
    guard: &'g Guard,
}

impl<'g> Iterator for Iter<'g> {
    type Item = &'g Entry;

    fn next(&mut self) -> Option<&'g Entry> {
        // SAFETY: it was found in the list under this guard, so that its memory stays for as long as the guard.
        let entry = unsafe { self.next.as_ref() }?;
        // Acquire: as in `List::iter`.
        self.next = entry.next.load(Acquire, self.guard);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::epoch;

    fn lsns(list: &List) -> Vec<u64> {
        list.iter(&epoch::pin()).map(|e| e.lsn).collect()
    }

    #[test]
    fn entries_stand_newest_first_and_of_equal_ones_the_last_added() {
        let list = List::default();
        let guard = epoch::pin();
        for (lsn, key) in [(5, "a"), (7, "b"), (7, "c"), (6, "d"), (7, "e"), (1, "f")] {
            list.insert(Entry::new(PageId(1), lsn, key.as_bytes(), None), &guard);
        }
        let keys: Vec<u8> = list.iter(&guard).map(|e| e.key()[0]).collect();
        assert_eq!(lsns(&list), [7, 7, 7, 6, 5, 1]);
        assert_eq!(keys, b"ecbdaf");
    }

    #[test]
    fn a_cut_takes_the_old_ones_and_their_bytes() {
        let list = List::default();
        let guard = epoch::pin();
        let mut sizes = Vec::new();
        for lsn in 1..=6 {
            let entry = Entry::new(PageId(1), lsn, b"key", Some((0, &vec![7; lsn as usize])));
            sizes.push(entry.size());
            list.insert(entry, &guard);
        }
        let reader = epoch::pin();
        let mut held = list.iter(&reader);
        held.next();
        assert_eq!(list.cut(4, &guard), sizes[..4].iter().sum::<u64>());
        assert_eq!(lsns(&list), [6, 5]);
        assert_eq!(list.cut(4, &guard), 0);
        // Whoever was on the way meets what was cut in full.
        assert!(held.all(|e| e.before().is_some_and(|(_, value)| value.len() as u64 == e.lsn)));
        assert!(list.cut(9, &guard) > 0);
        assert!(lsns(&list).is_empty());
    }
}
