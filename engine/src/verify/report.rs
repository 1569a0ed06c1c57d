//! What verification tells: how far it is, and what it has found.

use std::path::PathBuf;

/// How much is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Depth {
    /// What needs no walk over trees: the copies of the superblock, the page map whole, and with it that each block has one owner,
    /// and the log. No page of a tree and no value is read.
    Quick,
    /// That, and every page and every value.
    #[default]
    Full,
}

/// How far a walk over all pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Pages seen: tree pages, overflow pages, runs of large values. At most `total`; less in the end where damage hides some.
    pub done: u64,
    /// Pages there are: in the checkpoint, and beyond it in the log.
    pub total: u64,
}

/// What verification found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// How much was checked.
    pub depth: Depth,
    /// Number of the checkpoint that was examined.
    pub checkpoint: u64,
    /// Pages and runs of large values that the page map names, whether or not they were read.
    pub mapped_pages: u64,
    /// Pages and runs that the page map names and that were reached from no tree. They are checked each on its own; where every page
    /// above could be read, each is a finding as well.
    pub unreached: u64,
    /// Pages of trees that were read and found whole.
    pub tree_pages: u64,
    /// Overflow pages, likewise.
    pub overflow_pages: u64,
    /// Runs of large values, likewise.
    pub blob_runs: u64,
    /// Nodes of the page map.
    pub map_nodes: u64,
    /// Entries of all keyspaces that were read.
    pub entries: u64,
    /// Whether damage hides pages of trees, and with them entries: how many there are is then not known.
    pub entries_hidden: bool,
    /// Writes that are kept beside their trees, since their pages could not be read. They are not among the entries.
    pub stranded: u64,
    /// Commits in the log from the start of replay on.
    pub log_records: u64,
    /// Pages and runs that only commits in the log name: large values and bulk loads since the checkpoint.
    pub logged_pages: u64,
    /// Bytes of these pages, runs and nodes that were read and checked in the data file.
    pub bytes: u64,
    /// Everything that is not as it should be.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The first of the blocks that it is about, where it is known: counted from the start of the file.
    pub block: Option<u64>,
    /// The page, where it is one.
    pub page: Option<u64>,
    /// The keyspace, where it is known.
    pub keyspace: Option<String>,
    /// File, block and page, and what was expected and found there.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.keyspace {
            Some(keyspace) => write!(f, "keyspace {keyspace}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "checkpoint {}: ", self.checkpoint)?;
        match self.depth {
            Depth::Quick => write!(f, "{} pages in {} page-map nodes, ", self.mapped_pages, self.map_nodes)?,
            Depth::Full => {
                let at_least = if self.entries_hidden { "at least " } else { "" };
                write!(f, "{} tree pages with {at_least}{} entries, ", self.tree_pages, self.entries)?;
                write!(f, "{} overflow pages, {} blob runs, ", self.overflow_pages, self.blob_runs)?;
                write!(f, "{} page-map nodes, ", self.map_nodes)?;
                if self.stranded > 0 {
                    write!(f, "{} writes that wait for pages that can't be read, ", self.stranded)?;
                }
            }
        }
        write!(f, "{} commits in the log: ", self.log_records)?;
        match self.findings.len() {
            0 => f.write_str("no damage")?,
            n => write!(f, "{n} findings")?,
        }
        match self.depth {
            Depth::Quick => f.write_str("; trees and values were not read"),
            Depth::Full => Ok(()),
        }
    }
}
