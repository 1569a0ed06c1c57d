//! The workloads: names, what each needs, and what its figure is.

use crate::engine::{Access, Durability, Spec};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a row does.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Insert N entries in sorted order, transactions of 1000, durable at the end
    LoadSeq,
    /// Insert N entries in random order, transactions of 1000, durable at the end
    LoadRand,
    /// Load N sorted entries by the fastest means that the engine has
    BulkLoad,
    /// Point reads of random keys
    GetRand,
    /// Point reads, zipf 0.99
    GetZipf,
    /// Point reads in batches of 64
    GetMany,
    /// Everything in order
    ScanFull,
    /// 100 entries from a random start
    #[value(name = "scan-100")]
    #[serde(rename = "scan-100")]
    Scan100,
    /// One durable single-key commit at a time
    PutSync,
    /// Single-key commits, durable within about 100 ms
    PutAsync,
    /// Read-modify-write commits of random keys, eventually durable
    UpdateRand,
    /// Zipf: 50 % reads, 50 % updates
    YcsbA,
    /// Zipf: 95 % reads, 5 % updates
    YcsbB,
    /// Zipf: reads
    YcsbC,
    /// 95 % reads of what is newest, 5 % inserts
    YcsbD,
    /// 95 % scans of 1 to 100, 5 % inserts
    YcsbE,
    /// Zipf: 50 % reads, 50 % read-modify-writes
    YcsbF,
    /// Put values of 1 MiB
    BlobPut,
    /// Get values of 1 MiB in random order
    BlobGet,
    /// Open after a clean close, and read one key
    Reopen,
    /// Open after SIGKILL under updates, and read one key
    Recover,
}

/// What a row finds when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// An empty directory.
    Empty,
    /// The loaded data set, which it only reads.
    Loaded,
    /// A copy of the loaded data set, which it changes.
    Copy,
}

/// What the figure of a row is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Figure {
    /// Operations a second.
    Operations,
    /// Entries a second.
    Entries,
    /// Megabytes a second.
    Megabytes,
    /// Milliseconds: the less, the better.
    Milliseconds,
}

impl Figure {
    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Figure::Operations => "ops/s",
            Figure::Entries => "entries/s",
            Figure::Megabytes => "MB/s",
            Figure::Milliseconds => "ms",
        }
    }

    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        self != Figure::Milliseconds
    }
}

impl Workload {
    /// All of them, in the order of reports.
    pub const ALL: [Workload; 21] = [
        Workload::LoadSeq,
        Workload::LoadRand,
        Workload::BulkLoad,
        Workload::GetRand,
        Workload::GetZipf,
        Workload::GetMany,
        Workload::ScanFull,
        Workload::Scan100,
        Workload::PutSync,
        Workload::PutAsync,
        Workload::UpdateRand,
        Workload::YcsbA,
        Workload::YcsbB,
        Workload::YcsbC,
        Workload::YcsbD,
        Workload::YcsbE,
        Workload::YcsbF,
        Workload::BlobPut,
        Workload::BlobGet,
        Workload::Reopen,
        Workload::Recover,
    ];

    /// Its name.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it finds.
    pub fn start(self) -> Start {
        use Workload::*;
        match self {
            LoadSeq | LoadRand | BulkLoad | BlobPut | BlobGet => Start::Empty,
            GetRand | GetZipf | GetMany | ScanFull | Scan100 | YcsbC | Reopen => Start::Loaded,
            PutSync | PutAsync | UpdateRand | YcsbA | YcsbB | YcsbD | YcsbE | YcsbF | Recover => Start::Copy,
        }
    }

    /// Whether it writes.
    pub fn writes(self) -> bool {
        self.start() != Start::Loaded && self != Workload::BlobGet
    }

    /// Whether it is one of the loads, or puts blobs: it ends when all is written.
    pub fn is_load(self) -> bool {
        matches!(self, Workload::LoadSeq | Workload::LoadRand | Workload::BulkLoad | Workload::BlobPut)
    }

    /// Whether its values are large.
    pub fn is_blob(self) -> bool {
        matches!(self, Workload::BlobPut | Workload::BlobGet)
    }

    /// Whether it measures an open.
    pub fn is_open(self) -> bool {
        matches!(self, Workload::Reopen | Workload::Recover)
    }

    /// What its commits promise.
    pub fn durability(self) -> Durability {
        match self {
            Workload::PutSync => Durability::Sync,
            Workload::LoadSeq | Workload::LoadRand | Workload::BulkLoad | Workload::BlobGet => Durability::AtEnd,
            // It commits nothing: nobody is to make anything durable beside it.
            _ if self.start() == Start::Loaded => Durability::Sync,
            _ => Durability::Eventual,
        }
    }

    /// Whether it has read-modify-writes.
    pub fn transactions(self) -> bool {
        matches!(self, Workload::UpdateRand | Workload::YcsbF | Workload::Recover)
    }

    /// How it goes through the data.
    pub fn access(self) -> Access {
        match self {
            Workload::ScanFull | Workload::LoadSeq | Workload::BulkLoad => Access::Ordered,
            _ if self.is_blob() => Access::Ordered,
            _ => Access::Random,
        }
    }

    /// What its figure is.
    pub fn figure(self) -> Figure {
        match self {
            Workload::LoadSeq | Workload::LoadRand | Workload::BulkLoad | Workload::ScanFull | Workload::GetMany => {
                Figure::Entries
            }
            Workload::BlobPut | Workload::BlobGet => Figure::Megabytes,
            Workload::Reopen | Workload::Recover => Figure::Milliseconds,
            _ => Figure::Operations,
        }
    }

    /// Why an engine has no such row; `None`: it has.
    pub fn lacks(self, spec: &Spec) -> Option<&'static str> {
        if self.is_blob() && !spec.blobs {
            return Some("takes no values of 1 MiB");
        }
        match self {
            Workload::BulkLoad if spec.bulk.is_none() => Some("has no bulk load"),
            Workload::PutSync if spec.sync.is_none() => Some("has no durable commits"),
            Workload::Recover if !spec.recovers => Some("does not recover"),
            _ if spec.mode_of.is_some() && !self.changes_eventually() => Some("a mode for eventual writes only"),
            _ => None,
        }
    }

    /// Whether it changes loaded data with eventual durability.
    fn changes_eventually(self) -> bool {
        self.start() == Start::Copy && self.durability() == Durability::Eventual && self != Workload::Recover
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_everywhere() {
        for workload in Workload::ALL {
            assert_eq!(serde_json::to_string(&workload).unwrap(), format!("\"{}\"", workload.name()));
        }
        assert_eq!(Workload::Scan100.name(), "scan-100");
        assert_eq!(Workload::YcsbA.name(), "ycsb-a");
    }

    #[test]
    fn all_are_there_in_order() {
        assert!(Workload::ALL.is_sorted());
        assert_eq!(Workload::ALL.len(), Workload::value_variants().len());
    }
}
