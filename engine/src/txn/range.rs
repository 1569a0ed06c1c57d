//! A range as a transaction sees it: what the database held at its beginning, with its own writes on top.
//!
//! Invariants:
//! 1. What the scan of the database has gone over, from either end, and no more, stands in the transaction's footprint, from before the
//!    entry is given out.
//! 2. Of a key that stands in both, the transaction's write counts.

use super::Transaction;
use super::footprint::KeyRange;
use super::write_set::{Space, Write};
use crate::btree::TreeId;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::keyspace::Keyspace;
use crate::range::{Entry, Scan};
use crate::value::Value;
use std::collections::btree_map;
use std::ops::Bound;

/// Entries of a keyspace in a range of keys, as a transaction sees them; see [`Transaction::range`].
#[derive(Debug)]
pub struct TransactionRange<'t> {
    transaction: &'t Transaction,
    error: Option<Error>,
    base: Option<Base>,
    space: Option<&'t Space>,
    own: btree_map::Range<'t, Vec<u8>, Write>,
    /// What was taken from either end and not yet given out.
    front: Peeked<'t>,
    back: Peeked<'t>,
}

/// The scan of what the database holds.
#[derive(Debug)]
struct Base {
    scan: Scan,
    tree: TreeId,
    range: KeyRange,
    /// Numbers of what was gone over from the front and from the back, in the footprint.
    noted: [Option<usize>; 2],
}

#[derive(Debug, Default)]
struct Peeked<'t> {
    base: Option<Entry>,
    own: Option<(&'t Vec<u8>, &'t Write)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Front,
    Back,
}

static NO_WRITES: std::collections::BTreeMap<Vec<u8>, Write> = std::collections::BTreeMap::new();

impl<'t> TransactionRange<'t> {
    pub(super) fn new(transaction: &'t Transaction, keyspace: &Keyspace, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Self {
        let found = transaction.state_of(keyspace).and_then(|state| Ok((state, transaction.base(state)?)));
        let none = || NO_WRITES.range::<[u8], _>(..);
        let (front, back) = Default::default();
        let empty = TransactionRange { transaction, error: None, base: None, space: None, own: none(), front, back };
        let (state, tree) = match found {
            Ok(found) => found,
            Err(error) => return TransactionRange { error: Some(error), ..empty },
        };
        let space = transaction.writes.find(state).map(|index| &transaction.writes.spaces[index]);
        if is_crossed(&from, &to) {
            return empty;
        }
        let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let own = space.map_or_else(none, |space| space.keys.range::<[u8], _>(bounds));
        let base = tree.map(|tree| Base {
            scan: Scan::new(transaction.view.clone(), tree, from.clone(), to.clone()),
            tree: tree.id,
            range: (from, to),
            noted: [None; 2],
        });
        TransactionRange { base, space, own, ..empty }
    }

    fn step(&mut self, side: Side) -> Result<Option<(Vec<u8>, Value)>> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        loop {
            self.peek(side)?;
            let peeked = if side == Side::Front { &mut self.front } else { &mut self.back };
            let order = match (&peeked.base, peeked.own) {
                (None, None) => return Ok(None),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((base, _)), Some((own, _))) if side == Side::Front => base.cmp(own),
                (Some((base, _)), Some((own, _))) => own.cmp(base),
            };
            if order == std::cmp::Ordering::Less {
                return Ok(peeked.base.take());
            }
            if order == std::cmp::Ordering::Equal {
                peeked.base = None;
            }
            if let Some((key, Some(value))) = peeked.own.take() {
                return Ok(Some((key.clone(), Value::copy_of(value))));
            }
        }
    }

    /// Takes the next entry of each kind from one end. Where there is none left, what the other end has taken may be it.
    fn peek(&mut self, side: Side) -> Result<()> {
        let (mine, other) = match side {
            Side::Front => (&mut self.front, &mut self.back),
            Side::Back => (&mut self.back, &mut self.front),
        };
        if mine.own.is_none() {
            mine.own = if side == Side::Front { self.own.next() } else { self.own.next_back() };
            mine.own = mine.own.or_else(|| other.own.take());
        }
        while mine.base.is_none() {
            let Some(base) = &mut self.base else { break };
            let Some(entry) = base.next(self.transaction, side)? else {
                mine.base = other.base.take();
                break;
            };
            let is_hidden = self.space.is_some_and(|space| space.is_hidden(&entry.0));
            mine.base = Some(entry).filter(|_| !is_hidden);
        }
        Ok(())
    }
}

impl Base {
    /// The next entry of the database, which is noted as read.
    fn next(&mut self, transaction: &Transaction, side: Side) -> Result<Option<Entry>> {
        let entry = match side {
            Side::Front => self.scan.step_forward(),
            Side::Back => self.scan.step_backward(),
        }?;
        let end = entry.as_ref().map(|(key, _)| Bound::Included(key.clone()));
        let (from, to) = self.range.clone();
        let range = match side {
            Side::Front => (from, end.unwrap_or(to)),
            Side::Back => (end.unwrap_or(from), to),
        };
        transaction.has_read(self.scan.newest(), |footprint| {
            if transaction.shared().options.fault.is(Fault::RangesNotValidated) {
                return;
            }
            let noted = &mut self.noted[usize::from(side == Side::Back)];
            match noted {
                Some(number) => footprint.set_range(self.tree, *number, range),
                None => *noted = Some(footprint.range(self.tree, range)),
            }
        });
        Ok(entry)
    }
}

/// Whether nothing can lie between two bounds; `BTreeMap` panics at some of these.
fn is_crossed(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
    }
}

impl Iterator for TransactionRange<'_> {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Side::Front).transpose()
    }
}

impl DoubleEndedIterator for TransactionRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Side::Back).transpose()
    }
}
