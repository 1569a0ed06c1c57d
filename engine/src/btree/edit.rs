//! Changing single entries of a page in place.
//!
//! 1. The caller holds the page's exclusive latch (`PageMut` says so) and has found the entry's place.
//! 2. What may fail, for a page whose bytes are wrong or full, fails before the first byte has changed.
//! 3. `lower`, `upper` and `dead` of the header are true after each function.
//!
//! A page that is to be made anew, in a split or a merge, is built in private memory instead: see `build`.

use super::TreeId;
use super::access::Plain;
use super::layout::*;
use super::node::{Fault, Node, Slot};
use ashlar_bufferpool::{PageId, PageMut};
use std::ops::Range;

/// What stands beside a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry<'a> {
    /// In a leaf: kind and bytes of a value.
    Value(u8, &'a [u8]),
    /// In an inner page.
    Child(PageId),
}

impl Entry<'_> {
    /// Bytes of the cell beside a suffix of `suffix_len` bytes.
    pub(crate) fn cell_len(&self, suffix_len: usize) -> usize {
        match self {
            Entry::Value(_, bytes) => leaf_entry_len(suffix_len, bytes.len()) - SLOT_LEN,
            Entry::Child(_) => inner_entry_len(suffix_len) - SLOT_LEN,
        }
    }
}

/// The numbers of the header that an edit changes.
struct Bounds {
    count: usize,
    upper: usize,
    dead: usize,
}

const _: () = assert!(UPPER_AT == LOWER_AT + 4, "lower and upper are stored as one number");

impl Bounds {
    fn of(page: &PageMut) -> Bounds {
        let view = page.view();
        Bounds {
            count: usize::from(view.u16(COUNT_AT)),
            upper: view.u32(UPPER_AT) as usize,
            dead: usize::from(view.u16(DEAD_AT)),
        }
    }

    /// Adds a cell of `len` bytes to the dead.
    fn bury(&mut self, len: usize) -> Result<(), Fault> {
        self.dead += len;
        if self.dead > usize::from(u16::MAX) { Err("the page has more dead bytes than bytes") } else { Ok(()) }
    }

    fn put(&self, page: &mut PageMut) {
        let lower = SLOTS_AT + self.count * SLOT_LEN;
        page.put_u64(LOWER_AT, lower as u64 | (self.upper as u64) << 32);
        page.put_u16(COUNT_AT, self.count as u16);
        page.put_u16(DEAD_AT, self.dead as u16);
    }
}

/// Puts an entry before slot `index`. False: it doesn't fit, nothing has changed.
pub(crate) fn insert(page: &mut PageMut, tree: TreeId, index: usize, suffix: &[u8], entry: Entry<'_>) -> Result<bool, Fault> {
    let node = Node::open(Plain(page.bytes()), tree)?;
    let count = node.count();
    if index > count {
        return Err("an entry was to stand behind the last slot");
    }
    let cell_len = entry.cell_len(suffix.len());
    if !make_gap(page, tree, SLOT_LEN + cell_len, None)? {
        return Ok(false);
    }
    let mut bounds = Bounds::of(page);
    bounds.upper -= cell_len;
    bounds.count += 1;
    write_cell(page, bounds.upper, suffix.get(HEAD_LEN..).unwrap_or(&[]), entry);
    let at = SLOTS_AT + index * SLOT_LEN;
    page.move_within(at, at + SLOT_LEN, (count - index) * SLOT_LEN);
    page.put_u64(at, Slot::new(suffix, bounds.upper).0);
    bounds.put(page);
    Ok(true)
}

/// Puts another value into slot `index` of a leaf. False: it doesn't fit, nothing has changed.
pub(crate) fn replace_value(page: &mut PageMut, tree: TreeId, index: usize, kind: u8, value: &[u8]) -> Result<bool, Fault> {
    let node = Node::open(Plain(page.bytes()), tree)?;
    let old = node.cell(index)?;
    let rest = rest_len(node.slot(index).suffix_len());
    let new_len = LEAF_CELL_HEADER + rest + value.len();
    // A cell that grows moves, and the key's rest with it.
    let key_rest = if new_len > old.len() { old[LEAF_CELL_HEADER..][..rest].to_vec() } else { Vec::new() };
    let Some(at) = place_cell(page, tree, index, new_len)? else { return Ok(false) };
    page.copy_from(at + LEAF_CELL_HEADER, &key_rest);
    write_value(page, at, rest, kind, value);
    Ok(true)
}

/// Puts another separator before the child of slot `index` of an inner page, between the separators beside it. False: it
/// doesn't fit, nothing has changed.
pub(crate) fn replace_key(page: &mut PageMut, tree: TreeId, index: usize, suffix: &[u8]) -> Result<bool, Fault> {
    let entry = Entry::Child(Node::open(Plain(page.bytes()), tree)?.child(index));
    let Some(at) = place_cell(page, tree, index, entry.cell_len(suffix.len()))? else { return Ok(false) };
    write_cell(page, at, suffix.get(HEAD_LEN..).unwrap_or(&[]), entry);
    page.put_u64(SLOTS_AT + index * SLOT_LEN, Slot::new(suffix, at).0);
    Ok(true)
}

/// Finds the cell of slot `index` a place of `len` bytes: where it is, if it doesn't grow; otherwise elsewhere, and what stood in
/// it is lost. `None`: there is no room, nothing has changed.
fn place_cell(page: &mut PageMut, tree: TreeId, index: usize, len: usize) -> Result<Option<usize>, Fault> {
    let node = Node::open(Plain(page.bytes()), tree)?;
    let (slot, old_len) = (node.slot(index), node.cell(index)?.len());
    let mut bounds = Bounds::of(page);
    if len <= old_len {
        bounds.bury(old_len - len)?;
        bounds.put(page);
        return Ok(Some(slot.offset()));
    }
    if node.gap() >= len {
        bounds.bury(old_len)?;
    } else if make_gap(page, tree, len, Some(index))? {
        bounds = Bounds::of(page);
    } else {
        return Ok(None);
    }
    bounds.upper -= len;
    page.put_u64(SLOTS_AT + index * SLOT_LEN, slot.at(bounds.upper).0);
    bounds.put(page);
    Ok(Some(bounds.upper))
}

/// Takes the slots of `gone` and their cells away.
pub(crate) fn remove(page: &mut PageMut, tree: TreeId, gone: Range<usize>) -> Result<(), Fault> {
    let node = Node::open(Plain(page.bytes()), tree)?;
    let count = node.count();
    if gone.start > gone.end || gone.end > count {
        return Err("a slot to be removed is not there");
    }
    let mut bounds = Bounds::of(page);
    for index in gone.clone() {
        let cell_len = node.cell(index)?.len();
        if node.slot(index).offset() == bounds.upper {
            bounds.upper += cell_len;
        } else {
            bounds.bury(cell_len)?;
        }
    }
    bounds.count -= gone.len();
    if bounds.count == 0 {
        (bounds.upper, bounds.dead) = (node.heap_end(), 0);
    }
    let [from, to] = [gone.end, gone.start].map(|index| SLOTS_AT + index * SLOT_LEN);
    page.move_within(from, to, (count - gone.end) * SLOT_LEN);
    bounds.put(page);
    Ok(())
}

/// Notes that the commit at `lsn` has changed the page.
pub(crate) fn raise_lsn(page: &mut PageMut, lsn: u64) {
    if lsn > page.u64(LSN_AT) {
        page.put_u64(LSN_AT, lsn);
    }
}

/// Sees to it that there are `need` bytes between slots and heap, if there can be. The cell of slot `without` may go; if the
/// answer is true and the heap was compacted, it is gone, and the slot is to be given another.
fn make_gap(page: &mut PageMut, tree: TreeId, need: usize, without: Option<usize>) -> Result<bool, Fault> {
    let node = Node::open(Plain(page.bytes()), tree)?;
    if without.is_none() && node.gap() >= need {
        return Ok(true);
    }
    let gone = without.map_or(Ok(0), |index| node.cell(index).map(<[u8]>::len))?;
    if node.free() + gone < need {
        return Ok(false);
    }
    compact(page, tree, need, without)?;
    Ok(true)
}

/// Joins the free bytes of a page: moves all cells, but that of slot `without`, to the end of the heap.
fn compact(page: &mut PageMut, tree: TreeId, need: usize, without: Option<usize>) -> Result<(), Fault> {
    let node = Node::open(Plain(page.bytes()), tree)?;
    let (count, end) = (node.count(), node.heap_end());
    // In a page whose bytes are wrong, cells may overlap and add up to more than the heap.
    let mut heap = Vec::with_capacity(end - SLOTS_AT);
    let mut cells = Vec::with_capacity(count);
    for index in (0..count).filter(|&index| Some(index) != without) {
        let cell = node.cell(index)?;
        heap.extend_from_slice(cell);
        cells.push((index, node.slot(index), heap.len() - cell.len()));
    }
    if heap.len() + SLOTS_AT + count * SLOT_LEN + need > end {
        return Err("the page's cells and dead bytes are more than its heap");
    }
    let upper = end - heap.len();
    page.copy_from(upper, &heap);
    for (index, slot, offset) in cells {
        page.put_u64(SLOTS_AT + index * SLOT_LEN, slot.at(upper + offset).0);
    }
    Bounds { count, upper, dead: 0 }.put(page);
    Ok(())
}

fn write_cell(page: &mut PageMut, at: usize, rest: &[u8], entry: Entry<'_>) {
    match entry {
        Entry::Value(kind, bytes) => {
            page.copy_from(at + LEAF_CELL_HEADER, rest);
            write_value(page, at, rest.len(), kind, bytes);
        }
        Entry::Child(child) => {
            page.put_u64(at, child.0);
            page.copy_from(at + INNER_CELL_HEADER, rest);
        }
    }
}

/// Writes all of a leaf's cell but the key's rest, which has `rest` bytes.
fn write_value(page: &mut PageMut, at: usize, rest: usize, kind: u8, value: &[u8]) {
    let [low, high] = (value.len() as u16).to_le_bytes();
    page.copy_from(at, &[low, high, kind]);
    page.copy_from(at + LEAF_CELL_HEADER + rest, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::build::{Blank, Builder};
    use crate::btree::search::Place;
    use crate::btree::testing::{random_key, random_value};
    use ashlar_disk::AlignedBuf;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeMap;

    const TREE: TreeId = TreeId(7);
    type Model = BTreeMap<Vec<u8>, (u8, Vec<u8>)>;

    fn empty_leaf<'a>(buf: &'a mut AlignedBuf, lower: &[u8], upper: Option<&[u8]>) -> &'a mut PageMut {
        let page = PageMut::over(buf);
        let mut builder = Builder::new(page.len());
        assert!(builder.start(Blank { tree: TREE, level: 0, lsn: 1, lower, upper }));
        builder.install(page, PageId(3));
        page
    }

    fn assert_same(page: &PageMut, model: &Model) {
        let node = Node::open(Plain(page.bytes()), TREE).unwrap();
        assert_eq!(node.count(), model.len());
        let mut key = Vec::new();
        let mut used = node.lower_len() + node.upper_len();
        for (index, (expected, (kind, value))) in model.iter().enumerate() {
            node.key_into(index, &mut key).unwrap();
            assert_eq!((&key, node.value(index).unwrap()), (expected, (*kind, &value[..])));
            used += node.entry_len(index);
        }
        assert_eq!(node.used(), used, "the header's account of the page's bytes");
    }

    fn assert_finds(page: &PageMut, model: &Model, key: &[u8]) {
        let below = model.keys().filter(|other| other[..] < *key).count();
        let expected = if model.contains_key(key) { Place::At(below) } else { Place::Before(below) };
        assert_eq!(Node::open(Plain(page.bytes()), TREE).unwrap().find(key), Ok(expected));
        assert_eq!(Node::open(page.view(), TREE).unwrap().find(key), Ok(expected), "word by word");
    }

    /// Random edits of a leaf against a map, for fences that give it no prefix, a short and a long one.
    #[test]
    fn a_leaf_is_a_sorted_map() {
        let fences: [(&[u8], Option<&[u8]>); 4] =
            [(b"", None), (b"a long", Some(b"a lonh")), (b"kk", Some(b"kkkkk")), (&[0xFF, 0xFF, 0xFF], None)];
        for seed in 0..60 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let page_size = 4096 << (seed % 5);
            let (lower, upper) = fences[random.random_range(0..4)];
            let mut buf = AlignedBuf::zeroed(page_size);
            let page = empty_leaf(&mut buf, lower, upper);
            let mut model = Model::new();
            for step in 0..1500 {
                let mut key = random_key(&mut random, 200);
                if step % 2 == 0 && !model.is_empty() {
                    key = model.keys().nth(random.random_range(0..model.len())).unwrap().clone();
                } else if key[..] < *lower || upper.is_some_and(|upper| key[..] >= *upper) {
                    key = [lower, &key].concat();
                    if upper.is_some_and(|upper| key[..] >= *upper) {
                        continue;
                    }
                }
                edit_both(page, &mut model, &key, &mut random, page_size);
                assert_finds(page, &model, &key);
                if step % 50 == 0 {
                    assert_same(page, &model);
                }
            }
            assert_same(page, &model);
        }
    }

    fn edit_both(page: &mut PageMut, model: &mut Model, key: &[u8], random: &mut ChaCha8Rng, page_size: usize) {
        let node = Node::open(Plain(page.bytes()), TREE).unwrap();
        let (free, prefix) = (node.free(), node.prefix_len());
        let (kind, value) = random_value(random, key, page_size);
        match node.find(key).unwrap() {
            Place::At(index) if random.random_range(0..3) == 0 => {
                remove(page, TREE, index..index + 1).unwrap();
                model.remove(key);
            }
            Place::At(index) => {
                let room = free + model[key].1.len();
                let fits = replace_value(page, TREE, index, kind, &value).unwrap();
                assert_eq!(fits, value.len() <= room || value.len() <= model[key].1.len());
                if fits {
                    model.insert(key.to_vec(), (kind, value));
                }
            }
            Place::Before(index) => {
                let suffix = &key[prefix..];
                let fits = insert(page, TREE, index, suffix, Entry::Value(kind, &value)).unwrap();
                assert_eq!(fits, leaf_entry_len(suffix.len(), value.len()) <= free);
                if fits {
                    model.insert(key.to_vec(), (kind, value));
                }
            }
        }
    }

    /// Whatever stands in a page, no function panics; what it can't make sense of is a fault.
    #[test]
    fn wrong_bytes_are_faults_not_panics() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut faults = 0;
        for _ in 0..3000 {
            let mut buf = AlignedBuf::zeroed(4096);
            let page = empty_leaf(&mut buf, b"kk", Some(b"kkkkk"));
            for i in 0..40u8 {
                insert(page, TREE, usize::from(i), &[b'k', i, i, i, i, i], Entry::Value(0, &[i; 20])).unwrap();
            }
            for _ in 0..random.random_range(1..20) {
                let at = if random.random() { random.random_range(32..500) } else { random.random_range(0..4096) };
                page.put_u8(at, random.random());
            }
            let index = random.random_range(0..45);
            let _ = Node::open(page.view(), TREE).and_then(|node| node.find(b"kkk\x05\x05\x05"));
            let outcomes = [
                replace_value(page, TREE, index, 1, &[1; 300]),
                remove(page, TREE, index..index + 1).map(|()| true),
                insert(page, TREE, index, b"kqqqqqqq", Entry::Value(0, &[2; 900])),
                insert(page, TREE, index, b"kqqqqqqq", Entry::Value(0, &[2; 900])),
                insert(page, TREE, index, b"kqqqqqqq", Entry::Value(0, &[2; 900])),
            ];
            faults += outcomes.iter().filter(|outcome| outcome.is_err()).count();
            if let Ok(node) = Node::open(Plain(page.bytes()), TREE) {
                let mut key = Vec::new();
                for index in 0..node.count() {
                    let _ = (node.key_into(index, &mut key), node.value(index), node.cell(index), node.entry_len(index));
                }
                let _ = node.covers(b"k");
            }
        }
        assert!(faults > 1000, "{faults}");
    }
}
