//! Which trees are keyspaces, and what they are called: from the catalog's leaves, and what the log says on top.
//!
//! A tree that the catalog does not name, or lists as dropped, is gone where the catalog is of the checkpoint that is read and whole; one
//! that the log drops or replaces is gone in any case. Any other may have been a keyspace, and comes back under a made-up name.

use super::leaf::Age;
use super::log::{Moment, Whole};
use crate::btree::LonePage;
use crate::catalog::{self, Entry};
use crate::stranded::Pieces;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

/// A keyspace as the catalog has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Named {
    tree: u64,
    /// Entries, as the checkpoint counts them.
    len: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: BTreeMap<String, Named>,
    /// Trees that the catalog says have been dropped.
    listed_dropped: BTreeSet<u64>,
    /// Trees that the log says have been dropped or replaced.
    dropped: BTreeSet<u64>,
    /// Trees that the log has made, empty: whatever no leaf holds of them was empty then.
    made: BTreeSet<u64>,
    /// The stretches of the catalog that leaves cover, and how old those are.
    covered: Vec<(Vec<u8>, Option<Vec<u8>>, Age)>,
    /// Writes that are not in their trees.
    pub(super) stranded: Pieces,
    /// Something of the catalog is missing.
    pub(super) is_incomplete: bool,
    /// Entries that don't decode, or that name what can't be a name.
    pub(super) faults: Vec<String>,
    /// The longest key possible.
    key_max: usize,
}

/// What becomes of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is this keyspace. How many entries the catalog says there are, where it is of the checkpoint.
    Keyspace(String, Option<u64>),
    /// It is gone.
    Gone,
    /// Nobody knows.
    Unknown,
}

impl Names {
    /// Of a database with keys of at most so many bytes.
    pub(super) fn new(key_max: usize) -> Names {
        Names { key_max, ..Names::default() }
    }

    fn add_name(&mut self, name: &str, tree: u64, len: Option<u64>) {
        match catalog::check_name(name, self.key_max) {
            Ok(()) => {
                self.names.insert(name.to_owned(), Named { tree, len });
            }
            Err(e) => self.faults.push(e.to_string()),
        }
    }

    /// Takes what a leaf of the catalog has from `from` on and below `to`.
    pub(super) fn add(&mut self, page: &LonePage<'_>, from: &[u8], to: Option<&[u8]>, age: Age) {
        let mut key = Vec::new();
        for index in 0..page.count() {
            let (Ok(()), Ok((_, value))) = (page.key_into(index, &mut key), page.value(index)) else { continue };
            if &key[..] < from || to.is_some_and(|to| &key[..] >= to) {
                continue;
            }
            match catalog::decode(&key, value, 0) {
                Ok(Entry::Keyspace(state)) => {
                    if let Ok(tree) = state.tree() {
                        self.add_name(&state.name, tree.id.0, Some(state.len.load(Relaxed)));
                    }
                }
                Ok(Entry::Dropped(tree)) => {
                    self.listed_dropped.insert(tree.id.0);
                }
                Ok(Entry::Setting) => {}
                Ok(Entry::Stranded(piece)) => self.stranded.add(piece),
                Err(e) => self.faults.push(e.to_string()),
            }
        }
        self.covered.push((from.to_vec(), to.map(<[u8]>::to_vec), age));
    }

    /// Applies what the log says, each operation where `is_newer` than the leaf that its name falls in.
    pub(super) fn apply(&mut self, whole: &[(Moment, Whole)], is_newer: impl Fn(Option<Age>, Moment) -> bool) {
        for (moment, operation) in whole {
            let (Whole::Created { name, .. } | Whole::Dropped { name, .. } | Whole::Exchanged { name, .. }) = operation;
            // Trees are never made twice, and what is dropped stays so, however old the operation.
            match operation {
                Whole::Created { tree, .. } => {
                    self.made.insert(*tree);
                }
                Whole::Dropped { tree, .. } => {
                    self.dropped.insert(*tree);
                }
                Whole::Exchanged { tree, new_tree, is_empty, .. } => {
                    if *is_empty {
                        self.made.insert(*new_tree);
                    }
                    self.dropped.insert(*tree);
                }
            }
            if !is_newer(self.age_of(name), *moment) {
                continue;
            }
            match operation {
                Whole::Created { tree, name } => self.add_name(name, *tree, None),
                Whole::Exchanged { new_tree, name, .. } => self.add_name(name, *new_tree, None),
                Whole::Dropped { tree, name } => {
                    if self.names.get(name).is_some_and(|named| named.tree == *tree) {
                        self.names.remove(name);
                    }
                }
            }
        }
        let dropped = &self.dropped;
        self.names.retain(|_, named| !dropped.contains(&named.tree));
    }

    fn age_of(&self, name: &str) -> Option<Age> {
        let key = catalog::keyspace_key(name);
        let covers = |(from, to, _): &&(Vec<u8>, Option<Vec<u8>>, Age)| *from <= key && to.as_ref().is_none_or(|to| key < *to);
        self.covered.iter().find(covers).map(|(_, _, age)| *age)
    }

    /// Whether the log made a tree, empty.
    pub(super) fn is_made(&self, tree: u64) -> bool {
        self.made.contains(&tree)
    }

    /// The trees of all keyspaces.
    pub(super) fn trees(&self) -> BTreeSet<u64> {
        self.names.values().map(|named| named.tree).collect()
    }

    /// Whether there is a keyspace of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// What becomes of a tree. `is_exact`: leaves and catalog are of one checkpoint.
    pub(super) fn fate(&self, tree: u64, is_exact: bool) -> Fate {
        if let Some((name, named)) = self.names.iter().find(|(_, named)| named.tree == tree) {
            return Fate::Keyspace(name.clone(), named.len.filter(|_| is_exact));
        }
        let is_listed = is_exact && (!self.is_incomplete || self.listed_dropped.contains(&tree));
        if is_listed || self.dropped.contains(&tree) { Fate::Gone } else { Fate::Unknown }
    }
}
