//! The names of the simulated disk: what calls see, what certainly survives a power cut, and the changes between the two.
//!
//! 1. A change is atomic: a rename is never found half done.
//! 2. A change is durable once every directory it touches has been synced; so are then the earlier changes of the same names.
//! 3. Of the others each may survive or not, but none without the earlier ones of the same names.
//! 4. A name survives only if its directory does.

use super::survival::Survival;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a name means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
struct NameChange {
    number: u64,
    removes: Option<PathBuf>,
    puts: Option<(PathBuf, Node)>,
    /// The directories whose sync it still needs.
    unsynced: Vec<PathBuf>,
}

impl NameChange {
    fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.removes.iter().chain(self.puts.iter().map(|(path, _)| path))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        if let Some(path) = &self.removes {
            names.remove(path);
        }
        if let Some((path, node)) = &self.puts {
            names.insert(path.clone(), *node);
        }
    }
}

/// All names.
#[derive(Clone, Debug)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<NameChange>,
}

impl Names {
    /// A disk with nothing on it but its root.
    pub(super) fn new() -> Names {
        Names { live: BTreeMap::new(), durable: BTreeMap::new(), pending: Vec::new() }
    }

    /// Gives all names, durable and not, as words.
    pub(super) fn hash_into(&self, add: &mut impl FnMut(u64)) {
        for names in [&self.live, &self.durable] {
            add(names.len() as u64);
            for (path, node) in names {
                path.as_os_str().as_encoded_bytes().iter().for_each(|&byte| add(byte.into()));
                add(if let Node::File(id) = node { *id } else { u64::MAX });
            }
        }
        self.pending.iter().for_each(|change| change.unsynced.iter().for_each(|dir| add(dir.as_os_str().len() as u64)));
    }

    /// What is there by that name.
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if path.parent().is_none() {
            // The root, or the current directory by its empty name.
            return Some(Node::Directory);
        }
        self.live.get(path).copied()
    }

    /// The last parts of the names in a directory, sorted.
    pub(super) fn list(&self, dir: &Path) -> Vec<String> {
        let below = self.live.keys().filter(|path| path.parent() == Some(dir));
        below.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// Takes one name away and puts another, at once.
    pub(super) fn change(&mut self, number: u64, removes: Option<&Path>, puts: Option<(&Path, Node)>) {
        let mut change = NameChange {
            number,
            removes: removes.map(Path::to_owned),
            puts: puts.map(|(path, node)| (path.to_owned(), node)),
            unsynced: Vec::new(),
        };
        change.unsynced = change.names().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        change.unsynced.dedup();
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    /// Makes the names in a directory durable (2).
    pub(super) fn sync(&mut self, dir: &Path) {
        for change in &mut self.pending {
            change.unsynced.retain(|d| d != dir);
        }
        let mut settled: BTreeSet<PathBuf> = BTreeSet::new();
        let mut durable = Vec::new();
        for (index, change) in self.pending.iter().enumerate().rev() {
            if change.unsynced.is_empty() || change.names().any(|name| settled.contains(name)) {
                settled.extend(change.names().cloned());
                durable.push(index);
            }
        }
        for &index in durable.iter().rev() {
            self.pending[index].apply(&mut self.durable);
        }
        for &index in &durable {
            self.pending.remove(index);
        }
    }

    /// The names that a power cut leaves (3, 4).
    pub(super) fn survivors(&self, survival: &mut Survival) -> Names {
        let mut names = self.durable.clone();
        let mut lost: BTreeSet<&PathBuf> = BTreeSet::new();
        for change in &self.pending {
            let follows_a_lost_one = change.names().any(|name| lost.contains(name));
            if survival.survives(change.number) && !follows_a_lost_one {
                change.apply(&mut names);
            } else {
                lost.extend(change.names());
            }
        }
        let mut reachable = Names::new();
        for (path, node) in names {
            // A directory sorts before what is in it.
            if path.parent().and_then(|dir| reachable.get(dir)) == Some(Node::Directory) {
                reachable.live.insert(path, node);
            }
        }
        reachable.durable = reachable.live.clone();
        reachable
    }

    /// The files that have a name, or could have one after a power cut.
    pub(super) fn files(&self) -> BTreeSet<u64> {
        let nodes = self.live.values().chain(self.durable.values());
        let pending = self.pending.iter().filter_map(|change| change.puts.as_ref().map(|(_, node)| node));
        let file = |node: &Node| if let Node::File(id) = node { Some(*id) } else { None };
        nodes.chain(pending).filter_map(file).collect()
    }
}
