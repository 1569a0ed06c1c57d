//! What salvage tells: what it has relied on, what it has brought over, what is lost, and what may be older than it was.

use std::path::PathBuf;

/// At most so many findings are kept in a [`Report`]; all of them are counted, and all are told while they are made.
pub const FINDINGS_MAX: usize = 10_000;

/// What the leaves of the trees were found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Evidence {
    /// A superblock and its whole page map: what is found is what that checkpoint holds.
    #[default]
    Map,
    /// A superblock, a part of its page map, and, for the page ids in the other part, all blocks of `data`, of which those count that
    /// are not newer than the checkpoint.
    MapInPart,
    /// All blocks of `data`: of every key the newest leaf that is whole.
    Scan,
}

/// What the superblock's copies are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum SuperblockState {
    /// Each slot has a whole copy: which is the newest is certain.
    #[default]
    Known,
    /// One slot is lost: a newer superblock may have stood there.
    MaybeOlder,
    /// No whole copy.
    Lost,
}

/// Something that is not as it should be. What is not known, or does not apply, is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// The file.
    pub file: Option<PathBuf>,
    /// The first block, and the number of blocks.
    pub blocks: Option<(u64, u64)>,
    /// The page id; of a node of the page map its index.
    pub page: Option<u64>,
    /// The tree id.
    pub tree: Option<u64>,
    /// The keyspace's name in the new database.
    pub keyspace: Option<String>,
    /// The key whose value it is about.
    pub key: Option<Vec<u8>>,
    /// The length of that value in bytes.
    pub len: Option<u64>,
    /// The keys from the first on and below the second (`None`: all above) that it is about.
    pub range: Option<(Vec<u8>, Option<Vec<u8>>)>,
    /// What was found.
    pub what: String,
}

/// What a [`Finding`] is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum FindingKind {
    /// A copy of the superblock is damaged.
    Superblock,
    /// A node of the page map is damaged: where the pages below it stand is not known.
    MapNode,
    /// A page, or a run of a large value, that the page map names is damaged.
    Page,
    /// Blocks can't be read, or lie beyond the end of a file that was cut.
    Unreadable,
    /// No whole leaf covers these keys: what they held is lost.
    Range,
    /// The value of a key is lost; the leaf with the key is whole.
    Value,
    /// The newest leaf of these keys is not there: what was brought over is from an older image of a leaf.
    Older,
    /// A part of the log is missing or damaged.
    Log,
    /// A keyspace whose name is lost, or that may have been dropped.
    Keyspace,
}

impl FindingKind {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::Superblock => "superblock",
            FindingKind::MapNode => "map node",
            FindingKind::Page => "page",
            FindingKind::Unreadable => "unreadable",
            FindingKind::Range => "lost range",
            FindingKind::Value => "lost value",
            FindingKind::Older => "older",
            FindingKind::Log => "log",
            FindingKind::Keyspace => "keyspace",
        }
    }
}

impl Finding {
    pub(super) fn new(kind: FindingKind, what: impl Into<String>) -> Finding {
        Finding {
            kind,
            file: None,
            blocks: None,
            page: None,
            tree: None,
            keyspace: None,
            key: None,
            len: None,
            range: None,
            what: what.into(),
        }
    }
}

/// A key as text: printable ASCII as it is, the rest escaped, in quotes.
fn shown(key: &[u8]) -> String {
    format!("\"{}\"", key.escape_ascii())
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind.name())?;
        if let Some(keyspace) = &self.keyspace {
            write!(f, ", keyspace {keyspace}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ", {}", file.display())?;
        }
        match self.blocks {
            Some((block, 1)) => write!(f, ", block {block}")?,
            Some((block, count)) => write!(f, ", blocks {block} to {}", block + count.saturating_sub(1))?,
            None => {}
        }
        if let Some(page) = self.page {
            let id = if self.kind == FindingKind::MapNode { "node" } else { "page" };
            write!(f, ", {id} {page}")?;
        }
        if let Some(tree) = self.tree {
            write!(f, ", tree {tree}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", key {}", shown(key))?;
        }
        if let Some(len) = self.len {
            write!(f, ", {len} bytes")?;
        }
        match &self.range {
            Some((from, Some(to))) => write!(f, ", keys from {} to below {}", shown(from), shown(to))?,
            Some((from, None)) => write!(f, ", keys from {} on", shown(from))?,
            None => {}
        }
        write!(f, ": {}", self.what)
    }
}

/// What became of a keyspace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct KeyspaceReport {
    /// Its name in the new database.
    pub name: String,
    /// The tree that it was.
    pub tree: u64,
    /// The name is made up: no readable entry of the catalog names the tree.
    pub made_up: bool,
    /// Entries brought over.
    pub entries: u64,
    /// Of these, from images of leaves of which newer ones must have been there.
    pub older: u64,
    /// Entries that the checkpoint had, by the catalog; `None` where that is not known.
    pub in_checkpoint: Option<u64>,
    /// Keys whose value is lost.
    pub values_lost: u64,
    /// Stretches of keys that no whole leaf covers.
    pub ranges_lost: u64,
}

/// What became of the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct LogReport {
    /// Commits that were found whole and applied.
    pub applied: u64,
    /// Commits that were found whole, but behind a gap, and not applied.
    pub left_out: u64,
    /// LSN of the last commit that was applied.
    pub last: Option<u64>,
    /// Gaps beyond the checkpoint: positions from which and before which nothing is whole.
    pub gaps: u64,
}

/// What salvage did and found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// What the leaves were found by.
    pub evidence: Evidence,
    /// What the superblock's copies are like.
    pub superblock: SuperblockState,
    /// Number of the checkpoint that was read; `None` with [`Evidence::Scan`].
    pub checkpoint: Option<u64>,
    /// LSN of the last commit in that checkpoint.
    pub checkpoint_lsn: Option<u64>,
    /// Bytes of a page.
    pub page_size: usize,
    /// Bytes of a block.
    pub block_size: usize,
    /// Bytes of `data`.
    pub data_bytes: u64,
    /// Blocks of `data` that can't be read.
    pub blocks_unreadable: u64,
    /// Leaves that were found whole and used, at least in part.
    pub leaves: u64,
    /// What became of the log.
    pub log: LogReport,
    /// What became of each keyspace, in the order in which they were made anew.
    pub keyspaces: Vec<KeyspaceReport>,
    /// The first [`FINDINGS_MAX`] findings.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub findings_total: u64,
    /// What may be another state than the last that was confirmed, in sentences.
    pub doubts: Vec<String>,
}

impl Report {
    /// Whether all that was confirmed has been brought over, nothing was damaged, and nothing is in doubt.
    pub fn is_whole(&self) -> bool {
        self.findings_total == 0 && self.doubts.is_empty()
    }

    /// Entries brought over in all.
    pub fn entries(&self) -> u64 {
        self.keyspaces.iter().map(|keyspace| keyspace.entries).sum()
    }

    pub(super) fn doubt(&mut self, text: impl Into<String>) {
        self.doubts.push(text.into());
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.evidence {
            Evidence::Map => "the page map",
            Evidence::MapInPart => "what is left of the page map, and all blocks",
            Evidence::Scan => "all blocks",
        };
        write!(f, "{} entries in {} keyspaces, from {} leaves found by {by}", self.entries(), self.keyspaces.len(), self.leaves)?;
        if let Some(checkpoint) = self.checkpoint {
            write!(f, " of checkpoint {checkpoint}")?;
        }
        write!(f, "; {} commits from the log: ", self.log.applied)?;
        match self.findings_total {
            0 if self.doubts.is_empty() => f.write_str("nothing is missing"),
            0 => f.write_str("no damage"),
            n => write!(f, "{n} findings"),
        }
    }
}

/// How far salvage is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// What it is about.
    pub stage: Stage,
    /// Steps that are done.
    pub done: u64,
    /// Steps there are.
    pub total: u64,
}

/// The two stages that take long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Stage {
    /// Looking for pages; steps are bytes of `data`.
    Looking,
    /// Making the new database; steps are leaves.
    Building,
}

/// What is told while salvage runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// How far it is.
    Progress(Progress),
    /// Something was found.
    Finding(&'a Finding),
}

/// Where findings go while they are made.
pub(super) struct Teller<'a> {
    pub(super) report: Report,
    told: &'a mut dyn FnMut(Event<'_>),
}

impl<'a> Teller<'a> {
    pub(super) fn new(told: &'a mut dyn FnMut(Event<'_>)) -> Teller<'a> {
        Teller { report: Report::default(), told }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        (self.told)(Event::Finding(&finding));
        self.report.findings_total += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }

    pub(super) fn progress(&mut self, stage: Stage, done: u64, total: u64) {
        (self.told)(Event::Progress(Progress { stage, done: done.min(total), total }));
    }
}
