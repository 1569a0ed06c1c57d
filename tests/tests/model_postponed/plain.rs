//! Look-ups without a view.

use super::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PlainAt {
    Watermark,
    Tables,
    Newest,
    Merging,
    Stranded,
    Own,
    Leaf,
    WatermarkAgain,
    OwnAgain,
    Before,
    WaitFor(Lsn),
}

/// A look-up without a view.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    key: Key,
    began_at: Lsn,
    told: Lsn,
    at: PlainAt,
    lsn: Lsn,
    pair: Pair,
    early: Pair,
    found: Option<(Lsn, Option<Lsn>)>,
    newer: Vec<Lsn>,
    /// The oldest stranded one that is newer.
    stranded: Option<Lsn>,
    latched: Key,
    /// The watermark, asked for under the latch.
    again: Lsn,
}

impl Plain {
    pub(super) fn begin(model: &mut Model) -> Plain {
        Plain {
            key: model.rng.random_range(0..KEYS),
            began_at: model.watermark,
            told: model.told,
            at: PlainAt::Watermark,
            lsn: 0,
            pair: model.pair,
            early: model.pair,
            found: None,
            newer: Vec::new(),
            stranded: None,
            latched: 0,
            again: 0,
        }
    }
}

impl Model {
    /// False: it has ended.
    pub(super) fn plain_step(&mut self, nth: usize, plain: &mut Plain) -> Result<bool, String> {
        use PlainAt as At;
        let key = plain.key;
        match plain.at {
            At::Watermark => {
                (plain.lsn, plain.found) = (self.watermark, None);
                plain.newer.clear();
                plain.at = At::Tables;
            }
            At::Tables => {
                plain.pair = if self.is(M::TablesBeforeLsn) { plain.early } else { self.pair };
                plain.at = At::Newest;
            }
            At::Newest | At::Merging | At::Stranded => {
                let (mut merging, mut stranded) = (plain.pair.merging, Some(STRANDED));
                if self.is(M::StrandedBeforeMerging) {
                    std::mem::swap(&mut merging, &mut stranded);
                }
                let (table, next) = match plain.at {
                    At::Newest => (Some(plain.pair.newest), At::Merging),
                    At::Merging => (merging, At::Stranded),
                    _ => (stranded, At::Own),
                };
                if let Some(table) = table {
                    let found = self.waiting(table, key, plain.lsn);
                    let is_hidden = self.is(M::NewestHides) && !plain.newer.is_empty();
                    if !is_hidden {
                        plain.found = if self.is(M::MergingWins) { found.or(plain.found) } else { plain.found.max(found) };
                    }
                    let newer = self.tables[table].range((key, plain.lsn + 1)..=(key, Lsn::MAX)).map(|(&(_, lsn), _)| lsn);
                    if table == STRANDED {
                        plain.stranded = newer.clone().next();
                    }
                    plain.newer.extend(newer.filter(|_| table != STRANDED || !self.is(M::StrandedNotAwaited)));
                }
                plain.at = next;
            }
            At::Own => {
                let told = plain.newer.iter().copied().filter(|&lsn| lsn <= self.own).max();
                let against = if self.is(M::OwnAgainstNewWatermark) { self.watermark } else { plain.lsn };
                plain.at = match told {
                    Some(lsn) if self.own > against && !self.is(M::OwnNotAwaited) => At::WaitFor(lsn),
                    _ if plain.found.is_some() => return self.plain_found(nth, plain, plain.found.and_then(|(_, value)| value)),
                    // What it was to find may have gone because of that one, which is not in the tree.
                    _ if plain.stranded.is_some_and(|lsn| lsn <= self.watermark) && !self.is(M::NotLookedAgain) => At::Watermark,
                    _ => At::Leaf,
                };
            }
            At::Leaf if self.is_unreadable(key) => return self.unreadable(nth, plain.lsn, key, true),
            At::Leaf => {
                plain.latched = self.leaf_of(key);
                self.leaf(plain.latched).shared += 1;
                plain.at = At::WatermarkAgain;
            }
            At::WatermarkAgain => {
                plain.again = self.watermark;
                if self.leaves[&plain.latched].lsn <= plain.again {
                    let found = self.leaves[&plain.latched].cells.get(&key).copied();
                    self.leaf(plain.latched).shared -= 1;
                    return self.plain_found(nth, plain, found);
                }
                plain.at = At::OwnAgain;
            }
            At::OwnAgain => {
                plain.at = At::Before;
                if self.own > plain.again {
                    let wait_for = self.own.min(self.leaves[&plain.latched].lsn);
                    self.leaf(plain.latched).shared -= 1;
                    plain.at = At::WaitFor(wait_for);
                }
            }
            At::Before => {
                let leaf = self.leaf(plain.latched);
                let found = leaf.before(key, plain.again).unwrap_or(leaf.cells.get(&key).copied());
                leaf.shared -= 1;
                return self.plain_found(nth, plain, found);
            }
            At::WaitFor(lsn) => {
                if self.watermark >= lsn {
                    plain.at = At::Watermark;
                }
            }
        }
        Ok(true)
    }

    fn plain_found(&mut self, nth: usize, plain: &Plain, found: Option<Lsn>) -> Result<bool, String> {
        let Plain { key, began_at, told, .. } = *plain;
        self.note(|| format!("reader {nth} without a view: key {key} holds {found:?}"));
        let newest_told = self.changed_at(key, told);
        let says = |lsn: &Lsn| self.states[*lsn as usize].get(&key).copied() == found && newest_told <= *lsn;
        match (began_at..=self.watermark).any(|lsn| says(&lsn)) {
            true => Ok(false),
            false => Err(format!(
                "reader {nth} without a view, watermark {began_at} to {}, told of {told}: key {key} holds {found:?}",
                self.watermark
            )),
        }
    }
}
