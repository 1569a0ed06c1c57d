//! What the report says in the end: which pages were damaged and what stood in them, and what is in doubt.

use super::Run;
use super::find::Found;
use super::log::Logged;
use super::names::{Fate, Names};
use super::report::{Evidence, Finding, FindingKind, SuperblockState};
use crate::btree::LonePage;
use std::collections::BTreeMap;

impl Run<'_, '_> {
    /// What may be another state than the last that was confirmed.
    pub(super) fn doubts(&mut self, logged: &Logged, over_checkpoint: bool) {
        let report = &mut self.teller.report;
        if over_checkpoint && report.superblock == SuperblockState::MaybeOlder {
            report.doubt(
                "one slot of the superblock is lost, and a newer checkpoint may have stood there: but all that the other one names is \
                 still its own, and the log leads on from it",
            );
        }
        match report.evidence {
            Evidence::Map => {}
            Evidence::MapInPart => report.doubt(
                "for pages that the page map says nothing of any more the newest images were taken that are not newer than the \
                 checkpoint: where the newest is damaged, what an older one holds may come back, deleted keys among it, and so may \
                 commits that an earlier crash took back",
            ),
            Evidence::Scan => report.doubt(
                "without a checkpoint the newest whole image counts for each key: the keyspaces are not as of one moment, transactions \
                 may be there in part; where the newest image is damaged, what an older one holds may come back, deleted keys among \
                 it, and so may commits that were never confirmed",
            ),
        }
        let last = report.log.last.or(report.checkpoint_lsn).unwrap_or(0);
        if over_checkpoint && !logged.is_sound && !self.salvage.past_gaps {
            report.doubt(format!(
                "the log can't be followed to its end: the keyspaces are as of LSN {last}; what was committed behind it is not here"
            ));
        } else if over_checkpoint && !logged.is_sound {
            report.doubt(format!(
                "the log has gaps: what was committed within them is not here, what was committed behind them, up to LSN {last}, is"
            ));
        } else if !over_checkpoint && report.log.applied == 0 {
            report.doubt("no commit of the log could be read: what it held that no leaf has is not here");
        } else if report.log.gaps > 0 {
            report.doubt("the log has gaps: what was committed within them may not be here");
        }
    }

    /// Pages that the map names and that are not whole, with what the pages above them say.
    pub(super) fn suspects(&mut self, found: &Found, names: &Names, over_checkpoint: bool) {
        if self.teller.report.evidence == Evidence::Scan || found.suspects.is_empty() {
            return;
        }
        let mut known = BTreeMap::new();
        for &(page, at) in &found.parents {
            let Ok(bytes) = self.blocks.page(page, at) else { continue };
            let Ok(node) = LonePage::open(&bytes) else { continue };
            for index in (0..node.count()).filter(|&index| found.suspects.contains_key(&node.child(index))) {
                let (mut lower, mut upper) = (Vec::new(), Vec::new());
                let ends = index + 1 < node.count() && node.key_into(index + 1, &mut upper).is_ok();
                if node.key_into(index, &mut lower).is_ok() {
                    let upper = if ends { Some(upper) } else { node.upper().map(<[u8]>::to_vec) };
                    known.insert(node.child(index), (node.tree().0, lower, upper));
                }
            }
        }
        for (&page, &at) in &found.suspects {
            let mut finding = Finding::new(FindingKind::Page, Found::fault(&mut self.blocks, page, at));
            finding.file = Some(self.blocks.reader.file().path().to_owned());
            finding.blocks = Some((at.address(), u64::from(at.blocks())));
            finding.page = Some(page.0);
            if let Some((tree, lower, upper)) = known.remove(&page) {
                finding.tree = Some(tree);
                finding.range = Some((lower, upper));
                if let Fate::Keyspace(name, _) = names.fate(tree, over_checkpoint) {
                    finding.keyspace = Some(name);
                }
            }
            self.teller.find(finding);
        }
    }
}
