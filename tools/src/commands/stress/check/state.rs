//! What a database holds, as commits make it.

use super::super::ops::{ACCOUNTS, Form, Op, Write};
use super::super::value::{OWN, Place, Stamp};
use std::collections::BTreeMap;

/// What a writer's last transaction has left: its number, and what it had counted.
pub(super) type Mark = (u32, u64);

/// Everything that writers write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct State {
    pub(super) entries: BTreeMap<Place, Stamp>,
    pub(super) accounts: [i64; ACCOUNTS],
    pub(super) turns: u64,
    pub(super) marks: BTreeMap<u8, Mark>,
}

impl State {
    /// The entries of a writer.
    pub(super) fn entries_of(&self, writer: u8) -> Entries {
        let (first, last) = (Place { writer, map: 0, key: 0 }, Place { writer, map: u8::MAX, key: u16::MAX });
        self.entries.range(first..=last).map(|(place, stamp)| (*place, *stamp)).collect()
    }
}

/// The entries of one writer.
pub(super) type Entries = BTreeMap<Place, Stamp>;

/// Entries that go commit by commit, compared with some that stay: the number of keys that differ is kept up to date.
pub(super) struct Compared {
    entries: Entries,
    goal: Entries,
    differing: usize,
}

impl Compared {
    pub(super) fn new(entries: Entries, goal: Entries) -> Compared {
        let missing = goal.keys().filter(|place| !entries.contains_key(place)).count();
        let differing = missing + entries.iter().filter(|(place, stamp)| goal.get(place) != Some(stamp)).count();
        Compared { entries, goal, differing }
    }

    /// How many keys differ.
    pub(super) fn differing(&self) -> usize {
        self.differing
    }

    /// Keys that differ, with what is expected and what is there.
    pub(super) fn differences(&self) -> impl Iterator<Item = (Place, Option<Stamp>, Option<Stamp>)> {
        let all: std::collections::BTreeSet<_> = self.entries.keys().chain(self.goal.keys()).copied().collect();
        let both = all.into_iter().map(|place| (place, self.entries.get(&place).copied(), self.goal.get(&place).copied()));
        both.filter(|(_, expected, found)| expected != found)
    }

    /// The entries as they are now.
    #[cfg(test)]
    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// Applies a commit.
    pub(super) fn apply(&mut self, writer: u8, number: u32, op: &Op) {
        if matches!(op.form, Form::Clear | Form::Replace) {
            self.remove_range(writer, OWN, 0, u16::MAX);
            self.set(Place { writer, map: OWN, key: u16::MAX }, None);
        }
        for write in &op.writes {
            match *write {
                Write::Put { map, key, len } => self.set(Place { writer, map, key }, Some(Stamp { number, len })),
                Write::Remove { map, key } => self.set(Place { writer, map, key }, None),
                Write::RemoveRange { map, from, to } => self.remove_range(writer, map, from, to),
            }
        }
    }

    fn remove_range(&mut self, writer: u8, map: u8, from: u16, to: u16) {
        let range = Place { writer, map, key: from }..Place { writer, map, key: to };
        let gone: Vec<Place> = self.entries.range(range).map(|(place, _)| *place).collect();
        gone.into_iter().for_each(|place| self.set(place, None));
    }

    fn set(&mut self, place: Place, stamp: Option<Stamp>) {
        let goal = self.goal.get(&place).copied();
        let before = match stamp {
            Some(stamp) => self.entries.insert(place, stamp),
            None => self.entries.remove(&place),
        };
        self.differing -= usize::from(before != goal);
        self.differing += usize::from(stamp != goal);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ops::{Shape, Size};
    use super::*;

    #[test]
    fn the_number_of_differences_is_what_a_whole_comparison_gives() {
        let shape = Shape::draw(3, 2, Size::Small);
        let ops: Vec<Op> = (1..=300).map(|n| Op::draw(3, 2, 1, n, &shape)).collect();
        let mut made = Compared::new(Entries::new(), Entries::new());
        ops[..200].iter().zip(1..).for_each(|(op, n)| made.apply(1, n, op));
        let goal = made.entries().clone();
        let mut compared = Compared::new(Entries::new(), goal.clone());
        for (op, n) in ops.iter().zip(1..) {
            compared.apply(1, n, op);
            assert_eq!(compared.differing(), compared.differences().count());
            assert_eq!(compared.differing() == 0, *compared.entries() == goal);
            assert!(n != 200 || compared.differing() == 0);
        }
    }
}
