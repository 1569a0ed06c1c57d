//! The log from C on, and what only it names: large values and bulk loads of commits beyond A.
//!
//! In a database that is open, how far the log was written is known, so damage to its last flush is found as well: in one that was opened
//! read-only, up to where the open found its end. Only the end that an open finds can't be told from a torn one.

use super::{Walk, segment_of};
use crate::blob::BlobRef;
use crate::btree::{Tree, TreeId};
use crate::bulk::Placed;
use crate::commit::record::{self, Operation};
use crate::database::Shared;
use crate::error::Result;
use crate::pages::EnginePool;
use crate::recovery;
use crate::store::Superblock;
use crate::value::cell::{StoredBlob, StoredRun};
use ashlar_bufferpool::PageId;
use std::path::Path;

/// What commits beyond A name in `data`.
#[derive(Default)]
pub(super) struct Logged {
    /// Pages and runs.
    pub(super) placed: Vec<Placed>,
    blobs: Vec<(TreeId, Vec<u8>, BlobRef)>,
    loads: Vec<Load>,
}

/// A bulk load.
struct Load {
    tree: TreeId,
    root: PageId,
    entries: u64,
}

impl Walk<'_> {
    /// Reads the log, as far as it is known to have been written.
    pub(super) fn log(&mut self, shared: &Shared, superblock: &Superblock) -> Logged {
        let mut logged = Logged::default();
        let dir = recovery::wal_dir(&shared.path, &superblock.wal_dir);
        if let Err(e) = self.read_log(shared, superblock, &dir, &mut logged) {
            // Where a part is missing, what is left of the list says nothing.
            logged = Logged::default();
            self.log_error(&dir, superblock, &e);
        }
        logged
    }

    fn read_log(
        &mut self,
        shared: &Shared,
        superblock: &Superblock,
        dir: &Path,
        logged: &mut Logged,
    ) -> std::result::Result<(), ashlar_wal::Error> {
        let scan = recovery::scan_log(shared, superblock)?;
        self.report.log_records = scan.tail().records;
        let mut records = scan.records()?;
        while let Some(next) = records.next_record()? {
            let lsn = next.lsn.0;
            if lsn <= superblock.last_commit {
                continue;
            }
            match record::read(&next.body, lsn) {
                Ok(operations) => operations.into_iter().for_each(|operation| self.note(operation, logged)),
                Err(e) => {
                    let (file, block) = segment_of(dir, lsn - 1, superblock);
                    self.push(file.clone(), Some(block), None, None, format!("{}, block {block}: {e}", file.display()));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, operation: Operation<'_>, logged: &mut Logged) {
        match operation {
            Operation::CreateKeyspace { tree, name } | Operation::ClearKeyspace { new_tree: tree, name, .. } => {
                self.names.insert(tree.0, name.into());
            }
            Operation::PutBlob { tree, key, blob } => {
                logged.placed.extend(blob.runs.iter().map(|run| (run.page, run.at)));
                logged.blobs.push((tree, key.to_vec(), blob));
            }
            Operation::BulkLoad { new_tree, root, count, name, placed, .. } => {
                self.names.insert(new_tree.0, name.into());
                logged.placed.extend(placed);
                logged.loads.push(Load { tree: new_tree, root, entries: count });
            }
            _ => {}
        }
    }

    fn log_error(&mut self, dir: &Path, superblock: &Superblock, e: &ashlar_wal::Error) {
        let (file, block) = match e {
            ashlar_wal::Error::Corrupted { path, from, .. } => (path.clone(), Some(segment_of(dir, from.0, superblock).1)),
            ashlar_wal::Error::UnknownVersion { path, lsn, .. } => (path.clone(), Some(segment_of(dir, lsn.0, superblock).1)),
            ashlar_wal::Error::Disk(
                ashlar_disk::Error::Io { path, offset: Some(offset), .. } | ashlar_disk::Error::Short { path, offset, .. },
            ) => (path.clone(), Some(offset / self.block)),
            ashlar_wal::Error::Disk(ashlar_disk::Error::Io { path, .. }) => (path.clone(), None),
            _ => (dir.to_owned(), None),
        };
        let at = block.map_or_else(String::new, |block| format!(", block {block}"));
        let what = format!("{}{at}: {}", file.display(), recovery::wal_error(e.clone()));
        self.push(file, block, None, None, what);
    }

    /// Checks what commits beyond A name in `data`.
    pub(super) fn logged(&mut self, pool: &EnginePool, logged: &Logged, slots_max: u16) -> Result<()> {
        for (tree, key, blob) in &logged.blobs {
            let name = self.name_of(*tree);
            let runs = blob.runs.iter().map(|run| StoredRun { page: run.page, crc: run.crc }).collect();
            self.blob(pool, &name, key, &StoredBlob { len: blob.len, runs });
        }
        for load in &logged.loads {
            let name = self.name_of(load.tree);
            let tree = Tree { id: load.tree, root: load.root, slots_max };
            let (entries, whole) = self.tree(pool, tree, &name, &mut |_, _| {})?;
            if whole && entries != load.entries {
                let what = format!("a bulk load of {} entries, expected by its record; its tree has {entries}", load.entries);
                self.found_page(pool.store(), load.root, "page", Some(&name), &what);
            }
        }
        Ok(())
    }
}
