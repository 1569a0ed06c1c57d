//! Making a keyspace anew: the entries of its leaves, stretch by stretch, with what the log says on top, in the order of keys.
//!
//! For each key counts, of the operations in the log that are newer than the leaf in which it falls, the last; without one, what the leaf
//! holds. So nothing is applied twice, and nothing that a leaf already has.

use super::find::Found;
use super::leaf::{Age, Leaf};
use super::log::{Moment, RangeRemoved};
use super::pages::Blocks;
use super::report::{Evidence, Finding, FindingKind, KeyspaceReport, Stage, Teller};
use super::resolve::{Holds, LoggedKey, is_newer, left_by, overlaps, resolve};
use super::sorter::Sorted;
use super::sweep::{Stretch, Sweep};
use super::values::{Fetched, Places};
use super::writer::{NotPut, Writer};
use crate::btree::LonePage;
use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::value::cell::{self, StoredBlob};

/// What all keyspaces are made from.
pub(super) struct Rebuild<'a, 't> {
    pub(super) blocks: &'a mut Blocks,
    pub(super) places: &'a Places,
    pub(super) found: &'a mut Found,
    pub(super) leaves: &'a mut Sorted,
    pub(super) points: &'a mut Sorted,
    pub(super) writer: &'a mut Writer,
    pub(super) teller: &'a mut Teller<'t>,
    /// All of the log that is there is newer than any leaf.
    pub(super) over_checkpoint: bool,
}

/// A keyspace to be made.
pub(super) struct Plan<'a> {
    pub(super) name: &'a str,
    pub(super) made_up: bool,
    pub(super) tree: u64,
    /// Entries that the checkpoint has.
    pub(super) len: Option<u64>,
    /// The log has made it, empty: keys without a leaf are no loss.
    pub(super) is_made: bool,
    pub(super) ranges: &'a [RangeRemoved],
}

/// The state of one keyspace's making.
struct Making<'a> {
    plan: &'a Plan<'a>,
    keyspace: Option<Keyspace>,
    report: KeyspaceReport,
    /// Entries that the leaves hold.
    held: u64,
    /// A stretch that comes from older images, not yet told.
    older: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Rebuild<'_, '_> {
    /// Makes a keyspace.
    pub(super) fn keyspace(&mut self, plan: &Plan<'_>) -> Result<()> {
        let report = KeyspaceReport {
            name: plan.name.to_owned(),
            tree: plan.tree,
            made_up: plan.made_up,
            in_checkpoint: plan.len,
            ..KeyspaceReport::default()
        };
        // A made-up one is made when there is something to put into it.
        let keyspace = if plan.made_up { None } else { Some(self.writer.keyspace(plan.name)?) };
        let mut making = Making { plan, keyspace, report, held: 0, older: None };
        let mut sweep = Sweep::over(plan.tree);
        while let Some(stretch) = sweep.next(self.leaves)? {
            self.teller.progress(Stage::Building, self.leaves.taken(), self.leaves.len());
            let page = match stretch.leaf.as_ref().map(|leaf| self.load(leaf)) {
                None => None,
                Some(Ok(page)) => Some(page),
                Some(Err(finding)) => {
                    let keyspace = Some(plan.name.to_owned());
                    self.teller.find(Finding { keyspace, ..*finding });
                    sweep.without(stretch);
                    continue;
                }
            };
            self.note(&stretch, &mut making);
            self.stretch(&stretch, page.as_deref(), &mut making)?;
        }
        self.tell_older(&mut making);
        self.compare_len(&making);
        if making.keyspace.is_some() {
            if plan.made_up {
                let what = "no readable entry of the catalog names this tree: it may have been dropped, or be a keyspace whose name is \
                            lost";
                let finding = Finding::new(FindingKind::Keyspace, what);
                self.teller.find(Finding { keyspace: Some(plan.name.to_owned()), tree: Some(plan.tree), ..finding });
            }
            self.teller.report.keyspaces.push(making.report);
        }
        Ok(())
    }

    /// Passes over a tree that is gone. Its large values are no damaged pages.
    pub(super) fn pass_over(&mut self, tree: u64) -> Result<()> {
        while self.leaves.peek().is_some_and(|item| item.number == tree) {
            let Some(item) = self.leaves.next()? else { break };
            if self.found.suspects.is_empty() {
                continue;
            }
            let leaf = Leaf::from_item(item);
            if let Ok(page) = self.load(&leaf)
                && let Ok(page) = LonePage::open(&page)
            {
                for index in 0..page.count() {
                    if let Ok((kind, bytes)) = page.value(index) {
                        self.acquit(tree, kind, bytes);
                    }
                }
            }
        }
        while self.points.peek().is_some_and(|item| item.number == tree) {
            self.points.next()?;
        }
        Ok(())
    }

    /// Reads a leaf again.
    fn load(&mut self, leaf: &Leaf) -> std::result::Result<Vec<u8>, Box<Finding>> {
        let fault = |what: &str| {
            Box::new(Finding {
                page: Some(leaf.page),
                tree: Some(leaf.tree),
                blocks: Some((leaf.place.address, u64::from(leaf.place.blocks))),
                ..Finding::new(FindingKind::Page, what)
            })
        };
        let page = self.blocks.page_at(leaf.place).map_err(|missing| fault(missing.text()))?;
        let same = LonePage::open(&page).is_ok_and(|node| {
            let stood = Leaf::of(&node, Age::of(&page, leaf.age.named), leaf.place);
            (stood.tree, stood.page, stood.age) == (leaf.tree, leaf.page, leaf.age)
        });
        if same { Ok(page) } else { Err(fault("it was another page when it was read first: something writes to the file")) }
    }

    /// Notes where a stretch comes from.
    fn note(&mut self, stretch: &Stretch, making: &mut Making<'_>) {
        let range = (stretch.from.clone(), stretch.to.clone());
        match &stretch.leaf {
            Some(leaf) => {
                self.teller.report.leaves += u64::from(stretch.from == leaf.lower);
                if !leaf.superseded {
                    self.tell_older(making);
                } else if let Some(older) = &mut making.older {
                    older.1 = range.1;
                } else {
                    making.older = Some(range);
                }
            }
            None => {
                self.tell_older(making);
                if making.plan.is_made || making.plan.made_up {
                    return;
                }
                making.report.ranges_lost += 1;
                let what = match self.teller.report.evidence {
                    Evidence::Map => "the leaf that held these keys is damaged",
                    _ => "no whole leaf of the tree covers these keys",
                };
                let finding = Finding::new(FindingKind::Range, what);
                let keyspace = Some(making.plan.name.to_owned());
                self.teller.find(Finding { keyspace, tree: Some(making.plan.tree), range: Some(range), ..finding });
            }
        }
    }

    fn tell_older(&mut self, making: &mut Making<'_>) {
        let Some(range) = making.older.take() else { return };
        let what = "the newest image of the page is of other keys: these come from an older one, and may have been changed or deleted \
                    since";
        let finding = Finding::new(FindingKind::Older, what);
        let keyspace = Some(making.plan.name.to_owned());
        self.teller.find(Finding { keyspace, tree: Some(making.plan.tree), range: Some(range), ..finding });
    }

    /// Where all leaves of a checkpoint were found, they hold as many entries as the catalog says.
    fn compare_len(&mut self, making: &Making<'_>) {
        let Some(len) = making.plan.len else { return };
        let whole = self.teller.report.evidence == Evidence::Map && making.report.ranges_lost == 0;
        if whole && len != making.held {
            let what = format!("the catalog says {len} entries, its leaves hold {}", making.held);
            let finding = Finding::new(FindingKind::Keyspace, what);
            self.teller.find(Finding { keyspace: Some(making.plan.name.to_owned()), tree: Some(making.plan.tree), ..finding });
        }
    }

    /// Brings over what a stretch of keys holds.
    fn stretch(&mut self, stretch: &Stretch, page: Option<&[u8]>, making: &mut Making<'_>) -> Result<()> {
        let age = stretch.leaf.as_ref().map(|leaf| leaf.age);
        let ranges: Vec<&RangeRemoved> = making
            .plan
            .ranges
            .iter()
            .filter(|range| is_newer(self.over_checkpoint, age, range.moment) && overlaps(range, stretch))
            .collect();
        let node = page.map(LonePage::open).and_then(std::result::Result::ok);
        let mut key = Vec::new();
        for index in 0..node.as_ref().map_or(0, LonePage::count) {
            let Some(node) = &node else { break };
            let (Ok(()), Ok((kind, bytes))) = (node.key_into(index, &mut key), node.value(index)) else { continue };
            if key < stretch.from {
                continue;
            }
            if !stretch.ends_above(&key) {
                break;
            }
            making.held += 1;
            self.logged_below(Some(&key), stretch, age, &ranges, making)?;
            let logged = match self.logged_key(making.plan.tree) {
                Some(logged) if logged == key => self.take_logged(making.plan.tree, age)?,
                _ => LoggedKey::default(),
            };
            let holds = match resolve(&key, logged.newer, &ranges) {
                Some(holds) => {
                    self.acquit(making.plan.tree, kind, bytes);
                    holds
                }
                None => Holds::Cell(kind, bytes.to_vec(), logged.older),
            };
            self.put(&key, holds, stretch, making)?;
        }
        self.logged_below(None, stretch, age, &ranges, making)
    }

    /// Brings over keys that are in the log alone, below `key` or, without one, up to the stretch's end.
    fn logged_below(
        &mut self,
        key: Option<&[u8]>,
        stretch: &Stretch,
        age: Option<Age>,
        ranges: &[&RangeRemoved],
        making: &mut Making<'_>,
    ) -> Result<()> {
        while let Some(logged) = self.logged_key(making.plan.tree) {
            if key.is_some_and(|key| logged >= key) || !stretch.ends_above(logged) {
                break;
            }
            let logged = self.take_logged(making.plan.tree, age)?;
            let holds = resolve(&logged.key, logged.newer, ranges).unwrap_or(Holds::Nothing);
            self.put(&logged.key, holds, stretch, making)?;
        }
        Ok(())
    }

    /// The next key of which the log says something.
    fn logged_key(&self, tree: u64) -> Option<&[u8]> {
        self.points.peek().filter(|item| item.number == tree).map(|item| &item.key[..])
    }

    /// Takes all that the log says of the next key.
    fn take_logged(&mut self, tree: u64, age: Option<Age>) -> Result<LoggedKey> {
        let mut logged = LoggedKey { key: self.logged_key(tree).map(<[u8]>::to_vec).unwrap_or_default(), ..LoggedKey::default() };
        while self.logged_key(tree).is_some_and(|key| key == logged.key) {
            let Some(item) = self.points.next()? else { break };
            let [lsn, index, incarnation] = item.order;
            let moment = Moment { lsn, index, incarnation: incarnation as u32 };
            if is_newer(self.over_checkpoint, age, moment) {
                logged.newer = Some((moment, item.payload));
            } else {
                logged.older = Some(item.payload);
            }
        }
        Ok(logged)
    }

    fn put(&mut self, key: &[u8], holds: Holds, stretch: &Stretch, making: &mut Making<'_>) -> Result<()> {
        let fetched = match holds {
            Holds::Nothing => return Ok(()),
            Holds::Value(value) => Ok(value),
            Holds::Cell(kind, bytes, logged) => {
                let fetched = self.places.fetch(self.blocks, making.plan.tree, kind, &bytes);
                if let Ok(Fetched::Runs(blob)) = &fetched {
                    self.acquit_runs(blob);
                }
                match (fetched, logged.as_deref().map(left_by)) {
                    (Err(_), Some(Holds::Value(value))) => Ok(value),
                    (fetched, _) => fetched,
                }
            }
        };
        let value = match fetched {
            Ok(value) => value,
            Err(lost) => {
                self.lost(key, lost.len, lost.why, making);
                return Ok(());
            }
        };
        let keyspace = match &making.keyspace {
            Some(keyspace) => keyspace.clone(),
            None => making.keyspace.insert(self.writer.keyspace(making.plan.name)?).clone(),
        };
        let len = match &value {
            Fetched::Bytes(bytes) => bytes.len() as u64,
            Fetched::Runs(blob) => blob.len,
        };
        match self.writer.put(&keyspace, key, value, self.places, self.blocks) {
            Ok(()) => {
                making.report.entries += 1;
                making.report.older += u64::from(stretch.leaf.as_ref().is_some_and(|leaf| leaf.superseded));
                Ok(())
            }
            Err(NotPut::Lost(why)) => {
                self.lost(key, Some(len), why, making);
                Ok(())
            }
            Err(NotPut::Failed(e)) => Err(e),
        }
    }

    fn lost(&mut self, key: &[u8], len: Option<u64>, why: String, making: &mut Making<'_>) {
        making.report.values_lost += 1;
        let finding = Finding::new(FindingKind::Value, why);
        let keyspace = Some(making.plan.name.to_owned());
        self.teller.find(Finding { keyspace, tree: Some(making.plan.tree), key: Some(key.to_vec()), len, ..finding });
    }

    /// What a cell names are runs, and no damaged pages, though they have no page's header.
    fn acquit(&mut self, tree: u64, kind: u8, bytes: &[u8]) {
        if !self.found.suspects.is_empty()
            && matches!(kind, cell::BLOB | cell::LONG_BLOB)
            && let Ok(Fetched::Runs(blob)) = self.places.fetch(self.blocks, tree, kind, bytes)
        {
            self.acquit_runs(&blob);
        }
    }

    fn acquit_runs(&mut self, blob: &StoredBlob) {
        for page in blob.pages() {
            self.found.suspects.remove(&page);
        }
    }
}
